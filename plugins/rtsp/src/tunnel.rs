//! RTSP inside other protocols, in both roles: whatever the way, the two ends get streams of bytes.
//!
//! | module | what |
//! |---|---|
//! | [`http`] | two HTTP requests, a GET for the way down and a POST for the way up (Apple's tunnel; C69, S26) |
//! | [`body`] | base64 as it stands in the POST's body |
//! | [`websocket`] | a WebSocket of binary messages (ONVIF Streaming Specification 5.1.4; C70, S27) |

pub mod body;
pub mod http;
pub mod websocket;

pub use patchbay_net::Stream;

/// Header that ties the two requests of an HTTP tunnel together.
pub const COOKIE: &str = "x-sessioncookie";
/// Media type of both.
pub const TUNNELLED: &str = "application/x-rtsp-tunnelled";
/// Subprotocol of a WebSocket that carries RTSP.
pub const SUBPROTOCOL: &str = "rtsp.onvif.org";
