//! Sockets of one media over UDP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Attempts to find an even port whose neighbour is free.
const TRIES: usize = 32;
/// Packets that wait for the connection's task; more are dropped, as the kernel would.
const QUEUE: usize = 512;
/// Receive buffer, so that a burst of a key unit is not lost.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Reports that are read before a packet that waits.
const REPORTS_MAX: usize = 16;
/// Largest datagram.
const DATAGRAM_MAX: usize = 65_536;

/// RTP and RTCP socket of one media.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) rtp: Arc<UdpSocket>,
    pub(super) rtcp: Arc<UdpSocket>,
    /// Own ports.
    pub(super) ports: (u16, u16),
    /// The client's addresses. Only the host that holds the RTSP connection: a `destination` of the client's choice would
    /// let it send our packets to others.
    pub(super) to: (SocketAddr, SocketAddr),
}

impl Sockets {
    /// An even port and the next one on the address that the client knows.
    pub(super) fn bind(local: IpAddr, remote: IpAddr, client: (u16, u16)) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..TRIES {
            let first = std::net::UdpSocket::bind((local, 0))?;
            let port = first.local_addr()?.port();
            let neighbour = if port.is_multiple_of(2) { port.checked_add(1) } else { port.checked_sub(1) };
            let Some(neighbour) = neighbour else { continue };
            match std::net::UdpSocket::bind((local, neighbour)) {
                Ok(second) => {
                    let (rtp, rtcp) = if port < neighbour { (first, second) } else { (second, first) };
                    let even = port.min(neighbour);
                    return Ok(Self {
                        rtp: socket(rtp)?,
                        rtcp: socket(rtcp)?,
                        ports: (even, even + 1),
                        to: (SocketAddr::new(remote, client.0), SocketAddr::new(remote, client.1)),
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn socket(socket: std::net::UdpSocket) -> io::Result<Arc<UdpSocket>> {
    socket.set_nonblocking(true)?;
    let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
    let _ = SockRef::from(&socket).set_send_buffer_size(RECEIVE_BUFFER);
    Ok(Arc::new(UdpSocket::from_std(socket)?))
}

/// A datagram of the client.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) track: usize,
    pub(super) is_rtcp: bool,
    pub(super) data: Bytes,
}

/// Datagrams of all sockets of a connection.
#[derive(Debug)]
pub(super) struct Received {
    sender: mpsc::Sender<Datagram>,
    receiver: mpsc::Receiver<Datagram>,
    tasks: JoinSet<()>,
}

impl Received {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self { sender, receiver, tasks: JoinSet::new() }
    }

    /// Reads the sockets of a media; only datagrams of the client's address count. Reports go before the packets that wait
    /// beside them: those that a publisher sends before its first packets say where these lie.
    pub(super) fn listen(&mut self, track: usize, sockets: &Sockets) {
        let (rtp, rtcp) = (Arc::clone(&sockets.rtp), Arc::clone(&sockets.rtcp));
        let (sender, from_ip) = (self.sender.clone(), sockets.to.0.ip().to_canonical());
        self.tasks.spawn(async move {
            let mut buffer = BytesMut::new();
            let mut reports = BytesMut::new();
            let hand_on = |is_rtcp: bool, buffer: &mut BytesMut, from: SocketAddr| {
                if from.ip().to_canonical() == from_ip {
                    let _ = sender.try_send(Datagram { track, is_rtcp, data: buffer.split().freeze() });
                }
                buffer.clear();
            };
            // An ICMP answer to what was sent: the client's port is closed, for now.
            let is_lasting = |error: &io::Error| error.kind() != io::ErrorKind::ConnectionRefused;
            let (mut rtp_is_open, mut rtcp_is_open) = (true, true);
            while rtp_is_open || rtcp_is_open {
                buffer.reserve(DATAGRAM_MAX);
                reports.reserve(DATAGRAM_MAX);
                tokio::select! {
                    biased;
                    read = rtcp.recv_buf_from(&mut reports), if rtcp_is_open => match read {
                        Ok((_, from)) => hand_on(true, &mut reports, from),
                        Err(error) => rtcp_is_open = !is_lasting(&error),
                    },
                    read = rtp.recv_buf_from(&mut buffer), if rtp_is_open => match read {
                        Ok((_, from)) => {
                            // What was sent before this packet is there now, if it was not a moment ago.
                            for _ in 0..REPORTS_MAX {
                                let Ok((_, from)) = rtcp.try_recv_buf_from(&mut reports) else { break };
                                hand_on(true, &mut reports, from);
                                reports.reserve(DATAGRAM_MAX);
                            }
                            hand_on(false, &mut buffer, from);
                        }
                        Err(error) => rtp_is_open = !is_lasting(&error),
                    },
                }
            }
        });
    }

    pub(super) async fn next(&mut self) -> Datagram {
        match self.receiver.recv().await {
            Some(datagram) => datagram,
            // Cannot be: a sender is held here.
            None => std::future::pending().await,
        }
    }
}
