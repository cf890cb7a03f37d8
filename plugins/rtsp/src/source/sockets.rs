//! Connections and UDP ports of a source.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use patchbay_net::tls;
use patchbay_sdk::Error;
use rand::Rng as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};

use crate::client::{Target, Verify};

/// Attempts to find a free pair of ports (C64).
const MAX_BIND_ATTEMPTS: u32 = 10;
/// Receive buffer of the RTP port, in bytes (C64).
const RECEIVE_BUFFER: usize = 1 << 20;
/// Largest datagram that is read, in bytes.
const MAX_DATAGRAM: usize = 65_535;

/// Datagrams of strangers and errors of one port in a row before the other ports' turn.
const MAX_PASSED_OVER: u32 = 64;

/// Bytes of a camera, plain or TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection.
pub(super) struct Dialled {
    pub(super) stream: Box<dyn Stream>,
    pub(super) local_ip: IpAddr,
    pub(super) peer_ip: IpAddr,
}

/// Opens a connection within `timeout` (C4).
pub(super) async fn dial(target: &Target, timeout: Duration) -> Result<Dialled, Error> {
    let opening = async {
        let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
        tcp.set_nodelay(true)?;
        let (local_ip, peer_ip) = (tcp.local_addr()?.ip(), tcp.peer_addr()?.ip().to_canonical());
        let stream: Box<dyn Stream> = match target.tls {
            None => Box::new(tcp),
            Some(verify) => {
                let verify = match verify {
                    Verify::Yes => tls::Verify::Yes,
                    Verify::No => tls::Verify::No,
                };
                let connected = tls::connect(tcp, &target.host, verify, timeout).await;
                Box::new(connected.map_err(|error| Error::protocol(error.to_string()))?)
            }
        };
        Ok(Dialled { stream, local_ip, peer_ip })
    };
    match tokio::time::timeout(timeout, opening).await {
        Ok(result) => result.map_err(|error: Error| Error {
            message: format!("cannot connect to {}:{}: {}", target.host, target.port, error.message),
            ..error
        }),
        Err(_) => Err(Error::timeout(format!(
            "{}:{} did not take the connection within {timeout:?}",
            target.host, target.port
        ))),
    }
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
    buffer: Vec<u8>,
}

impl Udp {
    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.pairs.clear();
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

    /// The next datagram of any port that comes from `peer`. Errors, such as the peer's port being closed, are passed over.
    pub(super) async fn receive(&mut self, peer: Option<IpAddr>) -> Datagram {
        self.buffer.resize(MAX_DATAGRAM, 0);
        let (pairs, buffer) = (&self.pairs, &mut self.buffer);
        poll_fn(|context| {
            let mut is_pending = true;
            for (index, pair) in pairs {
                for (socket, to_rtcp) in pair.iter().zip([false, true]) {
                    let mut is_empty = false;
                    for _ in 0..MAX_PASSED_OVER {
                        let mut read = ReadBuf::new(buffer);
                        match socket.poll_recv_from(context, &mut read) {
                            Poll::Ready(Ok(from)) if peer == Some(from.ip().to_canonical()) => {
                                let data = Bytes::copy_from_slice(read.filled());
                                let from_port = from.port();
                                return Poll::Ready(Datagram { index: *index, to_rtcp, from_port, data });
                            }
                            Poll::Ready(_) => {}
                            Poll::Pending => {
                                is_empty = true;
                                break;
                            }
                        }
                    }
                    is_pending &= is_empty;
                }
            }
            if !is_pending {
                context.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
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
