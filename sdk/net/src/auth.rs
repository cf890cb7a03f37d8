//! Basic (RFC 7617) and Digest (RFC 7616, RFC 2069) authentication of HTTP and RTSP, as cameras and players do it.
//!
//! [`Client`] answers challenges, [`Server`] makes and checks them. Neither has a source of randomness: nonces are passed
//! in.

mod challenge;
mod client;
mod digest;
mod server;

pub use challenge::{Challenge, parse_challenges};
pub use client::{Client, Rejected};
pub use digest::{Algorithm, Digest};
pub use server::{Denied, Server};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Credentials;

/// The `Basic` value of `Authorization`.
pub fn basic(credentials: &Credentials) -> String {
    let text = format!("{}:{}", credentials.user.expose(), credentials.password.expose());
    format!("Basic {}", STANDARD.encode(text))
}

/// Whether two texts are equal, in a time that depends on their lengths only.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y));
    a.len() == b.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests;
