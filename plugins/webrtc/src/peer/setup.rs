//! Making a connection for an offer: each section gets one format, and the answer names exactly that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use patchbay_media::{Codec, Kind};
use rtc::crypto::RTCCryptoProvider;
use rtc::interceptor::{NackGeneratorBuilder, ReceiverReportBuilder, Registry, Slot};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::interceptor_registry::{
    configure_simulcast_extension_headers, configure_twcc_receiver_only,
};
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::{RTCDtlsRole, RTCIceCandidateInit};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::RTCRtpTransceiverDirection;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RTCRtpRtxParameters, RtpCodecKind,
};
use rtc::shared::error::Error;

use super::feedback::{Feedback, Listener};
use super::outgoing::{Outgoing, Rtx};
use crate::sdp::{Description, Format, SdpError, Section};
use crate::srtp::{self, Tap};

/// Without a packet for so long the peer is disconnected, and the session is over.
const DISCONNECTED_AFTER: Duration = Duration::from_secs(5);

/// A connection that is not up after this time has failed.
const FAILED_AFTER: Duration = Duration::from_secs(25);

/// Between two signs of life.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(2);

/// Where the listener stands among the interceptors: behind all others.
pub const LISTENER_SLOT: usize = 14_000;

/// Letters of user fragments and passwords.
const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Why no connection can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The connection refused the offer.
    #[error("sdp: {0}")]
    Connection(#[from] Error),
    /// The answer cannot be read.
    #[error(transparent)]
    Answer(#[from] SdpError),
}

/// What becomes of a section of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// This side sends in this format.
    Send(Format),
    /// This side receives this format.
    Receive(Format),
    /// Nothing is sent or received.
    Nothing,
}

/// A connection that is ready to be driven.
pub struct Parts {
    pub(super) ufrag: String,
    pub(super) password: String,
    pub(super) connection: RTCPeerConnection,
    pub(super) feedback: Arc<Mutex<Feedback>>,
    pub(super) outgoing: Vec<Outgoing>,
    pub(super) tap: Arc<Tap>,
}

/// Answers an offer. `own` are the candidates of the shared sockets, `told` those in the answer.
pub fn answer(
    offer: &Description,
    uses: &[Use],
    own: &[String],
    told: &[String],
    crypto: &Arc<dyn RTCCryptoProvider>,
) -> Result<(Parts, String), SetupError> {
    let formats: Vec<Option<Format>> =
        offer.sections.iter().zip(uses).map(|(section, wanted)| format_of(section, wanted)).collect();
    let receives = uses.iter().any(|wanted| matches!(wanted, Use::Receive(_)));
    let mut engine = MediaEngine::default();
    for ((section, format), wanted) in offer.sections.iter().zip(&formats).zip(uses) {
        if let Some(format) = format {
            let codec = RTCRtpCodecParameters {
                rtp_codec: codec_of(section.kind, format),
                payload_type: format.payload_type,
            };
            engine.register_codec(codec, kind_of(section.kind))?;
            if let (Some(rtx), Use::Send(_)) = (format.rtx, wanted) {
                let rtp_codec = RTCRtpCodec {
                    mime_type: "video/rtx".to_owned(),
                    clock_rate: format.clock_rate,
                    sdp_fmtp_line: format!("apt={}", format.payload_type),
                    ..RTCRtpCodec::default()
                };
                let codec = RTCRtpCodecParameters { rtp_codec, payload_type: rtx };
                engine.register_codec(codec, kind_of(section.kind))?;
            }
        }
    }
    let feedback: Arc<Mutex<Feedback>> = Arc::default();
    let mut registry = Registry::new().with(Slot::from(LISTENER_SLOT), Listener::new(Arc::clone(&feedback)));
    if receives {
        registry = registry
            .with(Slot::NackGenerator, NackGeneratorBuilder::new().build())
            .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build());
        registry = configure_twcc_receiver_only(registry, &mut engine)?;
        configure_simulcast_extension_headers(&mut engine)?;
    }
    let (ufrag, password) = (random_text(16), random_text(32));
    let (crypto, tap) = srtp::watch(crypto);
    let role = if offer.is_dtls_client() { RTCDtlsRole::Server } else { RTCDtlsRole::Client };
    let settings = SettingEngineBuilder::new()
        .with_answering_dtls_role(role)
        .with_ice_credentials(ufrag.clone(), password.clone())
        .with_ice_timeouts(Some(DISCONNECTED_AFTER), Some(FAILED_AFTER), Some(KEEP_ALIVE_EVERY))
        .with_crypto_provider(crypto)
        .build();
    let now = Instant::now();
    let mut connection = RTCPeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_setting_engine(settings)
        .with_interceptor_registry(registry)
        .build(now)?;
    let kept: Vec<Option<u8>> =
        formats.iter().map(|format| format.as_ref().map(|format| format.payload_type)).collect();
    let seen = offer.reduced_to(&known_formats(offer, &kept));
    connection.set_remote_description(now, RTCSessionDescription::offer(seen)?)?;
    let mut outgoing = Vec::new();
    for (index, (section, wanted)) in offer.sections.iter().zip(uses).enumerate() {
        let rest = || offer.sections.iter().zip(uses).skip(index + 1);
        let is_passed = || rest().any(|(s, u)| s.kind == section.kind && matches!(u, Use::Send(_)));
        let format = match (wanted, formats.get(index)) {
            (Use::Send(format), _) => format,
            // The connection gives a track to the first section of its kind that has none: a microphone's would get the sound for
            // the peer.
            (_, Some(Some(format))) if is_passed() => format,
            _ => continue,
        };
        let ssrc: u32 = rand::random();
        let rtx = format.rtx.map(|payload_type| Rtx::new(payload_type, rand::random()));
        let id = format!("{}-{ssrc:08x}", if section.kind == Kind::Video { "video" } else { "audio" });
        let coding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                rtx: rtx.as_ref().map(|rtx| RTCRtpRtxParameters { ssrc: rtx.ssrc() }),
                ..RTCRtpCodingParameters::default()
            },
            codec: codec_of(section.kind, format),
            ..RTCRtpEncodingParameters::default()
        };
        let track =
            MediaStreamTrack::new("patchbay".to_owned(), id.clone(), id, kind_of(section.kind), vec![coding]);
        connection.add_track(track)?;
        let direction = match wanted {
            Use::Send(_) => {
                outgoing.push(Outgoing::new(format.payload_type, ssrc, format.clock_rate, rtx));
                continue;
            }
            Use::Receive(_) => RTCRtpTransceiverDirection::Recvonly,
            Use::Nothing => RTCRtpTransceiverDirection::Inactive,
        };
        let before = offer.sections.iter().take(index).filter(|section| section.kind != Kind::Data).count();
        let id = connection.get_transceivers().nth(before);
        if let Some(mut transceiver) = id.and_then(|id| connection.rtp_transceiver(id)) {
            transceiver.set_direction(direction);
        }
    }
    for line in own {
        let init = RTCIceCandidateInit { candidate: line.clone(), ..RTCIceCandidateInit::default() };
        connection.add_local_candidate(init)?;
    }
    let answer = connection.create_answer(None)?;
    connection.set_local_description(now, answer.clone())?;
    let mut description = Description::parse(&answer.sdp)?;
    if is_mixed(offer, &kept) {
        description = Description::parse(&description.reduced_with_rtx(&kept))?;
    }
    for (index, _) in uses.iter().enumerate().filter(|(_, wanted)| **wanted == Use::Nothing) {
        description.silence(index);
    }
    let text = description.with_candidates(told);
    Ok((Parts { ufrag, password, connection, feedback, outgoing, tap }, text))
}

/// The formats of each section as the connection sees it. It knows only codecs of the first section of a kind, so that one shows all
/// that other sections of its kind use: a microphone's may be another than that of the sound to the peer.
fn known_formats(offer: &Description, kept: &[Option<u8>]) -> Vec<Vec<u8>> {
    let kinds: Vec<Kind> = offer.sections.iter().map(|section| section.kind).collect();
    let formats = offer.sections.iter().enumerate().map(|(index, section)| {
        let chosen = kept.get(index).copied().flatten();
        let mut own = chosen.map_or_else(Vec::new, |payload_type| section.with_rtx(payload_type));
        let is_first = !kinds.iter().take(index).any(|kind| *kind == section.kind);
        if own.is_empty() || !is_first {
            return own;
        }
        for (_, other) in kinds.iter().zip(kept).filter(|(kind, _)| **kind == section.kind) {
            let other = other.filter(|other| section.formats.iter().any(|f| f.payload_type == *other));
            own.extend(other.filter(|other| !own.contains(other)));
        }
        own
    });
    formats.collect()
}

/// Whether sections of one kind use different formats.
fn is_mixed(offer: &Description, kept: &[Option<u8>]) -> bool {
    known_formats(offer, kept).iter().zip(&offer.sections).zip(kept).any(|((known, section), kept)| {
        kept.is_some_and(|payload_type| known.len() > section.with_rtx(payload_type).len())
    })
}

/// The format that a section keeps. One that is not used keeps one too: a section without any would be refused, and some
/// peers do not take that.
fn format_of(section: &Section, wanted: &Use) -> Option<Format> {
    match wanted {
        Use::Send(format) | Use::Receive(format) => Some(format.clone()),
        Use::Nothing if section.kind == Kind::Data => None,
        Use::Nothing => {
            let known = section.formats.iter().find(|format| format.codec.is_some());
            known.or(section.formats.first()).cloned()
        }
    }
}

fn kind_of(kind: Kind) -> RtpCodecKind {
    match kind {
        Kind::Video => RtpCodecKind::Video,
        Kind::Audio => RtpCodecKind::Audio,
        Kind::Data => RtpCodecKind::Unspecified,
    }
}

/// The format as the connection describes it; the same in the engine and in the track, or nothing is retransmitted.
fn codec_of(kind: Kind, format: &Format) -> RTCRtpCodec {
    let name = match format.codec {
        Some(Codec::H264) => "H264",
        Some(Codec::Hevc) => "H265",
        Some(Codec::Av1) => "AV1",
        Some(Codec::Opus) => "opus",
        Some(Codec::PcmMulaw) => "PCMU",
        Some(Codec::PcmAlaw) => "PCMA",
        _ => &format.name,
    };
    let feedback =
        |typ: &str, parameter: &str| RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() };
    let (prefix, rtcp_feedback) = match kind {
        Kind::Video => ("video", vec![feedback("ccm", "fir"), feedback("nack", ""), feedback("nack", "pli")]),
        _ => ("audio", Vec::new()),
    };
    RTCRtpCodec {
        mime_type: format!("{prefix}/{name}"),
        clock_rate: format.clock_rate,
        channels: format.channels,
        sdp_fmtp_line: format.fmtp.clone(),
        rtcp_feedback,
    }
}

/// Random letters and digits: session ids, user fragments, passwords.
pub fn random_text(len: usize) -> String {
    use rand::Rng as _;
    let mut random = rand::rng();
    (0..len)
        .filter_map(|_| LETTERS.get(random.random_range(0..LETTERS.len())))
        .map(|b| char::from(*b))
        .collect()
}
