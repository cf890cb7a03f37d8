//! RIFF WAVE: a few chunks, then samples to the end. Multimedia Programming Interface and Data Specifications 1.0
//! (IBM and Microsoft, 1991), and WAVEFORMATEXTENSIBLE (RFC 2361 names the codes).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use patchbay_sdk::Error;
use patchbay_sdk::demuxer::{Container, Event, Piece, SampleClock};
use patchbay_sdk::media::{Codec, Parameters, Unit};

/// Bytes before the samples that are passed over at most.
const MAX_HEADER: u64 = 1 << 20;
/// Bytes of the `fmt ` chunk that are looked at: WAVEFORMATEXTENSIBLE.
const FORMAT_BYTES: usize = 40;
/// Most channels.
const MAX_CHANNELS: u16 = 8;
/// Highest sample rate.
const MAX_RATE: u32 = 192_000;
/// A second is cut into so many units.
const UNITS_PER_SECOND: u32 = 50;
/// Sizes of the `data` chunk that mean: to the end. Programs that write to a pipe leave one of them.
const ENDLESS: [u32; 3] = [0, u32::MAX, 0x7fff_ffff];

/// Codes of `wFormatTag`.
mod tag {
    pub(super) const PCM: u16 = 1;
    pub(super) const ALAW: u16 = 6;
    pub(super) const MULAW: u16 = 7;
    pub(super) const EXTENSIBLE: u16 = 0xfffe;
}

/// Reads one WAV stream into units of 20 ms.
#[derive(Debug)]
pub struct Reader {
    live: bool,
    buffer: BytesMut,
    state: State,
    passed: u64,
    format: Option<Format>,
    clock: SampleClock,
    events: VecDeque<Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// `RIFF`, its size, `WAVE`.
    Riff,
    /// The next chunk's head.
    Chunk,
    /// In a chunk of which so many bytes are of no use.
    Skip(u64),
    /// In the `fmt ` chunk, of so many bytes.
    Format(u64),
    /// Samples: so many bytes, or to the end.
    Samples(Option<u64>),
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Format {
    codec: Codec,
    channels: u8,
    rate: u32,
    /// Bytes of one sample of all channels.
    block: usize,
}

impl Format {
    /// From the `fmt ` chunk.
    fn parse(chunk: &[u8]) -> Result<Self, Error> {
        let short = || Error::protocol("wav: the format chunk is too short");
        let u16_at = |at: usize| chunk.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes);
        let mut code = u16_at(0).ok_or_else(short)?;
        let channels = u16_at(2).ok_or_else(short)?;
        let rate = chunk.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        let rate = rate.ok_or_else(short)?;
        let bits = u16_at(14).ok_or_else(short)?;
        if code == tag::EXTENSIBLE {
            // The sub-format's GUID begins with the code.
            code = u16_at(24).ok_or_else(short)?;
        }
        let (codec, bytes) = match (code, bits) {
            (tag::PCM, 16) => (Codec::PcmS16le, 2),
            (tag::ALAW, _) => (Codec::PcmAlaw, 1),
            (tag::MULAW, _) => (Codec::PcmMulaw, 1),
            (tag::PCM, bits) => {
                return Err(Error::unsupported(format!("wav: PCM of {bits} bits: 16 are read")));
            }
            (code, _) => return Err(Error::unsupported(format!("wav: unsupported codec: {code}"))),
        };
        if channels == 0 || channels > MAX_CHANNELS || rate == 0 || rate > MAX_RATE {
            return Err(Error::protocol(format!("wav: {channels} channels of {rate} samples a second")));
        }
        let channels = u8::try_from(channels).unwrap_or(1);
        Ok(Self { codec, channels, rate, block: bytes * usize::from(channels) })
    }
}

impl Reader {
    /// A reader at the start of the stream.
    pub fn new(live: bool) -> Self {
        Self {
            live,
            buffer: BytesMut::new(),
            state: State::Riff,
            passed: 0,
            format: None,
            clock: SampleClock::new(1, live),
            events: VecDeque::new(),
        }
    }

    /// A reader of bare samples: `audio/basic`, mu-law, 8 kHz, mono (RFC 2046 4.3).
    pub fn basic(live: bool) -> Self {
        let mut reader = Self::new(live);
        let format = Format { codec: Codec::PcmMulaw, channels: 1, rate: 8000, block: 1 };
        reader.announce(format);
        reader.format = Some(format);
        reader.state = State::Samples(None);
        reader
    }

    fn announce(&mut self, format: Format) {
        let parameters = Parameters::audio(format.codec, format.rate, format.channels);
        self.clock = SampleClock::new(format.rate, self.live);
        self.events.push_back(Event::Tracks(vec![parameters]));
    }

    /// Goes on as far as the bytes reach.
    fn work(&mut self, at: Duration, end: bool) -> Result<(), Error> {
        loop {
            let before = self.buffer.len();
            let next = match self.state {
                State::Riff => self.riff()?,
                State::Chunk => self.chunk()?,
                State::Skip(left) => self.skip(left),
                State::Format(size) => self.read_format(size)?,
                State::Samples(left) => {
                    self.samples(left, at, end);
                    None
                }
                State::Done => None,
            };
            self.passed += (before - self.buffer.len()) as u64;
            let Some(next) = next else { break };
            self.state = next;
        }
        if !matches!(self.state, State::Samples(_) | State::Done) && self.passed > MAX_HEADER {
            return Err(Error::protocol("wav: no samples in the first MiB"));
        }
        Ok(())
    }

    fn riff(&mut self) -> Result<Option<State>, Error> {
        let Some((head, _)) = self.buffer.split_first_chunk::<12>() else { return Ok(None) };
        if !head.starts_with(b"RIFF") || !head.ends_with(b"WAVE") {
            return Err(Error::unsupported("wav: no RIFF WAVE"));
        }
        self.buffer.advance(12);
        Ok(Some(State::Chunk))
    }

    fn chunk(&mut self) -> Result<Option<State>, Error> {
        let Some((head, _)) = self.buffer.split_first_chunk::<8>() else { return Ok(None) };
        let [n0, n1, n2, n3, s0, s1, s2, s3] = *head;
        let size = u32::from_le_bytes([s0, s1, s2, s3]);
        self.buffer.advance(8);
        // A chunk of odd size has a byte of padding.
        let padded = u64::from(size) + u64::from(size & 1);
        Ok(Some(match &[n0, n1, n2, n3] {
            b"fmt " if self.format.is_none() => State::Format(padded),
            b"data" => {
                let Some(format) = self.format else {
                    return Err(Error::protocol("wav: samples before their format"));
                };
                self.announce(format);
                State::Samples((!ENDLESS.contains(&size)).then_some(u64::from(size)))
            }
            _ => State::Skip(padded),
        }))
    }

    fn skip(&mut self, left: u64) -> Option<State> {
        let step = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
        self.buffer.advance(step);
        match left - step as u64 {
            0 => Some(State::Chunk),
            left => {
                self.state = State::Skip(left);
                None
            }
        }
    }

    fn read_format(&mut self, size: u64) -> Result<Option<State>, Error> {
        let wanted = usize::try_from(size).unwrap_or(usize::MAX).min(FORMAT_BYTES);
        let Some(chunk) = self.buffer.get(..wanted) else { return Ok(None) };
        self.format = Some(Format::parse(chunk)?);
        self.buffer.advance(wanted);
        Ok(Some(State::Skip(size - wanted as u64)))
    }

    fn samples(&mut self, left: Option<u64>, at: Duration, end: bool) {
        let Some(format) = self.format else { return };
        let count = (format.rate / UNITS_PER_SECOND).max(1);
        let whole = format.block * count as usize;
        let mut left = left;
        loop {
            let limit = left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
            let there = self.buffer.len().min(limit);
            let last = end || there == limit;
            let bytes = if there >= whole {
                whole
            } else if last {
                there - there % format.block
            } else {
                0
            };
            if bytes == 0 {
                break;
            }
            let samples = u32::try_from(bytes / format.block).unwrap_or(count);
            let (pts, gap) = self.clock.next(at, samples);
            let mut unit = Unit::new(pts, true, self.buffer.split_to(bytes).freeze());
            unit.duration = samples;
            unit.discontinuity = gap;
            self.events.push_back(Event::Unit { track: 0, unit });
            left = left.map(|left| left - bytes as u64);
        }
        let over = left.is_some_and(|left| left < format.block as u64);
        self.state = if over || end { State::Done } else { State::Samples(left) };
        if over {
            self.buffer.clear();
        }
    }

    fn fail(&mut self, error: Error) {
        self.events.push_back(Event::Error(error));
        self.state = State::Done;
        self.buffer.clear();
    }
}

impl Container for Reader {
    fn push(&mut self, piece: Piece) {
        if self.state == State::Done {
            return;
        }
        self.buffer.extend_from_slice(&piece.data);
        if let Err(error) = self.work(piece.at, false) {
            self.fail(error);
        }
    }

    fn end(&mut self) {
        match self.work(Duration::ZERO, true) {
            Ok(()) if self.state != State::Done => {
                self.fail(Error::protocol("wav: the bytes end before the samples"));
            }
            Ok(()) => {}
            Err(error) => self.fail(error),
        }
    }

    fn poll(&mut self) -> Event {
        let quiet = if self.state == State::Done { Event::End } else { Event::NeedData };
        self.events.pop_front().unwrap_or(quiet)
    }
}
