//! ICE over TCP: connections that carry packets behind a length of two bytes (RFC 4571, RFC 6544).

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use patchbay_sdk::server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::Hub;
use crate::config::Transport;
use crate::peer::Peer;
use crate::stun;

/// Most connections at a time.
const MAX_CONNECTIONS: usize = 2048;

/// How long a connection has for its first connectivity check.
const FIRST_FRAME_LIMIT: Duration = Duration::from_secs(5);

/// Largest packet that is taken from a connection, in bytes.
const MAX_FRAME: usize = 8 << 10;

/// Bytes that wait for a slow connection; packets past that are lost, as they are over UDP.
const MAX_WAITING: usize = 4 << 20;

/// A connection that takes nothing for so long is over.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// The way out of one connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outlet {
    sender: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<AtomicUsize>,
}

impl Outlet {
    /// An outlet, and where its packets come out.
    fn new() -> (Self, mpsc::UnboundedReceiver<Bytes>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, waiting: Arc::default() }, receiver)
    }

    /// Queues one packet of `len` bytes that `write` appends; false when too much waits already, or `write` says so.
    pub fn send(&self, len: usize, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let Ok(field) = u16::try_from(len) else { return false };
        if self.waiting.load(Relaxed) + len > MAX_WAITING {
            return false;
        }
        let mut frame = Vec::with_capacity(len + 2);
        frame.extend_from_slice(&field.to_be_bytes());
        if !write(&mut frame) {
            return false;
        }
        self.waiting.fetch_add(frame.len(), Relaxed);
        self.sender.send(frame.into()).is_ok()
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }
}

/// Takes one frame out of received bytes: the packet, `None` when it is not complete, an error when it is too long.
pub fn take_frame(buffer: &mut BytesMut) -> Result<Option<BytesMut>, TooLong> {
    let Some((head, _)) = buffer.split_first_chunk::<2>() else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes(*head));
    if len > MAX_FRAME {
        return Err(TooLong { len });
    }
    if buffer.len() < 2 + len {
        buffer.reserve(2 + len - buffer.len());
        return Ok(None);
    }
    buffer.advance(2);
    Ok(Some(buffer.split_to(len)))
}

/// A frame is longer than any packet of these protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame of {len} bytes")]
pub struct TooLong {
    /// Its length.
    pub len: usize,
}

/// Accepts for ever.
pub(super) async fn accept(hub: Arc<Hub>, listener: TcpListener) {
    let connection = |stream, remote| serve(Arc::clone(&hub), stream, remote);
    server::accept(vec![listener], MAX_CONNECTIONS, connection, pending(), || ()).await;
}

async fn serve(hub: Arc<Hub>, mut stream: TcpStream, remote: SocketAddr) {
    let _ = stream.set_nodelay(true);
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let Ok(bound) = stream.local_addr() else { return };
    let local = hub.tcp_address(bound);
    let mut buffer = BytesMut::with_capacity(4096);
    let first = tokio::time::timeout(FIRST_FRAME_LIMIT, next_frame(&mut stream, &mut buffer)).await;
    let Ok(Some(first)) = first else { return };
    let Some(peer) = stun::Request::parse(&first).and_then(|request| hub.claimed(&request)) else {
        tracing::debug!(%remote, "tcp: no session has this connection");
        return;
    };
    let (outlet, packets) = Outlet::new();
    let waiting = Arc::clone(&outlet.waiting);
    peer.attach(remote, outlet);
    let gone = peer.gone();
    peer.receive(Instant::now(), local, remote, Transport::Tcp, first);
    let weak = Arc::downgrade(&peer);
    drop(peer);
    let (mut reader, mut writer) = stream.into_split();
    let reading = async {
        loop {
            let Some(frame) = next_frame(&mut reader, &mut buffer).await else { return };
            let Some(peer) = weak.upgrade() else { return };
            peer.receive(Instant::now(), local, remote, Transport::Tcp, frame);
        }
    };
    tokio::select! {
        () = reading => {}
        () = write(&mut writer, packets, &waiting) => {}
        () = gone.cancelled() => {}
    }
    if let Some(peer) = weak.upgrade() {
        Peer::detach(&peer, remote);
    }
}

async fn next_frame(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> Option<BytesMut> {
    loop {
        if let Some(frame) = take_frame(buffer).ok()? {
            return Some(frame);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn write(
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    mut packets: mpsc::UnboundedReceiver<Bytes>,
    waiting: &AtomicUsize,
) {
    let mut batch = BytesMut::new();
    while let Some(packet) = packets.recv().await {
        batch.extend_from_slice(&packet);
        while batch.len() < 64 << 10
            && let Ok(packet) = packets.try_recv()
        {
            batch.extend_from_slice(&packet);
        }
        let len = batch.len();
        match tokio::time::timeout(WRITE_LIMIT, writer.write_all(&batch)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
        waiting.fetch_sub(len, Relaxed);
        batch.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Packets come out as they went in, however the bytes are cut.
        #[test]
        fn frames_in_any_pieces(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            cut in 1_usize..50,
        ) {
            let mut wire = Vec::new();
            for packet in &packets {
                wire.extend_from_slice(&(packet.len() as u16).to_be_bytes());
                wire.extend_from_slice(packet);
            }
            let (mut buffer, mut out) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = take_frame(&mut buffer).unwrap() {
                    out.push(frame.to_vec());
                }
            }
            prop_assert_eq!(out, packets);
        }

        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            crate::fuzz::tcp_frames(&data);
        }
    }

    #[test]
    fn long_frames_are_refused() {
        assert_eq!(take_frame(&mut BytesMut::from(&[0xff, 0xff][..])), Err(TooLong { len: 0xffff }));
    }
}
