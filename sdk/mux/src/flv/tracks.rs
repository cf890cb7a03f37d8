//! Tags, or the media messages of RTMP, to tracks and units.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use patchbay_media::{Codec, Event, Kind};

use super::amf::{self, Value};
use super::body::{self, Part, Stated};
use super::stream::Stream;
use super::tag::TagKind;
use super::{CLOCK_RATE, MAX_TAG_BYTES};
use crate::lineup::{Lineup, Output, Slot};

/// Most tracks of a stream.
pub const MAX_TRACKS: usize = 16;
/// Media time that sound and picture wait for each other, in milliseconds; what comes later is a late track.
const PROBE_MS: i64 = 2_000;
/// The same when `onMetaData` names one of the two only. It is no proof: some cameras leave out what they send.
const PROBE_HINTED_MS: i64 = 500;
/// Time of arrival after which waiting is over.
const PROBE_TIME: Duration = Duration::from_secs(5);
/// Bytes of units that wait for the tracks to be announced.
const PROBE_BYTES: usize = 2 * MAX_TAG_BYTES;
/// Largest width or height that is believed, in pixels.
const MAX_PIXELS: f64 = 16_384.0;
/// A step of about 2^24 ms is the wrap of a sender that has no upper byte, in milliseconds.
const WRAP_24: i64 = 1 << 24;
/// How far from it, in milliseconds.
const WRAP_SLACK: i64 = 10_000;

/// Makes tracks and units of tags: [`TagDemuxer::push`] a tag, then [`TagDemuxer::poll`] until it has nothing more.
///
/// Tracks are what tags bring, whatever `onMetaData` and the file's flags say.
#[derive(Debug, Default)]
pub struct TagDemuxer {
    streams: Vec<Stream>,
    /// One per stream, with the same index.
    slots: Vec<Slot>,
    lineup: Lineup<Infallible>,
    time: Option<i64>,
    held_bytes: usize,
    /// Media time and time of arrival of the first unit.
    held_since: Option<(i64, Duration)>,
    /// `onMetaData` named sound or picture alone.
    hinted: bool,
    /// Width and height that it states, for codecs whose configuration is not read here.
    size: (u32, u32),
}

impl TagDemuxer {
    /// A demuxer that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a tag. `timestamp` is in milliseconds modulo 2^32; it arrived `at` after any fixed instant.
    pub fn push(&mut self, kind: TagKind, timestamp: u32, tag: &Bytes, at: Duration) {
        let (parts, stated) = match kind {
            TagKind::Script => return self.script(tag),
            TagKind::Video => (body::video(tag), Stated::default()),
            TagKind::Audio => body::audio(tag),
        };
        if parts.is_empty() {
            return;
        }
        let dts = self.unwrap(timestamp);
        let mut out = Vec::new();
        for part in parts {
            let Some((index, stream)) = self.stream(&part) else { continue };
            stream.push(part, stated, dts, &mut out);
            self.take(index, &mut out, at);
        }
    }

    /// No more tags come: what waited comes out.
    pub fn end(&mut self) {
        self.announce();
    }

    /// Whether [`Event::Tracks`] came out, or is there to be polled.
    pub fn is_announced(&self) -> bool {
        self.lineup.is_announced()
    }

    /// Bytes of units that wait.
    pub fn held(&self) -> usize {
        self.held_bytes
    }

    /// What comes next; [`Event::NeedData`]: a tag is needed. All clocks run at [`CLOCK_RATE`].
    pub fn poll(&mut self) -> Event {
        self.lineup.events.pop_front().unwrap_or(Event::NeedData)
    }

    fn script(&mut self, tag: &Bytes) {
        let values = amf::read_all(tag);
        let Some(metadata) = values.iter().find(|value| !value.members().is_empty()) else { return };
        let says = |names: &[&str]| {
            names.iter().any(|name| match metadata.get(name) {
                None | Some(Value::Null | Value::Undefined | Value::Boolean(false)) => false,
                Some(value) => value.as_f64() != Some(0.0),
            })
        };
        let video = says(&["videocodecid", "hasVideo", "width", "videodatarate"]);
        let audio = says(&["audiocodecid", "hasAudio", "audiosamplerate", "stereo", "audiodatarate"]);
        self.hinted = video != audio;
        let pixels = |name| {
            let value = metadata.get(name).and_then(Value::as_f64).filter(|v| (1.0..=MAX_PIXELS).contains(v));
            value.map_or(0, |value| value as u32)
        };
        self.size = (pixels("width"), pixels("height"));
    }

    /// Milliseconds without wraps.
    fn unwrap(&mut self, timestamp: u32) -> i64 {
        let time = match self.time {
            None => i64::from(timestamp),
            Some(last) => {
                let mut step = i64::from(timestamp.wrapping_sub(last as u32).cast_signed());
                if (step + WRAP_24).abs() < WRAP_SLACK {
                    step += WRAP_24;
                } else if (step - WRAP_24).abs() < WRAP_SLACK {
                    step -= WRAP_24;
                }
                last.saturating_add(step)
            }
        };
        self.time = Some(time);
        time
    }

    /// The stream of a part, a new one if need be.
    fn stream(&mut self, part: &Part) -> Option<(usize, &mut Stream)> {
        let kind = part.codec.kind();
        let known = self.streams.iter().position(|s| s.kind == kind && s.number == part.track);
        let index = match known {
            Some(index) => index,
            None if self.streams.len() >= MAX_TRACKS => return None,
            None => {
                self.streams.push(Stream::new(part));
                self.slots.push(self.lineup.slot(CLOCK_RATE));
                self.streams.len() - 1
            }
        };
        Some((index, self.streams.get_mut(index)?))
    }

    fn take(&mut self, index: usize, out: &mut Vec<Output>, at: Duration) {
        let mut newest = None;
        for mut output in out.drain(..) {
            match &mut output {
                Output::Parameters(parameters) => {
                    if matches!(parameters.codec, Codec::Av1 | Codec::Vp8 | Codec::Vp9) {
                        (parameters.width, parameters.height) = self.size;
                    }
                }
                Output::Unit(unit) => {
                    self.held_since.get_or_insert((unit.dts, at));
                    newest = Some(unit.dts);
                }
            }
            if let (false, Output::Unit(unit)) = (self.lineup.is_announced(), &output) {
                self.held_bytes += unit.data.len();
            }
            self.lineup.take(&mut self.slots, index, output);
        }
        let (Some(newest), Some((since, since_at)), false) =
            (newest, self.held_since, self.lineup.is_announced())
        else {
            return;
        };
        let has = |kind| self.streams.iter().any(|stream| stream.kind == kind);
        let complete = has(Kind::Video) && has(Kind::Audio) && self.slots.iter().all(|slot| slot.ready);
        let probe = if self.hinted { PROBE_HINTED_MS } else { PROBE_MS };
        let waited = newest.abs_diff(since) >= probe.unsigned_abs()
            || at.saturating_sub(since_at) >= PROBE_TIME
            || self.held_bytes > PROBE_BYTES;
        if complete || waited {
            self.announce();
        }
    }

    /// Says which tracks there are, pictures first, and hands out what waited.
    fn announce(&mut self) {
        if self.lineup.is_announced() || self.lineup.held().is_empty() {
            return;
        }
        self.held_bytes = 0;
        let mut order: Vec<usize> = (0..self.streams.len()).collect();
        order.sort_by_key(|index| {
            self.streams.get(*index).map(|stream| (stream.kind != Kind::Video, stream.number))
        });
        self.lineup.announce(&mut self.slots, order);
    }
}
