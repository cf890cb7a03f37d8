//! The fan-out: pushing buffers and the list of viewers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::counters::Counters;
use crate::log::{Buffer, Limits, Log, Position, Tracks};
use crate::socket::Socket;
use crate::viewer::{Offer, Rewrite, Shared, Writer};

/// Viewers that may have left before the list is cleaned outside a push.
const GONE_MAX: usize = 64;

/// Tells one join from every other, also of other fan-outs.
static NEXT_TOKEN: AtomicU64 = AtomicU64::new(0);

/// One flow of buffers and the viewers that follow it. Cheap to clone: a handle.
pub struct Fanout<S, M = ()> {
    pub(crate) inner: Arc<Inner<S, M>>,
}

/// How a viewer joins.
pub struct Join<M = ()> {
    /// Tracks that it wants.
    pub tracks: Tracks,
    /// Those of them that can only be entered at a key buffer.
    pub keyed: Tracks,
    /// Tracks of which nothing is sent before a key buffer comes.
    pub await_key: Tracks,
    /// The first buffer that it gets: at most [`Fanout::end`].
    pub position: Position,
    /// Written before that buffer: a reply, headers, history.
    pub head: Vec<Bytes>,
    /// Changes buffers for this viewer alone.
    pub rewrite: Option<Box<dyn Rewrite<M>>>,
}

pub(crate) struct Inner<S, M> {
    pub(crate) log: Mutex<Log<M>>,
    pub(crate) counters: Counters,
    /// Held while pushing: the viewers, and a scratch buffer for rewriting.
    pass: Mutex<Pass<S, M>>,
    /// Viewers that joined since the last push.
    joins: Mutex<Vec<Entry<S, M>>>,
    /// Viewers that left and are still in the list.
    gone: AtomicUsize,
}

struct Pass<S, M> {
    viewers: Vec<Entry<S, M>>,
    scratch: BytesMut,
}

struct Entry<S, M> {
    viewer: Arc<Shared<S, M>>,
    /// Which join of that viewer.
    token: u64,
}

impl<S: Socket, M: Clone + Send + 'static> Fanout<S, M> {
    /// An empty fan-out.
    pub fn new(limits: Limits) -> Self {
        Self {
            inner: Arc::new(Inner {
                log: Mutex::new(Log::new(limits)),
                counters: Counters::default(),
                pass: Mutex::new(Pass { viewers: Vec::new(), scratch: BytesMut::new() }),
                joins: Mutex::new(Vec::new()),
                gone: AtomicUsize::new(0),
            }),
        }
    }

    /// Writes `buffer` to every viewer that keeps up and puts it into the log for the others. Never waits for a socket;
    /// takes one `write` per viewer. An empty buffer is ignored.
    pub fn push(&self, buffer: Buffer<M>) -> Position {
        if buffer.bytes.is_empty() {
            return self.end();
        }
        let inner = &*self.inner;
        let mut pass = inner.pass.lock();
        let position = inner.log.lock().push(buffer.clone());
        pass.viewers.append(&mut inner.joins.lock());
        let Pass { viewers, scratch } = &mut *pass;
        let (mut writes, mut written, mut stalls) = (0, 0, 0);
        let before = viewers.len();
        viewers.retain(|entry| match entry.viewer.offer(entry.token, position, &buffer, scratch) {
            Offer::Gone => false,
            Offer::Nothing => true,
            Offer::Written { bytes, stalled } => {
                writes += 1;
                written += bytes;
                stalls += usize::from(stalled);
                true
            }
        });
        let removed = before - viewers.len();
        drop(pass);
        inner.forget(removed);
        Counters::add(&inner.counters.buffers, 1);
        Counters::add(&inner.counters.bytes, buffer.bytes.len());
        Counters::add(&inner.counters.writes, writes);
        Counters::add(&inner.counters.written, written);
        Counters::add(&inner.counters.stalls, stalls);
        position
    }

    /// The position of the buffer that is pushed next.
    pub fn end(&self) -> Position {
        self.inner.log.lock().end()
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Attaches `writer`: it sends `join.head`, then the buffers from `join.position` on. A writer that follows another
    /// fan-out leaves that one.
    pub fn join(&self, writer: &Writer<S, M>, join: Join<M>) {
        let inner = &*self.inner;
        // Relaxed: only uniqueness matters.
        let token = NEXT_TOKEN.fetch_add(1, Relaxed);
        writer.leave();
        // Attached first, so that a push does not take it for gone; listed before it writes, so that none passes it by.
        writer.attach(self.clone(), token, join);
        inner.joins.lock().push(Entry { viewer: Arc::clone(&writer.shared), token });
        Counters::add(&inner.counters.joined, 1);
        writer.write_now();
    }
}

impl<S: Socket, M: Clone + Send + 'static> Inner<S, M> {
    /// A viewer left: its entry goes with the next push, or now when many have gone and nothing is pushed.
    pub(crate) fn left(&self) {
        Counters::add(&self.counters.left, 1);
        // Relaxed: a hint; the list itself is guarded by its lock.
        if self.gone.fetch_add(1, Relaxed) < GONE_MAX {
            return;
        }
        let Some(mut pass) = self.pass.try_lock() else { return };
        pass.viewers.append(&mut self.joins.lock());
        let before = pass.viewers.len();
        pass.viewers.retain(|entry| entry.viewer.follows(entry.token));
        let removed = before - pass.viewers.len();
        drop(pass);
        self.forget(removed);
    }

    fn forget(&self, removed: usize) {
        if removed > 0 {
            let _ = self.gone.fetch_update(Relaxed, Relaxed, |gone| Some(gone.saturating_sub(removed)));
        }
    }
}

impl<S, M> Clone for Fanout<S, M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<S, M> fmt::Debug for Fanout<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fanout").field("counters", &self.inner.counters).finish_non_exhaustive()
    }
}
