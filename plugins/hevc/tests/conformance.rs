//! The rules that every plugin keeps.

use patchbay_testkit::{Material, assert_conforms};

#[test]
fn keeps_the_rules() {
    let input = include_bytes!("../../../sdk/media/tests/data/x265_main.h265").to_vec();
    assert_conforms(
        patchbay_plugin_hevc::patchbay_table(),
        "hevc",
        include_str!("../manifest.json"),
        &Material { input: Some(input), ..Material::default() },
    );
}
