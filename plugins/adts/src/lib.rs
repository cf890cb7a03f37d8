//! AAC in ADTS, in and out (`stream.aac`).
#![forbid(unsafe_code)]

pub mod demuxer;
#[doc(hidden)]
pub mod fuzz;
pub mod output;
pub mod reader;
pub mod routes;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: output::Adts,
    roles: [demuxer, output, routes],
}
