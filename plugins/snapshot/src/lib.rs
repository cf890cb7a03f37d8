//! Snapshots: `frame.jpeg` from the newest key picture of a stream, without waiting for the next.
//!
//! | part | what it does |
//! |---|---|
//! | [`config`] | the settings, and what a request asks for |
//! | [`routes`] | finds the picture in the stream's ring |
//! | [`shots`] | keeps decoded pictures: one decode per key picture, one file per size |
//! | [`decode`] | H.264 by OpenH264, JPEG by zune-jpeg, raw video, the rest by an ffmpeg process |
//! | [`picture`] | scales, turns and encodes |
#![forbid(unsafe_code)]

pub mod config;
pub mod decode;
pub mod error;
pub mod picture;
pub mod routes;
pub mod shots;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: routes::Snapshot,
    roles: [routes],
}
