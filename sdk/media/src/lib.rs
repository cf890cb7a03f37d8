//! Codecs and bitstreams, without I/O.
//!
//! | start here | for |
//! |---|---|
//! | [`Codec`], [`Parameters`] | what a track carries |
//! | [`Unit`] | one access unit, audio frame or picture |
//! | [`Event`] | what every demuxer gives: tracks and units |
//! | [`AccessUnitSplitter`] | a flow of NAL units -> access units |
//! | [`Assembler`] | access units -> units and configurations |
//! | [`order::PictureOrder`], [`order::Reorder`] | the order of presentation where no times came at all |
//! | [`DtsEstimator`] | decoding times where only presentation times came |
//! | [`h264`], [`h265`] | parameter sets, `avcC` and `hvcC` records |
//! | [`av1`], [`vp8`], [`vp9`], [`mpeg4`] | key frames, sizes, OBUs and the `av1C` record |
//! | [`nal`], [`annexb`] | length-prefixed NAL units and byte streams |
//! | [`aac`], [`mpa`], [`opus`], [`pcm`], [`flac`], [`jpeg`] | audio headers and framing, G.711, JPEG files |
//! | [`codec_string`] | names of codecs for browsers |
//!
//! Units hold H.264 and H.265 as NAL units with 4-byte big-endian length prefixes, never with parameter sets (SPS, PPS,
//! VPS) or access unit delimiters, AAC as raw frames, Opus as packets, PCM as interleaved samples, JPEG as whole files,
//! AV1 as temporal units without delimiters, VP8 and VP9 as frames, MPEG-4 as VOPs.
//!
//! Nothing here decodes pictures or sound beyond G.711.
#![forbid(unsafe_code)]

pub mod aac;
pub mod access_unit;
pub mod annexb;
pub mod assembler;
pub mod av1;
pub mod bits;
mod change;
mod codec;
pub mod codec_string;
pub mod dts;
pub mod error;
mod event;
pub mod flac;
#[doc(hidden)]
pub mod fuzz;
pub mod h264;
pub mod h265;
pub mod jpeg;
pub mod mpa;
pub mod mpeg4;
pub mod nal;
pub mod opus;
pub mod order;
pub mod pcm;
mod unit;
pub mod vp8;
pub mod vp9;

pub use access_unit::AccessUnitSplitter;
pub use assembler::{Assembled, Assembler};
pub use codec::{Codec, Kind, Parameters};
pub use dts::DtsEstimator;
pub use error::Error;
pub use event::Event;
pub use unit::{MAX_UNIT_BYTES, Unit};
