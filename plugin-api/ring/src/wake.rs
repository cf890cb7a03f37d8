//! Waking readers, at no cost while they are awake.
//!
//! A reader says that it sleeps and then looks for news; the writer says the news and then looks for sleepers. With a
//! sequentially consistent fence between the two steps on both sides, one of them sees the other.

use std::sync::Arc;

use crate::sync::{AcqRel, Acquire, AtomicU64, Relaxed, Release, SeqCst, Site, fence, fence_at, ordering_at};
use crate::unit::TRACKS;

/// Called when a unit that was waited for is there.
pub trait Wake: Send + Sync {
    /// Runs on the writer's thread under the source's lock: sets a flag or writes a descriptor, without blocking.
    fn wake(&self);
}

/// One reader that may sleep.
pub(crate) struct Sleeper {
    /// Tracks it waits for; 0 while it is awake.
    mask: AtomicU64,
    wake: Arc<dyn Wake>,
}

impl Sleeper {
    pub(crate) fn new(wake: Arc<dyn Wake>) -> Self {
        Self { mask: AtomicU64::new(0), wake }
    }
}

/// Where readers and writer meet. Survives replacement of the memory.
pub(crate) struct Gate {
    /// Union of the sleepers' masks; may name tracks nobody waits for any more.
    armed: AtomicU64,
    /// Per track the sequence behind its newest unit.
    newest: [AtomicU64; TRACKS],
    /// Reason + 1.
    closed: AtomicU64,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            armed: AtomicU64::new(0),
            newest: std::array::from_fn(|_| AtomicU64::new(0)),
            closed: AtomicU64::new(0),
        }
    }

    /// Arms `sleeper`; false: what it waits for is there already.
    pub(crate) fn arm(&self, sleeper: &Sleeper, mask: u64, cursor: u64) -> bool {
        sleeper.mask.store(mask, Relaxed);
        // Partner: the swap in `fire`: who takes these bits sees the sleeper's mask.
        self.armed.fetch_or(mask, ordering_at(Site::Arm, Release));
        // Partner: the fence of `announce`.
        fence_at(Site::Sleep, SeqCst);
        if !self.ready(mask, cursor) {
            return true;
        }
        sleeper.mask.swap(0, AcqRel);
        false
    }

    /// Whether a unit of `mask` at or after `cursor` is there, or none will ever be.
    fn ready(&self, mask: u64, cursor: u64) -> bool {
        let mut ready = self.closed.load(Relaxed) != 0;
        let mut left = mask;
        while left != 0 && !ready {
            let newest = self.newest.get(left.trailing_zeros() as usize);
            ready = newest.is_some_and(|newest| newest.load(Relaxed) > cursor.max(1));
            left &= left - 1;
        }
        // Partner: the release stores of `announce`: the next read finds what was seen here.
        fence_at(Site::See, Acquire);
        ready
    }

    /// Writer: tells of a published unit. True: somebody may sleep on its track, see `fire`.
    pub(crate) fn announce(&self, track: u16, sequence: u64) -> bool {
        if let Some(newest) = self.newest.get(usize::from(track)) {
            // Partner: the acquire fence of `ready`.
            newest.store(sequence + 1, ordering_at(Site::Newest, Release));
        }
        // Partner: the fence of `arm`.
        fence_at(Site::Wake, SeqCst);
        self.armed.load(Relaxed) & (1 << track) != 0
    }

    /// Writer: tells that no unit will follow.
    pub(crate) fn close(&self, reason: u64) {
        self.closed.store(reason.saturating_add(1), Release);
        fence(SeqCst);
    }

    /// Wakes every sleeper that waits for a track of `bits`.
    pub(crate) fn fire<'a>(&self, bits: u64, sleepers: impl Iterator<Item = &'a Sleeper>) {
        // Partner: `arm`. The union is made anew, because sleepers may have gone.
        self.armed.swap(0, ordering_at(Site::Collect, Acquire));
        let mut left = 0;
        for sleeper in sleepers {
            let mask = sleeper.mask.load(Relaxed);
            if mask & bits == 0 {
                left |= mask;
            } else if sleeper.mask.swap(0, AcqRel) != 0 {
                sleeper.wake.wake();
            }
        }
        if left != 0 {
            self.armed.fetch_or(left, Release);
        }
    }
}
