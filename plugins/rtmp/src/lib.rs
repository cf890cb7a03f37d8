//! RTMP: cameras and publishers in, players out, streams pushed to other servers.
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod fuzz;
pub mod plugin;
pub mod server;
pub mod session;
pub mod sink;
pub mod source;
pub mod wire;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: plugin::Rtmp,
    roles: [source, server, sink],
}
