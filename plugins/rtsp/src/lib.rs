//! RTSP: cameras and publishers in, players out.
#![forbid(unsafe_code)]

pub mod client;
pub mod config;
#[doc(hidden)]
pub mod fuzz;
pub mod plugin;
pub mod server;
pub mod source;
pub mod tunnel;
pub mod wire;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: plugin::Rtsp,
    roles: [source, server, routes],
}
