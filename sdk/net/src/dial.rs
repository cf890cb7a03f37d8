//! Connections to servers, plain or TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use patchbay_sdk::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tls::{self, TlsError, Verify};

/// Bytes both ways, whatever carries them.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// An open connection.
pub struct Dialled {
    /// Its bytes.
    pub stream: Box<dyn Stream>,
    /// Address of this side.
    pub local: SocketAddr,
    /// Address of the server.
    pub peer: SocketAddr,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The server, or the network, does not take it.
    #[error("cannot connect to {host}:{port}: {source}")]
    Connect {
        /// Host dialled.
        host: String,
        /// Port dialled.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// Nothing answered.
    #[error("{host}:{port} did not take the connection within {limit:?}")]
    Timeout {
        /// Host dialled.
        host: String,
        /// Port dialled.
        port: u16,
        /// How long it was waited for.
        limit: Duration,
    },
    /// There is no TLS.
    #[error("cannot connect to {host}:{port}: {source}")]
    Tls {
        /// Host dialled.
        host: String,
        /// Port dialled.
        port: u16,
        /// Why.
        source: TlsError,
    },
}

/// Opens a connection, with TLS if `tls` says so. The name, the connection and the handshake take at most `limit`, twice that
/// together.
pub async fn dial(host: &str, port: u16, tls: Option<Verify>, limit: Duration) -> Result<Dialled, DialError> {
    let failed = |source| DialError::Connect { host: host.to_owned(), port, source };
    let tcp = match timeout(limit, TcpStream::connect((host, port))).await {
        Ok(tcp) => tcp.map_err(failed)?,
        Err(_) => return Err(DialError::Timeout { host: host.to_owned(), port, limit }),
    };
    tcp.set_nodelay(true).map_err(failed)?;
    let (local, peer) = (tcp.local_addr().map_err(failed)?, tcp.peer_addr().map_err(failed)?);
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(tcp),
        Some(verify) => match tls::connect(tcp, host, verify, limit).await {
            Ok(stream) => Box::new(stream),
            Err(source) => return Err(DialError::Tls { host: host.to_owned(), port, source }),
        },
    };
    Ok(Dialled { stream, local, peer })
}

impl From<DialError> for Error {
    fn from(error: DialError) -> Self {
        let message = error.to_string();
        match error {
            DialError::Connect { source, .. } => Self { message, ..source.into() },
            DialError::Timeout { .. } => Self::timeout(message),
            DialError::Tls { source: TlsError::Timeout(_), .. } => Self::timeout(message),
            DialError::Tls { .. } => Self::protocol(message),
        }
    }
}
