//! HLS, RFC 8216 and draft-pantos-hls-rfc8216bis (low latency).
#![forbid(unsafe_code)]

pub mod client;
#[doc(hidden)]
pub mod fuzz;
pub mod plugin;
pub mod server;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: plugin::Hls,
    roles: [demuxer, routes],
}
