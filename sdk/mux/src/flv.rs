//! Flash Video: tags of files and HTTP streams, which are also the media messages of RTMP.
//!
//! | start here | for |
//! |---|---|
//! | [`Demuxer`] | bytes of a file or stream -> units |
//! | [`TagDemuxer`] | tags (or RTMP messages) -> units |
//! | [`Muxer`] | units -> chunks of a stream |
//! | [`TagMuxer`] | units -> tags (or RTMP messages) |
//! | [`amf`] | AMF0 values of script tags and RTMP commands |
//!
//! Sources: Video File Format Specification 10.1 annex E, Enhanced RTMP v2 (FourCC codecs, several tracks, `ModEx`), and H.265
//! as codec 12, which encoders used before that.

pub mod amf;
mod body;
mod demux;
mod mux;
mod stream;
mod tag;
mod tag_mux;
mod tracks;

pub use demux::{Demuxer, Error, Event};
pub use mux::Muxer;
pub use tag::{MAX_TAG_BYTES, TagKind};
pub use tag_mux::{Head, Placed, TagMuxer, Unsupported};
pub use tracks::{MAX_TRACKS, TagDemuxer};

/// Ticks per second of all times in FLV and RTMP.
pub const CLOCK_RATE: u32 = 1_000;
