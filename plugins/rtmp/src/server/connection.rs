//! One connection: the socket and timers around a [`Session`].

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_fanout::Writer;
use patchbay_sdk::api::message::{Bound, Connection as Shown, ConsumerCounters};
use patchbay_sdk::server::is_unknown;
use patchbay_sdk::{Error, or_pending};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, sleep_until};

use super::Server;
use super::play::{Claim, Meta, Wanted, claim, wanted_of};
use super::publish::Ingest;
use crate::session::login::Verdict;
use crate::session::server::{Event, Phase, Session};
use crate::wire::handshake::BLOCK_BYTES;

/// From the connection to the wish to play or publish.
const WISH_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a publisher.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);
/// Encoders show the reason of a refusal when the connection stays a little.
const REFUSED_LINGER: Duration = Duration::from_secs(1);
/// Longest wait for the rest of a reply when a connection is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Bytes of one read from a publisher.
const READ_BYTES: usize = 64 << 10;
/// Bytes of one read from anybody else: there may be many, and they say little.
const READ_FEW_BYTES: usize = 4 << 10;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a connection waits for on behalf of its session.
enum Done {
    Claimed(Result<Claim, Error>),
    Published(Box<Result<Ingest, Error>>),
}

/// Why a connection ended without a fault of its socket.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// It broke the protocol.
    #[error("{0}")]
    Session(#[from] crate::session::Error),
    /// It was closed.
    #[error("the peer has closed it")]
    Eof,
    /// It was too slow to say what it wants, or fell silent.
    #[error("nothing came in time")]
    Timeout,
    /// It was refused.
    #[error("refused")]
    Refused,
    /// The stream is over, or its codec is another.
    #[error("{0}")]
    Stream(String),
}

struct Connection {
    server: Arc<Server>,
    session: Session,
    writer: Writer<TcpStream, Meta>,
    remote: SocketAddr,
    work: Option<Boxed<Done>>,
    playing: Option<Claim>,
    over: Option<watch::Receiver<Option<String>>>,
    /// The player's newest time, in milliseconds.
    newest: Arc<AtomicI64>,
    ingest: Option<Ingest>,
    buffer: BytesMut,
    /// A publisher that is ahead of real time waits in its socket until then.
    reads_at: Instant,
    deadline: Instant,
    report: Interval,
}

/// Serves one connection to its end.
pub async fn serve(server: Arc<Server>, stream: TcpStream, remote: SocketAddr) -> io::Result<End> {
    let mut report = tokio::time::interval_at(Instant::now() + REPORT_EVERY, REPORT_EVERY);
    report.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let random: [u8; BLOCK_BYTES] = rand::random();
    let session = if server.asks_login(remote) { Session::with_login(random) } else { Session::new(random) };
    let connection = Connection {
        server,
        session,
        writer: Writer::new(stream),
        remote,
        work: None,
        playing: None,
        over: None,
        newest: Arc::default(),
        ingest: None,
        buffer: BytesMut::new(),
        reads_at: Instant::now(),
        deadline: Instant::now() + WISH_TIMEOUT,
        report,
    };
    connection.run().await
}

impl Connection {
    async fn run(mut self) -> io::Result<End> {
        let end = self.drive().await;
        if let Some(ingest) = &mut self.ingest {
            let _ = ingest.flush();
        }
        self.count();
        self.writer.leave();
        // What was said last, such as why it is over.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.writer.flush()).await;
        end
    }

    async fn drive(&mut self) -> io::Result<End> {
        loop {
            match self.events() {
                Ok(None) => {}
                Ok(Some(end)) | Err(end) => return Ok(end),
            }
            let has_deadline = self.session.phase() != Phase::Playing;
            // While it waits for its answer, what it sends on waits too.
            let is_ahead = self.reads_at > Instant::now();
            let reads = self.session.phase() != Phase::Asking && !is_ahead;
            let socket = Arc::clone(self.writer.socket());
            tokio::select! {
                () = sleep_until(self.reads_at), if is_ahead => {}
                ready = socket.readable(), if reads => {
                    ready?;
                    let publishes = self.session.phase() == Phase::Publishing;
                    self.buffer.reserve(if publishes { READ_BYTES } else { READ_FEW_BYTES });
                    match socket.try_read_buf(&mut self.buffer) {
                        Ok(0) => return Ok(End::Eof),
                        Ok(_) => {
                            let data = self.buffer.split();
                            if let Err(error) = self.session.receive(&data) {
                                return Ok(error.into());
                            }
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                error = self.writer.drive() => return Err(error.into()),
                () = sleep_until(self.deadline), if has_deadline => {
                    let refused = self.session.phase() == Phase::Refused;
                    return Ok(if refused { End::Refused } else { End::Timeout });
                }
                done = or_pending(self.work.as_mut()) => {
                    self.work = None;
                    if let Some(end) = self.done(done) {
                        return Ok(end);
                    }
                }
                bound = or_pending(self.playing.as_mut().map(|claim| claim.consumer.next())) => match bound {
                    Ok(bound) => self.rebound(&bound),
                    Err(error) => self.over(error.message),
                },
                reason = or_pending(self.over.as_mut().map(room_over)) => {
                    tracing::debug!(remote = %self.remote, "the source is away: {reason}");
                    self.away();
                }
                error = or_pending(self.ingest.as_mut().map(Ingest::ended)) => self.over(error.message),
                _ = self.report.tick() => self.count(),
            }
        }
    }

    /// Does what the session asks for.
    fn events(&mut self) -> Result<Option<End>, End> {
        while let Some(event) = self.session.poll()? {
            match event {
                Event::Connect(app) => match self.server.judge(&app) {
                    Verdict::Allowed => self.session.connected(),
                    Verdict::Refused(description) => {
                        self.session.reject(&description);
                        self.deadline = Instant::now() + REFUSED_LINGER;
                    }
                },
                Event::Play(wish) => {
                    self.deadline = Instant::now() + SILENCE_TIMEOUT * 2;
                    let shown = self.shown(&wish.user_agent);
                    let (context, hub) = (self.server.context.clone(), Arc::clone(&self.server.hub));
                    let claim = claim(context, hub, wish, shown);
                    self.work = Some(Box::pin(async { Done::Claimed(claim.await) }));
                }
                Event::Publish(wish) => {
                    self.deadline = Instant::now() + SILENCE_TIMEOUT * 2;
                    let shown = self.shown(&wish.user_agent);
                    let open = Ingest::open(self.server.context.clone(), wish, shown);
                    self.work = Some(Box::pin(async { Done::Published(Box::new(open.await)) }));
                }
                Event::Media { kind, timestamp, body } => {
                    match self.ingest.as_mut().map(|i| i.push(kind, timestamp, &body)) {
                        Some(Ok(ahead)) => self.reads_at = self.reads_at.max(Instant::now() + ahead),
                        Some(Err(error)) => return Ok(Some(End::Stream(error.message))),
                        None => {}
                    }
                    self.deadline = self.reads_at.max(Instant::now()) + SILENCE_TIMEOUT;
                }
                Event::Stop => {
                    if let Some(ingest) = &mut self.ingest {
                        let _ = ingest.flush();
                    }
                    self.count();
                    self.leave();
                    self.deadline = Instant::now() + WISH_TIMEOUT;
                }
            }
        }
        self.send();
        Ok(None)
    }

    /// Sends what the session has to say. A socket that failed is found by [`Writer::drive`].
    fn send(&mut self) {
        let bytes = self.session.take();
        if !bytes.is_empty() {
            let _ = self.writer.send(bytes);
        }
    }

    fn done(&mut self, done: Done) -> Option<End> {
        match done {
            Done::Claimed(Ok(claim)) => {
                self.session.played(&claim.name);
                let reply = self.session.take();
                self.playing = Some(claim);
                if let Err(error) = self.join(reply) {
                    return Some(End::Stream(error.message));
                }
            }
            Done::Claimed(Err(error)) => self.refuse(&error),
            Done::Published(published) => match *published {
                Ok(ingest) => {
                    tracing::info!(stream = ingest.name, remote = %self.remote, "publisher");
                    self.session.published(&ingest.name);
                    self.deadline = Instant::now() + SILENCE_TIMEOUT;
                    self.ingest = Some(ingest);
                }
                Err(error) => self.refuse(&error),
            },
        }
        None
    }

    fn refuse(&mut self, error: &Error) {
        tracing::debug!(remote = %self.remote, "refused: {error}");
        self.session.refuse(is_unknown(error), &error.message);
        self.deadline = Instant::now() + REFUSED_LINGER;
    }

    /// What it played or published is over; it is told, and closed a little later.
    fn over(&mut self, reason: String) {
        tracing::info!(remote = %self.remote, "closed: {reason}");
        self.count();
        self.leave();
        self.session.over(&reason);
        self.deadline = Instant::now() + REFUSED_LINGER;
    }

    /// The stream is bound anew: the player goes on with what there is now.
    fn rebound(&mut self, bound: &Bound) {
        let Some(claim) = &mut self.playing else { return };
        let wanted = wanted_of(bound);
        let key = |w: &Wanted| (w.source, w.track, w.parameters.codec);
        if wanted.is_empty()
            || wanted.iter().map(key).eq(claim.wanted.iter().map(key)) && claim.room.is_some()
        {
            // Away, or not known yet, or what it has.
            return;
        }
        match self.server.hub.room(&wanted) {
            Ok(room) => {
                claim.room = Some(room);
                claim.wanted = wanted;
                if let Err(error) = self.join(Bytes::new()) {
                    self.over(error.message);
                }
            }
            Err(error) => self.over(error.message),
        }
    }

    /// Follows the room of the claim.
    fn join(&mut self, reply: Bytes) -> Result<(), Error> {
        let Some((claim, room)) = self.playing.as_ref().and_then(|claim| Some((claim, claim.room.as_ref()?)))
        else {
            return Ok(());
        };
        room.join(reply, claim.history, &self.writer, Arc::clone(&self.newest))?;
        self.over = Some(room.over());
        Ok(())
    }

    /// The source is gone; another one may come.
    fn away(&mut self) {
        self.writer.leave();
        self.over = None;
        if let Some(claim) = &mut self.playing {
            claim.room = None;
        }
    }

    /// Ends what was played or published.
    fn leave(&mut self) {
        self.writer.leave();
        self.work = None;
        self.playing = None;
        self.over = None;
        self.newest = Arc::default();
        self.ingest = None;
    }

    fn shown(&self, user_agent: &str) -> Shown {
        Shown {
            format_name: "rtmp".to_owned(),
            protocol: "rtmp".to_owned(),
            remote_addr: self.remote.to_string(),
            user_agent: user_agent.chars().take(200).collect(),
            ..Shown::default()
        }
    }

    /// Tells the host what this player got.
    fn count(&self) {
        if let Some(claim) = &self.playing {
            let sent = self.writer.sent();
            claim.consumer.counters(&ConsumerCounters {
                bytes: sent.bytes,
                packets: sent.buffers,
                drops: sent.skipped,
            });
        }
    }
}

/// Why the room is over, once it is.
async fn room_over(over: &mut watch::Receiver<Option<String>>) -> String {
    match over.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
        Ok(Some(reason)) => reason,
        _ => pending().await,
    }
}
