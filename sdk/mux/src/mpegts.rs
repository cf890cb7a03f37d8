//! MPEG transport streams. ISO/IEC 13818-1.

mod demux;
mod frames;
mod mux;
mod packet;
mod pes;
mod psi;
mod stream;

pub use demux::{Demuxer, Error, Event, Options, PROBE_BYTES};
pub use mux::{Muxer, Options as MuxOptions, Unsupported};

/// Ticks per second of all times in a transport stream.
pub const CLOCK_RATE: u32 = 90_000;
