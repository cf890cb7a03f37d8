//! Sound in bare frames, one behind the other: what every such format has in common.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use patchbay_media::{Parameters, Unit};

use super::{Container, Event, Piece, SampleClock};
use crate::error::Error;

/// Bytes in which the first frame must come: a tag with a picture may stand before it.
const PROBE_BYTES: u64 = 1 << 20;

/// Finds the frames of one format.
pub trait FrameParser: Default + Send {
    /// Name of the format, for errors.
    const FORMAT: &'static str;
    /// What makes a frame another kind of sound than the one before.
    type Kind: Copy + PartialEq + fmt::Debug + Send;

    /// Takes bytes that came at `at` and hands over the frames that are whole.
    fn push(&mut self, data: &[u8], at: Duration, frames: &mut Frames<Self::Kind>);
    /// Nothing follows: hands over what is whole by that.
    fn end(&mut self, frames: &mut Frames<Self::Kind>);
}

/// A reader of a stream of frames: one track, whose times are counted in samples.
///
/// The first frame's sample rate is the clock of the whole stream, also when a later frame has another rate.
#[derive(Debug)]
pub struct FrameReader<P: FrameParser> {
    parser: P,
    frames: Frames<P::Kind>,
}

/// Where a [`FrameParser`] puts what it finds.
#[derive(Debug)]
pub struct Frames<K> {
    live: bool,
    known: Option<K>,
    clock: SampleClock,
    clock_rate: u32,
    /// Bytes so far, without tags.
    received: u64,
    /// Something was left out before the next frame.
    lost: bool,
    done: bool,
    events: VecDeque<Event>,
}

impl<P: FrameParser> FrameReader<P> {
    /// A reader that looks for its first frame; `live`: bytes come as they are made.
    pub fn new(live: bool) -> Self {
        let frames = Frames {
            live,
            known: None,
            clock: SampleClock::new(1, live),
            clock_rate: 0,
            received: 0,
            lost: false,
            done: false,
            events: VecDeque::new(),
        };
        Self { parser: P::default(), frames }
    }

    fn fail(&mut self, why: &str) {
        let error = Error::protocol(format!("{}: {why}", P::FORMAT));
        self.frames.events.push_back(Event::Error(error));
        self.frames.done = true;
    }
}

impl<K: Copy + PartialEq> Frames<K> {
    /// Whether a frame has come.
    pub fn has_begun(&self) -> bool {
        self.known.is_some()
    }

    /// So many bytes of a tag do not count in the search for the first frame.
    pub fn skip_tag(&mut self, bytes: usize) {
        self.received = self.received.saturating_sub(bytes as u64);
    }

    /// Something is left out before the next frame.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// The next frame is of this kind; `parameters`, without a clock rate, are asked for when the one before was of another. Without
    /// them the frame is left out, and this is false.
    pub fn is_of(
        &mut self,
        kind: K,
        sample_rate: u32,
        parameters: impl FnOnce() -> Option<Parameters>,
    ) -> bool {
        if self.known == Some(kind) {
            return true;
        }
        let Some(mut parameters) = parameters() else {
            self.lost = true;
            return false;
        };
        if self.known.is_none() {
            self.clock_rate = sample_rate;
            self.clock = SampleClock::new(sample_rate, self.live);
        }
        parameters.clock_rate = self.clock_rate;
        self.events.push_back(match self.known {
            Some(_) => Event::TrackChanged { track: 0, parameters },
            None => Event::Tracks(vec![parameters]),
        });
        self.known = Some(kind);
        true
    }

    /// A frame of so many samples that came at `at`; `None`: it cannot be passed on, but its time has gone by.
    pub fn push(&mut self, at: Duration, samples: u64, sample_rate: u32, data: Option<Bytes>) {
        let ticks = samples * u64::from(self.clock_rate) / u64::from(sample_rate.max(1));
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX).max(1);
        let (pts, gap) = self.clock.next(at, ticks);
        let Some(data) = data else {
            self.lost = true;
            return;
        };
        let mut unit = Unit::new(pts, true, data);
        unit.duration = ticks;
        unit.discontinuity = gap || std::mem::take(&mut self.lost);
        self.events.push_back(Event::Unit { track: 0, unit });
    }
}

impl<P: FrameParser> Container for FrameReader<P> {
    fn push(&mut self, piece: Piece) {
        if self.frames.done {
            return;
        }
        self.frames.received += piece.data.len() as u64;
        self.parser.push(&piece.data, piece.at, &mut self.frames);
        if !self.frames.has_begun() && self.frames.received > PROBE_BYTES {
            self.fail("no frame in the first MiB");
        }
    }

    fn end(&mut self) {
        if self.frames.done {
            return;
        }
        self.parser.end(&mut self.frames);
        if !self.frames.has_begun() {
            self.fail("the bytes end before the first frame");
        }
        self.frames.done = true;
    }

    fn poll(&mut self) -> Event {
        let quiet = if self.frames.done { Event::End } else { Event::NeedData };
        self.frames.events.pop_front().unwrap_or(quiet)
    }
}
