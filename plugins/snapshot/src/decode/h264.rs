//! H.264 by OpenH264: 8-bit 4:2:0 frames of any profile, no fields.

use bytes::BytesMut;
use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource as _;
use patchbay_picture::{Picture, PictureError, check_size};
use patchbay_sdk::media::h264::{Sps, parse_avcc, parse_sps};
use patchbay_sdk::media::{Codec, Parameters, Unit, annexb, nal};
use yuv::{YuvPlanarImage, YuvRange, YuvStandardMatrix, yuv420_to_rgb};

use crate::error::SnapshotError;

/// Pictures of so many lines and more are BT.709 when they do not say, as browsers take it.
const HD_LINES: u32 = 720;

/// A running decoder.
pub struct Decoding {
    decoder: Decoder,
    sps: Sps,
    /// Parameter sets as a byte stream, until the first unit.
    sets: Option<BytesMut>,
}

impl Decoding {
    /// A decoder that waits for a key unit; an error for what it cannot decode.
    pub fn new(parameters: &Parameters) -> Result<Self, SnapshotError> {
        if parameters.codec != Codec::H264 {
            return Err(SnapshotError::Codec { codec: parameters.codec.name() });
        }
        let sets = parse_avcc(&parameters.extradata).map_err(broken)?;
        let sps = sets.sps.first().ok_or_else(|| broken("no parameter sets"))?;
        let sps = parse_sps(sps).map_err(broken)?;
        check_size(sps.width, sps.height)?;
        if sps.chroma_format != 1 || sps.bit_depth_luma != 8 || sps.bit_depth_chroma != 8 || !sps.frames_only
        {
            return Err(SnapshotError::Codec { codec: "h264" });
        }
        let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
        let decoder = Decoder::with_api_config(OpenH264API::from_source(), config).map_err(broken)?;
        let mut stream = BytesMut::new();
        annexb::write(sets.sps.iter().chain(&sets.pps).map(AsRef::as_ref), &mut stream);
        Ok(Self { decoder, sps, sets: Some(stream) })
    }

    /// Decodes units that follow those before, and gives the newest picture. A decoder that had to give out pictures before
    /// their turn (B-frames) may not be able to go on: then this is an error, and a new one must begin at a key unit.
    pub fn advance(&mut self, units: &[Unit]) -> Result<Picture, SnapshotError> {
        let mut picture = None;
        let mut last = Ok(());
        let goes_on = self.sets.is_none();
        for (index, unit) in units.iter().enumerate() {
            let mut stream = self.sets.take().unwrap_or_default();
            annexb::write(nal::units(&unit.data), &mut stream);
            match self.decoder.decode(&stream) {
                // Only the newest one is looked at.
                Ok(decoded) if index + 1 == units.len() => {
                    picture = decoded.map(|yuv| convert(&yuv, &self.sps)).transpose()?;
                }
                Ok(_) => {}
                Err(error) if goes_on => return Err(broken(error)),
                Err(error) => last = Err(broken(error)),
            }
        }
        // What the decoder held back to put pictures in order is newer.
        if let Some(yuv) = self.decoder.flush_remaining().map_err(broken)?.last() {
            picture = Some(convert(yuv, &self.sps)?);
        }
        picture.ok_or_else(|| last.err().unwrap_or_else(|| broken("no picture came out")))
    }
}

fn convert(yuv: &DecodedYUV<'_>, sps: &Sps) -> Result<Picture, SnapshotError> {
    let (width, height) = yuv.dimensions();
    let (y_stride, u_stride, v_stride) = yuv.strides();
    let side = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let (width, height) = (side(width), side(height));
    let mut rgb = Picture::buffer(width, height)?;
    let image = YuvPlanarImage {
        y_plane: yuv.y(),
        y_stride: side(y_stride),
        u_plane: yuv.u(),
        u_stride: side(u_stride),
        v_plane: yuv.v(),
        v_stride: side(v_stride),
        width,
        height,
    };
    let range = if sps.is_full_range { YuvRange::Full } else { YuvRange::Limited };
    let matrix = match sps.matrix_coefficients {
        Some(1) => YuvStandardMatrix::Bt709,
        Some(9 | 10) => YuvStandardMatrix::Bt2020,
        Some(7) => YuvStandardMatrix::Smpte240,
        Some(4..=6) => YuvStandardMatrix::Bt601,
        _ if height >= HD_LINES => YuvStandardMatrix::Bt709,
        _ => YuvStandardMatrix::Bt601,
    };
    yuv420_to_rgb(&image, &mut rgb, width * 3, range, matrix).map_err(broken)?;
    Ok(Picture { width, height, rgb })
}

fn broken(error: impl std::fmt::Display) -> SnapshotError {
    PictureError::Broken { codec: "h264", reason: error.to_string() }.into()
}
