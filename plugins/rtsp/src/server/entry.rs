//! The first bytes of a connection say what it is: RTSP, TLS, or HTTP that carries RTSP (S25 to S27).

mod relay;
mod tunnels;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use patchbay_net::tls::{self, IdentityError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::connection::{self, End, Way};
use super::link::Link;
use super::session::IDLE_TIMEOUT;
use super::streams::Streams;
use super::{Config, Server};
use crate::tunnel::http::{OPENED, RequestHead};
use crate::tunnel::{Stream, websocket};
use tunnels::{Post, Tunnels};

/// Longest handshake, and longest head of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// First byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long what was written last may take behind a pair.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What connections are told apart by.
#[derive(Default)]
pub(super) struct Entry {
    tls: Option<TlsAcceptor>,
    tunnels: Tunnels,
}

impl Entry {
    /// Reads the certificate of the settings, if they have one.
    pub(super) fn new(config: &Config) -> Result<Self, IdentityError> {
        let is_set = !config.tls_cert.is_empty() && !config.tls_key.is_empty();
        let tls = if is_set { Some(tls::acceptor(&config.tls_cert, &config.tls_key)?) } else { None };
        Ok(Self { tls, tunnels: Tunnels::default() })
    }

    /// Whether there is a certificate.
    pub(super) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rtsp,
    Tls,
    Http,
}

/// What a connection begins with; `None` when that is not clear yet. `GET ` is HTTP, `GET_PARAMETER ` is RTSP.
fn kind(first: &[u8]) -> Option<Kind> {
    if first.first() == Some(&TLS_HANDSHAKE) {
        return Some(Kind::Tls);
    }
    let starts = |word: &[u8]| first.iter().zip(word).all(|(a, b)| a == b);
    for word in [&b"GET "[..], b"POST "] {
        if starts(word) {
            return if first.len() >= word.len() { Some(Kind::Http) } else { None };
        }
    }
    Some(Kind::Rtsp)
}

/// Serves a connection of any kind to its end.
pub(super) async fn serve<S: Streams>(
    server: Arc<Server<S>>,
    mut stream: TcpStream,
    ends: Ends,
) -> io::Result<End> {
    let (kind, first) = match begin(&mut stream).await? {
        Ok(begun) => begun,
        Err(end) => return Ok(end),
    };
    match kind {
        Kind::Rtsp => connection::serve(server, Link::Tcp(stream), ends, Way::Plain, first).await,
        Kind::Http => http(server, stream, first, ends).await,
        Kind::Tls => {
            let Some(acceptor) = server.entry.tls.clone() else { return Ok(End::NoTls) };
            let (read, write) = stream.into_split();
            let whole = tokio::io::join(io::Cursor::new(first.freeze()).chain(read), write);
            let accepted = timeout(HANDSHAKE, acceptor.accept(whole)).await;
            let mut stream = accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let (kind, first) = match begin(&mut stream).await? {
                Ok(begun) => begun,
                Err(end) => return Ok(end),
            };
            match kind {
                Kind::Http => http(server, stream, first, ends).await,
                Kind::Rtsp | Kind::Tls => {
                    let (link, inner) = pair()?;
                    let serve = connection::serve(server, link, ends, Way::Tls, first);
                    both(serve, relay::streams(stream, inner)).await
                }
            }
        }
    }
}

/// Serves a connection whose other end the host has: TLS was taken off.
pub(super) async fn serve_relayed<S: Streams>(
    server: Arc<Server<S>>,
    mut stream: UnixStream,
    ends: Ends,
) -> io::Result<End> {
    let (kind, first) = match begin(&mut stream).await? {
        Ok(begun) => begun,
        Err(end) => return Ok(end),
    };
    match kind {
        Kind::Rtsp => connection::serve(server, Link::Relayed(stream), ends, Way::Tls, first).await,
        Kind::Http => http(server, stream, first, ends).await,
        Kind::Tls => Ok(End::NoTls),
    }
}

/// Reads until it is clear what a connection begins with, or how it has ended before.
async fn begin(stream: &mut impl Stream) -> io::Result<Result<(Kind, BytesMut), End>> {
    let mut first = BytesMut::new();
    let reading = async {
        while stream.read_buf(&mut first).await? > 0 {
            if let Some(kind) = kind(&first) {
                return Ok(Some(kind));
            }
        }
        io::Result::Ok(None)
    };
    match timeout(IDLE_TIMEOUT, reading).await {
        Ok(kind) => Ok(kind?.map(|kind| (kind, first)).ok_or(End::Eof)),
        Err(_) => Ok(Err(End::Silent)),
    }
}

/// HTTP: one of the two requests of a tunnel, or a WebSocket.
async fn http<S: Streams>(
    server: Arc<Server<S>>,
    mut stream: impl Stream + 'static,
    mut first: BytesMut,
    ends: Ends,
) -> io::Result<End> {
    let reading = async {
        loop {
            // The answer to a WebSocket's request is made from the request itself.
            let before = first.clone();
            match RequestHead::take(&mut first) {
                Ok(Some(head)) => return Ok(Some((head, before))),
                Ok(None) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
            if stream.read_buf(&mut first).await? == 0 {
                return Ok(None);
            }
        }
    };
    let Ok(head) = timeout(HANDSHAKE, reading).await else { return Ok(End::Silent) };
    let Some((head, before)) = head? else { return Ok(End::Eof) };
    let cookie = head.cookie().map(str::to_owned);
    match (head.method.as_str(), cookie) {
        ("GET", None) if head.is_upgrade() && head.is_foreign() => refuse(stream, "403 Forbidden").await,
        ("GET", None) if head.is_upgrade() => {
            let (read, write) = tokio::io::split(stream);
            let whole = tokio::io::join(io::Cursor::new(before.freeze()).chain(read), write);
            let socket = timeout(HANDSHAKE, websocket::accept(whole)).await;
            let socket = socket.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let (link, inner) = pair()?;
            let serve = connection::serve(server, link, ends, Way::WebSocket, BytesMut::new());
            both(serve, relay::streams(socket, inner)).await
        }
        ("GET", Some(cookie)) => {
            let Some(posts) = server.entry.tunnels.open(&cookie, ends.remote.ip()) else {
                return refuse(stream, "409 Conflict").await;
            };
            stream.write_all(OPENED.as_bytes()).await?;
            stream.flush().await?;
            let (link, inner) = pair()?;
            let serve = connection::serve(Arc::clone(&server), link, ends, Way::Http, BytesMut::new());
            both(serve, relay::tunnel(stream, posts, inner)).await
        }
        ("POST", Some(cookie)) => {
            let post = Post { stream: Box::new(stream), first };
            match server.entry.tunnels.post(&cookie, ends.remote.ip(), post).await {
                Ok(()) => Ok(End::Joined),
                Err(post) => refuse(post.stream, "404 Not Found").await,
            }
        }
        _ => refuse(stream, "404 Not Found").await,
    }
}

async fn refuse(mut stream: impl Stream, status: &str) -> io::Result<End> {
    let answer =
        format!("HTTP/1.1 {status}\r\nServer: Patchbay\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(End::NotRtsp)
}

fn pair() -> io::Result<(Link, UnixStream)> {
    let (ours, inner) = UnixStream::pair()?;
    Ok((Link::Relayed(ours), inner))
}

/// Runs a connection and what its bytes go through, until both have ended.
async fn both(
    serve: impl Future<Output = io::Result<End>>,
    relay: impl Future<Output = io::Result<()>>,
) -> io::Result<End> {
    let mut relay = Box::pin(relay);
    let mut serve = std::pin::pin!(serve);
    tokio::select! {
        end = &mut serve => {
            // What was said last is still on its way.
            let _ = timeout(CLOSE_TIMEOUT, &mut relay).await;
            end
        }
        relayed = &mut relay => {
            // Its end of the pair goes, and so the connection reads its end.
            drop(relay);
            let end = serve.await;
            relayed.and(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s25_s26_first_bytes() {
        for (first, expected) in [
            (&b"\x16\x03\x01"[..], Some(Kind::Tls)),
            (b"G", None),
            (b"GET", None),
            (b"GET /cam", Some(Kind::Http)),
            (b"GET_PARAMETER", Some(Kind::Rtsp)),
            (b"P", None),
            (b"POST ", Some(Kind::Http)),
            (b"PLAY", Some(Kind::Rtsp)),
            (b"OPTIONS", Some(Kind::Rtsp)),
            (b"$\0\0\x0c", Some(Kind::Rtsp)),
            (b"\r\n", Some(Kind::Rtsp)),
        ] {
            assert_eq!(kind(first), expected, "{first:?}");
        }
    }
}
