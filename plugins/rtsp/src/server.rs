//! The RTSP server: players and publishers.
//!
//! | part | what it does |
//! |---|---|
//! | [`session`] | one connection's protocol, without sockets and clocks |
//! | [`login`] | Digest and Basic |
//! | [`play`] | units to packets, once for all viewers |
//! | [`publish`] | packets of a publisher to units |
//! | [`connection`] | sockets and timers around them |
//! | [`link`] | the socket: the client's, or a pair before TLS or a tunnel |
//! | [`streams`], [`rings`] | the host |
//!
//! One port takes RTSP, TLS, the two requests of an HTTP tunnel, and WebSockets: the first bytes tell. So does the host's
//! port, whose connections come by the role `routes`.

pub mod connection;
mod entry;
#[doc(hidden)]
pub mod fuzz;
pub mod link;
pub mod login;
pub mod play;
pub mod publish;
pub mod rings;
pub mod session;
pub mod streams;
mod talk;
pub mod url;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use patchbay_fanout::Limits;
use patchbay_rtp::packetize::DEFAULT_MAX_PAYLOAD;
use patchbay_sdk::api::message::RouteOpen;
use patchbay_sdk::server::{Context, accept};
use patchbay_sdk::{Class, Error};
use socket2::{Domain, SockRef, Socket};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use entry::{Ends, Entry};
use play::{Clock, Hub, Pool};
use streams::Streams;

/// Connections at once; more are closed unanswered.
pub const MAX_CONNECTIONS: usize = 8192;
/// A peer that acknowledges nothing for so long is gone (S49).
const USER_TIMEOUT: Duration = Duration::from_secs(15);
/// Unsent bytes that the kernel takes for one peer (512 KiB). What a stalled player does not take stays in the shared log;
/// unlike a small send buffer this does not slow a far one.
const UNSENT_MAX: u32 = 512 << 10;

/// Settings of the server: the `rtsp` section.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where to listen; empty: not at all.
    pub listen: String,
    /// User that players and publishers need; empty: none.
    pub username: String,
    /// The password.
    pub password: String,
    /// The login is needed from this machine too (S22).
    pub local_auth: bool,
    /// Codec filters for requests that have none.
    pub default_query: String,
    /// Largest RTP payload in bytes.
    pub pkt_size: usize,
    /// Where to listen for TLS alone; empty: not at all. `listen` takes TLS as well.
    pub tls_listen: String,
    /// Certificate for TLS: a PEM file, or its text.
    pub tls_cert: String,
    /// Its private key, likewise.
    pub tls_key: String,
    /// Multicast addresses for players that ask for one, such as `239.255.42.0/24`; empty: none.
    pub multicast: String,
    /// How many routers multicast may pass, and one more.
    pub multicast_ttl: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: ":8554".to_owned(),
            username: String::new(),
            password: String::new(),
            local_auth: false,
            default_query: "video&audio".to_owned(),
            pkt_size: DEFAULT_MAX_PAYLOAD,
            tls_listen: String::new(),
            tls_cert: String::new(),
            tls_key: String::new(),
            multicast: String::new(),
            multicast_ttl: 1,
        }
    }
}

/// A server and all its viewers.
pub struct Server<S: Streams> {
    config: Config,
    streams: S,
    hub: Arc<Hub<S::Rings>>,
    clock: Clock,
    entry: Entry,
    groups: Pool,
}

impl<S: Streams> Server<S> {
    /// A server of these streams. Without a certificate that can be used it serves without TLS and says so.
    pub fn new(config: Config, streams: S, limits: Limits) -> Arc<Self> {
        let clock = Clock::new();
        let hub = Hub::new(streams.rings(), clock, limits);
        let entry = Entry::new(&config).unwrap_or_else(|error| {
            tracing::error!("no TLS: {error}");
            Entry::default()
        });
        let groups = Pool::new(&config.multicast, config.multicast_ttl).unwrap_or_else(|error| {
            tracing::error!("no multicast: {error}");
            Pool::default()
        });
        Arc::new(Self { config, streams, hub, clock, entry, groups })
    }

    /// Its viewers.
    pub fn hub(&self) -> &Hub<S::Rings> {
        &self.hub
    }

    /// The host.
    pub fn streams(&self) -> &S {
        &self.streams
    }

    /// Serves connections: see [`accept`].
    pub async fn accept(
        self: Arc<Self>,
        listeners: impl IntoIterator<Item = TcpListener>,
        draining: impl Future<Output = ()>,
        drained: impl FnOnce(),
    ) {
        let connection = |stream, remote| Arc::clone(&self).connection(stream, remote);
        accept(listeners.into_iter().collect(), MAX_CONNECTIONS, connection, draining, drained).await;
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, remote: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
        let _ = socket.set_tcp_notsent_lowat(UNSENT_MAX);
        let Ok(local) = stream.local_addr() else { return };
        Self::tell(remote, entry::serve(self, stream, Ends { local, remote }).await);
    }

    /// Serves a connection that came on the host's port, to its end.
    pub async fn take_over(self: Arc<Self>, socket: OwnedFd, request: &RouteOpen) -> Result<(), Error> {
        // Over a Unix socket: from this machine.
        let end = |text: &str| text.parse().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let ends = Ends { local: end(&request.local), remote: end(&request.remote) };
        if request.login && !connection::asks_login(&self.config, ends.remote) {
            return Err(Error::new(
                Class::Auth,
                "the API has a login and RTSP has none: set rtsp: username, password",
            ));
        }
        let socket = Socket::from(socket);
        socket.set_nonblocking(true)?;
        if socket.domain()? == Domain::UNIX {
            let stream = UnixStream::from_std(OwnedFd::from(socket).into())?;
            Self::tell(ends.remote, entry::serve_relayed(self, stream, ends).await);
        } else {
            self.connection(TcpStream::from_std(socket.into())?, ends.remote).await;
        }
        Ok(())
    }

    fn tell(remote: SocketAddr, ended: std::io::Result<connection::End>) {
        match ended {
            Ok(reason @ connection::End::Stream(_)) => tracing::info!(%remote, "player closed: {reason}"),
            Ok(reason) => tracing::debug!(%remote, "connection closed: {reason}"),
            Err(error) => tracing::debug!(%remote, "connection failed: {error}"),
        }
    }

    /// Totals for `/metrics`.
    pub fn metrics(&self) -> Vec<(&'static str, u64)> {
        let play = self.hub.counters();
        let counters = [
            ("rtsp_packetize_runs", &play.runs),
            ("rtsp_packetized_units", &play.units),
            ("rtsp_lost_units", &play.lost),
            ("rtsp_histories", &play.histories),
            ("rtsp_joins", &play.joins),
            ("rtsp_datagrams_dropped", &play.datagrams_dropped),
        ];
        let own = counters.into_iter().map(|(name, counter)| (name, counter.load(Relaxed)));
        own.chain(patchbay_sdk::reader::counters().named()).collect()
    }
}

/// The server that listens now, for connections that come by another way.
#[derive(Default)]
pub struct Running(Mutex<Weak<Server<Context>>>);

impl Running {
    /// The server; `None`: it is switched off.
    pub fn get(&self) -> Option<Arc<Server<Context>>> {
        self.0.lock().upgrade()
    }
}

/// Runs the server role until the host closes it.
pub async fn serve(config: Config, context: Context, running: &Running) -> Result<(), Error> {
    let server = Server::new(config.clone(), context.clone(), Limits::default());
    let mut listeners = Vec::new();
    for (protocol, address) in [("rtsp", &config.listen), ("rtsps", &config.tls_listen)] {
        if address.is_empty() {
            continue;
        }
        if protocol == "rtsps" && !server.entry.has_tls() {
            tracing::error!("tls_listen needs tls_cert and tls_key");
            continue;
        }
        let mut info = serde_json::Map::new();
        info.insert("default_query".to_owned(), config.default_query.clone().into());
        listeners.push(context.listen(protocol, address, info).await?);
    }
    if listeners.is_empty() {
        context.closed().await;
        return Ok(());
    }
    *running.0.lock() = Arc::downgrade(&server);
    tokio::select! {
        () = Arc::clone(&server).accept(listeners, context.draining(), || drop(context.drained())) => {}
        _ = context.report(|| server.metrics()) => {}
        () = context.closed() => {}
    }
    Ok(())
}
