//! One viewer: its socket, what it must still be sent, and where it is in the log.

mod feed;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::counters::Counters;
use crate::log::{Buffer, Position};
use crate::pass::{Fanout, Join};
use crate::socket::Socket;
use feed::{Feed, Next};

/// Bytes of replies that may wait behind a full socket (256 KiB). A peer that asks on without reading is cut off.
const REPLIES_MAX: usize = 256 << 10;

/// Slices of one vectored write.
const BATCH: usize = 16;

/// Changes buffers for one viewer, such as other channel numbers or times that start at 0.
pub trait Rewrite<M>: Send {
    /// Puts what replaces the first bytes of `buffer` into `head` (empty when called) and answers how many bytes that
    /// is. 0 sends the buffer as it is, its whole length sends only `head`. Called once per buffer, in order.
    /// Skipping all of them with an empty head leaves the buffer out for this viewer.
    fn rewrite(&mut self, buffer: &Buffer<M>, head: &mut BytesMut) -> usize;
}

/// Why [`Writer::send`] did not take the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The socket failed.
    Closed,
    /// More than 256 KiB of replies wait already.
    Full,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection is closed",
            Self::Full => "the peer does not read its replies",
        })
    }
}

impl std::error::Error for SendError {}

/// The writing side of one socket. All that is ever written to it goes through here, so nothing cuts into a buffer.
/// Dropping it leaves the fan-out.
pub struct Writer<S: Socket, M: Clone + Send + 'static = ()> {
    socket: Arc<S>,
    pub(crate) shared: Arc<Shared<S, M>>,
}

/// What one viewer was sent since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Bytes that its socket took, replies included.
    pub bytes: u64,
    /// Buffers that were written, or whose writing began.
    pub buffers: u64,
    /// Buffers that it missed because it was slow.
    pub skipped: u64,
}

pub(crate) struct Shared<S, M> {
    state: Mutex<State<S, M>>,
    /// The viewer's own task has something to do.
    wake: Notify,
    /// All that waited was written.
    progress: Notify,
}

struct State<S, M> {
    /// `None` once the writer is dropped: the descriptor must not live until the next push.
    socket: Option<Arc<S>>,
    /// To be written before the log goes on: the rest of a buffer, then replies.
    first: VecDeque<Bytes>,
    first_len: usize,
    /// Bytes of replies added since nothing waited.
    replies_len: usize,
    feed: Option<Feed<S, M>>,
    /// Everything was written. Only then does the pushing task write.
    idle: bool,
    error: Option<io::ErrorKind>,
    sent: Sent,
}

/// What became of a buffer that was offered.
pub(crate) enum Offer {
    /// This viewer does not follow any more.
    Gone,
    /// Nothing to write, or its own task will.
    Nothing,
    /// One `write` was made.
    Written { bytes: usize, stalled: bool },
}

enum Flush {
    Idle,
    Blocked,
}

impl<S: Socket, M: Clone + Send + 'static> Writer<S, M> {
    /// A writer that follows nothing yet.
    pub fn new(socket: S) -> Self {
        let socket = Arc::new(socket);
        let state = State {
            socket: Some(Arc::clone(&socket)),
            first: VecDeque::new(),
            first_len: 0,
            replies_len: 0,
            feed: None,
            idle: true,
            error: None,
            sent: Sent::default(),
        };
        Self {
            socket,
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                wake: Notify::new(),
                progress: Notify::new(),
            }),
        }
    }

    /// The socket, for reading.
    pub fn socket(&self) -> &Arc<S> {
        &self.socket
    }

    /// Sends a reply: at once when the socket takes it, else between two buffers as soon as it does.
    pub fn send(&self, bytes: Bytes) -> Result<(), SendError> {
        let mut state = self.shared.state.lock();
        if state.error.is_some() {
            return Err(SendError::Closed);
        }
        if state.replies_len > 0 && state.replies_len + bytes.len() > REPLIES_MAX {
            return Err(SendError::Full);
        }
        state.replies_len += bytes.len();
        state.push_first(bytes);
        let write_now = std::mem::replace(&mut state.idle, false);
        drop(state);
        if write_now {
            self.write_now();
        }
        Ok(())
    }

    /// Stops following. What waits (replies, the rest of a buffer) is still written.
    pub fn leave(&self) {
        let feed = self.shared.state.lock().feed.take();
        if let Some(feed) = feed {
            feed.fanout.inner.left();
        }
    }

    /// What was sent.
    pub fn sent(&self) -> Sent {
        self.shared.state.lock().sent
    }

    /// Bytes that wait behind the full socket, the log not included.
    pub fn waiting_bytes(&self) -> usize {
        self.shared.state.lock().first_len
    }

    /// Writes on whenever the socket was full. Runs until the socket fails; may be dropped and called again at any time.
    pub async fn drive(&self) -> io::ErrorKind {
        loop {
            match self.shared.flush() {
                Err(error) => return error,
                Ok(Flush::Idle) => self.shared.wake.notified().await,
                Ok(Flush::Blocked) => {
                    if let Err(error) = poll_fn(|cx| self.socket.poll_writable(cx)).await {
                        return error.kind();
                    }
                }
            }
        }
    }

    /// Writes all that waits, replies and the rest of a buffer, and returns when the socket took it.
    pub async fn flush(&self) -> Result<(), io::ErrorKind> {
        loop {
            self.shared.flush()?;
            if self.waiting_bytes() == 0 {
                return Ok(());
            }
            poll_fn(|cx| self.socket.poll_writable(cx)).await.map_err(|error| error.kind())?;
        }
    }

    /// Returns when every buffer before `end` was written or skipped and no reply waits. [`Self::drive`] must run beside.
    pub async fn caught_up(&self, end: Position) {
        loop {
            let done = self.shared.progress.notified();
            {
                let state = self.shared.state.lock();
                if state.first.is_empty() && state.feed.as_ref().is_none_or(|feed| feed.position >= end) {
                    return;
                }
            }
            done.await;
        }
    }

    pub(crate) fn attach(&self, fanout: Fanout<S, M>, token: u64, join: Join<M>) {
        let Join { tracks, keyed, await_key, position, head, rewrite } = join;
        let position = position.min(fanout.end());
        let mut state = self.shared.state.lock();
        for bytes in head {
            state.push_first(bytes);
        }
        state.idle = false;
        state.feed = Some(Feed {
            fanout,
            token,
            tracks,
            keyed: keyed & tracks,
            await_key: await_key & tracks,
            position,
            joining: true,
            rewrite,
        });
    }

    pub(crate) fn write_now(&self) {
        // A socket that failed is found by `drive` and by the next `send`.
        let _ = self.shared.flush();
    }
}

impl<S: Socket, M: Clone + Send + 'static> Drop for Writer<S, M> {
    fn drop(&mut self) {
        self.leave();
        let mut state = self.shared.state.lock();
        state.socket = None;
        state.first.clear();
    }
}

impl<S: Socket, M: Clone + Send + 'static> fmt::Debug for Writer<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("waiting_bytes", &self.waiting_bytes()).finish_non_exhaustive()
    }
}

impl<S: Socket, M: Clone + Send + 'static> Shared<S, M> {
    /// Whether the join `token` is still in force.
    pub(crate) fn follows(&self, token: u64) -> bool {
        self.state.lock().feed.as_ref().is_some_and(|feed| feed.token == token)
    }

    /// The pushing task's part: writes the buffer at `position` if nothing else waits.
    pub(crate) fn offer(
        &self,
        token: u64,
        position: Position,
        buffer: &Buffer<M>,
        scratch: &mut BytesMut,
    ) -> Offer {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(feed) = state.feed.as_mut().filter(|feed| feed.token == token) else { return Offer::Gone };
        if !state.idle || feed.position > position {
            return Offer::Nothing;
        }
        feed.position = Position(position.0 + 1);
        if !feed.wants(buffer, &mut state.sent) {
            return Offer::Nothing;
        }
        let Some(socket) = &state.socket else { return Offer::Gone };
        let (result, skip) = match &mut feed.rewrite {
            None => (socket.try_write(&buffer.bytes), None),
            Some(rewrite) => {
                scratch.clear();
                let skip = rewrite.rewrite(buffer, scratch).min(buffer.bytes.len());
                let rest = buffer.bytes.get(skip..).unwrap_or_default();
                (socket.try_write_vectored(&[IoSlice::new(scratch), IoSlice::new(rest)]), Some(skip))
            }
        };
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                state.error = Some(error.kind());
                if let Some(feed) = state.feed.take() {
                    Counters::add(&feed.fanout.inner.counters.left, 1);
                }
                drop(guard);
                self.wake.notify_one();
                return Offer::Gone;
            }
        };
        state.sent.bytes += bytes as u64;
        state.sent.buffers += u64::from(bytes > 0 || skip.is_some());
        let mut written = bytes;
        if let Some(skip) = skip {
            let head = written.min(scratch.len());
            written -= head;
            if let Some(rest) = scratch.get(head..).filter(|rest| !rest.is_empty()) {
                state.push_first(Bytes::copy_from_slice(rest));
            }
            written += skip;
        }
        if written < buffer.bytes.len() {
            if bytes == 0 && skip.is_none() {
                // Nothing of it is out: it may still be skipped.
                feed_back(state, position);
            } else {
                state.push_first(buffer.bytes.slice(written..));
            }
        }
        let stalled = !state.first.is_empty() || bytes == 0;
        if stalled {
            state.idle = false;
            drop(guard);
            self.wake.notify_one();
        }
        Offer::Written { bytes, stalled }
    }

    /// The viewer's own part: writes until the socket is full or nothing waits.
    fn flush(&self) -> Result<Flush, io::ErrorKind> {
        let mut guard = self.state.lock();
        let result = guard.flush();
        let feed = if result.is_err() { guard.feed.take() } else { None };
        drop(guard);
        if let Some(feed) = feed {
            feed.fanout.inner.left();
        }
        if matches!(result, Ok(Flush::Idle)) {
            self.progress.notify_waiters();
        } else {
            // The caller may be a reply or a join: the driving task must wait for the socket.
            self.wake.notify_one();
        }
        result
    }
}

fn feed_back<S, M>(state: &mut State<S, M>, position: Position) {
    if let Some(feed) = &mut state.feed {
        feed.position = position;
    }
}

impl<S: Socket, M: Clone + Send + 'static> State<S, M> {
    fn push_first(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.first_len += bytes.len();
            self.first.push_back(bytes);
        }
    }

    fn flush(&mut self) -> Result<Flush, io::ErrorKind> {
        loop {
            if let Some(error) = self.error {
                return Err(error);
            }
            let Some(socket) = self.socket.clone() else { return Err(io::ErrorKind::NotConnected) };
            let mut log = Vec::new();
            let mut rewrote = false;
            if self.first.len() < BATCH
                && let Some(feed) = &mut self.feed
            {
                log = feed.batch(BATCH - self.first.len(), &mut self.sent);
                if feed.rewrite.is_some() {
                    for buffer in log.drain(..) {
                        rewrote = true;
                        self.sent.buffers += 1;
                        feed.rewrite_into(&buffer, &mut self.first, &mut self.first_len);
                    }
                }
            }
            if rewrote && self.first.is_empty() {
                // Left out for this viewer; more may come behind it.
                continue;
            }
            if self.first.is_empty() && log.is_empty() {
                self.idle = true;
                self.replies_len = 0;
                if let Some(feed) = &mut self.feed {
                    feed.joining = false;
                }
                return Ok(Flush::Idle);
            }
            let slices: Vec<IoSlice<'_>> = self
                .first
                .iter()
                .chain(log.iter().map(|b| &b.bytes))
                .take(BATCH)
                .map(|b| IoSlice::new(b))
                .collect();
            match socket.try_write_vectored(&slices) {
                Ok(0) => self.error = Some(io::ErrorKind::WriteZero),
                Ok(written) => self.took(written, log),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flush::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.error = Some(error.kind()),
            }
        }
    }

    /// The socket took the first `written` bytes of what waits.
    fn took(&mut self, mut written: usize, log: Vec<Next<M>>) {
        self.sent.bytes += written as u64;
        if let Some(feed) = &self.feed {
            Counters::add(&feed.fanout.inner.counters.written, written);
        }
        while written > 0
            && let Some(bytes) = self.first.front_mut()
        {
            let n = written.min(bytes.len());
            bytes.advance(n);
            self.first_len -= n;
            written -= n;
            if bytes.is_empty() {
                self.first.pop_front();
            }
        }
        for next in log {
            if written == 0 {
                break;
            }
            let n = written.min(next.bytes.len());
            written -= n;
            self.sent.buffers += 1;
            if let Some(feed) = &mut self.feed {
                feed.position = Position(next.position.0 + 1);
                feed.await_key &= !next.tracks_entered;
                feed.skipped(next.skipped, &mut self.sent);
            }
            self.push_first(next.bytes.slice(n..));
        }
    }
}
