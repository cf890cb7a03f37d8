//! ICE candidates that players are told: the machine's own and the configured ones.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::{Filters, Transport};

/// Priority that the index of a configured UDP candidate is taken from: below that of any candidate of the machine's own, so that
/// players in the same network do not take the way over the router.
const UDP_PRIORITY: u32 = 0x7eff_ffff;

/// The same for TCP.
const TCP_PRIORITY: u32 = 0x639f_ffff;

/// Lines `candidate:...` for a configured `host:port`, TCP before UDP. `index` counts all configured candidates from 1.
pub fn configured(host: &str, port: u16, transports: &[Transport], index: &mut u32) -> Vec<String> {
    let mut lines = Vec::new();
    for transport in [Transport::Tcp, Transport::Udp] {
        if !transports.contains(&transport) {
            continue;
        }
        let (base, more) = match transport {
            Transport::Udp => (UDP_PRIORITY, ""),
            Transport::Tcp => (TCP_PRIORITY, " tcptype passive"),
        };
        *index = index.saturating_add(1);
        let (network, foundation) = (transport.name(), foundation(host, transport));
        let priority = base.saturating_sub(*index);
        lines.push(format!("candidate:{foundation} 1 {network} {priority} {host} {port} typ host{more}"));
    }
    lines
}

/// CRC-32 of the candidate's type, address and network (RFC 8445 section 5.1.1.3 leaves the form open).
fn foundation(host: &str, transport: Transport) -> u32 {
    crc32fast::hash(format!("host{host}{}4", transport.name()).as_bytes())
}

/// A candidate of one of the machine's own addresses. `rank` orders addresses, the first is the best.
pub fn own(address: SocketAddr, transport: Transport, rank: u16) -> String {
    let (base, more) = match transport {
        Transport::Udp => (126_u32 << 24, ""),
        // Below UDP; direction "passive" (RFC 6544 section 4.2).
        Transport::Tcp => (90_u32 << 24, " tcptype passive"),
    };
    let priority = base | u32::from(u16::MAX - rank) << 8 | 255;
    let (ip, port, network) = (address.ip(), address.port(), transport.name());
    let foundation = foundation(&ip.to_string(), transport);
    format!("candidate:{foundation} 1 {network} {priority} {ip} {port} typ host{more}")
}

/// A candidate of an allocation on a TURN server. Where it is reached from is nobody's business.
pub fn relay(address: SocketAddr, rank: u16) -> String {
    let priority = u32::from(u16::MAX - rank) << 8 | 255;
    let (ip, port) = (address.ip(), address.port());
    let foundation = crc32fast::hash(format!("relay{ip}udp").as_bytes());
    let any = if ip.is_ipv4() { "0.0.0.0" } else { "::" };
    format!("candidate:{foundation} 1 udp {priority} {ip} {port} typ relay raddr {any} rport 9")
}

/// Addresses of the machine that may be used now, IPv4 first.
///
/// # Errors
/// When the system does not tell.
pub fn local_addresses(filters: &Filters) -> std::io::Result<Vec<IpAddr>> {
    let interfaces = if_addrs::get_if_addrs()?;
    let found = interfaces.into_iter().map(|interface| (interface.name.clone(), interface.ip())).collect();
    Ok(usable(found, filters))
}

/// What `filters` leave of interface names and addresses.
fn usable(found: Vec<(String, IpAddr)>, filters: &Filters) -> Vec<IpAddr> {
    let allowed = |(name, ip): &(String, IpAddr)| {
        (filters.loopback || !ip.is_loopback())
            && !is_link_local_v6(*ip)
            && filters.interfaces.as_ref().is_none_or(|interfaces| interfaces.contains(name))
            && filters.ips.as_ref().is_none_or(|ips| ips.contains(ip))
    };
    let mut ips: Vec<IpAddr> = found.into_iter().filter(allowed).map(|(_, ip)| ip).collect();
    // Addresses of container bridges lead nowhere for others, unless there is nothing else.
    let is_real = |ip: &IpAddr| ip.is_ipv4() && !ip.is_loopback() && !is_container(*ip);
    if filters.ips.is_none() && ips.iter().any(is_real) {
        ips.retain(|ip| !is_container(*ip));
    }
    ips.sort_by_key(|ip| (!ip.is_ipv4(), ip.is_loopback()));
    ips.dedup();
    ips
}

/// Whether an own address is told to players.
pub fn is_told(ip: IpAddr, transport: Transport, filters: &Filters) -> bool {
    let listed =
        filters.candidates.as_ref().is_none_or(|list| list.iter().any(|text| *text == ip.to_string()));
    listed && filters.allows_network(transport, ip)
}

/// 172.16.0.0/12, where container bridges live.
fn is_container(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if u32::from(v4) & 0xfff0_0000 == u32::from(Ipv4Addr::new(172, 16, 0, 0)))
}

fn is_link_local_v6(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.segments().first().is_some_and(|first| first & 0xffc0 == 0xfe80))
}

/// Whether a peer's candidate is worth giving to the ICE agent: component 1, an address or a name, some foundation. Some
/// peers send component 2 too, and none at all means "no more".
pub fn is_usable(line: &str) -> bool {
    let line = line.strip_prefix("candidate:").unwrap_or(line);
    let mut words = line.split_ascii_whitespace();
    let (foundation, component) = (words.next(), words.next());
    foundation.is_some() && component == Some("1") && words.count() >= 5
}

/// A candidate in the form that the ICE agent reads: an empty foundation (Google Nest) is filled in, transports are in
/// lower case.
pub fn normalised(line: &str) -> String {
    let line = line.trim();
    let line = line.strip_prefix("a=").unwrap_or(line);
    normalised_value(line.strip_prefix("candidate:").unwrap_or(line))
}

/// The same of what is behind `candidate:`.
pub fn normalised_value(value: &str) -> String {
    let line = if value.starts_with(' ') { format!("0{value}") } else { value.to_owned() };
    let words: Vec<String> = line
        .split_ascii_whitespace()
        .enumerate()
        .map(|(place, word)| if place == 2 { word.to_ascii_lowercase() } else { word.to_owned() })
        .collect();
    format!("candidate:{}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_candidates_are_as_go2rtc_writes_them() {
        let both = [Transport::Udp, Transport::Tcp];
        let mut index = 0;
        let mut lines = Vec::new();
        for host in ["216.58.210.174", "home.duckdns.org", "2001:db8::5"] {
            lines.extend(configured(host, 8555, &both, &mut index));
        }
        // Priorities and foundations observed at go2rtc 1.9.
        assert_eq!(
            lines,
            [
                "candidate:3613942034 1 tcp 1671430142 216.58.210.174 8555 typ host tcptype passive",
                "candidate:1788547314 1 udp 2130706429 216.58.210.174 8555 typ host",
                "candidate:4162725601 1 tcp 1671430140 home.duckdns.org 8555 typ host tcptype passive",
                "candidate:1173182209 1 udp 2130706427 home.duckdns.org 8555 typ host",
                "candidate:2229992351 1 tcp 1671430138 2001:db8::5 8555 typ host tcptype passive",
                "candidate:957975167 1 udp 2130706425 2001:db8::5 8555 typ host",
            ]
        );
        let line = configured("1.2.3.4", 8555, &[Transport::Tcp], &mut 0);
        assert_eq!(line, ["candidate:2766089772 1 tcp 1671430142 1.2.3.4 8555 typ host tcptype passive"]);
    }

    #[test]
    fn container_addresses_only_when_there_is_nothing_else() {
        let bridge: IpAddr = "172.17.0.1".parse().unwrap();
        let real: IpAddr = "192.168.1.2".parse().unwrap();
        let lo: IpAddr = "127.0.0.1".parse().unwrap();
        let link: IpAddr = "fe80::1".parse().unwrap();
        let named = |list: &[IpAddr]| list.iter().map(|ip| ("eth0".to_owned(), *ip)).collect::<Vec<_>>();
        let all = Filters::default();
        assert_eq!(usable(named(&[lo, bridge, real, link]), &all), [real]);
        assert_eq!(usable(named(&[lo, bridge]), &all), [bridge]);
        let loopback = Filters { loopback: true, ..Filters::default() };
        assert_eq!(usable(named(&[lo, real]), &loopback), [real, lo]);
        let other = Filters { interfaces: Some(vec!["eth1".to_owned()]), ..Filters::default() };
        assert!(usable(named(&[real]), &other).is_empty());
    }

    #[test]
    fn candidates_of_odd_peers() {
        let line = "candidate: 1 UDP 2113939711 192.0.2.1 9 typ host generation 0";
        assert_eq!(normalised(line), "candidate:0 1 udp 2113939711 192.0.2.1 9 typ host generation 0");
        assert!(is_usable(&normalised(line)));
        assert!(!is_usable("candidate:1 2 udp 1 192.0.2.1 9 typ host"));
        assert!(!is_usable(""));
    }
}
