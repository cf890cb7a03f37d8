//! Flash Video, in and out (`stream.flv`).
#![forbid(unsafe_code)]

pub mod demuxer;
pub mod output;
pub mod routes;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: output::Flv,
    roles: [demuxer, output, routes],
}
