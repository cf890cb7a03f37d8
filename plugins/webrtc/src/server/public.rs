//! Configured candidates: fixed ones, and the public address that STUN servers see.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::UdpSocket;

use crate::candidate;
use crate::config::{Config, Listen, Transport};
use crate::mux::Hub;
use crate::stun;

/// How long one server has for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// A request is repeated after this time: it may be lost.
const REPEAT_EVERY: Duration = Duration::from_millis(500);

/// How long an address is believed.
const KNOWN_FOR: Duration = Duration::from_secs(300);

/// One configured entry.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Fixed { host: String, port: u16 },
    Stun { port: u16 },
}

/// What STUN servers said.
struct Known {
    at: Instant,
    /// At which addresses of the machine ([`Hub::generation`]): another network has another public address.
    generation: u64,
    ips: Vec<IpAddr>,
}

/// The configured candidates.
pub(super) struct Addresses {
    entries: Vec<Entry>,
    /// `host:port` of the STUN servers.
    servers: Vec<String>,
    transports: Vec<Transport>,
    known: tokio::sync::Mutex<Option<Known>>,
    last: Mutex<Vec<IpAddr>>,
}

impl Addresses {
    pub(super) fn new(config: &Config) -> Self {
        let entries = config.candidates.iter().filter_map(|text| {
            let entry = entry(text);
            if entry.is_none() {
                tracing::warn!(candidate = text, "no `host:port` and no `stun:port`: passed over");
            }
            entry
        });
        let servers = config.ice_servers.iter().flat_map(|server| &server.urls);
        let servers = servers.filter_map(|url| url.strip_prefix("stun:")).map(|rest| {
            let address = rest.split('?').next().unwrap_or(rest);
            if address.contains(':') { address.to_owned() } else { format!("{address}:3478") }
        });
        let listen = Listen::parse(&config.listen);
        let transports = match listen {
            Some(Listen { udp: true, tcp: false, .. }) => vec![Transport::Udp],
            Some(Listen { udp: false, tcp: true, .. }) => vec![Transport::Tcp],
            _ => vec![Transport::Tcp, Transport::Udp],
        };
        Self {
            entries: entries.collect(),
            servers: servers.collect(),
            transports,
            known: tokio::sync::Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// The lines of all entries. Asks STUN servers when an entry wants that and the answer is old.
    pub(super) async fn candidates(&self, hub: &Hub) -> Vec<String> {
        let mut lines = Vec::new();
        let mut index = 0;
        for entry in &self.entries {
            match entry {
                Entry::Fixed { host, port } => {
                    lines.extend(candidate::configured(host, *port, &self.transports, &mut index));
                }
                Entry::Stun { port } => {
                    for ip in self.public(hub.generation()).await {
                        let host = ip.to_string();
                        lines.extend(candidate::configured(&host, *port, &self.transports, &mut index));
                    }
                }
            }
        }
        lines
    }

    /// The public addresses of both families, as far as there are any; the last known ones when no server answers.
    async fn public(&self, generation: u64) -> Vec<IpAddr> {
        let mut known = self.known.lock().await;
        if let Some(known) = &*known
            && known.at.elapsed() < KNOWN_FOR
            && known.generation == generation
        {
            return known.ips.clone();
        }
        let (v4, v6) = tokio::join!(self.ask(true), self.ask(false));
        let found: Vec<IpAddr> = v4.into_iter().chain(v6).collect();
        if found.is_empty() {
            tracing::warn!("no STUN server told the public address");
        } else {
            self.last.lock().clone_from(&found);
        }
        let ips = self.last.lock().clone();
        *known = Some(Known { at: Instant::now(), generation, ips: ips.clone() });
        ips
    }

    async fn ask(&self, v4: bool) -> Option<IpAddr> {
        for server in &self.servers {
            let asked = tokio::time::timeout(ANSWER_LIMIT, ask(server, v4)).await;
            if let Ok(Ok(Some(address))) = asked {
                return Some(address.ip());
            }
        }
        None
    }
}

/// Asks one server over one family.
async fn ask(server: &str, v4: bool) -> std::io::Result<Option<SocketAddr>> {
    let found = tokio::net::lookup_host(server).await?.find(|address| address.is_ipv4() == v4);
    let Some(address) = found else { return Ok(None) };
    let any: IpAddr = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    let transaction: [u8; 12] = rand::random();
    let mut buffer = [0; 512];
    loop {
        socket.send(&stun::binding_request(transaction)).await?;
        match tokio::time::timeout(REPEAT_EVERY, socket.recv(&mut buffer)).await {
            Err(_) => {}
            Ok(received) => {
                let datagram = buffer.get(..received?).unwrap_or_default();
                if let Some(mapped) = stun::mapped_address(datagram, transaction) {
                    return Ok(Some(mapped));
                }
            }
        }
    }
}

fn entry(text: &str) -> Option<Entry> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host {
        "" => None,
        "stun" => Some(Entry::Stun { port }),
        host => Some(Entry::Fixed { host: host.to_owned(), port }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_hosts_or_stun() {
        let fixed = |host: &str, port| Some(Entry::Fixed { host: host.to_owned(), port });
        assert_eq!(entry("216.58.210.174:8555"), fixed("216.58.210.174", 8555));
        assert_eq!(entry("[2001:db8::5]:8555"), fixed("2001:db8::5", 8555));
        assert_eq!(entry("stun:8555"), Some(Entry::Stun { port: 8555 }));
        assert_eq!(entry("nothing"), None);
    }

    #[tokio::test]
    async fn the_public_address_comes_from_a_stun_server() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut buffer = [0; 64];
            let (len, from) = server.recv_from(&mut buffer).await.unwrap();
            // 203.0.113.7:9, masked with the cookie.
            let mut answer = vec![1, 1, 0, 12];
            answer.extend_from_slice(&buffer[4..len]);
            answer.extend_from_slice(&[
                0,
                0x20,
                0,
                8,
                0,
                1,
                0x21,
                0x1b,
                203 ^ 0x21,
                0x12,
                113 ^ 0xa4,
                7 ^ 0x42,
            ]);
            server.send_to(&answer, from).await.unwrap();
        });
        let mapped = ask(&address.to_string(), true).await.unwrap();
        assert_eq!(mapped.map(|address| address.ip()), Some("203.0.113.7".parse().unwrap()));
        answering.await.unwrap();
    }
}
