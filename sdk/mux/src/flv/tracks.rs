//! Tags, or the media messages of RTMP, to tracks and units.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use patchbay_media::{Codec, Kind, Parameters};

use super::amf::{self, Value};
use super::body::{self, Part, Stated};
use super::stream::{Output, Stream};
use super::tag::TagKind;
use super::{CLOCK_RATE, MAX_TAG_BYTES};
use crate::timeline::Timeline;

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

/// What tags gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// The tracks, before the first unit. Comes again, longer, when further tracks begin late; the index of a track
    /// stays. All clocks run at [`CLOCK_RATE`].
    Tracks(Vec<Parameters>),
    /// The parameters of a track from its next unit on; the codec may be another one.
    TrackChanged {
        /// Index in [`Item::Tracks`].
        track: usize,
        /// The new ones.
        parameters: Parameters,
    },
    /// A unit; decoding times grow within a track, also where those of the stream do not.
    Unit {
        /// Index in [`Item::Tracks`].
        track: usize,
        /// The unit.
        unit: patchbay_media::Unit,
    },
}

/// Makes tracks and units of tags: [`TagDemuxer::push`] a tag, then [`TagDemuxer::poll`] until it has nothing more.
///
/// Tracks are what tags bring, whatever `onMetaData` and the file's flags say.
#[derive(Debug)]
pub struct TagDemuxer {
    streams: Vec<Stream>,
    /// One per stream, with the same index.
    slots: Vec<Slot>,
    tracks: Vec<Parameters>,
    announced: bool,
    time: Option<i64>,
    timeline: Timeline,
    /// Units and parameters before the tracks are announced, by stream.
    held: VecDeque<(usize, Output)>,
    held_bytes: usize,
    /// Media time and time of arrival of the first unit.
    held_since: Option<(i64, Duration)>,
    /// `onMetaData` named sound or picture alone.
    hinted: bool,
    /// Width and height that it states, for codecs whose configuration is not read here.
    size: (u32, u32),
    items: VecDeque<Item>,
}

/// A stream's place among tracks.
#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    track: Option<usize>,
    offset: i64,
    ready: bool,
}

impl Default for TagDemuxer {
    fn default() -> Self {
        Self {
            streams: Vec::new(),
            slots: Vec::new(),
            tracks: Vec::new(),
            announced: false,
            time: None,
            timeline: Timeline::new([]),
            held: VecDeque::new(),
            held_bytes: 0,
            held_since: None,
            hinted: false,
            size: (0, 0),
            items: VecDeque::new(),
        }
    }
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

    /// Whether [`Item::Tracks`] came out, or is there to be polled.
    pub fn is_announced(&self) -> bool {
        self.announced
    }

    /// Bytes of units that wait.
    pub fn held(&self) -> usize {
        self.held_bytes
    }

    /// What comes next; `None`: a tag is needed.
    pub fn poll(&mut self) -> Option<Item> {
        self.items.pop_front()
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
                self.timeline.add(CLOCK_RATE);
                self.streams.push(Stream::new(part));
                self.slots.push(Slot::default());
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
                    if let Some(slot) = self.slots.get_mut(index) {
                        slot.ready = true;
                    }
                }
                Output::Unit(unit) => {
                    self.held_since.get_or_insert((unit.dts, at));
                    newest = Some(unit.dts);
                }
            }
            if self.announced {
                self.emit(index, output);
            } else {
                if let Output::Unit(unit) = &output {
                    self.held_bytes += unit.data.len();
                }
                self.held.push_back((index, output));
            }
        }
        let (Some(newest), Some((since, since_at)), false) = (newest, self.held_since, self.announced) else {
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
        if self.announced {
            return;
        }
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        self.announced = !held.is_empty();
        let mut order: Vec<usize> = (0..self.streams.len()).collect();
        order.sort_by_key(|index| {
            self.streams.get(*index).map(|stream| (stream.kind != Kind::Video, stream.number))
        });
        for index in order {
            let first = held.iter().find_map(|(of, output)| match output {
                Output::Parameters(parameters) if *of == index => Some(parameters.clone()),
                _ => None,
            });
            if let (Some(slot), Some(parameters)) = (self.slots.get_mut(index), first) {
                slot.track = Some(self.tracks.len());
                self.tracks.push(parameters);
            }
        }
        if !self.tracks.is_empty() {
            self.items.push_back(Item::Tracks(self.tracks.clone()));
        }
        for (index, output) in held {
            self.emit(index, output);
        }
    }

    fn emit(&mut self, index: usize, output: Output) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        match output {
            Output::Parameters(parameters) => match slot.track {
                Some(track) => {
                    let Some(known) = self.tracks.get_mut(track).filter(|known| **known != parameters) else {
                        return;
                    };
                    known.clone_from(&parameters);
                    self.items.push_back(Item::TrackChanged { track, parameters });
                }
                None => {
                    slot.track = Some(self.tracks.len());
                    self.tracks.push(parameters);
                    self.items.push_back(Item::Tracks(self.tracks.clone()));
                }
            },
            Output::Unit(mut unit) => {
                let Some(track) = slot.track else { return };
                let times = self.timeline.place(index, unit.pts, unit.dts, unit.discontinuity);
                let offset = self.timeline.offset(index);
                unit.discontinuity |= std::mem::replace(&mut slot.offset, offset) != offset;
                unit.dts = times.dts;
                unit.pts = times.pts.max(times.dts);
                self.items.push_back(Item::Unit { track, unit });
            }
        }
    }
}
