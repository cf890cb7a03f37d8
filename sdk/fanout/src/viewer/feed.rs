//! A viewer's place in the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};

use super::{Rewrite, Sent};
use crate::counters::Counters;
use crate::log::{Buffer, Position, Take, Tracks};
use crate::pass::Fanout;
use crate::socket::Socket;

/// What a viewer follows, and how far it is.
pub(super) struct Feed<S, M> {
    pub(super) fanout: Fanout<S, M>,
    pub(super) token: u64,
    pub(super) tracks: Tracks,
    pub(super) keyed: Tracks,
    pub(super) await_key: Tracks,
    pub(super) position: Position,
    /// It has not caught up for the first time.
    pub(super) joining: bool,
    pub(super) rewrite: Option<Box<dyn Rewrite<M>>>,
}

/// A buffer that a viewer takes from the log.
pub(super) struct Next<M> {
    pub(super) bytes: Bytes,
    pub(super) position: Position,
    pub(super) tracks_entered: Tracks,
    /// Buffers before it that were left out, since the one before.
    pub(super) skipped: u64,
    /// Only for those who rewrite.
    pub(super) buffer: Option<Buffer<M>>,
}

impl<S: Socket, M: Clone + Send + 'static> Feed<S, M> {
    /// Whether the viewer wants this buffer, which is the next one. Entering a track at its key is noted.
    pub(super) fn wants(&mut self, buffer: &Buffer<M>, sent: &mut Sent) -> bool {
        let (wanted, await_key) = wants(self.tracks, self.await_key, buffer);
        if !wanted && buffer.tracks & self.tracks != 0 {
            self.skipped(1, sent);
        }
        self.await_key = await_key;
        wanted
    }

    /// The next buffers from the log, at most `max`, after skipping when the viewer is too far behind. The position is
    /// moved over what it does not want, and over what it takes when it rewrites.
    pub(super) fn batch(&mut self, max: usize, sent: &mut Sent) -> Vec<Next<M>> {
        let inner = Arc::clone(&self.fanout.inner);
        let log = inner.log.lock();
        if let Take::Skip { to, skipped } = log.take(self.position, self.keyed, self.joining) {
            Counters::add(&self.fanout.inner.counters.skips, 1);
            self.skipped(skipped, sent);
            self.position = to;
            self.await_key = self.keyed;
            self.joining = false;
        }
        let mut batch = Vec::new();
        let (mut position, mut await_key, mut skipped) = (self.position, self.await_key, 0);
        while batch.len() < max
            && let Some(buffer) = log.get(position)
        {
            let (wanted, next_await) = wants(self.tracks, await_key, buffer);
            if wanted {
                batch.push(Next {
                    bytes: buffer.bytes.clone(),
                    position,
                    tracks_entered: await_key & !next_await,
                    skipped: std::mem::take(&mut skipped),
                    buffer: self.rewrite.is_some().then(|| buffer.clone()),
                });
            } else {
                let missed = u64::from(buffer.tracks & self.tracks != 0);
                if batch.is_empty() {
                    self.skipped(missed, sent);
                    self.position = Position(position.0 + 1);
                } else {
                    skipped += missed;
                }
            }
            await_key = next_await;
            position = Position(position.0 + 1);
            if self.rewrite.is_some() && !batch.is_empty() {
                self.position = position;
                self.await_key = await_key;
                break;
            }
        }
        batch
    }

    pub(super) fn skipped(&self, count: u64, sent: &mut Sent) {
        sent.skipped += count;
        self.fanout.inner.counters.skipped.fetch_add(count, Relaxed);
    }

    pub(super) fn rewrite_into(
        &mut self,
        next: &Next<M>,
        first: &mut VecDeque<Bytes>,
        first_len: &mut usize,
    ) {
        let (Some(rewrite), Some(buffer)) = (&mut self.rewrite, &next.buffer) else { return };
        let mut head = BytesMut::new();
        let skip = rewrite.rewrite(buffer, &mut head).min(buffer.bytes.len());
        for piece in [head.freeze(), buffer.bytes.slice(skip..)] {
            if !piece.is_empty() {
                *first_len += piece.len();
                first.push_back(piece);
            }
        }
    }
}

/// Whether a viewer of `tracks` that awaits the keys of `await_key` wants `buffer`; and what it awaits after it.
fn wants<M>(tracks: Tracks, await_key: Tracks, buffer: &Buffer<M>) -> (bool, Tracks) {
    let of_interest = buffer.tracks & tracks;
    if of_interest == 0 {
        return (false, await_key);
    }
    let entered = if buffer.key { await_key & !of_interest } else { await_key };
    (of_interest & !entered != 0, entered)
}
