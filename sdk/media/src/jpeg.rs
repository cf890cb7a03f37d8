//! JPEG files: their frame size, files in a byte stream, the standard Huffman tables. ITU-T T.81 B.

pub mod huffman;
mod splitter;

pub use splitter::Splitter;

use crate::error::{Error, Field};

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DHT: u8 = 0xc4;

/// Width and height in pixels, from the frame header (SOF) of the whole JPEG file `data`, which must start with SOI.
pub fn size(data: &[u8]) -> Result<(u16, u16), Error> {
    let ([0xff, SOI], mut rest) = data.split_first_chunk::<2>().field("SOI")? else {
        return Err(Error::NoSync { what: "SOI" });
    };
    loop {
        // Any number of ff may stand before a marker.
        let (&first, after) = rest.split_first().field("marker")?;
        let (&second, after) = if first == 0xff { after.split_first().field("marker")? } else { (&0, after) };
        rest = match second {
            0xff => rest.get(1..).unwrap_or_default(),
            0x01 | 0xd0..=0xd7 => after,
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                let ([l0, l1, _, h0, h1, w0, w1], _) = after.split_first_chunk::<7>().field("SOF")?;
                let length = u16::from_be_bytes([*l0, *l1]);
                if length < 8 {
                    return Err(Error::OutOfRange { field: "Lf", value: u64::from(length) });
                }
                return Ok((u16::from_be_bytes([*w0, *w1]), u16::from_be_bytes([*h0, *h1])));
            }
            0x00 | SOI | EOI | SOS => return Err(Error::NoSync { what: "SOF" }),
            _ => {
                let (length, _) = after.split_first_chunk::<2>().field("segment length")?;
                after.get(usize::from(u16::from_be_bytes(*length)).max(2)..).field("segment")?
            }
        };
    }
}

/// The JPEG file at the start of `data` up to its last EOI, without padding behind it; `None` without SOI or EOI.
pub fn trim(data: &[u8]) -> Option<&[u8]> {
    data.strip_prefix(&[0xff, SOI])?;
    let end = data.windows(2).rposition(|pair| pair == [0xff, EOI])?;
    data.get(..end + 2).filter(|file| file.len() >= 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file without tables.
    pub(super) fn file(width: u16, height: u16) -> Vec<u8> {
        let mut data = vec![0xff, SOI, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xff, 0xc0, 0, 17, 8];
        data.extend(height.to_be_bytes());
        data.extend(width.to_be_bytes());
        data.extend([3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1, 0xff, SOS, 0, 2, 0x55, 0xff, EOI]);
        data
    }

    #[test]
    fn padding_is_cut() {
        let mut data = file(640, 480);
        let length = data.len();
        data.extend([0, 0, 0]);
        assert_eq!(trim(&data).map(<[u8]>::len), Some(length));
        assert_eq!(trim(&data[..length - 2]), None);
        assert_eq!(trim(&data[1..]), None);
    }

    #[test]
    fn a_frame_header_has_room_for_a_size() {
        let mut data = file(640, 480);
        let at = data.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        data[at + 3] = 7;
        assert_eq!(size(&data), Err(Error::OutOfRange { field: "Lf", value: 7 }));
    }

    proptest! {
        #[test]
        fn the_size_is_found(width: u16, height: u16) {
            prop_assert_eq!(size(&file(width, height)), Ok((width, height)));
        }

        #[test]
        fn any_bytes_never_panic(data: Vec<u8>, cut in 0_usize..40) {
            let _ = (size(&data), trim(&data));
            let whole = file(16, 16);
            let _ = size(&whole[..cut.min(whole.len())]);
        }
    }
}
