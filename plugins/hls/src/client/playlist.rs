//! Playlists as servers write them: RFC 8216, read leniently.
//!
//! Taken as well: a byte order mark, CRLF and CR, blanks around attributes, decimal target durations, `EXTINF` without a
//! comma or a number, no line feed at the end, unknown tags.

use std::sync::Arc;
use std::time::Duration;

/// Largest playlist that is read, in bytes.
pub const MAX_PLAYLIST_BYTES: usize = 1 << 20;
/// Longest duration of a segment that is believed.
const MAX_DURATION: f64 = 3_600.0;
/// Target duration of a playlist that states none.
const UNKNOWN_TARGET: Duration = Duration::from_secs(6);

/// Why a text is no playlist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaylistError {
    /// It does not begin with `#EXTM3U`.
    #[error("it does not begin with #EXTM3U")]
    NoHeader,
    /// It is larger than [`MAX_PLAYLIST_BYTES`].
    #[error("it is larger than {MAX_PLAYLIST_BYTES} bytes")]
    TooLarge,
    /// A multivariant playlist without a variant.
    #[error("it lists nothing to play")]
    NoVariants,
}

/// A playlist.
#[derive(Debug, Clone, PartialEq)]
pub enum Playlist {
    /// It lists variants.
    Master(Master),
    /// It lists segments.
    Media(Media),
}

/// A multivariant playlist.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Master {
    /// In their order; without those for trick play.
    pub variants: Vec<Variant>,
    /// `EXT-X-MEDIA` in their order.
    pub renditions: Vec<Rendition>,
}

/// `EXT-X-STREAM-INF`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Variant {
    /// As written.
    pub uri: String,
    /// Bits per second, 0 unknown.
    pub bandwidth: u64,
    /// `CODECS`, apart; empty: not said.
    pub codecs: Vec<String>,
    /// `AUDIO`: the group of its sound.
    pub audio: Option<String>,
}

/// `EXT-X-MEDIA`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rendition {
    /// `TYPE`: `AUDIO`, `VIDEO`, `SUBTITLES` ...
    pub kind: String,
    /// `GROUP-ID`.
    pub group: String,
    /// `URI`; none: it is in the variant's own segments.
    pub uri: Option<String>,
    /// `DEFAULT=YES`.
    pub default: bool,
}

/// A media playlist.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Media {
    /// `EXT-X-TARGETDURATION`.
    pub target: Duration,
    /// Sequence number of the first segment.
    pub sequence: u64,
    /// In their order, without partial ones.
    pub segments: Vec<Segment>,
    /// `EXT-X-ENDLIST`, or `EXT-X-PLAYLIST-TYPE:VOD`.
    pub ended: bool,
    /// `CAN-BLOCK-RELOAD=YES`.
    pub can_block: bool,
    /// `TIME-OFFSET` of `EXT-X-START` in seconds, negative from the end.
    pub start: Option<f64>,
}

/// A segment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Segment {
    /// As written.
    pub uri: String,
    /// `EXTINF`.
    pub duration: Duration,
    /// The part of the resource that it is.
    pub range: Option<ByteRange>,
    /// `EXT-X-MAP`.
    pub map: Option<Arc<Map>>,
    /// `METHOD` of `EXT-X-KEY` when it is not `NONE`.
    pub encryption: Option<Arc<Encryption>>,
    /// Discontinuity sequence number.
    pub discontinuity: u64,
    /// `EXT-X-GAP`: it is not there.
    pub gap: bool,
}

/// `EXT-X-KEY`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encryption {
    /// `METHOD`, with a `KEYFORMAT` that is not `identity`.
    pub method: String,
    /// `URI` of the key.
    pub uri: String,
    /// `IV`; none: the media sequence number.
    pub iv: Option<u128>,
}

/// `EXT-X-MAP`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Map {
    /// As written.
    pub uri: String,
    /// The part of the resource that it is.
    pub range: Option<ByteRange>,
    /// How it is encrypted.
    pub encryption: Option<Arc<Encryption>>,
}

/// Bytes of a resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// Reads a playlist.
pub fn parse(data: &[u8]) -> Result<Playlist, PlaylistError> {
    if data.len() > MAX_PLAYLIST_BYTES {
        return Err(PlaylistError::TooLarge);
    }
    let text = String::from_utf8_lossy(data);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut lines = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    if !lines.next().is_some_and(|line| line.starts_with("#EXTM3U")) {
        return Err(PlaylistError::NoHeader);
    }
    let lines: Vec<&str> = lines.collect();
    let tag = |line: &str, name: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
    if lines.iter().any(|line| tag(line, "#EXT-X-STREAM-INF") || tag(line, "#EXT-X-MEDIA")) {
        let master = master(&lines);
        return if master.variants.is_empty() {
            Err(PlaylistError::NoVariants)
        } else {
            Ok(Playlist::Master(master))
        };
    }
    Ok(Playlist::Media(media(&lines)))
}

fn master(lines: &[&str]) -> Master {
    let mut master = Master::default();
    let mut variant = None;
    for line in lines {
        if let Some(list) = value(line, "#EXT-X-STREAM-INF") {
            let mut next = Variant::default();
            for (name, text) in attributes(list) {
                match name {
                    "BANDWIDTH" => next.bandwidth = number(text).unwrap_or(0),
                    "CODECS" => next.codecs = text.split(',').map(|codec| codec.trim().to_owned()).collect(),
                    "AUDIO" => next.audio = Some(text.to_owned()),
                    _ => {}
                }
            }
            next.codecs.retain(|codec| !codec.is_empty());
            variant = Some(next);
        } else if let Some(list) = value(line, "#EXT-X-MEDIA") {
            let mut rendition = Rendition::default();
            for (name, text) in attributes(list) {
                match name {
                    "TYPE" => text.clone_into(&mut rendition.kind),
                    "GROUP-ID" => text.clone_into(&mut rendition.group),
                    "URI" => rendition.uri = Some(text.to_owned()),
                    "DEFAULT" => rendition.default = text == "YES",
                    _ => {}
                }
            }
            master.renditions.push(rendition);
        } else if !line.starts_with('#')
            && let Some(variant) = variant.take()
        {
            master.variants.push(Variant { uri: (*line).to_owned(), ..variant });
        }
    }
    master
}

fn media(lines: &[&str]) -> Media {
    let mut media = Media::default();
    let (mut map, mut encryption, mut discontinuity) = (None, None, 0_u64);
    let (mut duration, mut range, mut gap) = (None, None, false);
    // Where a range without an offset begins: behind the one before, of the same resource.
    let mut behind: Option<(String, u64)> = None;
    for line in lines {
        if let Some(text) = value(line, "#EXT-X-TARGETDURATION") {
            media.target = seconds(text).unwrap_or(UNKNOWN_TARGET);
        } else if let Some(text) = value(line, "#EXT-X-MEDIA-SEQUENCE") {
            media.sequence = number(text).unwrap_or(0);
        } else if let Some(text) = value(line, "#EXT-X-DISCONTINUITY-SEQUENCE") {
            discontinuity = number(text).unwrap_or(0);
        } else if line.starts_with("#EXT-X-ENDLIST") {
            media.ended = true;
        } else if let Some(text) = value(line, "#EXT-X-PLAYLIST-TYPE") {
            media.ended |= text.eq_ignore_ascii_case("VOD");
        } else if *line == "#EXT-X-DISCONTINUITY" {
            discontinuity = discontinuity.saturating_add(1);
        } else if let Some(list) = value(line, "#EXT-X-SERVER-CONTROL") {
            media.can_block |= attribute(list, "CAN-BLOCK-RELOAD") == Some("YES");
        } else if let Some(list) = value(line, "#EXT-X-START") {
            let offset = attribute(list, "TIME-OFFSET").and_then(|text| text.parse::<f64>().ok());
            media.start = offset.filter(|offset| offset.is_finite());
        } else if let Some(list) = value(line, "#EXT-X-MAP") {
            let range = attribute(list, "BYTERANGE").and_then(byte_range);
            let uri = attribute(list, "URI").unwrap_or_default().to_owned();
            let range = range.map(|(length, offset)| ByteRange { offset: offset.unwrap_or(0), length });
            map = Some(Arc::new(Map { uri, range, encryption: encryption.clone() }));
        } else if let Some(list) = value(line, "#EXT-X-KEY") {
            let method = attribute(list, "METHOD").unwrap_or("NONE");
            let format = attribute(list, "KEYFORMAT").filter(|format| *format != "identity");
            let iv = attribute(list, "IV").and_then(|text| {
                u128::from_str_radix(text.trim_start_matches("0x").trim_start_matches("0X"), 16).ok()
            });
            let uri = attribute(list, "URI").unwrap_or_default().to_owned();
            let method = format.map_or_else(|| method.to_owned(), |format| format!("{method} of {format}"));
            encryption = (method != "NONE").then(|| Arc::new(Encryption { method, uri, iv }));
        } else if line.starts_with("#EXT-X-GAP") {
            gap = true;
        } else if let Some(text) = value(line, "#EXT-X-BYTERANGE") {
            range = byte_range(text);
        } else if let Some(text) = value(line, "#EXTINF") {
            duration = Some(seconds(text.split(',').next().unwrap_or_default()));
        } else if !line.starts_with('#') {
            let range = range.take().map(|(length, offset)| {
                let next = behind.as_ref().filter(|(uri, _)| uri == line).map_or(0, |(_, end)| *end);
                ByteRange { offset: offset.unwrap_or(next), length }
            });
            behind = range.map(|range| ((*line).to_owned(), range.offset.saturating_add(range.length)));
            media.segments.push(Segment {
                uri: (*line).to_owned(),
                duration: duration.take().flatten().unwrap_or(Duration::ZERO),
                range,
                map: map.clone(),
                encryption: encryption.clone(),
                discontinuity,
                gap: std::mem::take(&mut gap),
            });
        }
    }
    if media.target.is_zero() {
        let longest = media.segments.iter().map(|segment| segment.duration).max();
        media.target = longest.filter(|longest| !longest.is_zero()).unwrap_or(UNKNOWN_TARGET);
    }
    for segment in &mut media.segments {
        if segment.duration.is_zero() {
            segment.duration = media.target;
        }
    }
    media
}

/// What stands behind `name:`.
fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.strip_prefix(name)?.strip_prefix(':').map(str::trim)
}

fn attribute<'a>(list: &'a str, wanted: &str) -> Option<&'a str> {
    attributes(list).find(|(name, _)| *name == wanted).map(|(_, value)| value)
}

/// `NAME=value` and `NAME="value"`, apart by commas. RFC 8216 4.2.
fn attributes(list: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let (name, behind) = rest.split_once('=')?;
        let behind = behind.trim_start();
        let (value, next) = match behind.strip_prefix('"') {
            Some(quoted) => {
                let (value, next) = quoted.split_once('"').unwrap_or((quoted, ""));
                (value, next.split_once(',').map_or("", |(_, next)| next))
            }
            None => behind.split_once(',').unwrap_or((behind, "")),
        };
        rest = next;
        Some((name.trim(), value.trim()))
    })
}

fn number(text: &str) -> Option<u64> {
    let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn seconds(text: &str) -> Option<Duration> {
    let value: f64 = text.trim().parse().ok()?;
    (value.is_finite() && value > 0.0).then(|| Duration::from_secs_f64(value.min(MAX_DURATION)))
}

/// `length[@offset]`.
fn byte_range(text: &str) -> Option<(u64, Option<u64>)> {
    match text.split_once('@') {
        Some((length, offset)) => Some((number(length)?, Some(number(offset)?))),
        None => Some((number(text)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn media_of(text: &str) -> Media {
        match parse(text.as_bytes()) {
            Ok(Playlist::Media(media)) => media,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn oddities_of_cameras_are_taken() {
        let plain = media_of("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n#EXTINF:4,\nb.ts\n");
        for text in [
            "\u{feff}#EXTM3U\r\n#EXT-X-TARGETDURATION:4\r\n#EXTINF:4,\r\na.ts\r\n#EXTINF:4,\r\nb.ts",
            "#EXTM3U\n\n#EXT-X-TARGETDURATION: 4.0\n#EXTINF:4\na.ts\n#EXT-X-UNKNOWN:1\n#EXTINF: 4.0 , title\n b.ts ",
            "#EXTM3U \r#EXT-X-TARGETDURATION:4\r#EXTINF:x,\ra.ts\r# comment\r#EXTINF:,\rb.ts",
        ] {
            assert_eq!(media_of(text), plain, "{text:?}");
        }
        assert_eq!(parse(b"<html>"), Err(PlaylistError::NoHeader));
        assert_eq!(parse(b""), Err(PlaylistError::NoHeader));
        assert_eq!(parse(&vec![b'#'; MAX_PLAYLIST_BYTES + 1]), Err(PlaylistError::TooLarge));
        assert_eq!(parse(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n"), Err(PlaylistError::NoVariants));
    }

    #[test]
    fn ranges_maps_keys_gaps_and_discontinuities() {
        let media = media_of(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-DISCONTINUITY-SEQUENCE:3\n\
             #EXT-X-MAP:URI=\"i.mp4\",BYTERANGE=\"100@0\"\n#EXTINF:2,\n#EXT-X-BYTERANGE:50@100\nx.mp4\n\
             #EXTINF:2,\n#EXT-X-BYTERANGE:60\nx.mp4\n#EXT-X-DISCONTINUITY\n\
             #EXT-X-KEY:METHOD=AES-128,URI=\"k?a=1,b=2\",IV=0xff\n#EXT-X-GAP\n#EXTINF:1.5,\ny.mp4\n#EXT-X-ENDLIST",
        );
        assert_eq!((media.sequence, media.ended), (7, true));
        let [a, b, c] = media.segments.try_into().unwrap();
        assert_eq!((a.range, a.discontinuity), (Some(ByteRange { offset: 100, length: 50 }), 3));
        assert_eq!(b.range, Some(ByteRange { offset: 150, length: 60 }));
        assert_eq!(a.map.unwrap().range, Some(ByteRange { offset: 0, length: 100 }));
        assert_eq!((c.discontinuity, c.gap, c.duration), (4, true, Duration::from_millis(1500)));
        let key = c.encryption.unwrap();
        assert_eq!((key.uri.as_str(), key.iv), ("k?a=1,b=2", Some(255)));
    }

    #[test]
    fn low_latency_tags_are_passed_over() {
        let media = media_of(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.6\n\
             #EXT-X-PART-INF:PART-TARGET=0.2\n#EXT-X-PART:DURATION=0.2,URI=\"p0\"\n#EXTINF:1,\ns0\n\
             #EXT-X-PART:DURATION=0.2,URI=\"p1\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p2\"\n",
        );
        assert!(media.can_block);
        assert_eq!(media.segments.len(), 1);
    }

    #[test]
    fn variants_and_renditions() {
        let text = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",DEFAULT=YES,URI=\"a.m3u8\"\n\
            #EXT-X-STREAM-INF: BANDWIDTH=1000 , CODECS=\"avc1.640029, mp4a.40.2\",AUDIO=\"a\"\nlow.m3u8?x=1\n\
            #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=9,URI=\"i.m3u8\"\n#EXT-X-STREAM-INF:PROGRAM-ID=1\nplain.m3u8\n";
        let Ok(Playlist::Master(master)) = parse(text.as_bytes()) else { panic!("no master") };
        assert_eq!(master.variants.len(), 2);
        assert_eq!(master.variants[0].codecs, ["avc1.640029", "mp4a.40.2"]);
        assert_eq!((master.variants[0].bandwidth, master.variants[0].uri.as_str()), (1000, "low.m3u8?x=1"));
        assert_eq!(master.renditions[0].uri.as_deref(), Some("a.m3u8"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_playlist_or_an_error(data: Vec<u8>, lines in prop::collection::vec("(#EXT[A-Z-]{0,20}:?)?[ -~]{0,30}", 0..30)) {
            let _ = parse(&data);
            let mut text = b"#EXTM3U\n".to_vec();
            text.extend(lines.join("\n").into_bytes());
            let _ = parse(&text);
            text.extend(data);
            let _ = parse(&text);
        }

        #[test]
        fn what_is_written_is_read(durations in prop::collection::vec(1_u32..60_000, 0..50), sequence: u32) {
            let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:60\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n");
            for (i, ms) in durations.iter().enumerate() {
                text.push_str(&format!("#EXTINF:{}.{:03},\ns{i}.ts\n", ms / 1000, ms % 1000));
            }
            let media = media_of(&text);
            prop_assert_eq!(media.sequence, u64::from(sequence));
            let read: Vec<u32> = media.segments.iter().map(|s| (s.duration.as_secs_f64() * 1000.0).round() as u32).collect();
            prop_assert_eq!(read, durations);
        }
    }
}
