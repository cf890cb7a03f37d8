//! The RTSP server: players and publishers.

pub mod login;
pub mod play;
pub mod rings;
pub mod session;
pub mod url;
