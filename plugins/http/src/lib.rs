//! HTTP as bytes: `http:`, `https:`, `httpx:`. What is in them is for the demuxers.
#![forbid(unsafe_code)]

pub mod transport;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: transport::Http,
    roles: [transport],
}
