//! The rules that every plugin keeps.

use patchbay_testkit::{Material, assert_conforms};

#[test]
fn keeps_the_rules() {
    let input = include_bytes!("data/ffmpeg_16k.mp3").to_vec();
    assert_conforms(
        patchbay_plugin_mp3::patchbay_table(),
        "mp3",
        include_str!("../manifest.json"),
        &Material { input: Some(input), ..Material::default() },
    );
}
