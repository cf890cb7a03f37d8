#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| patchbay_plugin_api::fuzz::split_bytes(data));
