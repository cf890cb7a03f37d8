//! Packets of a session's medias to units, clocks and receiver reports.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use patchbay_media::{Kind, Parameters, Unit};
use patchbay_rtp::clock::Clocks;
use patchbay_rtp::rtcp::{self, Reception, Rtcp};
use patchbay_rtp::{Depacketizer, Item, Reorder, RtpPacket, sdp};

use crate::wire::Lower;

/// Which medias a URL's `#media=` lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MediaFilter {
    /// All.
    #[default]
    All,
    /// Video alone.
    Video,
    /// Audio alone.
    Audio,
}

impl MediaFilter {
    fn allows(self, kind: Kind) -> bool {
        match self {
            Self::All => true,
            Self::Video => kind == Kind::Video,
            Self::Audio => kind == Kind::Audio,
        }
    }
}

/// What comes out of a [`Receiver`]. Tracks count the medias that can be received.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// A unit.
    Unit {
        /// Track.
        track: usize,
        /// The unit.
        unit: Unit,
    },
    /// The configuration of a track from its next unit on.
    Parameters {
        /// Track.
        track: usize,
        /// The configuration.
        parameters: Parameters,
    },
    /// By the camera's sender reports `pts` was at `unix_ns` (C91).
    Clock {
        /// Track.
        track: usize,
        /// Time in the track's ticks.
        pts: i64,
        /// The same instant, ns since 1970, on the time line that the tracks share.
        unix_ns: i64,
    },
    /// Packets of a track are missing.
    Lost {
        /// Track.
        track: usize,
        /// How many, at least.
        packets: u32,
    },
}

/// The receiving side of all tracks of one camera. It outlives connections: times go on, and the first unit behind a gap is
/// marked as a discontinuity.
#[derive(Debug)]
pub struct Receiver {
    tracks: Vec<Track>,
    clocks: Clocks,
    out: VecDeque<Delivery>,
    ssrc: u32,
    malformed: u64,
}

#[derive(Debug)]
struct Track {
    media: usize,
    depacketizer: Depacketizer,
    /// `None` over TCP.
    reorder: Option<Reorder>,
    reception: Reception,
    ssrc: Option<u32>,
}

impl Receiver {
    /// The tracks of a description that can be received: known payload formats, no talk-back, no data, no SRTP.
    /// `unix_ns` is the wall clock at `now`; `ssrc` names this receiver in its reports.
    pub fn new(session: &sdp::Session, filter: MediaFilter, ssrc: u32, unix_ns: i64, now: Duration) -> Self {
        let receivable = |(media, m): (usize, &sdp::Media)| {
            if m.kind == Kind::Data || m.is_backchannel || m.is_srtp() || !filter.allows(m.kind) {
                return None;
            }
            let depacketizer = Depacketizer::new(m).ok()?;
            let reception = Reception::new(depacketizer.parameters().clock_rate);
            Some(Track { media, depacketizer, reorder: None, reception, ssrc: None })
        };
        let tracks: Vec<Track> = session.medias.iter().enumerate().filter_map(receivable).collect();
        let rates: Vec<u32> = tracks.iter().map(|t| t.depacketizer.parameters().clock_rate).collect();
        Self { clocks: Clocks::new(&rates, unix_ns, now), tracks, out: VecDeque::new(), ssrc, malformed: 0 }
    }

    /// Configuration of the tracks as known now.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameters> {
        self.tracks.iter().map(|t| t.depacketizer.parameters())
    }

    /// Index of a track's media in the description.
    pub fn media_of(&self, track: usize) -> Option<usize> {
        self.tracks.get(track).map(|t| t.media)
    }

    /// A new session with the camera plays: over UDP packets are put in order (C67), over TCP they are in order.
    pub fn restart(&mut self, lower: Lower) {
        for (index, track) in self.tracks.iter_mut().enumerate() {
            track.reorder = (lower == Lower::Udp).then(Reorder::new);
            track.reception = Reception::new(track.depacketizer.parameters().clock_rate);
            self.clocks.reset(index);
        }
    }

    /// Takes a packet of the media `media`.
    pub fn packet(&mut self, now: Duration, media: usize, is_rtcp: bool, data: &Bytes) {
        let Some(index) = self.tracks.iter().position(|t| t.media == media) else { return };
        if is_rtcp {
            return self.rtcp(now, index, data);
        }
        let Ok(packet) = RtpPacket::parse(data) else {
            self.malformed += 1;
            return;
        };
        let Some(track) = self.tracks.get_mut(index) else { return };
        track.reception.packet(&packet, now);
        track.ssrc = Some(packet.ssrc);
        match &mut track.reorder {
            Some(reorder) => reorder.push(packet, now),
            None => track.depacketizer.push(&packet, now),
        }
        self.drain(now, index);
    }

    /// The next delivery.
    pub fn poll(&mut self) -> Option<Delivery> {
        self.out.pop_front()
    }

    /// When to call [`Receiver::timeout`]: packets wait for a missing one.
    pub fn wake_at(&self) -> Option<Duration> {
        self.tracks.iter().filter_map(|t| t.reorder.as_ref()?.wake_at()).min()
    }

    /// Gives up missing packets that are overdue.
    pub fn timeout(&mut self, now: Duration) {
        for index in 0..self.tracks.len() {
            self.drain(now, index);
        }
    }

    /// No more packets come for now: the units in progress are complete.
    pub fn flush(&mut self, now: Duration) {
        for index in 0..self.tracks.len() {
            if let Some(track) = self.tracks.get_mut(index) {
                if let Some(reorder) = &mut track.reorder {
                    reorder.flush();
                }
                self.drain(now, index);
            }
            if let Some(track) = self.tracks.get_mut(index) {
                track.depacketizer.flush();
            }
            self.drain(now, index);
        }
    }

    /// Receiver reports of the tracks that have received something, by media (C90).
    pub fn reports(&mut self, now: Duration) -> Vec<(usize, Bytes)> {
        let (ssrc, cname) = (self.ssrc, format!("{:08x}@patchbay", self.ssrc));
        let report = |track: &mut Track| {
            let block = track.reception.report(now)?;
            Some((track.media, rtcp::receiver_report(ssrc, &[block], &cname)))
        };
        self.tracks.iter_mut().filter_map(report).collect()
    }

    /// Packets that were no RTP, since the start.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    fn rtcp(&mut self, now: Duration, index: usize, data: &[u8]) {
        for packet in rtcp::parse(data) {
            let Rtcp::SenderReport(report, _) = packet else { continue };
            let Some(track) = self.tracks.get_mut(index) else { return };
            // Reports on other streams are dropped (C86)
            if track.ssrc != Some(report.ssrc) {
                continue;
            }
            track.reception.sender_report(&report, now);
            let Some(pts) = track.depacketizer.pts_of(report.rtp_timestamp) else { continue };
            if self.clocks.sender_report(index, report.ntp, pts, now)
                && let Some(unix_ns) = self.clocks.aligned_ns(index, pts, now)
            {
                self.out.push_back(Delivery::Clock { track: index, pts, unix_ns });
            }
        }
    }

    fn drain(&mut self, now: Duration, index: usize) {
        let Some(track) = self.tracks.get_mut(index) else { return };
        while let Some(packet) = track.reorder.as_mut().and_then(|r| r.poll(now)) {
            track.depacketizer.push(&packet, now);
        }
        while let Some(item) = track.depacketizer.poll() {
            self.out.push_back(match item {
                Item::Unit(unit) => {
                    self.clocks.arrival(index, unit.pts, now);
                    Delivery::Unit { track: index, unit }
                }
                Item::Parameters(parameters) => Delivery::Parameters { track: index, parameters },
                Item::Lost { packets } => Delivery::Lost { track: index, packets },
            });
        }
    }
}
