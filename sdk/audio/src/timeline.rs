//! Where decoded sound lies in time, and what is done when it does not follow on.

/// A hole or an overlap of more than this is a new beginning, ms.
const JUMP_MS: i64 = 1_000;
/// A hole or an overlap of more than this is filled with silence or cut off at once, ms.
const STEP_MS: i64 = 40;
/// Times that lie off on average by more than this are followed, ms.
const DRIFT_MS: i64 = 5;
/// Until they are within this, ms.
const CLOSE_MS: i64 = 1;
/// Units over which the average is taken.
const AVERAGE: i64 = 16;
/// One sample in so many may be repeated or left out to follow.
const SLOWNESS: usize = 200;

/// What to do with decoded samples before they go on; counts are samples per channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// They follow on.
    Follow,
    /// So much silence first.
    Silence(usize),
    /// The first ones are of a time that is over.
    Skip(usize),
    /// So many single samples are repeated (or left out when negative), spread evenly.
    Stretch(isize),
    /// Nothing follows on: everything begins anew at this unit.
    Jump,
}

/// Counts samples against the times that units say.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// The first unit's time, in ticks of the input clock.
    anchor: Option<i64>,
    /// Samples since then.
    count: i64,
    /// How far times are ahead of the count on average, in samples times [`AVERAGE`].
    drift: i64,
    follows: bool,
    /// An overlap was longer than the unit that showed it.
    is_skipping: bool,
}

impl Timeline {
    /// The time of sample 0, in ticks of the input clock.
    pub(crate) fn anchor(&self) -> Option<i64> {
        self.anchor
    }

    /// Where samples of a unit go: `pts` in ticks of `clock_rate`, `len` samples of `sample_rate`.
    pub(crate) fn place(&mut self, pts: i64, clock_rate: u32, sample_rate: u32, len: usize) -> Place {
        let Some(anchor) = self.anchor else {
            return self.begin(pts);
        };
        let rate = i64::from(sample_rate);
        let passed = i128::from(pts) - i128::from(anchor);
        let at = passed * i128::from(sample_rate) / i128::from(clock_rate.max(1));
        let apart = i64::try_from(at - i128::from(self.count)).unwrap_or(i64::MAX);
        if apart.saturating_abs() > rate * JUMP_MS / 1000 {
            return self.begin(pts);
        }
        let goes_on = std::mem::take(&mut self.is_skipping) && apart < 0;
        if goes_on || apart.abs() > rate * STEP_MS / 1000 {
            (self.drift, self.follows) = (0, false);
            let samples = usize::try_from(apart.abs()).unwrap_or(0);
            self.is_skipping = apart < 0 && samples > len;
            return if apart > 0 { Place::Silence(samples) } else { Place::Skip(samples) };
        }
        self.drift += apart - self.drift / AVERAGE;
        let mean = self.drift / AVERAGE;
        self.follows = mean.abs() > rate * if self.follows { CLOSE_MS } else { DRIFT_MS } / 1000;
        if !self.follows {
            return Place::Follow;
        }
        let most = (len / SLOWNESS).max(1);
        let samples = isize::try_from(mean.unsigned_abs().min(most as u64)).unwrap_or(0);
        // What is done now need not be done again.
        self.drift -= mean.signum() * samples as i64 * AVERAGE;
        Place::Stretch(if mean > 0 { samples } else { -samples })
    }

    fn begin(&mut self, pts: i64) -> Place {
        *self = Self { anchor: Some(pts), ..Self::default() };
        Place::Jump
    }

    /// So many samples went on.
    pub(crate) fn advance(&mut self, samples: usize) {
        self.count = self.count.saturating_add(i64::try_from(samples).unwrap_or(i64::MAX));
    }

    /// The next unit is a new beginning.
    pub(crate) fn forget(&mut self) {
        self.anchor = None;
    }
}

/// Repeats or leaves out single groups of `channels` samples, spread evenly over all.
pub(crate) fn stretch(samples: &mut Vec<f32>, channels: usize, by: isize) {
    let len = samples.len() / channels.max(1);
    let count = by.unsigned_abs().min(len / 2);
    if count == 0 {
        return;
    }
    let every = len / count;
    let mut out = Vec::with_capacity(samples.len() + count * channels);
    for (at, group) in samples.chunks_exact(channels.max(1)).enumerate() {
        let is_chosen = at % every == every / 2 && at / every < count;
        for _ in 0..if !is_chosen {
            1
        } else if by > 0 {
            2
        } else {
            0
        } {
            out.extend_from_slice(group);
        }
    }
    *samples = out;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds units of 20 ms at 48 kHz with these times (in ms) and gives back what was done.
    fn run(times: impl Iterator<Item = i64>) -> Vec<Place> {
        let mut timeline = Timeline::default();
        let mut done = Vec::new();
        for time in times {
            let place = timeline.place(time * 90, 90_000, 48_000, 960);
            timeline.advance(match place {
                Place::Silence(samples) => 960 + samples,
                Place::Skip(samples) => 960 - samples.min(960),
                Place::Stretch(by) => 960_usize.saturating_add_signed(by),
                Place::Follow | Place::Jump => 960,
            });
            done.push(place);
        }
        done
    }

    #[test]
    fn what_follows_on_is_left_alone_and_what_does_not_is_mended() {
        let steady = |n: i64| n * 20;
        assert!(run((0..100).map(steady)).iter().skip(1).all(|place| *place == Place::Follow));
        // Times in whole milliseconds that jitter.
        assert!(
            run((0..1000).map(|n| n * 20 + n * 7 % 5)).iter().skip(1).all(|place| *place == Place::Follow)
        );
        let hole = run((0..100).map(|n| if n < 50 { n * 20 } else { n * 20 + 100 }));
        assert_eq!(hole[50], Place::Silence(4_800));
        assert!(hole.iter().skip(51).all(|place| *place == Place::Follow));
        let overlap = run((0..100).map(|n| if n < 50 { n * 20 } else { n * 20 - 60 }));
        assert_eq!(
            overlap[50..54],
            [Place::Skip(2_880), Place::Skip(1_920), Place::Skip(960), Place::Follow]
        );
        let jump = run((0..100).map(|n| if n < 50 { n * 20 } else { n * 20 + 5_000 }));
        assert_eq!(jump[50], Place::Jump);
    }

    /// A sender whose samples are 0.1 % too few for its times stays within 6 ms for an hour.
    #[test]
    fn drift_is_followed() {
        let mut timeline = Timeline::default();
        let (mut count, mut worst, mut steps) = (0_i64, 0, 0);
        for n in 0..180_000_i64 {
            let pts = n * 20_020;
            let place = timeline.place(pts, 1_000_000, 8_000, 160);
            let samples = match place {
                Place::Stretch(by) => 160_i64 + by as i64,
                Place::Silence(more) => {
                    steps += 1;
                    160 + more as i64
                }
                Place::Skip(less) => {
                    steps += 1;
                    160 - less as i64
                }
                _ => 160,
            };
            timeline.advance(samples as usize);
            worst = worst.max((pts * 8 / 1000 - count).abs());
            count += samples;
        }
        assert_eq!(steps, 0);
        assert!(worst <= 8 * 6, "{worst} samples");
    }

    #[test]
    fn stretching_changes_the_length_by_what_is_asked() {
        for (len, by, wanted) in [(960, 4, 964), (960, -4, 956), (10, 3, 13), (3, -5, 2), (0, 2, 0)] {
            let mut samples: Vec<f32> = (0..len * 2).map(|n| n as f32).collect();
            stretch(&mut samples, 2, by);
            assert_eq!(samples.len(), wanted * 2, "{len} by {by}");
        }
    }
}
