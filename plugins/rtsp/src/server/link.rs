//! The socket of a connection: the client's own, or one end of a pair whose other end leads through TLS or a tunnel.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::BufMut;
use patchbay_fanout::Socket;
use tokio::net::{TcpStream, UnixStream};

/// What replies and media are written to. Writing never waits, so that one pushing task serves all viewers; what lies
/// behind a pair (TLS, base64, WebSocket) is done by the connection's own task.
#[derive(Debug)]
pub enum Link {
    /// The client's socket.
    Tcp(TcpStream),
    /// Our end of a pair.
    Relayed(UnixStream),
}

impl Link {
    /// Ready when a read may succeed.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.readable().await,
            Self::Relayed(socket) => socket.readable().await,
        }
    }

    /// Reads what there is; `WouldBlock` when there is nothing.
    pub(super) fn try_read_buf(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_read_buf(buffer),
            Self::Relayed(socket) => socket.try_read_buf(buffer),
        }
    }
}

impl Socket for Link {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_write(bytes),
            Self::Relayed(socket) => socket.try_write(bytes),
        }
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_write_vectored(slices),
            Self::Relayed(socket) => socket.try_write_vectored(slices),
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => socket.poll_writable(cx),
            Self::Relayed(socket) => socket.poll_writable(cx),
        }
    }
}
