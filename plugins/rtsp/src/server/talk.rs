//! What a player says to the camera of the stream that it plays (S66).

use std::time::Duration;

use bytes::Bytes;
use patchbay_media::{Codec, Parameters};
use patchbay_rtp::sdp::{self, Direction};
use patchbay_rtp::{Depacketizer, Item, Reorder, RtpPacket};
use patchbay_sdk::Error;
use patchbay_sdk::api::message::SendTrack;

use super::session::Offer;
use super::streams::Voice;

/// What players of ONVIF's backchannel speak, the most common first.
const SPOKEN: [Codec; 4] = [Codec::PcmMulaw, Codec::PcmAlaw, Codec::Opus, Codec::PcmS16be];

/// Payload type of what has none of its own.
const DYNAMIC: u8 = 120;

/// What a player may say when the cameras accept `send`; what is transcoded has no rate there, and comes last.
pub(super) fn offer(send: &[SendTrack]) -> Option<Offer> {
    let of_codec = |codec: &Codec, is_exact: bool| {
        let is_it = |track: &&SendTrack| track.codec == codec.name() && (track.sample_rate != 0) == is_exact;
        Some((*codec, send.iter().find(is_it)?))
    };
    let spoken = |is_exact| SPOKEN.iter().find_map(|codec| of_codec(codec, is_exact));
    let (codec, track) = spoken(true).or_else(|| spoken(false))?;
    let parameters = match codec {
        Codec::Opus => Parameters::audio(Codec::Opus, 48_000, 2),
        codec => {
            let rate = if track.sample_rate == 0 { 8000 } else { track.sample_rate };
            Parameters::audio(codec, rate, u8::try_from(track.channels).unwrap_or(1).max(1))
        }
    };
    let payload_type = sdp::payload_type(&parameters, DYNAMIC);
    Some(Offer { parameters, payload_type, channel: 0, ssrc: 0 })
}

/// A player's media of the talk, in the server's description.
pub(super) fn media(offer: &Offer, control: String) -> sdp::MediaDescription {
    sdp::MediaDescription {
        parameters: offer.parameters.clone(),
        payload_type: offer.payload_type,
        port: 0,
        control,
        direction: Direction::SendOnly,
    }
}

/// A player that speaks.
pub(super) struct Ear<V> {
    voice: V,
    depacketizer: Depacketizer,
    reorder: Reorder,
}

impl<V: Voice> Ear<V> {
    /// Hears what was offered.
    pub(super) fn new(voice: V, offer: &Offer) -> Result<Self, Error> {
        let description = sdp::Description {
            session_name: String::new(),
            session_id: 1,
            address: "0.0.0.0".to_owned(),
            control: "*".to_owned(),
            medias: vec![media(offer, "*".to_owned())],
        };
        let text = sdp::build(&description).map_err(|error| Error::unsupported(error.to_string()))?;
        let medias = sdp::parse(text.as_bytes()).medias;
        let media = medias.first().ok_or_else(|| Error::unsupported("talk: no media"))?;
        let depacketizer = Depacketizer::new(media).map_err(|error| Error::unsupported(error.to_string()))?;
        Ok(Self { voice, depacketizer, reorder: Reorder::new() })
    }

    /// Takes an RTP packet at `now` (monotonic); broken ones are passed over.
    pub(super) fn packet(&mut self, data: &Bytes, now: Duration) -> Result<(), Error> {
        let Ok(packet) = RtpPacket::parse(data) else { return Ok(()) };
        self.reorder.push(packet, now);
        while let Some(packet) = self.reorder.poll(now) {
            self.depacketizer.push(&packet, now);
        }
        while let Some(item) = self.depacketizer.poll() {
            if let Item::Unit(unit) = item {
                self.voice.push(&unit)?;
            }
        }
        Ok(())
    }

    /// Completes when the host ends the talk.
    pub(super) async fn ended(&mut self) -> Error {
        self.voice.ended().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(codecs: &[(&str, u32)]) -> Option<(Codec, u8)> {
        let track = |(codec, sample_rate): &(&str, u32)| SendTrack {
            codec: (*codec).to_owned(),
            sample_rate: *sample_rate,
            channels: 1,
            packet_ms: 20,
        };
        let send: Vec<SendTrack> = codecs.iter().map(track).collect();
        offer(&send).map(|offer| (offer.parameters.codec, offer.payload_type))
    }

    #[test]
    fn s66_what_the_camera_takes_is_offered() {
        assert_eq!(offered(&[("pcm_alaw", 8000), ("pcm_mulaw", 8000)]), Some((Codec::PcmMulaw, 0)));
        assert_eq!(offered(&[("aac", 16_000), ("pcm_alaw", 16_000)]), Some((Codec::PcmAlaw, DYNAMIC)));
        assert_eq!(offered(&[("opus", 48_000)]), Some((Codec::Opus, DYNAMIC)));
        assert_eq!(offered(&[("aac", 16_000)]), None);
        let transcoded = [("aac", 16_000), ("opus", 0), ("pcm_mulaw", 0)];
        assert_eq!(offered(&transcoded), Some((Codec::PcmMulaw, 0)));
        assert_eq!(offered(&[("pcm_alaw", 8000), ("pcm_mulaw", 0)]), Some((Codec::PcmAlaw, 8)), "as it is");
    }
}
