//! The short log of recent buffers that all viewers of a fan-out share.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

/// A set of tracks, one bit each.
pub type Tracks = u32;

/// The number of a buffer in its fan-out, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub(crate) u64);

impl Position {
    /// As a plain number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// One buffer, written whole to every viewer that wants its track.
#[derive(Debug, Clone)]
pub struct Buffer<M = ()> {
    /// What is written.
    pub bytes: Bytes,
    /// The track it belongs to (one bit), or several.
    pub tracks: Tracks,
    /// A viewer that left something out may resume with it.
    pub key: bool,
    /// When it was pushed, on any clock that does not go backwards.
    pub at: Duration,
    /// For [`Rewrite`](crate::Rewrite).
    pub meta: M,
}

/// How far a viewer may fall behind.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the log that a viewer may be behind before it skips (1 MiB).
    pub behind_bytes: u64,
    /// Time that it may be behind (2 s).
    pub behind_time: Duration,
    /// Bytes that the log keeps for viewers that are still taking what they were given at their join (8 MiB). The
    /// newest buffer is always kept.
    pub log_bytes: u64,
    /// Time that the log keeps (5 s).
    pub log_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            behind_bytes: 1 << 20,
            behind_time: Duration::from_secs(2),
            log_bytes: 8 << 20,
            log_time: Duration::from_secs(5),
        }
    }
}

/// Recent buffers, the oldest first.
#[derive(Debug)]
pub(crate) struct Log<M> {
    limits: Limits,
    entries: VecDeque<Entry<M>>,
    /// Position of the first entry.
    first: u64,
    /// Bytes ever pushed.
    total: u64,
}

#[derive(Debug)]
struct Entry<M> {
    buffer: Buffer<M>,
    /// Bytes pushed before it.
    start: u64,
}

/// What a viewer may take next.
#[derive(Debug)]
pub(crate) enum Take {
    /// The log goes on from here.
    Here,
    /// The viewer is too far behind: go on at this position and leave out `skipped` buffers.
    Skip { to: Position, skipped: u64 },
}

impl<M> Log<M> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, entries: VecDeque::new(), first: 0, total: 0 }
    }

    /// The position that the next buffer will have.
    pub(crate) fn end(&self) -> Position {
        Position(self.first + self.entries.len() as u64)
    }

    pub(crate) fn push(&mut self, buffer: Buffer<M>) -> Position {
        let position = self.end();
        let (now, len) = (buffer.at, buffer.bytes.len() as u64);
        self.entries.push_back(Entry { buffer, start: self.total });
        self.total += len;
        while self.entries.len() > 1 {
            let Some(oldest) = self.entries.front() else { break };
            let too_old = now.saturating_sub(oldest.buffer.at) > self.limits.log_time;
            if !too_old && self.total - oldest.start <= self.limits.log_bytes {
                break;
            }
            self.entries.pop_front();
            self.first += 1;
        }
        position
    }

    pub(crate) fn get(&self, position: Position) -> Option<&Buffer<M>> {
        let index = usize::try_from(position.0.checked_sub(self.first)?).ok()?;
        self.entries.get(index).map(|entry| &entry.buffer)
    }

    /// Decides whether a viewer at `position` may go on there. `keyed` are the tracks of it whose key buffers are
    /// worth resuming at; `joining` viewers may use the whole log.
    pub(crate) fn take(&self, position: Position, keyed: Tracks, joining: bool) -> Take {
        let end = self.end();
        if position >= end || (position.0 >= self.first && (joining || !self.is_behind(position))) {
            return Take::Here;
        }
        let key = (position.0.max(self.first)..end.0)
            .rev()
            .map(Position)
            .take_while(|at| !self.is_behind(*at))
            .filter(|at| at.0 > position.0)
            .find(|at| self.get(*at).is_some_and(|b| b.key && b.tracks & keyed != 0));
        let to = key.unwrap_or(end);
        Take::Skip { to, skipped: to.0 - position.0 }
    }

    fn is_behind(&self, position: Position) -> bool {
        let index = usize::try_from(position.0.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let (Some(entry), Some(newest)) = (self.entries.get(index), self.entries.back()) else {
            return false;
        };
        self.total - entry.start > self.limits.behind_bytes.max(newest.buffer.bytes.len() as u64)
            || newest.buffer.at.saturating_sub(entry.buffer.at) > self.limits.behind_time
    }
}
