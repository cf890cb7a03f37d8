//! The plugin's settings.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

/// STUN servers that are asked when none are configured.
const DEFAULT_STUN: [&str; 2] = ["stun:stun.cloudflare.com:3478", "stun:stun.l.google.com:19302"];

/// Settings of the section `webrtc`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// `host:port[/tcp|/udp]`; empty: a random UDP port, no TCP.
    pub listen: String,
    /// Further addresses for players: `host:port` or `stun:port`.
    pub candidates: Vec<String>,
    /// STUN and TURN servers.
    pub ice_servers: Vec<IceServer>,
    /// Which of the machine's addresses are used.
    pub filters: Filters,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: ":8555".to_owned(),
            candidates: Vec::new(),
            ice_servers: vec![IceServer {
                urls: DEFAULT_STUN.map(str::to_owned).to_vec(),
                ..IceServer::default()
            }],
            filters: Filters::default(),
        }
    }
}

/// STUN or TURN servers with one login, as browsers describe them.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct IceServer {
    /// `stun:host:port`, `turn:host:port?transport=udp`.
    #[serde(deserialize_with = "one_or_many")]
    pub urls: Vec<String>,
    /// Login name.
    pub username: Option<String>,
    /// Password.
    pub credential: Option<String>,
}

impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServer").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// Filters of the machine's own addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Filters {
    /// Only these own addresses are told to players.
    pub candidates: Option<Vec<String>>,
    /// Addresses of the loopback interface are used too.
    pub loopback: bool,
    /// Only these interfaces.
    pub interfaces: Option<Vec<String>>,
    /// Only these addresses.
    pub ips: Option<Vec<IpAddr>>,
    /// Only these of `udp4`, `udp6`, `tcp4`, `tcp6`.
    pub networks: Option<Vec<String>>,
    /// First and last port for sessions that this side dials.
    pub udp_ports: Option<Vec<u16>>,
}

impl Filters {
    /// Whether `networks` lets a transport through at this address.
    pub fn allows_network(&self, transport: Transport, ip: IpAddr) -> bool {
        let name = format!("{}{}", transport.name(), if ip.is_ipv4() { 4 } else { 6 });
        self.networks.as_ref().is_none_or(|networks| networks.contains(&name))
    }
}

/// What carries packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Framed in a connection (RFC 4571).
    Tcp,
}

impl Transport {
    /// As in candidates.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// What `listen` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Host, empty for all addresses.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether UDP is listened on.
    pub udp: bool,
    /// Whether TCP is listened on.
    pub tcp: bool,
}

impl Listen {
    /// Reads `host:port[/tcp|/udp]`; `None` for an empty text or one without a port.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, only) = match text.split_once('/') {
            Some((address, only)) => (address, Some(only)),
            None => (text, None),
        };
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (udp, tcp) = match only {
            None => (true, true),
            Some("udp") => (true, false),
            Some("tcp") => (false, true),
            Some(_) => return None,
        };
        Some(Self { host, port: port.parse().ok()?, udp, tcp })
    }
}

/// A text, or a list of them: browsers and their libraries write both.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Urls {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Urls::deserialize(deserializer)? {
        Urls::One(url) => vec![url],
        Urls::Many(urls) => urls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_names_transports() {
        let listen = |text| Listen::parse(text).map(|l| (l.host, l.port, l.udp, l.tcp));
        assert_eq!(listen(":8555"), Some((String::new(), 8555, true, true)));
        assert_eq!(listen("192.0.2.1:18555/tcp"), Some(("192.0.2.1".to_owned(), 18555, false, true)));
        assert_eq!(listen("[::1]:1/udp"), Some(("::1".to_owned(), 1, true, false)));
        assert_eq!(listen(""), None);
        assert_eq!(listen(":8555/sctp"), None);
    }

    #[test]
    fn networks_name_transport_and_family() {
        let filters = Filters { networks: Some(vec!["udp4".to_owned()]), ..Filters::default() };
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert!(filters.allows_network(Transport::Udp, v4));
        assert!(!filters.allows_network(Transport::Tcp, v4));
        assert!(!filters.allows_network(Transport::Udp, v6));
        assert!(Filters::default().allows_network(Transport::Tcp, v6));
    }
}
