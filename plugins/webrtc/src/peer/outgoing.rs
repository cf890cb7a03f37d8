//! One track on its way to one peer: its numbering, its start, its reports.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use patchbay_rtp::rtcp::ntp_from_unix_ns;
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::rtcp::sender_report::SenderReport;
use rtc::sansio::Protocol as _;

use super::link::Link;
use super::sent::Sent;
use crate::feed::{Frame, Piece};
use crate::srtp::Head;

/// How often a history that waits is looked after.
const PACE_EVERY: Duration = Duration::from_millis(5);

/// Bytes per second of a history at least; a large one goes out within [`PACE_WITHIN`].
const PACE_RATE: usize = 4 << 20;

/// A history goes out within this time.
const PACE_WITHIN: Duration = Duration::from_millis(500);

/// Over TCP a history waits while so many bytes do.
const PACE_WAITING: usize = 256 << 10;

/// Frames that may wait behind a history; past that the track starts at the next key unit.
const MAX_QUEUED: usize = 1024;

/// A peer that asks for key units again and again gets a history so often: one of so many bytes, a larger one less often.
const RESTART_EVERY: Duration = Duration::from_secs(1);

/// See [`RESTART_EVERY`].
const RESTART_BYTES: usize = 512 << 10;

/// How often the wall time of a track is reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// A step of the timestamps that differs so much from the time that passed is a new time line.
const JUMP: Duration = Duration::from_secs(10);

/// What was sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Bytes of RTP payload.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Frames left out because too many waited.
    pub drops: u64,
}

impl Counts {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            packets: self.packets + other.packets,
            drops: self.drops + other.drops,
        }
    }
}

/// How a track stands.
#[derive(Debug)]
enum State {
    /// Frames go out as they come.
    Live,
    /// Frames wait for what comes before them.
    Held(VecDeque<Arc<Frame>>),
    /// These go out first, paced; `next` is a packet of the first frame.
    Pacing { queue: VecDeque<Arc<Frame>>, next: usize, rate: usize, since: Instant, sent: usize },
    /// Nothing goes out before a key unit.
    AwaitKey,
}

/// The stream of a track's retransmissions.
#[derive(Debug)]
pub(super) struct Rtx {
    payload_type: u8,
    ssrc: u32,
    index: u64,
}

impl Rtx {
    /// A stream that nothing was sent in.
    pub(super) fn new(payload_type: u8, ssrc: u32) -> Self {
        Self { payload_type, ssrc, index: u64::from(rand::random::<u16>() >> 1) }
    }
}

/// One track to one peer.
#[derive(Debug)]
pub(super) struct Outgoing {
    payload_type: u8,
    ssrc: u32,
    rtx: Option<Rtx>,
    clock_rate: u32,
    /// Number of the next packet, counted on past 65,535.
    index: u64,
    sent: Sent,
    /// Added to the frames' timestamps, for frames of this time line.
    shift: Option<(u64, u32)>,
    /// Newest timestamp that was sent, and when.
    last: Option<(u32, Instant)>,
    state: State,
    /// What comes before the next key unit is not sent in one piece.
    is_broken: bool,
    /// So it was with the last one: what refers to that is left out.
    skips_leading: bool,
    /// What is added to the timestamps of the history that goes out.
    history_shift: u32,
    /// When it was started last, and how long that forbids another one.
    last_start: Option<(Instant, Duration)>,
    last_report: Option<Instant>,
    counts: Counts,
}

impl Outgoing {
    /// A track that waits to be started.
    pub(super) fn new(payload_type: u8, ssrc: u32, clock_rate: u32, rtx: Option<Rtx>) -> Self {
        Self {
            payload_type,
            ssrc,
            rtx,
            clock_rate: clock_rate.max(1),
            index: u64::from(rand::random::<u16>() >> 1),
            sent: Sent::default(),
            shift: None,
            last: None,
            state: State::Held(VecDeque::new()),
            is_broken: true,
            skips_leading: true,
            history_shift: 0,
            last_start: None,
            last_report: None,
            counts: Counts::default(),
        }
    }

    /// From now on it is sent in this format; the streams stay.
    pub(super) fn set_format(&mut self, payload_type: u8, clock_rate: u32, rtx: Option<Rtx>) {
        let is_same =
            self.rtx.as_ref().map(|rtx| rtx.payload_type) == rtx.as_ref().map(|rtx| rtx.payload_type);
        if !is_same {
            self.rtx = rtx;
        }
        (self.payload_type, self.clock_rate) = (payload_type, clock_rate.max(1));
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether a live frame is to be written now; it is kept or left out otherwise.
    pub(super) fn push(&mut self, frame: &Arc<Frame>) -> bool {
        match &mut self.state {
            State::Live => true,
            State::AwaitKey if frame.is_key => {
                self.state = State::Live;
                true
            }
            State::AwaitKey => {
                self.is_broken = true;
                self.counts.drops += 1;
                false
            }
            State::Held(queue) | State::Pacing { queue, .. } => {
                if queue.len() < MAX_QUEUED {
                    queue.push_back(Arc::clone(frame));
                } else {
                    self.counts.drops += queue.len() as u64;
                    self.is_broken = true;
                    self.state = State::AwaitKey;
                }
                false
            }
        }
    }

    /// Reports before the first frame, `live` or one that waits: a peer then knows where it lies beside other tracks. True
    /// when the connection has that report to send.
    pub(super) fn report_first(
        &mut self,
        connection: &mut RTCPeerConnection,
        live: Option<&Arc<Frame>>,
        now: Instant,
    ) -> bool {
        let frame = match (&self.state, live) {
            _ if self.last_report.is_some() => return false,
            (State::Live, Some(frame)) => Arc::clone(frame),
            (State::Pacing { queue, .. }, None) => match queue.front() {
                Some(frame) => Arc::clone(frame),
                None => return false,
            },
            _ => return false,
        };
        let Some(first) = frame.pieces.first() else { return false };
        let shift = self.shift_of(&frame, first, now);
        self.last_report = Some(now);
        self.report(connection, &frame, shift, now);
        true
    }

    pub(super) fn hold(&mut self) {
        self.state = State::Held(VecDeque::new());
    }

    pub(super) fn start(&mut self, history: Option<Arc<Frame>>) {
        let state = std::mem::replace(&mut self.state, State::AwaitKey);
        let mut queue = match state {
            State::Held(queue) => queue,
            // Too many waited meanwhile, or nobody held it.
            State::AwaitKey => return,
            state => {
                self.state = state;
                return;
            }
        };
        let len = history.as_ref().map_or(0, |history| history.len());
        match history {
            Some(history) => {
                // What was on its way when the history was planned is in it.
                queue.retain(|frame| frame.sequence >= history.sequence);
                queue.push_front(history);
            }
            None => {
                while queue.front().is_some_and(|frame| !frame.is_key) {
                    queue.pop_front();
                    self.is_broken = true;
                    self.counts.drops += 1;
                }
                if queue.is_empty() {
                    return;
                }
            }
        }
        let rate = PACE_RATE.max(len * 1000 / (PACE_WITHIN.as_millis() as usize).max(1));
        let now = Instant::now();
        let times = u32::try_from(len.div_ceil(RESTART_BYTES)).unwrap_or(1).max(1);
        self.last_start = Some((now, RESTART_EVERY * times));
        self.state = State::Pacing { queue, next: 0, rate, since: now, sent: 0 };
    }

    /// The next request for a key unit is heeded however soon it comes.
    pub(super) fn allow_restart(&mut self) {
        self.last_start = None;
    }

    pub(super) fn may_restart(&self, now: Instant) -> bool {
        matches!(self.state, State::Live | State::AwaitKey)
            && self.last_start.is_none_or(|(last, rest)| now.saturating_duration_since(last) >= rest)
    }

    /// Sends of a paced history what may go now; says when to come again.
    pub(super) fn pace(
        &mut self,
        link: &mut Link<'_>,
        connection: &mut RTCPeerConnection,
        now: Instant,
        waiting: usize,
    ) -> Option<Instant> {
        if waiting > PACE_WAITING && matches!(self.state, State::Pacing { .. }) {
            return Some(now + PACE_EVERY);
        }
        loop {
            let State::Pacing { queue, next, rate, since, sent } = &mut self.state else { return None };
            let Some(frame) = queue.front().cloned() else {
                self.state = State::Live;
                return None;
            };
            let elapsed = now.saturating_duration_since(*since) + PACE_EVERY;
            let allowed = (*rate as u128 * elapsed.as_micros() / 1_000_000) as usize;
            if *sent >= allowed {
                return Some(now + PACE_EVERY);
            }
            let first = *next;
            let mut end = first;
            while *sent < allowed
                && let Some(piece) = frame.pieces.get(end)
            {
                *sent += piece.len();
                end += 1;
            }
            if end >= frame.pieces.len() {
                queue.pop_front();
                *next = 0;
            } else {
                *next = end;
            }
            self.write_pieces(link, connection, &frame, first..end, now);
        }
    }

    /// Sends all packets of a frame. True when the connection has something to send now: a report.
    pub(super) fn write(
        &mut self,
        link: &mut Link<'_>,
        connection: &mut RTCPeerConnection,
        frame: &Arc<Frame>,
        now: Instant,
    ) -> bool {
        self.write_pieces(link, connection, frame, 0..frame.pieces.len(), now)
    }

    fn write_pieces(
        &mut self,
        link: &mut Link<'_>,
        connection: &mut RTCPeerConnection,
        frame: &Arc<Frame>,
        range: Range<usize>,
        now: Instant,
    ) -> bool {
        if frame.is_leading && self.skips_leading {
            self.counts.drops += 1;
            return false;
        }
        if frame.is_key {
            let is_broken = std::mem::take(&mut self.is_broken);
            self.skips_leading = frame.is_history || is_broken;
        }
        let is_begun = range.start > 0 && frame.is_history;
        let Some(pieces) = frame.pieces.get(range.clone()) else { return false };
        let Some(first) = pieces.first() else { return false };
        let shift = if is_begun { self.history_shift } else { self.shift_of(frame, first, now) };
        if frame.is_history {
            self.history_shift = shift;
        }
        self.sent.push(self.index, frame, range, shift);
        for piece in pieces {
            let timestamp = piece.timestamp.wrapping_add(shift);
            let head = Head {
                payload_type: self.payload_type,
                is_marked: piece.is_marked,
                index: self.index,
                timestamp,
                ssrc: self.ssrc,
            };
            link.send(&head, &[frame.bytes_of(piece)]);
            self.index += 1;
            self.counts.packets += 1;
            self.counts.bytes += piece.len() as u64;
            self.last = Some((timestamp, now));
        }
        let is_due = self.last_report.is_none_or(|at| now.saturating_duration_since(at) >= REPORT_EVERY);
        if is_due {
            self.last_report = Some(now);
            self.report(connection, frame, shift, now);
        }
        is_due
    }

    /// Sends a packet again that the peer lacks, if it is known still.
    pub(super) fn resend(&mut self, link: &mut Link<'_>, sequence: u16) {
        let back = (self.index as u16).wrapping_sub(sequence);
        let Some(index) = self.index.checked_sub(u64::from(back)) else { return };
        let Some((frame, piece, timestamp)) = self.sent.get(index) else { return };
        let is_marked = piece.is_marked;
        match &mut self.rtx {
            // RFC 4588 section 4: a stream of its own, each packet with its number in the other one.
            Some(rtx) => {
                let Rtx { payload_type, ssrc, index } = *rtx;
                rtx.index += 1;
                let head = Head { payload_type, is_marked, index, timestamp, ssrc };
                link.send(&head, &[&sequence.to_be_bytes(), frame.bytes_of(piece)]);
            }
            None => {
                let Self { payload_type, ssrc, .. } = *self;
                let head = Head { payload_type, is_marked, index, timestamp, ssrc };
                link.send(&head, &[frame.bytes_of(piece)]);
            }
        }
    }

    /// What is added to the timestamps of a frame. A new time line goes on where the last one was.
    fn shift_of(&mut self, frame: &Frame, first: &Piece, now: Instant) -> u32 {
        let Some((last, at)) = self.last else {
            let shift = self.shift.map_or_else(|| rand::random::<u32>() >> 1, |(_, shift)| shift);
            self.shift = Some((frame.line, shift));
            return shift;
        };
        let elapsed = now.saturating_duration_since(at);
        let passed = (elapsed.as_micros() * u128::from(self.clock_rate) / 1_000_000) as u32;
        let expected = last.wrapping_add(passed.max(1));
        let limit = (JUMP.as_secs() as i32).saturating_mul(self.clock_rate as i32);
        if let Some((line, shift)) = self.shift {
            let off = first.timestamp.wrapping_add(shift).wrapping_sub(expected) as i32;
            if line == frame.line && off.saturating_abs() < limit {
                // A history that is sent again lies before what was sent: it moves behind it, by ticks.
                return match frame.is_history
                    && (first.timestamp.wrapping_add(shift).wrapping_sub(last) as i32) <= 0
                {
                    true => last.wrapping_add(1).wrapping_sub(first.timestamp),
                    false => shift,
                };
            }
        }
        let shift = expected.wrapping_sub(first.timestamp);
        self.shift = Some((frame.line, shift));
        shift
    }

    /// Sends the wall time of the track (RFC 3550 section 6.4.1): it is what lips are matched by.
    fn report(&mut self, connection: &mut RTCPeerConnection, frame: &Frame, shift: u32, now: Instant) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ns = i64::try_from(unix.as_nanos()).unwrap_or(i64::MAX);
        let ahead = i128::from(unix_ns - frame.unix_ns) * i128::from(self.clock_rate) / 1_000_000_000;
        let report = SenderReport {
            ssrc: self.ssrc,
            ntp_time: ntp_from_unix_ns(unix_ns),
            rtp_time: frame.timestamp.wrapping_add(shift).wrapping_add(ahead as u32),
            packet_count: self.counts.packets as u32,
            octet_count: self.counts.bytes as u32,
            ..SenderReport::default()
        };
        let message = RTCMessage::RtcpPacket(String::new(), vec![Box::new(report)]);
        if let Err(error) = connection.handle_write(TaggedRTCMessage { now, message }) {
            tracing::debug!("rtcp: {error}");
        }
    }
}
