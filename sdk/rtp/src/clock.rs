//! Media times to wall clock, and tracks of one session to each other (C91).
//!
//! Tracks start aligned by the arrival of their first packets. Sender reports of at least two tracks then move a track
//! against the first one, slowly. Wall clock comes from sender reports where they are believable, else from arrival.

use std::time::Duration;

use crate::rtcp::unix_ns_from_ntp;

/// A sender report further from the host's clock than this is not believed.
const MAX_CLOCK_ERROR_NS: i64 = 24 * 3600 * 1_000_000_000;

/// Fastest move of a track against the others, in ns per second.
const MAX_SLEW_NS_PER_S: i64 = 5_000_000;

/// Clocks of the tracks of one session.
#[derive(Debug)]
pub struct Clocks {
    /// Host wall clock at monotonic zero, in ns since 1970.
    unix_at_zero_ns: i64,
    tracks: Vec<Track>,
}

#[derive(Debug)]
struct Track {
    clock_rate: i64,
    /// Unix ns at media time 0, on the timeline that tracks share. Set by the first arrival.
    offset_ns: Option<i64>,
    /// The same by the newest believable sender report, on the sender's clock.
    report_ns: Option<i64>,
    slewed_at: Duration,
}

impl Track {
    fn ns(&self, pts: i64) -> i64 {
        let ns = i128::from(pts) * 1_000_000_000 / i128::from(self.clock_rate);
        i64::try_from(ns).unwrap_or(0)
    }
}

impl Clocks {
    /// Clocks for tracks with these rates. `unix_ns` is the host's wall clock at the monotonic instant `now`.
    pub fn new(clock_rates: &[u32], unix_ns: i64, now: Duration) -> Self {
        let track = |rate: &u32| Track {
            clock_rate: i64::from((*rate).max(1)),
            offset_ns: None,
            report_ns: None,
            slewed_at: Duration::ZERO,
        };
        Self {
            unix_at_zero_ns: unix_ns.saturating_sub(ns(now)),
            tracks: clock_rates.iter().map(track).collect(),
        }
    }

    /// A unit with this time arrived. Only the first of a track, or the first after [`Self::reset`], counts.
    pub fn arrival(&mut self, track: usize, pts: i64, now: Duration) {
        let unix_ns = self.unix_at_zero_ns.saturating_add(ns(now));
        if let Some(track) = self.tracks.get_mut(track)
            && track.offset_ns.is_none()
        {
            track.offset_ns = Some(unix_ns.saturating_sub(track.ns(pts)));
            track.slewed_at = now;
        }
    }

    /// The track's times begin anew: the next arrival aligns it again.
    pub fn reset(&mut self, track: usize) {
        if let Some(track) = self.tracks.get_mut(track) {
            track.offset_ns = None;
            track.report_ns = None;
        }
    }

    /// A sender report states that `pts` was at `ntp`. Gives whether it is believable: within a day of the host's clock.
    pub fn sender_report(&mut self, track: usize, ntp: u64, pts: i64, now: Duration) -> bool {
        let host_ns = self.unix_at_zero_ns.saturating_add(ns(now));
        let unix_ns = unix_ns_from_ntp(ntp);
        let is_believable =
            ntp != 0 && unix_ns.saturating_sub(host_ns).saturating_abs() <= MAX_CLOCK_ERROR_NS;
        if is_believable && let Some(track) = self.tracks.get_mut(track) {
            track.report_ns = Some(unix_ns.saturating_sub(track.ns(pts)));
        }
        is_believable
    }

    /// Wall clock of a media time as the sender states it, else as it arrived, in ns since 1970; `None` before both.
    pub fn unix_ns(&self, track: usize, pts: i64) -> Option<i64> {
        let track = self.tracks.get(track)?;
        Some(track.report_ns.or(track.offset_ns)?.saturating_add(track.ns(pts)))
    }

    /// Where a media time lies on the timeline that the session's tracks share, in ns since 1970, at the instant `now`.
    /// The difference of two tracks follows their sender reports by at most 5 ms per second.
    pub fn aligned_ns(&mut self, track: usize, pts: i64, now: Duration) -> Option<i64> {
        let wanted = self.wanted_ns(track);
        let track = self.tracks.get_mut(track)?;
        let offset = track.offset_ns?;
        let elapsed = now.saturating_sub(track.slewed_at).min(Duration::from_secs(3600));
        let most = ns(elapsed).saturating_mul(MAX_SLEW_NS_PER_S) / 1_000_000_000;
        track.slewed_at = now;
        let moved = wanted.map_or(0, |wanted| wanted.saturating_sub(offset).clamp(-most, most));
        let offset = offset.saturating_add(moved);
        track.offset_ns = Some(offset);
        Some(offset.saturating_add(track.ns(pts)))
    }

    /// The offset that the reports ask for, on the shared timeline: relative to the first track that has a report.
    fn wanted_ns(&self, track: usize) -> Option<i64> {
        let lead = self.tracks.iter().find(|track| track.report_ns.is_some() && track.offset_ns.is_some())?;
        let sender_to_shared = lead.offset_ns?.saturating_sub(lead.report_ns?);
        Some(self.tracks.get(track)?.report_ns?.saturating_add(sender_to_shared))
    }
}

fn ns(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Difference between the source's clock and ours from which on its wall time is set anew.
const CLOCK_JUMP_NS: u64 = 2_000_000_000;

/// Counts of a source's tracks that are told apart.
const ORIGINS_MAX: usize = 8;

/// Wall time of a source: one for all its tracks, so that sound and picture stay together.
#[derive(Debug, Clone, Default)]
pub struct WallClock {
    /// Unix times of pts 0, ns, the newest last. More than one when tracks do not count from the same instant, or after a
    /// break; at most `ORIGINS_MAX`.
    origins_ns: Vec<i64>,
}

impl WallClock {
    /// Unix time of a presentation time, ns. A first unit far from all others sets a new origin.
    pub fn unix_ns(&mut self, pts: i64, clock_rate: u32, now_ns: i64) -> i64 {
        let offset = i128::from(pts) * 1_000_000_000 / i128::from(clock_rate.max(1));
        let offset = i64::try_from(offset).unwrap_or(0);
        let is_near = |origin: &&i64| origin.saturating_add(offset).abs_diff(now_ns) < CLOCK_JUMP_NS;
        if let Some(origin) = self.origins_ns.iter().rfind(is_near) {
            return origin.saturating_add(offset);
        }
        if self.origins_ns.len() >= ORIGINS_MAX {
            self.origins_ns.remove(0);
        }
        self.origins_ns.push(now_ns.saturating_sub(offset));
        now_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::ntp_from_unix_ns;

    /// 2026-01-01T00:00:00Z.
    const NEW_YEAR_NS: i64 = 1_767_225_600_000_000_000;

    #[test]
    fn k8_wall_clock_of_an_rtp_time() {
        let mut clocks = Clocks::new(&[90_000], NEW_YEAR_NS, Duration::ZERO);
        assert!(clocks.sender_report(0, 0xed00_3780_8000_0000, 900_000, Duration::ZERO));
        assert_eq!(clocks.unix_ns(0, 945_000), Some(NEW_YEAR_NS + 1_000_000_000));
    }

    #[test]
    fn c91_reports_of_1970_are_not_believed() {
        let mut clocks = Clocks::new(&[90_000], NEW_YEAR_NS, Duration::from_secs(5));
        clocks.arrival(0, 90_000, Duration::from_secs(6));
        assert!(!clocks.sender_report(0, 2_208_988_800 << 32, 90_000, Duration::from_secs(6)));
        assert!(!clocks.sender_report(0, 0, 90_000, Duration::from_secs(6)));
        assert_eq!(clocks.unix_ns(0, 180_000), Some(NEW_YEAR_NS + 2_000_000_000));
    }

    /// Audio runs 200 ppm fast for ten minutes; reports come every 5 s, first after 5 s.
    #[test]
    fn c91_drift_is_followed() {
        let mut clocks = Clocks::new(&[90_000, 8000], NEW_YEAR_NS, Duration::ZERO);
        let mut worst = 0;
        for second in 0..600_i64 {
            let now = Duration::from_secs(second as u64);
            let (video, audio) = (second * 90_000, second * 8000 + second * 8000 / 5000);
            clocks.arrival(0, video, now);
            clocks.arrival(1, audio, now);
            if second % 5 == 0 {
                let ntp = ntp_from_unix_ns(NEW_YEAR_NS + second * 1_000_000_000);
                assert!(clocks.sender_report(0, ntp, video, now) && clocks.sender_report(1, ntp, audio, now));
            }
            let at = |clocks: &mut Clocks, track, pts| clocks.aligned_ns(track, pts, now).unwrap();
            worst = worst.max((at(&mut clocks, 0, video) - at(&mut clocks, 1, audio)).abs());
        }
        assert!(worst < 40_000_000, "{worst} ns");
    }

    #[test]
    fn c91_an_offset_is_closed_slowly() {
        let mut clocks = Clocks::new(&[1000, 1000], NEW_YEAR_NS, Duration::ZERO);
        clocks.arrival(0, 0, Duration::ZERO);
        clocks.arrival(1, 0, Duration::ZERO);
        let ntp = ntp_from_unix_ns(NEW_YEAR_NS);
        clocks.sender_report(0, ntp, 0, Duration::ZERO);
        // Track 1 is 100 ms late by the sender's clock.
        clocks.sender_report(1, ntp, 100, Duration::ZERO);
        for second in 1..=20 {
            let now = Duration::from_secs(second);
            let (a, b) = (clocks.aligned_ns(0, 0, now).unwrap(), clocks.aligned_ns(1, 0, now).unwrap());
            assert_eq!(a - b, 5_000_000 * second as i64);
        }
        let now = Duration::from_secs(30);
        assert_eq!(
            clocks.aligned_ns(0, 0, now).unwrap() - clocks.aligned_ns(1, 0, now).unwrap(),
            100_000_000
        );
    }

    #[test]
    fn tracks_that_count_from_the_same_instant_share_one_wall_clock() {
        let mut wall = WallClock::default();
        let second = 1_000_000_000;
        assert_eq!(wall.unix_ns(90_000, 90_000, 100 * second), 100 * second);
        // The sound of the same instant arrives 300 ms later.
        assert_eq!(wall.unix_ns(48_000, 48_000, 100 * second + 300_000_000), 100 * second);
        // Tracks that count from elsewhere keep an origin of their own, and do not move the others.
        assert_eq!(wall.unix_ns(900_000_000, 8_000, 101 * second), 101 * second);
        assert_eq!(wall.unix_ns(180_000, 90_000, 101 * second + 5), 101 * second);
        assert_eq!(wall.unix_ns(900_008_000, 8_000, 102 * second + 9), 102 * second);
    }
}
