//! Publishing: packets of ANNOUNCE/RECORD connections to units of a source (S60 to S65).

use std::time::Duration;

use bytes::Bytes;
use patchbay_media::Unit;
use patchbay_rtp::rtcp::{self, Rtcp, unix_ns_from_ntp};
use patchbay_rtp::{Depacketizer, Item, Reorder, RtpPacket, sdp};
use patchbay_sdk::Error;
use patchbay_sdk::api::message::{Clock, Connection};
use patchbay_sdk::source::Tracks;

use super::streams::Intake;

/// A wall clock further from ours than this is not passed on.
const BELIEVABLE_NS: u64 = 24 * 3600 * 1_000_000_000;

/// The publishing side of one connection.
#[derive(Debug)]
pub struct Ingest<I> {
    intake: I,
    connection: Connection,
    /// By media index; `None`: not set up, or no payload format of ours.
    medias: Vec<Option<Media>>,
    is_started: bool,
    timeline: Timeline,
}

#[derive(Debug)]
struct Media {
    /// Track id in the host.
    id: u32,
    depacketizer: Depacketizer,
    /// Over UDP only.
    reorder: Option<Reorder>,
    placed: Placed,
}

impl<I: Intake> Ingest<I> {
    /// An ingest of the announced `medias`; [`Ingest::start`] says which of them come.
    pub fn new(intake: I, medias: &[sdp::Media], connection: Connection) -> Self {
        let medias = medias
            .iter()
            .map(|media| {
                let depacketizer = Depacketizer::new(media).ok()?;
                Some(Media { id: 0, depacketizer, reorder: None, placed: Placed::default() })
            })
            .collect();
        Self { intake, connection, medias, is_started: false, timeline: Timeline::default() }
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
        self.intake.tracks(&tracks)
    }

    /// A packet of a media at `now` (monotonic). Broken packets are passed over.
    pub fn packet(&mut self, index: usize, is_rtcp: bool, data: &Bytes, now: Duration) -> Result<(), Error> {
        let Some(Some(media)) = self.medias.get_mut(index) else { return Ok(()) };
        if is_rtcp {
            for report in rtcp::parse(data) {
                if let Rtcp::SenderReport(report, _) = report {
                    media.placed.report = Some((unix_ns_from_ntp(report.ntp), report.rtp_timestamp));
                    media.placed.is_report_new = true;
                }
            }
            return Ok(());
        }
        let Ok(packet) = RtpPacket::parse(data) else { return Ok(()) };
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
                Item::Parameters(parameters) => self.intake.track_changed(media.id, &parameters)?,
                Item::Unit(unit) => {
                    let unit = self.timeline.place(media, unit, now);
                    self.intake.push(media.id, &unit)?;
                    if let Some(clock) = media.wall_clock(&unit) {
                        self.intake.clock(clock)?;
                    }
                }
                Item::Lost { .. } => {}
            }
        }
        Ok(())
    }
}

/// One time for all tracks of a publisher: RTP times start anywhere, units must count from the same instant.
#[derive(Debug, Default)]
struct Timeline {
    first_arrival: Option<Duration>,
    /// Shared time minus the sender's wall time, ns, by the first track that had a sender report.
    lead_ns: Option<i64>,
}

/// What is known of a track's times.
#[derive(Debug, Default)]
struct Placed {
    /// Added to the depacketizer's times, in ticks. Never changes, so that differences stay exact.
    offset: Option<i64>,
    /// The sender's wall time (Unix, ns) of an RTP time.
    report: Option<(i64, u32)>,
    is_report_new: bool,
}

impl Timeline {
    /// Moves a unit to the shared time. The first unit of a track decides: by sender reports where both tracks have one
    /// (ffmpeg sends it before the first packet), else by arrival.
    fn place(&mut self, media: &mut Media, mut unit: Unit, now: Duration) -> Unit {
        let rate = i128::from(media.depacketizer.parameters().clock_rate.max(1));
        let offset = match media.placed.offset {
            Some(offset) => offset,
            None => {
                let sender_ns = media.sender_ns(unit.pts);
                let arrival = now.saturating_sub(*self.first_arrival.get_or_insert(now));
                let arrival_ns = i64::try_from(arrival.as_nanos()).unwrap_or(0);
                let shared_ns = match (sender_ns, self.lead_ns) {
                    (Some(sender), Some(lead)) => sender.saturating_add(lead),
                    _ => arrival_ns,
                };
                if let (Some(sender), None) = (sender_ns, self.lead_ns) {
                    self.lead_ns = Some(shared_ns.saturating_sub(sender));
                }
                let ticks = (i128::from(shared_ns) * rate).div_euclid(1_000_000_000);
                let offset = i64::try_from(ticks).unwrap_or(0).saturating_sub(unit.pts);
                media.placed.offset = Some(offset);
                offset
            }
        };
        unit.pts = unit.pts.saturating_add(offset);
        unit.dts = unit.dts.saturating_add(offset);
        unit
    }
}

impl Media {
    /// The sender's wall time of a depacketizer's time.
    fn sender_ns(&self, pts: i64) -> Option<i64> {
        let (unix_ns, rtp_timestamp) = self.placed.report?;
        let reported = self.depacketizer.pts_of(rtp_timestamp)?;
        let rate = i128::from(self.depacketizer.parameters().clock_rate.max(1));
        let ns = i128::from(pts.saturating_sub(reported)) * 1_000_000_000 / rate;
        Some(unix_ns.saturating_add(i64::try_from(ns).ok()?))
    }

    /// The wall time of a placed unit, once per sender report.
    fn wall_clock(&mut self, unit: &Unit) -> Option<Clock> {
        if !std::mem::take(&mut self.placed.is_report_new) {
            return None;
        }
        let unix_ns = self.sender_ns(unit.pts.saturating_sub(self.placed.offset?))?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        (unix_ns.abs_diff(now_ns) < BELIEVABLE_NS).then_some(Clock { track: self.id, pts: unit.pts, unix_ns })
    }
}
