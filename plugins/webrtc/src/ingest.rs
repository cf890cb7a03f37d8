//! Packets of a peer that sends, to units of a source: for publishers and for sources that this side dials.

use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use patchbay_media::Kind;
use patchbay_rtp::clock::Reports;
use patchbay_rtp::rtcp::SenderReport;
use patchbay_rtp::sdp::Direction;
use patchbay_rtp::{Depacketizer, Item, Reorder, RtpPacket, sdp};
use patchbay_sdk::Error;
use patchbay_sdk::api::message::{Clock, Connection, SendTrack};
use patchbay_sdk::source::{Session, Tracks};

/// How often a publisher is asked for a key unit, so that the ring stays short: browsers send one only when asked.
pub const KEYFRAME_EVERY: Duration = Duration::from_secs(2);

/// After a loss it is asked so soon again.
const REPAIR_EVERY: Duration = Duration::from_millis(500);

/// A connected peer that sends, whoever dialled.
pub trait Sender: Send {
    /// What comes next. Nothing is lost when the future is dropped.
    fn next(&mut self) -> impl Future<Output = Received> + Send;
    /// Asks for key units of these SSRCs.
    fn want_keyframes(&mut self, streams: Vec<u32>);
}

/// What comes from a [`Sender`].
#[derive(Debug)]
pub enum Received {
    /// A media packet.
    Packet(rtc::rtp::Packet),
    /// A sender report.
    SenderReport {
        /// The reported stream.
        ssrc: u32,
        /// NTP time.
        ntp: u64,
        /// RTP time of the same instant.
        rtp_time: u32,
    },
    /// Something that is not media.
    Other,
    /// The connection is over, and why.
    Over(&'static str),
}

/// A packet of the connection for the depacketizers; `None` when it has no payload and only probes the bandwidth.
pub(crate) fn rtp_packet(packet: &rtc::rtp::Packet) -> Option<RtpPacket> {
    let header = &packet.header;
    (!packet.payload.is_empty()).then(|| RtpPacket {
        marker: header.marker,
        payload_type: header.payload_type,
        sequence: header.sequence_number,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
        extension: None,
        // Of its own: the payload would keep the whole datagram.
        payload: Bytes::copy_from_slice(&packet.payload),
    })
}

/// Reports that came before the packets that they tell of.
const EARLY_MAX: usize = 16;

/// The receiving side of one connection.
pub struct Ingest {
    /// What arrival times count from.
    start: Instant,
    medias: Vec<Media>,
    /// Reports of streams that have not begun: they say where the first unit lies. At most [`EARLY_MAX`].
    early: Vec<SenderReport>,
    /// What the peer takes.
    send: Vec<SendTrack>,
    is_announced: bool,
}

struct Media {
    /// Index of its section in the description.
    section: usize,
    /// Track id in the host.
    id: u32,
    payload_types: Vec<u8>,
    ssrc: Option<u32>,
    depacketizer: Depacketizer,
    reorder: Reorder,
    reports: Reports,
    is_broken: bool,
}

impl Ingest {
    /// An ingest of the sections of `description` that are `wanted`, by their index, and that the peer sends.
    pub fn new(description: &str, wanted: impl Fn(usize) -> bool) -> Self {
        let mut ingest = Self {
            start: Instant::now(),
            medias: Vec::new(),
            early: Vec::new(),
            send: Vec::new(),
            is_announced: false,
        };
        ingest.extend(description, wanted);
        ingest
    }

    /// Takes what a later description of the same peer adds; true when that is anything, which is to be announced then.
    pub fn extend(&mut self, description: &str, wanted: impl Fn(usize) -> bool) -> bool {
        let session = sdp::parse(description.as_bytes());
        let known = self.medias.len();
        for (section, media) in session.medias.iter().enumerate() {
            let is_silent = matches!(media.direction, Some(Direction::RecvOnly | Direction::Inactive));
            let is_known = self.medias.iter().any(|known| known.section == section);
            if !wanted(section) || is_silent || is_known || media.kind == Kind::Data {
                continue;
            }
            let Ok(depacketizer) = Depacketizer::new(media) else { continue };
            self.medias.push(Media {
                section,
                id: u32::try_from(self.medias.len()).unwrap_or(u32::MAX),
                payload_types: media.payload_types.clone(),
                ssrc: None,
                depacketizer,
                reorder: Reorder::new(),
                reports: Reports::default(),
                is_broken: false,
            });
        }
        let is_more = self.medias.len() > known;
        self.is_announced &= !is_more;
        is_more
    }

    /// The peer takes talk of these kinds from now on, which is to be announced then.
    pub fn set_send(&mut self, send: Vec<SendTrack>) {
        self.is_announced &= self.send == send;
        self.send = send;
    }

    /// Whether there is anything to receive.
    pub fn is_empty(&self) -> bool {
        self.medias.is_empty()
    }

    /// Announces the tracks, once, and again when there are more.
    pub fn announce(&mut self, session: &Session, connection: &Connection) -> Result<(), Error> {
        if std::mem::replace(&mut self.is_announced, true) {
            return Ok(());
        }
        session.tracks(&Tracks {
            receive: self.medias.iter().map(|m| m.depacketizer.parameters().clone().into()).collect(),
            send: self.send.clone(),
            connection: connection.clone(),
            ..Tracks::default()
        })
    }

    /// Takes what `sender` sends until the connection is over; gives the reason. Asks for a key unit at first, after a
    /// loss, when the host wants one, and `regularly` of a publisher. A service that is dialled has viewers of its own and
    /// is left to its own times; some, this server among them, answer with the whole group of pictures once more.
    pub async fn receive(
        &mut self,
        session: &Session,
        sender: &mut impl Sender,
        regularly: Option<Duration>,
    ) -> Result<&'static str, Error> {
        let start = self.start;
        let mut every = tokio::time::interval(REPAIR_EVERY);
        let mut asked: Option<Instant> = None;
        loop {
            let late = self.wake_at().map(|at| start + at);
            let mut wants = false;
            tokio::select! {
                received = sender.next() => match received {
                    Received::Packet(packet) => self.packet(session, packet, start.elapsed())?,
                    Received::SenderReport { ssrc, ntp, rtp_time } => self.sender_report(ssrc, ntp, rtp_time),
                    Received::Other => {}
                    Received::Over(why) => return Ok(why),
                },
                () = async {
                    match late {
                        Some(late) => tokio::time::sleep_until(late.into()).await,
                        None => std::future::pending().await,
                    }
                } => self.drain(session, start.elapsed())?,
                () = session.keyframe_wanted() => wants = true,
                _ = every.tick() => {
                    let is_due = asked.is_none_or(|asked| regularly.is_some_and(|every| asked.elapsed() >= every));
                    wants = is_due || !self.video_streams(true).is_empty();
                }
            }
            if wants {
                let streams = self.video_streams(false);
                if !streams.is_empty() {
                    asked = Some(Instant::now());
                    sender.want_keyframes(streams);
                }
            }
        }
    }

    /// Takes a packet that arrived at `now` (monotonic). Packets of unknown payload types are passed over; streams are told
    /// apart by payload type, because some peers do not say their SSRCs.
    fn packet(&mut self, session: &Session, packet: rtc::rtp::Packet, now: Duration) -> Result<(), Error> {
        let header = &packet.header;
        let of_type = |media: &Media| media.payload_types.contains(&header.payload_type);
        // Sections may share a payload type: then the stream that is known for it, else one that none is known for.
        let found = [Some(Some(header.ssrc)), Some(None), None].into_iter().find_map(|ssrc| {
            self.medias.iter().position(|media| of_type(media) && ssrc.is_none_or(|ssrc| media.ssrc == ssrc))
        });
        let found = found.and_then(|at| self.medias.get_mut(at));
        let Some((media, packet)) = found.zip(rtp_packet(&packet)) else { return Ok(()) };
        if media.ssrc != Some(packet.ssrc) {
            media.ssrc = Some(packet.ssrc);
            for report in self.early.extract_if(.., |report| report.ssrc == packet.ssrc) {
                media.reports.push(report);
            }
        }
        media.reorder.push(packet, now);
        self.drain(session, now)
    }

    /// Takes a sender report.
    fn sender_report(&mut self, ssrc: u32, ntp: u64, rtp_time: u32) {
        let report = SenderReport { ssrc, ntp, rtp_timestamp: rtp_time, packets: 0, octets: 0 };
        match self.medias.iter_mut().find(|media| media.ssrc == Some(ssrc)) {
            Some(media) => media.reports.push(report),
            None => {
                self.early.retain(|early| early.ssrc != ssrc);
                self.early.truncate(EARLY_MAX - 1);
                self.early.push(report);
            }
        }
    }

    /// When [`Ingest::drain`] is to be called although no packet comes.
    fn wake_at(&self) -> Option<Duration> {
        self.medias.iter().filter_map(|media| media.reorder.wake_at()).min()
    }

    /// Hands out what is complete at `now`.
    fn drain(&mut self, session: &Session, now: Duration) -> Result<(), Error> {
        for media in &mut self.medias {
            while let Some(packet) = media.reorder.poll(now) {
                media.depacketizer.push(&packet, now);
            }
            while let Some(item) = media.depacketizer.poll() {
                match item {
                    Item::Parameters(parameters) => session.track_changed(media.id, &parameters)?,
                    Item::Unit(unit) => {
                        media.is_broken &= !unit.key;
                        // Before the unit: a report may come before the first packet, which then lies where it belongs.
                        if let Some((pts, unix_ns)) = media.reports.poll(media.ssrc, &media.depacketizer) {
                            session.clock(Clock { track: media.id, pts, unix_ns })?;
                        }
                        session.push(media.id, &unit)?;
                    }
                    Item::Lost { .. } => media.is_broken = true,
                }
            }
        }
        Ok(())
    }

    /// SSRCs of the video streams that came so far; with `broken` only of those that lost packets since their last key unit.
    fn video_streams(&self, broken: bool) -> Vec<u32> {
        let videos =
            self.medias.iter().filter(|media| media.depacketizer.parameters().codec.kind() == Kind::Video);
        videos.filter(|media| media.is_broken || !broken).filter_map(|media| media.ssrc).collect()
    }
}
