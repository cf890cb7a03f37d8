//! The rules that every plugin keeps.
#![allow(clippy::unwrap_used)] // a test

use patchbay_picture::Picture;
use patchbay_testkit::{Material, assert_conforms};

#[test]
fn keeps_the_rules() {
    let gray = Picture { width: 64, height: 48, rgb: vec![128; 64 * 48 * 3] };
    let input = Some(gray.to_jpeg(80).unwrap().repeat(20));
    let manifest = include_str!("../manifest.json");
    let material = Material { input, ..Material::default() };
    assert_conforms(patchbay_plugin_mjpeg::patchbay_table(), "mjpeg", manifest, &material);
}
