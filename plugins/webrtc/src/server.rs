//! The server: one set of sockets, the sessions on them, and what they are told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use patchbay_media::Kind;
use patchbay_sdk::api::message::Connection;
use patchbay_sdk::server::Context;
use patchbay_sdk::{Class, Error};
use rtc::crypto::RTCCryptoProvider;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Filters, Transport};
use crate::feed::Feeds;
use crate::mux::Hub;
use crate::peer::agree::Agreed;
use crate::peer::setup::{SetupError, Use, random_text};
use crate::peer::{Event, Peer, setup};
use crate::routes as signalling;
use crate::sdp::{Description, Section};
use crate::turn::{self, Relays};
use crate::{candidate, crypto};

mod again;
mod listeners;
mod public;
mod publish;
mod talk;
mod view;

use again::Again;
pub use again::Trickle;
use listeners::{ListenError, Listeners};

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
    Open(Listeners),
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
    candidates: Candidates,
}

/// The candidates of this side.
#[derive(Debug, Clone)]
struct Candidates {
    /// All, for the connection.
    own: Vec<String>,
    /// Those that the peer is told.
    told: Vec<String>,
    /// Of which addresses ([`Hub::generation`]).
    generation: u64,
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

    /// The sockets, at the addresses that the machine has now.
    async fn hub(&self) -> Result<Arc<Hub>, Error> {
        match self.look().await? {
            (hub, Err(error)) if !listeners::is_bound(&hub) => {
                drop(hub);
                Err(Error::unsupported(error.to_string()))
            }
            (hub, _) => Ok(hub),
        }
    }

    /// Looks at the addresses of the machine: the sockets follow them.
    async fn look(&self) -> Result<(Arc<Hub>, Result<(), ListenError>), Error> {
        let mut sockets = self.sockets.lock().await;
        if matches!(*sockets, Sockets::Unbound) {
            *sockets = Sockets::Open(Listeners::default());
        }
        let Sockets::Open(listeners) = &mut *sockets else {
            return Err(Error::eof("the server has ended"));
        };
        let hub = Arc::clone(listeners.hub());
        let before = hub.generation();
        let looked = listeners.look(&self.config).await;
        if before != hub.generation() && before > 0 {
            tracing::info!(udp = ?hub.udp_addresses(), tcp = ?hub.tcp_addresses(), "other addresses");
        }
        *self.hub.lock() = Some(Arc::clone(&hub));
        Ok((hub, looked))
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
        let candidates = self.gather(hub).await;
        let Candidates { own, told, .. } = &candidates;
        let (parts, Agreed { sdp, tracks, .. }) =
            setup::answer(offer, uses, own, told, &self.crypto).map_err(refused)?;
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
            candidates,
        };
        self.sessions.lock().insert(answer.id.clone(), session);
        self.totals.lock().sessions += 1;
        Ok(Connected { peer, events, offers, tracks, answer, close })
    }

    /// The candidates of this side now.
    async fn gather(&self, hub: &Arc<Hub>) -> Candidates {
        let generation = hub.generation();
        let (mut own, own_told) = own_candidates(hub, &self.config.filters);
        let (mut told, relays) = tokio::join!(self.public.candidates(hub), self.relays.open(hub));
        told.extend(own_told);
        for (relay, rank) in relays.iter().zip(0..) {
            let line = candidate::relay(relay.address(), rank);
            own.push(line.clone());
            told.push(line);
        }
        // A UDP candidate first: FFmpeg's WHIP gives up at a TCP one.
        told.sort_by_key(|line| line.contains(" tcp "));
        Candidates { own, told, generation }
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
fn own_candidates(hub: &Hub, filters: &Filters) -> (Vec<String>, Vec<String>) {
    let (mut all, mut told) = (Vec::new(), Vec::new());
    let of = [(Transport::Udp, hub.udp_addresses()), (Transport::Tcp, hub.tcp_addresses())];
    for (transport, addresses) in of {
        for (address, rank) in addresses.into_iter().zip(0..) {
            let line = candidate::own(address, transport, rank);
            if candidate::is_told(address.ip(), transport, filters) {
                told.push(line.clone());
            }
            all.push(line);
        }
    }
    (all, told)
}

/// Runs the server role until the host closes it.
pub async fn serve(engine: &Arc<Engine>, context: Context) -> Result<(), Error> {
    engine.reopen().await;
    tokio::select! {
        error = listeners::keep(engine, &context) => return Err(error),
        _ = context.report(|| engine.metrics()) => {}
        () = context.closed() => {}
        () = context.draining() => {}
    }
    engine.shut().await;
    // Nobody listens when the host closes it, who wants to know when it drains.
    let _ = context.drained();
    Ok(())
}
