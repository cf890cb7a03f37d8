//! One connection: the sockets and timers around a [`Session`].

mod asked;
mod describe;
mod udp;

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_fanout::Writer;
use patchbay_sdk::api::message::ConsumerCounters;
use patchbay_sdk::{Error, or_pending};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, sleep, sleep_until};

use super::Server;
use super::entry::Ends;
use super::link::Link;
use super::play::{Datagrams, Group, History};
use super::publish::Ingest;
use super::session::{self, Output, Reason, Session};
use super::streams::{Claim, Streams};
use super::talk::Ear;
use crate::server::login::Login;
use crate::wire::{Item, Parser};
use describe::Described;
use udp::{Received, Sockets};

/// Longest wait for the rest of a reply when a connection is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the host to take a publisher.
const PUBLISH_ACCEPT: Duration = Duration::from_secs(10);
const REPORT_EVERY: Duration = Duration::from_secs(5);

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a connection waits for on behalf of its session.
enum Done<S: Streams> {
    Described(Result<Described<S>, Error>),
    Published(Result<S::Intake, Error>),
    Talk(Result<S::Voice, Error>),
}

/// Why a connection ended without a fault of its socket.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("{0}")]
    Session(#[from] Reason),
    #[error("the peer has closed it")]
    Eof,
    #[error("{0}")]
    Stream(String),
    #[error("{0}")]
    Wire(#[from] crate::wire::WireError),
    #[error("silence")]
    Silent,
    #[error("TLS without a certificate in the settings")]
    NoTls,
    #[error("HTTP that is no tunnel")]
    NotRtsp,
    #[error("joined its tunnel")]
    Joined,
}

/// How a connection comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Plain,
    Tls,
    Http,
    WebSocket,
}

struct Connection<S: Streams> {
    server: Arc<Server<S>>,
    session: Session,
    parser: Parser,
    writer: Writer<Link>,
    way: Way,
    remote: SocketAddr,
    local: SocketAddr,
    work: Option<Boxed<Done<S>>>,
    /// A player's.
    described: Option<Described<S>>,
    over: Option<watch::Receiver<Option<String>>>,
    history: History,
    /// What a player says.
    ear: Option<Ear<S::Voice>>,
    /// A publisher's.
    announced: Option<(String, Bytes, String)>,
    ingest: Option<Ingest<S::Intake>>,
    sockets: BTreeMap<usize, Sockets>,
    received: Received,
    viewer: Option<Arc<Datagrams>>,
    group: Option<Arc<Group>>,
    sending: Option<Boxed<()>>,
    report: Interval,
}

/// Whether this client has to log in.
pub(super) fn asks_login(config: &super::Config, remote: SocketAddr) -> bool {
    !config.username.is_empty() && (config.local_auth || !is_loopback(remote))
}

/// Serves one connection to its end. `first` is what came already.
pub(super) async fn serve<S: Streams>(
    server: Arc<Server<S>>,
    link: Link,
    Ends { local, remote }: Ends,
    way: Way,
    first: BytesMut,
) -> io::Result<End> {
    let config = &server.config;
    let needs_login = asks_login(config, remote);
    let nonce = format!("{:032x}", rand::random::<u128>());
    let session = session::Config {
        id: format!("{:016x}", rand::random::<u64>()),
        login: needs_login.then(|| Login::new(&config.username, &config.password, nonce)),
        has_multicast: !config.multicast.is_empty(),
        origin: format!("{}://{local}", if way == Way::Tls { "rtsps" } else { "rtsp" }),
    };
    let mut parser = Parser::new();
    parser.push(&first);
    let mut report = tokio::time::interval_at(Instant::now() + REPORT_EVERY, REPORT_EVERY);
    report.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let connection = Connection {
        session: Session::new(session, server.clock.at()),
        parser,
        writer: Writer::new(link),
        way,
        remote,
        local,
        work: None,
        described: None,
        over: None,
        history: History::default(),
        ear: None,
        announced: None,
        ingest: None,
        sockets: BTreeMap::new(),
        received: Received::new(),
        viewer: None,
        group: None,
        sending: None,
        report,
        server,
    };
    connection.run().await
}

impl<S: Streams> Connection<S> {
    async fn run(mut self) -> io::Result<End> {
        let end = self.drive().await;
        if let Some(ingest) = &mut self.ingest {
            let _ = ingest.flush(self.server.clock.at());
        }
        self.count();
        self.writer.leave();
        // What was said last, such as the answer to TEARDOWN.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.writer.flush()).await;
        end
    }

    async fn drive(&mut self) -> io::Result<End> {
        if let Some(end) = self.read() {
            return Ok(end);
        }
        loop {
            if let Some(end) = self.outputs() {
                return Ok(end);
            }
            let now = self.server.clock.at();
            let wake = self.session.wake_at().map(|at| Instant::now() + at.saturating_sub(now));
            // A publisher that is ahead of real time waits in its socket.
            let hurry = self
                .ingest
                .as_ref()
                .and_then(|ingest| ingest.due().checked_sub(now))
                .filter(|ahead| !ahead.is_zero());
            let reads = hurry.is_none();
            let socket = Arc::clone(self.writer.socket());
            tokio::select! {
                () = or_pending(hurry.map(sleep)) => {}
                ready = socket.readable(), if reads => {
                    ready?;
                    match socket.try_read_buf(self.parser.buffer_mut()) {
                        Ok(0) => return Ok(End::Eof),
                        Ok(_) => if let Some(end) = self.read() { return Ok(end) },
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                error = self.writer.drive() => return Err(error.into()),
                () = or_pending(wake.map(sleep_until)) => self.session.timeout(self.server.clock.at()),
                done = or_pending(self.work.as_mut()) => {
                    self.work = None;
                    self.done(done);
                }
                bound = or_pending(self.described.as_mut().map(|described| described.claim.next())) => match bound {
                    // What changes within the tracks is told by the ring.
                    Ok(bound) => if let Some(end) = self.rebound(&bound) { return Ok(end) },
                    Err(error) => return Ok(End::Stream(error.message)),
                },
                reason = or_pending(self.over.as_mut().map(room_over)) => return Ok(End::Stream(reason)),
                error = or_pending(self.ingest.as_mut().map(Ingest::ended)) => return Ok(End::Stream(error.message)),
                error = or_pending(self.ear.as_mut().map(Ear::ended)) => {
                    tracing::debug!(remote = %self.remote, "no longer heard: {error}");
                    self.ear = None;
                }
                () = or_pending(self.sending.as_mut()) => self.sending = None,
                datagram = self.received.next(), if reads => {
                    if let Some(end) = self.packet(datagram.track, datagram.is_rtcp, &datagram.data) {
                        return Ok(end);
                    }
                }
                _ = self.report.tick() => self.count(),
            }
        }
    }

    /// Sends what the session says, and does what it asks for.
    fn outputs(&mut self) -> Option<End> {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(bytes) => {
                    if let Err(error) = self.writer.send(bytes) {
                        return Some(End::Stream(error.to_string()));
                    }
                }
                Output::Close(reason) => return Some(reason.into()),
                Output::Event(event) => self.event(event),
            }
        }
        None
    }

    /// What the connection brought.
    fn read(&mut self) -> Option<End> {
        loop {
            match self.parser.next_item() {
                Ok(None) => return None,
                Ok(Some(Item::Request(request))) => {
                    self.session.request(self.server.clock.at(), request);
                    if let Some(end) = self.outputs() {
                        return Some(end);
                    }
                }
                Ok(Some(Item::Interleaved { channel, data })) => {
                    if let Some((track, is_rtcp)) = self.session.of_channel(channel)
                        && let Some(end) = self.packet(track, is_rtcp, &data)
                    {
                        return Some(end);
                    }
                }
                Ok(Some(Item::Response(_))) => {}
                Err(error) => return Some(error.into()),
            }
        }
    }

    /// A packet of the peer: a publisher's media, or a player's receiver report.
    fn packet(&mut self, track: usize, is_rtcp: bool, data: &Bytes) -> Option<End> {
        let now = self.server.clock.at();
        self.session.alive(now);
        if !self.session.is_publishing() {
            let is_talk = !is_rtcp && self.session.is_playing() && self.session.talk_track() == Some(track);
            if let Some(Err(error)) = self.ear.as_mut().filter(|_| is_talk).map(|ear| ear.packet(data, now)) {
                tracing::debug!(remote = %self.remote, "no longer heard: {error}");
                self.ear = None;
            }
            return None;
        }
        // Before RECORD was answered, or even asked (S61).
        let set_up = self.session.paths();
        if let Err(error) = self.start_ingest(&set_up) {
            return Some(End::Stream(error.message));
        }
        let pushed = self.ingest.as_mut().map(|ingest| ingest.packet(track, is_rtcp, data, now));
        pushed.and_then(Result::err).map(|error| End::Stream(error.message))
    }

    /// The stream is bound anew. The same tracks go on; others cannot under the description that the player has.
    fn rebound(&mut self, bound: &patchbay_sdk::api::message::Bound) -> Option<End> {
        let described = self.described.as_ref()?;
        // Nothing bound: the source is away, and may come back.
        let goes_on = bound.tracks.is_empty()
            || described.wanted.iter().all(|wanted| {
                bound.tracks.iter().any(|track| {
                    track.source == wanted.source
                        && track.info.id == wanted.track
                        && track.info.codec == wanted.parameters.codec.name()
                })
            });
        let list = |codecs: Vec<&str>| codecs.join(" + ");
        (!goes_on).then(|| {
            let now = list(bound.tracks.iter().map(|track| track.info.codec.as_str()).collect());
            let told = list(described.wanted.iter().map(|wanted| wanted.parameters.codec.name()).collect());
            if now == told {
                return End::Stream(
                    "the stream has another source now, the player must ask again".to_owned(),
                );
            }
            End::Stream(format!("the stream is {now} now, the player was told {told} and must ask again"))
        })
    }

    /// Tells the host what this player got.
    fn count(&self) {
        if let Some(described) = &self.described {
            let sent = self.writer.sent();
            described.claim.counters(&ConsumerCounters {
                bytes: sent.bytes,
                packets: sent.buffers,
                drops: sent.skipped,
            });
        }
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Why the room is over, once it is.
async fn room_over(over: &mut watch::Receiver<Option<String>>) -> String {
    match over.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
        Ok(Some(reason)) => reason,
        _ => pending().await,
    }
}
