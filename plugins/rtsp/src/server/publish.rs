//! Publishing: packets of ANNOUNCE/RECORD connections to units of a source (S60 to S65).

use std::time::Duration;

use bytes::Bytes;
use patchbay_rtp::clock::Reports;
use patchbay_rtp::rtcp::{self, Rtcp};
use patchbay_rtp::{Depacketizer, Item, Reorder, RtpPacket, sdp};
use patchbay_sdk::Error;
use patchbay_sdk::api::message::{Clock, Connection};
use patchbay_sdk::pacer::Brake;
use patchbay_sdk::source::Tracks;

use super::streams::Intake;

/// The publishing side of one connection.
#[derive(Debug)]
pub struct Ingest<I> {
    intake: I,
    connection: Connection,
    /// By media index; `None`: not set up, or no payload format of ours.
    medias: Vec<Option<Media>>,
    is_started: bool,
    brake: Brake,
    due: Duration,
}

#[derive(Debug)]
struct Media {
    /// Track id in the host.
    id: u32,
    depacketizer: Depacketizer,
    /// Over UDP only.
    reorder: Option<Reorder>,
    reports: Reports,
    ssrc: Option<u32>,
}

impl<I: Intake> Ingest<I> {
    /// An ingest of the announced `medias`; [`Ingest::start`] says which of them come.
    pub fn new(intake: I, medias: &[sdp::Media], connection: Connection) -> Self {
        let medias = medias
            .iter()
            .map(|media| {
                let mut depacketizer = Depacketizer::new(media).ok()?;
                depacketizer.start_at_arrival();
                Some(Media { id: 0, depacketizer, reorder: None, reports: Reports::default(), ssrc: None })
            })
            .collect();
        Self { intake, connection, medias, is_started: false, brake: Brake::default(), due: Duration::ZERO }
    }

    /// Whether at least one of the medias can be taken.
    pub fn is_possible(&self) -> bool {
        self.medias.iter().any(Option::is_some)
    }

    /// Announces the tracks that were set up, once. `set_up` are media indexes, and whether they come by UDP.
    pub fn start(&mut self, set_up: &[(usize, bool)]) -> Result<(), Error> {
        if self.is_started {
            return Ok(());
        }
        self.is_started = true;
        let mut tracks = Tracks { connection: self.connection.clone(), ..Tracks::default() };
        for (index, media) in self.medias.iter_mut().enumerate() {
            let Some((_, is_udp)) = set_up.iter().find(|(track, _)| *track == index) else {
                *media = None;
                continue;
            };
            if let Some(media) = media {
                media.id = u32::try_from(tracks.receive.len()).unwrap_or(u32::MAX);
                media.reorder = is_udp.then(Reorder::new);
                tracks.receive.push(media.depacketizer.parameters().clone().into());
            }
        }
        self.brake.set_tracks(tracks.receive.iter().map(|track| &track.parameters));
        self.intake.tracks(&tracks)
    }

    /// Nothing more is read before this time (monotonic): what came is ahead of real time.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// A packet of a media at `now` (monotonic). Broken packets are passed over.
    pub fn packet(&mut self, index: usize, is_rtcp: bool, data: &Bytes, now: Duration) -> Result<(), Error> {
        let Some(Some(media)) = self.medias.get_mut(index) else { return Ok(()) };
        if is_rtcp {
            for report in rtcp::parse(data) {
                if let Rtcp::SenderReport(report, _) = report {
                    media.reports.push(report);
                }
            }
            return media.clock().map_or(Ok(()), |clock| self.intake.clock(clock));
        }
        let Ok(packet) = RtpPacket::parse(data) else { return Ok(()) };
        media.ssrc = Some(packet.ssrc);
        match &mut media.reorder {
            None => media.depacketizer.push(&packet, now),
            Some(reorder) => {
                reorder.push(packet, now);
                while let Some(packet) = reorder.poll(now) {
                    media.depacketizer.push(&packet, now);
                }
            }
        }
        self.drain(index, now)
    }

    /// The connection ends: what is complete goes out.
    pub fn flush(&mut self, now: Duration) -> Result<(), Error> {
        for index in 0..self.medias.len() {
            if let Some(Some(media)) = self.medias.get_mut(index) {
                if let Some(reorder) = &mut media.reorder {
                    reorder.flush();
                    while let Some(packet) = reorder.poll(now) {
                        media.depacketizer.push(&packet, now);
                    }
                }
                media.depacketizer.flush();
            }
            self.drain(index, now)?;
        }
        Ok(())
    }

    /// Completes when the host ends the publisher.
    pub async fn ended(&mut self) -> Error {
        self.intake.ended().await
    }

    fn drain(&mut self, index: usize, now: Duration) -> Result<(), Error> {
        let Some(Some(media)) = self.medias.get_mut(index) else { return Ok(()) };
        while let Some(item) = media.depacketizer.poll() {
            match item {
                Item::Parameters(parameters) => {
                    self.brake.set_track(media.id as usize, &parameters);
                    self.intake.track_changed(media.id, &parameters)?;
                }
                Item::Unit(unit) => {
                    // Before the unit: ffmpeg reports before its first packet, which then lies where it belongs.
                    if let Some(clock) = media.clock() {
                        self.intake.clock(clock)?;
                    }
                    self.due = self.due.max(self.brake.due(now, media.id as usize, &unit));
                    self.intake.push(media.id, &unit)?;
                }
                Item::Lost { .. } => {}
            }
        }
        Ok(())
    }
}

impl Media {
    fn clock(&mut self) -> Option<Clock> {
        let (pts, unix_ns) = self.reports.poll(self.ssrc, &self.depacketizer)?;
        Some(Clock { track: self.id, pts, unix_ns })
    }
}
