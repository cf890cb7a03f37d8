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

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use patchbay_fanout::Limits;
use patchbay_sdk::Error;
use patchbay_sdk::api::message::{Counters, Listening};
use patchbay_sdk::server::{Context, listen, shown};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use play::Hub;

/// Connections at once; more are closed unanswered.
pub const MAX_CONNECTIONS: usize = 4_096;
/// A peer that acknowledges nothing for so long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two questions whether a silent peer is there.
const KEEPALIVE: Duration = Duration::from_secs(30);
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// Settings of the server: the `rtmp` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where to listen; empty: not at all.
    pub listen: String,
}

/// A server and all its viewers.
pub struct Server {
    context: Context,
    hub: Arc<Hub>,
}

impl Server {
    /// Serves connections until it is dropped, which ends them, or until the last has left after `draining`.
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        let draining = self.context.draining();
        tokio::pin!(draining);
        loop {
            tokio::select! {
                () = &mut draining => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, remote)) if connections.len() < MAX_CONNECTIONS => {
                        connections.spawn(Arc::clone(&self).connection(stream, remote));
                    }
                    Ok(_) => tracing::warn!(max = MAX_CONNECTIONS, "too many connections"),
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!("a connection panicked");
                    }
                }
            }
        }
        drop(listener);
        let _ = self.context.drained();
        while connections.join_next().await.is_some() {}
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
    fn metrics(&self) -> BTreeMap<String, u64> {
        let play = self.hub.counters();
        let units = patchbay_sdk::reader::counters();
        [
            ("rtmp_mux_runs", &play.runs),
            ("rtmp_muxed_units", &play.units),
            ("rtmp_lost_units", &play.lost),
            ("rtmp_histories", &play.histories),
            ("rtmp_joins", &play.joins),
            ("units_copied", &units.live_units),
            ("history_units_copied", &units.history_units),
            ("histories_read", &units.histories),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.load(Relaxed)))
        .collect()
    }
}

/// Runs the server role until the host closes it.
pub async fn serve(config: Config, context: Context) -> Result<(), Error> {
    if config.listen.is_empty() {
        context.closed().await;
        return Ok(());
    }
    let listener = listen(&config.listen).await?;
    let addr = shown(&config.listen, listener.local_addr()?);
    let mut info = serde_json::Map::new();
    info.insert("listen".to_owned(), config.listen.clone().into());
    context.listening(&Listening { protocol: "rtmp".to_owned(), addr, info })?;
    let hub = Hub::new(context.host(), Limits::default());
    let server = Arc::new(Server { context: context.clone(), hub });
    let metrics = async {
        let mut every = tokio::time::interval(METRICS_EVERY);
        loop {
            every.tick().await;
            let _ = context.metrics(&Counters { counters: server.metrics() });
        }
    };
    tokio::select! {
        () = Arc::clone(&server).accept(listener) => {}
        () = metrics => {}
        () = context.closed() => {}
    }
    Ok(())
}
