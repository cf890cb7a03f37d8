//! RTSP: cameras and publishers in, players out.
#![forbid(unsafe_code)]

pub mod client;
pub mod server;
pub mod wire;
