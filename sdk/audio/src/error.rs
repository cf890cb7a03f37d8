//! What can go wrong with sound.

use patchbay_media::Codec;

/// Why sound was not decoded or encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This crate does not decode the codec.
    #[error("{} is not decoded here", codec.name())]
    NotDecoded {
        /// The codec.
        codec: Codec,
    },
    /// This crate does not encode the codec.
    #[error("{} is not encoded here", codec.name())]
    NotEncoded {
        /// The codec.
        codec: Codec,
    },
    /// The codec has no such sample rate.
    #[error("{} has no sample rate of {sample_rate} Hz", codec.name())]
    SampleRate {
        /// The codec.
        codec: Codec,
        /// What was asked for or found.
        sample_rate: u32,
    },
    /// The codec has not so many channels here.
    #[error("{} has no {channels} channels here", codec.name())]
    Channels {
        /// The codec.
        codec: Codec,
        /// What was asked for or found.
        channels: usize,
    },
    /// What its decoder must know (`AudioSpecificConfig`) is missing or not understood.
    #[error("the configuration of {} is not understood", codec.name())]
    Configuration {
        /// The codec.
        codec: Codec,
    },
    /// A unit cannot be decoded; the next one may.
    #[error("a damaged unit of {}", codec.name())]
    Damaged {
        /// The codec.
        codec: Codec,
    },
    /// The encoder refuses its input.
    #[error("the encoder of {} failed", codec.name())]
    Encoder {
        /// The codec.
        codec: Codec,
    },
}
