//! TURN servers (RFC 8656): which are configured, and the ways to them.
//!
//! This side needs one when nobody can reach it. Sessions of the server share one allocation per configured server
//! ([`Relay`]); connections that this side dials have allocations of their own, which the `webrtc` crate makes over UDP alone: a
//! [`Bridge`] carries them over TCP and TLS.

use crate::config::IceServer;

mod bridge;
mod relay;
mod wire;

pub use bridge::Bridge;
pub use relay::{Relay, Relays};
pub use wire::{BadMessage, take_message};

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// Datagrams.
    Udp,
    /// A connection.
    Tcp,
    /// An encrypted connection.
    Tls,
}

/// A TURN server and the login there.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Name or address, an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How it is reached.
    pub carrier: Carrier,
    /// Login name.
    pub username: String,
    /// Password.
    pub credential: String,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{} ({:?})", self.host, self.port, self.carrier)
    }
}

impl Server {
    /// Reads `turn:host[:port][?transport=udp|tcp]` or `turns:...` (RFC 7065); `None` for anything else.
    pub fn parse(url: &str, username: &str, credential: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once(':')?;
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let transport = query.split('&').find_map(|pair| pair.strip_prefix("transport="));
        let carrier = match (scheme, transport) {
            ("turn", None | Some("udp")) => Carrier::Udp,
            ("turn", Some("tcp")) => Carrier::Tcp,
            ("turns", None | Some("tcp")) => Carrier::Tls,
            _ => return None,
        };
        let default = if carrier == Carrier::Tls { 5349 } else { 3478 };
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, port.strip_prefix(':'))
            }
            None => match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        let port = port.map_or(Some(default), |port| port.parse().ok())?;
        if host.is_empty() {
            return None;
        }
        let (username, credential) = (username.to_owned(), credential.to_owned());
        Some(Self { host: host.to_owned(), port, carrier, username, credential })
    }

    /// All TURN servers of a list, in order.
    pub fn all(servers: &[IceServer]) -> Vec<Self> {
        let of = |server: &IceServer| {
            let (username, credential) =
                (server.username.clone().unwrap_or_default(), server.credential.clone().unwrap_or_default());
            let urls = server.urls.clone();
            urls.into_iter().filter_map(move |url| Self::parse(&url, &username, &credential))
        };
        servers.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_host_port_and_transport() {
        let parse = |url| Server::parse(url, "u", "p").map(|s| (s.host, s.port, s.carrier));
        assert_eq!(parse("turn:turn.example"), Some(("turn.example".to_owned(), 3478, Carrier::Udp)));
        assert_eq!(
            parse("turn:192.0.2.1:99?transport=tcp"),
            Some(("192.0.2.1".to_owned(), 99, Carrier::Tcp))
        );
        assert_eq!(
            parse("turn:[2001:db8::1]:99?transport=udp"),
            Some(("2001:db8::1".to_owned(), 99, Carrier::Udp))
        );
        assert_eq!(parse("turns:turn.example"), Some(("turn.example".to_owned(), 5349, Carrier::Tls)));
        assert_eq!(
            parse("turns:turn.example:443?transport=tcp"),
            Some(("turn.example".to_owned(), 443, Carrier::Tls))
        );
        for other in
            ["stun:stun.example", "turns:h?transport=udp", "turn:", "turn:h:x", "turn:h?transport=sctp", ""]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let server = Server::parse("turn:h", "name", "secret").unwrap();
        assert_eq!(format!("{server:?}"), "h:3478 (Udp)");
    }
}
