//! Connections of the API's listeners. TLS is taken off; a connection whose first bytes are another protocol's goes to the
//! plugin whose manifest says so, with nothing read from it; the rest is HTTP.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Uri, header::HOST};
use bytes::BytesMut;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use patchbay_plugin_api::manifest::Raw;
use patchbay_plugin_api::message::RouteOpen;
use rustix::net::RecvFlags;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Interest, Ready, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::plugin_route::Close;
use super::{Peer, asks_login, handle, held, tls};
use crate::app::{App, RouteEvent};
use crate::log::Level;

mod look;
mod rewound;

pub(crate) use look::fuzz as fuzz_look;
use look::{Look, look};
use rewound::Rewound;

/// Connections of one listener at once; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 8192;

/// Bytes that are looked at before a connection is taken for HTTP, and how long they may take.
const LOOK: usize = 4 << 10;
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long the head of a request may take, the wait for it included.
const HEAD_LIMIT: Duration = Duration::from_secs(60);

/// Bytes of a request's head, and bytes of media that wait in HTTP's queue of one client. What a stalled viewer does not
/// take stays in the shared log.
const HTTP_BUFFER: usize = 64 << 10;

/// Requests at once on one HTTP/2 connection: a page with a wall of cameras.
const MAX_STREAMS: u32 = 256;

/// Bytes of a body that an HTTP/2 client may send before they are read, and of all bodies of its connection.
const BODY_WINDOW: u32 = 256 << 10;
const BODY_WINDOWS: u32 = 1 << 20;

/// Bytes of the fields of an HTTP/2 request.
const MAX_FIELDS: u32 = 16 << 10;

/// A client of HTTP/2 that is quiet is asked whether it is there, and has so long to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(20);

/// Unsent bytes that the kernel takes for one client; unlike a small send buffer this does not slow a far one.
const UNSENT_MAX: u32 = 128 << 10;

/// What is listened on.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Takes connections until the process ends.
pub(super) async fn run(app: Arc<App>, listener: Listener, tls: Option<TlsAcceptor>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = Arc::clone(&room).acquire_owned().await {
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, remote)| {
                let _ = stream.set_nodelay(true);
                let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_MAX);
                let local = stream.local_addr().ok();
                let (app, tls) = (Arc::clone(&app), tls.clone());
                tokio::spawn(async move {
                    let client = Client { peer: Peer::Tcp(remote), local, tls: tls.is_some() };
                    match tls {
                        None => plain(app, stream, client).await,
                        Some(tls) => encrypted(app, tls, stream, client).await,
                    }
                    drop(place);
                });
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                let client = Client { peer: Peer::Unix, local: None, tls: false };
                let app = Arc::clone(&app);
                tokio::spawn(async move {
                    plain(app, stream, client).await;
                    drop(place);
                });
            }),
        };
        if let Err(error) = accepted {
            let error = error.to_string();
            app.log.write(Level::Warn, "api", "cannot accept a connection", &[("error", &error)]);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Both ends of a connection.
struct Client {
    peer: Peer,
    local: Option<SocketAddr>,
    tls: bool,
}

/// A socket whose bytes can be looked at without being taken.
trait Socket: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static {
    /// More than `known` of the bytes that have come; 0: the end.
    fn peek(&self, buffer: &mut [u8], known: usize) -> impl Future<Output = io::Result<usize>> + Send;
    fn into_descriptor(self) -> io::Result<OwnedFd>;
}

impl Socket for TcpStream {
    async fn peek(&self, buffer: &mut [u8], known: usize) -> io::Result<usize> {
        loop {
            let ready = self.ready(Interest::READABLE).await?;
            let seen = self.try_io(Interest::READABLE, || peek(self.as_fd(), buffer, known));
            if let Some(seen) = news(seen, ready) {
                return seen;
            }
        }
    }

    fn into_descriptor(self) -> io::Result<OwnedFd> {
        Ok(self.into_std()?.into())
    }
}

impl Socket for UnixStream {
    async fn peek(&self, buffer: &mut [u8], known: usize) -> io::Result<usize> {
        loop {
            let ready = self.ready(Interest::READABLE).await?;
            let seen = self.try_io(Interest::READABLE, || peek(self.as_fd(), buffer, known));
            if let Some(seen) = news(seen, ready) {
                return seen;
            }
        }
    }

    fn into_descriptor(self) -> io::Result<OwnedFd> {
        Ok(self.into_std()?.into())
    }
}

/// Bytes that were seen before are not news: they would be there at every look.
fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8], known: usize) -> io::Result<usize> {
    let (_, seen) = rustix::net::recv(socket, buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    if seen > 0 && seen == known { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(seen) }
}

/// `None`: nothing yet. A socket whose end has come stays ready for ever, so it is not asked again.
fn news(seen: io::Result<usize>, ready: Ready) -> Option<io::Result<usize>> {
    match seen {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.is_read_closed().then_some(Ok(0)),
        seen => Some(seen),
    }
}

async fn plain(app: Arc<App>, stream: impl Socket, client: Client) {
    let mut patterns = Patterns::of(&app);
    let found = patterns.find(seen(&stream, &patterns)).await;
    let Some((plugin, raw)) = found.map(|at| patterns.list.swap_remove(at)) else {
        return http(app, stream, client.peer).await;
    };
    if let Ok(descriptor) = stream.into_descriptor() {
        hand_over(&app, &plugin, raw, &client, descriptor).await;
    }
}

/// Looks at what comes without taking it.
async fn seen(stream: &impl Socket, patterns: &Patterns) -> Option<usize> {
    let mut buffer = BytesMut::zeroed(LOOK);
    let mut known = 0;
    while known < LOOK {
        known = stream.peek(&mut buffer, known).await.ok().filter(|seen| *seen > 0)?;
        match patterns.look(buffer.get(..known).unwrap_or_default()) {
            Look::More => {}
            Look::Http => return None,
            Look::Raw(at) => return Some(at),
        }
    }
    None
}

async fn encrypted(app: Arc<App>, tls: TlsAcceptor, stream: TcpStream, client: Client) {
    let Ok(Ok(mut stream)) = timeout(HANDSHAKE, tls.accept(stream)).await else { return };
    if stream.get_ref().1.alpn_protocol() == Some(tls::HTTP_2) {
        return http_2(app, stream, client.peer).await;
    }
    let mut patterns = Patterns::of(&app);
    let mut first = BytesMut::new();
    let found = patterns.find(taken(&mut stream, &mut first, &patterns)).await;
    let mut stream = Rewound::new(first.freeze(), stream);
    let Some((plugin, raw)) = found.map(|at| patterns.list.swap_remove(at)) else {
        return http(app, stream, client.peer).await;
    };
    let Ok((mut ours, theirs)) = UnixStream::pair() else { return };
    if let Ok(descriptor) = theirs.into_descriptor() {
        // The plugin's end goes with its session, and then this one ends too.
        tokio::join!(hand_over(&app, &plugin, raw, &client, descriptor), async {
            let _ = copy_bidirectional(&mut stream, &mut ours).await;
            drop(ours);
        });
    }
}

/// Takes what comes into `first`.
async fn taken(
    stream: &mut (impl AsyncRead + Unpin),
    first: &mut BytesMut,
    patterns: &Patterns,
) -> Option<usize> {
    while first.len() < LOOK {
        first.reserve(LOOK);
        if stream.read_buf(first).await.ok()? == 0 {
            return None;
        }
        match patterns.look(first) {
            Look::More => {}
            Look::Http => return None,
            Look::Raw(at) => return Some(at),
        }
    }
    None
}

async fn http<S>(app: Arc<App>, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(Arc::clone(&app), peer.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HTTP_BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // What went wrong is the client's, and it has heard of it.
    held::serve(held::Parts::Shared, connection).await;
}

/// HTTP/2, which a browser takes over TLS: over HTTP/1.1 it opens six connections to one server and no more.
async fn http_2<S>(app: Arc<App>, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: hyper::Request<_>| {
        as_in_http_1(&mut request);
        answer(Arc::clone(&app), peer.clone(), request)
    });
    let connection = http2::Builder::new(Requests)
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_LIMIT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_FIELDS)
        .initial_stream_window_size(BODY_WINDOW)
        .initial_connection_window_size(BODY_WINDOWS)
        .max_send_buf_size(HTTP_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

/// Runs the requests of an HTTP/2 connection, each for itself.
#[derive(Clone)]
struct Requests;

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Requests {
    fn execute(&self, request: F) {
        tokio::spawn(held::serve(held::Parts::Copied, request));
    }
}

/// The host is in a header and the URI is a path, for all that read them.
fn as_in_http_1<B>(request: &mut hyper::Request<B>) {
    let uri = request.uri();
    if let Some(host) = uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
        request.headers_mut().insert(HOST, host);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if let Ok(uri) = path.parse::<Uri>() {
        *request.uri_mut() = uri;
    }
}

async fn answer(
    app: Arc<App>,
    peer: Peer,
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<axum::response::Response, Infallible> {
    Ok(handle(app, peer, request.map(Body::new)).await)
}

/// Gives a connection away, and waits until the plugin is done with it.
async fn hand_over(app: &Arc<App>, plugin: &str, raw: Raw, client: &Client, descriptor: OwnedFd) {
    let remote = match client.peer {
        Peer::Tcp(_) => client.peer.text(),
        Peer::Unix => String::new(),
    };
    let local = client.local.map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()));
    let open = RouteOpen {
        route: raw.request,
        remote,
        raw: true,
        local: local.map(|address| address.to_string()).unwrap_or_default(),
        tls: client.tls,
        login: asks_login(app, &client.peer),
        ..RouteOpen::default()
    };
    let (instance, session, mut events) = match app.route(plugin, &open) {
        Ok(route) => route,
        Err(error) => {
            app.log.write(Level::Debug, plugin, "connection closed", &[("error", &error)]);
            return;
        }
    };
    let _close = Close(Arc::clone(&instance), session);
    instance.hand_over(session, descriptor);
    while let Some(event) = events.recv().await {
        if let RouteEvent::Ended(ended) = event {
            if !ended.message.is_empty() {
                let fields = [("error", ended.message.as_str()), ("remote", &open.remote)];
                app.log.write(Level::Debug, plugin, "connection closed", &fields);
            }
            return;
        }
    }
}

/// What connections of other protocols are known by now.
struct Patterns {
    list: Vec<(String, Raw)>,
    allowed: Option<Vec<String>>,
    any_origin: bool,
}

impl Patterns {
    fn of(app: &App) -> Self {
        let (catalogue, config) = (app.catalogue(), app.config());
        let known = catalogue.raws().filter(|(_, raw)| config.allows_module(raw.module.as_deref()));
        Self {
            list: known.map(|(entry, raw)| (entry.manifest.name.clone(), raw.clone())).collect(),
            allowed: config.api.allow_paths.clone(),
            any_origin: config.api.origin == "*",
        }
    }

    /// Which pattern fits; `None`: it is HTTP.
    async fn find(&self, looking: impl Future<Output = Option<usize>>) -> Option<usize> {
        if self.list.is_empty() {
            return None;
        }
        timeout(LOOK_LIMIT, looking).await.ok().flatten()
    }

    fn look(&self, first: &[u8]) -> Look {
        let raws = self.list.iter().map(|(_, raw)| raw);
        look(first, raws, self.allowed.as_deref(), self.any_origin)
    }
}
