//! Session descriptions (RFC 8866): what cameras say about their media, read leniently, and what players are told.
//!
//! [`parse`] needs only `m=` lines and their attributes and never fails (C40). Quirks by row: C41 odd `m=` lines, C42
//! attributes in the wrong place, C44 static payload types, C45 encoding names, C47 to C50 `fmtp`, C51 directions.

use std::collections::BTreeMap;
use std::net::IpAddr;

use patchbay_media::Kind;

pub use build::{Description, MediaDescription, build, payload_type};

mod build;
mod fmtp;
mod lines;
mod medias;
mod parameters;
mod payload;

/// Longest description that is read, in bytes; the rest is ignored.
pub const MAX_LEN: usize = 1 << 20;

/// Most media sections that are read.
pub const MAX_MEDIAS: usize = 64;

/// Most attributes of one section that are read.
pub const MAX_ATTRIBUTES: usize = 512;

/// A parsed session description.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    /// `s=`, unless blank.
    pub name: Option<String>,
    /// The aggregate control URL or `*`, as written.
    pub control: Option<String>,
    /// The media sections in their order. A track is its index here, never its payload type (C42).
    pub medias: Vec<Media>,
    /// A media wants SRTP, which is not supported (C71).
    pub is_srtp: bool,
}

/// Who sends (RFC 8866 section 6.7), seen from whoever wrote the description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Both.
    SendRecv,
    /// The writer sends; in ONVIF descriptions the *client* sends.
    SendOnly,
    /// The writer receives; in RTSP descriptions the usual word for "the server sends".
    #[default]
    RecvOnly,
    /// Nobody.
    Inactive,
}

impl Direction {
    /// The attribute's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

/// Where a media is sent (`c=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The address; unspecified in most RTSP descriptions.
    pub address: IpAddr,
    /// Time to live of an IPv4 multicast group.
    pub ttl: Option<u8>,
}

/// One media section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Video, audio, or data for anything else. Data is never set up.
    pub kind: Kind,
    /// The first word of the `m=` line, lower case.
    pub kind_name: String,
    /// The port of the `m=` line, 0 when absent or wrong.
    pub port: u16,
    /// The transport profile, such as `RTP/AVP`.
    pub protocol: String,
    /// All payload types of this media; packets of any of them belong to it.
    pub payload_types: Vec<u8>,
    /// The chosen payload type: the first with a known encoding.
    pub payload_type: u8,
    /// Encoding name of the chosen payload type, upper case (`H265` for `HEVC`); empty when unknown.
    pub encoding: String,
    /// Ticks per second of the RTP timestamps; never 0.
    pub clock_rate: u32,
    /// Channels of the `rtpmap`, 1 when absent, 0 for video and data.
    pub channels: u8,
    /// Format parameters of the chosen payload type, keys lower case.
    pub fmtp: BTreeMap<String, String>,
    /// The control URL as written, without blanks around it. The last one of several wins.
    pub control: Option<String>,
    /// The direction attribute, of the session when the media has none.
    pub direction: Option<Direction>,
    /// The client speaks here: an audio media marked `sendonly` beside others that are not (C51).
    pub is_backchannel: bool,
    /// Size from `x-dimensions` or `framesize`.
    pub dimensions: Option<(u32, u32)>,
    /// `c=` of the media, else of the session.
    pub connection: Option<Connection>,
    /// `b=AS`, in kbit/s.
    pub bandwidth_kbps: Option<u32>,
    /// The other attributes, in their order.
    pub attributes: Vec<(String, Option<String>)>,
}

impl Media {
    /// Whether the profile is SRTP.
    pub fn is_srtp(&self) -> bool {
        self.protocol.to_ascii_uppercase().contains("SAVP")
    }
}

/// Reads a description. It never fails: a text without `m=` lines gives a session without medias.
pub fn parse(text: &[u8]) -> Session {
    medias::session(lines::clean(text))
}
