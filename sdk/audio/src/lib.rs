//! Sound decoded, mixed, resampled and encoded, without I/O and without a clock.
//!
//! | start here | for |
//! |---|---|
//! | [`Transcoder`] | units of one codec in, units of another one out, at the same times |
//! | [`Target`] | what to encode to, as `#audio=` of a URL says it |
//! | [`Decoder`], [`Encoder`] | one codec alone |
//! | [`Resampler`], [`mix`] | sample rates and channels |
//!
//! | codec | decoded | encoded | by |
//! |---|---|---|---|
//! | Opus | yes | yes | `ropus`, bit-exact with libopus |
//! | AAC | LC, HE, HE v2 | LC | `syom` |
//! | G.711 (both laws), 16-bit PCM (both orders) | yes | yes | `patchbay-media` |
//! | MP2, MP3 | yes | - | `symphonia` |
#![forbid(unsafe_code)]

mod decode;
mod encode;
mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod mix;
mod resample;
mod target;
mod timeline;
mod transcode;

pub use decode::{Decoder, Sound};
pub use encode::Encoder;
pub use error::Error;
pub use resample::Resampler;
pub use target::{PACKET, Target, TargetError};
pub use transcode::{Counters, Transcoder};

/// Most channels of a sound that is decoded; more are refused.
pub const MAX_CHANNELS: usize = 8;

/// Highest sample rate that is decoded or encoded, samples per second.
pub const MAX_SAMPLE_RATE: u32 = 192_000;

/// Lowest sample rate that is decoded or encoded, samples per second.
pub const MIN_SAMPLE_RATE: u32 = 4_000;
