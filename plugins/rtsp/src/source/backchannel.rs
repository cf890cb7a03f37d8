//! Talk-back tracks of cameras, and the cameras that must not be asked for them (C21, C22).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use patchbay_media::Codec;
use patchbay_rtp::sdp;
use patchbay_sdk::api::message::SendTrack;

/// How long a camera is not asked again.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Cameras that are remembered; more push out the oldest.
const MAX_REMEMBERED: usize = 1024;
/// Length of the packets that all cameras take, in ms (C111).
const PACKET_MS: u32 = 20;

/// Cameras that failed when they were asked for their backchannel, by URL.
#[derive(Debug, Default)]
pub struct Refusals {
    since: Mutex<HashMap<String, Instant>>,
}

impl Refusals {
    /// Notes that a camera failed at `now`.
    pub(super) fn note(&self, url: &str, now: Instant) {
        let mut since = self.since.lock();
        if since.len() >= MAX_REMEMBERED
            && let Some(oldest) = since.iter().min_by_key(|(_, at)| **at).map(|(url, _)| url.clone())
        {
            since.remove(&oldest);
        }
        since.insert(url.to_owned(), now);
    }

    /// Whether a camera may be asked at `now`.
    pub(super) fn may_ask(&self, url: &str, now: Instant) -> bool {
        let mut since = self.since.lock();
        since.retain(|_, at| now.saturating_duration_since(*at) < REMEMBERED);
        !since.contains_key(url)
    }
}

/// One thing that the camera takes, and how it is sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Accepted {
    /// For the host.
    pub(super) track: SendTrack,
    /// Index of the media.
    pub(super) media: usize,
    pub(super) payload_type: u8,
}

/// What the camera takes: each codec of each backchannel media that has a name, in their order (C113).
pub(super) fn accepted(session: &sdp::Session) -> Vec<Accepted> {
    let medias = session.medias.iter().enumerate().filter(|(_, media)| media.is_backchannel);
    let tracks = medias.flat_map(|(index, media)| {
        media.payload_types.iter().filter_map(move |payload_type| {
            let (codec, sample_rate, channels) = match payload_type {
                chosen if *chosen == media.payload_type => {
                    let parameters = media.parameters()?;
                    (parameters.codec, media.clock_rate, u32::from(media.channels.max(1)))
                }
                0 => (Codec::PcmMulaw, 8000, 1),
                8 => (Codec::PcmAlaw, 8000, 1),
                _ => return None,
            };
            let codec = codec.name().to_owned();
            let track = SendTrack { codec, sample_rate, channels, packet_ms: PACKET_MS };
            Some(Accepted { track, media: index, payload_type: *payload_type })
        })
    });
    tracks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c113_codecs_in_their_order() {
        let sdp = "v=0\r\nm=video 0 RTP/AVP 26\r\nm=audio 0 RTP/AVP 0 8 97\r\na=sendonly\r\n\
            a=rtpmap:97 MPEG4-GENERIC/16000\r\n";
        let taken = accepted(&sdp::parse(sdp.as_bytes()));
        let names: Vec<(&str, usize, u8)> =
            taken.iter().map(|a| (a.track.codec.as_str(), a.media, a.payload_type)).collect();
        assert_eq!(names, [("pcm_mulaw", 1, 0), ("pcm_alaw", 1, 8)]);
        let onvif =
            "v=0\r\nm=video 0 RTP/AVP 26\r\nm=audio 0 RTP/AVP 97\r\na=sendonly\r\na=rtpmap:97 PCMU/16000\r\n";
        let track = accepted(&sdp::parse(onvif.as_bytes())).remove(0).track;
        assert_eq!((track.codec.as_str(), track.sample_rate, track.channels), ("pcm_mulaw", 16_000, 1));
        // AAC whose configuration is not told has the rate and channels of its name.
        for (name, rate, channels) in [("MPEG4-GENERIC/16000", 16_000, 1), ("mpeg4-generic/8000/2", 8000, 2)]
        {
            let sdp = onvif.replace("PCMU/16000", name);
            let track = accepted(&sdp::parse(sdp.as_bytes())).remove(0).track;
            assert_eq!(
                (track.codec.as_str(), track.sample_rate, track.channels),
                ("aac", rate, channels),
                "{name}"
            );
        }
    }

    #[test]
    fn c21_a_camera_is_left_alone_for_ten_minutes() {
        let refusals = Refusals::default();
        let start = Instant::now();
        refusals.note("rtsp://a/", start);
        assert!(!refusals.may_ask("rtsp://a/", start + Duration::from_secs(599)));
        assert!(refusals.may_ask("rtsp://b/", start));
        assert!(refusals.may_ask("rtsp://a/", start + REMEMBERED));
        for number in 0..=MAX_REMEMBERED {
            refusals.note(&format!("rtsp://{number}/"), start + Duration::from_millis(number as u64));
        }
        assert!(refusals.may_ask("rtsp://0/", start + Duration::from_secs(2)), "the oldest is forgotten");
    }
}
