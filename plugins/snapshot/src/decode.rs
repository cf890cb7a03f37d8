//! Units to a picture. Everything here takes its time: call it off the workers.

mod ffmpeg;
mod h264;

use patchbay_picture::{Picture, PictureError, from_jpeg, from_raw};
use patchbay_sdk::media::{Codec, Parameters, Unit};

use crate::error::SnapshotError;

pub use ffmpeg::parse_ppm;

/// Codecs that a picture is made of, in the order of preference, by FFmpeg's names.
pub const CODECS: [&str; 4] = ["mjpeg", "rawvideo", "h264", "hevc"];

/// The picture of the last of `units`, which begin with a key unit.
pub fn decode(parameters: &Parameters, units: &[Unit], ffmpeg: &str) -> Result<Picture, SnapshotError> {
    let codec = parameters.codec.name();
    let last = units.last().ok_or(SnapshotError::Codec { codec })?;
    match parameters.codec {
        Codec::Mjpeg => Ok(from_jpeg(&last.data)?),
        Codec::Rawvideo => Ok(from_raw(parameters, &last.data)?),
        Codec::H264 => match h264::decode(parameters, units) {
            Ok(picture) => Ok(picture),
            Err(SnapshotError::Picture(PictureError::Size { width, height })) => {
                Err(PictureError::Size { width, height }.into())
            }
            // Fields, 10 bits, 4:2:2 and damage: ffmpeg knows more.
            Err(own) => match ffmpeg::decode(parameters, units, ffmpeg) {
                Err(SnapshotError::NoFfmpeg { .. }) if matches!(own, SnapshotError::Picture(_)) => Err(own),
                other => other,
            },
        },
        Codec::Hevc => ffmpeg::decode(parameters, units, ffmpeg),
        _ => Err(SnapshotError::Codec { codec }),
    }
}
