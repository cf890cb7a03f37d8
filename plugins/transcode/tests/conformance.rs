//! The rules that every plugin keeps.

use patchbay_testkit::{Material, assert_conforms};

#[test]
fn keeps_the_rules() {
    let material = Material::default();
    assert_conforms(
        patchbay_plugin_transcode::patchbay_table(),
        "transcode",
        include_str!("../manifest.json"),
        &material,
    );
}
