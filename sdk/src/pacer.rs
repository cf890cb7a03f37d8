//! Real time for files: when a unit is due.

use std::time::Duration;

/// A jump of more than this in decoding time starts the clock anew.
const JUMP: Duration = Duration::from_secs(5);

/// Says how long to wait before each unit of a file, so that it comes as from a camera. Reads no clock itself.
#[derive(Debug, Default)]
pub struct Pacer {
    start: Option<(Duration, i128)>,
    last: i128,
}

impl Pacer {
    /// When the unit at `dts` (ticks of `clock_rate`) is due, on the clock that `now` is of.
    pub fn due(&mut self, now: Duration, dts: i64, clock_rate: u32) -> Duration {
        let time = i128::from(dts) * 1_000_000_000 / i128::from(clock_rate.max(1));
        let jumped = (time - self.last).unsigned_abs() > JUMP.as_nanos();
        self.last = time;
        let (start, first) = match self.start {
            Some(start) if !jumped => start,
            _ => *self.start.insert((now, time)),
        };
        let since = u64::try_from((time - first).max(0)).unwrap_or(u64::MAX);
        start + Duration::from_nanos(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_come_in_real_time_and_jumps_restart() {
        let mut pacer = Pacer::default();
        let second = Duration::from_secs(1);
        assert_eq!(pacer.due(second, 90_000, 90_000), second);
        assert_eq!(pacer.due(second, 180_000, 90_000), 2 * second);
        assert_eq!(pacer.due(3 * second, 90_000 * 3600, 90_000), 3 * second);
        assert_eq!(pacer.due(3 * second, 90_000 * 3601, 90_000), 4 * second);
    }
}
