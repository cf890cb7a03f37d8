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

/// Difference between the source's clock and ours from which on its wall time is set anew.
const CLOCK_JUMP_NS: u64 = 2_000_000_000;

/// Counts of a source's tracks that are told apart.
const ORIGINS_MAX: usize = 8;

/// Wall time of all sources that count on one clock, so that sound and picture stay together, also when they come from two.
/// Clones share it.
#[derive(Debug, Clone, Default)]
pub struct WallClock {
    /// Unix times of pts 0, ns, the newest last. More than one when tracks do not count from the same instant, or after a
    /// break; at most `ORIGINS_MAX`.
    origins_ns: Arc<Mutex<Vec<i64>>>,
}

impl WallClock {
    /// Unix time of a presentation time, ns. A first unit far from all others sets a new origin.
    pub fn unix_ns(&self, pts: i64, clock_rate: u32, now_ns: i64) -> i64 {
        let offset = i128::from(pts) * 1_000_000_000 / i128::from(clock_rate.max(1));
        let offset = i64::try_from(offset).unwrap_or(0);
        let is_near = |origin: &&i64| origin.saturating_add(offset).abs_diff(now_ns) < CLOCK_JUMP_NS;
        let mut origins_ns = self.origins_ns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(origin) = origins_ns.iter().rfind(is_near) {
            return origin.saturating_add(offset);
        }
        if origins_ns.len() >= ORIGINS_MAX {
            origins_ns.remove(0);
        }
        origins_ns.push(now_ns.saturating_sub(offset));
        now_ns
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

    #[test]
    fn tracks_that_count_from_the_same_instant_share_one_wall_clock() {
        let wall = WallClock::default();
        let second = 1_000_000_000;
        assert_eq!(wall.unix_ns(90_000, 90_000, 100 * second), 100 * second);
        // The sound of the same instant arrives 300 ms later.
        assert_eq!(wall.unix_ns(48_000, 48_000, 100 * second + 300_000_000), 100 * second);
        // Tracks that count from elsewhere keep an origin of their own, and do not move the others.
        assert_eq!(wall.unix_ns(900_000_000, 8_000, 101 * second), 101 * second);
        assert_eq!(wall.unix_ns(180_000, 90_000, 101 * second + 5), 101 * second);
        assert_eq!(wall.clone().unix_ns(900_008_000, 8_000, 102 * second + 9), 102 * second);
    }
}
