//! Reception statistics for receiver reports (RFC 3550 appendix A.3 and A.8).

use std::time::Duration;

use super::{ReportBlock, SenderReport};
use crate::RtpPacket;
use crate::sequence::SequenceUnwrapper;

/// Counts the packets of one stream. Call [`Self::packet`] before reordering.
#[derive(Debug, Clone)]
pub struct Reception {
    clock_rate: u32,
    ssrc: Option<u32>,
    sequence: SequenceUnwrapper,
    first: i64,
    highest: i64,
    received: i64,
    received_before: i64,
    expected_before: i64,
    last_transit: Option<i64>,
    /// Jitter times 16.
    jitter: u64,
    last_sender_report: Option<(u32, Duration)>,
}

impl Reception {
    /// Statistics of a stream with this clock.
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate: clock_rate.max(1),
            ssrc: None,
            sequence: SequenceUnwrapper::default(),
            first: 0,
            highest: 0,
            received: 0,
            received_before: 0,
            expected_before: 0,
            last_transit: None,
            jitter: 0,
            last_sender_report: None,
        }
    }

    /// Counts a packet that arrived at `arrival` (monotonic). A new SSRC starts from zero.
    pub fn packet(&mut self, packet: &RtpPacket, arrival: Duration) {
        if self.ssrc != Some(packet.ssrc) {
            *self = Self::new(self.clock_rate);
            self.ssrc = Some(packet.ssrc);
        }
        let number = self.sequence.unwrap(packet.sequence);
        if self.received == 0 {
            self.first = number;
            self.highest = number;
        }
        self.highest = self.highest.max(number);
        self.received += 1;
        let ticks = arrival.as_nanos() * u128::from(self.clock_rate) / 1_000_000_000;
        let transit = i64::from((ticks as u32).wrapping_sub(packet.timestamp) as i32);
        if let Some(last) = self.last_transit.replace(transit) {
            let distance = (transit - last).unsigned_abs().min(u64::from(u32::MAX));
            self.jitter = self.jitter + distance - ((self.jitter + 8) >> 4);
        }
    }

    /// Remembers a sender report that arrived at `arrival` (monotonic).
    pub fn sender_report(&mut self, report: &SenderReport, arrival: Duration) {
        self.last_sender_report = Some(((report.ntp >> 16) as u32, arrival));
    }

    /// The block to send at `now`, which starts a new interval; `None` before the first packet.
    pub fn report(&mut self, now: Duration) -> Option<ReportBlock> {
        let ssrc = self.ssrc?;
        let expected = self.highest - self.first + 1;
        let lost = (expected - self.received).clamp(0, 0x007f_ffff);
        let expected_now = expected - self.expected_before;
        let lost_now = expected_now - (self.received - self.received_before);
        self.expected_before = expected;
        self.received_before = self.received;
        let fraction =
            if expected_now > 0 && lost_now > 0 { (lost_now * 256 / expected_now).min(255) } else { 0 };
        let (last_sender_report, delay_since_last) = match self.last_sender_report {
            Some((middle, at)) => {
                let delay = now.saturating_sub(at).as_nanos() * 65536 / 1_000_000_000;
                (middle, u32::try_from(delay).unwrap_or(u32::MAX))
            }
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc,
            fraction_lost: fraction as u8,
            cumulative_lost: lost as u32,
            extended_sequence: self.highest as u32,
            jitter: (self.jitter >> 4) as u32,
            last_sender_report,
            delay_since_last,
        })
    }
}
