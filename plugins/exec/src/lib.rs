//! The standard output of a program as bytes: `exec:rpicam-vid -t 0 --inline -o -`. What is in them is for the demuxers.
#![forbid(unsafe_code)]

pub mod command;
mod speaker;
pub mod transport;

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: transport::Exec,
    roles: [transport],
}
