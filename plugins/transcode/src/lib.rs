//! A stream's sound in another codec: `transcode:NAME#audio=opus`.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | what a URL asks for |
//! | [`source`] | reads the stream, pushes what `patchbay-audio` makes of it |
#![forbid(unsafe_code)]

pub mod config;
pub mod error;
pub mod source;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: source::Transcode,
    roles: [source],
}
