//! The rules that every plugin keeps.

use patchbay_testkit::{Material, assert_conforms};

#[test]
fn keeps_the_rules() {
    let manifest = include_str!("../manifest.json");
    assert_conforms(patchbay_plugin_snapshot::patchbay_table(), "snapshot", manifest, &Material::default());
}
