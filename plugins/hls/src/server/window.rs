//! What a live playlist lists, and its text. draft-pantos-hls-rfc8216bis.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::segmenter::{Container, Part, Plan, SECOND};

/// Segments without media that a playlist begins with: it can be shown as soon as there is a part, and Apple's players are said
/// to want so many.
const GAPS: u64 = 7;
/// Segments that are listed when they are short.
const LISTED: usize = 7;
/// Segments that are listed at least.
const LEAST_LISTED: usize = 4;
/// Complete segments whose parts are listed.
const WITH_PARTS: usize = 2;
/// Most bytes of media that one window holds; the oldest go first.
const MAX_BYTES: usize = 96 << 20;
/// Most segments that are kept behind the playlist's.
const MAX_KEPT: usize = 64;

/// A part that was handed to the host; `B` stands for its bytes.
#[derive(Debug)]
struct Stored<B> {
    data: B,
    len: usize,
    duration: i64,
    independent: bool,
}

#[derive(Debug)]
struct Segment<B> {
    /// Media sequence number.
    number: u64,
    /// Number of its first part, counted over the whole run.
    first_part: u64,
    parts: Vec<Stored<B>>,
    complete: bool,
    /// Nothing is there: a run begins with such segments.
    gap: bool,
    discontinuity: bool,
    /// Number of the init segment.
    map: u32,
    wall_ms: i64,
}

impl<B> Segment<B> {
    fn duration(&self, plan: Plan) -> i64 {
        if self.gap {
            return plan.target_duration * SECOND;
        }
        self.parts.iter().map(|part| part.duration).sum()
    }

    fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.len).sum()
    }
}

/// What became of a request for media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// It is here.
    Here(T),
    /// It is being made: wait for the next change.
    Soon,
    /// It is gone, or will not come.
    Never,
}

/// A position in a playlist that a client waits for: `_HLS_msn` and `_HLS_part`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Media sequence number.
    pub msn: u64,
    /// Index of a part of that segment; none: the whole segment.
    pub part: Option<u64>,
}

/// The newest segments of a run.
#[derive(Debug)]
pub struct Window<B> {
    id: String,
    container: Container,
    plan: Plan,
    segments: VecDeque<Segment<B>>,
    maps: VecDeque<(u32, B)>,
    next_map: u32,
    /// Segments in front that are kept and not listed any more.
    unlisted: usize,
    next_part: u64,
    discontinuity: bool,
    discontinuities_gone: u64,
    ended: bool,
}

impl<B: Clone> Window<B> {
    /// An empty window of the run with the name `id`.
    pub fn new(id: &str, container: Container, plan: Plan) -> Self {
        Self {
            id: id.to_owned(),
            container,
            plan,
            segments: (0..GAPS).map(gap).collect(),
            maps: VecDeque::new(),
            next_map: 0,
            unlisted: 0,
            next_part: 0,
            discontinuity: false,
            discontinuities_gone: 0,
            ended: false,
        }
    }

    /// The lengths it was made with.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// An init segment for what follows.
    pub fn init(&mut self, data: B) {
        self.maps.push_back((self.next_map, data));
        self.next_map += 1;
    }

    /// What follows does not continue what came before.
    pub fn discontinuity(&mut self) {
        self.discontinuity = true;
    }

    /// A part of the open segment.
    pub fn part(&mut self, part: &Part, data: B) {
        if self.segments.back().is_none_or(|segment| segment.complete) {
            let number = self.segments.back().map_or(0, |segment| segment.number + 1);
            self.segments.push_back(Segment {
                number,
                first_part: self.next_part,
                parts: Vec::new(),
                complete: false,
                gap: false,
                discontinuity: std::mem::take(&mut self.discontinuity),
                map: self.next_map.saturating_sub(1),
                wall_ms: part.wall_ms,
            });
        }
        self.next_part += 1;
        if let Some(segment) = self.segments.back_mut() {
            let (len, duration, independent) = (part.data.len(), part.duration, part.independent);
            segment.parts.push(Stored { data, len, duration, independent });
        }
        self.trim();
    }

    /// The open segment is complete.
    pub fn segment_end(&mut self) {
        if let Some(segment) = self.segments.back_mut() {
            segment.complete = true;
        }
        self.trim();
    }

    /// Nothing more will come.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Moves the playlist on, and forgets what players can hardly ask for: RFC 8216 6.2.2 wants removed segments kept for as
    /// long as the playlist was.
    fn trim(&mut self) {
        let plan = self.plan;
        let listed: Vec<i64> = self
            .segments
            .iter()
            .skip(self.unlisted)
            .filter(|s| s.complete)
            .map(|segment| segment.duration(plan))
            .collect();
        let (mut total, mut count) = (listed.iter().sum::<i64>(), listed.len());
        for duration in &listed {
            let least = self.plan.target_duration * 3 * SECOND;
            let short = self.plan.target_duration <= 4 && count <= LISTED;
            if count <= LEAST_LISTED || short || total - duration < least {
                break;
            }
            (total, count) = (total - duration, count - 1);
            self.unlisted += 1;
            if self.segments.get(self.unlisted).is_some_and(|segment| segment.discontinuity) {
                // The tag of the segment that is the first one now went with it.
                self.discontinuities_gone += 1;
            }
        }
        let mut kept = 0;
        let mut bytes: usize = self.segments.iter().map(Segment::bytes).sum();
        for segment in self.segments.iter().take(self.unlisted).rev() {
            kept += segment.duration(plan);
            if kept > total {
                break;
            }
        }
        while self.unlisted > 0 && (kept > total || self.unlisted > MAX_KEPT || bytes > MAX_BYTES) {
            let Some(old) = self.segments.pop_front() else { break };
            bytes -= old.bytes();
            self.unlisted -= 1;
            kept = self.segments.iter().take(self.unlisted).map(|segment| segment.duration(plan)).sum();
        }
        // A window of few and huge segments.
        while bytes > MAX_BYTES && self.segments.len() > 2 {
            let Some(old) = self.segments.pop_front() else { break };
            bytes -= old.bytes();
            if self.segments.front().is_some_and(|segment| segment.discontinuity) {
                self.discontinuities_gone += 1;
            }
        }
        let oldest = self.segments.front().map_or(0, |segment| segment.map);
        while self.maps.front().is_some_and(|(number, _)| *number < oldest) && self.maps.len() > 1 {
            self.maps.pop_front();
        }
    }

    /// Whether a playlist can be shown.
    pub fn is_ready(&self) -> bool {
        self.next_part > 0
    }

    /// Whether the playlist has, or had, what a client waits for; draft-pantos-hls-rfc8216bis 6.2.5.2. `Never`: it is more than
    /// two segments ahead.
    pub fn has(&self, wanted: Position) -> Found<()> {
        // The segment that parts are added to now, and how many it has.
        let (number, parts) = match self.segments.back() {
            Some(open) if !open.complete => (open.number, open.parts.len() as u64),
            newest => (newest.map_or(0, |segment| segment.number + 1), 0),
        };
        let mut wanted = wanted;
        if wanted.msn > number + 1 {
            return Found::Never;
        }
        let past = self.segments.iter().find(|segment| segment.complete && segment.number == wanted.msn);
        if let (Some(segment), Some(part)) = (past, wanted.part)
            && part >= segment.parts.len() as u64
        {
            // Behind the last part of its segment is the first of the next one.
            wanted = Position { msn: wanted.msn + 1, part: Some(0) };
        }
        let here = match wanted.part {
            _ if wanted.msn < number => true,
            None => false,
            Some(part) => wanted.msn == number && part < parts,
        };
        if here { Found::Here(()) } else { Found::Soon }
    }

    /// The init segment with this number.
    pub fn map(&self, number: u32) -> Option<B> {
        self.maps.iter().find(|(n, _)| *n == number).map(|(_, data)| data.clone())
    }

    /// The parts of the segment `number`, once it is complete.
    pub fn segment(&self, number: u64) -> Found<Vec<B>> {
        let next = self.segments.back().map_or(0, |segment| segment.number + 1);
        match self.segments.iter().find(|segment| segment.number == number) {
            Some(segment) if segment.complete => {
                Found::Here(segment.parts.iter().map(|part| part.data.clone()).collect())
            }
            Some(_) => Found::Soon,
            None if number == next => Found::Soon,
            None => Found::Never,
        }
    }

    /// The part with this number.
    pub fn part_data(&self, number: u64) -> Found<B> {
        if number == self.next_part && !self.ended {
            return Found::Soon;
        }
        let find = |segment: &Segment<B>| {
            let index = usize::try_from(number.checked_sub(segment.first_part)?).ok()?;
            segment.parts.get(index).map(|part| part.data.clone())
        };
        // Only parts that the playlist may still name.
        let recent = self.segments.iter().rev().take(2 * WITH_PARTS + 2);
        recent.filter_map(find).next().map_or(Found::Never, Found::Here)
    }

    /// Bits per second of media: the most of any listed segment, and all together. `None` before there is media.
    pub fn bandwidth(&self) -> Option<(u64, u64)> {
        let plan = self.plan;
        let rate = |bytes: usize, duration: i64| {
            let bits = i128::try_from(bytes).unwrap_or(0) * 8 * i128::from(SECOND);
            u64::try_from(bits / i128::from(duration.max(1))).unwrap_or(u64::MAX)
        };
        let listed = || self.segments.iter().skip(self.unlisted).filter(|segment| !segment.parts.is_empty());
        let long = || listed().filter(|segment| segment.duration(plan) >= SECOND / 2);
        let peak = long().map(|segment| rate(segment.bytes(), segment.duration(plan))).max();
        let total: (usize, i64) =
            listed().fold((0, 0), |(bytes, time), s| (bytes + s.bytes(), time + s.duration(plan)));
        let average = (total.1 > 0).then(|| rate(total.0, total.1))?;
        Some((peak.unwrap_or(average).max(average), average))
    }

    /// The media playlist.
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(4 << 10);
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let plan = self.plan;
        let (id, suffix) = (
            &self.id,
            match self.container {
                Container::Fmp4 => "m4s",
                Container::MpegTs => "ts",
            },
        );
        let part_target = seconds(self.plan.part_target, 3);
        // Three parts, as the draft advises.
        let hold_back = seconds(self.plan.part_target.saturating_mul(3), 3);
        let first = self.segments.get(self.unlisted);
        writeln!(out, "#EXTM3U\n#EXT-X-VERSION:9")?;
        writeln!(out, "#EXT-X-TARGETDURATION:{}", self.plan.target_duration)?;
        writeln!(out, "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={hold_back}")?;
        writeln!(out, "#EXT-X-PART-INF:PART-TARGET={part_target}")?;
        writeln!(out, "#EXT-X-MEDIA-SEQUENCE:{}", first.map_or(0, |segment| segment.number))?;
        if self.discontinuities_gone > 0 {
            writeln!(out, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.discontinuities_gone)?;
        }
        let complete = self.segments.iter().filter(|segment| segment.complete).count();
        let mut map = None;
        for (index, segment) in self.segments.iter().enumerate().skip(self.unlisted) {
            if segment.discontinuity && index > self.unlisted {
                writeln!(out, "#EXT-X-DISCONTINUITY")?;
            }
            if self.container == Container::Fmp4 && map != Some(segment.map) {
                map = Some(segment.map);
                writeln!(out, "#EXT-X-MAP:URI=\"init.mp4?id={id}&n={}\"", segment.map)?;
            }
            if segment.gap {
                writeln!(out, "#EXT-X-GAP")?;
            } else {
                writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", date_time(segment.wall_ms))?;
            }
            if index + WITH_PARTS >= complete {
                for (part, number) in segment.parts.iter().zip(segment.first_part..) {
                    let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
                    let duration = seconds(part.duration, 5);
                    writeln!(
                        out,
                        "#EXT-X-PART:DURATION={duration},URI=\"part.{suffix}?id={id}&n={number}\"{independent}"
                    )?;
                }
            }
            if segment.complete {
                let duration = seconds(segment.duration(plan), 5);
                writeln!(out, "#EXTINF:{duration},\nsegment.{suffix}?id={id}&n={}", segment.number)?;
            }
        }
        if self.ended {
            return writeln!(out, "#EXT-X-ENDLIST");
        }
        let number = self.next_part;
        writeln!(out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part.{suffix}?id={id}&n={number}\"")
    }
}

fn gap<B>(number: u64) -> Segment<B> {
    Segment {
        number,
        first_part: 0,
        parts: Vec::new(),
        complete: true,
        gap: true,
        discontinuity: false,
        map: 0,
        wall_ms: 0,
    }
}

/// Nanoseconds as seconds with some digits, rounded.
fn seconds(ns: i64, digits: u32) -> String {
    let unit = SECOND / 10_i64.pow(digits);
    let ticks = (ns.max(0) + unit / 2) / unit;
    let per_second = 10_i64.pow(digits);
    format!("{}.{:0width$}", ticks / per_second, ticks % per_second, width = digits as usize)
}

/// RFC 3339, UTC, milliseconds.
fn date_time(unix_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(unix_ms).unwrap_or_default();
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_rfc_3339s() {
        assert_eq!(date_time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(date_time(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(date_time(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(date_time(i64::MAX), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn seconds_are_rounded() {
        assert_eq!(seconds(257_999_999, 3), "0.258");
        assert_eq!(seconds(1_999_999_999, 5), "2.00000");
        assert_eq!(seconds(33_366_667, 5), "0.03337");
    }
}
