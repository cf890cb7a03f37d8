//! Cameras and servers dialled by URL: the socket and timers around [`crate::session::client`].

mod url;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use patchbay_net::{Dialled, Stream};
use patchbay_sdk::api::message::{Class, Connection as Shown};
use patchbay_sdk::source::{Request, Session as HostSession};
use patchbay_sdk::{Error, Source};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

pub use url::{ConfigError, Target};

use crate::plugin::Rtmp;
use crate::server::publish::Media;
use crate::session::client::{End, Event, Session};

/// Longest wait for a connection, and for the server to take or answer a request.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the first tag: cameras on batteries take their time.
const FIRST_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest silence of a stream.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of one read.
pub(crate) const READ_BYTES: usize = 64 << 10;

impl Source for Rtmp {
    async fn run(self: Arc<Self>, request: Request, session: HostSession) -> Result<(), Error> {
        let target = Target::parse(&request.url).map_err(|error| Error::unsupported(error.to_string()))?;
        if !target.unknown.is_empty() {
            tracing::warn!(url = %target.url, options = ?target.unknown, "unknown options");
        }
        let mut client = Session::new(target.config.clone(), rand::random(), rand::random());
        loop {
            let Dialled { stream, peer, .. } = dial(&target).await?;
            let mut connection = Connection {
                stream,
                session: &mut client,
                host: &session,
                media: Media::default(),
                reads_at: Instant::now(),
                deadline: Instant::now() + target.timeout.unwrap_or(ANSWER_TIMEOUT),
                silence: target.timeout,
                shown: Shown {
                    format_name: "rtmp".to_owned(),
                    protocol: if target.tls.is_some() { "rtmps" } else { "rtmp" }.to_owned(),
                    remote_addr: peer.to_string(),
                    ..Shown::default()
                },
            };
            if !connection.run().await? {
                return Ok(());
            }
            // The login goes on over another connection.
            client.restart(rand::random());
        }
    }
}

/// Opens a connection.
pub(crate) async fn dial(target: &Target) -> Result<Dialled, Error> {
    let limit = target.timeout.unwrap_or(ANSWER_TIMEOUT);
    Ok(patchbay_net::dial(target.url.host(), target.port, target.tls, limit).await?)
}

struct Connection<'a> {
    stream: Box<dyn Stream>,
    session: &'a mut Session,
    host: &'a HostSession,
    media: Media,
    /// A server that is ahead of real time waits in its socket until then.
    reads_at: Instant,
    deadline: Instant,
    silence: Option<Duration>,
    shown: Shown,
}

impl Connection<'_> {
    /// Plays until the end. `true`: the login needs another connection.
    async fn run(&mut self) -> Result<bool, Error> {
        let mut buffer = BytesMut::new();
        let host = self.host;
        self.send().await?;
        loop {
            buffer.reserve(READ_BYTES);
            let is_ahead = self.reads_at > Instant::now();
            tokio::select! {
                () = tokio::time::sleep_until(self.reads_at), if is_ahead => {}
                read = self.stream.read_buf(&mut buffer), if !is_ahead => {
                    if read? == 0 {
                        return Err(Error::eof("the server has closed the connection"));
                    }
                }
                () = tokio::time::sleep_until(self.deadline) => {
                    return Err(Error::timeout("nothing came from the server in time"));
                }
                () = host.closed() => {
                    self.session.stop();
                    let _ = self.send().await;
                    return Ok(false);
                }
            }
            let data = buffer.split();
            self.session.receive(&data).map_err(|error| Error::protocol(error.to_string()))?;
            if self.events()? {
                return Ok(true);
            }
            self.send().await?;
        }
    }

    /// What came. `true`: the login needs another connection.
    fn events(&mut self) -> Result<bool, Error> {
        while let Some(event) = self.session.poll().map_err(|error| Error::protocol(error.to_string()))? {
            match event {
                Event::Started => {
                    self.deadline = Instant::now() + self.silence.unwrap_or(FIRST_TIMEOUT);
                }
                Event::Media { kind, timestamp, body } => {
                    let ahead = self.media.push(kind, timestamp, &body, self.host, &self.shown)?;
                    self.reads_at = self.reads_at.max(Instant::now() + ahead);
                    self.deadline = self.reads_at + self.silence.unwrap_or(SILENCE_TIMEOUT);
                }
                Event::Redial => return Ok(true),
                Event::Ended(end) => {
                    self.media.end(self.host, &self.shown)?;
                    return Err(of_end(&end));
                }
            }
        }
        Ok(false)
    }

    async fn send(&mut self) -> Result<(), Error> {
        let bytes = self.session.take();
        if bytes.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        match timeout(ANSWER_TIMEOUT, write).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Error::timeout("the server takes no requests")),
        }
    }
}

pub(crate) fn of_end(end: &End) -> Error {
    let class = match end {
        End::Login(_) => Class::Auth,
        End::NotFound(_) => Class::NotFound,
        End::Eof => Class::Eof,
        _ => Class::Protocol,
    };
    Error::new(class, end.to_string())
}
