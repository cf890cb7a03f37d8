//! Low overhead transport multiplex: AAC in RTP (RFC 6416) and in LOAS. ISO/IEC 14496-3 1.7.

use bytes::Bytes;

use super::AudioSpecificConfig;
use crate::bits::{BitReader, BitWriter};
use crate::error::{Error, Field};

/// Longest payload of one frame, in bytes: 6144 bits per channel for 48 channels fit.
pub const MAX_PAYLOAD_BYTES: usize = 65_536;
/// Most bytes of a LOAS frame: the length has 13 bits.
const LOAS_HEADER_BYTES: usize = 3;

/// `StreamMuxConfig` with one program of one layer, the only form that cameras and ffmpeg send. 1.7.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamMuxConfig {
    /// What a decoder must know.
    pub config: AudioSpecificConfig,
    /// The `AudioSpecificConfig` from the multiplex, aligned to a byte.
    pub extradata: Bytes,
    /// Payloads of one multiplex element: `numSubFrames` + 1, 1 to 64.
    pub sub_frames: u8,
    /// Bits of other data behind the payloads.
    pub other_data_bits: u32,
}

impl StreamMuxConfig {
    /// Reads the configuration, such as the bytes of `config=` in an SDP.
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        Self::read(&mut BitReader::new(data), data)
    }

    /// Reads at `r`, whose bytes are `data`.
    fn read(r: &mut BitReader<'_>, data: &[u8]) -> Result<Self, Error> {
        let version = r.flag().field("audioMuxVersion")?;
        if version && r.flag().field("audioMuxVersionA")? {
            return Err(Error::OutOfRange { field: "audioMuxVersionA", value: 1 });
        }
        if version {
            latm_value(r).field("taraBufferFullness")?;
        }
        r.flag().field("allStreamsSameTimeFraming")?;
        let sub_frames = r.byte(6).field("numSubFrames")? + 1;
        zero(r.bits(4), "numProgram")?;
        zero(r.bits(3), "numLayer")?;
        let (config, extradata) = if version {
            let length = usize::try_from(latm_value(r).field("ascLen")?).unwrap_or(usize::MAX);
            let start = r.position();
            r.skip(length).field("AudioSpecificConfig")?;
            let extradata = copy_bits(data, start, length);
            (AudioSpecificConfig::parse(&extradata)?, extradata)
        } else {
            let start = r.position();
            let config = AudioSpecificConfig::read(r, false)?;
            (config, copy_bits(data, start, r.position() - start))
        };
        zero(r.bits(3), "frameLengthType")?;
        r.skip(8).field("latmBufferFullness")?;
        let other_data_bits = read_other_data(r, version).field("otherDataLenBits")?;
        if r.flag().field("crcCheckPresent")? {
            r.skip(8).field("crcCheckSum")?;
        }
        Ok(Self { config, extradata: extradata.into(), sub_frames, other_data_bits })
    }
}

/// `PayloadLengthInfo`: a run of `ff` and a last byte. The length in bytes and what follows. 1.7.3, RFC 6416 6.1.
pub fn payload_length(data: &[u8]) -> Option<(usize, &[u8])> {
    let run = data.iter().take_while(|byte| **byte == 0xff).count();
    let (last, rest) = data.get(run..)?.split_first()?;
    Some((run.checked_mul(255)?.checked_add(usize::from(*last))?, rest))
}

/// Appends `length` as `PayloadLengthInfo`.
pub fn put_payload_length(length: usize, out: &mut Vec<u8>) {
    out.extend(std::iter::repeat_n(0xff, length / 255));
    out.push(u8::try_from(length % 255).unwrap_or(0));
}

/// The payloads of `data` when the configuration is known out of band (RTP with `cpresent=0`): length and bytes in turn
/// until the end. Ends at a length that does not fit.
pub fn payloads(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (length, after) = payload_length(rest)?;
        let (payload, after) = after.split_at_checked(length).filter(|_| length > 0)?;
        rest = after;
        Some(payload)
    })
}

/// Reads multiplex elements that carry their own configuration.
#[derive(Debug, Default)]
pub struct Demuxer {
    config: Option<StreamMuxConfig>,
}

impl Demuxer {
    /// A demuxer that waits for the first configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// The configuration in force.
    pub fn config(&self) -> Option<&StreamMuxConfig> {
        self.config.as_ref()
    }

    /// The payloads of one `AudioMuxElement` with `muxConfigPresent`; none before the first configuration. 1.7.3.
    pub fn push(&mut self, element: &[u8]) -> Result<Vec<Bytes>, Error> {
        let mut r = BitReader::new(element);
        if !r.flag().field("useSameStreamMux")? {
            self.config = Some(StreamMuxConfig::read(&mut r, element)?);
        }
        let Some(config) = &self.config else { return Ok(Vec::new()) };
        let mut payloads = Vec::with_capacity(usize::from(config.sub_frames));
        for _ in 0..config.sub_frames {
            let mut length = 0_usize;
            loop {
                let byte = r.byte(8).field("PayloadLengthInfo")?;
                length += usize::from(byte);
                if length > MAX_PAYLOAD_BYTES {
                    return Err(Error::OutOfRange { field: "PayloadLengthInfo", value: length as u64 });
                }
                if byte != 0xff {
                    break;
                }
            }
            let start = r.position();
            r.skip(length * 8).field("PayloadMux")?;
            payloads.push(copy_bits(element, start, length * 8).into());
        }
        Ok(payloads)
    }
}

/// The `AudioMuxElement`s in the LOAS stream `data` (sync 0x2b7, 13-bit length) and how many bytes were used. Bytes
/// that are no frame are passed over. 1.7.2.
pub fn split_loas(data: &[u8]) -> (Vec<&[u8]>, usize) {
    let mut elements = Vec::new();
    let mut at = 0;
    while let Some([sync, high, low]) = data.get(at..at + LOAS_HEADER_BYTES) {
        if *sync != 0x56 || high & 0xe0 != 0xe0 {
            at += 1;
            continue;
        }
        let start = at + LOAS_HEADER_BYTES;
        let end = start + (usize::from(high & 0x1f) << 8 | usize::from(*low));
        match data.get(start..end) {
            Some(element) if data.get(end).is_none_or(|next| *next == 0x56) => {
                elements.push(element);
                at = end;
            }
            Some(_) => at += 1,
            None => break,
        }
    }
    (elements, at)
}

/// `LatmGetValue`: two bits tell how many bytes.
fn latm_value(r: &mut BitReader<'_>) -> Option<u32> {
    let bytes = r.bits(2)? + 1;
    r.bits(bytes * 8)
}

fn read_other_data(r: &mut BitReader<'_>, version: bool) -> Option<u32> {
    if !r.flag()? {
        return Some(0);
    }
    if version {
        return latm_value(r);
    }
    let mut bits = 0_u32;
    loop {
        let more = r.flag()?;
        bits = bits.checked_mul(256)?.checked_add(r.bits(8)?)?;
        if !more {
            return Some(bits);
        }
    }
}

fn zero(value: Option<u32>, field: &'static str) -> Result<(), Error> {
    match value.field(field)? {
        0 => Ok(()),
        value => Err(Error::OutOfRange { field, value: u64::from(value) }),
    }
}

/// `count` bits from bit `start`, aligned to a byte.
fn copy_bits(data: &[u8], start: usize, count: usize) -> Vec<u8> {
    let mut r = BitReader::new(data);
    let mut w = BitWriter::new();
    if r.skip(start).is_some() {
        for _ in 0..count / 8 {
            w.bits(8, r.bits(8).unwrap_or(0));
        }
        let rest = u32::try_from(count % 8).unwrap_or(0);
        w.bits(rest, r.bits(rest).unwrap_or(0));
    }
    w.finish()
}
