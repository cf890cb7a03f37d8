//! Units to a picture. Everything here takes its time: call it off the workers.

mod ffmpeg;
mod h264;

use patchbay_picture::{Picture, PictureError, from_jpeg, from_raw};
use patchbay_sdk::media::{Codec, Parameters, Unit};

use crate::error::SnapshotError;

pub use ffmpeg::parse_ppm;
pub use h264::Decoding;

/// Codecs that a picture is made of, in the order of preference, by FFmpeg's names.
pub const CODECS: [&str; 8] = ["mjpeg", "rawvideo", "h264", "hevc", "av1", "vp9", "vp8", "mpeg4"];

/// The picture of a key unit.
pub fn decode(parameters: &Parameters, unit: &Unit, ffmpeg: &str) -> Result<Picture, SnapshotError> {
    match parameters.codec {
        Codec::Mjpeg => Ok(from_jpeg(&unit.data)?),
        Codec::Rawvideo => Ok(from_raw(parameters, &unit.data)?),
        Codec::H264 => match Decoding::new(parameters)
            .and_then(|mut it| it.advance(std::slice::from_ref(unit)))
        {
            Ok(picture) => Ok(picture),
            Err(SnapshotError::Picture(PictureError::Size { width, height })) => {
                Err(PictureError::Size { width, height }.into())
            }
            // Fields, 10 bits, 4:2:2 and damage: ffmpeg knows more.
            Err(own) => match ffmpeg::decode(parameters, unit, ffmpeg) {
                Err(SnapshotError::NoFfmpeg { .. }) if matches!(own, SnapshotError::Picture(_)) => Err(own),
                other => other,
            },
        },
        _ => ffmpeg::decode(parameters, unit, ffmpeg),
    }
}
