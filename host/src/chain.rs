//! A transport, or the body of a request, feeding a demuxer: the host carries the bytes, so that neither knows the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use patchbay_plugin_api::Code;
use patchbay_plugin_api::message::{
    Class, Connection, Credit, Demand, DemuxerOpen, Ended, Head, Seek, command,
};
use tokio::sync::{Notify, watch};

use crate::app::App;
use crate::instance::Instance;

/// Bytes that are looked at to find the format, when fewer do not tell it.
const PROBE: usize = 1024;

/// No more bytes for so long: those that are there must do, with the MIME type.
const HURRY: Duration = Duration::from_millis(300);

/// After so long they are of no format.
const PROBE_TIME: Duration = Duration::from_secs(5);

/// Bytes that a transport may have outstanding, with one whole write above it.
const WINDOW: usize = (256 << 10) + (1 << 20);

/// One source made of two sessions, or of a request's body and a session.
pub struct Chain {
    /// The source it feeds.
    pub source: u64,
    url: String,
    from: From,
    state: Mutex<State>,
    /// Why it is over, for the sender of a body.
    fate: watch::Sender<Option<Ended>>,
}

/// Where the bytes come from.
enum From {
    Transport {
        instance: Arc<Instance>,
        session: u64,
    },
    /// The body of a request; who reads it is woken when there is room again.
    Body(Notify),
}

#[derive(Default)]
struct State {
    head: Head,
    first: Vec<u8>,
    /// When the first and the last of them came.
    first_at: Option<(Instant, Instant)>,
    demuxer: Option<(Arc<Instance>, u64)>,
    /// It is no demuxer but a publisher.
    publisher: bool,
    outstanding: usize,
    seeking: bool,
    closed: bool,
    demand: Option<Demand>,
}

impl Chain {
    /// A chain whose transport is about to be opened.
    pub fn new(source: u64, url: &str, instance: Arc<Instance>, session: u64) -> Self {
        let from = From::Transport { instance, session };
        let (url, fate) = (url.to_owned(), watch::channel(None).0);
        Self { source, url, from, state: Mutex::default(), fate }
    }

    /// A chain from the body of a request to the publisher `source`.
    pub(crate) fn of_body(source: u64, head: Head) -> Self {
        let state = Mutex::new(State { head, ..State::default() });
        let (url, fate) = (String::new(), watch::channel(None).0);
        Self { source, url, from: From::Body(Notify::new()), state, fate }
    }

    /// There may be room for more of the body.
    pub(crate) async fn room(&self) {
        match &self.from {
            From::Body(room) => room.notified().await,
            From::Transport { .. } => std::future::pending().await,
        }
    }

    /// Completes when it is over.
    pub(crate) async fn over(&self) -> Ended {
        let mut fate = self.fate.subscribe();
        let ended = fate.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        ended.unwrap_or_default()
    }

    /// It is over; the first reason counts.
    pub(crate) fn finish(&self, ended: &Ended) {
        self.fate.send_if_modified(|fate| {
            let first = fate.is_none();
            if first {
                *fate = Some(ended.clone());
            }
            first
        });
    }

    fn credit(&self, bytes: u64) {
        match &self.from {
            From::Transport { instance, session } => {
                instance.command(*session, command::WRITABLE, &Credit { bytes });
            }
            From::Body(room) => room.notify_one(),
        }
    }

    pub(crate) fn is_demuxer(&self, ctx: u64, session: u64) -> bool {
        self.state.lock().demuxer.as_ref().is_some_and(|(instance, id)| instance.ctx == ctx && *id == session)
    }

    /// The session of its transport.
    pub(crate) fn transport(&self) -> Option<(&Arc<Instance>, u64)> {
        match &self.from {
            From::Transport { instance, session } => Some((instance, *session)),
            From::Body(_) => None,
        }
    }

    pub(crate) fn head(&self, head: Head) {
        self.state.lock().head = head;
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.state.lock().closed
    }

    /// The publisher that the transport expects has come.
    pub(crate) fn published(&self, instance: &Arc<Instance>, session: u64) {
        let mut state = self.state.lock();
        instance.command_bytes(session, command::ACCEPTED, Bytes::from_static(b"{}"));
        if let Some(demand) = &state.demand {
            instance.command(session, command::DEMAND, demand);
        }
        state.demuxer = Some((Arc::clone(instance), session));
        state.publisher = true;
        if let From::Transport { instance, session } = &self.from {
            instance.command_bytes(*session, command::ACCEPTED, Bytes::from_static(b"{}"));
        }
    }

    /// Adds what the transport knows to the description of the connection.
    pub(crate) fn describe(&self, connection: &mut Connection) {
        let state = self.state.lock();
        let known = &state.head.connection;
        for (field, value) in [
            (&mut connection.protocol, &known.protocol),
            (&mut connection.remote_addr, &known.remote_addr),
            (&mut connection.user_agent, &known.user_agent),
            (&mut connection.source, &known.source),
        ] {
            if field.is_empty() {
                field.clone_from(value);
            }
        }
    }

    /// Bytes of the transport; none: it has come to the end (a seek may follow).
    pub(crate) fn data(self: &Arc<Self>, app: &App, data: &[u8]) -> Code {
        let mut state = self.state.lock();
        if state.closed {
            return Code::Closed;
        }
        if state.publisher || !state.head.expect.is_empty() {
            // The end of a program that published; its session says the rest.
            return Code::Ok;
        }
        if state.seeking {
            // Read before the transport heard of the seek; it has forgotten its window by then.
            return Code::Ok;
        }
        if state.outstanding > WINDOW {
            return Code::Busy;
        }
        state.outstanding += data.len();
        if let Some((instance, session)) = &state.demuxer {
            if data.is_empty() {
                instance.command(
                    *session,
                    command::DATA_END,
                    &Ended { class: Class::Eof, ..Ended::default() },
                );
            } else {
                instance.command_bytes(*session, command::DATA, Bytes::copy_from_slice(data));
            }
            return Code::Ok;
        }
        state.first.extend_from_slice(data);
        let enough = data.is_empty() || state.first.len() >= PROBE;
        if !enough && !app.catalogue().is_sure(&state.head, &state.first) {
            let now = Instant::now();
            state.first_at = Some((state.first_at.map_or(now, |(first, _)| first), now));
            state.outstanding = 0;
            self.credit(data.len() as u64);
            return Code::Ok;
        }
        self.open(app, state, data.len(), data.is_empty())
    }

    /// Called now and then: bytes that came a while ago are looked at though they are few.
    pub(crate) fn hurry(self: &Arc<Self>, app: &App) {
        let state = self.state.lock();
        let Some((first, last)) = state.first_at.filter(|_| state.demuxer.is_none() && !state.closed) else {
            return;
        };
        let known = || app.catalogue().demuxer(&state.head, &state.first).is_some();
        if first.elapsed() > PROBE_TIME || (last.elapsed() > HURRY && known()) {
            self.open(app, state, 0, false);
        }
    }

    /// Opens the demuxer that knows the first bytes, of which the last `fresh` were not credited yet.
    fn open(self: &Arc<Self>, app: &App, mut state: MutexGuard<'_, State>, fresh: usize, end: bool) -> Code {
        let first = std::mem::take(&mut state.first);
        state.first_at = None;
        let catalogue = app.catalogue();
        let found = catalogue.demuxer(&state.head, &first);
        let Some((entry, demuxes)) = found else {
            let hex: String = first.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            let message = if first.is_empty() {
                "magic: EOF before the first byte".to_owned()
            } else {
                format!("magic: unsupported header: {hex}")
            };
            drop(state);
            app.chain_failed(self, Ended { class: Class::Unsupported, message, retry_after_ms: 0 });
            return Code::Closed;
        };
        let open =
            DemuxerOpen { format: demuxes.format.clone(), url: self.url.clone(), head: state.head.clone() };
        let name = entry.manifest.name.clone();
        let Some((instance, session)) = app.open_demuxer(self, &name, &open) else {
            drop(state);
            let message = format!("plugin {name} cannot be started: see its lines in the log");
            app.chain_failed(self, Ended { class: Class::Unsupported, message, retry_after_ms: 0 });
            return Code::Closed;
        };
        if let Some(demand) = &state.demand {
            instance.command(session, command::DEMAND, demand);
        }
        state.outstanding = fresh;
        if !first.is_empty() {
            instance.command_bytes(session, command::DATA, Bytes::from(first));
        }
        if end {
            instance.command(session, command::DATA_END, &Ended { class: Class::Eof, ..Ended::default() });
        }
        state.demuxer = Some((instance, session));
        Code::Ok
    }

    /// The demuxer took bytes.
    pub(crate) fn consumed(&self, bytes: u64) {
        let mut state = self.state.lock();
        if state.seeking {
            return;
        }
        let bytes = bytes.min(state.outstanding as u64);
        state.outstanding -= bytes as usize;
        self.credit(bytes);
    }

    /// The demuxer wants other bytes.
    pub(crate) fn seek(&self, offset: u64) {
        // A body cannot go back, and its head says so.
        let From::Transport { instance, session } = &self.from else { return };
        let mut state = self.state.lock();
        state.seeking = true;
        state.outstanding = 0;
        instance.command(*session, command::SEEK, &Seek { offset });
    }

    /// The transport goes on from there.
    pub(crate) fn sought(&self, offset: u64) {
        let mut state = self.state.lock();
        state.seeking = false;
        if let Some((instance, session)) = &state.demuxer {
            instance.command(*session, command::DATA_AT, &Seek { offset });
        }
    }

    pub(crate) fn demand(&self, demand: &Demand) {
        let mut state = self.state.lock();
        state.demand = Some(demand.clone());
        if let Some((instance, session)) = &state.demuxer {
            instance.command(*session, command::DEMAND, demand);
        }
    }

    /// The transport broke or ended. False: there is no demuxer that could tell, the source is over.
    pub(crate) fn transport_ended(&self, ended: &Ended) -> bool {
        let state = self.state.lock();
        match &state.demuxer {
            Some(_) if state.publisher => state.closed,
            Some((instance, session)) => {
                instance.command(*session, command::DATA_END, ended);
                true
            }
            None => state.closed,
        }
    }

    /// Ends both sessions.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.closed, true) {
            match &self.from {
                From::Transport { instance, session } => instance.close(*session),
                From::Body(room) => room.notify_one(),
            }
            match &state.demuxer {
                Some((instance, session)) if state.publisher => {
                    let message = "the program that published is to end".to_owned();
                    let ended = Ended { class: Class::Eof, message, retry_after_ms: 0 };
                    instance.command(*session, command::REFUSED, &ended);
                }
                Some((instance, session)) => instance.close(*session),
                None => {}
            }
        }
    }
}
