//! The rules that every plugin keeps.

use patchbay_testkit::{Material, assert_conforms};

fn frames(count: u8) -> Vec<u8> {
    (0..count).flat_map(|n| [&b"FRAME\n"[..], &[n; 384]].concat()).collect()
}

#[test]
fn keeps_the_rules() {
    let input = [&b"YUV4MPEG2 W16 H16 F10:1 Ip A1:1 C420jpeg XYSCSS=420JPEG\n"[..], &frames(5)].concat();
    assert_conforms(
        patchbay_plugin_y4m::patchbay_table(),
        "y4m",
        include_str!("../manifest.json"),
        &Material { input: Some(input), ..Material::default() },
    );
}
