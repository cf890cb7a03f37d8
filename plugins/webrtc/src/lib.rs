//! WebRTC: browsers and other peers watch streams and publish them.
#![forbid(unsafe_code)]

pub mod candidate;
pub mod config;
pub mod crypto;
pub mod feed;
mod formats;
#[doc(hidden)]
pub mod fuzz;
pub mod ingest;
pub mod mux;
pub mod peer;
pub mod plugin;
pub mod routes;
pub mod sdp;
pub mod server;
pub mod service;
pub mod source;
pub mod srtp;
pub mod stun;
pub mod turn;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: plugin::WebRtc,
    roles: [server, routes, source, service],
}
