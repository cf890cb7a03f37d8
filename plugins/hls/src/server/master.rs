//! The multivariant playlist.

use patchbay_media::{Codec, Kind, Parameters, codec_string};

/// Bits per second when nothing is known yet.
const UNKNOWN_BANDWIDTH: (u64, u64) = (2_000_000, 2_000_000);

/// `CODECS` of the tracks: RFC 6381, and `fLaC` as HLS players want it.
pub fn codecs(tracks: &[Parameters]) -> String {
    let name = |track: &Parameters| match track.codec {
        Codec::Flac | Codec::PcmAlaw | Codec::PcmMulaw | Codec::PcmS16be | Codec::PcmS16le => {
            Some("fLaC".to_owned())
        }
        Codec::Mp3 | Codec::Mp2 => Some("mp4a.40.34".to_owned()),
        Codec::Aac => codec_string::of(track).or_else(|| Some("mp4a.40.2".to_owned())),
        _ => codec_string::of(track),
    };
    tracks.iter().filter_map(name).collect::<Vec<_>>().join(",")
}

/// The playlist of one variant, whose media playlist is `uri`. `frame` is the length of a picture in ns.
pub fn text(tracks: &[Parameters], bandwidth: Option<(u64, u64)>, frame: i64, uri: &str) -> String {
    let (peak, average) = bandwidth.unwrap_or(UNKNOWN_BANDWIDTH);
    // What comes may be a little more than what came.
    let peak = peak + peak / 10;
    let mut line = format!("BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},CODECS=\"{}\"", codecs(tracks));
    if let Some(video) = tracks.iter().find(|track| track.codec.kind() == Kind::Video) {
        if video.width > 0 && video.height > 0 {
            line.push_str(&format!(",RESOLUTION={}x{}", video.width, video.height));
        }
        let rate = 1_000_000_000_000 / u64::try_from(frame).unwrap_or(1).max(1);
        line.push_str(&format!(",FRAME-RATE={}.{:03}", rate / 1_000, rate % 1_000));
    }
    // No line feed at the end, as go2rtc's: players take it either way.
    format!("#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-STREAM-INF:{line}\n{uri}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variant_says_what_is_true() {
        let mut video = Parameters::video(Codec::H264, 90_000);
        video.extradata = bytes::Bytes::from_static(&[1, 0x64, 0x00, 0x1e, 0xff]);
        (video.width, video.height) = (640, 360);
        let tracks = [video, Parameters::audio(Codec::PcmAlaw, 8_000, 1)];
        assert_eq!(
            text(&tracks, Some((1_000_000, 900_000)), 40_000_000, "hls/playlist.m3u8?id=abc"),
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-STREAM-INF:BANDWIDTH=1100000,AVERAGE-BANDWIDTH=900000,\
             CODECS=\"avc1.64001E,fLaC\",RESOLUTION=640x360,FRAME-RATE=25.000\nhls/playlist.m3u8?id=abc"
        );
    }
}
