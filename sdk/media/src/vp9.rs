//! VP9 frames (VP9 bitstream specification section 6.2). Units are frames or superframes: everything that is decoded for one picture.

use crate::bits::BitReader;

/// What the header of a key frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFrame {
    /// Profile, 0 to 3.
    pub profile: u8,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// Whether decoding can start with a frame.
pub fn is_key(frame: &[u8]) -> bool {
    begin(&mut BitReader::new(frame)).is_some()
}

/// The profile of a key frame, the bits behind it still to be read.
fn begin(bits: &mut BitReader<'_>) -> Option<u8> {
    if bits.bits(2)? != 2 {
        return None;
    }
    let profile = bits.byte(1)? | bits.byte(1)? << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    let shows_existing = bits.flag()?;
    let is_inter = bits.flag()?;
    (!shows_existing && !is_inter).then_some(profile)
}

impl KeyFrame {
    /// Reads the header of a key frame; `None` for any other.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        const SYNC_CODE: u32 = 0x49_83_42;
        const RGB: u32 = 7;
        let mut bits = BitReader::new(frame);
        let profile = begin(&mut bits)?;
        // show_frame, error_resilient_mode
        bits.skip(2)?;
        if bits.bits(24)? != SYNC_CODE {
            return None;
        }
        if profile >= 2 {
            bits.skip(1)?;
        }
        let has_sampling = profile & 1 == 1;
        match bits.bits(3)? {
            RGB if has_sampling => bits.skip(1)?,
            RGB => return None,
            _ if has_sampling => bits.skip(4)?,
            _ => bits.skip(1)?,
        }
        let (width, height) = (bits.bits(16)? + 1, bits.bits(16)? + 1);
        Some(Self { profile, width, height })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_have_a_size() {
        // 320x240 by libvpx, profile 0.
        let key = [0x82, 0x49, 0x83, 0x42, 0x00, 0x13, 0xf0, 0x0e, 0xf0, 0x00];
        assert!(is_key(&key));
        assert_eq!(KeyFrame::parse(&key), Some(KeyFrame { profile: 0, width: 320, height: 240 }));
        assert_eq!(KeyFrame::parse(&key[..8]), None);
        // An inter frame, one that is shown again, and what is none.
        assert!(!is_key(&[0x86, 0]) && !is_key(&[0x88]) && !is_key(&[0x42]) && !is_key(&[]));
    }
}
