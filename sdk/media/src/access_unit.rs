//! Where one access unit of H.264 or H.265 ends and the next begins.

use bytes::Bytes;

use crate::codec::Codec;
use crate::h264::{self, NalType};
use crate::h265::{self, nal_type};
use crate::unit::MAX_UNIT_BYTES;

/// Most NAL units of one access unit that are kept, above H.264's 8,160 slices of level 4.
const MAX_NALS: usize = 8_192;

/// What a NAL unit is for the cutting and assembling of access units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A coded slice.
    Slice {
        /// It is the first of its picture.
        first: bool,
    },
    /// A parameter set.
    Set(Set),
    /// An access unit delimiter.
    Delimiter,
    /// Filler data.
    Filler,
    /// Stands before a picture, so it never closes an access unit: SEI, SPS extension, reserved types of that kind.
    Prefix,
    /// Stands before a slice, the first one or another of the same picture: H.264's prefix NAL unit (14).
    SlicePrefix,
    /// Belongs to the picture before it: suffix SEI, end of sequence, auxiliary slices, unknown types.
    Suffix,
}

/// A kind of parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// Video parameter set, H.265 only.
    Vps,
    /// Sequence parameter set.
    Sps,
    /// Picture parameter set.
    Pps,
}

/// The role of `nal` in a stream of `codec`, which is H.265 or else H.264. `None` for bytes that are no NAL unit.
/// H.264 7.4.1.2.3, H.265 7.4.2.4.4.
pub fn role(codec: Codec, nal: &[u8]) -> Option<Role> {
    if codec == Codec::Hevc { h265_role(nal) } else { h264_role(nal) }
}

fn h264_role(nal: &[u8]) -> Option<Role> {
    Some(match NalType::of(nal)? {
        kind if kind.is_vcl() => Role::Slice { first: h264::starts_picture(nal) },
        NalType::Sps => Role::Set(Set::Sps),
        NalType::Pps => Role::Set(Set::Pps),
        NalType::AccessUnitDelimiter => Role::Delimiter,
        NalType::Filler => Role::Filler,
        NalType::Sei | NalType::Other(13 | 15..=18) => Role::Prefix,
        NalType::Other(14) => Role::SlicePrefix,
        _ => Role::Suffix,
    })
}

fn h265_role(nal: &[u8]) -> Option<Role> {
    Some(match h265::nal_type(nal)? {
        0..=nal_type::LAST_VCL => Role::Slice { first: h265::starts_picture(nal) },
        nal_type::VPS => Role::Set(Set::Vps),
        nal_type::SPS => Role::Set(Set::Sps),
        nal_type::PPS => Role::Set(Set::Pps),
        nal_type::AUD => Role::Delimiter,
        nal_type::FILLER => Role::Filler,
        nal_type::PREFIX_SEI | 41..=44 | 48..=55 => Role::Prefix,
        _ => Role::Suffix,
    })
}

/// The NAL units of one access unit in decoding order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessUnit {
    /// All of them, parameter sets and delimiters too.
    pub nals: Vec<Bytes>,
    /// NAL units behind these were left out: there were too many, or too many bytes.
    pub cut: bool,
}

/// Cuts a flow of NAL units into access units.
///
/// An access unit ends before the first slice of another picture, and, once it has a slice, before a delimiter, a
/// parameter set or a prefix SEI. A transport that knows more (an RTP marker or timestamp, a PES packet) calls
/// [`Self::flush`] when [`Self::has_picture`].
#[derive(Debug)]
pub struct AccessUnitSplitter {
    codec: Codec,
    current: AccessUnit,
    bytes: usize,
    has_picture: bool,
    /// The last slice's NAL header, to tell pictures apart whose first slice was lost.
    last_slice: Option<u8>,
    /// Slice prefixes whose slice has not come.
    slice_prefix: Vec<Bytes>,
}

impl AccessUnitSplitter {
    /// A splitter for `codec`, which is H.265 or else H.264.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            current: AccessUnit::default(),
            bytes: 0,
            has_picture: false,
            last_slice: None,
            slice_prefix: Vec::new(),
        }
    }

    /// Whether the access unit being gathered has a slice, so that it may end here.
    pub fn has_picture(&self) -> bool {
        self.has_picture
    }

    /// Takes the next NAL unit; gives the access unit before it when it ends there.
    pub fn push(&mut self, nal: Bytes) -> Option<AccessUnit> {
        let role = role(self.codec, &nal)?;
        let mut done = None;
        match role {
            Role::SlicePrefix => {
                if self.slice_prefix.len() < MAX_NALS {
                    self.slice_prefix.push(nal);
                }
                return None;
            }
            Role::Slice { first } => {
                if self.has_picture && (first || self.is_other_picture(&nal)) {
                    done = Some(self.take());
                }
                self.has_picture = true;
                self.last_slice = nal.first().copied();
            }
            Role::Set(_) | Role::Delimiter | Role::Prefix if self.has_picture => done = Some(self.take()),
            _ => {}
        }
        for prefix in std::mem::take(&mut self.slice_prefix) {
            self.add(prefix);
        }
        self.add(nal);
        done
    }

    /// Ends the access unit being gathered; `None` when there is none.
    pub fn flush(&mut self) -> Option<AccessUnit> {
        for prefix in std::mem::take(&mut self.slice_prefix) {
            self.add(prefix);
        }
        (!self.current.nals.is_empty()).then(|| self.take())
    }

    /// A slice that is not the first of its picture still belongs to another one than the slice before when IDR and
    /// non-IDR or reference and non-reference slices meet. H.264 7.4.1.2.4; H.265 wants equal types in a picture.
    fn is_other_picture(&self, nal: &[u8]) -> bool {
        let (Some(last), Some(header)) = (self.last_slice, nal.first()) else { return false };
        if self.codec == Codec::Hevc {
            return (last ^ header) & 0x7e != 0;
        }
        let idr = |byte: u8| byte & 0x1f == 5;
        let reference = |byte: u8| byte & 0x60 != 0;
        idr(last) != idr(*header) || reference(last) != reference(*header)
    }

    fn take(&mut self) -> AccessUnit {
        self.bytes = 0;
        self.has_picture = false;
        self.last_slice = None;
        std::mem::take(&mut self.current)
    }

    fn add(&mut self, nal: Bytes) {
        // The NAL unit that exceeds the limit is kept, so that the size shows.
        if self.bytes > MAX_UNIT_BYTES || self.current.nals.len() >= MAX_NALS {
            self.current.cut = true;
            return;
        }
        self.bytes = self.bytes.saturating_add(nal.len());
        self.current.nals.push(nal);
    }
}
