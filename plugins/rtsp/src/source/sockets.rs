//! Connections and UDP ports of a source.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use patchbay_net::SourceUrl;
use patchbay_sdk::Error;
use rand::Rng as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use crate::client::{self, Target, Verify};
use crate::config::{SourceConfig, Via};
use crate::tunnel::http::{self, OpenError};
use crate::tunnel::{Stream, websocket};

/// Attempts to find a free pair of ports (C64).
const MAX_BIND_ATTEMPTS: u32 = 10;
/// Receive buffer of the RTP port, in bytes (C64).
const RECEIVE_BUFFER: usize = 1 << 20;
/// Largest datagram that is read, in bytes.
const MAX_DATAGRAM: usize = 65_535;

/// Datagrams of strangers and errors of one port in a row before the other ports' turn.
const MAX_PASSED_OVER: u32 = 64;

/// An open connection.
pub(super) struct Dialled {
    pub(super) stream: Box<dyn Stream>,
    pub(super) local_ip: IpAddr,
    pub(super) peer_ip: IpAddr,
}

/// Opens a connection within `timeout` (C4), by what carries it.
pub(super) async fn dial(
    target: &Target,
    config: &SourceConfig,
    user_agent: &str,
    timeout: Duration,
) -> Result<Dialled, Error> {
    let (host, port) = match &config.via {
        Via::Direct | Via::Http => (target.host.as_str(), target.port),
        Via::WebSocket(url) => (url.host(), url.port().unwrap_or(if is_secure(url) { 443 } else { 80 })),
    };
    let verify = match &config.via {
        Via::Direct | Via::Http => target.tls,
        Via::WebSocket(url) => is_secure(url).then(|| target.tls.unwrap_or(Verify::of(url))),
    };
    let connect = || patchbay_net::dial(host, port, verify, timeout);
    let opening = async {
        let patchbay_net::Dialled { stream: first, local, peer } = connect().await?;
        let stream: Box<dyn Stream> = match &config.via {
            Via::Direct => first,
            Via::Http => {
                // The first connection is used for the GET.
                let first = parking_lot::Mutex::new(Some(first));
                let cookie = format!("{:016x}", rand::random::<u64>());
                let credentials = config.url.credentials().cloned();
                let dial = || async {
                    let kept = first.lock().take();
                    match kept {
                        Some(first) => Ok(first),
                        None => Ok(connect().await?.stream),
                    }
                };
                http::open::<_, _, _, DialError>(&config.url, credentials, user_agent, &cookie, dial).await?
            }
            Via::WebSocket(url) => {
                let address = url.request_url(url.scheme());
                let connected = websocket::connect(first, &address, url.credentials()).await;
                Box::new(connected.map_err(|error| DialError::WebSocket(error.to_string()))?)
            }
        };
        Ok(Dialled { stream, local_ip: local.ip(), peer_ip: peer.ip().to_canonical() })
    };
    match tokio::time::timeout(timeout, opening).await {
        Ok(result) => result.map_err(|error| match error {
            DialError::Tcp(error) => error.into(),
            error => {
                let error = Error::from(error);
                Error { message: format!("cannot connect to {host}:{port}: {}", error.message), ..error }
            }
        }),
        Err(_) => {
            Err(Error::timeout(format!("{host}:{port} did not take the connection within {timeout:?}")))
        }
    }
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(transparent)]
    Tcp(#[from] patchbay_net::DialError),
    #[error("{0}")]
    Tunnel(#[from] OpenError),
    #[error("WebSocket: {0}")]
    WebSocket(String),
}

impl From<DialError> for Error {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Tcp(error) => error.into(),
            DialError::Tunnel(OpenError::Io(error)) => error.into(),
            DialError::Tunnel(OpenError::Auth(rejected)) => client::Error::from(rejected).into(),
            error => Self::protocol(error.to_string()),
        }
    }
}

fn is_secure(url: &SourceUrl) -> bool {
    url.scheme() == "wss"
}

/// A received datagram.
pub(super) struct Datagram {
    pub(super) index: usize,
    pub(super) to_rtcp: bool,
    pub(super) from_port: u16,
    pub(super) data: Bytes,
}

/// The UDP ports of a session: per media one for RTP and one for RTCP.
#[derive(Default)]
pub(super) struct Udp {
    pairs: BTreeMap<usize, [UdpSocket; 2]>,
    /// Groups that were joined.
    groups: BTreeMap<usize, IpAddr>,
    buffer: Vec<u8>,
    /// A packet that waits while the reports before it are read.
    held: Option<Datagram>,
}

impl Udp {
    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.pairs.clear();
        self.groups.clear();
        self.held = None;
    }

    /// The group of a media.
    pub(super) fn group(&self, index: usize) -> Option<IpAddr> {
        self.groups.get(&index).copied()
    }

    /// Joins a group from the interface that has this address (C68).
    pub(super) fn join(
        &mut self,
        index: usize,
        group: IpAddr,
        (rtp, rtcp): (u16, u16),
        interface: Option<IpAddr>,
    ) -> std::io::Result<()> {
        let join = |port: u16| {
            let socket =
                Socket::new(Domain::for_address((group, port).into()), Type::DGRAM, Some(Protocol::UDP))?;
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
            socket.set_nonblocking(true)?;
            // Others on this machine may have joined it.
            socket.set_reuse_address(true)?;
            // The group's own address: what comes for other groups on this port is not for this socket.
            socket.bind(&SocketAddr::from((group, port)).into())?;
            match (group, interface.map(|ip| ip.to_canonical())) {
                (IpAddr::V4(group), Some(IpAddr::V4(interface))) => {
                    socket.join_multicast_v4(&group, &interface)?;
                    socket.set_multicast_if_v4(&interface)?;
                }
                (IpAddr::V4(group), _) => socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?,
                (IpAddr::V6(group), _) => socket.join_multicast_v6(&group, 0)?,
            }
            UdpSocket::from_std(socket.into())
        };
        let pair = [join(rtp)?, join(rtcp)?];
        self.pairs.insert(index, pair);
        self.groups.insert(index, group);
        Ok(())
    }

    /// Binds a random even port and the next one, of the family of `local`.
    pub(super) fn bind(&mut self, index: usize, local: Option<IpAddr>) -> Result<u16, Error> {
        let any = match local {
            Some(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let mut failure = None;
        for _ in 0..MAX_BIND_ATTEMPTS {
            let port = rand::rng().random_range(5_000..32_500_u16) * 2;
            match bind_pair(any, port) {
                Ok(pair) => {
                    self.pairs.insert(index, pair);
                    return Ok(port);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.map_or_else(|| Error::protocol("no UDP ports"), Error::from))
    }

    /// Sends a datagram; what cannot be sent is lost, as on the way (C65).
    pub(super) fn send(&self, index: usize, from_rtcp: bool, to: SocketAddr, data: &[u8]) {
        let Some([rtp, rtcp]) = self.pairs.get(&index) else { return };
        let _ = if from_rtcp { rtcp } else { rtp }.try_send_to(data, to);
    }

    /// The next datagram of any port that comes from `peer`, or to a group from anyone. Errors, such as the peer's port being
    /// closed, are passed over. Reports go before the packets that wait beside them: those that a camera sends before its
    /// first packets say where these lie.
    pub(super) async fn receive(&mut self, peer: Option<IpAddr>) -> Datagram {
        self.buffer.resize(MAX_DATAGRAM, 0);
        poll_fn(|context| {
            if self.held.is_none() {
                self.held = match self.poll_ports(context, peer, false) {
                    Poll::Ready(packet) => packet,
                    // Some port has more.
                    Poll::Pending => None,
                };
            }
            // What was sent before this packet is there now, if it was not a moment ago.
            match self.poll_ports(context, peer, true) {
                Poll::Ready(Some(report)) => Poll::Ready(report),
                _ => self.held.take().map_or(Poll::Pending, Poll::Ready),
            }
        })
        .await
    }

    /// The next datagram of the RTP or RTCP ports; `None`: they are empty. Pending, with a wake: not looked at to the end.
    fn poll_ports(
        &mut self,
        context: &mut Context<'_>,
        peer: Option<IpAddr>,
        to_rtcp: bool,
    ) -> Poll<Option<Datagram>> {
        let mut is_empty = true;
        for (index, [rtp, rtcp]) in &self.pairs {
            let (socket, is_group) = (if to_rtcp { rtcp } else { rtp }, self.groups.contains_key(index));
            let mut passed_over = 0;
            loop {
                let mut read = ReadBuf::new(&mut self.buffer);
                match socket.poll_recv_from(context, &mut read) {
                    Poll::Ready(Ok(from)) if is_group || peer == Some(from.ip().to_canonical()) => {
                        let data = Bytes::copy_from_slice(read.filled());
                        return Poll::Ready(Some(Datagram {
                            index: *index,
                            to_rtcp,
                            from_port: from.port(),
                            data,
                        }));
                    }
                    Poll::Ready(_) if passed_over < MAX_PASSED_OVER => passed_over += 1,
                    Poll::Ready(_) => {
                        is_empty = false;
                        break;
                    }
                    Poll::Pending => break,
                }
            }
        }
        if is_empty {
            return Poll::Ready(None);
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn bind_pair(ip: IpAddr, port: u16) -> std::io::Result<[UdpSocket; 2]> {
    let domain = if ip.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let bind = |port: u16| {
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        // The system may allow less
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((ip, port)).into())?;
        UdpSocket::from_std(socket.into())
    };
    Ok([bind(port)?, bind(port + 1)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reports_go_before_the_packets_that_wait_beside_them() {
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        let mut udp = Udp::default();
        let ports = [udp.bind(0, Some(local)).unwrap(), udp.bind(1, Some(local)).unwrap()];
        let camera = std::net::UdpSocket::bind((local, 0)).unwrap();
        let send = |data: &[u8], port: u16| camera.send_to(data, (local, port)).unwrap();
        send(b"picture", ports[0]);
        send(b"sound", ports[1]);
        send(b"picture 2", ports[0]);
        send(b"report", ports[1] + 1);
        let mut order = Vec::new();
        for _ in 0..4 {
            let datagram = udp.receive(Some(local)).await;
            order.push((datagram.index, datagram.to_rtcp, datagram.data));
        }
        assert_eq!(order[0], (1, true, Bytes::from_static(b"report")));
        let of = |index: usize| -> Vec<&[u8]> {
            order[1..].iter().filter(|(of, ..)| *of == index).map(|(.., data)| &data[..]).collect()
        };
        assert_eq!((of(0), of(1)), (vec![&b"picture"[..], b"picture 2"], vec![&b"sound"[..]]));
    }
}
