//! H.264 as a byte stream (Annex B), in: files, pipes, sockets, POST.
#![forbid(unsafe_code)]

pub mod demuxer;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: demuxer::H264,
    roles: [demuxer],
}
