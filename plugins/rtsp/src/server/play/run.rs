//! One packetizing run: a track and a packet size, shared by all its viewers.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_media::{Kind, Parameters, Unit};
use patchbay_rtp::clock::{self, WallClock};
use patchbay_rtp::packetize::{History, Packetizer, Packets, Refused, Times};
use patchbay_rtp::rtcp::{self, SenderReport};
use patchbay_rtp::sdp;

use crate::wire::write_interleaved;

/// Between two sender reports (S45).
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// A unit older than this is not sent to a joining viewer as its first sound.
const FRESH: Duration = Duration::from_millis(500);
/// A source whose times go ahead of the time of day by more seconds than this over a break counts anew.
const BREAK_MAX_S: i64 = 10;

/// Random numbers that a run starts with.
#[derive(Debug, Clone, Copy)]
pub struct Seed {
    /// SSRC.
    pub ssrc: u32,
    /// First sequence number.
    pub sequence: u16,
    /// RTP time of the first unit.
    pub timestamp: u32,
}

/// The moment of a unit.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Since the server's start.
    pub at: Duration,
    /// The same on the machine's clocks.
    pub wall: clock::Now,
}

/// What a joining viewer gets of a track before live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Interleaved frames; empty when it starts with the next live packet.
    pub frames: Bytes,
    /// Sequence number of its first packet.
    pub sequence: u16,
    /// RTP time of its first packet.
    pub timestamp: u32,
}

/// A packetizing run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Codec and configuration of the units that come now.
    pub parameters: Parameters,
    /// Payload type.
    pub payload_type: u8,
    /// RTP channel over TCP.
    pub channel: u8,
    /// Random start.
    pub seed: Seed,
    max_payload: usize,
    /// Made with the first unit: its time decides the base.
    packetizer: Option<Packetizer>,
    last: Option<Last>,
    /// Added to the source's times, in ticks: a source that came back may begin a little before its last unit.
    shift: i64,
    newest: Option<Newest>,
    /// NTP and RTP time of one moment.
    clock: Option<(u64, u32)>,
    packets: u32,
    octets: u32,
    reported_at: Option<Duration>,
}

/// The newest unit, as sent.
#[derive(Debug, Clone)]
struct Newest {
    dts: i64,
    /// Ticks since the one before.
    step: i64,
    at: Duration,
}

#[derive(Debug, Clone)]
struct Last {
    frames: Bytes,
    sequence: u16,
    timestamp: u32,
    at: Duration,
}

impl Run {
    /// A run that has sent nothing yet.
    pub fn new(id: u32, parameters: Parameters, seed: Seed, max_payload: usize) -> Self {
        let id = u8::try_from(id & 31).unwrap_or(0);
        Self {
            payload_type: sdp::payload_type(&parameters, 96 + id),
            parameters,
            channel: id * 2,
            seed,
            max_payload,
            packetizer: None,
            last: None,
            shift: 0,
            newest: None,
            clock: None,
            packets: 0,
            octets: 0,
            reported_at: None,
        }
    }

    /// Whether packets were numbered already.
    pub fn is_started(&self) -> bool {
        self.packetizer.is_some()
    }

    /// Whether a viewer must begin at a key unit.
    pub fn is_keyed(&self) -> bool {
        self.parameters.codec.kind() == Kind::Video
    }

    /// Makes the first unit's RTP time the one of the seed.
    pub fn start(&mut self, pts: i64) {
        if self.packetizer.is_none() {
            let Seed { ssrc, sequence, timestamp } = self.seed;
            let new = |base| {
                Packetizer::new(&self.parameters, self.payload_type, ssrc, sequence, base, self.max_payload)
                    .ok()
            };
            // In ticks of the RTP clock, which may be another than the track's (ms of FLV).
            self.packetizer = new(0).and_then(|zero| new(timestamp.wrapping_sub(zero.timestamp(pts))));
        }
    }

    /// Takes new parameters. `false`: another codec, which cannot go on under the same description.
    pub fn set_parameters(&mut self, parameters: Parameters) -> bool {
        let same = parameters.codec == self.parameters.codec
            && parameters.clock_rate == self.parameters.clock_rate
            && parameters.channels == self.parameters.channels;
        self.parameters = parameters;
        same
    }

    /// The interleaved frames of a unit, with a sender report before them when one is due. `None`: nothing to send,
    /// such as pictures before the first key.
    pub fn packetize(&mut self, unit: &Unit, wall: &WallClock, now: Now) -> Option<Bytes> {
        if !self.is_started() && self.is_keyed() && !unit.key {
            return None;
        }
        self.start(unit.pts);
        let unit = &self.place(unit, now.at);
        let source_pts = unit.pts.saturating_sub(self.shift);
        let sets = (unit.key && self.is_keyed()).then_some(&self.parameters);
        let packetizer = self.packetizer.as_mut()?;
        let (sequence, timestamp) = (packetizer.next_sequence(), packetizer.timestamp(unit.pts));
        let mut packets = Packets::new(self.channel);
        let count = packetizer.packetize(unit, sets, &mut packets);
        if count == 0 {
            return None;
        }
        let octets = packets.octets();
        let frames = packets.take();
        self.last = Some(Last { frames: frames.clone(), sequence, timestamp, at: now.at });
        self.set_clock(source_pts, wall, now);
        let due = self.reported_at.is_none_or(|at| now.at.saturating_sub(at) >= REPORT_EVERY);
        let report = if due { self.report() } else { None };
        // Counted behind the report: it tells what was sent before it.
        self.packets = self.packets.wrapping_add(u32::try_from(count).unwrap_or(0));
        self.octets = self.octets.wrapping_add(octets as u32);
        let Some(report) = report else { return Some(frames) };
        self.reported_at = Some(now.at);
        let mut both = BytesMut::with_capacity(report.len() + frames.len());
        both.extend_from_slice(&report);
        both.extend_from_slice(&frames);
        Some(both.freeze())
    }

    /// Why no unit of the track can be sent, when that is so.
    pub fn refused(&self) -> Option<Refused> {
        self.packetizer.as_ref()?.refused().filter(|refused| refused.is_lasting())
    }

    /// Moves a unit to times that grow as the time of day does. Players are told of the shift by the sender reports, and
    /// each break in the source's times begins without one, so that shifts do not add up.
    fn place(&mut self, unit: &Unit, at: Duration) -> Unit {
        let mut unit = unit.clone();
        if unit.discontinuity
            && let Some(newest) = &self.newest
        {
            let rate = i128::from(self.parameters.clock_rate);
            let elapsed = at.saturating_sub(newest.at).as_nanos() as i128 * rate / 1_000_000_000;
            let elapsed = i64::try_from(elapsed).unwrap_or(0).max(newest.step);
            let earliest = newest.dts.saturating_add(newest.step);
            let latest = newest.dts.saturating_add(elapsed).saturating_add(BREAK_MAX_S * rate as i64);
            self.shift = match unit.dts {
                dts if (earliest..=latest).contains(&dts) => 0,
                dts if dts < earliest && earliest.saturating_sub(dts) < rate as i64 => {
                    earliest.saturating_sub(dts)
                }
                // It counts anew.
                dts => newest.dts.saturating_add(elapsed).saturating_sub(dts),
            };
        }
        unit.pts = unit.pts.saturating_add(self.shift);
        unit.dts = unit.dts.saturating_add(self.shift);
        let step = match &self.newest {
            Some(newest) if unit.discontinuity || unit.dts <= newest.dts => newest.step,
            Some(newest) => unit.dts.saturating_sub(newest.dts),
            None => 1,
        };
        self.newest = Some(Newest { dts: unit.dts, step, at });
        unit
    }

    /// Notes the wall time of a unit.
    pub fn set_clock(&mut self, pts: i64, wall: &WallClock, now: Now) {
        let unix_ns = wall.unix_ns(pts, self.parameters.clock_rate, now.wall);
        self.clock = self
            .packetizer
            .as_ref()
            .map(|p| (rtcp::ntp_from_unix_ns(unix_ns), p.timestamp(pts.saturating_add(self.shift))));
    }

    /// The sender report of now as an interleaved frame; `None` before the first unit.
    pub fn report(&self) -> Option<Bytes> {
        let (ntp, rtp_timestamp) = self.clock?;
        let report = SenderReport {
            ssrc: self.seed.ssrc,
            ntp,
            rtp_timestamp,
            packets: self.packets,
            octets: self.octets,
        };
        let mut frame = BytesMut::new();
        write_interleaved(self.channel + 1, &rtcp::sender_report(&report, "patchbay"), &mut frame);
        Some(frame.freeze())
    }

    /// Where a viewer starts that joins now without history of pictures: sound starts with its newest packet, whose number
    /// and time are known; a run that has sent nothing starts with its seed. `None`: not known.
    pub fn start_now(&self, at: Duration) -> Option<Start> {
        if !self.is_started() {
            let Seed { sequence, timestamp, .. } = self.seed;
            return Some(Start { frames: Bytes::new(), sequence, timestamp });
        }
        let last = self.last.as_ref().filter(|last| at.saturating_sub(last.at) < FRESH)?;
        Some(Start { frames: last.frames.clone(), sequence: last.sequence, timestamp: last.timestamp })
    }

    /// Where a viewer starts that gets `units` before the next live packet (S9). `is_true_time` keeps their times.
    pub fn start_with(&self, units: &[Unit], is_true_time: bool) -> Option<Start> {
        let packetizer = self.packetizer.as_ref()?;
        let times = match units {
            _ if is_true_time => Times::True,
            [.., before, last] => {
                // No later unit is shown before it is decoded.
                Times::Before(
                    self.shift
                        .saturating_add(last.dts)
                        .saturating_add(last.dts.saturating_sub(before.dts).max(1)),
                )
            }
            [last] => Times::Before(self.shift.saturating_add(last.dts).saturating_add(1)),
            [] => return None,
        };
        let mut packets = Packets::new(self.channel);
        let shifted: Vec<Unit>;
        let units = if self.shift == 0 {
            units
        } else {
            let moved = |unit: &Unit| Unit {
                pts: unit.pts.saturating_add(self.shift),
                dts: unit.dts.saturating_add(self.shift),
                ..unit.clone()
            };
            shifted = units.iter().map(moved).collect();
            &shifted
        };
        let history = History { units, parameters: Some(&self.parameters), times };
        if packetizer.packetize_history(&history, &mut packets) == 0 {
            return None;
        }
        let frames = packets.take();
        let (sequence, timestamp) = first_packet(&frames)?;
        Some(Start { frames, sequence, timestamp })
    }
}

/// Sequence number and time of the first packet of some frames.
fn first_packet(frames: &[u8]) -> Option<(u16, u32)> {
    let [_, _, _, _, _, _, s0, s1, t0, t1, t2, t3] = *frames.first_chunk::<12>()?;
    Some((u16::from_be_bytes([s0, s1]), u32::from_be_bytes([t0, t1, t2, t3])))
}
