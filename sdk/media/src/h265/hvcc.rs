//! `HEVCDecoderConfigurationRecord`. ISO/IEC 14496-15 8.3.3.1.

use bytes::{BufMut, Bytes, BytesMut};

use super::{general_profile, nal_type, parse_sps};
use crate::error::{Error, Field};

/// Most NAL units of one type in a record. H.265 allows at most 64 PPS.
const MAX_SETS: usize = 64;

/// The parameter sets of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSets {
    /// Video parameter set NAL units.
    pub vps: Vec<Bytes>,
    /// Sequence parameter set NAL units.
    pub sps: Vec<Bytes>,
    /// Picture parameter set NAL units.
    pub pps: Vec<Bytes>,
    /// Bytes of a NAL unit's length in samples: 1 to 4.
    pub length_size: u8,
}

/// Builds the record for 4-byte lengths, with complete arrays in the order VPS, SPS, PPS. Profile and level are those
/// of the first SPS, which should be the active one; empty without a readable one. Sets longer than 65,535 bytes are
/// left out.
pub fn hvcc(vps: &[&[u8]], sps: &[&[u8]], pps: &[&[u8]]) -> Bytes {
    let Some(Ok(general)) = sps.first().map(|sps| general_profile(sps)) else { return Bytes::new() };
    let parsed = sps.first().and_then(|sps| parse_sps(sps).ok());
    let parsed = parsed.as_ref();
    let sets = [(nal_type::VPS, vps), (nal_type::SPS, sps), (nal_type::PPS, pps)];
    let mut out = BytesMut::with_capacity(256);
    out.put_u8(1);
    out.put_u8(general.space << 6 | u8::from(general.high_tier) << 5 | general.profile);
    out.put_u32(general.compatibility);
    out.put_slice(&general.constraints);
    out.put_u8(general.level);
    out.put_u16(0xf000); // min_spatial_segmentation_idc: any
    out.put_u8(0xfc); // parallelismType: mixed or unknown
    out.put_u8(0xfc | parsed.map_or(1, |sps| sps.chroma_format));
    out.put_u8(0xf8 | (parsed.map_or(8, |sps| sps.bit_depth_luma) - 8));
    out.put_u8(0xf8 | (parsed.map_or(8, |sps| sps.bit_depth_chroma) - 8));
    out.put_u16(0); // avgFrameRate: unspecified
    let (layers, nested) = parsed.map_or((1, true), |sps| (sps.temporal_layers, sps.temporal_id_nested));
    out.put_u8((layers & 7) << 3 | u8::from(nested) << 2 | 3);
    let arrays = sets.iter().filter(|(_, nals)| fitting(nals).next().is_some());
    out.put_u8(u8::try_from(arrays.clone().count()).unwrap_or(0));
    for (kind, nals) in arrays {
        out.put_u8(0x80 | kind);
        out.put_u16(u16::try_from(fitting(nals).count()).unwrap_or(0));
        for nal in fitting(nals) {
            out.put_u16(u16::try_from(nal.len()).unwrap_or(0));
            out.put_slice(nal);
        }
    }
    out.freeze()
}

/// Reads a record. Arrays of other types and bytes behind the arrays are passed over.
pub fn parse_hvcc(record: &[u8]) -> Result<ParameterSets, Error> {
    let (head, mut rest) = record.split_first_chunk::<23>().field("hvcC")?;
    let [version, .., lengths, arrays] = *head;
    if version > 1 {
        return Err(Error::OutOfRange { field: "configurationVersion", value: u64::from(version) });
    }
    let mut sets =
        ParameterSets { vps: Vec::new(), sps: Vec::new(), pps: Vec::new(), length_size: (lengths & 3) + 1 };
    for _ in 0..arrays {
        let ([kind, count @ ..], after) = rest.split_first_chunk::<3>().field("NAL_unit_type")?;
        rest = after;
        for _ in 0..u16::from_be_bytes(*count) {
            let (length, after) = rest.split_first_chunk::<2>().field("nalUnitLength")?;
            let (nal, after) =
                after.split_at_checked(usize::from(u16::from_be_bytes(*length))).field("nalUnit")?;
            rest = after;
            let list = match kind & 0x3f {
                nal_type::VPS => &mut sets.vps,
                nal_type::SPS => &mut sets.sps,
                nal_type::PPS => &mut sets.pps,
                _ => continue,
            };
            if list.len() < MAX_SETS {
                list.push(Bytes::copy_from_slice(nal));
            }
        }
    }
    Ok(sets)
}

fn fitting<'a, 'b>(nals: &'b [&'a [u8]]) -> impl Iterator<Item = &'b &'a [u8]> {
    nals.iter().filter(|nal| u16::try_from(nal.len()).is_ok()).take(MAX_SETS)
}
