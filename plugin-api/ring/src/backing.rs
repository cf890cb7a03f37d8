//! The memory of a ring.

mod heap;
#[cfg(all(target_os = "linux", not(loom)))]
mod memfd;

use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(crate) use heap::Heap;
#[cfg(all(target_os = "linux", not(loom)))]
pub(crate) use memfd::{Memfd, ReadOnly};

use crate::error::RingError;
use crate::sync::AtomicU64;

/// Memory of a fixed size, zero at first, only ever accessed as atomic words.
pub(crate) trait Backing: Send + Sync {
    /// All of it.
    fn words(&self) -> &[AtomicU64];

    /// A descriptor that another process can map read-only, when there is one.
    fn export(&self) -> Option<OwnedFd> {
        None
    }
}

/// Where a ring's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackingKind {
    /// The process's own memory: every system, no readers in other processes.
    Heap,
    /// A sealed memory file, which a child can map read-only. Linux 5.1 or later.
    Memfd,
}

impl BackingKind {
    /// Makes zeroed memory of `words` words; for a file their bytes are a multiple of the page.
    pub(crate) fn create(self, words: usize) -> Result<Arc<dyn Backing>, RingError> {
        match self {
            Self::Heap => Ok(Arc::new(Heap::new(words))),
            #[cfg(all(target_os = "linux", not(loom)))]
            Self::Memfd => Ok(Arc::new(Memfd::new(words)?)),
            #[cfg(not(all(target_os = "linux", not(loom))))]
            Self::Memfd => Err(RingError::Unsupported),
        }
    }
}

/// The page size of the running system, in bytes.
pub(crate) fn page_size() -> u64 {
    rustix::param::page_size() as u64
}
