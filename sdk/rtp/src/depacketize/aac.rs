//! AAC in generic MPEG-4 (RFC 3640): several frames in a packet, a frame in several packets, and ADTS where it should
//! not be (R40 to R45).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_media::Parameters;
use patchbay_media::aac::{AudioSpecificConfig, adts};
use patchbay_media::bits::BitReader;

use super::{Frame, Malformed};
use crate::RtpPacket;
use crate::sdp::Media;

/// Largest frame, in bytes.
pub(super) const MAX_FRAME_LEN: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Aac {
    layout: Layout,
    parameters: Parameters,
    timing: FrameTiming,
    fragment: Option<Fragment>,
}

/// Bits of the fields of an AU header (RFC 3640 section 4.1).
#[derive(Debug, Clone, Copy)]
struct Layout {
    size: u32,
    index: u32,
    index_delta: u32,
    /// Size of every frame when the headers carry none.
    constant_size: usize,
}

/// Ticks of one frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameTiming {
    pub(super) ticks: u32,
    /// The ticks are exact, so that small deviations are jitter.
    pub(super) exact: bool,
}

impl FrameTiming {
    /// Frames of `config` on a clock that may be another than the sample rate (C46, R41).
    pub(super) fn of(config: &AudioSpecificConfig, clock_rate: u32) -> Self {
        let rate = u64::from(config.sample_rate.max(1));
        let samples = u64::from(config.frame_length) * u64::from(clock_rate);
        let ticks = u32::try_from((samples + rate / 2) / rate).unwrap_or(0);
        Self { ticks, exact: samples.is_multiple_of(rate) }
    }
}

/// A frame over several packets.
#[derive(Debug)]
struct Fragment {
    timestamp: u32,
    size: usize,
    data: BytesMut,
}

impl Aac {
    pub(super) fn new(media: &Media, parameters: &Parameters) -> Self {
        let config = AudioSpecificConfig::parse(&parameters.extradata)
            .unwrap_or_else(|_| AudioSpecificConfig::lc(parameters.clock_rate, parameters.channels));
        Self {
            layout: Layout::of(media),
            timing: FrameTiming::of(&config, parameters.clock_rate),
            parameters: parameters.clone(),
            fragment: None,
        }
    }

    pub(super) fn lost(&mut self) {
        self.fragment = None;
    }

    pub(super) fn push(
        &mut self,
        packet: &RtpPacket,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        // A length of AU headers that looks like this would be over 8000 bytes.
        if is_adts(&packet.payload) {
            return self.adts_frames(packet, arrival, out);
        }
        let (sizes, data) = self.layout.headers(&packet.payload).ok_or(Malformed)?;
        if let [size] = *sizes
            && (size > data.len() || self.fragment.is_some())
        {
            return self.fragment(packet, size, &data, arrival, out);
        }
        self.fragment = None;
        let mut rest = data;
        let mut offset = 0u32;
        for size in sizes {
            if size > rest.len() {
                return Err(Malformed);
            }
            let frame = rest.split_to(size);
            if !frame.is_empty() {
                self.emit(packet.timestamp.wrapping_add(offset), frame, arrival, out);
            }
            offset = offset.wrapping_add(self.timing.ticks);
        }
        Ok(())
    }

    /// A part of a frame whose header states the size of the whole (R42).
    fn fragment(
        &mut self,
        packet: &RtpPacket,
        size: usize,
        data: &Bytes,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        if size > MAX_FRAME_LEN {
            self.fragment = None;
            return Err(Malformed);
        }
        let continues =
            self.fragment.as_ref().is_some_and(|f| f.size == size && f.timestamp == packet.timestamp);
        if !continues {
            if size <= data.len() {
                self.fragment = None;
                self.emit(packet.timestamp, data.slice(..size), arrival, out);
                return Ok(());
            }
            self.fragment =
                Some(Fragment { timestamp: packet.timestamp, size, data: BytesMut::with_capacity(size) });
        }
        let Some(fragment) = &mut self.fragment else { return Ok(()) };
        let missing = fragment.size - fragment.data.len();
        fragment.data.extend_from_slice(data.get(..missing).unwrap_or(data));
        if fragment.data.len() == fragment.size
            && let Some(whole) = self.fragment.take()
        {
            self.emit(whole.timestamp, whole.data.freeze(), arrival, out);
        }
        Ok(())
    }

    /// The whole payload is ADTS (R43).
    fn adts_frames(
        &mut self,
        packet: &RtpPacket,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        let mut rest = packet.payload.clone();
        let mut offset = 0u32;
        while let Ok(Some(header)) = adts::parse(&rest) {
            if header.frame_len > rest.len() {
                break;
            }
            let frame = rest.split_to(header.frame_len);
            self.configure(Some(&header.config), out);
            let ticks = self.timing.ticks.saturating_mul(u32::from(header.blocks));
            let payload = frame.slice(header.header_len.min(frame.len())..);
            if !payload.is_empty() {
                self.frame(packet.timestamp.wrapping_add(offset), ticks, payload, arrival, out);
            }
            offset = offset.wrapping_add(ticks);
        }
        if rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    fn emit(&mut self, timestamp: u32, data: Bytes, arrival: Duration, out: &mut Vec<Frame>) {
        // Some put an ADTS header into each frame (R43).
        let header = adts::parse(&data).ok().flatten().filter(|header| header.frame_len == data.len());
        self.configure(header.as_ref().map(|header| &header.config), out);
        let skip = header.map_or(0, |header| header.header_len).min(data.len());
        let data = data.slice(skip..);
        if !data.is_empty() {
            self.frame(timestamp, self.timing.ticks, data, arrival, out);
        }
    }

    fn frame(&mut self, timestamp: u32, ticks: u32, data: Bytes, arrival: Duration, out: &mut Vec<Frame>) {
        out.push(Frame {
            timestamp,
            arrival,
            duration: ticks,
            snap: self.timing.exact,
            incomplete: false,
            picture: None,
            body: super::Body::Data(data),
        });
    }

    /// Without a configuration in the SDP it is that of the ADTS header, else AAC-LC as the `rtpmap` says (R44).
    fn configure(&mut self, found: Option<&AudioSpecificConfig>, out: &mut Vec<Frame>) {
        if !self.parameters.extradata.is_empty() {
            return;
        }
        let assumed = AudioSpecificConfig::lc(self.parameters.clock_rate, self.parameters.channels);
        let config = found.unwrap_or(&assumed);
        let Some(extradata) = config.build() else { return };
        self.timing = FrameTiming::of(config, self.parameters.clock_rate);
        self.parameters.extradata = extradata;
        self.parameters.sample_rate = config.sample_rate;
        self.parameters.channels = config.channels.max(1);
        out.push(Frame::parameters(self.parameters.clone()));
    }
}

impl Layout {
    fn of(media: &Media) -> Self {
        let field = |name: &str| media.fmtp.get(name).and_then(|value| value.parse::<u32>().ok());
        let constant_size = field("constantsize").and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        let bits = |name: &str| field(name).unwrap_or(0).min(32);
        let is_low_bitrate = media.fmtp.get("mode").is_some_and(|mode| mode.eq_ignore_ascii_case("AAC-lbr"));
        match field("sizelength") {
            Some(size) => Self {
                size: size.min(32),
                index: bits("indexlength"),
                index_delta: bits("indexdeltalength"),
                constant_size,
            },
            None if constant_size > 0 => Self {
                size: 0,
                index: bits("indexlength"),
                index_delta: bits("indexdeltalength"),
                constant_size,
            },
            None if is_low_bitrate => Self { size: 6, index: 2, index_delta: 2, constant_size },
            None => Self { size: 13, index: 3, index_delta: 3, constant_size },
        }
    }

    /// The sizes of the frames and the bytes behind the headers (RFC 3640 section 3.2.1).
    fn headers(&self, payload: &Bytes) -> Option<(Vec<usize>, Bytes)> {
        if self.size + self.index == 0 {
            let count = payload.len().checked_div(self.constant_size)?;
            return Some((vec![self.constant_size; count], payload.clone()));
        }
        let (bits, rest) = payload.split_first_chunk::<2>()?;
        let bits = usize::from(u16::from_be_bytes(*bits));
        let (headers, data) = rest.split_at_checked(bits.div_ceil(8))?;
        let mut reader = BitReader::new(headers);
        let mut sizes = Vec::new();
        loop {
            let index = if sizes.is_empty() { self.index } else { self.index_delta };
            let width = usize::try_from(self.size + index).ok()?;
            if width == 0 || reader.position() + width > bits {
                break;
            }
            let size = match self.size {
                0 => self.constant_size,
                width => usize::try_from(reader.bits(width)?).ok()?,
            };
            reader.bits(index)?;
            sizes.push(size);
        }
        Some((sizes, payload.slice_ref(data)))
    }
}

/// Whether ADTS frames fill the payload from its start.
fn is_adts(payload: &[u8]) -> bool {
    let Ok(Some(header)) = adts::parse(payload) else { return false };
    let behind = payload.get(header.frame_len..);
    behind.is_some_and(|behind| behind.is_empty() || matches!(adts::parse(behind), Ok(Some(_))))
}
