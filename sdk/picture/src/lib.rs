//! Decoded pictures, without I/O.
//!
//! | start here | for |
//! |---|---|
//! | [`Picture`] | pixels: scaled, turned, written as JPEG |
//! | [`from_jpeg`], [`from_raw`] | a JPEG file or a raw frame -> pixels |
//!
//! H.264 and H.265 are not decoded here: the `snapshot` plugin does that. Every step takes milliseconds: call it off
//! the workers of a runtime.
#![forbid(unsafe_code)]

mod error;
#[doc(hidden)]
pub mod fuzz;
mod jpeg;
mod picture;
mod raw;

pub use error::PictureError;
pub use jpeg::from_jpeg;
pub use picture::{MAX_PIXELS, MAX_SIDE, Picture, check_size};
pub use raw::from_raw;
