//! Units to a picture. Everything here takes its time: call it off the workers.

mod ffmpeg;
mod h264;
mod jpeg;
mod raw;

use patchbay_sdk::media::{Codec, Parameters, Unit};

use crate::error::SnapshotError;
use crate::picture::Picture;

pub use ffmpeg::parse_ppm;

/// Codecs that a picture is made of, in the order of preference, by FFmpeg's names.
pub const CODECS: [&str; 4] = ["mjpeg", "rawvideo", "h264", "hevc"];

/// The picture of the last of `units`, which begin with a key unit.
pub fn decode(parameters: &Parameters, units: &[Unit], ffmpeg: &str) -> Result<Picture, SnapshotError> {
    match parameters.codec {
        Codec::Mjpeg => jpeg::decode(units),
        Codec::Rawvideo => raw::decode(parameters, units),
        Codec::H264 => match h264::decode(parameters, units) {
            Ok(picture) => Ok(picture),
            Err(SnapshotError::TooLarge { width, height }) => Err(SnapshotError::TooLarge { width, height }),
            // Fields, 10 bits, 4:2:2 and damage: ffmpeg knows more.
            Err(own) => match ffmpeg::decode(parameters, units, ffmpeg) {
                Err(SnapshotError::NoFfmpeg { .. }) if matches!(own, SnapshotError::Broken { .. }) => {
                    Err(own)
                }
                other => other,
            },
        },
        Codec::Hevc => ffmpeg::decode(parameters, units, ffmpeg),
        other => Err(SnapshotError::Codec { codec: other.name() }),
    }
}
