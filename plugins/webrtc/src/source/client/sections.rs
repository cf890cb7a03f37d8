//! Sections of an offer of this side, and the formats in them.

use std::sync::Arc;

use patchbay_media::Codec;
use patchbay_sdk::Error;
use patchbay_sdk::service::webrtc::{Direction, Media};
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use tokio::sync::watch;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::MediaEngine;

use super::{Client, failed};
use crate::service::talk::{PACKET_MS, Voice};

/// Formats of an offer of this side, as go2rtc numbers them: payload type, name, clock, channels, parameters.
const VIDEO: [(u8, &str, &str); 4] = [
    (96, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"),
    (97, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    (98, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640032"),
    (100, "video/H265", ""),
];

const AUDIO: [(u8, &str, u32, u16, &str); 3] = [
    (101, "audio/opus", 48_000, 2, "minptime=10;useinbandfec=1"),
    (0, "audio/PCMU", 8000, 0, ""),
    (8, "audio/PCMA", 8000, 0, ""),
];

impl Client {
    /// Adds a section to the next offer.
    pub(crate) async fn add(&self, media: &Media) -> Result<(), Error> {
        let (kind, codecs) = match media.kind.as_str() {
            "video" => (RtpCodecKind::Video, video()),
            "audio" => (RtpCodecKind::Audio, audio()),
            other => return Err(Error::unsupported(format!("webrtc: a section of the kind {other:?}"))),
        };
        let wanted =
            media.codecs.iter().flat_map(|name| codecs.iter().filter(move |codec| is_named(codec, name)));
        let wanted: Vec<RTCRtpCodecParameters> = wanted.cloned().collect();
        if wanted.is_empty() && !media.codecs.is_empty() {
            let message = format!("webrtc: none of the codecs {} is known here", media.codecs.join(", "));
            return Err(Error::unsupported(message));
        }
        let transceiver = match media.direction {
            Direction::SendRecv | Direction::SendOnly if kind == RtpCodecKind::Audio => {
                let direction = match media.direction {
                    Direction::SendRecv => RTCRtpTransceiverDirection::Sendrecv,
                    _ => RTCRtpTransceiverDirection::Sendonly,
                };
                let first = wanted.first().or(codecs.first()).map(|codec| codec.rtp_codec.clone());
                let (voice, coding) = voice(first.unwrap_or_default(), media.packet_ms);
                let init =
                    RTCRtpTransceiverInit { direction, streams: Vec::new(), send_encodings: vec![coding] };
                let track: Arc<dyn TrackLocal> = Arc::<TrackLocalStaticRTP>::clone(&voice.track);
                let transceiver = self.connection.add_transceiver_from_track(track, Some(init)).await;
                self.voice.send_replace(Some(voice));
                transceiver.map_err(failed)?
            }
            direction => {
                let init = RTCRtpTransceiverInit {
                    direction: RTCRtpTransceiverDirection::Recvonly,
                    streams: Vec::new(),
                    send_encodings: Vec::new(),
                };
                let added = self.connection.add_transceiver_from_kind(kind, Some(init)).await;
                let transceiver = added.map_err(failed)?;
                if direction == Direction::Inactive {
                    let inactive = RTCRtpTransceiverDirection::Inactive;
                    transceiver.set_direction(inactive).await.map_err(failed)?;
                }
                transceiver
            }
        };
        let preferred = if wanted.is_empty() { codecs } else { wanted };
        transceiver.set_codec_preferences(preferred).await.map_err(failed)
    }

    /// Makes ready to send sound in the other side's next offer, in this format; once.
    pub(crate) async fn add_voice(&self, codec: Codec, packet_ms: u32) -> Result<(), Error> {
        if self.voice.borrow().is_some() {
            return Ok(());
        }
        let codecs = audio();
        let name = codec.name();
        let Some(codec) = codecs.into_iter().find(|codec| is_named(codec, name)) else { return Ok(()) };
        let (voice, _) = voice(codec.rtp_codec, packet_ms);
        let track: Arc<dyn TrackLocal> = Arc::<TrackLocalStaticRTP>::clone(&voice.track);
        self.connection.add_track(track).await.map_err(failed)?;
        self.voice.send_replace(Some(voice));
        Ok(())
    }

    /// Where this side's sound goes, once a section has some.
    pub(crate) fn voice(&self) -> watch::Receiver<Option<Voice>> {
        self.voice.subscribe()
    }
}

/// Whether a format is that of a codec in FFmpeg's words.
fn is_named(codec: &RTCRtpCodecParameters, name: &str) -> bool {
    let written = codec.rtp_codec.mime_type.split('/').nth(1).unwrap_or_default();
    let name = match name {
        "hevc" => "H265",
        "pcm_mulaw" => "PCMU",
        "pcm_alaw" => "PCMA",
        name => name,
    };
    written.eq_ignore_ascii_case(name)
}

/// A track for this side's sound.
fn voice(codec: RTCRtpCodec, packet_ms: u32) -> (Voice, RTCRtpEncodingParameters) {
    let ssrc: u32 = rand::random();
    let rtp_coding_parameters =
        RTCRtpCodingParameters { ssrc: Some(ssrc), ..RTCRtpCodingParameters::default() };
    let coding =
        RTCRtpEncodingParameters { rtp_coding_parameters, codec, ..RTCRtpEncodingParameters::default() };
    let id = format!("audio-{ssrc:08x}");
    let kind = RtpCodecKind::Audio;
    let track = MediaStreamTrack::new("patchbay".to_owned(), id.clone(), id, kind, vec![coding.clone()]);
    let packet_ms = if packet_ms == 0 { PACKET_MS } else { packet_ms };
    (Voice { track: Arc::new(TrackLocalStaticRTP::new(track)), ssrc, packet_ms }, coding)
}

/// The formats that are known.
pub(super) fn engine() -> Result<MediaEngine, rtc::shared::error::Error> {
    let mut engine = MediaEngine::default();
    for (codecs, kind) in [(video(), RtpCodecKind::Video), (audio(), RtpCodecKind::Audio)] {
        for codec in codecs {
            engine.register_codec(codec, kind)?;
        }
    }
    Ok(engine)
}

/// Formats of video that are offered.
fn video() -> Vec<RTCRtpCodecParameters> {
    let feedback = |(typ, parameter): (&str, &str)| RTCPFeedback {
        typ: typ.to_owned(),
        parameter: parameter.to_owned(),
    };
    let codec = |(payload_type, mime_type, fmtp): (u8, &str, &str)| {
        let rtcp_feedback =
            [("goog-remb", ""), ("ccm", "fir"), ("nack", ""), ("nack", "pli")].map(feedback).to_vec();
        let rtp_codec = RTCRtpCodec {
            mime_type: mime_type.to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: fmtp.to_owned(),
            rtcp_feedback,
        };
        RTCRtpCodecParameters { rtp_codec, payload_type }
    };
    VIDEO.into_iter().map(codec).collect()
}

/// Formats of audio that are offered.
fn audio() -> Vec<RTCRtpCodecParameters> {
    let codec = |(payload_type, mime_type, clock_rate, channels, fmtp): (u8, &str, u32, u16, &str)| {
        let rtp_codec = RTCRtpCodec {
            mime_type: mime_type.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: fmtp.to_owned(),
            rtcp_feedback: Vec::new(),
        };
        RTCRtpCodecParameters { rtp_codec, payload_type }
    };
    AUDIO.into_iter().map(codec).collect()
}
