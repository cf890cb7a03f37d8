//! Payload types: `rtpmap`, the static table of RFC 3551 and guesses for cameras that name nothing (C44, C45).

use patchbay_media::Kind;

/// Encoding, clock rate and channels of a payload type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) encoding: String,
    pub(super) clock_rate: u32,
    pub(super) channels: u8,
}

impl Map {
    fn new(encoding: &str, clock_rate: u32, channels: u8) -> Self {
        Self { encoding: encoding.to_owned(), clock_rate, channels }
    }

    /// The value of an `rtpmap` after the payload type: `H264/90000`, `opus/48000/2`, `PCMU`.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split('/').map(str::trim);
        let encoding = canonical(parts.next()?);
        if encoding.is_empty() {
            return None;
        }
        let clock = parts.next().and_then(leading_number).filter(|rate| *rate > 0);
        let channels = parts.next().and_then(leading_number).and_then(|n| u8::try_from(n).ok());
        let clock_rate = clock.unwrap_or_else(|| default_clock(&encoding));
        // Opus is always said to be 48000/2 (RFC 7587 section 7); some write 48000/1 (C45).
        let channels = if encoding == "OPUS" { 2 } else { channels.filter(|n| *n > 0).unwrap_or(1) };
        Some(Self { encoding, clock_rate, channels })
    }

    /// The static table (RFC 3551 section 6), and 35 as Bosch uses it.
    pub(super) fn fixed(payload_type: u8) -> Option<Self> {
        Some(match payload_type {
            0 => Self::new("PCMU", 8000, 1),
            2 => Self::new("G726-32", 8000, 1),
            3 => Self::new("GSM", 8000, 1),
            5 => Self::new("DVI4", 8000, 1),
            6 => Self::new("DVI4", 16000, 1),
            8 => Self::new("PCMA", 8000, 1),
            9 => Self::new("G722", 8000, 1),
            10 => Self::new("L16", 44100, 2),
            11 => Self::new("L16", 44100, 1),
            14 => Self::new("MPA", 90000, 1),
            26 => Self::new("JPEG", 90000, 1),
            32 => Self::new("MPV", 90000, 1),
            33 => Self::new("MP2T", 90000, 1),
            35 => Self::new("H264", 90000, 1),
            _ => return None,
        })
    }

    /// A guess for a payload type that neither `rtpmap` nor the table names. Video without names is H.264; FFmpeg sends
    /// little-endian PCM without a name, and its rate follows from `b=AS`.
    pub(super) fn guess(
        kind: Kind,
        payload_type: u8,
        bandwidth_kbps: Option<u32>,
        fmtp: &str,
    ) -> Option<Self> {
        let fmtp = fmtp.to_ascii_lowercase();
        match kind {
            Kind::Video if fmtp.contains("sprop-vps") => Some(Self::new("H265", 90000, 1)),
            Kind::Video if (96..=98).contains(&payload_type) || fmtp.contains("sprop-parameter-sets") => {
                Some(Self::new("H264", 90000, 1))
            }
            Kind::Audio if (96..=98).contains(&payload_type) => {
                let kbps = bandwidth_kbps?;
                let candidates = [8000, 16000, 24000, 32000, 44100, 48000];
                let fits =
                    |channels: u32| candidates.into_iter().find(|rate| rate * 16 * channels / 1000 == kbps);
                let (rate, channels) = match kbps {
                    // 48 kHz stereo rather than a mono rate that nobody uses.
                    1411 | 1536 => (fits(2)?, 2),
                    _ => (fits(1)?, 1),
                };
                Some(Self::new("PCM", rate, channels))
            }
            _ => None,
        }
    }

    /// Whether units, or an MPEG-TS stream, can be had from the encoding.
    pub(super) fn is_known(&self) -> bool {
        let name = self.encoding.as_str();
        KNOWN.contains(&name) || name.starts_with("G726-") || name.starts_with("AAL2-G726-")
    }
}

const KNOWN: [&str; 19] = [
    "H264",
    "H265",
    "AV1",
    "VP8",
    "VP9",
    "MP4V-ES",
    "JPEG",
    "MPEG4-GENERIC",
    "MP4A-LATM",
    "OPUS",
    "PCMA",
    "PCMU",
    "L16",
    "L24",
    "L8",
    "PCM",
    "G722",
    "MPA",
    "MP2T",
];

/// The upper-case encoding name without synonyms.
fn canonical(name: &str) -> String {
    let name = name.trim().to_ascii_uppercase();
    match name.as_str() {
        "HEVC" => "H265".into(),
        "MJPEG" => "JPEG".into(),
        // GStreamer, before the formats were standards.
        "VP8-DRAFT-IETF-01" => "VP8".into(),
        "VP9-DRAFT-IETF-01" => "VP9".into(),
        "G711A" => "PCMA".into(),
        "G711U" => "PCMU".into(),
        _ => name,
    }
}

fn default_clock(encoding: &str) -> u32 {
    match encoding {
        "OPUS" => 48000,
        "PCMA" | "PCMU" | "G722" | "PCM" | "L8" | "DVI4" | "GSM" => 8000,
        "L16" | "L24" => 44100,
        _ if encoding.contains("G726") => 8000,
        _ => 90000,
    }
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}
