//! WAV in: 16-bit PCM, A-law and mu-law.
#![forbid(unsafe_code)]

pub mod demuxer;
#[doc(hidden)]
pub mod fuzz;
pub mod reader;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: demuxer::Wav,
    roles: [demuxer],
}
