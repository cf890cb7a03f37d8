//! The RTMP server: players and publishers.
//!
//! | part | what it does |
//! |---|---|
//! | [`play`] | units to messages, once for all viewers |
//! | [`publish`] | messages of a publisher to units |
//! | [`connection`] | sockets and timers around [`crate::session::server`] |

pub mod connection;
pub mod play;
pub mod publish;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use patchbay_fanout::Limits;
use patchbay_sdk::Error;
use patchbay_sdk::server::{Context, accept};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::session::login::{Logins, Verdict};
use play::Hub;

/// Connections at once; more are closed unanswered.
pub const MAX_CONNECTIONS: usize = 4_096;
/// A peer that acknowledges nothing for so long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two questions whether a silent peer is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Settings of the server: the `rtmp` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where to listen; empty: not at all.
    pub listen: String,
    /// User that players and publishers need (Adobe's login); empty: none.
    pub username: String,
    /// The password.
    pub password: String,
    /// The login is needed from this machine too.
    pub local_auth: bool,
}

/// A server and all its viewers.
pub struct Server {
    context: Context,
    hub: Arc<Hub>,
    login: Option<Mutex<Logins>>,
    local_auth: bool,
}

impl Server {
    /// Whether this client has to log in.
    fn asks_login(&self, remote: SocketAddr) -> bool {
        self.login.is_some() && (self.local_auth || !remote.ip().to_canonical().is_loopback())
    }

    fn judge(&self, app: &str) -> Verdict {
        self.login.as_ref().map_or(Verdict::Allowed, |login| login.lock().judge(app, rand::random()))
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, remote: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
        // A player may wait long for its camera to come back.
        let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE));
        match connection::serve(self, stream, remote).await {
            Ok(reason @ connection::End::Stream(_)) => tracing::info!(%remote, "closed: {reason}"),
            Ok(reason) => tracing::debug!(%remote, "connection closed: {reason}"),
            Err(error) => tracing::debug!(%remote, "connection failed: {error}"),
        }
    }

    /// Totals for `/metrics`.
    fn metrics(&self) -> Vec<(&'static str, u64)> {
        let play = self.hub.counters();
        let counters = [
            ("rtmp_mux_runs", &play.runs),
            ("rtmp_muxed_units", &play.units),
            ("rtmp_lost_units", &play.lost),
            ("rtmp_histories", &play.histories),
            ("rtmp_joins", &play.joins),
        ];
        let own = counters.into_iter().map(|(name, counter)| (name, counter.load(Relaxed)));
        own.chain(patchbay_sdk::reader::counters().named()).collect()
    }
}

/// Runs the server role until the host closes it.
pub async fn serve(config: Config, context: Context) -> Result<(), Error> {
    if config.listen.is_empty() {
        context.closed().await;
        return Ok(());
    }
    let listener = context.listen("rtmp", &config.listen, serde_json::Map::new()).await?;
    let hub = Hub::new(context.host(), Limits::default());
    let login =
        (!config.username.is_empty()).then(|| Mutex::new(Logins::new(&config.username, &config.password)));
    let server = Arc::new(Server { context: context.clone(), hub, login, local_auth: config.local_auth });
    let connection = |stream, remote| Arc::clone(&server).connection(stream, remote);
    let drained = || drop(context.drained());
    tokio::select! {
        () = accept(vec![listener], MAX_CONNECTIONS, connection, context.draining(), drained) => {}
        _ = context.report(|| server.metrics()) => {}
        () = context.closed() => {}
    }
    Ok(())
}
