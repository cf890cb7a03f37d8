//! Descriptions for players (S42): everything a player needs stands in the text.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use patchbay_media::{Codec, Kind, Parameters, h264, h265};

use super::Direction;
use crate::Unsupported;
use crate::packetize::clock_rate;

/// What to announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// `s=`; "-" when empty.
    pub session_name: String,
    /// Session id and version of `o=`.
    pub session_id: u64,
    /// Address of `o=` and `c=`, such as `0.0.0.0` or a multicast group with its time to live, `239.1.2.3/16`.
    pub address: String,
    /// The absolute aggregate control URL, or `*`.
    pub control: String,
    /// The media sections.
    pub medias: Vec<MediaDescription>,
}

/// One media to announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaDescription {
    /// The codec and its configuration.
    pub parameters: Parameters,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Port of the `m=` line: 0 in RTSP.
    pub port: u16,
    /// The absolute control URL of the media.
    pub control: String,
    /// Who sends; players expect [`Direction::RecvOnly`] from a server, ONVIF marks the speaker `sendonly`.
    pub direction: Direction,
}

/// The payload type for a track: the static one where the parameters fit it (RFC 3551 table 4), else `dynamic`.
pub fn payload_type(parameters: &Parameters, dynamic: u8) -> u8 {
    let rate = (clock_rate(parameters), parameters.channels);
    match parameters.codec {
        Codec::PcmMulaw if rate == (8000, 1) => 0,
        Codec::PcmAlaw if rate == (8000, 1) => 8,
        Codec::AdpcmG722 if rate == (8000, 1) => 9,
        Codec::PcmS16be | Codec::PcmS16le if rate == (44100, 2) => 10,
        Codec::PcmS16be | Codec::PcmS16le if rate == (44100, 1) => 11,
        Codec::Mp2 | Codec::Mp3 => 14,
        Codec::Mjpeg => 26,
        _ => dynamic & 0x7f,
    }
}

/// The text. Fails for a codec without a payload format.
pub fn build(description: &Description) -> Result<String, Unsupported> {
    let id = description.session_id;
    let address = one_word(&description.address);
    let family = if address.contains(':') { "IP6" } else { "IP4" };
    let origin = address.split('/').next().unwrap_or_default();
    let name = match one_line(&description.session_name) {
        name if name.is_empty() => "-".to_owned(),
        name => name,
    };
    let mut out = format!(
        "v=0\r\no=- {id} {id} IN {family} {origin}\r\ns={name}\r\nc=IN {family} {address}\r\nt=0 0\r\na=control:{}\r\n",
        one_word(&description.control),
    );
    for media in &description.medias {
        write_media(media, &mut out)?;
    }
    Ok(out)
}

fn write_media(media: &MediaDescription, out: &mut String) -> Result<(), Unsupported> {
    let parameters = &media.parameters;
    let payload_type = media.payload_type & 0x7f;
    let kind = match parameters.codec.kind() {
        Kind::Video => "video",
        Kind::Audio => "audio",
        Kind::Data => "application",
    };
    let rtpmap =
        rtpmap(parameters).ok_or_else(|| Unsupported { encoding: parameters.codec.name().to_owned() })?;
    // Writing to a String cannot fail.
    let _ =
        write!(out, "m={kind} {} RTP/AVP {payload_type}\r\na=rtpmap:{payload_type} {rtpmap}\r\n", media.port);
    if let Some(fmtp) = fmtp(parameters) {
        let _ = write!(out, "a=fmtp:{payload_type} {fmtp}\r\n");
    }
    if parameters.codec == Codec::Mjpeg && parameters.width > 0 && parameters.height > 0 {
        let _ = write!(out, "a=x-dimensions:{},{}\r\n", parameters.width, parameters.height);
    }
    let _ = write!(out, "a={}\r\na=control:{}\r\n", media.direction.name(), one_word(&media.control));
    Ok(())
}

fn rtpmap(parameters: &Parameters) -> Option<String> {
    let clock_rate = clock_rate(parameters);
    let channels = parameters.channels.max(1);
    let with_channels = |name: &str| match channels {
        1 => format!("{name}/{clock_rate}"),
        n => format!("{name}/{clock_rate}/{n}"),
    };
    Some(match parameters.codec {
        Codec::H264 => format!("H264/{clock_rate}"),
        Codec::Hevc => format!("H265/{clock_rate}"),
        Codec::Av1 => format!("AV1/{clock_rate}"),
        Codec::Vp8 => format!("VP8/{clock_rate}"),
        Codec::Vp9 => format!("VP9/{clock_rate}"),
        Codec::Mpeg4 => format!("MP4V-ES/{clock_rate}"),
        Codec::Mjpeg => format!("JPEG/{clock_rate}"),
        Codec::Aac => format!("MPEG4-GENERIC/{clock_rate}/{channels}"),
        Codec::Opus => "opus/48000/2".to_owned(),
        Codec::PcmAlaw => with_channels("PCMA"),
        Codec::PcmMulaw => with_channels("PCMU"),
        // RTP has no little-endian PCM; the packetizer swaps (S46).
        Codec::PcmS16be | Codec::PcmS16le => with_channels("L16"),
        Codec::PcmS24be => with_channels("L24"),
        Codec::PcmU8 => with_channels("L8"),
        Codec::AdpcmG722 => with_channels("G722"),
        Codec::Mp2 | Codec::Mp3 => format!("MPA/{clock_rate}"),
        _ => return None,
    })
}

fn fmtp(parameters: &Parameters) -> Option<String> {
    match parameters.codec {
        Codec::H264 => Some(h264_fmtp(&parameters.extradata)),
        Codec::Hevc => hevc_fmtp(&parameters.extradata),
        Codec::Av1 => av1_fmtp(&parameters.extradata),
        Codec::Mpeg4 => mpeg4_fmtp(&parameters.extradata),
        Codec::Aac => Some(aac_fmtp(&parameters.extradata)),
        Codec::Opus => Some(format!("sprop-stereo={}", u8::from(parameters.channels != 1))),
        _ => None,
    }
}

/// RFC 6184 section 8.1.
fn h264_fmtp(extradata: &[u8]) -> String {
    let mut text = "packetization-mode=1".to_owned();
    let Ok(sets) = h264::parse_avcc(extradata) else { return text };
    if let Some([_, profile, constraints, level, ..]) = sets.sps.first().map(|sps| sps.as_ref()) {
        let list: Vec<String> = sets.sps.iter().chain(&sets.pps).map(|nal| STANDARD.encode(nal)).collect();
        let _ = write!(text, "; sprop-parameter-sets={}", list.join(","));
        let _ = write!(text, "; profile-level-id={profile:02X}{constraints:02X}{level:02X}");
    }
    text
}

/// RFC 7798 section 7.1.
fn hevc_fmtp(extradata: &[u8]) -> Option<String> {
    let sets = h265::parse_hvcc(extradata).ok()?;
    let named = [("sprop-vps", &sets.vps), ("sprop-sps", &sets.sps), ("sprop-pps", &sets.pps)];
    let parts: Vec<String> = named
        .iter()
        .filter(|(_, units)| !units.is_empty())
        .map(|(name, units)| {
            let list: Vec<String> = units.iter().map(|nal| STANDARD.encode(nal)).collect();
            format!("{name}={}", list.join(","))
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// RTP Payload Format For AV1, section 7.2.1, from an `AV1CodecConfigurationRecord`.
fn av1_fmtp(record: &[u8]) -> Option<String> {
    let [_, profile_level, flags, ..] = record else { return None };
    Some(format!("profile={}; level-idx={}; tier={}", profile_level >> 5, profile_level & 0x1f, flags >> 7))
}

/// RFC 6416 section 7.1.
fn mpeg4_fmtp(config: &[u8]) -> Option<String> {
    // The level stands behind the start code of the visual object sequence; without it simple profile, level 1.
    let level = match config {
        [0, 0, 1, 0xb0, level, ..] => *level,
        _ => 1,
    };
    let mut text = format!("profile-level-id={level}; config=");
    write_hex(config, &mut text);
    (!config.is_empty()).then_some(text)
}

/// RFC 3640 section 4.1, mode AAC-hbr.
fn aac_fmtp(config: &[u8]) -> String {
    let mut text =
        "streamtype=5; profile-level-id=1; mode=AAC-hbr; sizelength=13; indexlength=3; indexdeltalength=3"
            .to_owned();
    if !config.is_empty() {
        text.push_str("; config=");
        write_hex(config, &mut text);
    }
    text
}

fn write_hex(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        let _ = write!(text, "{byte:02X}");
    }
}

/// Without line breaks, so that no value can add a line.
fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned()
}

fn one_word(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !c.is_whitespace()).collect()
}
