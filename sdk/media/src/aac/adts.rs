//! Audio data transport stream: AAC frames behind 7- or 9-byte headers. ISO/IEC 14496-3 1.A.3.

use super::{AudioSpecificConfig, channels_of, index_of, rate_of};
use crate::error::Error;

/// Bytes of a header without CRC, the form [`build`] writes.
pub const HEADER_BYTES: usize = 7;
/// Longest frame, header included: the length has 13 bits.
pub const MAX_FRAME_BYTES: usize = 8191;

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What a decoder must know; never with SBR or PS, which ADTS cannot tell.
    pub config: AudioSpecificConfig,
    /// Bytes of header and CRC: 7, or 9 and 2 more per raw data block behind the first.
    pub header_len: usize,
    /// Bytes of header and payload, at least `header_len`.
    pub frame_len: usize,
    /// Raw data blocks of one frame time each, 1 to 4.
    pub blocks: u8,
}

impl Header {
    /// Bytes of payload.
    pub fn payload_len(&self) -> usize {
        self.frame_len.saturating_sub(self.header_len)
    }

    /// Whether `next` can follow in the same stream: the fields that stay are equal.
    fn continues(&self, next: &Self) -> bool {
        self.config == next.config
    }
}

/// Reads the header at the start of `data`. `Ok(None)` means more bytes are needed.
pub fn parse(data: &[u8]) -> Result<Option<Header>, Error> {
    let sync = Error::NoSync { what: "ADTS header" };
    match data {
        [0xff, second, ..] if second & 0xf6 == 0xf0 => {}
        [0xff] | [] => return Ok(None),
        _ => return Err(sync),
    }
    let Some(([_, b1, b2, b3, b4, b5, b6], _)) = data.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let index = u32::from(b2 >> 2 & 0x0f);
    let Some(sample_rate) = rate_of(index) else {
        return Err(Error::OutOfRange { field: "sampling_frequency_index", value: u64::from(index) });
    };
    let channel_configuration = (b2 & 1) << 2 | b3 >> 6;
    let frame_len = usize::from(b3 & 3) << 11 | usize::from(*b4) << 3 | usize::from(b5 >> 5);
    let blocks = (b6 & 3) + 1;
    let with_crc = b1 & 1 == 0;
    let header_len = if with_crc { HEADER_BYTES + 2 * usize::from(blocks) } else { HEADER_BYTES };
    if frame_len < header_len {
        return Err(Error::OutOfRange { field: "aac_frame_length", value: frame_len as u64 });
    }
    let config = AudioSpecificConfig {
        object_type: (b2 >> 6) + 1,
        sample_rate,
        channel_configuration,
        channels: channels_of(channel_configuration),
        frame_length: 1024,
        sbr: None,
        ps: false,
    };
    Ok(Some(Header { config, header_len, frame_len, blocks }))
}

/// The header of one frame of `payload_len` bytes, without CRC. `None` when ADTS cannot tell it: the rate is in no
/// table, the object type is not 1 to 4, more than 7 channels' configuration, or the frame exceeds 8,191 bytes.
pub fn build(config: &AudioSpecificConfig, payload_len: usize) -> Option<[u8; HEADER_BYTES]> {
    let index = u8::try_from(index_of(config.sample_rate)?).ok()?;
    let profile = config.object_type.checked_sub(1).filter(|profile| *profile < 4)?;
    let channels = config.channel_configuration;
    let frame_len = payload_len.checked_add(HEADER_BYTES).filter(|len| *len <= MAX_FRAME_BYTES)?;
    if channels > 7 {
        return None;
    }
    let low = |value: usize| u8::try_from(value & 0xff).unwrap_or(0);
    Some([
        0xff,
        0xf1,
        profile << 6 | index << 2 | channels >> 2,
        (channels & 3) << 6 | low(frame_len >> 11),
        low(frame_len >> 3),
        low(frame_len << 5) | 0x1f, // buffer fullness 0x7ff: variable rate
        0xfc,
    ])
}

/// `data` without its ADTS header when all of it is exactly one frame, as some RTP senders put it; else `data`.
pub fn strip(data: &[u8]) -> &[u8] {
    match parse(data) {
        Ok(Some(header)) if header.frame_len == data.len() => data.get(header.header_len..).unwrap_or(data),
        _ => data,
    }
}

/// The frames in `data`, each with its header and payload. Bytes that are no frame are passed over: a frame counts when
/// the next header stands behind it, or when `data` ends there. A frame cut off at the end is left out.
pub fn split(data: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    let mut sync = Sync::default();
    let mut rest = data;
    std::iter::from_fn(move || sync.next_frame(&mut rest, true))
}

/// Finds frames in bytes that arrive in pieces.
#[derive(Debug, Default)]
pub struct Splitter {
    /// Bytes from the first one that may start a frame on; less than two frames.
    buffer: Vec<u8>,
    sync: Sync,
}

impl Splitter {
    /// A splitter that looks for its first frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes and hands each frame that they complete to `emit`. The first frame, and the first behind bytes that
    /// are no frame, wait for the next header.
    pub fn push(&mut self, data: &[u8], emit: impl FnMut(Header, &[u8])) {
        self.buffer.extend_from_slice(data);
        self.drain(false, emit);
    }

    /// Hands what is whole to `emit`: the stream has ended.
    pub fn flush(&mut self, emit: impl FnMut(Header, &[u8])) {
        self.drain(true, emit);
        *self = Self::new();
    }

    fn drain(&mut self, end: bool, mut emit: impl FnMut(Header, &[u8])) {
        let mut rest = self.buffer.as_slice();
        while let Some((header, payload)) = self.sync.next_frame(&mut rest, end) {
            emit(header, payload);
        }
        let used = self.buffer.len() - rest.len();
        self.buffer.drain(..used);
    }
}

/// Whether the place in the stream is where a frame must start.
#[derive(Debug, Default)]
struct Sync {
    /// The header of the frame that ends here; `None` when none does.
    last: Option<Header>,
}

impl Sync {
    /// Takes the first frame off `rest` together with all that is no frame before it. `None` when more bytes must come.
    fn next_frame<'a>(&mut self, rest: &mut &'a [u8], end: bool) -> Option<(Header, &'a [u8])> {
        while let Some(behind_first) = rest.get(1..) {
            match self.judge(rest, end) {
                Verdict::Frame(header) => {
                    let (frame, behind) = rest.split_at_checked(header.frame_len)?;
                    *rest = behind;
                    self.last = Some(header);
                    return Some((header, frame.get(header.header_len..)?));
                }
                Verdict::Wait => return None,
                Verdict::No => {
                    self.last = None;
                    let skip =
                        behind_first.iter().position(|byte| *byte == 0xff).unwrap_or(behind_first.len());
                    *rest = behind_first.get(skip..)?;
                }
            }
        }
        None
    }

    /// Whether a frame starts at the start of `data`.
    fn judge(&self, data: &[u8], end: bool) -> Verdict {
        let header = match parse(data) {
            Ok(Some(header)) => header,
            Ok(None) if !end => return Verdict::Wait,
            _ => return Verdict::No,
        };
        let Some(behind) = data.get(header.frame_len..) else {
            return if end { Verdict::No } else { Verdict::Wait };
        };
        if self.last.is_some_and(|last| last.continues(&header)) {
            return Verdict::Frame(header);
        }
        match parse(behind) {
            Ok(Some(next)) if header.continues(&next) => Verdict::Frame(header),
            Ok(None) if end && behind.is_empty() => Verdict::Frame(header),
            Ok(None) if !end => Verdict::Wait,
            _ => Verdict::No,
        }
    }
}

enum Verdict {
    Frame(Header),
    Wait,
    No,
}
