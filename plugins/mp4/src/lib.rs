//! Fragmented MP4 for browsers and players: `stream.mp4`, `frame.mp4`, MSE on `/api/ws`.
#![forbid(unsafe_code)]

pub mod output;
pub mod routes;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: output::Mp4,
    roles: [output, routes],
}
