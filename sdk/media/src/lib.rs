//! Codecs and bitstreams, without I/O.
//!
//! | start here | for |
//! |---|---|
//! | [`Codec`], [`Parameters`] | what a track carries |
//! | [`Unit`] | one access unit, audio frame or picture |
//!
//! Units hold H.264 and H.265 as NAL units with 4-byte big-endian length prefixes, never with parameter sets (SPS, PPS,
//! VPS) or access unit delimiters, AAC as raw frames, Opus as packets, PCM as interleaved samples, JPEG as whole files.

mod codec;
mod unit;

pub use codec::{Codec, Kind, Parameters};
pub use unit::Unit;
