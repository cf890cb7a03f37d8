#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| patchbay_plugin_hls::fuzz::playlist(data));
