//! The headers `Transport` and `Session`.

use std::fmt;
use std::time::Duration;

/// Session timeout when the header names none (RFC 2326 section 12.37).
pub const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(60);
/// Bounds of the session timeout (C62).
const SESSION_TIMEOUT_SECS: std::ops::RangeInclusive<u64> = 5..=600;

/// The layer below RTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lower {
    /// Datagrams.
    Udp,
    /// Datagrams to a group.
    Multicast,
    /// Frames on the RTSP connection.
    Tcp,
}

/// One choice of a `Transport` header (RFC 2326 section 12.39). Parsing never fails: what cannot be read is as if absent
/// (C61).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transport {
    /// Profile as written, such as `RTP/AVP/TCP`.
    pub profile: String,
    /// `multicast` was written.
    pub multicast: bool,
    /// RTP and RTCP channels.
    pub interleaved: Option<(u8, u8)>,
    /// The client's RTP and RTCP ports.
    pub client_port: Option<(u16, u16)>,
    /// The server's RTP and RTCP ports.
    pub server_port: Option<(u16, u16)>,
    /// Multicast ports.
    pub port: Option<(u16, u16)>,
    /// Where packets go.
    pub destination: Option<String>,
    /// Where packets come from.
    pub source: Option<String>,
    /// Multicast time to live.
    pub ttl: Option<u8>,
    /// SSRC, advisory.
    pub ssrc: Option<u32>,
    /// `PLAY` or `RECORD`, as written.
    pub mode: Option<String>,
}

impl Transport {
    /// RTP on the channels `channel` and `channel + 1` of the connection.
    pub fn tcp(channel: u8) -> Self {
        Self {
            profile: "RTP/AVP/TCP".to_owned(),
            interleaved: Some((channel, channel.saturating_add(1))),
            ..Self::default()
        }
    }

    /// RTP to the client's port `port` and RTCP to `port + 1`.
    pub fn udp(port: u16) -> Self {
        Self {
            profile: "RTP/AVP".to_owned(),
            client_port: Some((port, port.saturating_add(1))),
            ..Self::default()
        }
    }

    /// RTP and RTCP to a group that the server names.
    pub fn multicast() -> Self {
        Self { profile: "RTP/AVP".to_owned(), multicast: true, ..Self::default() }
    }

    /// All choices of a header, in their order.
    pub fn parse_all(header: &str) -> Vec<Self> {
        header.split(',').map(str::trim).filter(|s| !s.is_empty()).map(Self::parse).collect()
    }

    /// One choice.
    pub fn parse(choice: &str) -> Self {
        let mut parts = choice.split(';').map(str::trim);
        let mut this = Self { profile: parts.next().unwrap_or_default().to_owned(), ..Self::default() };
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim().trim_matches('"');
            match key.trim().to_ascii_lowercase().as_str() {
                "multicast" => this.multicast = true,
                "interleaved" => this.interleaved = pair(value, |a: u8| a.checked_add(1)),
                "client_port" => this.client_port = pair(value, |a: u16| a.checked_add(1)),
                "server_port" => this.server_port = pair(value, |a: u16| a.checked_add(1)),
                "port" => this.port = pair(value, |a: u16| a.checked_add(1)),
                "destination" if !value.is_empty() => this.destination = Some(value.to_owned()),
                "source" if !value.is_empty() => this.source = Some(value.to_owned()),
                "ttl" => this.ttl = value.parse().ok(),
                "ssrc" => this.ssrc = ssrc(part),
                "mode" if !value.is_empty() => this.mode = Some(value.to_owned()),
                _ => {}
            }
        }
        this
    }

    /// The layer below: interleaved channels mean TCP whatever the profile says (Escam Q6, C61).
    pub fn lower(&self) -> Lower {
        let tcp = self.profile.to_ascii_uppercase().ends_with("/TCP");
        match (tcp, self.multicast) {
            (true, _) => Lower::Tcp,
            (false, true) => Lower::Multicast,
            (false, false) if self.interleaved.is_some() => Lower::Tcp,
            (false, false) => Lower::Udp,
        }
    }

    /// Whether the client wants to send (`mode=record`, also `mode="RECORD"` and `mode=receive`).
    pub fn is_record(&self) -> bool {
        self.mode
            .as_deref()
            .is_some_and(|m| m.eq_ignore_ascii_case("record") || m.eq_ignore_ascii_case("receive"))
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{}", self.profile, if self.multicast { "multicast" } else { "unicast" })?;
        if let Some(destination) = &self.destination {
            write!(f, ";destination={destination}")?;
        }
        if let Some(source) = &self.source {
            write!(f, ";source={source}")?;
        }
        if let Some((rtp, rtcp)) = self.interleaved {
            write!(f, ";interleaved={rtp}-{rtcp}")?;
        }
        for (name, ports) in
            [("port", self.port), ("client_port", self.client_port), ("server_port", self.server_port)]
        {
            if let Some((rtp, rtcp)) = ports {
                write!(f, ";{name}={rtp}-{rtcp}")?;
            }
        }
        if let Some(ttl) = self.ttl {
            write!(f, ";ttl={ttl}")?;
        }
        if let Some(ssrc) = self.ssrc {
            write!(f, ";ssrc={ssrc:08X}")?;
        }
        if let Some(mode) = &self.mode {
            write!(f, ";mode={mode}")?;
        }
        Ok(())
    }
}

/// An SSRC of up to eight hex digits directly behind the `=`.
fn ssrc(part: &str) -> Option<u32> {
    let (_, value) = part.split_once('=')?;
    let is_hex = value.len() <= 8 && value.bytes().all(|b| b.is_ascii_hexdigit());
    if is_hex { u32::from_str_radix(value, 16).ok() } else { None }
}

/// `a-b` or a single `a`, whose partner is then `a + 1` (C61: RTCP is the first number plus one).
fn pair<T: std::str::FromStr + Copy>(value: &str, next: impl Fn(T) -> Option<T>) -> Option<(T, T)> {
    let (first, second) = value.split_once('-').unwrap_or((value, ""));
    let first: T = first.trim().parse().ok()?;
    let second = second.trim().parse().ok().or_else(|| next(first))?;
    Some((first, second))
}

/// A `Session` header (RFC 2326 section 12.37).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionHeader {
    /// The identifier, without blanks around it.
    pub id: String,
    /// Time without a request after which the server ends the session: 60 s when absent or 0, else 5 s to 600 s (C62).
    pub timeout: Duration,
}

impl SessionHeader {
    /// Parses `id;timeout=60`; `None` when there is no identifier.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split(';').map(str::trim);
        let id = parts.next().filter(|id| !id.is_empty())?.to_owned();
        let secs = parts
            .filter_map(|p| p.split_once('='))
            .find(|(key, _)| key.trim().eq_ignore_ascii_case("timeout"))
            .and_then(|(_, value)| value.trim().parse::<u64>().ok())
            .filter(|secs| *secs > 0);
        let timeout = secs.map_or(DEFAULT_SESSION_TIMEOUT, |secs| {
            Duration::from_secs(secs.clamp(*SESSION_TIMEOUT_SECS.start(), *SESSION_TIMEOUT_SECS.end()))
        });
        Some(Self { id, timeout })
    }
}
