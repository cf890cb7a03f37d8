//! Reading a ring of another process.

use std::os::fd::OwnedFd;

use crate::backing::{Backing, ReadOnly};
use crate::error::RingError;
use crate::layout::{Geometry, W_GENERATION, load};
use crate::output::Output;
use crate::reader::{ReadOutcome, Target, View};

/// A ring of another process, mapped read-only. Offers the reads of a [`RingHandle`](crate::RingHandle) on one memory:
/// when a read says `replaced`, map the successor and go on there. Nothing the memory holds is trusted.
pub struct Mapped {
    memory: ReadOnly,
    geometry: Geometry,
    generation: u64,
}

impl Mapped {
    /// Maps an exported memory file.
    ///
    /// # Errors
    /// When the file lacks the seals that keep it from shrinking, is no ring of this version, or does not map.
    pub fn map(fd: OwnedFd) -> Result<Self, RingError> {
        let memory = ReadOnly::map(&fd)?;
        let words = memory.words();
        let geometry = Geometry::check(words, words.len() as u64 * 8)?;
        let generation = load(words, W_GENERATION);
        Ok(Self { memory, geometry, generation })
    }

    fn view(&self) -> View<'_> {
        View { words: self.memory.words(), geometry: self.geometry }
    }

    /// As [`RingHandle::read`](crate::RingHandle::read).
    pub fn read<O: Output + ?Sized>(&self, cursor: u64, mask: u64, out: &mut O) -> ReadOutcome {
        // Looked at first: what was published here before the replacement is then read below.
        let replaced = self.replaced().is_some();
        let outcome = self.view().read(cursor, mask, out);
        ReadOutcome { replaced, ..outcome }
    }

    /// As [`RingHandle::locate`](crate::RingHandle::locate).
    pub fn locate(&self, target: Target) -> Option<u64> {
        self.view().locate(target)
    }

    /// The next sequence to be written.
    pub fn head(&self) -> u64 {
        self.view().head()
    }

    /// Why the ring was closed, once it is.
    pub fn closed(&self) -> Option<u64> {
        self.view().closed()
    }

    /// Which memory of the ring this is.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The generation of the memory that newer units are in, once there is one.
    pub fn replaced(&self) -> Option<u64> {
        self.view().replaced()
    }
}
