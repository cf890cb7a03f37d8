//! One elementary stream: PES packets to units.

use std::collections::VecDeque;

use bytes::Bytes;
use patchbay_media::aac::latm;
use patchbay_media::access_unit::AccessUnit;
use patchbay_media::assembler::Flags;
use patchbay_media::{AccessUnitSplitter, Assembler, Codec, Kind, Parameters, Unit, annexb};

use super::CLOCK_RATE;
use super::frames::{Framer, Framing};
use super::packet::Packet;
use super::pes::{self, Parsed};
use super::psi;
use crate::lineup::Output;
use crate::timeline::rescale;

/// Most times of PES packets that wait for a frame to begin.
const MAX_MARKS: usize = 16;

/// Payload of a packet without other fields.
const WHOLE_PAYLOAD: usize = 184;

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Video(Codec),
    Adts,
    Loas,
    MpegAudio,
    /// Channels, 0 unknown.
    Opus(u8),
    Pcm(Codec),
}

impl Content {
    /// By stream type and descriptors; `None` when this server has no use for it.
    pub(super) fn of(stream: &psi::Stream, private_pcm: bool) -> Option<Self> {
        match (stream.stream_type, stream.registration()) {
            (0x1b, _) => Some(Self::Video(Codec::H264)),
            (0x24, _) | (0x06, Some(b"HEVC")) => Some(Self::Video(Codec::Hevc)),
            (0x0f, _) => Some(Self::Adts),
            (0x11, _) => Some(Self::Loas),
            (0x03 | 0x04, _) => Some(Self::MpegAudio),
            (0x06, Some(b"Opus")) => {
                // 0: dual mono; 1 to 8 channels; more is not for us to know.
                let code = stream.descriptor(0x7f).and_then(|d| match d {
                    [0x80, code, ..] => Some(*code),
                    _ => None,
                });
                Some(Self::Opus(code.map_or(0, |code| if code == 0 { 2 } else { code.min(8) })))
            }
            (0x90, None) if private_pcm => Some(Self::Pcm(Codec::PcmAlaw)),
            (0x91, None) if private_pcm => Some(Self::Pcm(Codec::PcmMulaw)),
            _ => None,
        }
    }

    pub(super) fn kind(self) -> Kind {
        if matches!(self, Self::Video(_)) { Kind::Video } else { Kind::Audio }
    }
}

/// The elementary stream of one PID.
#[derive(Debug)]
pub(super) struct Stream {
    pub pid: u16,
    pub content: Content,
    continuity: Option<u8>,
    /// The header of the PES packet, while it is not whole.
    header: Option<Vec<u8>>,
    /// Payload bytes of the PES packet to come; `None`: until the next one starts, or not within one.
    left: Option<usize>,
    within: bool,
    /// Of the newest packet.
    last_payload: Bytes,
    /// Bytes were lost: the next unit says so.
    gap: bool,
    decoder: Decoder,
}

#[derive(Debug)]
enum Decoder {
    Video(Box<Video>),
    Audio(Box<Audio>),
}

#[derive(Debug)]
struct Video {
    nals: annexb::Splitter,
    units: AccessUnitSplitter,
    assembler: Assembler,
    /// Times of the access unit that is gathered.
    times: Option<(i64, Option<i64>)>,
    last: Option<(i64, i64)>,
    /// Distance of pictures, for those without times.
    step: i64,
    /// Some picture had a decoding time of its own: the others' is their presentation time.
    states_dts: bool,
    /// A picture was lost: those that refer to it are dropped.
    wait_for_key: bool,
    known: bool,
    /// Every packet had a time so far, so each holds whole pictures.
    times_always: bool,
}

#[derive(Debug)]
struct Audio {
    framer: Framer,
    /// Places in the stream and the times of frames that begin there or behind.
    marks: VecDeque<(u64, i64)>,
    /// Time of the last mark and samples since, at a rate.
    clock: Option<(i64, u64)>,
    announced: Option<Parameters>,
}

impl Stream {
    pub(super) fn new(pid: u16, content: Content) -> Self {
        let framing = match content {
            Content::Video(_) | Content::Adts => Framing::Adts,
            Content::Loas => Framing::Loas(latm::Demuxer::new()),
            Content::MpegAudio => Framing::Mpeg,
            Content::Opus(_) => Framing::Opus,
            Content::Pcm(codec) => Framing::Pcm(codec),
        };
        let channels = if let Content::Opus(channels) = content { channels } else { 0 };
        let decoder = match content {
            Content::Video(codec) => Decoder::Video(Box::new(Video {
                nals: annexb::Splitter::new(),
                units: AccessUnitSplitter::new(codec),
                assembler: Assembler::new(codec, CLOCK_RATE, &[]),
                times: None,
                last: None,
                step: i64::from(CLOCK_RATE / 25),
                states_dts: false,
                wait_for_key: true,
                known: false,
                times_always: true,
            })),
            _ => Decoder::Audio(Box::new(Audio {
                framer: Framer::new(framing, channels),
                marks: VecDeque::new(),
                clock: None,
                announced: None,
            })),
        };
        Self {
            pid,
            content,
            continuity: None,
            header: None,
            left: None,
            within: false,
            last_payload: Bytes::new(),
            gap: false,
            decoder,
        }
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        match &self.decoder {
            Decoder::Video(_) => 0,
            Decoder::Audio(audio) => audio.framer.len(),
        }
    }

    /// Takes a packet of this stream.
    pub(super) fn packet(&mut self, packet: &Packet, clock: &mut pes::Unwrapper, out: &mut Vec<Output>) {
        if packet.unusable {
            return self.lose();
        }
        let Some(payload) = &packet.payload else {
            if packet.discontinuity {
                self.continuity = None;
            }
            return;
        };
        match self.continuity.replace(packet.continuity) {
            // Sent twice.
            Some(last) if last == packet.continuity && self.last_payload == *payload => return,
            Some(last) if last.wrapping_add(1) & 0x0f != packet.continuity && !packet.discontinuity => {
                // The last packet of a PES packet is filled up, unless it happens to fit: what was lost lies behind it.
                if packet.starts && self.last_payload.len() < WHOLE_PAYLOAD {
                    self.end(out);
                }
                self.lose();
            }
            _ => {}
        }
        self.last_payload = payload.clone();
        if packet.starts {
            self.finish_pes(out);
            self.header = Some(Vec::new());
            self.within = true;
        }
        if !self.within {
            return;
        }
        let Some(mut header) = self.header.take() else { return self.payload(payload, out) };
        header.extend_from_slice(payload);
        match pes::parse(&header) {
            Parsed::More => self.header = Some(header),
            Parsed::Bad => self.within = false,
            Parsed::Header(parsed) => {
                self.left = parsed.payload;
                let pts = parsed.pts.map(|time| clock.unwrap(time));
                let dts = parsed.dts.map(|time| clock.unwrap(time));
                self.begin_pes(pts, dts, out);
                let payload = header.get(parsed.size..).map(Bytes::copy_from_slice).unwrap_or_default();
                self.payload(&payload, out);
            }
        }
    }

    /// The stream ends.
    pub(super) fn end(&mut self, out: &mut Vec<Output>) {
        self.finish_pes(out);
        match &mut self.decoder {
            Decoder::Video(video) => video.finish(&mut self.gap, out),
            Decoder::Audio(audio) => audio.drain(true, true, &mut self.gap, out),
        }
    }

    /// Drops what is not whole.
    fn lose(&mut self) {
        self.within = false;
        self.header = None;
        self.gap = true;
        match &mut self.decoder {
            Decoder::Video(video) => video.lose(),
            Decoder::Audio(audio) => {
                audio.framer.lost();
                audio.marks.clear();
            }
        }
    }

    fn payload(&mut self, payload: &Bytes, out: &mut Vec<Output>) {
        let mut data: &[u8] = payload;
        let mut whole = false;
        if let Some(left) = &mut self.left {
            data = data.get(..*left).unwrap_or(data);
            *left -= data.len();
            whole = *left == 0;
        }
        match &mut self.decoder {
            Decoder::Video(video) => video.push(data, &mut self.gap, out),
            Decoder::Audio(audio) => {
                audio.framer.push(data);
                audio.drain(whole, false, &mut self.gap, out);
            }
        }
        if whole {
            self.within = false;
            self.left = None;
            // One picture per packet is the rule; where the next packet goes on without a time, it is not over.
            if let Decoder::Video(video) = &mut self.decoder
                && video.times_always
            {
                video.finish(&mut self.gap, out);
            }
        }
    }

    fn begin_pes(&mut self, pts: Option<i64>, dts: Option<i64>, out: &mut Vec<Output>) {
        match &mut self.decoder {
            Decoder::Video(video) => {
                video.times_always &= pts.is_some();
                if let Some(pts) = pts {
                    // A packet with a time begins an access unit.
                    video.finish(&mut self.gap, out);
                    video.states_dts |= dts.is_some();
                    video.times = Some((pts, dts));
                }
            }
            Decoder::Audio(audio) => {
                if let Some(pts) = pts {
                    if audio.marks.len() >= MAX_MARKS {
                        audio.marks.pop_front();
                    }
                    audio.marks.push_back((audio.framer.end(), pts));
                }
            }
        }
    }

    /// The PES packet ends because another starts.
    fn finish_pes(&mut self, out: &mut Vec<Output>) {
        if let (true, Decoder::Audio(audio)) = (self.within, &mut self.decoder) {
            audio.drain(true, false, &mut self.gap, out);
        }
        self.within = false;
        self.left = None;
    }
}

impl Video {
    fn lose(&mut self) {
        self.nals = annexb::Splitter::new();
        self.units = AccessUnitSplitter::new(self.assembler.parameters().codec);
        self.times = None;
        self.wait_for_key = true;
    }

    fn push(&mut self, data: &[u8], gap: &mut bool, out: &mut Vec<Output>) {
        let mut done = Vec::new();
        let units = &mut self.units;
        self.nals.push(data, |nal| done.extend(units.push(nal)));
        for unit in done {
            self.access_unit(&unit, gap, out);
        }
    }

    /// The access unit that is gathered is whole.
    fn finish(&mut self, gap: &mut bool, out: &mut Vec<Output>) {
        let mut done = Vec::new();
        let units = &mut self.units;
        self.nals.flush(|nal| done.extend(units.push(nal)));
        if self.units.has_picture() {
            done.extend(self.units.flush());
        }
        for unit in done {
            self.access_unit(&unit, gap, out);
        }
    }

    fn access_unit(&mut self, unit: &AccessUnit, gap: &mut bool, out: &mut Vec<Output>) {
        let (pts, dts) = match (self.times.take(), self.last) {
            (Some((pts, dts)), _) => (pts, dts.or(self.states_dts.then_some(pts))),
            // A second picture in the packet, or a packet without times.
            (None, Some((pts, dts))) => (pts + self.step, self.states_dts.then_some(dts + self.step)),
            (None, None) => return,
        };
        let flags = Flags { incomplete: unit.cut, ..Flags::default() };
        let assembled = self.assembler.push_access_unit(pts, dts, unit.nals.iter().map(AsRef::as_ref), flags);
        if let Some(parameters) = assembled.new_parameters {
            self.known = true;
            out.push(Output::Parameters(parameters));
        }
        let Some(mut unit) = assembled.unit else { return };
        if let Some((_, last)) = self.last {
            let step = unit.dts - last;
            if (1..=i64::from(CLOCK_RATE)).contains(&step) {
                self.step = step;
            }
        }
        self.last = Some((unit.pts, unit.dts));
        self.wait_for_key &= !unit.key;
        if self.wait_for_key || !self.known {
            *gap |= self.known;
            return;
        }
        unit.discontinuity |= std::mem::take(gap);
        out.push(Output::Unit(unit));
    }
}

impl Audio {
    fn drain(&mut self, end: bool, last: bool, gap: &mut bool, out: &mut Vec<Output>) {
        for frame in self.framer.frames(end, last) {
            // The time of a packet is that of the first frame that begins in it.
            while let Some((_, time)) = self.marks.pop_front_if(|(at, _)| *at <= frame.at) {
                self.clock = Some((time, 0));
            }
            let Some((time, samples)) = &mut self.clock else { continue };
            let ticks = |samples: u64| {
                rescale(i64::try_from(samples).unwrap_or(0), frame.sample_rate.max(1), CLOCK_RATE)
            };
            let pts = time.saturating_add(ticks(*samples));
            *samples += u64::from(frame.samples);
            if self.framer.parameters != self.announced
                && let Some(parameters) = self.framer.parameters.clone()
            {
                self.announced = Some(parameters.clone());
                out.push(Output::Parameters(parameters));
            }
            if self.announced.is_none() {
                continue;
            }
            let mut unit = Unit::new(pts, true, frame.data);
            unit.duration = u32::try_from(ticks(u64::from(frame.samples))).unwrap_or(0);
            unit.discontinuity = std::mem::take(gap);
            out.push(Output::Unit(unit));
        }
    }
}
