//! Sections of an offer of this side, and the formats in them.

use std::sync::Arc;

use patchbay_media::Codec;
use patchbay_sdk::Error;
use patchbay_sdk::service::webrtc::{Direction, Media};
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use tokio::sync::watch;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::MediaEngine;

use super::{Client, failed};
use crate::formats::{audio, video};
use crate::service::talk::{PACKET_MS, Voice};

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
