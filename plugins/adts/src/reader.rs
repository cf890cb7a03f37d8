//! ADTS frames become units. ISO/IEC 14496-3 1.A.3.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use patchbay_sdk::Error;
use patchbay_sdk::demuxer::{Container, Event, Piece, SampleClock};
use patchbay_sdk::media::aac::AudioSpecificConfig;
use patchbay_sdk::media::aac::adts::{Header, Splitter};
use patchbay_sdk::media::{Codec, Parameters, Unit};

/// Bytes in which the first frame must come: an ID3 tag with a picture may stand before it.
const PROBE_BYTES: u64 = 1 << 20;

/// Reads a stream of ADTS frames.
///
/// The first frame's sample rate is the clock of the whole stream, also when a later frame has another rate. Frames of
/// several raw data blocks, which nothing is known to write, are left out: where one ends is known to a decoder only.
#[derive(Debug)]
pub struct Reader {
    live: bool,
    splitter: Splitter,
    config: Option<AudioSpecificConfig>,
    clock: SampleClock,
    clock_rate: u32,
    received: u64,
    /// Frames were left out before the next one.
    lost: bool,
    done: bool,
    events: VecDeque<Event>,
}

impl Reader {
    /// A reader that looks for its first frame.
    pub fn new(live: bool) -> Self {
        Self {
            live,
            splitter: Splitter::new(),
            config: None,
            clock: SampleClock::new(1, live),
            clock_rate: 0,
            received: 0,
            lost: false,
            done: false,
            events: VecDeque::new(),
        }
    }

    fn frame(&mut self, header: Header, payload: &[u8], at: Duration) {
        let config = header.config;
        if self.config.is_none() {
            self.clock_rate = config.sample_rate;
            self.clock = SampleClock::new(config.sample_rate, self.live);
        }
        if self.config != Some(config) {
            let Some(extradata) = config.build() else {
                // Channels that a program configuration element in the frame describes: no header of ours can tell them.
                self.lost = true;
                return;
            };
            let mut parameters = Parameters::audio(Codec::Aac, config.sample_rate, config.channels);
            parameters.clock_rate = self.clock_rate;
            parameters.extradata = extradata;
            self.events.push_back(match self.config {
                Some(_) => Event::TrackChanged { track: 0, parameters },
                None => Event::Tracks(vec![parameters]),
            });
            self.config = Some(config);
        }
        let samples = u64::from(config.frame_length) * u64::from(header.blocks);
        let ticks = samples * u64::from(self.clock_rate) / u64::from(config.sample_rate.max(1));
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX).max(1);
        let (pts, gap) = self.clock.next(at, ticks);
        if header.blocks > 1 || payload.is_empty() {
            self.lost = true;
            return;
        }
        let mut unit = Unit::new(pts, true, Bytes::copy_from_slice(payload));
        unit.duration = ticks;
        unit.discontinuity = gap || std::mem::take(&mut self.lost);
        self.events.push_back(Event::Unit { track: 0, unit });
    }

    fn fail(&mut self, why: &str) {
        self.events.push_back(Event::Error(Error::protocol(format!("adts: {why}"))));
        self.done = true;
    }
}

impl Container for Reader {
    fn push(&mut self, piece: Piece) {
        if self.done {
            return;
        }
        self.received += piece.data.len() as u64;
        let mut splitter = std::mem::take(&mut self.splitter);
        splitter.push(&piece.data, |header, payload| self.frame(header, payload, piece.at));
        self.splitter = splitter;
        if self.config.is_none() && self.received > PROBE_BYTES {
            self.fail("no frame in the first MiB");
        }
    }

    fn end(&mut self) {
        if self.done {
            return;
        }
        let mut splitter = std::mem::take(&mut self.splitter);
        splitter.flush(|header, payload| self.frame(header, payload, Duration::ZERO));
        if self.config.is_none() {
            self.fail("the bytes end before the first frame");
        }
        self.done = true;
    }

    fn poll(&mut self) -> Event {
        let quiet = if self.done { Event::End } else { Event::NeedData };
        self.events.pop_front().unwrap_or(quiet)
    }
}
