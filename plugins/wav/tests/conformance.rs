//! The rules that every plugin keeps.

use patchbay_testkit::{Material, assert_conforms};

/// What ffmpeg 5.1 writes into a pipe (`-f wav -bitexact`): A-law, 8 kHz, no size.
const ALAW_HEAD: [u8; 44] = *b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x06\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\xff\xff\xff\xff";

#[test]
fn keeps_the_rules() {
    let input = [&ALAW_HEAD[..], &[0xd5; 1600]].concat();
    assert_conforms(
        patchbay_plugin_wav::patchbay_table(),
        "wav",
        include_str!("../manifest.json"),
        &Material { input: Some(input), ..Material::default() },
    );
}
