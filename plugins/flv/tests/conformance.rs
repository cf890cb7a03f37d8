//! The rules that every plugin keeps.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use patchbay_media::{Codec, Parameters, Unit};
use patchbay_mux::Mode;
use patchbay_mux::flv::Muxer;
use patchbay_testkit::{Material, assert_conforms};

/// A second of G.711, as FLV.
fn file() -> Vec<u8> {
    let mut muxer = Muxer::new(&[Parameters::audio(Codec::PcmAlaw, 8_000, 1)]).unwrap();
    let mut out = [muxer.init(), muxer.history(&[], 0, Mode::Squeezed).data].concat();
    let mut chunks = Vec::new();
    for at in 0..25 {
        muxer.push(0, &Unit::new(at * 320, true, vec![0xd5; 320].into()), &mut chunks);
    }
    chunks.iter().for_each(|chunk| out.extend_from_slice(&chunk.data));
    out
}

#[test]
fn keeps_the_rules() {
    assert_conforms(
        patchbay_plugin_flv::patchbay_table(),
        "flv",
        include_str!("../manifest.json"),
        &Material { input: Some(file()), ..Material::default() },
    );
}
