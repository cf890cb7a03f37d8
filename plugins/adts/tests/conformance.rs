//! The rules that every plugin keeps.

use patchbay_testkit::{Material, assert_conforms};

#[test]
fn keeps_the_rules() {
    let input = include_bytes!("../../../sdk/media/tests/data/ffmpeg_aac_16k.aac").to_vec();
    assert_conforms(
        patchbay_plugin_adts::patchbay_table(),
        "adts",
        include_str!("../manifest.json"),
        &Material { input: Some(input), ..Material::default() },
    );
}
