//! The sockets a fan-out can write to.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::{TcpStream, UnixStream};

/// A non-blocking byte sink. Writes take `&self`, so that reading can go on elsewhere.
pub trait Socket: Send + Sync + 'static {
    /// Writes what fits now; `WouldBlock` when nothing does.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// The same for several slices.
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Ready when a write may succeed. Only the last task that asked is woken.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

macro_rules! tokio_socket {
    ($($kind:ty),*) => {$(
        impl Socket for $kind {
            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                <$kind>::try_write(self, bytes)
            }
            fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                <$kind>::try_write_vectored(self, slices)
            }
            fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }
        }
    )*};
}
tokio_socket!(TcpStream, UnixStream);

impl<S: Socket> Socket for Arc<S> {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        (**self).try_write(bytes)
    }
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (**self).try_write_vectored(slices)
    }
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_writable(cx)
    }
}
