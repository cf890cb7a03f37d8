//! Containers without I/O: fragmented MP4, MP4 files, MPEG-TS and FLV.
//!
//! | start here | for |
//! |---|---|
//! | [`fmp4::Muxer`] | units -> init segment and fragments for browsers |
//! | [`mp4::Demuxer`] | MP4 files, whole or fragmented -> units |
//! | [`mpegts::Demuxer`], [`mpegts::Muxer`] | MPEG transport streams <-> units |
//! | [`flv::Demuxer`], [`flv::Muxer`] | FLV <-> units, also as RTMP messages |
//! | [`Chunk`] | what an output hands to the host, with the places that differ per viewer |
//! | [`Timeline`] | times that go on over outages, for every muxer |
//!
//! Bytes and units go in, bytes and units come out; nothing here reads a clock.
#![forbid(unsafe_code)]

pub mod chunk;
pub mod flv;
pub mod fmp4;
#[doc(hidden)]
pub mod fuzz;
pub mod history;
mod lineup;
pub mod mp4;
pub mod mpegts;
pub mod timeline;

pub use chunk::{Chunk, Patch, PatchKind, Patches};
pub use history::{History, Mode};
pub use timeline::Timeline;
