//! Connects and reads until the other side closes.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use patchbay_net::url::SourceUrl;
use patchbay_sdk::api::message::{Connection, Head};
use patchbay_sdk::transport::{Request, Session};
use patchbay_sdk::{Config, Error, Plugin, Transport};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Limit of the connection.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// Bytes per read.
const BLOCK: usize = 64 << 10;

/// The plugin.
pub struct Tcp;

impl Plugin for Tcp {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Transport for Tcp {
    async fn fetch(self: Arc<Self>, request: Request, mut session: Session) -> Result<(), Error> {
        let url =
            SourceUrl::parse(&request.url).map_err(|error| Error::unsupported(format!("tcp: {error}")))?;
        let shown = url.authority();
        let Some(port) = url.port() else {
            return Err(Error::unsupported(format!("tcp: {shown} has no port: write tcp://host:port")));
        };
        let mut stream = tokio::select! {
            dialled = timeout(DIAL_LIMIT, TcpStream::connect((url.host(), port))) => match dialled {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return Err(failed("connect to", &shown, error)),
                Err(_) => return Err(Error::timeout(format!("tcp: {shown} does not answer within 5 s"))),
            },
            () = session.closed() => return Ok(()),
        };
        let peer = stream.peer_addr().map_err(|error| failed("connect to", &shown, error))?;
        session.head(&Head {
            live: true,
            connection: Connection {
                protocol: "tcp".to_owned(),
                remote_addr: peer.to_string(),
                ..Connection::default()
            },
            ..Head::default()
        })?;
        loop {
            let mut block = BytesMut::with_capacity(BLOCK);
            let read = tokio::select! {
                read = stream.read_buf(&mut block) => read.map_err(|error| failed("read from", &shown, error))?,
                () = session.closed() => return Ok(()),
            };
            if read == 0 {
                session.finished().await?;
                return Ok(());
            }
            session.write(block.freeze()).await?;
        }
    }
}

fn failed(what: &str, shown: &str, error: std::io::Error) -> Error {
    let mut ended: Error = error.into();
    ended.message = format!("tcp: cannot {what} {shown}: {}", ended.message);
    ended
}
