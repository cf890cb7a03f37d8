//! The rules that every plugin keeps.

use patchbay_testkit::{Material, assert_conforms};

#[test]
fn keeps_the_rules() {
    assert_conforms(
        patchbay_plugin_exec::patchbay_table(),
        "exec",
        include_str!("../manifest.json"),
        &Material { url: Some("exec:head -c 1000000 /dev/zero".to_owned()), ..Material::default() },
    );
}
