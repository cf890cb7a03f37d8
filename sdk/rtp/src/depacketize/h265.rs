//! H.265 (RFC 7798), without decoding order numbers, which nobody sends (R30).

use patchbay_media::Codec;

use super::nal_units::{Format, Kind};

/// Aggregation packet.
const AP: u8 = 48;
/// Fragmentation unit.
const FU: u8 = 49;

#[derive(Debug)]
pub(super) struct H265;

impl Format for H265 {
    const CODEC: Codec = Codec::Hevc;
    const HEADER_BYTES: usize = 2;
    const LEAST_BYTES: usize = 3;

    fn kind(payload: &[u8]) -> Option<Kind> {
        match payload.first()? >> 1 & 0x3f {
            0..AP if payload.len() > 2 => Some(Kind::Single),
            AP => Some(Kind::Aggregate),
            FU => Some(Kind::Fragment),
            // PACI (R31) and undefined types.
            _ => None,
        }
    }

    fn fragment(payload: &[u8]) -> Option<(u8, impl AsRef<[u8]>, &[u8])> {
        let (&[h0, h1, header], body) = payload.split_first_chunk::<3>()?;
        Some((header, [h0 & 0x81 | (header & 0x3f) << 1, h1], body))
    }
}
