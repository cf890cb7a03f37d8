//! Motion JPEG: multipart and bare streams in, `stream.mjpeg`, `stream.ascii` and `mjpeg` on `/api/ws` out.
#![forbid(unsafe_code)]

pub mod ascii;
pub mod demuxer;
#[doc(hidden)]
pub mod fuzz;
pub mod output;
pub mod routes;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: output::Mjpeg,
    roles: [demuxer, output, routes],
}
