//! The unit: what one ring slot carries.

use bytes::Bytes;

/// Most bytes of a unit of compressed video; larger ones are dropped.
pub const MAX_UNIT_BYTES: usize = 8 << 20;

/// One access unit, audio frame, JPEG or raw frame of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Presentation time in ticks of the track's clock.
    pub pts: i64,
    /// Decoding time in ticks of the track's clock, at most `pts`.
    pub dts: i64,
    /// Duration in ticks, 0 unknown.
    pub duration: u32,
    /// Decoding can start here. Audio units, JPEGs and raw frames are all keys.
    pub key: bool,
    /// Units before this one are missing, or its times do not continue theirs.
    pub discontinuity: bool,
    /// A part of this unit was lost.
    pub incomplete: bool,
    /// The payload in the form the crate page states.
    pub data: Bytes,
}

impl Unit {
    /// A complete unit that continues the one before it, with `dts` equal to `pts`.
    pub fn new(pts: i64, key: bool, data: Bytes) -> Self {
        Self { pts, dts: pts, duration: 0, key, discontinuity: false, incomplete: false, data }
    }
}
