//! Multicast: one group for all who watch the same tracks from the same network (S40).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use patchbay_sdk::Error;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::feed::History;
use super::udp::{Datagrams, UdpTrack};
use super::{MAX_TRACKS, Room};
use crate::server::rings::Rings;
use crate::server::session::{Place, RtpInfo};

/// RTP port of the first track; the next ones follow, each with RTCP one above.
const FIRST_PORT: u16 = 16_384;
/// Send buffer, for a key unit at once.
const SEND_BUFFER: usize = 1 << 20;
/// Most addresses of a pool.
const MAX_ADDRESSES: u32 = 1 << 16;

/// Group addresses that are free.
#[derive(Debug, Default)]
pub struct Pool {
    first: u32,
    count: u32,
    ttl: u8,
    used: Arc<Mutex<BTreeSet<u32>>>,
}

/// The setting is no pool of IPv4 group addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no range of IPv4 multicast addresses such as 239.255.42.0/24")]
pub struct NoPool(String);

impl Pool {
    /// A pool of `ADDRESS` or `ADDRESS/PREFIX`; an empty text is an empty pool.
    pub fn new(text: &str, ttl: u8) -> Result<Self, NoPool> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let fault = || NoPool(text.to_owned());
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let address: Ipv4Addr = address.trim().parse().map_err(|_| fault())?;
        let prefix: u32 = prefix.trim().parse().ok().filter(|p| (4..=32).contains(p)).ok_or_else(fault)?;
        if !address.is_multicast() {
            return Err(fault());
        }
        let size = 1_u64 << (32 - prefix);
        let first = u32::from(address) & u32::try_from(!(size - 1) & 0xffff_ffff).unwrap_or(u32::MAX);
        let count = u32::try_from(size).unwrap_or(MAX_ADDRESSES).min(MAX_ADDRESSES);
        Ok(Self { first, count, ttl, used: Arc::default() })
    }

    fn take(&self) -> Option<Lease> {
        let mut used = self.used.lock();
        let address = (self.first..=self.first.saturating_add(self.count.checked_sub(1)?))
            .find(|address| !used.contains(address))?;
        used.insert(address);
        Some(Lease { address, used: Arc::clone(&self.used) })
    }
}

/// An address in use; given back when dropped.
#[derive(Debug)]
struct Lease {
    address: u32,
    used: Arc<Mutex<BTreeSet<u32>>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.used.lock().remove(&self.address);
    }
}

/// A room's group on one network. It sends as long as somebody holds it who has called [`Room::join_multicast`].
#[derive(Debug)]
pub struct Group {
    lease: Lease,
    interface: IpAddr,
    ttl: u8,
    rtp: Arc<UdpSocket>,
    rtcp: Arc<UdpSocket>,
    sending: Mutex<Option<Arc<Datagrams>>>,
}

impl Group {
    fn new(lease: Lease, interface: IpAddr, ttl: u8) -> io::Result<Self> {
        let IpAddr::V4(from) = interface else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "multicast is sent over IPv4 only"));
        };
        let socket = || {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_nonblocking(true)?;
            let _ = socket.set_send_buffer_size(SEND_BUFFER);
            socket.set_multicast_if_v4(&from)?;
            socket.set_multicast_ttl_v4(u32::from(ttl))?;
            // Players on this machine.
            socket.set_multicast_loop_v4(true)?;
            socket.bind(&SocketAddr::from((from, 0)).into())?;
            UdpSocket::from_std(socket.into()).map(Arc::new)
        };
        let (rtp, rtcp) = (socket()?, socket()?);
        Ok(Self { lease, interface, ttl, rtp, rtcp, sending: Mutex::default() })
    }

    /// Where a track is sent to.
    pub fn place(&self, track: usize) -> Place {
        let number = u16::try_from(track.min(MAX_TRACKS)).unwrap_or(0);
        let port = FIRST_PORT + 2 * number;
        Place {
            group: Ipv4Addr::from(self.lease.address).into(),
            ports: (port, port + 1),
            ttl: self.ttl,
            source: self.interface,
        }
    }

    fn track(&self, track: usize) -> UdpTrack {
        let Place { group, ports, .. } = self.place(track);
        UdpTrack {
            track,
            rtp: Arc::clone(&self.rtp),
            rtcp: Arc::clone(&self.rtcp),
            to: ((group, ports.0).into(), (group, ports.1).into()),
        }
    }
}

/// A room's groups by the network they are on.
pub(super) type Groups = Mutex<Vec<(IpAddr, Weak<Group>)>>;

impl<R: Rings> Room<R> {
    /// The room's group on the network of the own address `interface`, made when nobody else watches there.
    pub fn group(&self, pool: &Pool, interface: IpAddr) -> io::Result<Arc<Group>> {
        let interface = interface.to_canonical();
        let mut groups = self.groups.lock();
        groups.retain(|(_, group)| group.strong_count() > 0);
        if let Some(group) =
            groups.iter().find(|(ip, _)| *ip == interface).and_then(|(_, group)| group.upgrade())
        {
            return Ok(group);
        }
        let lease = pool.take().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let group = Arc::new(Group::new(lease, interface, pool.ttl)?);
        groups.push((interface, Arc::downgrade(&group)));
        Ok(group)
    }

    /// Lets a viewer in on `group`: all the room's tracks are sent there. The first one starts it, at the next key unit; who
    /// comes later waits for one, too, since a history is for nobody else.
    pub fn join_multicast(
        &self,
        group: &Group,
        tracks: &[usize],
        reply: impl FnOnce(&[RtpInfo]) -> Bytes,
    ) -> Result<Bytes, Error> {
        let mut sending = group.sending.lock();
        if sending.is_some() {
            let unknown = |track: &usize| RtpInfo { track: *track, sequence: None, timestamp: None };
            let infos: Vec<RtpInfo> = tracks.iter().map(unknown).collect();
            return Ok(reply(&infos));
        }
        let all = (0..self.tracks.len()).map(|track| group.track(track)).collect();
        let (bytes, viewer) = self.join_udp(all, History::None, |infos| {
            let asked: Vec<RtpInfo> =
                infos.iter().copied().filter(|info| tracks.contains(&info.track)).collect();
            reply(&asked)
        })?;
        *sending = Some(Arc::clone(&viewer));
        // Not the first player's task: it may leave while others stay. Without history this is done at once.
        tokio::spawn(async move { viewer.start().await });
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_and_given_back() {
        let pool = Pool::new("239.255.42.2/31", 1).unwrap();
        let address = |lease: &Lease| Ipv4Addr::from(lease.address).to_string();
        let (a, b) = (pool.take().unwrap(), pool.take().unwrap());
        assert_eq!((address(&a), address(&b)), ("239.255.42.2".to_owned(), "239.255.42.3".to_owned()));
        assert!(pool.take().is_none());
        drop(a);
        assert_eq!(address(&pool.take().unwrap()), "239.255.42.2");
        assert!(Pool::new("", 1).unwrap().take().is_none());
    }

    #[test]
    fn what_is_no_range_of_groups_is_refused() {
        for text in ["10.0.0.0/24", "239.1.1.1/33", "239.1.1.1/3", "ff02::1", "x"] {
            assert_eq!(Pool::new(text, 1).unwrap_err(), NoPool(text.to_owned()));
        }
        assert_eq!(Pool::new("224.0.0.0/4", 1).unwrap().count, MAX_ADDRESSES);
    }
}
