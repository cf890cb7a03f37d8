//! The process's own memory.

use crate::backing::Backing;
use crate::sync::AtomicU64;

/// Words on the heap.
pub(crate) struct Heap {
    words: Box<[AtomicU64]>,
}

impl Heap {
    /// Zeroed memory.
    pub(crate) fn new(words: usize) -> Self {
        Self { words: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Backing for Heap {
    fn words(&self) -> &[AtomicU64] {
        &self.words
    }
}
