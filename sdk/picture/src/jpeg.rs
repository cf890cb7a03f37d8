//! JPEG files by zune-jpeg.

use bytes::Bytes;
use patchbay_media::jpeg::{huffman, size};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::error::PictureError;
use crate::picture::{Picture, check_size};

/// The picture of a JPEG file, which may lack the standard Huffman tables.
pub fn from_jpeg(file: &Bytes) -> Result<Picture, PictureError> {
    let (width, height) = size(file).map_err(broken)?;
    let (width, height) = (u32::from(width), u32::from(height));
    check_size(width, height)?;
    let whole = huffman::complete(file);
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_max_width(width as usize)
        .set_max_height(height as usize);
    let rgb = JpegDecoder::new_with_options(ZCursor::new(&whole[..]), options).decode();
    let rgb = rgb.map_err(|error| broken(format!("{error:?}")))?;
    if rgb.len() != width as usize * height as usize * 3 {
        return Err(broken("its colours are of an unknown kind"));
    }
    Ok(Picture { width, height, rgb })
}

fn broken(reason: impl std::fmt::Display) -> PictureError {
    PictureError::Broken { codec: "mjpeg", reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flat(colour: [u8; 3]) -> Picture {
        Picture { width: 48, height: 32, rgb: vec![colour; 48 * 32].into_flattened() }
    }

    #[test]
    fn colours_survive() {
        for colour in [[250, 10, 10], [10, 250, 10], [10, 10, 250], [128, 128, 128]] {
            let again = from_jpeg(&flat(colour).to_jpeg(90).unwrap()).unwrap();
            assert_eq!((again.width, again.height), (48, 32));
            assert!(again.rgb.iter().zip(&flat(colour).rgb).all(|(a, b)| a.abs_diff(*b) < 12), "{colour:?}");
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(at: usize, bytes in proptest::collection::vec(any::<u8>(), 1..20), cut: usize) {
            let mut file = flat([200, 100, 50]).to_jpeg(80).unwrap().to_vec();
            let at = at % (file.len() - bytes.len());
            file[at..at + bytes.len()].copy_from_slice(&bytes);
            let _ = from_jpeg(&Bytes::from(file.clone()));
            file.truncate(cut % file.len());
            let _ = from_jpeg(&Bytes::from(file));
        }
    }
}
