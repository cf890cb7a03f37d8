#![no_main]
use libfuzzer_sys::fuzz_target;
fuzz_target!(|data: &[u8]| drop(patchbay_plugin_api::Manifest::parse(data)));
