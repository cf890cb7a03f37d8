//! Units of one track to RTP packets, once for all viewers.
//!
//! A [`Packetizer`] writes every packet of a unit into one [`Packets`] buffer, framed for an RTSP connection, so that a
//! viewer over TCP needs one write per unit; viewers over UDP take the packets out of the same buffer.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use patchbay_media::{Codec, Kind, Parameters, Unit};

use crate::Unsupported;
use crate::packet::{HEADER_LEN, Header};

mod audio;
mod av1;
mod h264;
mod h265;
mod history;
mod jpeg;
mod nal_units;
mod parameter_sets;
mod pictures;

pub use history::{History, Times};

use parameter_sets::ParameterSets;

/// Smallest and largest limit on RTP payloads, in bytes. The smallest holds the tables of a JPEG, the largest fits a
/// 16-bit interleaved length.
pub const PAYLOAD_LIMITS: std::ops::RangeInclusive<usize> = 256..=65_000;

/// The default limit on RTP payloads, in bytes: what passes common networks unfragmented (S43).
pub const DEFAULT_MAX_PAYLOAD: usize = 1440;

/// Bytes of an interleaved frame's head (RFC 2326 section 10.12).
const INTERLEAVED_LEN: usize = 4;

/// RTP packets, one behind the other as RTSP interleaved frames: `$`, channel, length, packet.
#[derive(Debug)]
pub struct Packets {
    buffer: BytesMut,
    /// Where the packets are, without their frames' heads.
    ranges: Vec<Range<usize>>,
    channel: u8,
    octets: u64,
}

impl Packets {
    /// An empty list whose frames name `channel`.
    pub fn new(channel: u8) -> Self {
        Self { buffer: BytesMut::new(), ranges: Vec::new(), channel, octets: 0 }
    }

    /// Packets in the list.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Payload bytes in the list, without RTP headers, for sender reports.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// All packets as interleaved frames.
    pub fn interleaved(&self) -> &[u8] {
        &self.buffer
    }

    /// The packets one by one, without frames.
    pub fn datagrams(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.ranges.iter().map(|range| self.buffer.get(range.clone()).unwrap_or_default())
    }

    /// Where the packets lie in [`Self::interleaved`], and in what [`Self::take`] gives, without their frames.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// Takes all frames out as one buffer and empties the list.
    pub fn take(&mut self) -> Bytes {
        self.ranges.clear();
        self.octets = 0;
        self.buffer.split().freeze()
    }

    /// Empties the list.
    pub fn clear(&mut self) {
        self.ranges.clear();
        self.octets = 0;
        self.buffer.clear();
    }

    /// Names another channel in frames that were copied for one viewer.
    pub fn rewrite_channel(frames: &mut [u8], ranges: &[Range<usize>], channel: u8) {
        for range in ranges {
            if let Some(byte) = range.start.checked_sub(INTERLEAVED_LEN - 1).and_then(|at| frames.get_mut(at))
            {
                *byte = channel;
            }
        }
    }

    fn packet_mut(&mut self, index: usize) -> &mut [u8] {
        let range = self.ranges.get(index).cloned().unwrap_or_default();
        self.buffer.get_mut(range).unwrap_or_default()
    }
}

/// Why a unit was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It cannot be read, the next one may be.
    #[error("a damaged unit")]
    Damaged,
    /// RFC 2435 carries baseline files only.
    #[error("RTP carries no progressive JPEG")]
    JpegIsProgressive,
    /// RFC 2435 carries baseline files with 8 bits only.
    #[error("RTP carries baseline JPEG with 8 bits only")]
    JpegIsNotBaseline,
    /// RFC 2435 has types for 4:2:0 and 4:2:2 only.
    #[error("RTP carries JPEG sampled 4:2:0 (2x2 1x1 1x1) or 4:2:2 (2x1 1x1 1x1) only")]
    JpegSampling,
    /// One scan holds all components.
    #[error("RTP carries JPEG with all components in one scan only")]
    JpegScans,
}

impl Refused {
    /// Whether the units that follow will be refused as well.
    pub fn is_lasting(self) -> bool {
        self != Self::Damaged
    }
}

/// Writes packets with running sequence numbers.
#[derive(Debug)]
struct Writer<'a> {
    out: &'a mut Packets,
    payload_type: u8,
    ssrc: u32,
    sequence: &'a mut u16,
    timestamp: u32,
    max_payload: usize,
}

impl Writer<'_> {
    /// Writes one packet whose payload is `parts` in turn; together they are at most `max_payload`.
    fn packet(&mut self, marker: bool, parts: &[&[u8]]) {
        self.packet_at(marker, self.timestamp, None, parts);
    }

    fn packet_at(&mut self, marker: bool, timestamp: u32, extension: Option<(u16, &[u8])>, parts: &[&[u8]]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let extension_len = extension.map_or(0, |(_, data)| 4 + data.len());
        let total = HEADER_LEN + extension_len + len;
        let Packets { buffer, ranges, channel, octets } = &mut *self.out;
        buffer.reserve(INTERLEAVED_LEN + total);
        buffer.put_u8(b'$');
        buffer.put_u8(*channel);
        buffer.put_u16(u16::try_from(total).unwrap_or(u16::MAX));
        let start = buffer.len();
        let header = Header {
            marker,
            payload_type: self.payload_type,
            sequence: *self.sequence,
            timestamp,
            ssrc: self.ssrc,
        };
        header.write(if extension.is_some() { 0x90 } else { 0x80 }, buffer);
        if let Some((profile, data)) = extension {
            buffer.put_u16(profile);
            buffer.put_u16((data.len() / 4) as u16);
            buffer.put_slice(data);
        }
        for part in parts {
            buffer.put_slice(part);
        }
        ranges.push(start..buffer.len());
        *octets += len as u64;
        *self.sequence = self.sequence.wrapping_add(1);
    }
}

/// The clock rate of a track's RTP timestamps: 90000 for video and MPEG audio, 48000 for Opus, the samples' rate for
/// samples (8000 for G.722) and AAC (RFC 3640, 4.1), else that of the track.
pub fn clock_rate(parameters: &Parameters) -> u32 {
    match parameters.codec {
        Codec::Opus => 48_000,
        Codec::Mp2 | Codec::Mp3 => 90_000,
        Codec::AdpcmG722 => 8000,
        Codec::Aac
        | Codec::PcmAlaw
        | Codec::PcmMulaw
        | Codec::PcmS16be
        | Codec::PcmS16le
        | Codec::PcmS24be
        | Codec::PcmU8
            if parameters.sample_rate > 0 =>
        {
            parameters.sample_rate
        }
        codec if codec.kind() == Kind::Video => 90_000,
        _ => parameters.clock_rate,
    }
}

/// Packetizes one track for one packet size. `timestamp = timestamp base + pts`, modulo 2^32, where the `pts` is in ticks
/// of [`clock_rate`].
#[derive(Debug, Clone)]
pub struct Packetizer {
    codec: Codec,
    /// Of the track and of RTP.
    clock_rates: (u32, u32),
    channels: usize,
    payload_type: u8,
    ssrc: u32,
    sequence: u16,
    timestamp_base: u32,
    max_payload: usize,
    sets: ParameterSets,
    is_first: bool,
    refused: Option<Refused>,
}

impl Packetizer {
    /// A packetizer for the track with `parameters`. `max_payload` is the largest RTP payload in bytes, kept within
    /// [`PAYLOAD_LIMITS`].
    pub fn new(
        parameters: &Parameters,
        payload_type: u8,
        ssrc: u32,
        first_sequence: u16,
        timestamp_base: u32,
        max_payload: usize,
    ) -> Result<Self, Unsupported> {
        if !is_supported(parameters.codec) {
            return Err(Unsupported { encoding: parameters.codec.name().to_owned() });
        }
        Ok(Self {
            codec: parameters.codec,
            clock_rates: (parameters.clock_rate.max(1), clock_rate(parameters)),
            channels: usize::from(parameters.channels.max(1)),
            payload_type: payload_type & 0x7f,
            ssrc,
            sequence: first_sequence,
            timestamp_base,
            max_payload: max_payload.clamp(*PAYLOAD_LIMITS.start(), *PAYLOAD_LIMITS.end()),
            sets: ParameterSets::default(),
            is_first: true,
            refused: None,
        })
    }

    /// The sequence number of the next packet.
    pub fn next_sequence(&self) -> u16 {
        self.sequence
    }

    /// The RTP time of a presentation time.
    pub fn timestamp(&self, pts: i64) -> u32 {
        let (track, rtp) = self.clock_rates;
        let ticks = match track == rtp {
            true => pts as u32,
            false => (i128::from(pts) * i128::from(rtp)).div_euclid(i128::from(track)) as u32,
        };
        self.timestamp_base.wrapping_add(ticks)
    }

    /// Why the last unit was not sent.
    pub fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// The source identifier.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Appends the packets of `unit`. With `parameter_sets`, the configuration that a key unit needs, its parameter sets
    /// go before it (S42). Gives the number of packets: 0 for a unit that cannot be sent, see [`Self::refused`].
    pub fn packetize(
        &mut self,
        unit: &Unit,
        parameter_sets: Option<&Parameters>,
        out: &mut Packets,
    ) -> usize {
        let timestamp = self.timestamp(unit.pts);
        self.packetize_at(unit, timestamp, parameter_sets, out)
    }

    fn packetize_at(
        &mut self,
        unit: &Unit,
        timestamp: u32,
        parameter_sets: Option<&Parameters>,
        out: &mut Packets,
    ) -> usize {
        let before = out.len();
        let packets = unit.data.len() / self.max_payload + 2;
        out.buffer.reserve(unit.data.len() + packets * (HEADER_LEN + INTERLEAVED_LEN + 4));
        let mut writer = Writer {
            out,
            payload_type: self.payload_type,
            ssrc: self.ssrc,
            sequence: &mut self.sequence,
            timestamp,
            max_payload: self.max_payload,
        };
        match self.codec {
            Codec::H264 => {
                if let Some(parameters) = parameter_sets {
                    h264::write_sets(self.sets.of(parameters), &mut writer);
                }
                h264::write(&unit.data, &mut writer);
            }
            Codec::Hevc => {
                if let Some(parameters) = parameter_sets {
                    h265::write_sets(self.sets.of(parameters), &mut writer);
                }
                h265::write(&unit.data, &mut writer);
            }
            Codec::Av1 => {
                let record = parameter_sets.map(|parameters| &*parameters.extradata);
                av1::write(&unit.data, unit.key, record, &mut writer);
            }
            Codec::Vp8 => pictures::vp8(&unit.data, &mut writer),
            Codec::Vp9 => pictures::vp9(&unit.data, &mut writer),
            Codec::Mpeg4 => pictures::mpeg4(&unit.data, &mut writer),
            Codec::Mjpeg => self.refused = jpeg::write(&unit.data, &mut writer).err(),
            Codec::Aac => audio::aac(&unit.data, &mut writer),
            Codec::Opus => audio::opus(&unit.data, self.is_first, &mut writer),
            Codec::Mp2 | Codec::Mp3 => audio::mpa(&unit.data, &mut writer),
            Codec::PcmS16le => {
                let swapped = patchbay_media::pcm::swap_bytes(&unit.data);
                audio::samples(&swapped, 2 * self.channels, self.is_first, &mut writer);
            }
            Codec::PcmS16be => audio::samples(&unit.data, 2 * self.channels, self.is_first, &mut writer),
            Codec::PcmS24be => audio::samples(&unit.data, 3 * self.channels, self.is_first, &mut writer),
            _ => audio::samples(&unit.data, self.channels, self.is_first, &mut writer),
        }
        self.is_first = false;
        out.len() - before
    }
}

/// Whether units of the codec can be sent over RTP.
pub fn is_supported(codec: Codec) -> bool {
    use Codec::{
        Aac, AdpcmG722, Av1, H264, Hevc, Mjpeg, Mp2, Mp3, Mpeg4, Opus, PcmAlaw, PcmMulaw, PcmS16be, PcmS16le,
        PcmS24be, PcmU8, Vp8, Vp9,
    };
    matches!(
        codec,
        H264 | Hevc
            | Av1
            | Vp8
            | Vp9
            | Mpeg4
            | Mjpeg
            | Aac
            | Opus
            | Mp2
            | Mp3
            | PcmAlaw
            | PcmMulaw
            | PcmS16be
            | PcmS16le
            | PcmS24be
            | PcmU8
            | AdpcmG722
    )
}
