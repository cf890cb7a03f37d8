//! Puts UDP packets back in order (C67). Not needed over TCP.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::RtpPacket;
use crate::sequence::SequenceUnwrapper;

/// Most packets held while one is missing; at one more the gap is given up.
pub const MAX_PACKETS: usize = 64;

/// Longest wait for a missing packet.
pub const MAX_DELAY: Duration = Duration::from_millis(100);

/// Backward steps larger than this are a sender that began anew.
const MAX_BACKWARD: i64 = 64;

/// Reorder buffer of one RTP stream: duplicates and late packets are dropped, a missing packet holds the ones after it
/// for at most [`MAX_PACKETS`] packets or [`MAX_DELAY`].
#[derive(Debug, Default)]
pub struct Reorder {
    sequence: SequenceUnwrapper,
    ssrc: Option<u32>,
    /// Endless sequence number of the packet to come out next.
    next: Option<i64>,
    held: BTreeMap<i64, (Duration, RtpPacket)>,
    /// Ready to come out, oldest first.
    ready: std::collections::VecDeque<RtpPacket>,
    dropped: u64,
}

impl Reorder {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a packet that arrived at `now` (monotonic).
    pub fn push(&mut self, packet: RtpPacket, now: Duration) {
        let mut number = self.sequence.nearest(packet.sequence);
        let restarted = self.ssrc.is_some_and(|ssrc| ssrc != packet.ssrc)
            || self.next.is_some_and(|next| number < next - MAX_BACKWARD);
        if restarted {
            self.flush();
            self.sequence = SequenceUnwrapper::default();
            self.next = None;
            number = self.sequence.nearest(packet.sequence);
        }
        self.ssrc = Some(packet.ssrc);
        let next = *self.next.get_or_insert(number);
        if number < next || self.held.contains_key(&number) {
            self.dropped += 1;
            return;
        }
        self.sequence.unwrap(packet.sequence);
        if number == next {
            self.next = Some(next + 1);
            self.ready.push_back(packet);
        } else {
            self.held.insert(number, (now, packet));
        }
        self.release(now);
    }

    /// The next packet in order at `now`.
    pub fn poll(&mut self, now: Duration) -> Option<RtpPacket> {
        self.release(now);
        self.ready.pop_front()
    }

    /// When to poll again although no packet came.
    pub fn wake_at(&self) -> Option<Duration> {
        self.held.values().map(|(arrival, _)| *arrival + MAX_DELAY).min()
    }

    /// Gives up all gaps.
    pub fn flush(&mut self) {
        let held = std::mem::take(&mut self.held);
        if let Some((last, _)) = held.last_key_value() {
            self.next = Some(last + 1);
        }
        self.ready.extend(held.into_values().map(|(_, packet)| packet));
    }

    /// Duplicates and packets that came too late, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn release(&mut self, now: Duration) {
        loop {
            let Some((&first, _)) = self.held.first_key_value() else { return };
            let is_next = self.next == Some(first);
            let overdue = self.held.len() > MAX_PACKETS
                || self.held.values().any(|(arrival, _)| now.saturating_sub(*arrival) >= MAX_DELAY);
            if !is_next && !overdue {
                return;
            }
            if let Some((number, (_, packet))) = self.held.pop_first() {
                self.next = Some(number + 1);
                self.ready.push_back(packet);
            }
        }
    }
}
