//! What is agreed on with a peer, offer by offer: each section gets one format, and the answer names exactly that.
//!
//! The connection sees more than is agreed on: all known formats, and a track of this side in every section, so that a later
//! offer may change what a section is used for. Its answer is cut down to what is used.

use std::collections::HashMap;
use std::time::Instant;

use patchbay_media::Kind;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::rtp_transceiver::RTCRtpTransceiverDirection;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters,
};
use rtc::shared::error::Error;

use super::outgoing::{Outgoing, Rtx};
use super::setup::{SetupError, Use, codec_of, kind_of};
use crate::sdp::{self, Description, Format, Section};

/// User fragment and password of this side (RFC 8445 section 5.3).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User fragment.
    pub ufrag: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// An offer and its answer.
#[derive(Debug, Clone)]
pub struct Agreed {
    /// The answer.
    pub sdp: String,
    /// This side's; others than before when the peer restarted ICE.
    pub credentials: Credentials,
    /// The outgoing track of each section of the offer.
    pub tracks: Vec<Option<usize>>,
}

/// What is known of a section.
#[derive(Debug)]
struct Known {
    ssrc: u32,
    rtx_ssrc: u32,
    /// Its outgoing track, once it had one.
    track: Option<usize>,
}

/// The sections of a connection so far, by their `mid`.
#[derive(Debug, Default)]
pub(super) struct Sections {
    known: HashMap<String, Known>,
}

impl Sections {
    /// Answers an offer, the first one or a later one. After an error with a later one the connection goes on as before.
    pub(super) fn answer(
        &mut self,
        connection: &mut RTCPeerConnection,
        outgoing: &mut Vec<Outgoing>,
        offer: &Description,
        uses: &[Use],
        told: &[String],
        now: Instant,
    ) -> Result<Agreed, SetupError> {
        let seen = offer.shown(&offer.sections.iter().map(shown_types).collect::<Vec<_>>());
        take(connection, seen, now)?;
        for (section, wanted) in offer.sections.iter().zip(uses) {
            self.attach(connection, section, wanted)?;
        }
        let text = give(connection, now)?;
        let credentials = credentials(&text)?;
        let mut answer = Description::parse(&text)?;
        let tracks = self.tracks(outgoing, &answer, offer, uses);
        for (index, wanted) in uses.iter().enumerate() {
            if *wanted == Use::Nothing {
                answer.silence(index);
            }
            if !matches!(wanted, Use::Send(_)) {
                answer.without_streams(index);
            }
        }
        let kept = answer.sections.iter().zip(uses).map(|(section, wanted)| kept(section, wanted));
        let reduced = Description::parse(&answer.reduced_to(&kept.collect::<Vec<_>>()))?;
        Ok(Agreed { sdp: reduced.with_candidates(told), credentials, tracks })
    }

    /// Gives a new section its track, and says what the section is for. The connection gives a track to the first section of its kind
    /// that has none, so every one gets one, in order.
    fn attach(
        &mut self,
        connection: &mut RTCPeerConnection,
        section: &Section,
        wanted: &Use,
    ) -> Result<(), Error> {
        let Some(format) = format_of(section, wanted) else { return Ok(()) };
        let mid = section.mid();
        if !self.known.contains_key(mid) {
            let known = Known { ssrc: rand::random(), rtx_ssrc: rand::random(), track: None };
            connection.add_track(track(section.kind, &known, format))?;
            self.known.insert(mid.to_owned(), known);
        }
        let direction = match wanted {
            Use::Send(_) if section.sends => RTCRtpTransceiverDirection::Sendrecv,
            Use::Send(_) => RTCRtpTransceiverDirection::Sendonly,
            Use::Receive(_) => RTCRtpTransceiverDirection::Recvonly,
            Use::Nothing => RTCRtpTransceiverDirection::Inactive,
        };
        let ids: Vec<_> = connection.get_transceivers().collect();
        for id in ids {
            if let Some(mut transceiver) = connection.rtp_transceiver(id)
                && transceiver.mid().as_deref() == Some(mid)
            {
                transceiver.set_direction(direction);
            }
        }
        Ok(())
    }

    /// The outgoing track of each section, in the format that is agreed on.
    fn tracks(
        &mut self,
        outgoing: &mut Vec<Outgoing>,
        answer: &Description,
        offer: &Description,
        uses: &[Use],
    ) -> Vec<Option<usize>> {
        let mut tracks = Vec::new();
        for (index, (section, wanted)) in offer.sections.iter().zip(uses).enumerate() {
            let (Use::Send(format), Some(known)) = (wanted, self.known.get_mut(section.mid())) else {
                tracks.push(None);
                continue;
            };
            let agreed = answer.sections.get(index).map(|section| section.with_rtx(format.payload_type));
            let rtx = agreed.as_deref().and_then(|types| types.get(1));
            let rtx = rtx.map(|payload_type| Rtx::new(*payload_type, known.rtx_ssrc));
            match known.track.and_then(|track| outgoing.get_mut(track)) {
                Some(outgoing) => outgoing.set_format(format.payload_type, format.clock_rate, rtx),
                None => {
                    known.track = Some(outgoing.len());
                    outgoing.push(Outgoing::new(format.payload_type, known.ssrc, format.clock_rate, rtx));
                }
            }
            tracks.push(known.track);
        }
        tracks
    }
}

/// Starts ICE anew for a peer with these credentials, with all else as it was (RFC 9725 section 4.3.3).
pub(super) fn restart(
    connection: &mut RTCPeerConnection,
    ufrag: &str,
    password: &str,
    now: Instant,
) -> Result<Agreed, SetupError> {
    let before = connection.remote_description().ok_or(SetupError::Over)?;
    let offer = sdp::with_credentials(&before.sdp, ufrag, password);
    take(connection, offer, now)?;
    let sdp = give(connection, now)?;
    Ok(Agreed { credentials: credentials(&sdp)?, sdp, tracks: Vec::new() })
}

/// Takes an offer; one that the connection does not like leaves it as it was.
fn take(connection: &mut RTCPeerConnection, offer: String, now: Instant) -> Result<(), Error> {
    let taken = connection.set_remote_description(now, RTCSessionDescription::offer(offer)?);
    if taken.is_err()
        && let Ok(rollback) = RTCSessionDescription::rollback(None)
    {
        let _ = connection.set_remote_description(now, rollback);
    }
    taken
}

/// The connection's answer.
fn give(connection: &mut RTCPeerConnection, now: Instant) -> Result<String, Error> {
    let answer = connection.create_answer(None)?;
    connection.set_local_description(now, answer.clone())?;
    Ok(answer.sdp)
}

fn credentials(answer: &str) -> Result<Credentials, SetupError> {
    let (ufrag, password) = sdp::credentials(answer).ok_or(SetupError::Credentials)?;
    Ok(Credentials { ufrag: ufrag.to_owned(), password: password.to_owned() })
}

/// The formats of a section that the connection sees: those that are known here, or the first, because a section without any would
/// be refused, and some peers do not take that.
pub(super) fn shown(section: &Section) -> Vec<&Format> {
    if section.kind == Kind::Data {
        return Vec::new();
    }
    let known: Vec<&Format> = section.formats.iter().filter(|format| format.codec.is_some()).collect();
    if known.is_empty() { section.formats.first().into_iter().collect() } else { known }
}

fn shown_types(section: &Section) -> Vec<u8> {
    let with_rtx = shown(section).into_iter().flat_map(|format| [Some(format.payload_type), format.rtx]);
    with_rtx.flatten().collect()
}

/// The payload types of a section of the answer that stay in it.
fn kept(section: &Section, wanted: &Use) -> Vec<u8> {
    match wanted {
        Use::Send(format) => section.with_rtx(format.payload_type),
        Use::Receive(format) => vec![format.payload_type],
        Use::Nothing => section.formats.first().map(|format| format.payload_type).into_iter().collect(),
    }
}

/// The format that a section's own track is in, whether it is used or not.
fn format_of<'a>(section: &'a Section, wanted: &'a Use) -> Option<&'a Format> {
    match wanted {
        Use::Send(format) | Use::Receive(format) => Some(format),
        Use::Nothing => shown(section).into_iter().next(),
    }
}

/// A track as the connection takes it. Packets never go through it; the answer names its streams.
fn track(kind: Kind, known: &Known, format: &Format) -> MediaStreamTrack {
    let ssrc = known.ssrc;
    let id = format!("{}-{ssrc:08x}", if kind == Kind::Video { "video" } else { "audio" });
    let coding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(ssrc),
            rtx: (kind == Kind::Video).then_some(RTCRtpRtxParameters { ssrc: known.rtx_ssrc }),
            ..RTCRtpCodingParameters::default()
        },
        codec: codec_of(kind, format),
        ..RTCRtpEncodingParameters::default()
    };
    MediaStreamTrack::new("patchbay".to_owned(), id.clone(), id, kind_of(kind), vec![coding])
}
