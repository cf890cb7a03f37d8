//! A TCP connection as bytes: `tcp://192.0.2.30:8888`. What is in them is for the demuxers.
#![forbid(unsafe_code)]

pub mod transport;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: transport::Tcp,
    roles: [transport],
}
