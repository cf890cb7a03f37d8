//! Local files as bytes: `file:/media/clip.mp4`. What is in them is for the demuxers.
#![forbid(unsafe_code)]

pub mod transport;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: transport::Files,
    roles: [transport],
}
