//! Making a connection for the first offer of a peer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use patchbay_media::{Codec, Kind};
use rtc::crypto::RTCCryptoProvider;
use rtc::interceptor::{NackGeneratorBuilder, ReceiverReportBuilder, Registry, Slot};
use rtc::peer_connection::configuration::interceptor_registry::{
    configure_simulcast_extension_headers, configure_twcc_receiver_only,
};
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::transport::{RTCDtlsRole, RTCIceCandidateInit};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};
use rtc::shared::error::Error;

use super::agree::{self, Agreed, Credentials, Sections};
use super::feedback::{Feedback, Listener};
use super::outgoing::Outgoing;
use crate::formats;
use crate::sdp::{Description, Format, SdpError};
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
    /// The answer names no user fragment and password.
    #[error("sdp: an answer without credentials")]
    Credentials,
    /// There is nothing to negotiate again.
    #[error("webrtc: the connection is over")]
    Over,
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
    pub(super) connection: RTCPeerConnection,
    pub(super) feedback: Arc<Mutex<Feedback>>,
    pub(super) outgoing: Vec<Outgoing>,
    pub(super) sections: Sections,
    pub(super) credentials: Credentials,
    pub(super) tap: Arc<Tap>,
}

/// Answers the first offer of a peer. `own` are the candidates of the shared sockets, `told` those in the answer.
pub fn answer(
    offer: &Description,
    uses: &[Use],
    own: &[String],
    told: &[String],
    crypto: &Arc<dyn RTCCryptoProvider>,
) -> Result<(Parts, Agreed), SetupError> {
    let now = Instant::now();
    let feedback: Arc<Mutex<Feedback>> = Arc::default();
    let (crypto, tap) = srtp::watch(crypto);
    let receives = uses.iter().any(|wanted| matches!(wanted, Use::Receive(_)));
    let (engine, registry) = interceptors(engine(offer)?, &feedback, receives)?;
    let role = if offer.is_dtls_client() { RTCDtlsRole::Server } else { RTCDtlsRole::Client };
    let settings = SettingEngineBuilder::new()
        .with_answering_dtls_role(role)
        .with_ice_timeouts(Some(DISCONNECTED_AFTER), Some(FAILED_AFTER), Some(KEEP_ALIVE_EVERY))
        .with_crypto_provider(crypto)
        .build();
    let mut connection = RTCPeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_setting_engine(settings)
        .with_interceptor_registry(registry)
        .build(now)?;
    for line in own {
        let init = RTCIceCandidateInit { candidate: line.clone(), ..RTCIceCandidateInit::default() };
        connection.add_local_candidate(init)?;
    }
    let (mut outgoing, mut sections) = (Vec::new(), Sections::default());
    let agreed = sections.answer(&mut connection, &mut outgoing, offer, uses, told, now)?;
    let credentials = agreed.credentials.clone();
    Ok((Parts { connection, feedback, outgoing, sections, credentials, tap }, agreed))
}

/// All formats of an offer that are known here, and of kinds that it lacks those that a later one may have.
fn engine(offer: &Description) -> Result<MediaEngine, Error> {
    let mut engine = MediaEngine::default();
    for section in &offer.sections {
        for format in agree::shown(section) {
            let payload_type = format.payload_type;
            let codec = RTCRtpCodecParameters { rtp_codec: codec_of(section.kind, format), payload_type };
            engine.register_codec(codec, kind_of(section.kind))?;
            if let Some(rtx) = format.rtx {
                let rtp_codec = RTCRtpCodec {
                    mime_type: "video/rtx".to_owned(),
                    clock_rate: format.clock_rate,
                    sdp_fmtp_line: format!("apt={payload_type}"),
                    ..RTCRtpCodec::default()
                };
                let codec = RTCRtpCodecParameters { rtp_codec, payload_type: rtx };
                engine.register_codec(codec, kind_of(section.kind))?;
            }
        }
    }
    for (kind, codecs) in [(Kind::Video, formats::video()), (Kind::Audio, formats::audio())] {
        if offer.sections.iter().all(|section| section.kind != kind) {
            for codec in codecs {
                engine.register_codec(codec, kind_of(kind))?;
            }
        }
    }
    Ok(engine)
}

/// What looks at packets on their way; of a peer that sends at first more than of one that may speak later.
fn interceptors(
    mut engine: MediaEngine,
    feedback: &Arc<Mutex<Feedback>>,
    receives: bool,
) -> Result<(MediaEngine, Registry), Error> {
    let mut registry = Registry::new()
        .with(Slot::from(LISTENER_SLOT), Listener::new(Arc::clone(feedback)))
        .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build());
    if receives {
        registry = registry.with(Slot::NackGenerator, NackGeneratorBuilder::new().build());
        registry = configure_twcc_receiver_only(registry, &mut engine)?;
        configure_simulcast_extension_headers(&mut engine)?;
    }
    Ok((engine, registry))
}

pub(super) fn kind_of(kind: Kind) -> RtpCodecKind {
    match kind {
        Kind::Video => RtpCodecKind::Video,
        Kind::Audio => RtpCodecKind::Audio,
        Kind::Data => RtpCodecKind::Unspecified,
    }
}

/// The format as the connection describes it; the same in the engine and in the track, or nothing is retransmitted.
pub(super) fn codec_of(kind: Kind, format: &Format) -> RTCRtpCodec {
    let name = match format.codec {
        Some(Codec::H264) => "H264",
        Some(Codec::Hevc) => "H265",
        Some(Codec::Av1) => "AV1",
        Some(Codec::Vp8) => "VP8",
        Some(Codec::Vp9) => "VP9",
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
