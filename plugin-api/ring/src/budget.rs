//! The memory of all rings together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A sum of bytes shared by all rings of a process.
///
/// Each ring is entitled to its start size, also past the limit: a camera more is better than history for the others.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit: AtomicU64::new(limit) })
    }

    /// Bytes that rings hold now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Bytes that rings may hold.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Changes the limit; rings that hold more keep it until they shrink.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Relaxed);
    }
}

/// What one ring holds of a budget; given back on drop.
#[derive(Debug)]
pub(crate) struct Lease {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Lease {
    /// Takes `bytes`, also past the limit.
    pub(crate) fn entitled(budget: Arc<Budget>, bytes: u64) -> Self {
        budget.used.fetch_add(bytes, Relaxed);
        Self { budget, bytes }
    }

    /// Holds `bytes` from now on, unless that is more than before and the budget has no room.
    pub(crate) fn resize(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let limit = self.budget.limit();
        let taken = more == 0
            || self
                .budget
                .used
                .fetch_update(Relaxed, Relaxed, |used| used.checked_add(more).filter(|sum| *sum <= limit))
                .is_ok();
        if !taken {
            return false;
        }
        self.budget.used.fetch_sub(self.bytes.saturating_sub(bytes), Relaxed);
        self.bytes = bytes;
        true
    }

    /// Bytes that this ring may have without others giving any back.
    pub(crate) fn allowed(&self) -> u64 {
        self.bytes + self.budget.limit().saturating_sub(self.budget.used())
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_no_more_than_the_limit_and_gives_back() {
        let budget = Budget::new(100);
        let mut a = Lease::entitled(Arc::clone(&budget), 60);
        let mut b = Lease::entitled(Arc::clone(&budget), 30);
        assert!(!a.resize(71));
        assert_eq!((a.bytes(), a.allowed()), (60, 70));
        assert!(a.resize(70));
        assert!(b.resize(10));
        assert_eq!(budget.used(), 80);
        drop(a);
        assert_eq!(budget.used(), 10);
    }
}
