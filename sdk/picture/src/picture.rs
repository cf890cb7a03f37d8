//! A decoded picture: scaled, turned, encoded.

use std::borrow::Cow;

use bytes::Bytes;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{ResizeOptions, Resizer};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::error::PictureError;

/// Most pixels of a picture that is decoded or made: 8192 x 4608, more than any level of H.264 or H.265 below 7 has.
pub const MAX_PIXELS: u64 = 8192 * 4608;

/// Largest side that [`Picture::proportional`] gives, in pixels.
pub const MAX_SIDE: u32 = 8192;

/// A decoded picture.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Three bytes a pixel, no padding.
    pub rgb: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}x{})", self.width, self.height)
    }
}

/// Refuses sizes of no pixels and of too many.
pub fn check_size(width: u32, height: u32) -> Result<(), PictureError> {
    let pixels = u64::from(width) * u64::from(height);
    // A JPEG's sides have 16 bits.
    if pixels == 0 || pixels > MAX_PIXELS || width > 0xffff || height > 0xffff {
        return Err(PictureError::Size { width, height });
    }
    Ok(())
}

impl Picture {
    /// An empty buffer for a picture of this size.
    pub fn buffer(width: u32, height: u32) -> Result<Vec<u8>, PictureError> {
        check_size(width, height)?;
        Ok(vec![0; width as usize * height as usize * 3])
    }

    /// The size that was asked for; a side of 0 follows the other, or is as it is.
    pub fn proportional(&self, width: u32, height: u32) -> (u32, u32) {
        let (own_width, own_height) = (u64::from(self.width), u64::from(self.height));
        let side = |value: u64| value.clamp(1, u64::from(MAX_SIDE)) as u32;
        match (u64::from(width), u64::from(height)) {
            (0, 0) => (self.width, self.height),
            (w, 0) => (width, side((own_height * w + own_width / 2) / own_width.max(1))),
            (0, h) => (side((own_width * h + own_height / 2) / own_height.max(1)), height),
            _ => (width, height),
        }
    }

    /// The picture in another size.
    pub fn scaled(&self, width: u32, height: u32) -> Result<Cow<'_, Self>, PictureError> {
        if (width, height) == (self.width, self.height) {
            return Ok(Cow::Borrowed(self));
        }
        let source = TypedImageRef::<U8x3>::from_buffer(self.width, self.height, &self.rgb).map_err(make)?;
        let mut rgb = Self::buffer(width, height)?;
        let mut target = TypedImage::<U8x3>::from_buffer(width, height, &mut rgb).map_err(make)?;
        Resizer::new().resize_typed(&source, &mut target, &ResizeOptions::new()).map_err(make)?;
        Ok(Cow::Owned(Self { width, height, rgb }))
    }

    /// The picture turned clockwise by so many quarters.
    pub fn turned(&self, quarters: u8) -> Cow<'_, Self> {
        let (pixels, _) = self.rgb.as_chunks::<3>();
        let width = self.width as usize;
        let column = |x: usize| pixels.iter().skip(x).step_by(width.max(1)).copied();
        let turned: Vec<[u8; 3]> = match quarters % 4 {
            1 => (0..width).flat_map(|x| column(x).rev()).collect(),
            2 => pixels.iter().rev().copied().collect(),
            3 => (0..width).rev().flat_map(column).collect(),
            _ => return Cow::Borrowed(self),
        };
        let (width, height) =
            if quarters % 2 == 1 { (self.height, self.width) } else { (self.width, self.height) };
        Cow::Owned(Self { width, height, rgb: turned.into_flattened() })
    }

    /// A baseline JPEG file of the picture, 4:2:0; `quality` is 1 to 100.
    pub fn to_jpeg(&self, quality: u8) -> Result<Bytes, PictureError> {
        check_size(self.width, self.height)?;
        let mut file = Vec::with_capacity(self.rgb.len() / 12);
        let mut encoder = Encoder::new(&mut file, quality.clamp(1, 100));
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        let (width, height) = (self.width as u16, self.height as u16);
        encoder.encode(&self.rgb, width, height, ColorType::Rgb).map_err(make)?;
        Ok(file.into())
    }
}

fn make(error: impl std::fmt::Display) -> PictureError {
    PictureError::Make { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_media::jpeg;

    fn picture(width: u32, height: u32) -> Picture {
        let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 7])).collect();
        Picture { width, height, rgb }
    }

    #[test]
    fn quarter_turns_are_clockwise() {
        let whole = picture(3, 2);
        let turned = whole.turned(1);
        assert_eq!((turned.width, turned.height), (2, 3));
        // The lower left corner is the upper left one now.
        assert_eq!(turned.rgb[..3], [0, 1, 7]);
        assert_eq!(turned.rgb[3..6], [0, 0, 7]);
        assert_eq!(*turned.turned(3), whole);
        assert_eq!(*whole.turned(2).turned(2), whole);
        assert_eq!(*whole.turned(4), whole);
    }

    #[test]
    fn a_side_follows_the_other_and_files_have_the_size() {
        let whole = picture(640, 360);
        for (width, height, expected) in [
            (0, 0, (640, 360)),
            (320, 0, (320, 180)),
            (0, 90, (160, 90)),
            (100, 100, (100, 100)),
            (1, 0, (1, 1)),
        ] {
            let (w, h) = whole.proportional(width, height);
            let file = whole.scaled(w, h).unwrap().to_jpeg(80).unwrap();
            assert_eq!(jpeg::size(&file), Ok(expected));
        }
        assert!(whole.to_jpeg(10).unwrap().len() < whole.to_jpeg(80).unwrap().len());
    }

    #[test]
    fn sizes_are_limited() {
        let small = picture(16, 16);
        let error = PictureError::Size { width: 8192, height: 8192 };
        assert_eq!(small.scaled(8192, 8192).unwrap_err(), error);
        assert_eq!(picture(1, 2).proportional(8192, 0), (8192, MAX_SIDE));
        assert!(Picture::buffer(0, 5).is_err() && Picture::buffer(70_000, 1).is_err());
    }
}
