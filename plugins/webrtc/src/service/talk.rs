//! What players say, to the peer of a service's connection.

use std::sync::Arc;

use patchbay_media::{Codec, Kind};
use patchbay_sdk::Error;
use patchbay_sdk::api::message::SendTrack;
use patchbay_sdk::service::Sender;
use patchbay_sdk::service::webrtc::TalkChange;
use patchbay_sdk::source::Session;
use rtc::rtp::{Header, Packet};
use tokio::sync::watch;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;

use crate::sdp::Description;

/// Length of the packets of peers that want no other.
pub(crate) const PACKET_MS: u32 = 20;

/// A section in which this side sends sound.
#[derive(Clone)]
pub(crate) struct Voice {
    /// What takes its packets.
    pub(crate) track: Arc<TrackLocalStaticRTP>,
    /// Its stream.
    pub(crate) ssrc: u32,
    /// Length of the packets of PCM that the peer wants.
    pub(crate) packet_ms: u32,
}

/// What the peer takes, by its newest description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    payload_type: u8,
    codec: Codec,
    clock_rate: u32,
}

impl Format {
    /// The first codec of the first sound section in which the peer receives.
    pub(super) fn of(description: &str) -> Option<Self> {
        let description = Description::parse(description).ok()?;
        let section =
            description.sections.iter().find(|section| section.kind == Kind::Audio && section.receives)?;
        let codec = section.codecs().into_iter().next()?;
        let format = section.format(codec)?;
        Some(Self { payload_type: format.payload_type, codec, clock_rate: format.clock_rate.max(1) })
    }

    /// Its codec.
    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    /// The same for the host.
    pub(super) fn send_track(&self, packet_ms: u32) -> SendTrack {
        SendTrack {
            codec: self.codec.name().to_owned(),
            sample_rate: self.clock_rate,
            channels: if self.codec == Codec::Opus { 2 } else { 1 },
            packet_ms,
        }
    }
}

/// Sends what players say in the format that was agreed on, until the connection or the caller is gone.
pub(super) async fn speak(
    source: Session,
    voice: &Voice,
    agreed: watch::Receiver<Option<Format>>,
    answers: &Sender,
) -> Result<(), Error> {
    let mut talks = source.talks();
    let mut sequence: u16 = rand::random();
    loop {
        let mut talk = talks.next().await;
        answers.send("talk", &TalkChange { active: true })?;
        let rate = i64::from(talk.parameters().clock_rate.max(1));
        let zero: u32 = rand::random();
        let mut marker = true;
        while let Some(unit) = talk.next().await {
            let Some(format) = *agreed.borrow() else { continue };
            let ticks = unit.pts.wrapping_mul(i64::from(format.clock_rate)) / rate;
            let header = Header {
                version: 2,
                marker: std::mem::take(&mut marker),
                payload_type: format.payload_type,
                sequence_number: sequence,
                timestamp: zero.wrapping_add(ticks as u32),
                ssrc: voice.ssrc,
                ..Header::default()
            };
            sequence = sequence.wrapping_add(1);
            let packet = Packet { header, payload: unit.data };
            if let Err(error) = voice.track.write_rtp(packet).await {
                tracing::debug!("talk: {error}");
            }
        }
        answers.send("talk", &TalkChange { active: false })?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_first_codec_is_spoken() {
        let sdp = |direction: &str| {
            format!(
                "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 H264/90000\r\na=sendonly\r\n\
                 m=audio 9 UDP/TLS/RTP/SAVPF 8 111\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:111 opus/48000/2\r\na={direction}\r\n"
            )
        };
        let format = Format::of(&sdp("sendrecv")).unwrap();
        assert_eq!((format.payload_type, format.codec, format.clock_rate), (8, Codec::PcmAlaw, 8000));
        assert_eq!(format.send_track(30).codec, "pcm_alaw");
        assert_eq!(Format::of(&sdp("sendonly")), None);
    }
}
