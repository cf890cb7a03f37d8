//! Raw pictures as YUV4MPEG2, in and out (`stream.y4m`).
#![forbid(unsafe_code)]

pub mod demuxer;
#[doc(hidden)]
pub mod fuzz;
pub mod header;
pub mod output;
pub mod reader;
pub mod routes;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: output::Y4m,
    roles: [demuxer, output, routes],
}
