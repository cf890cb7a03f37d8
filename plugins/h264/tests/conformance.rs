//! The rules that every plugin keeps.

use patchbay_testkit::{Material, assert_conforms};

#[test]
fn keeps_the_rules() {
    let input = include_bytes!("../../../sdk/media/tests/data/x264_main_pyramid.h264").to_vec();
    assert_conforms(
        patchbay_plugin_h264::patchbay_table(),
        "h264",
        include_str!("../manifest.json"),
        &Material { input: Some(input), ..Material::default() },
    );
}
