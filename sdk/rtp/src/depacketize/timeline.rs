//! RTP times to presentation times: endless, and repaired where cameras jump (R3, R4, R45, X2).

use std::time::Duration;

/// Steps larger than this, either way, are not believed at once (R3).
const MAX_STEP: Duration = Duration::from_secs(5);

/// Frames that must agree before a new base is believed (R3).
const CONSISTENT_FRAMES: u32 = 3;

/// Frames with one and the same time before arrival times are used instead.
const EQUAL_FRAMES: u32 = 3;

/// A jump that the arrival clock confirms to within this is a real gap.
const GAP_TOLERANCE: Duration = Duration::from_secs(1);

/// Times of one media.
#[derive(Debug)]
pub(super) struct Timeline {
    clock_rate: i64,
    last: Option<Last>,
    /// Step to assume where the sender's cannot be used, in ticks.
    nominal: i64,
    suspect: Option<Suspect>,
    /// Frames since the last one whose own time was used.
    restamped: i64,
    equal: u32,
    restarted: bool,
    /// The first frame is presented at its arrival, rather than at its RTP time.
    starts_at_arrival: bool,
    /// Rather: this RTP time is presented then, in ticks.
    start: Option<(u32, i64)>,
}

/// The frame before.
#[derive(Debug, Clone, Copy)]
struct Last {
    timestamp: u32,
    /// What `timestamp` maps to; `pts` may have been moved from it.
    mapped: i64,
    pts: i64,
    duration: u32,
    arrival: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Suspect {
    timestamp: u32,
    frames: u32,
}

/// When a frame is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) pts: i64,
    pub(super) discontinuity: bool,
}

impl Timeline {
    pub(super) fn new(clock_rate: u32) -> Self {
        let clock_rate = i64::from(clock_rate.max(1));
        Self {
            clock_rate,
            last: None,
            nominal: clock_rate / 25,
            suspect: None,
            restamped: 0,
            equal: 0,
            restarted: false,
            starts_at_arrival: false,
            start: None,
        }
    }

    /// The first frame is presented at its arrival.
    pub(super) fn start_at_arrival(&mut self) {
        self.starts_at_arrival = true;
    }

    /// An RTP time near that of the first frame is presented at `at`.
    pub(super) fn start_at(&mut self, timestamp: u32, at: Duration) {
        self.start = Some((timestamp, self.ticks(at)));
    }

    /// The sender began anew: the next frame follows the last one whatever its time says.
    pub(super) fn restart(&mut self) {
        self.restarted = true;
        self.suspect = None;
    }

    /// The presentation time that belongs to an RTP time near the last frame's, for sender reports.
    pub(super) fn pts_of(&self, timestamp: u32) -> Option<i64> {
        self.last.map(|last| last.mapped + difference(timestamp, last.timestamp))
    }

    /// The time of a frame. `duration` in ticks is 0 when unknown; with `snap` a frame within half a duration of the end
    /// of the one before is put exactly there.
    pub(super) fn stamp(&mut self, timestamp: u32, arrival: Duration, duration: u32, snap: bool) -> Stamp {
        let Some(last) = self.last else {
            self.restarted = false;
            let pts = match self.start {
                Some((known, pts)) => pts + difference(timestamp, known),
                None if self.starts_at_arrival => self.ticks(arrival),
                None => i64::from(timestamp),
            };
            self.last = Some(Last { timestamp, mapped: pts, pts, duration, arrival });
            return Stamp { pts, discontinuity: false };
        };
        let step = difference(timestamp, last.timestamp);
        let elapsed = self.ticks(arrival.saturating_sub(last.arrival));
        let nominal = if last.duration > 0 { i64::from(last.duration) } else { self.nominal.max(1) };
        let mut next =
            Last { timestamp, mapped: last.mapped + step, pts: last.mapped + step, duration, arrival };
        let mut discontinuity = false;
        if std::mem::take(&mut self.restarted) {
            next.pts = last.pts + nominal.max(elapsed);
            next.mapped = next.pts;
            discontinuity = true;
        } else if step.abs() > self.ticks(MAX_STEP) {
            if step > 0 && (step - elapsed).abs() <= self.ticks(GAP_TOLERANCE) + elapsed / 10 {
                discontinuity = true;
                self.suspect = None;
            } else if self.is_new_base(timestamp) {
                next.pts = last.pts + nominal;
                next.mapped = next.pts;
                discontinuity = true;
            } else {
                // The mapping stays: the frame after an outlier is in its right place again.
                next = Last { pts: last.pts + nominal, duration, arrival, ..last };
                self.restamped += 1;
            }
        } else if step == 0 {
            self.equal += 1;
            self.suspect = None;
            if self.equal >= EQUAL_FRAMES && elapsed > 0 {
                next.pts = last.pts + elapsed;
                next.mapped = next.pts;
            } else {
                next.pts = last.pts + 1;
            }
        } else {
            self.suspect = None;
            self.equal = 0;
            if step > 0 && step <= self.clock_rate {
                self.nominal = step / (self.restamped + 1);
            }
            let expected = last.pts + i64::from(last.duration);
            if snap && last.duration > 0 && (next.pts - expected).abs() * 2 <= i64::from(last.duration) {
                next.pts = expected;
            }
        }
        if next.timestamp == timestamp {
            self.restamped = 0;
        }
        if next.pts == last.pts {
            next.pts += 1;
        }
        self.last = Some(next);
        Stamp { pts: next.pts, discontinuity }
    }

    fn is_new_base(&mut self, timestamp: u32) -> bool {
        let near = |suspect: &Suspect| difference(timestamp, suspect.timestamp).abs() <= self.ticks(MAX_STEP);
        let frames = self.suspect.filter(near).map_or(1, |suspect| suspect.frames + 1);
        self.suspect = (frames < CONSISTENT_FRAMES).then_some(Suspect { timestamp, frames });
        frames >= CONSISTENT_FRAMES
    }

    fn ticks(&self, time: Duration) -> i64 {
        let ticks = time.as_nanos().saturating_mul(self.clock_rate.unsigned_abs().into()) / 1_000_000_000;
        i64::try_from(ticks).unwrap_or(i64::MAX / 4)
    }
}

/// The signed distance of two RTP times.
fn difference(timestamp: u32, before: u32) -> i64 {
    i64::from(timestamp.wrapping_sub(before) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(times: &[u32]) -> Vec<(i64, bool)> {
        let mut timeline = Timeline::new(90_000);
        let stamps = times.iter().map(|t| timeline.stamp(*t, Duration::ZERO, 0, false));
        stamps.map(|s| (s.pts, s.discontinuity)).collect()
    }

    #[test]
    fn k14_b_frames_keep_their_times() {
        let pts: Vec<i64> =
            run(&[1_693_496_901, 1_693_532_901, 1_693_514_901]).into_iter().map(|(pts, _)| pts).collect();
        assert_eq!(pts, [1_693_496_901, 1_693_532_901, 1_693_514_901]);
    }

    #[test]
    fn the_first_frame_lies_at_its_arrival() {
        let mut timeline = Timeline::new(90_000);
        timeline.start_at_arrival();
        let arrival = Duration::from_secs(2);
        let pts: Vec<i64> = [u32::MAX, 3599].map(|t| timeline.stamp(t, arrival, 0, false).pts).into();
        assert_eq!(pts, [180_000, 183_600]);
        assert_eq!(timeline.pts_of(u32::MAX - 90_000), Some(90_000));
        // The first packets were of no use.
        let mut timeline = Timeline::new(90_000);
        timeline.start_at(u32::MAX, arrival);
        let pts: Vec<i64> = [3599, 7199].map(|t| timeline.stamp(t, arrival * 2, 0, false).pts).into();
        assert_eq!(pts, [183_600, 187_200]);
    }

    #[test]
    fn x2_wrap_is_one_frame() {
        let pts = run(&[u32::MAX - 3599, 0, 3600]);
        assert_eq!(pts[1].0 - pts[0].0, 3600);
        assert_eq!(pts[2].0 - pts[1].0, 3600);
    }

    #[test]
    fn r3_one_outlier_is_restamped_and_forgotten() {
        let far = 3600 * 2 + 37_600 * 90_000_u32;
        assert_eq!(
            run(&[0, 3600, far, 10_800, 14_400]),
            [(0, false), (3600, false), (7200, false), (10_800, false), (14_400, false)]
        );
        let back = 0u32.wrapping_sub(9800 * 90_000);
        assert_eq!(run(&[0, 3600, back, 10_800])[2..], [(7200, false), (10_800, false)]);
    }

    #[test]
    fn r3_three_agreeing_frames_are_a_new_base() {
        let base = 1_000_000_000;
        let stamps = run(&[0, 3600, base, base + 3600, base + 7200, base + 10_800]);
        assert_eq!(
            stamps[2..],
            [(7200, false), (10_800, false), (14_400, true), (18_000, false)],
            "the timeline goes on without a jump"
        );
    }

    #[test]
    fn r3_outliers_that_disagree_never_become_the_base() {
        let times: Vec<u32> =
            (0..20u32).map(|i| if i % 2 == 1 { i.wrapping_mul(500_000_000) } else { i * 3600 }).collect();
        let stamps = run(&times);
        assert!(stamps.windows(2).all(|w| w[1].0 > w[0].0 && w[1].0 - w[0].0 <= 7200), "{stamps:?}");
        assert!(stamps.iter().all(|(_, discontinuity)| !discontinuity));
    }

    #[test]
    fn r3_equal_times_move_by_a_tick_then_by_arrival() {
        let mut timeline = Timeline::new(90_000);
        let pts: Vec<i64> =
            (0..5).map(|i| timeline.stamp(500, Duration::from_millis(40 * i), 0, false).pts).collect();
        assert_eq!(pts, [500, 501, 502, 502 + 3600, 502 + 7200]);
    }

    #[test]
    fn a_gap_that_the_arrival_confirms_is_kept() {
        let mut timeline = Timeline::new(90_000);
        timeline.stamp(0, Duration::ZERO, 0, false);
        let stamp = timeline.stamp(20 * 90_000, Duration::from_millis(20_100), 0, false);
        assert_eq!(stamp, Stamp { pts: 20 * 90_000, discontinuity: true });
    }

    #[test]
    fn r45_audio_snaps_within_half_a_frame() {
        let mut timeline = Timeline::new(16_000);
        let pts: Vec<i64> = [0, 1100, 2000, 3072, 5000]
            .iter()
            .map(|t| timeline.stamp(*t, Duration::ZERO, 1024, true).pts)
            .collect();
        assert_eq!(pts, [0, 1024, 2048, 3072, 5000]);
    }

    #[test]
    fn a_restart_follows_the_last_frame() {
        let mut timeline = Timeline::new(90_000);
        timeline.stamp(1000, Duration::ZERO, 0, false);
        timeline.stamp(4600, Duration::from_millis(40), 0, false);
        timeline.restart();
        let stamp = timeline.stamp(4_000_000_000, Duration::from_millis(2040), 0, false);
        assert_eq!(stamp, Stamp { pts: 4600 + 180_000, discontinuity: true });
        assert_eq!(timeline.pts_of(4_000_003_600), Some(4600 + 183_600));
    }
}
