//! {{name}} cameras: `{{name}}://user:password@host:port/`, H.264 over TCP, and A-law to their loudspeaker.
#![forbid(unsafe_code)]

pub mod source;
pub mod wire;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: source::Camera,
    roles: [source],
}
