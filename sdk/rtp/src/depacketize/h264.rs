//! H.264 (RFC 6184), of any packetization mode (C52).

use patchbay_media::Codec;

use super::nal_units::{Format, Kind};

const STAP_A: u8 = 24;
const FU_A: u8 = 28;

#[derive(Debug)]
pub(super) struct H264;

impl Format for H264 {
    const CODEC: Codec = Codec::H264;
    const HEADER_BYTES: usize = 1;
    const LEAST_BYTES: usize = 1;

    fn kind(payload: &[u8]) -> Option<Kind> {
        match payload.first()? & 0x1f {
            1..=23 => Some(Kind::Single),
            STAP_A => Some(Kind::Aggregate),
            FU_A => Some(Kind::Fragment),
            // STAP-B, MTAP and FU-B need interleaving, the rest is undefined (R15).
            _ => None,
        }
    }

    fn fragment(payload: &[u8]) -> Option<(u8, impl AsRef<[u8]>, &[u8])> {
        let (&[indicator, header], body) = payload.split_first_chunk::<2>()?;
        Some((header, [indicator & 0xe0 | header & 0x1f], body))
    }
}
