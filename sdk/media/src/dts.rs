//! Decoding times for transports that carry presentation times only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Most frames of delay when the stream does not say how many it needs.
const MAX_GUESSED_DEPTH: u8 = 2;
/// Frame rate taken for the first frames when the stream does not tell one.
const DEFAULT_FRAME_RATE: (u32, u32) = (25, 1);
/// Seconds that a presentation time may step back before it is taken for another timeline.
const MAX_STEP_BACK_SECONDS: i64 = 1;
/// Seconds that it may step forward from the decoding time before, likewise.
const MAX_STEP_FORWARD_SECONDS: i64 = 10;

/// A decoding time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dts {
    /// Ticks, at most the presentation time.
    pub dts: i64,
    /// It is above the decoding time before it. When not, the presentation time is not above that either: no decoding
    /// time could be right, or another timeline begins here.
    pub continues: bool,
}

/// Computes decoding times from presentation times in decoding order.
///
/// With a reorder depth of D frames the n-th frame in decoding order is decoded when the (n - D)-th frame in output
/// order is shown: that one is known by then, for at most D frames can be decoded before it and shown behind it.
#[derive(Debug)]
pub struct DtsEstimator {
    clock_rate: i64,
    depth: u8,
    max_depth: u8,
    frame_ticks: i64,
    /// The presentation times not yet used as decoding times, the `depth` largest.
    waiting: BinaryHeap<Reverse<i64>>,
    last: Option<i64>,
}

impl DtsEstimator {
    /// An estimator for a stream in decoding order without reordering until [`Self::configure`] says otherwise.
    pub fn new(clock_rate: u32) -> Self {
        let mut estimator = Self {
            clock_rate: i64::from(clock_rate),
            depth: 0,
            max_depth: MAX_GUESSED_DEPTH,
            frame_ticks: 0,
            waiting: BinaryHeap::new(),
            last: None,
        };
        estimator.configure(Some(0), None);
        estimator
    }

    /// Sets the reorder depth (`None` unknown: 2 frames are assumed) and the frame rate, which only the first frames
    /// need. Both may change at any frame.
    pub fn configure(&mut self, depth: Option<u8>, frame_rate: Option<(u32, u32)>) {
        self.depth = depth.unwrap_or(MAX_GUESSED_DEPTH);
        self.max_depth = self.depth.max(MAX_GUESSED_DEPTH);
        let (numerator, denominator) = frame_rate
            .filter(|(numerator, denominator)| *numerator > 0 && *denominator > 0)
            .unwrap_or(DEFAULT_FRAME_RATE);
        let ticks = self.clock_rate.saturating_mul(i64::from(denominator)) / i64::from(numerator);
        self.frame_ticks = ticks.clamp(1, self.clock_rate.max(1));
    }

    /// The decoding time of the next frame in decoding order, shown at `pts`.
    pub fn push(&mut self, pts: i64) -> Dts {
        if let Some(last) = self.last {
            let earliest = last.saturating_sub(MAX_STEP_BACK_SECONDS * self.clock_rate);
            let latest = last.saturating_add(MAX_STEP_FORWARD_SECONDS * self.clock_rate);
            if !(earliest..=latest).contains(&pts) {
                self.restart();
            }
        }
        let first = self.waiting.is_empty();
        self.waiting.push(Reverse(pts));
        let depth = usize::from(self.depth);
        let missing = (depth + 1).saturating_sub(self.waiting.len());
        let mut dts = if missing > 0 {
            // Not enough frames yet: count back from the first one.
            let earliest = self.waiting.peek().map_or(pts, |Reverse(earliest)| *earliest);
            let back = i64::try_from(missing).unwrap_or(0).saturating_mul(self.frame_ticks);
            earliest.saturating_sub(back)
        } else {
            pts
        };
        while self.waiting.len() > depth {
            if let Some(Reverse(earliest)) = self.waiting.pop() {
                dts = earliest;
            }
        }
        if let Some(last) = self.last
            && dts <= last
            && !(first && pts <= last)
        {
            dts = last.saturating_add(1);
        }
        let dts = dts.min(pts);
        let continues = self.last.is_none_or(|last| dts > last);
        if !continues && self.depth < self.max_depth {
            self.depth += 1;
        }
        self.last = Some(dts);
        Dts { dts, continues }
    }

    /// Frames are missing before the next one, which may lie anywhere; decoding times go on rising.
    pub fn restart(&mut self) {
        self.waiting.clear();
    }

    /// Forgets the times before: the next frame begins another timeline.
    pub fn reset(&mut self) {
        self.waiting.clear();
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(estimator: &mut DtsEstimator, pts: &[i64]) -> Vec<i64> {
        pts.iter().map(|pts| estimator.push(*pts).dts).collect()
    }

    #[test]
    fn without_reordering_dts_is_pts() {
        assert_eq!(run(&mut DtsEstimator::new(90_000), &[0, 3600, 7200, 7300]), [0, 3600, 7200, 7300]);
    }

    /// RTP times that ffmpeg sends for H.265 with B-frames, 5 fps: +0, +36000, +18000.
    #[test]
    fn b_frames_of_a_slow_camera() {
        let mut estimator = DtsEstimator::new(90_000);
        estimator.configure(Some(1), Some((5, 1)));
        let pts = [1_693_496_901, 1_693_532_901, 1_693_514_901, 1_693_568_901, 1_693_550_901];
        let dts = run(&mut estimator, &pts);
        assert_eq!(dts, [1_693_478_901, 1_693_496_901, 1_693_514_901, 1_693_532_901, 1_693_550_901]);
    }

    /// A pyramid of depth 2 at 25 fps: I0 P4 B2 b1 b3 P8 B6 b5 b7.
    #[test]
    fn a_pyramid_decodes_two_frames_early() {
        let mut estimator = DtsEstimator::new(25);
        estimator.configure(Some(2), Some((25, 1)));
        assert_eq!(run(&mut estimator, &[0, 4, 2, 1, 3, 8, 6, 5, 7]), [-2, -1, 0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn decoding_times_follow_a_jump_at_once() {
        let mut estimator = DtsEstimator::new(25);
        estimator.configure(Some(2), Some((25, 1)));
        assert_eq!(
            run(&mut estimator, &[0, 1, 2, 90_000, 90_001, 90_002]),
            [-2, -1, 0, 89_998, 89_999, 90_000]
        );
        estimator.restart();
        assert_eq!(run(&mut estimator, &[90_050, 90_051]), [90_048, 90_049]);
        let back = estimator.push(10);
        assert_eq!(back, Dts { dts: 8, continues: false });
    }

    #[test]
    fn undeclared_reordering_is_learned() {
        let mut estimator = DtsEstimator::new(90_000);
        let times: Vec<_> = [0, 10_800, 3_600, 7_200, 21_600, 14_400, 18_000, 32_400, 25_200, 28_800]
            .map(|pts| estimator.push(pts))
            .into();
        assert_eq!(times.iter().filter(|time| !time.continues).count(), 1, "{times:?}");
    }

    proptest! {
        /// Any order within the declared depth gives strictly rising times, none above its presentation time.
        #[test]
        fn declared_depth_is_always_enough(
            depth in 0_u8..=4,
            choices in proptest::collection::vec(0_usize..5, 1..60),
            step in 1_i64..10_000,
        ) {
            // A frame waits until `depth` frames overtook it.
            let mut pending: Vec<(i64, u8)> = Vec::new();
            let mut next = 0;
            let mut order = Vec::new();
            for choice in &choices {
                while pending.len() <= usize::from(depth) {
                    pending.push((next, 0));
                    next += 1;
                }
                let forced = pending.iter().position(|(_, overtaken)| *overtaken >= depth);
                let index = (*choice % pending.len()).min(forced.unwrap_or(usize::MAX));
                let (frame, _) = pending.remove(index);
                pending[..index].iter_mut().for_each(|(_, overtaken)| *overtaken += 1);
                order.push(frame * step);
            }
            // The first frame of a stream is shown first.
            order.insert(0, -step);
            let mut estimator = DtsEstimator::new(90_000);
            estimator.configure(Some(depth), None);
            let mut last = i64::MIN;
            for pts in order {
                let Dts { dts, continues } = estimator.push(pts);
                prop_assert!(dts <= pts);
                prop_assert!(continues && dts > last, "{dts} behind {last}");
                last = dts;
            }
        }

        #[test]
        fn any_times_give_no_panic(
            clock_rate: u32,
            depth in proptest::option::of(0_u8..=16),
            rate: Option<(u32, u32)>,
            times: Vec<i64>,
        ) {
            let mut estimator = DtsEstimator::new(clock_rate);
            estimator.configure(depth, rate);
            let mut last = None;
            for pts in times {
                let Dts { dts, continues } = estimator.push(pts);
                prop_assert!(dts <= pts);
                prop_assert_eq!(continues, last.is_none_or(|last| dts > last));
                prop_assert!(continues || last.is_some_and(|last| pts <= last));
                last = Some(dts);
            }
        }
    }
}
