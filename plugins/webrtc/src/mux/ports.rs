//! UDP sockets, one per address of the machine, as it gets and loses them.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Kernel buffers of a UDP socket, in bytes, as far as the system allows.
const SOCKET_BUFFER: usize = 4 << 20;

/// The socket of an address that is gone is kept for so long: the address may come back, as that of a wireless network that was lost
/// for a moment, and its sessions have not ended by then.
pub(super) const GONE_FOR: Duration = Duration::from_secs(15);

/// A bound socket.
pub(super) struct Port {
    /// Waited for to read alone: otherwise the kernel wakes a thread for each datagram that has left.
    pub(super) socket: AsyncFd<UdpSocket>,
    pub(super) state: UdpSocketState,
    pub(super) address: SocketAddr,
}

impl Port {
    /// A socket at this address, on a port of the system's choice when `port` is 0.
    pub(super) fn bind(ip: IpAddr, port: u16) -> io::Result<Self> {
        let socket = UdpSocket::bind((ip, port))?;
        socket.set_nonblocking(true)?;
        let reference = SockRef::from(&socket);
        let _ = reference.set_send_buffer_size(SOCKET_BUFFER);
        let _ = reference.set_recv_buffer_size(SOCKET_BUFFER);
        let address = socket.local_addr()?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self { socket: readable(socket)?, state, address })
    }
}

/// A socket that is waited for to read alone.
// What is deprecated is that a type may hand out a descriptor that is not its own; a socket of the standard library does not.
#[allow(deprecated)]
fn readable(socket: UdpSocket) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// All sockets.
#[derive(Default)]
pub(super) struct Ports {
    /// At addresses that the machine has, the best first.
    present: Vec<Arc<Port>>,
    /// At addresses that it had until then.
    gone: Vec<(Instant, Arc<Port>)>,
}

impl Ports {
    /// The addresses that peers are told.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.present.iter().map(|port| port.address).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Port>> {
        self.present.iter().chain(self.gone.iter().map(|(_, port)| port))
    }

    /// The socket at an address.
    pub(super) fn at(&self, address: SocketAddr) -> Option<&Arc<Port>> {
        self.all().find(|port| port.address == address)
    }

    /// A socket that may reach an address.
    pub(super) fn towards(&self, remote: SocketAddr) -> Option<&Arc<Port>> {
        self.all().find(|port| port.address.is_ipv4() == remote.is_ipv4())
    }

    /// Most datagrams that each of them sends at once.
    pub(super) fn max_segments(&self) -> usize {
        self.present.iter().map(|port| port.state.max_gso_segments()).min().unwrap_or(1)
    }

    /// Those of `ips` that have no socket.
    pub(super) fn missing(&self, ips: &[IpAddr]) -> Vec<IpAddr> {
        let is_missing = |ip: &&IpAddr| self.all().all(|port| port.address.ip() != **ip);
        ips.iter().filter(is_missing).copied().collect()
    }

    /// The machine has the addresses `ips` now, and `bound` are new sockets. Gives back those that are over.
    pub(super) fn arrange(&mut self, now: Instant, ips: &[IpAddr], bound: Vec<Arc<Port>>) -> Vec<Arc<Port>> {
        let rank = |port: &Port| ips.iter().position(|ip| *ip == port.address.ip());
        let before = std::mem::take(&mut self.present).into_iter().chain(bound).map(|port| (now, port));
        let known: Vec<(Instant, Arc<Port>)> = before.chain(std::mem::take(&mut self.gone)).collect();
        let mut over = Vec::new();
        for (since, port) in known {
            if rank(&port).is_some() {
                self.present.push(port);
            } else if now.saturating_duration_since(since) < GONE_FOR {
                self.gone.push((since, port));
            } else {
                over.push(port);
            }
        }
        self.present.sort_by_key(|port| rank(port));
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: IpAddr) -> Arc<Port> {
        Arc::new(Port::bind(ip, 0).unwrap())
    }

    fn shown(ports: &[Arc<Port>]) -> Vec<IpAddr> {
        ports.iter().map(|port| port.address.ip()).collect()
    }

    #[tokio::test]
    async fn sockets_follow_the_addresses() {
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
        let (mut ports, start) = (Ports::default(), Instant::now());
        assert_eq!(ports.missing(&[b, a]), [b, a]);
        assert!(ports.arrange(start, &[b, a], vec![port(a), port(b)]).is_empty());
        assert_eq!(shown(&ports.present), [b, a]);
        let stays = ports.addresses();
        // One is gone, another one is new and comes first.
        assert_eq!(ports.missing(&[c, a]), [c]);
        let lost = start + Duration::from_secs(1);
        assert!(ports.arrange(lost, &[c, a], vec![port(c)]).is_empty());
        assert_eq!(shown(&ports.present), [c, a]);
        assert!(ports.at(stays[0]).is_some(), "a lost address keeps its socket for a while");
        assert!(ports.at(stays[1]).is_some());
        // It comes back in time, with the socket that it had.
        assert!(ports.missing(&[b, a]).is_empty());
        assert!(ports.arrange(lost + GONE_FOR / 2, &[b, a], Vec::new()).is_empty());
        assert_eq!(ports.addresses(), stays);
        // It goes for good. The time begins when it was missed.
        let lost = lost + GONE_FOR;
        assert!(ports.arrange(lost, &[a], Vec::new()).is_empty());
        let over = ports.arrange(lost + GONE_FOR, &[a], Vec::new());
        assert_eq!(shown(&over), [b, c]);
        assert_eq!((ports.at(stays[0]).is_none(), ports.addresses()), (true, vec![stays[1]]));
        // No network at all.
        assert!(ports.arrange(lost + GONE_FOR, &[], Vec::new()).is_empty());
        assert!(ports.addresses().is_empty() && ports.towards(stays[0]).is_some());
        assert_eq!(shown(&ports.arrange(lost + GONE_FOR * 2, &[], Vec::new())), [a]);
        assert!(ports.towards(stays[0]).is_none());
    }
}
