//! The rules that every plugin keeps.

use patchbay_testkit::{Material, assert_conforms};

#[test]
fn keeps_the_rules() {
    let material = Material { url: Some("demo:".to_owned()), ..Material::default() };
    assert_conforms(
        patchbay_plugin_demo::patchbay_table(),
        "demo",
        include_str!("../manifest.json"),
        &material,
    );
}
