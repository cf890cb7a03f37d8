//! One UDP port and one TCP port for all sessions.
//!
//! A peer is known by the user fragment in its first connectivity check, whose integrity is verified before its address
//! is remembered; everything else is told apart by address. UDP has one socket per local address, never the wildcard:
//! the address that an answer comes from must be the one that was asked. Sockets come and go with the machine's addresses.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::BytesMut;
use parking_lot::{Mutex, RwLock};
use quinn_udp::{Transmit, UdpSockRef};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::Transport;
use crate::peer::Peer;
use crate::peer::agree::Credentials;
use crate::stun;
use crate::turn::Relay;

mod ports;
pub mod tcp;

use ports::{Port, Ports};

/// Largest datagram that is read, in bytes.
const MAX_DATAGRAM: usize = 2048;

/// Addresses that one session may use at a time; the oldest is forgotten.
const MAX_ADDRESSES: usize = 16;

/// Datagrams that are read before others have their turn.
const READ_AT_ONCE: usize = 32;

/// Totals for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams received.
    pub received: AtomicU64,
    /// Datagrams of nobody.
    pub strangers: AtomicU64,
    /// System calls that sent datagrams.
    pub sends: AtomicU64,
    /// Packets sent.
    pub packets: AtomicU64,
    /// Packets that a socket did not take.
    pub dropped: AtomicU64,
    /// Times that a session was looked after because something of it was due.
    pub ticks: AtomicU64,
}

/// The sockets and who uses them. Dropping it closes them.
pub struct Mux {
    hub: Arc<Hub>,
    /// Who reads the UDP socket of each address.
    readers: HashMap<SocketAddr, JoinSet<()>>,
    listener: JoinSet<()>,
    /// That of all UDP sockets, once the system has chosen it.
    port: Option<u16>,
}

/// What sessions and readers share.
pub struct Hub {
    local: RwLock<Local>,
    table: Mutex<Table>,
    /// Allocations on TURN servers.
    relays: Mutex<Vec<Arc<Relay>>>,
    counters: Counters,
}

/// Where this side is reached.
#[derive(Default)]
struct Local {
    ports: Ports,
    /// Port of the TCP listener.
    tcp: Option<u16>,
    /// The addresses that it is reached at.
    tcp_ips: Vec<IpAddr>,
    /// Counts changes of the addresses.
    generation: u64,
}

#[derive(Default)]
struct Table {
    names: HashMap<String, Entry>,
    addresses: HashMap<SocketAddr, Weak<Peer>>,
}

struct Entry {
    peer: Weak<Peer>,
    /// What the peer shows that it was told this name.
    password: String,
    /// The newest last.
    addresses: Vec<SocketAddr>,
}

impl Default for Mux {
    fn default() -> Self {
        let hub = Hub {
            local: RwLock::default(),
            table: Mutex::default(),
            relays: Mutex::default(),
            counters: Counters::default(),
        };
        Self { hub: Arc::new(hub), readers: HashMap::new(), listener: JoinSet::new(), port: None }
    }
}

impl Mux {
    /// Receives UDP at exactly these addresses from now on, as far as they can be bound; on `port`, or with 0 on one that the system
    /// chooses once. Nothing happens to what is received at an address that stays; one that is gone keeps its socket for a while, because
    /// it may come back, and is told nobody meanwhile. The error is that of an address that cannot be bound; the next call tries it again.
    pub fn bind(&mut self, now: Instant, ips: &[IpAddr], port: u16) -> Option<io::Error> {
        let missing = self.hub.local.read().ports.missing(ips);
        let (mut bound, mut failed) = (Vec::new(), None);
        for ip in missing {
            let chosen = if port == 0 { self.port.unwrap_or(0) } else { port };
            match Port::bind(ip, chosen) {
                Ok(port) => {
                    self.port = Some(port.address.port());
                    bound.push(Arc::new(port));
                }
                Err(error) => {
                    tracing::debug!(%ip, port, "udp: {error}");
                    failed = Some(error);
                }
            }
        }
        for port in &bound {
            let mut reader = JoinSet::new();
            reader.spawn(read(Arc::clone(&self.hub), Arc::clone(port)));
            self.readers.insert(port.address, reader);
        }
        let mut local = self.hub.local.write();
        let before = local.ports.addresses();
        let over = local.ports.arrange(now, ips, bound);
        if local.ports.addresses() != before {
            local.generation += 1;
        }
        drop(local);
        for port in over {
            self.readers.remove(&port.address);
        }
        failed
    }

    /// Accepts connections of this listener from now on, and of no other.
    pub fn listen(&mut self, listener: TcpListener) {
        self.hub.local.write().tcp = listener.local_addr().ok().map(|address| address.port());
        self.listener.abort_all();
        self.listener.spawn(tcp::accept(Arc::clone(&self.hub), listener));
    }

    /// The listener is reached at these addresses.
    pub fn reached_at(&mut self, ips: &[IpAddr]) {
        let mut local = self.hub.local.write();
        if local.tcp.is_some() && local.tcp_ips != ips {
            local.tcp_ips = ips.to_vec();
            local.generation += 1;
        }
    }

    /// What sessions need of it.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }
}

impl Hub {
    /// The addresses that UDP is received at.
    pub fn udp_addresses(&self) -> Vec<SocketAddr> {
        self.local.read().ports.addresses()
    }

    /// The addresses that TCP is accepted at.
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        let local = self.local.read();
        let with_port = |port| local.tcp_ips.iter().map(move |ip| SocketAddr::new(*ip, port)).collect();
        local.tcp.map(with_port).unwrap_or_default()
    }

    /// The port that TCP is accepted at.
    pub fn tcp_port(&self) -> Option<u16> {
        self.local.read().tcp
    }

    /// Another number each time that these addresses change.
    pub fn generation(&self) -> u64 {
        self.local.read().generation
    }

    /// Totals.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sessions and addresses that are known, for tests of leaks.
    pub fn entries(&self) -> (usize, usize) {
        let table = self.table.lock();
        (table.names.len(), table.addresses.len())
    }

    /// Lets a session be found by the user fragment of its checks.
    pub fn register(&self, peer: &Arc<Peer>, credentials: &Credentials) {
        let Credentials { ufrag, password } = credentials.clone();
        let entry = Entry { peer: Arc::downgrade(peer), password, addresses: Vec::new() };
        self.table.lock().names.insert(ufrag, entry);
    }

    /// Lets a session be found by another user fragment from now on. Its addresses stay: media goes on until there are others.
    pub fn rename(&self, before: &str, credentials: &Credentials) {
        let mut table = self.table.lock();
        if let Some(entry) = table.names.remove(before) {
            let Credentials { ufrag, password } = credentials.clone();
            table.names.insert(ufrag, Entry { password, ..entry });
        }
    }

    /// Forgets a session and its addresses.
    pub fn forget(&self, ufrag: &str) {
        let mut table = self.table.lock();
        let Some(entry) = table.names.remove(ufrag) else { return };
        for address in entry.addresses {
            if table.addresses.get(&address).is_some_and(|peer| Weak::ptr_eq(peer, &entry.peer)) {
                table.addresses.remove(&address);
            }
        }
    }

    /// The session that a datagram belongs to.
    fn find(&self, datagram: &[u8], remote: SocketAddr) -> Option<Arc<Peer>> {
        let Some(request) = stun::Request::parse(datagram) else {
            return self.table.lock().addresses.get(&remote).and_then(Weak::upgrade);
        };
        let peer = self.claimed(&request)?;
        let mut guard = self.table.lock();
        let table = &mut *guard;
        let entry = table.names.get_mut(request.ufrag)?;
        if entry.addresses.last() != Some(&remote) {
            entry.addresses.retain(|address| *address != remote);
            entry.addresses.push(remote);
            table.addresses.insert(remote, Arc::downgrade(&peer));
            if entry.addresses.len() > MAX_ADDRESSES {
                let oldest = entry.addresses.remove(0);
                table.addresses.remove(&oldest);
            }
        }
        Some(peer)
    }

    /// The session that a check is for, when it knows the password.
    fn claimed(&self, request: &stun::Request<'_>) -> Option<Arc<Peer>> {
        let (peer, password) = {
            let table = self.table.lock();
            let entry = table.names.get(request.ufrag)?;
            (entry.peer.upgrade()?, entry.password.clone())
        };
        request.is_from(&password).then_some(peer)
    }

    /// Sends datagrams of `segment` bytes each (the last may be shorter) with one system call. False when the socket has
    /// no room: they are lost.
    pub fn send(&self, local: SocketAddr, remote: SocketAddr, contents: &[u8], segment: usize) -> bool {
        let count = contents.len().div_ceil(segment.max(1)) as u64;
        let own = self.local.read();
        let port = match own.ports.at(local) {
            Some(port) => port,
            None => {
                if let Some(relay) = self.relay(local) {
                    let is_sent = relay.send(remote, contents, segment);
                    let counter = if is_sent { &self.counters.packets } else { &self.counters.dropped };
                    counter.fetch_add(count, Relaxed);
                    return is_sent;
                }
                let Some(port) = own.ports.towards(remote) else { return false };
                port
            }
        };
        let transmit = Transmit {
            destination: remote,
            ecn: None,
            contents,
            segment_size: (count > 1).then_some(segment),
            src_ip: None,
        };
        let sent = port.state.try_send(UdpSockRef::from(port.socket.get_ref()), &transmit);
        self.counters.sends.fetch_add(1, Relaxed);
        let counter = if sent.is_ok() { &self.counters.packets } else { &self.counters.dropped };
        counter.fetch_add(count, Relaxed);
        sent.is_ok()
    }

    /// From now on packets from the address of this allocation go over it.
    pub fn add_relay(&self, relay: &Arc<Relay>) {
        let mut relays = self.relays.lock();
        relays.retain(|known| known.is_open());
        relays.push(Arc::clone(relay));
    }

    /// Whether an allocation is known here.
    pub fn has_relay(&self, relay: &Arc<Relay>) -> bool {
        self.relays.lock().iter().any(|known| Arc::ptr_eq(known, relay))
    }

    fn relay(&self, local: SocketAddr) -> Option<Arc<Relay>> {
        self.relays.lock().iter().find(|relay| relay.address() == local).cloned()
    }

    /// Hands a datagram to the session that it belongs to.
    pub fn dispatch(&self, local: SocketAddr, remote: SocketAddr, datagram: &[u8]) {
        self.counters.received.fetch_add(1, Relaxed);
        match self.find(datagram, remote) {
            Some(peer) => {
                let data = BytesMut::from(datagram);
                peer.receive(Instant::now(), local, remote, Transport::Udp, data);
            }
            None => drop(self.counters.strangers.fetch_add(1, Relaxed)),
        }
    }

    /// Most datagrams that one call of [`Hub::send`] takes.
    pub fn max_segments(&self) -> usize {
        self.local.read().ports.max_segments()
    }

    /// The local address of a TCP connection as the candidates name it.
    fn tcp_address(&self, bound: SocketAddr) -> SocketAddr {
        SocketAddr::new(bound.ip().to_canonical(), self.tcp_port().unwrap_or(bound.port()))
    }
}

/// Reads one socket for ever.
async fn read(hub: Arc<Hub>, port: Arc<Port>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let Ok(mut ready) = port.socket.readable().await else { return };
        for _ in 0..READ_AT_ONCE {
            match port.socket.get_ref().recv_from(&mut buffer) {
                Ok((len, remote)) => {
                    hub.dispatch(port.address, remote, buffer.get(..len).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    break;
                }
                // An ICMP error of an earlier datagram, or memory: the socket goes on.
                Err(error) => tracing::trace!("udp: {error}"),
            }
        }
        drop(ready);
        tokio::task::yield_now().await;
    }
}
