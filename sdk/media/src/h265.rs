//! H.265 (ITU-T H.265, ISO/IEC 23008-2): NAL units, parameter sets, the hvcC record.

mod hvcc;
mod sps;
mod vui;

pub use hvcc::{ParameterSets, hvcc, parse_hvcc};
pub use sps::{GeneralProfile, Sps, general_profile, parse_sps};

use crate::bits::BitReader;
use crate::error::{Error, Field};
use crate::nal::unescape;

/// `nal_unit_type` values, H.265 table 7-1, as [`nal_type()`] gives them.
pub mod nal_type {
    /// A leading picture that cannot be decoded after a join at its CRA picture, not referenced.
    pub const RASL_N: u8 = 8;
    /// The same, referenced.
    pub const RASL_R: u8 = 9;
    /// The first of the pictures where decoding can start (BLA).
    pub const BLA_W_LP: u8 = 16;
    /// Instantaneous decoding refresh: leading pictures that can be decoded may follow.
    pub const IDR_W_RADL: u8 = 19;
    /// Instantaneous decoding refresh without leading pictures.
    pub const IDR_N_LP: u8 = 20;
    /// Clean random access picture: leading pictures may follow.
    pub const CRA: u8 = 21;
    /// The last type of coded slices.
    pub const LAST_VCL: u8 = 31;
    /// Video parameter set.
    pub const VPS: u8 = 32;
    /// Sequence parameter set.
    pub const SPS: u8 = 33;
    /// Picture parameter set.
    pub const PPS: u8 = 34;
    /// Access unit delimiter.
    pub const AUD: u8 = 35;
    /// End of sequence.
    pub const EOS: u8 = 36;
    /// End of bitstream.
    pub const EOB: u8 = 37;
    /// Filler data.
    pub const FILLER: u8 = 38;
    /// SEI before the picture.
    pub const PREFIX_SEI: u8 = 39;
    /// SEI that belongs to the picture before it.
    pub const SUFFIX_SEI: u8 = 40;
}

/// The type of `nal`, which starts with its 2-byte header.
pub fn nal_type(nal: &[u8]) -> Option<u8> {
    let (header, _) = nal.split_first_chunk::<2>()?;
    Some((header.first()? >> 1) & 0x3f)
}

/// Whether `nal` is a coded slice segment (types 0 to 31).
pub fn is_vcl(nal: &[u8]) -> bool {
    nal_type(nal).is_some_and(|kind| kind <= nal_type::LAST_VCL)
}

/// Whether decoding can start at the access unit `nals`: it is an IRAP picture (types 16 to 21).
pub fn is_key<'a>(nals: impl IntoIterator<Item = &'a [u8]>) -> bool {
    nals.into_iter()
        .any(|nal| nal_type(nal).is_some_and(|kind| (nal_type::BLA_W_LP..=nal_type::CRA).contains(&kind)))
}

/// Whether the access unit `nals` is a RASL picture (types 8 and 9): not decodable when decoding started at the CRA
/// picture before it, so a reader that joined there drops it.
pub fn is_rasl<'a>(nals: impl IntoIterator<Item = &'a [u8]>) -> bool {
    nals.into_iter().any(|nal| matches!(nal_type(nal), Some(nal_type::RASL_N | nal_type::RASL_R)))
}

/// Whether `nal` is the first slice segment of a picture: `first_slice_segment_in_pic_flag`.
pub fn starts_picture(nal: &[u8]) -> bool {
    is_vcl(nal) && nal.get(2).is_some_and(|byte| byte & 0x80 != 0)
}

/// What is read of a picture parameter set. H.265 7.3.2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pps {
    /// `pps_pic_parameter_set_id`, 0 to 63.
    pub id: u8,
    /// `pps_seq_parameter_set_id`, 0 to 15.
    pub sps_id: u8,
    /// `output_flag_present_flag`; no when the bytes end before it.
    pub output_flag_present: bool,
    /// `num_extra_slice_header_bits`, 0 to 7; 0 when the bytes end before it.
    pub extra_slice_header_bits: u8,
}

/// Bytes at the start of a slice or PPS that hold the fields read here.
const HEADER_BYTES: usize = 32;

/// Reads the start of a picture parameter set NAL unit.
pub fn parse_pps(nal: &[u8]) -> Result<Pps, Error> {
    expect_type(nal, nal_type::PPS)?;
    let head = unescape(nal.get(2..nal.len().min(HEADER_BYTES)).unwrap_or_default());
    let mut r = BitReader::new(&head);
    let id = small(&mut r, "pps_pic_parameter_set_id", 63)?;
    let sps_id = small(&mut r, "pps_seq_parameter_set_id", 15)?;
    let _ = r.skip(1); // dependent_slice_segments_enabled_flag
    Ok(Pps {
        id,
        sps_id,
        output_flag_present: r.flag().unwrap_or(false),
        extra_slice_header_bits: r.byte(3).unwrap_or(0),
    })
}

/// `slice_pic_order_cnt_lsb` of `nal`, the first slice segment of a picture that is not an IDR picture, with the sets it
/// refers to. H.265 7.3.6.1. Not for three separately coded colour planes, which no profile has.
pub fn slice_pic_order_cnt_lsb(nal: &[u8], sps: &Sps, pps: &Pps) -> Option<u32> {
    let kind = nal_type(nal).filter(|kind| *kind <= nal_type::LAST_VCL)?;
    let head = unescape(nal.get(2..nal.len().min(HEADER_BYTES))?);
    let mut r = BitReader::new(&head);
    let first = r.flag()?;
    if !first || matches!(kind, nal_type::IDR_W_RADL | nal_type::IDR_N_LP) {
        return None;
    }
    if (nal_type::BLA_W_LP..=23).contains(&kind) {
        r.skip(1)?; // no_output_of_prior_pics_flag
    }
    r.ue()?; // slice_pic_parameter_set_id
    r.skip(usize::from(pps.extra_slice_header_bits))?;
    r.ue()?; // slice_type
    if pps.output_flag_present {
        r.skip(1)?; // pic_output_flag
    }
    r.bits(u32::from(sps.log2_max_pic_order_cnt_lsb))
}

/// `slice_pic_parameter_set_id` of the slice segment `nal`. H.265 7.3.6.1.
pub fn slice_pps_id(nal: &[u8]) -> Option<u8> {
    let kind = nal_type(nal).filter(|kind| *kind <= nal_type::LAST_VCL)?;
    let head = unescape(nal.get(2..nal.len().min(HEADER_BYTES))?);
    let mut r = BitReader::new(&head);
    r.skip(1)?;
    // Every IRAP picture, the reserved types 22 and 23 too, has no_output_of_prior_pics_flag.
    if (nal_type::BLA_W_LP..=23).contains(&kind) {
        r.skip(1)?;
    }
    small(&mut r, "slice_pic_parameter_set_id", 63).ok()
}

fn expect_type(nal: &[u8], expected: u8) -> Result<(), Error> {
    match nal_type(nal).field("nal_unit_type")? {
        found if found == expected => Ok(()),
        found => Err(Error::WrongNalType { expected, found }),
    }
}

/// `ue(v)` of at most `max`.
fn small(r: &mut BitReader<'_>, field: &'static str, max: u8) -> Result<u8, Error> {
    let value = r.ue().field(field)?;
    u8::try_from(value)
        .ok()
        .filter(|small| *small <= max)
        .ok_or(Error::OutOfRange { field, value: u64::from(value) })
}
