//! The way to a TURN server: datagrams, or messages one after the other in a connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use patchbay_net::tls;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;

use super::{Carrier, Server};

/// How long dialling may take, and the handshake of TLS again.
const DIAL_LIMIT: Duration = Duration::from_secs(5);

/// Largest message that is taken, in bytes.
const MAX_MESSAGE: usize = 8 << 10;

/// Messages that wait for a slow connection; more are lost, as datagrams are.
const QUEUE: usize = 1024;

/// Bytes of the head of a STUN message.
const STUN_HEAD: usize = 20;

/// Bytes of the head of ChannelData.
const CHANNEL_HEAD: usize = 4;

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A way to a server. Messages are as datagrams have them.
pub(super) enum Wire {
    Datagrams { socket: Arc<UdpSocket>, buffer: Vec<u8> },
    Connection { reader: ReadHalf<Box<dyn Stream>>, buffer: BytesMut, queue: mpsc::Sender<Bytes> },
}

/// Where a server is, and where it is reached from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// The sending side of a wire. Nothing waits: what finds no room is lost.
#[derive(Clone)]
pub(super) enum Sender {
    Datagrams(Arc<UdpSocket>),
    Connection(mpsc::Sender<Bytes>),
}

impl Sender {
    pub(super) fn send(&self, message: &[u8]) {
        match self {
            Self::Datagrams(socket) => drop(socket.try_send(message)),
            Self::Connection(queue) => drop(queue.try_send(padded(message))),
        }
    }
}

impl Wire {
    /// Dials a server.
    pub(super) async fn dial(server: &Server) -> io::Result<(Self, Ends)> {
        let found = tokio::net::lookup_host((server.host.as_str(), server.port)).await?;
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for remote in found {
            let dialled = tokio::time::timeout(3 * DIAL_LIMIT, dial(server, remote)).await;
            match dialled.map_err(|_| late()).and_then(|dialled| dialled) {
                Ok(wire) => return Ok(wire),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The sending side.
    pub(super) fn sender(&self) -> Sender {
        match self {
            Self::Datagrams { socket, .. } => Sender::Datagrams(Arc::clone(socket)),
            Self::Connection { queue, .. } => Sender::Connection(queue.clone()),
        }
    }

    /// The next message. Nothing is lost when the future is dropped.
    pub(super) async fn receive(&mut self) -> io::Result<BytesMut> {
        match self {
            Self::Datagrams { socket, buffer } => loop {
                match socket.recv(buffer).await {
                    Ok(len) => return Ok(BytesMut::from(buffer.get(..len).unwrap_or_default())),
                    // An ICMP error of an earlier datagram.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        tokio::task::yield_now().await;
                    }
                    Err(error) => return Err(error),
                }
            },
            Self::Connection { reader, buffer, .. } => loop {
                if let Some(message) = take_message(buffer).map_err(io::Error::other)? {
                    return Ok(message);
                }
                if reader.read_buf(buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            },
        }
    }
}

async fn dial(server: &Server, remote: SocketAddr) -> io::Result<(Wire, Ends)> {
    if server.carrier == Carrier::Udp {
        let any: IpAddr =
            if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(remote).await?;
        let ends = Ends { local: socket.local_addr()?, remote };
        return Ok((Wire::Datagrams { socket: Arc::new(socket), buffer: vec![0; MAX_MESSAGE] }, ends));
    }
    let stream = TcpStream::connect(remote).await?;
    let _ = stream.set_nodelay(true);
    let ends = Ends { local: stream.local_addr()?, remote };
    let stream: Box<dyn Stream> = if server.carrier == Carrier::Tls {
        // As everywhere: who is named by an address has no certificate for it.
        let verify = if server.host.parse::<IpAddr>().is_ok() { tls::Verify::No } else { tls::Verify::Yes };
        Box::new(tls::connect(stream, &server.host, verify, DIAL_LIMIT).await.map_err(io::Error::other)?)
    } else {
        Box::new(stream)
    };
    let (reader, mut writer) = tokio::io::split(stream);
    let (queue, mut waiting) = mpsc::channel::<Bytes>(QUEUE);
    tokio::spawn(async move {
        while let Some(message) = waiting.recv().await {
            let mut batch = BytesMut::from(message);
            while batch.len() < 64 << 10
                && let Ok(message) = waiting.try_recv()
            {
                batch.extend_from_slice(&message);
            }
            if writer.write_all(&batch).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
        let _ = writer.shutdown().await;
    });
    Ok((Wire::Connection { reader, buffer: BytesMut::with_capacity(MAX_MESSAGE), queue }, ends))
}

/// ChannelData fills up words in a connection (RFC 8656 section 12.5); STUN messages do so by themselves.
fn padded(message: &[u8]) -> Bytes {
    let mut bytes = message.to_vec();
    bytes.resize(message.len().next_multiple_of(4), 0);
    bytes.into()
}

/// What comes over a connection is neither STUN nor ChannelData of a sensible length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {len} bytes that begins with {first:#04x}")]
pub struct BadMessage {
    /// Its first byte.
    pub first: u8,
    /// Its length.
    pub len: usize,
}

/// Takes one message out of received bytes, without its padding; `None` when it is not complete.
pub fn take_message(buffer: &mut BytesMut) -> Result<Option<BytesMut>, BadMessage> {
    let Some(&[first, _, l0, l1]) = buffer.first_chunk::<4>() else { return Ok(None) };
    let body = usize::from(u16::from_be_bytes([l0, l1]));
    let len = match first >> 6 {
        0 => STUN_HEAD + body,
        1 => CHANNEL_HEAD + body,
        _ => return Err(BadMessage { first, len: body }),
    };
    if len > MAX_MESSAGE {
        return Err(BadMessage { first, len });
    }
    let whole = len.next_multiple_of(4);
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return Ok(None);
    }
    let message = buffer.split_to(len);
    buffer.advance(whole - len);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Messages come out as they went in, however the bytes are cut.
        #[test]
        fn messages_in_any_pieces(
            bodies in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..20),
            cut in 1_usize..50,
        ) {
            let messages: Vec<Vec<u8>> = bodies.iter().map(|(is_stun, body)| {
                let body = if *is_stun { &body[..body.len() / 4 * 4] } else { &body[..] };
                let mut message = if *is_stun { vec![0, 1] } else { vec![0x40, 0x07] };
                message.extend_from_slice(&(body.len() as u16).to_be_bytes());
                if *is_stun {
                    message.resize(STUN_HEAD, 0xaa);
                }
                message.extend_from_slice(body);
                message
            }).collect();
            let wire: Vec<u8> = messages.iter().flat_map(|message| padded(message)).collect();
            let (mut buffer, mut out) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(message) = take_message(&mut buffer).unwrap() {
                    out.push(message.to_vec());
                }
            }
            prop_assert_eq!(out, messages);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            crate::fuzz::turn_messages(&data);
        }
    }

    #[test]
    fn what_is_no_turn_is_refused() {
        // Half of it.
        assert_eq!(take_message(&mut BytesMut::from(&[0x40, 0, 0, 9, 1][..])), Ok(None));
        assert!(take_message(&mut BytesMut::from(&b"HTTP/1.1 200 OK"[..])).is_err());
        assert_eq!(
            take_message(&mut BytesMut::from(&[0x80, 0, 0, 9][..])),
            Err(BadMessage { first: 0x80, len: 9 })
        );
        let long = take_message(&mut BytesMut::from(&[0x40, 0, 0xff, 0xff][..]));
        assert_eq!(long, Err(BadMessage { first: 0x40, len: 0xffff + 4 }));
    }
}
