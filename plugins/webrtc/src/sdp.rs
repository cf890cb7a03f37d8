//! Offers and answers as lines: what a peer offers, and the same text with less in it.
//!
//! Peers write odd descriptions, and each answer must name exactly what is sent. So the offer is cut down to the chosen
//! formats before the connection's own parser sees it, and the answer gets the candidates of the shared ports.

use patchbay_media::{Codec, Kind};

use crate::candidate;

/// Longest description that is read, in bytes.
pub const MAX_LEN: usize = 256 << 10;

/// Most media sections.
pub const MAX_SECTIONS: usize = 32;

/// Most formats of a section; later ones are ignored.
const MAX_FORMATS: usize = 128;

/// Most candidates that are taken from a description.
const MAX_CANDIDATES: usize = 64;

/// Why a description cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// It does not begin as a description does.
    #[error("sdp: syntax error at pos 1: {0:?}")]
    Syntax(String),
    /// Longer than [`MAX_LEN`].
    #[error("sdp: longer than {MAX_LEN} bytes")]
    TooLong,
    /// More than [`MAX_SECTIONS`] media sections.
    #[error("sdp: more than {MAX_SECTIONS} media sections")]
    TooManySections,
    /// No video and no audio.
    #[error("sdp: neither video nor audio is offered")]
    NoMedia,
}

/// One format (payload type) of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// Payload type.
    pub payload_type: u8,
    /// The codec, when it is one that can be sent and received.
    pub codec: Option<Codec>,
    /// Name of the encoding as written.
    pub name: String,
    /// Ticks per second.
    pub clock_rate: u32,
    /// Channels, 0 when not written.
    pub channels: u16,
    /// Format parameters as written.
    pub fmtp: String,
    /// Payload type of its retransmissions (RFC 4588), when they have one.
    pub rtx: Option<u8>,
}

impl Format {
    /// H.264 in packetization mode 1.
    fn is_mode_1(&self) -> bool {
        self.fmtp.split(';').any(|part| part.trim() == "packetization-mode=1")
    }
}

/// A media section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Video or audio; data for anything else.
    pub kind: Kind,
    /// The peer sends.
    pub sends: bool,
    /// The peer receives.
    pub receives: bool,
    /// Formats in the peer's order.
    pub formats: Vec<Format>,
    /// Its lines, the `m=` line first.
    lines: Vec<String>,
}

impl Section {
    /// The format to use for `codec`: for H.264 the first in packetization mode 1, else the first.
    pub fn format(&self, codec: Codec) -> Option<&Format> {
        let mut of_codec = self.formats.iter().filter(|format| format.codec == Some(codec));
        let first = of_codec.clone().next()?;
        if codec == Codec::H264 {
            of_codec.find(|format| format.is_mode_1()).or(Some(first))
        } else {
            Some(first)
        }
    }

    /// Its name in the bundle, empty when it has none.
    pub fn mid(&self) -> &str {
        self.lines.iter().find_map(|line| line.strip_prefix("a=mid:")).unwrap_or_default()
    }

    /// Whether the writer has given it up: port 0, and not because its transport is another's (RFC 9143 section 6).
    fn is_rejected(&self) -> bool {
        let port = self.lines.first().and_then(|line| line.split_ascii_whitespace().nth(1));
        port == Some("0") && !self.lines.iter().any(|line| line == "a=bundle-only")
    }

    /// A payload type and that of its retransmissions.
    pub fn with_rtx(&self, payload_type: u8) -> Vec<u8> {
        let rtx = self.formats.iter().find(|format| format.payload_type == payload_type);
        std::iter::once(payload_type).chain(rtx.and_then(|format| format.rtx)).collect()
    }

    /// The codecs that both sides know, in the peer's order.
    pub fn codecs(&self) -> Vec<Codec> {
        let mut codecs = Vec::new();
        for codec in self.formats.iter().filter_map(|format| format.codec) {
            if !codecs.contains(&codec) {
                codecs.push(codec);
            }
        }
        codecs
    }
}

/// A description taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    session: Vec<String>,
    /// The media sections in order.
    pub sections: Vec<Section>,
}

impl Description {
    /// Reads an offer or answer.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        if text.len() > MAX_LEN {
            return Err(SdpError::TooLong);
        }
        if !text.trim_start().starts_with("v=") {
            let start: String = text.trim_start().chars().take(1).collect();
            return Err(SdpError::Syntax(start));
        }
        let mut session = Vec::new();
        let mut sections: Vec<Section> = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line.starts_with("m=") {
                if sections.len() >= MAX_SECTIONS {
                    return Err(SdpError::TooManySections);
                }
                sections.push(Section {
                    kind: kind_of(line),
                    sends: true,
                    receives: true,
                    formats: Vec::new(),
                    lines: Vec::new(),
                });
            }
            match sections.last_mut() {
                Some(section) => section.lines.push(line.to_owned()),
                None => session.push(line.to_owned()),
            }
        }
        for section in &mut sections {
            let direction = section.lines.iter().chain(&session).find_map(|line| direction(line));
            (section.sends, section.receives) = match section.is_rejected() {
                true => (false, false),
                false => direction.unwrap_or((true, true)),
            };
            section.formats = formats(&section.lines);
        }
        if sections.iter().all(|section| section.kind == Kind::Data) {
            return Err(SdpError::NoMedia);
        }
        Ok(Self { session, sections })
    }

    /// Whether the writer insists on being the client of the DTLS handshake (RFC 5763 section 5).
    pub fn is_dtls_client(&self) -> bool {
        let lines = self.session.iter().chain(self.sections.iter().flat_map(|section| &section.lines));
        lines.into_iter().find_map(|line| line.strip_prefix("a=setup:")) == Some("active")
    }

    /// The text with only `kept` payload types of each section (by index; a section without any keeps what it has), the
    /// peer's candidates in order, and a fingerprint in every section.
    pub fn reduced(&self, kept: &[Option<u8>]) -> String {
        self.reduced_to(&kept.iter().map(|kept| kept.iter().copied().collect()).collect::<Vec<_>>())
    }

    /// [`Self::reduced`] with several payload types of a section.
    pub fn reduced_to(&self, kept: &[Vec<u8>]) -> String {
        let mut text = String::new();
        let mut candidates = 0;
        for line in &self.session {
            push(&mut text, line);
        }
        for (index, section) in self.sections.iter().enumerate() {
            let only = kept.get(index).map(Vec::as_slice).unwrap_or_default();
            for (number, line) in section.lines.iter().enumerate() {
                if number == 0 {
                    push(&mut text, &media_line(line, only));
                } else if let Some(value) = line.strip_prefix("a=candidate:") {
                    let normalised = candidate::normalised_value(value);
                    if candidate::is_usable(&normalised) && candidates < MAX_CANDIDATES {
                        candidates += 1;
                        push(&mut text, &format!("a={normalised}"));
                    }
                } else if only.is_empty() || payload_type_of(line).is_none_or(|of| only.contains(&of)) {
                    push(&mut text, line);
                }
            }
        }
        text
    }

    /// The text as the connection sees it: with these payload types, each with its name, and a direction in every section. An inactive
    /// one shows another, because the connection ends a section for good that is inactive once.
    pub fn shown(&self, types: &[Vec<u8>]) -> String {
        let mut shown = self.clone();
        for section in shown.sections.iter_mut().filter(|section| section.kind != Kind::Data) {
            section.lines.retain(|line| direction(line).is_none());
            let direction = match (section.sends, section.receives) {
                (true, true) => "a=sendrecv",
                (true, false) => "a=sendonly",
                (false, _) => "a=recvonly",
            };
            section.lines.push(direction.to_owned());
            // The connection knows no static types.
            for format in &section.formats {
                let map = format!("a=rtpmap:{} ", format.payload_type);
                if !section.lines.iter().any(|line| line.starts_with(&map)) {
                    section.lines.push(format!("{map}{}/{}", format.name, format.clock_rate));
                }
            }
        }
        shown.reduced_to(types)
    }

    /// What tells one connection of a peer from another: the session's name and number, and the fingerprint (RFC 8866 section 5.2, RFC
    /// 8122 section 5). Later offers of the same connection have the same.
    pub fn identity(&self) -> String {
        let origin = self.session.iter().find_map(|line| line.strip_prefix("o="));
        let lines = self.session.iter().chain(self.sections.iter().flat_map(|section| &section.lines));
        let fingerprint = lines.into_iter().find_map(|line| line.strip_prefix("a=fingerprint:"));
        let origin = origin.unwrap_or_default().split_ascii_whitespace().take(2);
        origin.chain(fingerprint).collect::<Vec<_>>().join(" ")
    }

    /// Marks a section in which this side neither sends nor receives; the connection's own answer says that it does.
    pub fn silence(&mut self, index: usize) {
        let Some(section) = self.sections.get_mut(index) else { return };
        for line in section.lines.iter_mut().filter(|line| direction(line).is_some()) {
            "a=inactive".clone_into(line);
            (section.sends, section.receives) = (false, false);
        }
    }

    /// Takes out the streams of a section in which this side sends nothing.
    pub fn without_streams(&mut self, index: usize) {
        if let Some(section) = self.sections.get_mut(index) {
            let is_stream = |line: &String| line.starts_with("a=ssrc") || line.starts_with("a=msid:");
            section.lines.retain(|line| !is_stream(line));
        }
    }

    /// The text with `candidates` (lines without `a=`) in its first section and no others.
    pub fn with_candidates(&self, candidates: &[String]) -> String {
        let mut text = String::new();
        for line in &self.session {
            push(&mut text, line);
        }
        for (index, section) in self.sections.iter().enumerate() {
            let own =
                |line: &&String| !line.starts_with("a=candidate:") && line.as_str() != "a=end-of-candidates";
            for line in section.lines.iter().filter(own) {
                push(&mut text, line);
            }
            if index == 0 && !candidates.is_empty() {
                for line in candidates {
                    push(&mut text, &format!("a={line}"));
                }
                push(&mut text, "a=end-of-candidates");
            }
        }
        text
    }
}

/// Candidates, user name and password of a trickle fragment (RFC 8840 section 9), as of any description.
pub fn fragment_candidates(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("a=candidate:"))
        .map(candidate::normalised_value)
        .filter(|line| candidate::is_usable(line))
        .take(MAX_CANDIDATES)
        .collect()
}

/// User fragment and password of a description or of a trickle fragment, the first of each.
pub fn credentials(text: &str) -> Option<(&str, &str)> {
    let find = |name| text.lines().find_map(|line| line.trim().strip_prefix(name));
    Some((find("a=ice-ufrag:")?, find("a=ice-pwd:")?))
}

/// A description with another user fragment and password, and without candidates: those belong to the ones before.
pub fn with_credentials(text: &str, ufrag: &str, password: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        if line.starts_with("a=ice-ufrag:") {
            push(&mut out, &format!("a=ice-ufrag:{ufrag}"));
        } else if line.starts_with("a=ice-pwd:") {
            push(&mut out, &format!("a=ice-pwd:{password}"));
        } else if !line.starts_with("a=candidate:") {
            push(&mut out, line);
        }
    }
    out
}

/// The fragment that answers a restart (RFC 9725 section 4.3.3): what `answer` says of its transport, with these candidates.
pub fn fragment(answer: &str, candidates: &[String]) -> String {
    let mut out = String::new();
    let (session, media) = answer.split_at(answer.find("\nm=").map_or(answer.len(), |at| at + 1));
    let lines = session.lines().filter(|line| line.starts_with("a=group:"));
    let first = media.lines().take(1);
    let mid = media.lines().find(|line| line.starts_with("a=mid:"));
    for line in lines.chain(first).chain(mid) {
        push(&mut out, line);
    }
    if let Some((ufrag, password)) = credentials(answer) {
        push(&mut out, &format!("a=ice-ufrag:{ufrag}"));
        push(&mut out, &format!("a=ice-pwd:{password}"));
    }
    for line in candidates {
        push(&mut out, &format!("a={line}"));
    }
    push(&mut out, "a=end-of-candidates");
    out
}

/// FFmpeg's codec of an encoding name that can be sent and received here.
fn codec_of(name: &str, clock_rate: u32) -> Option<Codec> {
    Some(match (name.to_ascii_uppercase().as_str(), clock_rate) {
        ("H264", 90_000) => Codec::H264,
        ("H265", 90_000) => Codec::Hevc,
        ("AV1", 90_000) => Codec::Av1,
        ("VP8", 90_000) => Codec::Vp8,
        ("VP9", 90_000) => Codec::Vp9,
        ("OPUS", 48_000) => Codec::Opus,
        ("PCMU", 8000) => Codec::PcmMulaw,
        ("PCMA", 8000) => Codec::PcmAlaw,
        _ => return None,
    })
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push_str("\r\n");
}

fn kind_of(media_line: &str) -> Kind {
    match media_line.strip_prefix("m=").and_then(|rest| rest.split_ascii_whitespace().next()) {
        Some("video") => Kind::Video,
        Some("audio") => Kind::Audio,
        _ => Kind::Data,
    }
}

/// Whether the writer sends and receives.
fn direction(line: &str) -> Option<(bool, bool)> {
    match line {
        "a=sendrecv" => Some((true, true)),
        "a=sendonly" => Some((true, false)),
        "a=recvonly" => Some((false, true)),
        "a=inactive" => Some((false, false)),
        _ => None,
    }
}

fn formats(lines: &[String]) -> Vec<Format> {
    let Some(first) = lines.first() else { return Vec::new() };
    let attribute = |name: &str, payload_type: u8| {
        lines.iter().find_map(|line| {
            let (of, rest) =
                line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':')?.split_once(' ')?;
            (of.parse() == Ok(payload_type)).then(|| rest.trim().to_owned())
        })
    };
    let is_rtx = |format: &Format| format.name.eq_ignore_ascii_case("rtx");
    let types = first.split_ascii_whitespace().skip(3).filter_map(|word| word.parse::<u8>().ok());
    let mut formats: Vec<Format> = types
        .take(MAX_FORMATS)
        .filter_map(|payload_type| {
            let map = match attribute("rtpmap", payload_type) {
                Some(map) => map,
                // Static types need no rtpmap (RFC 3551 section 6).
                None if payload_type == 0 => "PCMU/8000".to_owned(),
                None if payload_type == 8 => "PCMA/8000".to_owned(),
                None => return None,
            };
            let mut parts = map.split('/');
            let name = parts.next()?.trim().to_owned();
            let clock_rate = parts.next().and_then(|rate| rate.trim().parse().ok()).unwrap_or(0);
            let channels = parts.next().and_then(|channels| channels.trim().parse().ok()).unwrap_or(0);
            Some(Format {
                payload_type,
                codec: codec_of(&name, clock_rate),
                name,
                clock_rate,
                channels,
                fmtp: attribute("fmtp", payload_type).unwrap_or_default(),
                rtx: None,
            })
        })
        .collect();
    let repairs: Vec<(u8, u8)> = formats
        .iter()
        .filter(|format| is_rtx(format))
        .filter_map(|format| Some((apt(&format.fmtp)?, format.payload_type)))
        .collect();
    for format in &mut formats {
        let own = |(of, _): &&(u8, u8)| *of == format.payload_type;
        format.rtx = repairs.iter().find(own).map(|(_, rtx)| *rtx);
    }
    formats
}

/// The payload type that a format of retransmissions is for (RFC 4588 section 8.1).
fn apt(fmtp: &str) -> Option<u8> {
    fmtp.split(';').find_map(|part| part.trim().strip_prefix("apt="))?.trim().parse().ok()
}

/// The `m=` line with some formats, or as it is.
fn media_line(line: &str, only: &[u8]) -> String {
    if only.is_empty() {
        return line.to_owned();
    }
    let head = line.split_ascii_whitespace().take(3).map(str::to_owned);
    head.chain(only.iter().map(u8::to_string)).collect::<Vec<_>>().join(" ")
}

/// The payload type that an attribute belongs to.
fn payload_type_of(line: &str) -> Option<u8> {
    let rest = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"].iter().find_map(|name| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// A description whose section has a title (`i=`, RFC 8866 section 5.4), for people.
pub fn titled(description: &str, section: usize, title: &str) -> String {
    let mut text = String::with_capacity(description.len() + title.len() + 4);
    let mut sections = 0;
    for line in description.lines() {
        push(&mut text, line);
        if line.starts_with("m=") {
            if sections == section {
                let title: String = title.chars().filter(|c| !c.is_control()).collect();
                push(&mut text, &format!("i={title}"));
            }
            sections += 1;
        }
    }
    text
}

/// An offer of one bundle with the transport of its first section everywhere (RFC 9143, section 7.3.1). Some peers (aiortc)
/// offer each section a transport of its own, in case nobody bundles; here everybody does.
pub fn one_transport(offer: &str) -> String {
    if !offer.contains("a=group:BUNDLE") {
        return offer.to_owned();
    }
    const OWN: [&str; 2] = ["a=ice-ufrag:", "a=ice-pwd:"];
    let mut sections = 0;
    let mut first = [None; OWN.len()];
    let mut out = String::with_capacity(offer.len());
    for line in offer.lines() {
        sections += usize::from(line.starts_with("m="));
        let kind = OWN.iter().position(|own| line.starts_with(own));
        let known = kind.and_then(|kind| first.get_mut(kind));
        let line = match known {
            Some(known) if sections > 1 => known.unwrap_or(line),
            Some(known) => *known.get_or_insert(line),
            // Addresses of the transports that are not used.
            None if sections > 1 && line.starts_with("a=candidate:") => continue,
            None => line,
        };
        out.push_str(line);
        out.push_str("\r\n");
    }
    out
}

#[cfg(test)]
mod tests;
