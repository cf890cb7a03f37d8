//! When a unit of a talk goes to the camera. Reads no clock.

use std::time::Duration;

/// Cameras drop or distort what comes earlier before its time (public practice: 200 ms; measured clients send within 100).
pub const MAX_LEAD: Duration = Duration::from_millis(60);

/// What is further ahead of its time than this is dropped: it would be heard that much later.
const MAX_BACKLOG: Duration = Duration::from_millis(600);

/// From one unit to the next: more is a pause of the speaker, or another count.
const JUMP_NS: i128 = 1_000_000_000;

/// Turns times of units into times to send them at: as they come, but a burst not faster than it is played.
#[derive(Debug, Default)]
pub struct Pace {
    /// Time of a unit, and when it was, or would have been, played.
    start: Option<(i128, Duration)>,
    /// Time of the unit before.
    last: i128,
}

impl Pace {
    /// When the unit with `dts` (ticks of `clock_rate`) that came at `now` is to be sent; `None`: it is to be dropped.
    pub fn at(&mut self, now: Duration, dts: i64, clock_rate: u32) -> Option<Duration> {
        let time = i128::from(dts) * 1_000_000_000 / i128::from(clock_rate.max(1));
        let step = time - std::mem::replace(&mut self.last, time);
        let (zero, began) = *self.start.get_or_insert((time, now));
        let Some(since) = u64::try_from(time - zero).ok().filter(|_| step.abs() <= JUMP_NS) else {
            self.start = Some((time, now));
            return Some(now);
        };
        let due = began + Duration::from_nanos(since);
        if due <= now {
            // Late: from here on this is its time, so that a burst behind a pause is paced too.
            self.start = Some((time, now));
            return Some(now);
        }
        let ahead = due - now;
        if ahead > MAX_BACKLOG + MAX_LEAD {
            return None;
        }
        Some(due.saturating_sub(MAX_LEAD).max(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn c114_a_burst_goes_out_in_real_time() {
        let mut pace = Pace::default();
        for packet in 0..30_u32 {
            let at = pace.at(Duration::from_secs(1), i64::from(packet) * 160, 8000).unwrap();
            let real = Duration::from_secs(1) + packet * 20 * MS;
            assert_eq!(at, real.saturating_sub(MAX_LEAD).max(Duration::from_secs(1)), "{packet}");
        }
        for packet in 40..200 {
            assert_eq!(
                pace.at(Duration::from_secs(1), 160 * packet, 8000),
                None,
                "{packet} is too far ahead"
            );
        }
    }

    #[test]
    fn what_comes_in_time_goes_at_once_and_a_late_one_moves_the_rest() {
        let mut pace = Pace::default();
        for (came, packet) in [(0, 0), (21, 1), (39, 2), (90, 3), (105, 4)] {
            let came = came * MS;
            assert_eq!(pace.at(came, packet * 160, 8000), Some(came), "{packet}");
        }
        // A pause of a minute in the times, and a count that begins anew.
        assert_eq!(pace.at(2 * 60_000 * MS, 480_000, 8000), Some(2 * 60_000 * MS));
        assert_eq!(pace.at(2 * 60_000 * MS + MS, 0, 8000), Some(2 * 60_000 * MS + MS));
    }

    proptest! {
        #[test]
        fn never_in_the_past_nor_far_ahead(units in prop::collection::vec((0_u64..50, any::<i64>()), 0..200), rate in 0_u32..100_000) {
            let (mut pace, mut now) = (Pace::default(), Duration::ZERO);
            for (step, dts) in units {
                now += Duration::from_millis(step);
                if let Some(at) = pace.at(now, dts, rate) {
                    prop_assert!(at >= now && at <= now + MAX_BACKLOG);
                }
            }
        }
    }
}
