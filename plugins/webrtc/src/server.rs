//! The server: one set of sockets, the sessions on them, and what they are told.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use patchbay_media::Kind;
use patchbay_sdk::api::message::{Connection, Listening};
use patchbay_sdk::server::Context;
use patchbay_sdk::{Class, Error};
use rtc::crypto::RTCCryptoProvider;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Listen, Transport};
use crate::feed::Feeds;
use crate::mux::{Hub, Mux, bind_udp};
use crate::peer::agree::Agreed;
use crate::peer::setup::{SetupError, Use, random_text};
use crate::peer::{Event, Peer, setup};
use crate::routes as signalling;
use crate::sdp::{Description, Section};
use crate::turn::{self, Relays};
use crate::{candidate, crypto};

mod again;
mod public;
mod publish;
mod talk;
mod view;

use again::Again;
pub use again::Trickle;

/// Most sessions at a time.
const MAX_SESSIONS: usize = 4096;

/// How long sessions have to end with the server.
const SHUT_LIMIT: Duration = Duration::from_millis(500);

/// Everything that sessions share.
pub struct Engine {
    config: Config,
    crypto: Arc<dyn RTCCryptoProvider>,
    /// Bound when the server starts, or the first peer comes.
    sockets: tokio::sync::Mutex<Sockets>,
    hub: Mutex<Option<Arc<Hub>>>,
    feeds: Feeds,
    sessions: Mutex<HashMap<String, Session>>,
    /// A session has ended.
    emptied: Notify,
    public: public::Addresses,
    relays: Relays,
    signalling: signalling::Sockets,
    totals: Mutex<Totals>,
}

enum Sockets {
    Unbound,
    Bound(Mux),
    Closed,
}

/// A session as the routes see it.
struct Session {
    peer: Arc<Peer>,
    etag: String,
    close: CancellationToken,
    /// Later offers of its peer.
    offers: mpsc::Sender<Again>,
    /// What they all have in common.
    identity: String,
    /// The candidates that the peer is told.
    told: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    sessions: u64,
    connected: u64,
}

/// What a peer asks for.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Name of the stream.
    pub stream: String,
    /// The raw query of the request.
    pub query: String,
    /// The peer's offer.
    pub offer: String,
    /// It publishes, whatever the offer says.
    pub is_publisher: bool,
    /// For `/api/streams`.
    pub connection: Connection,
}

/// What a peer gets.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Names the session from now on; not guessable.
    pub id: String,
    /// Its description, with candidates.
    pub sdp: String,
    /// The same without candidates, for peers that get them one by one.
    pub bare: String,
    /// The candidates, configured ones first.
    pub candidates: Vec<String>,
    /// Entity tag of this negotiation.
    pub etag: String,
}

impl Answer {
    /// The answer of a session, under a new entity tag.
    fn new(id: String, sdp: String, candidates: Vec<String>) -> Self {
        let bare = Description::parse(&sdp).map(|d| d.with_candidates(&[])).unwrap_or_default();
        Self { id, sdp, bare, candidates, etag: random_text(12) }
    }
}

impl Engine {
    /// An engine without sockets: they are bound when the server starts, or the first peer comes.
    pub fn new(config: Config) -> Arc<Self> {
        let crypto = crypto::Provider::shared();
        Arc::new(Self {
            relays: Relays::new(turn::Server::all(&config.ice_servers), &crypto),
            crypto,
            sockets: tokio::sync::Mutex::new(Sockets::Unbound),
            hub: Mutex::default(),
            feeds: Feeds::new(),
            sessions: Mutex::default(),
            emptied: Notify::new(),
            public: public::Addresses::new(&config),
            signalling: signalling::Sockets::default(),
            config,
            totals: Mutex::default(),
        })
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The crypto of all connections.
    pub fn crypto(&self) -> &Arc<dyn RTCCryptoProvider> {
        &self.crypto
    }

    /// The sockets, bound if they were not.
    async fn hub(&self) -> Result<Arc<Hub>, Error> {
        let mut sockets = self.sockets.lock().await;
        match &*sockets {
            Sockets::Bound(mux) => Ok(Arc::clone(mux.hub())),
            Sockets::Closed => Err(Error::eof("the server has ended")),
            Sockets::Unbound => {
                let mux = bind(&self.config).await?;
                let hub = Arc::clone(mux.hub());
                *self.hub.lock() = Some(Arc::clone(&hub));
                *sockets = Sockets::Bound(mux);
                Ok(hub)
            }
        }
    }

    /// The server is wanted (again): it may have been switched off in between.
    async fn reopen(&self) {
        let mut sockets = self.sockets.lock().await;
        if matches!(*sockets, Sockets::Closed) {
            *sockets = Sockets::Unbound;
        }
    }

    /// Ends all sessions and closes the sockets: all sessions live on them, and another server may want the ports.
    async fn shut(&self) {
        for session in self.sessions.lock().values() {
            session.close.cancel();
        }
        let gone = async {
            while !self.sessions.lock().is_empty() {
                self.emptied.notified().await;
            }
        };
        if tokio::time::timeout(SHUT_LIMIT, gone).await.is_err() {
            tracing::warn!("sessions did not end in time");
        }
        self.hub.lock().take();
        self.relays.close().await;
        *self.sockets.lock().await = Sockets::Closed;
    }

    /// Starts a session for an offer.
    pub async fn open(self: &Arc<Self>, context: Context, mut ask: Ask) -> Result<Answer, Error> {
        ask.offer = crate::sdp::one_transport(&ask.offer);
        if self.sessions.lock().len() >= MAX_SESSIONS {
            return Err(Error::new(Class::Busy, format!("more than {MAX_SESSIONS} sessions")));
        }
        let offer = Description::parse(&ask.offer).map_err(|error| Error::protocol(error.to_string()))?;
        let hub = self.hub().await?;
        // As the direction seen from here says: who may be sent video watches.
        let has = |kind: Kind, of: fn(&Section) -> bool| {
            offer.sections.iter().any(|section| section.kind == kind && of(section))
        };
        let (watches, publishes) = (|section: &Section| section.receives, |section: &Section| section.sends);
        let is_viewer = !ask.is_publisher
            && (has(Kind::Video, watches) || (!has(Kind::Video, publishes) && has(Kind::Audio, watches)));
        if is_viewer {
            view::open(self, &context, &hub, &ask, &offer).await
        } else {
            publish::open(self, &context, &hub, &ask, &offer).await
        }
    }

    /// Makes the connection of a session.
    async fn connect(&self, hub: &Arc<Hub>, offer: &Description, uses: &[Use]) -> Result<Connected, Error> {
        let (mut own, own_told) = own_candidates(hub, &self.config);
        let (mut told, relays) = tokio::join!(self.public.candidates(hub), self.relays.open(hub));
        told.extend(own_told);
        for (relay, rank) in relays.iter().zip(0..) {
            let line = candidate::relay(relay.address(), rank);
            own.push(line.clone());
            told.push(line);
        }
        // A UDP candidate first: FFmpeg's WHIP gives up at a TCP one.
        told.sort_by_key(|line| line.contains(" tcp "));
        let (parts, Agreed { sdp, tracks, .. }) =
            setup::answer(offer, uses, &own, &told, &self.crypto).map_err(refused)?;
        let (peer, events) = Peer::new(hub, parts);
        let answer = Answer::new(random_text(24), sdp, told.clone());
        let close = CancellationToken::new();
        let (sender, offers) = mpsc::channel(1);
        let session = Session {
            peer: Arc::clone(&peer),
            etag: answer.etag.clone(),
            close: close.clone(),
            offers: sender,
            identity: offer.identity(),
            told,
        };
        self.sessions.lock().insert(answer.id.clone(), session);
        self.totals.lock().sessions += 1;
        Ok(Connected { peer, events, offers, tracks, answer, close })
    }

    /// Ends a session; false when there is none of this name.
    pub fn close(&self, id: &str) -> bool {
        let sessions = self.sessions.lock();
        let Some(session) = sessions.get(id) else { return false };
        session.close.cancel();
        true
    }

    /// What WebSocket connections said before.
    pub fn signalling(&self) -> &signalling::Sockets {
        &self.signalling
    }

    fn forget(&self, id: &str) {
        self.sessions.lock().remove(id);
        self.signalling.forget(id);
        self.emptied.notify_one();
    }

    /// Totals for `/metrics`.
    fn metrics(&self) -> Vec<(&'static str, u64)> {
        let totals = *self.totals.lock();
        let feeds = self.feeds.counters();
        let mut metrics = vec![
            ("webrtc_sessions", totals.sessions),
            ("webrtc_connected", totals.connected),
            ("webrtc_packetized_units", feeds.units.load(Relaxed)),
            ("webrtc_lost_units", feeds.lost.load(Relaxed)),
            ("webrtc_histories", feeds.histories.load(Relaxed)),
            ("webrtc_joins", feeds.joins.load(Relaxed)),
        ];
        if let Some(hub) = &*self.hub.lock() {
            let counters = hub.counters();
            let of_hub = [
                ("webrtc_datagrams_received", &counters.received),
                ("webrtc_datagrams_of_strangers", &counters.strangers),
                ("webrtc_send_calls", &counters.sends),
                ("webrtc_packets_sent", &counters.packets),
                ("webrtc_packets_dropped", &counters.dropped),
                ("webrtc_ticks", &counters.ticks),
            ];
            metrics.extend(of_hub.map(|(name, counter)| (name, counter.load(Relaxed))));
        }
        metrics
    }
}

/// A description that cannot be negotiated.
fn refused(error: SetupError) -> Error {
    Error::protocol(error.to_string())
}

/// A session's connection, before its task runs.
struct Connected {
    peer: Arc<Peer>,
    events: mpsc::Receiver<Event>,
    offers: mpsc::Receiver<Again>,
    /// The outgoing track of each section.
    tracks: Vec<Option<usize>>,
    answer: Answer,
    close: CancellationToken,
}

/// What `/api/streams` says of a connection once packets flow: the way of the signalling and that of the packets.
fn connected(signalling: &str, peer: &Peer) -> Connection {
    let Some((address, transport)) = peer.remote() else { return Connection::default() };
    Connection {
        protocol: format!("{signalling}+{}", transport.name()),
        remote_addr: address.to_string(),
        ..Connection::default()
    }
}

/// Ends a session's connection when its task ends, however that happens.
struct Open {
    engine: Arc<Engine>,
    peer: Arc<Peer>,
    id: String,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.peer.close();
        self.engine.forget(&self.id);
    }
}

/// Candidates of the machine's own addresses: all for the connection, and those that the peer is told.
fn own_candidates(hub: &Hub, config: &Config) -> (Vec<String>, Vec<String>) {
    let mut all = Vec::new();
    let udp: Vec<SocketAddr> = hub.udp_addresses().collect();
    let rank = |index: usize| u16::try_from(index).unwrap_or(u16::MAX);
    for (index, address) in udp.iter().enumerate() {
        all.push((address.ip(), Transport::Udp, candidate::own(*address, Transport::Udp, rank(index))));
    }
    if let Some(port) = hub.tcp_port() {
        let only = Listen::parse(&config.listen).and_then(|listen| listen.host.parse::<IpAddr>().ok());
        let ips: Vec<IpAddr> = match only {
            Some(ip) if !ip.is_unspecified() => vec![ip],
            _ => candidate::local_addresses(&config.filters),
        };
        for (index, ip) in ips.into_iter().enumerate() {
            let line = candidate::own(SocketAddr::new(ip, port), Transport::Tcp, rank(index));
            all.push((ip, Transport::Tcp, line));
        }
    }
    let told = all.iter().filter(|(ip, transport, _)| candidate::is_told(*ip, *transport, &config.filters));
    let told = told.map(|(_, _, line)| line.clone()).collect();
    (all.into_iter().map(|(_, _, line)| line).collect(), told)
}

/// Binds the configured sockets.
async fn bind(config: &Config) -> Result<Mux, Error> {
    let listen = Listen::parse(&config.listen);
    if listen.is_none() && !config.listen.is_empty() {
        return Err(Error::unsupported(format!("listen: {:?} is no address", config.listen)));
    }
    let filters = &config.filters;
    let ips: Vec<IpAddr> = match listen.as_ref().map(|listen| listen.host.as_str()) {
        None | Some("" | "0.0.0.0" | "::") => candidate::local_addresses(filters),
        Some(host) => tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect(),
    };
    let allowed = |transport: Transport| {
        let ips = ips.iter().copied();
        ips.filter(|ip| filters.allows_network(transport, *ip)).collect::<Vec<_>>()
    };
    // Without UDP on the fixed port sessions use one that the system chooses.
    let port = listen.as_ref().filter(|listen| listen.udp).map_or(0, |listen| listen.port);
    let udp = bind_udp(&allowed(Transport::Udp), port);
    let mut tcp = None;
    if let Some(listen) = listen.as_ref().filter(|listen| listen.tcp && !allowed(Transport::Tcp).is_empty()) {
        // With port 0 both are the one that UDP got.
        let port = match listen.port {
            0 => udp.first().and_then(|socket| socket.local_addr().ok()).map_or(0, |a| a.port()),
            port => port,
        };
        tcp = listen_tcp(&listen.host, port).await;
    }
    if udp.is_empty() && tcp.is_none() {
        return Err(Error::unsupported(format!("cannot listen on {:?}", config.listen)));
    }
    Ok(Mux::new(udp, tcp)?)
}

/// A listener on `host:port`; an empty host is every address of both families.
async fn listen_tcp(host: &str, port: u16) -> Option<TcpListener> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    patchbay_sdk::server::listen(&format!("{host}:{port}"))
        .await
        .inspect_err(|error| tracing::warn!("{error}"))
        .ok()
}

/// Runs the server role until the host closes it.
pub async fn serve(engine: &Arc<Engine>, context: Context) -> Result<(), Error> {
    engine.reopen().await;
    let hub = engine.hub().await?;
    let configured = &engine.config.listen;
    let host = configured.split('/').next().and_then(|a| a.rsplit_once(':')).map_or("", |(host, _)| host);
    let mut info = serde_json::Map::new();
    info.insert("listen".to_owned(), configured.clone().into());
    let udp = hub.udp_addresses().next().map(|address| address.port());
    for (name, port) in [("tcp", hub.tcp_port()), ("udp", udp)] {
        let Some(port) = port else { continue };
        let addr = format!("{host}:{port}/{name}");
        context.listening(&Listening { protocol: "webrtc".to_owned(), addr, info: info.clone() })?;
    }
    tokio::select! {
        _ = context.report(|| engine.metrics()) => {}
        () = context.closed() => {}
        () = context.draining() => {}
    }
    drop(hub);
    engine.shut().await;
    // Nobody listens when the host closes it, who wants to know when it drains.
    let _ = context.drained();
    Ok(())
}
