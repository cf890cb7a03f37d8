//! Units to parts and segments.
//!
//! Segments begin at key pictures when these are near enough, parts (partial segments) have nearly the same length, as
//! draft-pantos-hls-rfc8216bis 4.4.3.7 asks: at most the target, at least 85 % of it unless they end their segment. A part goes
//! out with the picture after which the next one would not fit, without waiting for that one.

use bytes::{Bytes, BytesMut};
use patchbay_media::{Codec, Kind, Parameters, Unit};
use patchbay_mux::fmp4::{self, Reconfigured};
use patchbay_mux::timeline::rescale;
use patchbay_mux::{Timeline, mpegts};

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;
const NS: u32 = 1_000_000_000;
/// Where the media time of a run begins: decoding times before those of the first picture stay positive.
const BEGIN: i64 = 10 * SECOND;
/// Length of parts that is aimed at.
const PART: i64 = SECOND / 4;
/// Least and greatest length of parts, unless a picture lasts longer.
const PARTS: (i64, i64) = (SECOND * 18 / 100, SECOND * 36 / 100);
/// Pictures together last this much of the part target, in percent, so that a little unrest in their times does no harm.
const FILL: i64 = 93;
/// Least length of a segment that ends at a key picture. A second, and some unrest.
const MIN_SEGMENT: i64 = SECOND * 9 / 10;
/// The same without pictures.
const MIN_AUDIO_SEGMENT: i64 = 2 * SECOND;
/// Pictures further apart have a hole between them.
const HOLE: i64 = SECOND;
/// Longest frame duration that is believed.
const MAX_FRAME: i64 = 2 * SECOND;
/// Least and most `EXT-X-TARGETDURATION`, in seconds.
const TARGET_DURATIONS: (i64, i64) = (2, 20);
/// Target duration when no distance of key pictures is known, in seconds.
const UNKNOWN_TARGET: i64 = 4;
/// Most bytes of one part; a longer one is cut.
const MAX_PART_BYTES: usize = 16 << 20;

/// What carries the media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// Fragmented MP4.
    Fmp4,
    /// MPEG-TS.
    MpegTs,
}

/// Lengths that must never change once a playlist has named them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// `PART-TARGET`, ns.
    pub part_target: i64,
    /// `EXT-X-TARGETDURATION`, s.
    pub target_duration: i64,
    /// Length of a picture (or audio frame), ns.
    pub frame: i64,
}

impl Plan {
    /// From the decoding times (ns) of the first units of the leading track, and which are keys. `before`: for so long before the
    /// first of them, a key, there was no other one (ns).
    pub fn of(units: &[(i64, bool)], has_video: bool, before: i64) -> Self {
        let pairs = units.iter().zip(units.iter().skip(1));
        let mut steps: Vec<i64> =
            pairs.map(|(a, b)| b.0 - a.0).filter(|s| (1..=MAX_FRAME).contains(s)).collect();
        steps.sort_unstable();
        let frame = steps.get(steps.len() / 2).copied().unwrap_or(SECOND / 25);
        let keys: Vec<i64> = units.iter().filter(|(_, key)| *key).map(|(time, _)| *time).collect();
        let groups = keys.iter().zip(keys.iter().skip(1)).map(|(a, b)| b - a);
        let group = groups.max().filter(|_| has_video);
        // Frames of a part: the number nearest to the aim of those that leave the fewest over in a group of pictures.
        let (shortest, longest) = PARTS;
        let frames = group.map_or(0, |group| (group + frame / 2) / frame);
        let left_over = |count: i64| (count - frames % count) % count;
        let fitting = (1..=longest / frame).filter(|count| count * frame >= shortest);
        let count =
            fitting.min_by_key(|count| (left_over(*count), (count * frame - PART).abs())).unwrap_or(1);
        // Whole milliseconds: the text has three digits.
        let ms = SECOND / 1_000;
        let part_target = (count * frame * 100 / FILL).div_euclid(ms) * ms + ms;
        // A quarter more, as cameras' groups of pictures are not all the same.
        let seconds = |ns: i64| (ns + SECOND - 1) / SECOND;
        let target = match group {
            Some(group) => seconds(group + group / 4),
            None if has_video => {
                let since = units.last().zip(keys.last()).map_or(0, |(last, key)| last.0 - key);
                // A ring holds a quarter more than the longest group: twice the longer side of a key is enough.
                seconds(2 * since.max(before)).max(UNKNOWN_TARGET)
            }
            None => seconds(MIN_AUDIO_SEGMENT),
        };
        let (least, most) = TARGET_DURATIONS;
        // A part is never longer than a segment.
        let target_duration = target.clamp(least, most).max(seconds(part_target));
        Self { part_target, target_duration, frame }
    }
}

/// What comes out.
#[derive(Debug, Clone, PartialEq)]
pub enum Out {
    /// The initialization segment (`EXT-X-MAP`) of what follows.
    Init(Bytes),
    /// A part of the segment that is open.
    Part(Part),
    /// The open segment is complete.
    SegmentEnd,
    /// What follows does not continue what came before (`EXT-X-DISCONTINUITY`).
    Discontinuity,
}

/// A part.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its bytes.
    pub data: Bytes,
    /// ns.
    pub duration: i64,
    /// It has a key picture.
    pub independent: bool,
    /// When its first picture arrived, ms since 1970 UTC.
    pub wall_ms: i64,
}

/// Why the tracks cannot be carried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not in fragmented MP4.
    #[error(transparent)]
    Fmp4(#[from] fmp4::Error),
    /// Not in MPEG-TS.
    #[error("mpegts: unsupported codec: {}", codec.name())]
    MpegTs {
        /// The codec.
        codec: Codec,
    },
}

#[derive(Debug)]
enum Muxer {
    Fmp4(Box<fmp4::Muxer>),
    MpegTs(Box<mpegts::Muxer>),
}

impl Muxer {
    fn new(container: Container, tracks: &[Parameters]) -> Result<Self, Error> {
        Ok(match container {
            Container::Fmp4 => Self::Fmp4(Box::new(fmp4::Muxer::new(tracks, fmp4::Options::default())?)),
            Container::MpegTs => {
                let muxer = mpegts::Muxer::new(tracks, mpegts::MuxOptions::default());
                Self::MpegTs(Box::new(muxer.map_err(|error| Error::MpegTs { codec: error.codec })?))
            }
        })
    }

    fn push(&mut self, track: usize, unit: &Unit) -> Option<Bytes> {
        match self {
            Self::Fmp4(muxer) => muxer.push(track, unit),
            Self::MpegTs(muxer) => muxer.push(track, unit),
        }
        .map(|chunk| chunk.data)
    }
}

/// The segmenter of one run.
#[derive(Debug)]
pub struct Segmenter {
    container: Container,
    plan: Plan,
    muxer: Muxer,
    tracks: Vec<Parameters>,
    lead: usize,
    has_video: bool,
    timeline: Timeline,
    /// Added to the source's times so that they go on where the run is, ns.
    base: Option<i64>,
    /// Media time at which the open part begins, and the open segment.
    part_start: i64,
    segment_start: i64,
    /// Media time at which the newest unit of the leading track should end.
    end: Option<i64>,
    /// Media time and wall time (ms) of the first unit after a break.
    anchor: Option<(i64, i64)>,
    previous: Option<i64>,
    frame: i64,
    part: BytesMut,
    independent: bool,
    /// The open part has units of the leading track, not only sound between two pictures.
    has_lead: bool,
    segment_is_empty: bool,
    /// A segment had to end without a key picture.
    cut: bool,
    started: bool,
}

impl Segmenter {
    /// A segmenter for `tracks`, whose times count from the same instant; the init segment goes to `out`.
    pub fn new(
        container: Container,
        tracks: &[Parameters],
        plan: Plan,
        out: &mut Vec<Out>,
    ) -> Result<Self, Error> {
        let muxer = Muxer::new(container, tracks)?;
        let mut segmenter = Self {
            container,
            plan,
            muxer,
            tracks: Vec::new(),
            lead: 0,
            has_video: false,
            timeline: Timeline::new([]),
            base: None,
            part_start: BEGIN,
            segment_start: BEGIN,
            end: None,
            anchor: None,
            previous: None,
            frame: plan.frame,
            part: BytesMut::new(),
            independent: false,
            has_lead: false,
            segment_is_empty: true,
            cut: false,
            started: false,
        };
        segmenter.take_tracks(tracks);
        segmenter.init(out);
        Ok(segmenter)
    }

    fn take_tracks(&mut self, tracks: &[Parameters]) {
        let video = tracks.iter().position(|track| track.codec.kind() == Kind::Video);
        self.tracks = tracks.to_vec();
        self.lead = video.unwrap_or(0);
        self.has_video = video.is_some();
        self.timeline = Timeline::new(tracks.iter().map(|track| track.clock_rate));
        self.base = None;
        self.started = false;
    }

    fn init(&self, out: &mut Vec<Out>) {
        if let Muxer::Fmp4(muxer) = &self.muxer {
            out.push(Out::Init(muxer.init()));
        }
    }

    /// Other tracks from here on: another source, or other codecs.
    pub fn replace(&mut self, tracks: &[Parameters], out: &mut Vec<Out>) -> Result<(), Error> {
        let muxer = Muxer::new(self.container, tracks)?;
        self.break_off(out);
        self.muxer = muxer;
        self.take_tracks(tracks);
        self.init(out);
        Ok(())
    }

    /// New parameters of a track from its next unit on.
    pub fn configure(
        &mut self,
        track: usize,
        parameters: &Parameters,
        out: &mut Vec<Out>,
    ) -> Result<(), Error> {
        let Some(old) = self.tracks.get(track) else { return Ok(()) };
        let renewed = old.needs_new_init(parameters);
        let waiting = match &mut self.muxer {
            Muxer::Fmp4(muxer) => match muxer.reconfigure(track, parameters.clone())? {
                Reconfigured::Init { chunk, .. } => chunk,
                _ => None,
            },
            Muxer::MpegTs(muxer) => {
                let done = muxer.reconfigure(track, parameters.clone());
                done.map_err(|error| Error::MpegTs { codec: error.codec })?;
                None
            }
        };
        if let Some(slot) = self.tracks.get_mut(track) {
            slot.clone_from(parameters);
        }
        if renewed {
            if let Some(chunk) = waiting {
                self.append(&chunk.data);
            }
            self.break_off(out);
            self.init(out);
        }
        Ok(())
    }

    /// Ends the open segment; what follows is no continuation.
    fn break_off(&mut self, out: &mut Vec<Out>) {
        if let Some(end) = self.end {
            // Sound behind the last picture goes with it, unless that is out already.
            self.has_lead |= !self.segment_is_empty;
            self.close_part(end, out);
            self.part.clear();
            self.close_segment(out);
            out.push(Out::Discontinuity);
        }
        self.previous = None;
        self.anchor = None;
    }

    /// Takes a unit of track `track` that arrived at `wall_ms` (ms since 1970 UTC).
    pub fn push(&mut self, track: usize, unit: &Unit, wall_ms: i64, out: &mut Vec<Out>) {
        let Some(rate) = self.tracks.get(track).map(|p| p.clock_rate.max(1)) else { return };
        if unit.data.is_empty() {
            return;
        }
        if !self.started {
            if track != self.lead || !unit.key {
                return;
            }
            self.started = true;
        }
        let base = *self.base.get_or_insert_with(|| {
            self.end.unwrap_or(self.part_start).saturating_sub(rescale(unit.dts, rate, NS))
        });
        let shift = rescale(base, NS, rate);
        let (pts, dts) = (unit.pts.saturating_add(shift), unit.dts.saturating_add(shift));
        let times = self.timeline.place(track, pts, dts, unit.discontinuity);
        let placed = Unit { pts: times.pts, dts: times.dts, discontinuity: false, ..unit.clone() };
        if track == self.lead {
            let stated = rescale(i64::from(unit.duration), rate, NS);
            self.lead_unit(track, &placed, rescale(times.dts, rate, NS), stated, wall_ms, out);
        } else if let Some(data) = self.muxer.push(track, &placed) {
            self.append(&data);
        }
        if self.part.len() > MAX_PART_BYTES
            && let Some(end) = self.end
        {
            self.close_part(end, out);
        }
    }

    fn lead_unit(
        &mut self,
        track: usize,
        unit: &Unit,
        time: i64,
        stated: i64,
        wall_ms: i64,
        out: &mut Vec<Out>,
    ) {
        let step = self.previous.map(|previous| time - previous);
        self.previous = Some(time);
        if (1..=MAX_FRAME).contains(&stated) {
            self.frame = stated;
        } else if let Some(step) = step.filter(|step| (1..=HOLE).contains(step)) {
            // Smoothed: one late picture says little of the next.
            self.frame += (step - self.frame) / 8;
        }
        let frame = self.frame;
        if let Some(end) = self.end {
            let target = self.plan.target_duration.saturating_mul(SECOND);
            let length = time - self.segment_start;
            let least = if self.has_video { MIN_SEGMENT } else { MIN_AUDIO_SEGMENT };
            if time - end > HOLE.max(2 * frame) {
                self.break_off(out);
                self.part_start = time;
                self.segment_start = time;
            } else if (unit.key && length >= least) || length + frame > target {
                self.cut |= !unit.key;
                self.close_part(time, out);
                self.close_segment(out);
            } else if time + frame - self.part_start > self.plan.part_target {
                self.close_part(time, out);
            }
        }
        self.anchor.get_or_insert((self.part_start, wall_ms));
        if let Some(data) = self.muxer.push(track, unit) {
            self.append(&data);
        }
        self.independent |= unit.key;
        self.has_lead = true;
        let end = time + frame;
        self.end = Some(end);
        if end + frame - self.part_start > self.plan.part_target {
            self.close_part(end, out);
        }
    }

    /// Whether a segment had to end without a key picture, and another plan would do better.
    pub fn is_unfit(&self) -> bool {
        self.cut && self.plan.target_duration < TARGET_DURATIONS.1
    }

    fn append(&mut self, data: &[u8]) {
        self.part.extend_from_slice(data);
    }

    fn close_part(&mut self, at: i64, out: &mut Vec<Out>) {
        if let Muxer::Fmp4(muxer) = &mut self.muxer
            && let Some(chunk) = muxer.flush()
        {
            self.append(&chunk.data);
        }
        if self.part.is_empty() || !std::mem::take(&mut self.has_lead) {
            return;
        }
        if let Muxer::MpegTs(muxer) = &mut self.muxer {
            // Every part, and so every segment, can be read alone.
            muxer.repeat_tables();
        }
        // Times that step back a little must not give lengths below nothing.
        let duration = (at - self.part_start).max(SECOND / 1_000);
        let (media, wall) = self.anchor.unwrap_or((self.part_start, 0));
        out.push(Out::Part(Part {
            data: self.part.split().freeze(),
            duration,
            independent: std::mem::take(&mut self.independent),
            wall_ms: wall.saturating_add((self.part_start - media) / 1_000_000),
        }));
        self.part_start = self.part_start.saturating_add(duration);
        self.segment_is_empty = false;
    }

    fn close_segment(&mut self, out: &mut Vec<Out>) {
        if self.segment_is_empty {
            return;
        }
        out.push(Out::SegmentEnd);
        self.segment_is_empty = true;
        self.segment_start = self.part_start;
    }
}
