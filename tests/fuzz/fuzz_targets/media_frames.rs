#![no_main]
use libfuzzer_sys::fuzz_target;
fuzz_target!(|data: &[u8]| patchbay_media::fuzz::frames(data));
