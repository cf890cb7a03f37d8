//! Snapshots: `frame.jpeg` from the newest key picture of a stream, without waiting for the next.
//!
//! | part | what it does |
//! |---|---|
//! | [`config`] | the settings, and what a request asks for |
//! | [`routes`] | finds the picture in the stream's ring |
//! | [`shots`] | keeps decoded pictures: one decode per key picture, one file per size |
//! | [`follow`] | decodes on from the key picture to the newest one |
//! | [`decode`] | H.264 by OpenH264, JPEG and raw frames by `patchbay-picture`, the rest by an ffmpeg process |
#![forbid(unsafe_code)]

pub mod config;
pub mod decode;
pub mod error;
pub mod follow;
pub mod routes;
pub mod shots;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: routes::Snapshot,
    roles: [routes],
}
