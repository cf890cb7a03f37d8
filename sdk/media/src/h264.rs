//! H.264 (ITU-T H.264, ISO/IEC 14496-10): NAL units, parameter sets, the avcC record.

mod avcc;
mod sei;
mod slice;
mod sps;
mod vui;

pub use avcc::{ParameterSets, avcc, parse_avcc};
pub use sei::recovery_frame_cnt;
pub use slice::{Pps, SliceHeader, parse_pps, parse_slice};
pub use sps::{PicOrderCnt, Sps, parse_sps};

/// `nal_unit_type`, H.264 table 7-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NalType {
    /// A slice of a picture that is not IDR (1).
    Slice,
    /// Data partition A (2).
    PartitionA,
    /// Data partition B (3).
    PartitionB,
    /// Data partition C (4).
    PartitionC,
    /// A slice of an IDR picture (5).
    Idr,
    /// Supplemental enhancement information (6).
    Sei,
    /// Sequence parameter set (7).
    Sps,
    /// Picture parameter set (8).
    Pps,
    /// Access unit delimiter (9).
    AccessUnitDelimiter,
    /// End of sequence (10).
    EndOfSequence,
    /// End of stream (11).
    EndOfStream,
    /// Filler data (12).
    Filler,
    /// Any other type.
    Other(u8),
}

impl NalType {
    /// The type of `nal`, which starts with its header byte.
    pub fn of(nal: &[u8]) -> Option<Self> {
        Some(match nal.first()? & 0x1f {
            1 => Self::Slice,
            2 => Self::PartitionA,
            3 => Self::PartitionB,
            4 => Self::PartitionC,
            5 => Self::Idr,
            6 => Self::Sei,
            7 => Self::Sps,
            8 => Self::Pps,
            9 => Self::AccessUnitDelimiter,
            10 => Self::EndOfSequence,
            11 => Self::EndOfStream,
            12 => Self::Filler,
            other => Self::Other(other),
        })
    }

    /// A coded slice or a part of one (types 1 to 5).
    pub fn is_vcl(self) -> bool {
        matches!(self, Self::Slice | Self::PartitionA | Self::PartitionB | Self::PartitionC | Self::Idr)
    }
}

/// Whether decoding can start at the access unit `nals`: it is an IDR picture, or it carries a recovery point SEI
/// message whose `recovery_frame_cnt` is 0, as encoders without IDR pictures send.
pub fn is_key<'a>(nals: impl IntoIterator<Item = &'a [u8]>) -> bool {
    nals.into_iter().any(|nal| match NalType::of(nal) {
        Some(NalType::Idr) => true,
        Some(NalType::Sei) => recovery_frame_cnt(nal) == Some(0),
        _ => false,
    })
}

/// Whether `nal` is the first slice of a picture: `first_mb_in_slice` is 0.
pub fn starts_picture(nal: &[u8]) -> bool {
    let first_slice_type =
        matches!(NalType::of(nal), Some(NalType::Slice | NalType::PartitionA | NalType::Idr));
    first_slice_type && nal.get(1).is_some_and(|byte| byte & 0x80 != 0)
}
