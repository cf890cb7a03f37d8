//! A synthetic camera that needs nothing installed: `demo:` plays a short H.264 + AAC clip in a loop.
#![forbid(unsafe_code)]

pub mod clip;
pub mod source;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: source::Demo,
    roles: [source],
}
