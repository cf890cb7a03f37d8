//! What a fan-out counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Totals of one [`Fanout`](crate::Fanout) since it was made. All are statistics: no other memory is ordered by them.
#[derive(Debug, Default)]
pub struct Counters {
    /// Buffers pushed.
    pub buffers: AtomicU64,
    /// Bytes pushed.
    pub bytes: AtomicU64,
    /// Calls of `write` made while pushing, one per viewer that kept up.
    pub writes: AtomicU64,
    /// Bytes that sockets took, replies not included.
    pub written: AtomicU64,
    /// Times that a socket was full and the viewer's own task had to go on.
    pub stalls: AtomicU64,
    /// Times that a viewer was so far behind that it skipped to a key buffer.
    pub skips: AtomicU64,
    /// Buffers left out by those skips.
    pub skipped: AtomicU64,
    /// Viewers that joined.
    pub joined: AtomicU64,
    /// Viewers that left or whose socket failed.
    pub left: AtomicU64,
}

impl Counters {
    /// Viewers attached now.
    pub fn viewers(&self) -> u64 {
        self.joined.load(Relaxed).saturating_sub(self.left.load(Relaxed))
    }

    pub(crate) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Relaxed);
    }
}
