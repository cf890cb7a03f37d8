//! Connects and reads until the other side closes.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use patchbay_net::{Dialled, SourceUrl, dial};
use patchbay_sdk::api::message::{Connection, Head};
use patchbay_sdk::transport::{Request, Session};
use patchbay_sdk::{Config, Error, Plugin, Transport};
use tokio::io::AsyncReadExt as _;

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
        let dialled = tokio::select! {
            dialled = dial(url.host(), port, None, DIAL_LIMIT) => dialled,
            () = session.closed() => return Ok(()),
        };
        let Dialled { mut stream, peer, .. } = dialled.map_err(|error| named(error.into()))?;
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
                read = stream.read_buf(&mut block) => read.map_err(|error| {
                    let error = Error::from(error);
                    named(Error { message: format!("cannot read from {shown}: {}", error.message), ..error })
                })?,
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

fn named(error: Error) -> Error {
    Error { message: format!("tcp: {}", error.message), ..error }
}
