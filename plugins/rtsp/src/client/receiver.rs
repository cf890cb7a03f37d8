//! Packets of a session's medias to units, clocks and receiver reports.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use patchbay_media::{Kind, Parameters, Unit};
use patchbay_rtp::clock::Reports;
use patchbay_rtp::rtcp::{self, Reception, Rtcp};
use patchbay_rtp::{Depacketizer, Item, Reorder, RtpPacket, sdp};

use super::Starts;
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
    /// By the camera's sender report `pts` was at `unix_ns` on the camera's clock (C91).
    Clock {
        /// Track.
        track: usize,
        /// Time in the track's ticks.
        pts: i64,
        /// The same instant, ns since 1970 as the camera counts.
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
    starts: Starts,
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
    reports: Reports,
    ssrc: Option<u32>,
}

impl Receiver {
    /// The tracks of a description that can be received: known payload formats, no talk-back, no data, no SRTP.
    /// `ssrc` names this receiver in its reports.
    pub fn new(session: &sdp::Session, filter: MediaFilter, ssrc: u32) -> Self {
        let receivable = |(media, m): (usize, &sdp::Media)| {
            if m.kind == Kind::Data || m.is_backchannel || m.is_srtp() || !filter.allows(m.kind) {
                return None;
            }
            let mut depacketizer = Depacketizer::new(m).ok()?;
            depacketizer.start_at_arrival();
            let reception = Reception::new(depacketizer.parameters().clock_rate);
            let reports = Reports::default();
            Some(Track { media, depacketizer, reorder: None, reception, reports, ssrc: None })
        };
        let tracks: Vec<Track> = session.medias.iter().enumerate().filter_map(receivable).collect();
        Self { tracks, starts: Starts::default(), out: VecDeque::new(), ssrc, malformed: 0 }
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
        for track in &mut self.tracks {
            track.reorder = (lower != Lower::Tcp).then(Reorder::new);
            track.reception = Reception::new(track.depacketizer.parameters().clock_rate);
            track.reports.clear();
            track.ssrc = None;
        }
        self.starts = Starts::default();
    }

    /// What the camera says of where its tracks begin (C82).
    pub fn starts(&mut self, starts: Starts) {
        self.starts = starts;
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
        if track.ssrc.is_none()
            && let Some(at) = self.starts.place(&packet, track.depacketizer.parameters().clock_rate, now)
        {
            track.depacketizer.start_at(packet.timestamp, at);
        }
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
            if track.ssrc.is_none_or(|ssrc| ssrc == report.ssrc) {
                track.reception.sender_report(&report, now);
                track.reports.push(report);
                self.out.extend(track.clock(index));
            }
        }
    }

    fn drain(&mut self, now: Duration, index: usize) {
        let Some(track) = self.tracks.get_mut(index) else { return };
        while let Some(packet) = track.reorder.as_mut().and_then(|r| r.poll(now)) {
            track.depacketizer.push(&packet, now);
        }
        while let Some(item) = track.depacketizer.poll() {
            if matches!(item, Item::Unit(_)) {
                self.out.extend(track.clock(index));
            }
            self.out.push_back(match item {
                Item::Unit(unit) => Delivery::Unit { track: index, unit },
                Item::Parameters(parameters) => Delivery::Parameters { track: index, parameters },
                Item::Lost { packets } => Delivery::Lost { track: index, packets },
            });
        }
    }
}

impl Track {
    fn clock(&mut self, track: usize) -> Option<Delivery> {
        let (pts, unix_ns) = self.reports.poll(self.ssrc, &self.depacketizer)?;
        Some(Delivery::Clock { track, pts, unix_ns })
    }
}
