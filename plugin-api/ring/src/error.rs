//! What can go wrong.

use std::io;

/// Why a ring could not be made or mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The system refused a step.
    #[error("{step} for a ring of {bytes} bytes failed")]
    System {
        /// The call that failed.
        step: &'static str,
        /// Size of the ring.
        bytes: u64,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The budget over all rings is used up.
    #[error("the rings may use {limit} bytes together and use {used}; {bytes} more were asked for")]
    Budget {
        /// Bytes asked for.
        bytes: u64,
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The descriptor is no ring of this version.
    #[error("not a ring of this version (magic {magic:#x}, version {version})")]
    NotARing {
        /// Word 0.
        magic: u64,
        /// Word 1.
        version: u64,
    },
    /// The sizes in the header do not describe the file.
    #[error("a ring of {bytes} bytes cannot have {slots} slots and {arena} arena bytes")]
    Geometry {
        /// Slots according to the header.
        slots: u64,
        /// Arena bytes according to the header.
        arena: u64,
        /// Size of the file.
        bytes: u64,
    },
    /// The file could shrink, grow or be written by others.
    #[error("the ring's file lacks seals (found {found:#x}, needed {needed:#x})")]
    Seals {
        /// Seals of the file.
        found: u32,
        /// Seals needed.
        needed: u32,
    },
    /// This system has no memory files.
    #[error("shared rings need Linux")]
    Unsupported,
}

/// Why a unit was not taken. It is counted, and the track's next unit is marked discontinuous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// Longer than a unit may be.
    #[error("a unit of {len} bytes is longer than {max}")]
    TooLong {
        /// Its length.
        len: u64,
        /// [`Limits::max_unit_bytes`](crate::Limits::max_unit_bytes).
        max: u64,
    },
    /// The ring may not grow enough to hold it.
    #[error("the ring needs {needed} bytes for this unit and may have {allowed}")]
    OverLimit {
        /// Bytes the ring would need.
        needed: u64,
        /// Bytes it may have: its own limit, or what the budget leaves.
        allowed: u64,
    },
    /// The track's number is too high for a mask.
    #[error("track {track} of a ring that has at most {max}", max = crate::TRACKS)]
    Track {
        /// Its number.
        track: u16,
    },
    /// The ring was closed.
    #[error("the ring is closed (reason {reason})")]
    Closed {
        /// What `close` was given.
        reason: u64,
    },
}
