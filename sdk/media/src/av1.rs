//! AV1: OBUs, the sequence header and its record (AV1 bitstream specification; AV1 in ISOBMFF).
//!
//! Units are temporal units in the low-overhead format, each OBU with its size, without temporal delimiters, as MP4 and FLV have
//! them. The sequence header stands in them where the encoder put it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::bits::BitReader;

/// Bytes before the OBUs in an `AV1CodecConfigurationRecord`.
pub const RECORD_HEAD: usize = 4;

/// Kinds of OBUs (section 6.2.2).
pub mod kind {
    /// Parameters of a coded video sequence.
    pub const SEQUENCE_HEADER: u8 = 1;
    /// The beginning of a temporal unit.
    pub const TEMPORAL_DELIMITER: u8 = 2;
    /// The header of a frame.
    pub const FRAME_HEADER: u8 = 3;
    /// A frame.
    pub const FRAME: u8 = 6;
    /// Tiles of large scale coding.
    pub const TILE_LIST: u8 = 8;
    /// Nothing.
    pub const PADDING: u8 = 15;
}

const EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;

/// One OBU, its header without the size field.
#[derive(Debug, Clone, Copy)]
pub struct Obu<'a> {
    header: [u8; 2],
    header_len: usize,
    /// What follows header and size.
    pub payload: &'a [u8],
}

impl<'a> Obu<'a> {
    /// The OBU that `bytes` begin with, and what follows it. One without a size takes all bytes.
    pub fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&first, mut after) = bytes.split_first()?;
        if first & 0x80 != 0 {
            return None;
        }
        let mut header = [first & !HAS_SIZE, 0];
        let mut header_len = 1;
        if first & EXTENSION != 0 {
            let (&extension, behind) = after.split_first()?;
            header[1] = extension;
            (header_len, after) = (2, behind);
        }
        let len = if first & HAS_SIZE == 0 {
            after.len()
        } else {
            let (len, behind) = leb128(after)?;
            after = behind;
            len
        };
        let (payload, behind) = after.split_at_checked(len)?;
        Some((Self { header, header_len, payload }, behind))
    }

    /// One of [`kind`].
    pub fn kind(&self) -> u8 {
        self.header[0] >> 3 & 0xf
    }

    /// Header and payload, in bytes, without a size.
    pub fn len(&self) -> usize {
        self.header_len + self.payload.len()
    }

    /// Never: an OBU has a header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Bytes of the OBU without its size from `start` on, at most `len`, in two parts.
    pub fn part(&self, start: usize, len: usize) -> (&[u8], &'a [u8]) {
        let end = start.saturating_add(len);
        let head = self.header.get(start.min(self.header_len)..end.min(self.header_len)).unwrap_or_default();
        let from = start.saturating_sub(self.header_len);
        let to = end.saturating_sub(self.header_len).min(self.payload.len());
        (head, self.payload.get(from..to).unwrap_or_default())
    }

    /// Appends the OBU with its size. Its length is at most its own and four bytes.
    pub fn write(&self, out: &mut BytesMut) {
        let [first, extension] = self.header;
        out.put_u8(first | HAS_SIZE);
        if self.header_len > 1 {
            out.put_u8(extension);
        }
        let mut len = self.payload.len();
        while len >= 0x80 {
            out.put_u8(len as u8 | 0x80);
            len >>= 7;
        }
        out.put_u8(len as u8);
        out.put_slice(self.payload);
    }
}

/// The OBUs of a low-overhead bitstream (section 5.2); ends where it is none.
pub fn obus(mut rest: &[u8]) -> impl Iterator<Item = Obu<'_>> {
    std::iter::from_fn(move || {
        let (obu, behind) = Obu::parse(rest)?;
        rest = behind;
        Some(obu)
    })
}

/// A number of at most 32 bits (section 4.10.5) and what follows it.
pub fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (place, byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).ok()?;
            return Some((usize::try_from(value).ok()?, bytes.get(place + 1..)?));
        }
    }
    None
}

/// Whether decoding can start with a temporal unit: its first frame is a key frame that is shown (section 7.6.2).
pub fn is_key(unit: &[u8]) -> bool {
    let mut reduced = false;
    for obu in obus(unit) {
        match obu.kind() {
            kind::SEQUENCE_HEADER => {
                // A sequence of still pictures has no frame types.
                reduced = SequenceHeader::parse(obu.payload).is_some_and(|header| header.is_reduced);
            }
            kind::FRAME_HEADER | kind::FRAME => {
                // show_existing_frame 0, frame_type 0 (key), show_frame 1.
                return reduced || obu.payload.first().is_some_and(|first| first >> 4 == 0b0001);
            }
            _ => {}
        }
    }
    false
}

/// What a sequence header says (section 5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceHeader {
    /// 0 main, 1 high, 2 professional.
    pub profile: u8,
    /// `seq_level_idx` of the first operating point.
    pub level: u8,
    /// The high tier.
    pub is_high_tier: bool,
    /// More than 8 bits.
    pub is_high_bitdepth: bool,
    /// 12 bits.
    pub is_twelve_bit: bool,
    /// No colours.
    pub is_mono: bool,
    /// `subsampling_x` and `subsampling_y`.
    pub subsampling: (bool, bool),
    /// `chroma_sample_position`.
    pub chroma_sample_position: u8,
    /// Largest width in pixels.
    pub width: u32,
    /// Largest height in pixels.
    pub height: u32,
    /// Still pictures with short headers.
    pub is_reduced: bool,
}

impl SequenceHeader {
    /// Reads the payload of its OBU.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut bits = BitReader::new(payload);
        let profile = bits.byte(3)?;
        let _still_picture = bits.flag()?;
        let is_reduced = bits.flag()?;
        let (level, is_high_tier) =
            if is_reduced { (bits.byte(5)?, false) } else { operating_points(&mut bits)? };
        let (width_bits, height_bits) = (bits.bits(4)? + 1, bits.bits(4)? + 1);
        let (width, height) = (bits.bits(width_bits)? + 1, bits.bits(height_bits)? + 1);
        tools(&mut bits, is_reduced)?;
        let mut header = Self {
            profile,
            level,
            is_high_tier,
            is_high_bitdepth: false,
            is_twelve_bit: false,
            is_mono: false,
            subsampling: (true, true),
            chroma_sample_position: 0,
            width,
            height,
            is_reduced,
        };
        header.colours(&mut bits)?;
        Some(header)
    }

    /// Section 5.5.2.
    fn colours(&mut self, bits: &mut BitReader<'_>) -> Option<()> {
        self.is_high_bitdepth = bits.flag()?;
        self.is_twelve_bit = self.profile == 2 && self.is_high_bitdepth && bits.flag()?;
        self.is_mono = self.profile != 1 && bits.flag()?;
        let described = if bits.flag()? { (bits.byte(8)?, bits.byte(8)?, bits.byte(8)?) } else { (2, 2, 2) };
        if self.is_mono {
            return Some(());
        }
        // BT.709 primaries with sRGB transfer and identity matrix.
        if described == (1, 13, 0) {
            self.subsampling = (false, false);
            return Some(());
        }
        let _colour_range = bits.flag()?;
        self.subsampling = match self.profile {
            0 => (true, true),
            1 => (false, false),
            _ if self.is_twelve_bit => {
                let x = bits.flag()?;
                (x, x && bits.flag()?)
            }
            _ => (true, false),
        };
        if self.subsampling == (true, true) {
            self.chroma_sample_position = bits.byte(2)?;
        }
        Some(())
    }

    /// The `AV1CodecConfigurationRecord` with the sequence header `obu` of this content (AV1 in ISOBMFF section 2.3.3).
    pub fn record(&self, obu: &Obu<'_>) -> Bytes {
        let mut out = BytesMut::with_capacity(RECORD_HEAD + obu.len() + 4);
        let flag = |is_set: bool, place: u8| u8::from(is_set) << place;
        out.put_u8(0x81);
        out.put_u8(self.profile << 5 | self.level & 0x1f);
        out.put_u8(
            flag(self.is_high_tier, 7)
                | flag(self.is_high_bitdepth, 6)
                | flag(self.is_twelve_bit, 5)
                | flag(self.is_mono, 4)
                | flag(self.subsampling.0, 3)
                | flag(self.subsampling.1, 2)
                | self.chroma_sample_position & 3,
        );
        out.put_u8(0);
        obu.write(&mut out);
        out.freeze()
    }
}

/// Level and tier of the first operating point.
fn operating_points(bits: &mut BitReader<'_>) -> Option<(u8, bool)> {
    let mut delay_bits = None;
    if bits.flag()? {
        // Units of the clock.
        bits.skip(64)?;
        if bits.flag()? {
            let zeros = std::iter::from_fn(|| bits.flag().filter(|flag| !flag)).take(33).count();
            if zeros > 32 {
                return None;
            }
            bits.skip(zeros)?;
        }
        if bits.flag()? {
            delay_bits = Some(bits.bits(5)? + 1);
            bits.skip(32 + 5 + 5)?;
        }
    }
    let has_display_delay = bits.flag()?;
    let mut first = None;
    for _ in 0..=bits.bits(5)? {
        bits.skip(12)?;
        let level = bits.byte(5)?;
        let is_high_tier = level > 7 && bits.flag()?;
        first.get_or_insert((level, is_high_tier));
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.skip(2 * delay_bits as usize + 1)?;
        }
        if has_display_delay && bits.flag()? {
            bits.skip(4)?;
        }
    }
    first
}

/// Passes over the coding tools between the size and the colours.
fn tools(bits: &mut BitReader<'_>, is_reduced: bool) -> Option<()> {
    if !is_reduced && bits.flag()? {
        bits.skip(7)?;
    }
    bits.skip(3)?;
    if !is_reduced {
        bits.skip(4)?;
        let has_order_hint = bits.flag()?;
        if has_order_hint {
            bits.skip(2)?;
        }
        let uses_screen_content_tools = bits.flag()? || bits.flag()?;
        // seq_choose_integer_mv, else the choice itself.
        if uses_screen_content_tools && !bits.flag()? {
            bits.skip(1)?;
        }
        if has_order_hint {
            bits.skip(3)?;
        }
    }
    bits.skip(3)
}

/// Size and record of a temporal unit's sequence header, when it has one that can be read.
pub fn configuration(unit: &[u8]) -> Option<(SequenceHeader, Bytes)> {
    let obu = obus(unit).find(|obu| obu.kind() == kind::SEQUENCE_HEADER)?;
    let header = SequenceHeader::parse(obu.payload)?;
    Some((header, header.record(&obu)))
}
