//! Sender reports of one media, as its units' times (C86, C91).
//!
//! What reports say of the tracks of a session is for whoever places the tracks; here it is only told when a report can be
//! read as a time of a unit, and of which sender.

use std::sync::{Arc, Mutex, PoisonError};

use crate::Depacketizer;
use crate::rtcp::{SenderReport, unix_ns_from_ntp};

/// The newest sender report of a media until its units have times.
#[derive(Debug, Clone, Default)]
pub struct Reports {
    pending: Option<SenderReport>,
}

impl Reports {
    /// A report came. One without a wall time says nothing.
    pub fn push(&mut self, report: SenderReport) {
        if report.ntp != 0 {
            self.pending = Some(report);
        }
    }

    /// What was reported is of a session that is over.
    pub fn clear(&mut self) {
        self.pending = None;
    }

    /// The report that came last as `(pts, wall time)`, once: the wall time is the sender's, in ns since 1970. Ask before each
    /// unit and after each report. `ssrc` is whose packets come: reports of others are dropped, those that come before the
    /// first packet wait for it.
    pub fn poll(&mut self, ssrc: Option<u32>, media: &Depacketizer) -> Option<(i64, i64)> {
        let report = self.pending?;
        let ssrc = ssrc?;
        if report.ssrc != ssrc {
            self.pending = None;
            return None;
        }
        let pts = media.pts_of(report.rtp_timestamp)?;
        self.pending = None;
        Some((pts, unix_ns_from_ntp(report.ntp)))
    }
}

/// The time of day is set anew when it goes this much apart from the host's clock, ns; what is less is the reading of both.
const SET_NS: u64 = 500_000_000;

/// A moment, on both clocks of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The clock that the host places units on, ns: `CLOCK_MONOTONIC`.
    pub host_ns: i64,
    /// Unix time, ns.
    pub unix_ns: i64,
}

/// Wall time of the host's clock, which the units of all sources lie on: sound and picture stay together, also when they come
/// from two, and however far what comes lies behind now. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct WallClock {
    /// Unix time less the host's, ns. It changes only when the time of day is set, for all tracks at once.
    ahead_ns: Arc<Mutex<Option<i64>>>,
}

impl WallClock {
    /// Unix time of a presentation time, ns.
    pub fn unix_ns(&self, pts: i64, clock_rate: u32, now: Now) -> i64 {
        let time_ns = i128::from(pts) * 1_000_000_000 / i128::from(clock_rate.max(1));
        let read_ns = now.unix_ns.saturating_sub(now.host_ns);
        let mut ahead_ns = self.ahead_ns.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead_ns = match *ahead_ns {
            Some(known_ns) if known_ns.abs_diff(read_ns) < SET_NS => known_ns,
            _ => *ahead_ns.insert(read_ns),
        };
        i64::try_from(time_ns).unwrap_or(0).saturating_add(ahead_ns)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{RtpPacket, sdp};

    /// 2026-01-01T00:00:00Z.
    const NEW_YEAR_NTP: u64 = 0xed00_3780_0000_0000;
    const NEW_YEAR_NS: i64 = 1_767_225_600_000_000_000;

    fn report(ssrc: u32, ntp: u64) -> SenderReport {
        SenderReport { ssrc, ntp, rtp_timestamp: 8000, packets: 0, octets: 0 }
    }

    fn media() -> Depacketizer {
        let session = sdp::parse(b"v=0\r\nm=audio 0 RTP/AVP 8\r\n");
        Depacketizer::new(&session.medias[0]).unwrap()
    }

    fn packet(sequence: u16, timestamp: u32) -> RtpPacket {
        let mut bytes = vec![0x80, 8];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(7_u32.to_be_bytes());
        bytes.extend([0; 160]);
        RtpPacket::parse(&Bytes::from(bytes)).unwrap()
    }

    #[test]
    fn a_report_waits_for_the_first_packet() {
        let (mut reports, mut media) = (Reports::default(), media());
        reports.push(report(7, NEW_YEAR_NTP));
        assert_eq!(reports.poll(None, &media), None);
        media.push(&packet(1, 16_000), Duration::ZERO);
        assert_eq!(reports.poll(Some(7), &media), Some((8000, NEW_YEAR_NS)));
        assert_eq!(reports.poll(Some(7), &media), None, "told once");
    }

    #[test]
    fn c86_c91_of_others_and_without_a_time_are_nothing() {
        let (mut reports, mut media) = (Reports::default(), media());
        media.push(&packet(1, 16_000), Duration::ZERO);
        reports.push(report(7, 0));
        assert_eq!(reports.poll(Some(7), &media), None);
        reports.push(report(8, NEW_YEAR_NTP));
        assert_eq!(reports.poll(Some(7), &media), None);
        assert_eq!(reports.poll(Some(8), &media), None, "dropped");
        reports.push(report(7, 2_208_988_800 << 32));
        assert_eq!(reports.poll(Some(7), &media), Some((8000, 0)), "a camera that lives in 1970");
    }

    const MS: i64 = 1_000_000;

    /// How far the wall time of a unit that lies `lag_ms` behind now is from what it was when the time of day was not set.
    fn off_ms(wall: &WallClock, lag_ms: i64, read_late_ms: i64, set_ms: i64) -> i64 {
        let (host_ms, ahead_ms) = (500_000_000, 1_700_000_000_000);
        let now = Now { host_ns: host_ms * MS, unix_ns: (host_ms + ahead_ms + read_late_ms + set_ms) * MS };
        let unix_ns = wall.unix_ns((host_ms - lag_ms) * 90, 90_000, now);
        (unix_ns - (host_ms - lag_ms + ahead_ms) * MS) / MS
    }

    #[test]
    fn however_far_a_track_lags_all_have_one_wall_clock() {
        let wall = WallClock::default();
        for lag_ms in [0, 100, 1_950, 2_050, 1_950, 20_000, 20, 120, -900, 3_600_000] {
            assert_eq!(off_ms(&wall, lag_ms, lag_ms % 7, 0), 0, "{lag_ms}");
        }
        let first = WallClock::default();
        assert_eq!(off_ms(&first, 20_000, 0, 0), 0, "and who lags may be the first");
        assert_eq!(off_ms(&first.clone(), 0, 0, 0), 0);
    }

    #[test]
    fn who_sets_the_time_of_day_sets_it_for_all_tracks() {
        let wall = WallClock::default();
        assert_eq!(off_ms(&wall, 0, 0, 0), 0);
        for lag_ms in [0, 100, 5_000] {
            assert_eq!(off_ms(&wall, lag_ms, 0, 86_400_000), 86_400_000);
        }
        assert_eq!(off_ms(&wall, 0, 0, -40_000), -40_000);
    }
}
