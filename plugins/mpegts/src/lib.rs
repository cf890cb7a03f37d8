//! MPEG transport streams, in and out (`stream.ts`).
#![forbid(unsafe_code)]

pub mod demuxer;
pub mod output;
pub mod routes;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: output::MpegTs,
    roles: [demuxer, output, routes],
}
