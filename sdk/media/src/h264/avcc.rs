//! `AVCDecoderConfigurationRecord`. ISO/IEC 14496-15 5.3.3.1.

use bytes::{BufMut, Bytes, BytesMut};

use super::parse_sps;
use crate::error::{Error, Field};

/// Most sequence parameter sets in a record: the count has 5 bits.
const MAX_SPS: usize = 31;
/// Most picture parameter sets in a record: the count has 8 bits.
const MAX_PPS: usize = 255;

/// The parameter sets of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSets {
    /// Sequence parameter set NAL units.
    pub sps: Vec<Bytes>,
    /// Picture parameter set NAL units.
    pub pps: Vec<Bytes>,
    /// Bytes of a NAL unit's length in samples: 1 to 4.
    pub length_size: u8,
}

/// Builds the record for 4-byte lengths. Profile and level are those of the first SPS, which should be the active one;
/// empty without any. Sets longer than 65,535 bytes are left out.
pub fn avcc(sps: &[&[u8]], pps: &[&[u8]]) -> Bytes {
    let Some([_, profile, constraints, level, ..]) = sps.first() else { return Bytes::new() };
    let mut out = BytesMut::with_capacity(64 + sps.iter().chain(pps).map(|nal| nal.len() + 2).sum::<usize>());
    out.put_slice(&[1, *profile, *constraints, *level, 0xff]);
    put_sets(&mut out, sps, MAX_SPS, 0xe0);
    put_sets(&mut out, pps, MAX_PPS, 0);
    // The record has this tail for every profile but the three first ones.
    if !matches!(profile, 66 | 77 | 88) {
        let parsed = sps.first().and_then(|sps| parse_sps(sps).ok());
        let (chroma, luma_depth, chroma_depth) =
            parsed.map_or((1, 8, 8), |sps| (sps.chroma_format, sps.bit_depth_luma, sps.bit_depth_chroma));
        out.put_slice(&[0xfc | chroma, 0xf8 | (luma_depth - 8), 0xf8 | (chroma_depth - 8), 0]);
    }
    out.freeze()
}

/// Reads a record. Bytes behind the sets are passed over.
pub fn parse_avcc(record: &[u8]) -> Result<ParameterSets, Error> {
    let ([version, _, _, _, length, sps_count], rest) = record.split_first_chunk::<6>().field("avcC")?;
    if *version != 1 {
        return Err(Error::OutOfRange { field: "configurationVersion", value: u64::from(*version) });
    }
    let (sps, rest) = take_sets(rest, usize::from(sps_count & 0x1f))?;
    let (pps_count, rest) = rest.split_first().field("numOfPictureParameterSets")?;
    let (pps, _) = take_sets(rest, usize::from(*pps_count))?;
    Ok(ParameterSets { sps, pps, length_size: (length & 3) + 1 })
}

fn put_sets(out: &mut BytesMut, nals: &[&[u8]], max: usize, reserved: u8) {
    let fitting = || nals.iter().filter(|nal| u16::try_from(nal.len()).is_ok()).take(max);
    out.put_u8(reserved | u8::try_from(fitting().count()).unwrap_or(u8::MAX));
    for nal in fitting() {
        out.put_u16(u16::try_from(nal.len()).unwrap_or(u16::MAX));
        out.put_slice(nal);
    }
}

fn take_sets(mut rest: &[u8], count: usize) -> Result<(Vec<Bytes>, &[u8]), Error> {
    let mut sets = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<2>().field("parameterSetLength")?;
        let (set, after) =
            after.split_at_checked(usize::from(u16::from_be_bytes(*length))).field("parameterSetNALUnit")?;
        sets.push(Bytes::copy_from_slice(set));
        rest = after;
    }
    Ok((sets, rest))
}
