//! A decoded picture: scaled, turned, encoded.

use bytes::Bytes;
use fast_image_resize::images::Image;
use fast_image_resize::{PixelType, ResizeOptions, Resizer};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::config::{Look, MAX_SIDE};
use crate::error::SnapshotError;

/// Most pixels of a picture that is decoded or made: 8192 x 4608, more than any level of H.264 or H.265 below 7 has.
pub const MAX_PIXELS: u64 = 8192 * 4608;

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
pub fn check_size(width: u32, height: u32) -> Result<(), SnapshotError> {
    let pixels = u64::from(width) * u64::from(height);
    // A JPEG's sides have 16 bits.
    if pixels == 0 || pixels > MAX_PIXELS || width > 0xffff || height > 0xffff {
        return Err(SnapshotError::TooLarge { width, height });
    }
    Ok(())
}

impl Picture {
    /// An empty buffer for a picture of this size.
    pub fn buffer(width: u32, height: u32) -> Result<Vec<u8>, SnapshotError> {
        check_size(width, height)?;
        Ok(vec![0; width as usize * height as usize * 3])
    }

    /// A JPEG file of the picture.
    pub fn file(&self, look: Look, default_quality: u8) -> Result<Bytes, SnapshotError> {
        let (width, height) = self.scaled_size(look);
        let scaled;
        let mut picture = self;
        if (width, height) != (self.width, self.height) {
            scaled = self.scaled(width, height)?;
            picture = &scaled;
        }
        let turned;
        if look.turns != 0 {
            turned = picture.turned(look.turns);
            picture = &turned;
        }
        let quality = if look.quality == 0 { default_quality.clamp(1, 100) } else { look.quality };
        let mut file = Vec::with_capacity(picture.rgb.len() / 12);
        let mut encoder = Encoder::new(&mut file, quality);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        let (width, height) = (picture.width as u16, picture.height as u16);
        encoder.encode(&picture.rgb, width, height, ColorType::Rgb).map_err(make)?;
        Ok(file.into())
    }

    /// The size before turning: a side that was not asked for follows the other.
    fn scaled_size(&self, look: Look) -> (u32, u32) {
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        let side = |value: u64| (value as u32).clamp(1, MAX_SIDE);
        match (u64::from(look.width), u64::from(look.height)) {
            (0, 0) => (self.width, self.height),
            (w, 0) => (look.width, side((height * w + width / 2) / width.max(1))),
            (0, h) => (side((width * h + height / 2) / height.max(1)), look.height),
            _ => (look.width, look.height),
        }
    }

    fn scaled(&self, width: u32, height: u32) -> Result<Self, SnapshotError> {
        let source =
            fast_image_resize::images::ImageRef::new(self.width, self.height, &self.rgb, PixelType::U8x3);
        let source = source.map_err(make)?;
        let buffer = Self::buffer(width, height)?;
        let mut target = Image::from_vec_u8(width, height, buffer, PixelType::U8x3).map_err(make)?;
        Resizer::new().resize(&source, &mut target, &ResizeOptions::new()).map_err(make)?;
        Ok(Self { width, height, rgb: target.into_vec() })
    }

    /// Turned clockwise by quarters.
    fn turned(&self, turns: u8) -> Self {
        let (pixels, _) = self.rgb.as_chunks::<3>();
        let width = self.width as usize;
        let column = |x: usize| pixels.iter().skip(x).step_by(width.max(1)).copied();
        let turned: Vec<[u8; 3]> = match turns {
            1 => (0..width).flat_map(|x| column(x).rev()).collect(),
            2 => pixels.iter().rev().copied().collect(),
            3 => (0..width).rev().flat_map(column).collect(),
            _ => pixels.to_vec(),
        };
        let (width, height) =
            if turns % 2 == 1 { (self.height, self.width) } else { (self.width, self.height) };
        Self { width, height, rgb: turned.into_flattened() }
    }
}

fn make(error: impl std::fmt::Display) -> SnapshotError {
    SnapshotError::Make { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_sdk::media::jpeg;

    fn picture(width: u32, height: u32) -> Picture {
        let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 7])).collect();
        Picture { width, height, rgb }
    }

    #[test]
    fn quarter_turns_are_clockwise() {
        let turned = picture(3, 2).turned(1);
        assert_eq!((turned.width, turned.height), (2, 3));
        // The lower left corner is the upper left one now.
        assert_eq!(turned.rgb[..3], [0, 1, 7]);
        assert_eq!(turned.rgb[3..6], [0, 0, 7]);
        assert_eq!(turned.turned(3), picture(3, 2));
        assert_eq!(picture(3, 2).turned(2).turned(2), picture(3, 2));
    }

    #[test]
    fn a_side_follows_the_other_and_files_have_the_size() {
        let whole = picture(640, 360);
        for (width, height, turns, expected) in [
            (0, 0, 0, (640, 360)),
            (320, 0, 0, (320, 180)),
            (0, 90, 0, (160, 90)),
            (100, 100, 0, (100, 100)),
            (320, 0, 1, (180, 320)),
        ] {
            let look = Look { width, height, turns, quality: 0 };
            assert_eq!(jpeg::size(&whole.file(look, 80).unwrap()), Ok(expected));
        }
        let small = whole.file(Look { quality: 10, ..Look::default() }, 80).unwrap();
        assert!(small.len() < whole.file(Look::default(), 80).unwrap().len());
    }

    #[test]
    fn sizes_are_limited() {
        let look = Look { width: 8192, height: 8192, ..Look::default() };
        assert_eq!(
            picture(16, 16).file(look, 80),
            Err(SnapshotError::TooLarge { width: 8192, height: 8192 })
        );
        let thin = Look { width: 1, ..Look::default() };
        assert_eq!(jpeg::size(&picture(640, 2).file(thin, 80).unwrap()), Ok((1, 1)));
    }
}
