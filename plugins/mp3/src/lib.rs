//! MPEG audio of layers 1 to 3 in bare frames.
#![forbid(unsafe_code)]

pub mod demuxer;
#[doc(hidden)]
pub mod fuzz;
pub mod reader;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: demuxer::Mp3,
    roles: [demuxer],
}
