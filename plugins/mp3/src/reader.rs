//! Frames of MPEG audio become units. ISO/IEC 11172-3 2.4.1, ISO/IEC 13818-3.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use patchbay_sdk::Error;
use patchbay_sdk::demuxer::{Container, Event, Piece, SampleClock};
use patchbay_sdk::media::mpa::Header;
use patchbay_sdk::media::{Codec, Parameters, Unit};

/// Bytes in which the first frame must come, behind the tag.
const PROBE_BYTES: u64 = 1 << 20;

/// Bytes of an ID3v2 tag's header.
const TAG_HEADER: usize = 10;

/// Reads a stream of frames.
///
/// The first frame's sample rate is the clock of the whole stream, also when a later frame has another rate.
#[derive(Debug)]
pub struct Reader {
    live: bool,
    buffer: BytesMut,
    /// Bytes of a tag that are still to come.
    tag: usize,
    /// The last frame ended where the buffer begins, so another one must begin there.
    locked: bool,
    /// Here a tag may begin: at the start, behind a tag, behind a frame. Elsewhere it would depend on how the bytes are cut.
    is_seam: bool,
    /// Layer, rate and channels of the last frame.
    known: Option<(u8, u32, u8)>,
    clock: SampleClock,
    clock_rate: u32,
    /// Bytes so far, without tags.
    received: u64,
    /// Bytes were left out before the next frame.
    lost: bool,
    done: bool,
    events: VecDeque<Event>,
}

impl Reader {
    /// A reader that looks for its first frame.
    pub fn new(live: bool) -> Self {
        Self {
            live,
            buffer: BytesMut::new(),
            tag: 0,
            locked: false,
            is_seam: true,
            known: None,
            clock: SampleClock::new(1, live),
            clock_rate: 0,
            received: 0,
            lost: false,
            done: false,
            events: VecDeque::new(),
        }
    }

    /// Takes what is whole; `last`: nothing follows.
    fn read(&mut self, at: Duration, last: bool) {
        loop {
            let skipped = self.tag.min(self.buffer.len());
            self.buffer.advance(skipped);
            self.tag -= skipped;
            self.received = self.received.saturating_sub(skipped as u64);
            let step = self.step(last);
            match step {
                Step::Tag(size) => (self.tag, self.locked) = (size, false),
                Step::Skip(bytes) => {
                    self.buffer.advance(bytes.min(self.buffer.len()));
                    self.lost |= self.known.is_some();
                    (self.locked, self.is_seam) = (false, false);
                }
                Step::Frame(header) => {
                    self.frame(header, at);
                    (self.locked, self.is_seam) = (true, true);
                }
                Step::More => return,
            }
        }
    }

    fn step(&self, last: bool) -> Step {
        let data: &[u8] = &self.buffer;
        if self.is_seam && b"ID3".starts_with(data.get(..3).unwrap_or(data)) && !data.is_empty() {
            return match tag_size(data) {
                Some(size) => Step::Tag(size),
                None if last || data.len() >= TAG_HEADER => Step::Skip(1),
                None => Step::More,
            };
        }
        let Some(header) = Header::parse(data) else {
            return if data.len() < Header::LEN && !last { Step::More } else { next_start(data) };
        };
        if data.len() < header.len {
            return if last { next_start(data) } else { Step::More };
        }
        let behind = data.get(header.len..).unwrap_or_default();
        let is_followed = match Header::parse(behind) {
            // Sound of one kind, or it was no header.
            Some(next) => (next.layer, next.sample_rate) == (header.layer, header.sample_rate),
            None if behind.len() < Header::LEN && last => true,
            None if behind.len() < Header::LEN && !self.locked => return Step::More,
            None => false,
        };
        if self.locked || is_followed { Step::Frame(header) } else { next_start(data) }
    }

    fn frame(&mut self, header: Header, at: Duration) {
        let now = (header.layer, header.sample_rate, header.channels);
        if self.known.is_none() {
            self.clock_rate = header.sample_rate;
            self.clock = SampleClock::new(header.sample_rate, self.live);
        }
        if self.known != Some(now) {
            let codec = if header.layer == 3 { Codec::Mp3 } else { Codec::Mp2 };
            let mut parameters = Parameters::audio(codec, header.sample_rate, header.channels);
            parameters.clock_rate = self.clock_rate;
            self.events.push_back(match self.known {
                Some(_) => Event::TrackChanged { track: 0, parameters },
                None => Event::Tracks(vec![parameters]),
            });
            self.known = Some(now);
        }
        let ticks =
            u64::from(header.samples) * u64::from(self.clock_rate) / u64::from(header.sample_rate.max(1));
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX).max(1);
        let (pts, gap) = self.clock.next(at, ticks);
        let mut unit = Unit::new(pts, true, self.buffer.split_to(header.len).freeze());
        unit.duration = ticks;
        unit.discontinuity = gap || std::mem::take(&mut self.lost);
        self.events.push_back(Event::Unit { track: 0, unit });
    }

    fn fail(&mut self, why: &str) {
        self.events.push_back(Event::Error(Error::protocol(format!("mp3: {why}"))));
        self.done = true;
    }
}

enum Step {
    /// A tag of so many bytes.
    Tag(usize),
    /// So many bytes are no frame.
    Skip(usize),
    Frame(Header),
    More,
}

/// Distance to the next byte that may start a frame.
fn next_start(data: &[u8]) -> Step {
    let rest = data.get(1..).unwrap_or_default();
    match (data.is_empty(), rest.iter().position(|byte| *byte == 0xff)) {
        (true, _) => Step::More,
        (_, Some(at)) => Step::Skip(1 + at),
        (_, None) => Step::Skip(data.len()),
    }
}

/// Bytes of the ID3v2 tag that begins here (id3.org, ID3v2.4 3.1): four times seven bits, a header and maybe a footer.
fn tag_size(data: &[u8]) -> Option<usize> {
    let [b'I', b'D', b'3', _, _, flags, size @ ..] = data.first_chunk::<TAG_HEADER>()? else { return None };
    let is_size = size.iter().all(|byte| byte & 0x80 == 0);
    let size = size.iter().fold(0_usize, |size, byte| size << 7 | usize::from(*byte));
    is_size.then_some(size + TAG_HEADER * if flags & 0x10 != 0 { 2 } else { 1 })
}

impl Container for Reader {
    fn push(&mut self, piece: Piece) {
        if self.done {
            return;
        }
        self.buffer.extend_from_slice(&piece.data);
        self.received += piece.data.len() as u64;
        self.read(piece.at, false);
        if self.known.is_none() && self.received > PROBE_BYTES {
            self.fail("no frame in the first MiB");
        }
    }

    fn end(&mut self) {
        if self.done {
            return;
        }
        self.read(Duration::ZERO, true);
        if self.known.is_none() {
            self.fail("the bytes end before the first frame");
        }
        self.done = true;
    }

    fn poll(&mut self) -> Event {
        let quiet = if self.done { Event::End } else { Event::NeedData };
        self.events.pop_front().unwrap_or(quiet)
    }
}
