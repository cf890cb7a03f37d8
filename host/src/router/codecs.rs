//! Codec names, filters and whether a track fits a media.

use patchbay_plugin_api::message::{Media, TrackInfo};

/// FFmpeg's name and the one that go2rtc's filters, media strings and errors use.
const NAMES: [(&str, &str); 18] = [
    ("h264", "H264"),
    ("hevc", "H265"),
    ("vp8", "VP8"),
    ("vp9", "VP9"),
    ("av1", "AV1"),
    ("mjpeg", "JPEG"),
    ("rawvideo", "RAW"),
    ("pcm_mulaw", "PCMU"),
    ("pcm_alaw", "PCMA"),
    ("aac", "AAC"),
    ("opus", "OPUS"),
    ("adpcm_g722", "G722"),
    ("mp3", "MP3"),
    ("pcm_s16be", "L16"),
    ("pcm_s16le", "PCML"),
    ("pcm_s24be", "L24"),
    ("pcm_u8", "L8"),
    ("flac", "FLAC"),
];

/// The reference's name of a codec, for errors and media strings.
pub fn reference_name(codec: &str) -> String {
    let found = NAMES.iter().find(|(name, _)| *name == codec).map(|(_, reference)| (*reference).to_owned());
    found.unwrap_or_else(|| codec.to_ascii_uppercase())
}

fn ffmpeg_name(filter: &str) -> String {
    let lower = filter.to_ascii_lowercase();
    match lower.as_str() {
        "" | "copy" | "any" => "any".to_owned(),
        "mpeg4-generic" => "aac".to_owned(),
        "mpa" => "mp3".to_owned(),
        "h265" => "hevc".to_owned(),
        _ => {
            let upper = filter.to_ascii_uppercase();
            NAMES
                .iter()
                .find(|(_, reference)| *reference == upper)
                .map_or(lower, |(name, _)| (*name).to_owned())
        }
    }
}

/// The medias of a query: `video=h264,h265&audio`, `mp4`; video first.
pub fn parse_filters(query: &str) -> Vec<Media> {
    let mut medias = Vec::new();
    let pairs: Vec<(&str, &str)> =
        query.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((p, ""))).collect();
    for kind in ["video", "audio"] {
        for (_, value) in pairs.iter().filter(|(key, _)| *key == kind) {
            let codecs = value.split(',').map(ffmpeg_name).collect();
            medias.push(Media { kind: kind.to_owned(), codecs });
        }
    }
    if medias.is_empty()
        && let Some((_, value)) = pairs.iter().find(|(key, _)| *key == "mp4")
    {
        let mut audio = vec!["aac"];
        if !value.is_empty() {
            audio.extend(["pcm_alaw", "pcm_mulaw", "pcm_s16be", "pcm_s16le"]);
        }
        if !value.is_empty() && *value != "flac" {
            audio.extend(["opus", "mp3"]);
        }
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        medias.push(Media { kind: "video".to_owned(), codecs: list(&["h264", "hevc"]) });
        medias.push(Media { kind: "audio".to_owned(), codecs: list(&audio) });
    }
    medias
}

/// Whether a media takes a track.
pub(super) fn accepts(media: &Media, track: &TrackInfo) -> bool {
    media.codecs.iter().any(|codec| codec == "any" || codec == "all" || *codec == track.codec)
        || (track.codec.is_empty() && !media.codecs.is_empty())
}

/// Whether everything is known that a reader needs.
pub(super) fn is_ready(track: &TrackInfo) -> bool {
    let needs_parameters = matches!(track.codec.as_str(), "h264" | "hevc" | "aac");
    !track.codec.is_empty() && (!needs_parameters || !track.extradata.is_empty())
}

/// `video:H264, audio:AAC`, without repeats.
pub(super) fn list<'a>(items: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut text = String::new();
    for (kind, codec) in items {
        let item = format!("{kind}:{codec}");
        if !text.contains(&item) {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&item);
        }
    }
    text
}

/// A media string: `video, recvonly, H264`.
pub fn media_text(kind: &str, direction: &str, codecs: &[(String, u32, u32)]) -> String {
    let mut text = format!("{kind}, {direction}");
    for (codec, rate, channels) in codecs {
        let mut name = reference_name(codec);
        if name == "AAC" {
            "MPEG4-GENERIC".clone_into(&mut name);
        }
        if *rate != 0 && *rate != 90_000 {
            name += &format!("/{rate}");
        }
        if *channels != 0 {
            name += &format!("/{channels}");
        }
        if !text.contains(&name) {
            text.push_str(", ");
            text.push_str(&name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_put_video_first_and_know_the_reference_names() {
        let medias = parse_filters("audio=aac,pcma&video=h265&video=copy");
        let texts: Vec<String> =
            medias.iter().map(|m| format!("{}:{}", m.kind, m.codecs.join("/"))).collect();
        assert_eq!(texts, ["video:hevc", "video:any", "audio:aac/pcm_alaw"]);
        assert_eq!(parse_filters("video&audio").len(), 2);
        assert_eq!(parse_filters("mp4=flac")[1].codecs.len(), 5);
        assert!(parse_filters("duration=5").is_empty());
    }

    #[test]
    fn media_strings_are_the_references() {
        let text = media_text("audio", "recvonly", &[("pcm_alaw".into(), 8000, 1)]);
        assert_eq!(text, "audio, recvonly, PCMA/8000/1");
        assert_eq!(media_text("video", "recvonly", &[("h264".into(), 90_000, 0)]), "video, recvonly, H264");
        assert_eq!(
            media_text("audio", "recvonly", &[("aac".into(), 48_000, 2)]),
            "audio, recvonly, MPEG4-GENERIC/48000/2"
        );
    }
}
