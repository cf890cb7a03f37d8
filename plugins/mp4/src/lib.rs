//! MP4: files in, fragmented streams out (`stream.mp4`, `frame.mp4`, MSE on `/api/ws`).
#![forbid(unsafe_code)]

pub mod demuxer;
pub mod output;
pub mod routes;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: output::Mp4,
    roles: [demuxer, output, routes],
}
