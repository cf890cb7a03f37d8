//! The rules that every plugin keeps.
#![allow(clippy::unwrap_used)] // a test

use std::io::Write as _;

use patchbay_testkit::{Emulator, Material, assert_conforms};

#[test]
fn keeps_the_rules() {
    let sender = Emulator::start(|mut peer| {
        let _ = peer.write_all(&[0x47; 188_000]);
    })
    .unwrap();
    let url = format!("tcp://{}/", sender.address());
    assert_conforms(
        patchbay_plugin_tcp::patchbay_table(),
        "tcp",
        include_str!("../manifest.json"),
        &Material { url: Some(url), ..Material::default() },
    );
}
