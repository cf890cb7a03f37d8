//! JPEG by zune-jpeg.

use patchbay_sdk::media::Unit;
use patchbay_sdk::media::jpeg::{huffman, size};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::error::SnapshotError;
use crate::picture::{Picture, check_size};

pub(super) fn decode(units: &[Unit]) -> Result<Picture, SnapshotError> {
    let broken =
        |error: &dyn std::fmt::Display| SnapshotError::Broken { codec: "mjpeg", reason: error.to_string() };
    let unit = units.last().ok_or_else(|| broken(&"no picture"))?;
    let (width, height) = size(&unit.data).map_err(|error| broken(&error))?;
    let (width, height) = (u32::from(width), u32::from(height));
    check_size(width, height)?;
    let whole = huffman::complete(&unit.data);
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_max_width(width as usize)
        .set_max_height(height as usize);
    let rgb = JpegDecoder::new_with_options(ZCursor::new(&whole[..]), options).decode();
    let rgb = rgb.map_err(|error| broken(&format!("{error:?}")))?;
    if rgb.len() != width as usize * height as usize * 3 {
        return Err(broken(&"its colours are of an unknown kind"));
    }
    Ok(Picture { width, height, rgb })
}
