//! Frames of MPEG audio, layers 1 to 3: ISO/IEC 11172-3 2.4.1.3 and 2.4.2.3, ISO/IEC 13818-3; MPEG 2.5 as everybody reads it.

/// Bit rates of MPEG-1 in kbit/s, by layer.
const MPEG1: [[u32; 14]; 3] = [
    [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
];
/// Those of MPEG-2 and 2.5: layer 1, and layers 2 and 3.
const MPEG2: [[u32; 14]; 2] = [
    [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// 1, 2 or 3.
    pub layer: u8,
    /// Samples per second.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u8,
    /// Samples of each channel in the frame.
    pub samples: u32,
    /// Bytes of the frame, header included.
    pub len: usize,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 4;

    /// Reads the header that `data` begins with. `None`: it is none, or of free format, whose frames do not tell their length.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let [sync, b1, b2, b3] = *data.first_chunk::<{ Self::LEN }>()?;
        let (version, layer) = (b1 >> 3 & 3, 4 - (b1 >> 1 & 3));
        if sync != 0xff || b1 & 0xe0 != 0xe0 || version == 1 || layer == 4 {
            return None;
        }
        let is_first = version == 3;
        let rates = match is_first {
            true => MPEG1.get(usize::from(layer) - 1)?,
            false => MPEG2.get(usize::from(layer > 1))?,
        };
        let bits = rates.get(usize::from(b2 >> 4).checked_sub(1)?)? * 1_000;
        let rate: u32 = [44_100, 48_000, 32_000].get(usize::from(b2 >> 2 & 3)).copied()?;
        let sample_rate = match version {
            3 => rate,
            2 => rate / 2,
            _ => rate / 4,
        };
        let samples = match (layer, is_first) {
            (1, _) => 384,
            (3, false) => 576,
            _ => 1_152,
        };
        let padding = u32::from(b2 >> 1 & 1);
        let len = match layer {
            1 => (12 * bits / sample_rate + padding) * 4,
            _ => samples / 8 * bits / sample_rate + padding,
        };
        let channels = if b3 >> 6 == 3 { 1 } else { 2 };
        Some(Self { layer, sample_rate, channels, samples, len: usize::try_from(len).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_of_all_layers() {
        let header = |layer, sample_rate, channels, samples, len| {
            Some(Header { layer, sample_rate, channels, samples, len })
        };
        for (bytes, expected) in [
            ([0xff, 0xfb, 0x90, 0x44], header(3, 44_100, 2, 1152, 417)),
            ([0xff, 0xfd, 0xa4, 0xc0], header(2, 48_000, 1, 1152, 576)),
            ([0xff, 0xff, 0x14, 0x00], header(1, 48_000, 2, 384, 32)),
            ([0xff, 0xf3, 0x58, 0xc0], header(3, 16_000, 1, 576, 180)),
            ([0xff, 0xe3, 0x18, 0xc0], header(3, 8_000, 1, 576, 72)),
            ([0xff, 0xfb, 0xf0, 0x44], None),
            ([0xff, 0xfb, 0x00, 0x44], None),
            ([0xff, 0xf1, 0x50, 0x80], None),
        ] {
            assert_eq!(Header::parse(&bytes), expected, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn frames_have_bytes_and_samples(b1: u8, b2: u8, b3: u8) {
            if let Some(header) = Header::parse(&[0xff, b1, b2, b3]) {
                prop_assert!(header.len > Header::LEN && header.len < 1 << 13, "{header:?}");
                prop_assert!(header.sample_rate >= 8_000 && header.samples >= 384);
            }
        }
    }
}
