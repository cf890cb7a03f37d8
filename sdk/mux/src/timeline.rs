//! Times that go on when those of a source do not.
//!
//! A source that comes back after an outage may count from anywhere. Players want decoding times that grow, and sound
//! and picture moved by the same amount. Within a run of times that do continue, differences stay exact.

/// A step back of less than this is one unit's fault, more is a new count, in milliseconds.
const NEW_COUNT_MS: i64 = 1_000;
/// A step forward of more than this is a new count and not an outage, in milliseconds (10 minutes).
const FARTHEST_STEP_MS: i64 = 600_000;
/// Tracks further apart than this do not count from the same instant, in milliseconds.
const FARTHEST_APART_MS: i64 = 10_000;

/// `ticks` of a clock of `from` ticks per second in one of `to`, rounded down; saturates.
pub fn rescale(ticks: i64, from: u32, to: u32) -> i64 {
    if from == to {
        return ticks;
    }
    let scaled = (i128::from(ticks) * i128::from(to)).div_euclid(i128::from(from.max(1)));
    i64::try_from(scaled).unwrap_or(if scaled < 0 { i64::MIN } else { i64::MAX })
}

/// The output times of an output's tracks, which count from the same instant.
#[derive(Debug, Clone)]
pub struct Timeline {
    tracks: Vec<Track>,
    /// What was added last to any track's times, in ticks of a clock rate.
    shift: (i64, u32),
}

#[derive(Debug, Clone)]
struct Track {
    clock_rate: u32,
    /// Added to the source's times.
    offset: i64,
    /// Output decoding time of the newest unit.
    last: Option<i64>,
    /// Distance of the two newest units.
    step: i64,
}

/// A unit's output times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Presentation time.
    pub pts: i64,
    /// Decoding time, more than that of the unit before.
    pub dts: i64,
}

const NS: u32 = 1_000_000_000;

impl Timeline {
    /// A timeline of tracks with these clock rates, each at least 1.
    pub fn new(clock_rates: impl IntoIterator<Item = u32>) -> Self {
        let track = |rate: u32| Track {
            clock_rate: rate.max(1),
            offset: 0,
            last: None,
            step: i64::from((rate / 25).max(1)),
        };
        Self { tracks: clock_rates.into_iter().map(track).collect(), shift: (0, 1) }
    }

    /// Adds a track; its index.
    pub fn add(&mut self, clock_rate: u32) -> usize {
        self.tracks.extend(Self::new([clock_rate]).tracks);
        self.tracks.len() - 1
    }

    /// What the times of `track` are moved by now.
    pub fn offset(&self, track: usize) -> i64 {
        self.tracks.get(track).map_or(0, |t| t.offset)
    }

    /// Output decoding time of the newest unit of `track`.
    pub fn last(&self, track: usize) -> Option<i64> {
        self.tracks.get(track)?.last
    }

    /// Places the next unit of `track`.
    pub fn place(&mut self, track: usize, pts: i64, dts: i64, discontinuity: bool) -> Times {
        let front_ns = self.front_ns();
        let (shift, shift_rate) = self.shift;
        let Some(t) = self.tracks.get_mut(track) else { return Times { pts, dts } };
        let ms = |ms: i64| rescale(ms, 1_000, t.clock_rate);
        let shifted = dts.saturating_add(t.offset);
        let new_count = match (t.last, front_ns) {
            (Some(last), _) => {
                let step = shifted.saturating_sub(last);
                step <= -ms(NEW_COUNT_MS) || step > ms(FARTHEST_STEP_MS) || (discontinuity && step <= 0)
            }
            (None, Some(_)) => true,
            (None, None) => false,
        };
        if new_count {
            let least = t.last.map_or(i64::MIN, |last| last.saturating_add(1));
            let front = front_ns.map_or(least, |ns| rescale(ns, NS, t.clock_rate));
            // Where another track already went, when that fits this one too. A little overlap is better than sound apart
            // from its picture.
            let together = rescale(shift, shift_rate, t.clock_rate);
            let candidate = dts.saturating_add(together);
            let fits = candidate > least.saturating_sub(ms(NEW_COUNT_MS))
                && candidate.abs_diff(front) <= ms(FARTHEST_APART_MS).unsigned_abs();
            if fits {
                t.offset = together;
            } else {
                let next = t.last.map_or(front, |last| last.saturating_add(t.step).max(front));
                t.offset = next.saturating_sub(dts);
                self.shift = (t.offset, t.clock_rate);
            }
        }
        let Some(t) = self.tracks.get_mut(track) else { return Times { pts, dts } };
        let mut out = dts.saturating_add(t.offset);
        if let Some(last) = t.last {
            out = out.max(last.saturating_add(1));
            let step = out - last;
            if step <= rescale(1_000, 1_000, t.clock_rate) {
                t.step = step;
            }
        }
        t.last = Some(out);
        Times { pts: pts.saturating_add(t.offset), dts: out }
    }

    /// The furthest decoding time of any track, in nanoseconds.
    fn front_ns(&self) -> Option<i64> {
        self.tracks.iter().filter_map(|t| Some(rescale(t.last?, t.clock_rate, NS))).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dts(timeline: &mut Timeline, track: usize, dts: i64) -> i64 {
        timeline.place(track, dts, dts, false).dts
    }

    #[test]
    fn continuing_times_stay_as_they_are() {
        let mut t = Timeline::new([90_000, 48_000]);
        assert_eq!(t.place(0, 7_200, 3_600, false), Times { pts: 7_200, dts: 3_600 });
        assert_eq!(dts(&mut t, 1, 1_920), 1_920);
        assert_eq!(dts(&mut t, 0, 7_200), 7_200);
        assert_eq!(dts(&mut t, 0, 90_000 * 60), 90_000 * 60, "an outage of a minute stays a gap");
        assert_eq!(dts(&mut t, 0, 90_000 * 60 - 90), 90_000 * 60 + 1, "a step back of 1 ms is clamped");
        assert_eq!(dts(&mut t, 0, 90_000 * 60 + 3_600), 90_000 * 60 + 3_600);
    }

    #[test]
    fn a_new_count_moves_sound_and_picture_by_the_same_amount() {
        let mut t = Timeline::new([90_000, 48_000]);
        let start = 10 * 90_000;
        for i in 0..10 {
            dts(&mut t, 0, start + i * 3_600);
            dts(&mut t, 1, 10 * 48_000 + i * 1_920);
        }
        // Counted from zero again.
        let video = t.place(0, 0, 0, true).dts;
        assert_eq!(video, start + 10 * 3_600);
        let audio = t.place(1, 0, 0, true).dts;
        assert_eq!(audio, rescale(video, 90_000, 48_000));
        assert_eq!(dts(&mut t, 0, 3_600), video + 3_600);
        assert_eq!(dts(&mut t, 1, 960), audio + 960);
    }

    #[test]
    fn a_count_from_far_ahead_is_brought_near() {
        let mut t = Timeline::new([1_000]);
        dts(&mut t, 0, 0);
        dts(&mut t, 0, 40);
        assert_eq!(dts(&mut t, 0, 1 << 40), 80);
        assert_eq!(dts(&mut t, 0, (1 << 40) + 40), 120);
    }

    proptest! {
        #[test]
        fn decoding_times_grow_whatever_comes(units in proptest::collection::vec((0_usize..3, any::<i64>(), any::<bool>()), 0..60)) {
            let mut t = Timeline::new([90_000, 48_000, 1]);
            let mut last = [i64::MIN; 3];
            for (track, dts, discontinuity) in units {
                let dts = dts >> 8;
                let out = t.place(track, dts, dts, discontinuity).dts;
                prop_assert!(out > last[track]);
                last[track] = out;
            }
        }
    }
}
