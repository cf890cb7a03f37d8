//! A sealed memory file: written by the process that made it, mapped read-only by its children.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create,
};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::backing::{Backing, page_size};
use crate::error::RingError;
use crate::layout::{HEADER_WORDS, MAX_BYTES};
use crate::sync::AtomicU64;

/// What makes a mapping safe to keep: the file cannot shrink (SIGBUS), and no new writable mapping can be made.
const SEALS: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

/// The writer's mapping and the file it can hand out.
pub(crate) struct Memfd {
    map: Map,
    fd: OwnedFd,
}

impl Memfd {
    /// Makes, commits, maps and seals a file of `words` words.
    pub(crate) fn new(words: usize) -> Result<Self, RingError> {
        let bytes = words as u64 * 8;
        let failed = |step| move |errno: Errno| RingError::System { step, bytes, source: errno.into() };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = match memfd_create("patchbay-ring", flags | MemfdFlags::NOEXEC_SEAL) {
            // Before Linux 6.3 the flag is unknown.
            Err(Errno::INVAL) => memfd_create("patchbay-ring", flags),
            other => other,
        }
        .map_err(failed("memfd_create"))?;
        // Commits the pages: lack of memory is an error here, not a signal at the first write.
        fallocate(&fd, FallocateFlags::empty(), 0, bytes).map_err(failed("fallocate"))?;
        let map = Map::new(&fd, words, ProtFlags::READ | ProtFlags::WRITE).map_err(failed("mmap"))?;
        fcntl_add_seals(&fd, SEALS).map_err(failed("sealing"))?;
        Ok(Self { map, fd })
    }
}

impl Backing for Memfd {
    fn words(&self) -> &[AtomicU64] {
        self.map.words()
    }

    fn export(&self) -> Option<OwnedFd> {
        self.fd.try_clone().ok()
    }
}

/// A reader's mapping of a file that somebody else writes.
pub(crate) struct ReadOnly {
    map: Map,
}

impl ReadOnly {
    /// Maps `fd` after checking its seals and size.
    pub(crate) fn map(fd: impl AsFd) -> Result<Self, RingError> {
        let failed =
            |step, bytes| move |errno: Errno| RingError::System { step, bytes, source: errno.into() };
        let found = fcntl_get_seals(&fd).map_err(failed("reading the seals", 0))?;
        if !found.contains(SEALS) {
            return Err(RingError::Seals { found: found.bits(), needed: SEALS.bits() });
        }
        let size = fstat(&fd).map_err(failed("fstat", 0))?.st_size;
        let bytes = u64::try_from(size).unwrap_or(0);
        let least = HEADER_WORDS as u64 * 8;
        if bytes < least || bytes > MAX_BYTES || !bytes.is_multiple_of(page_size()) {
            return Err(RingError::Geometry { slots: 0, arena: 0, bytes });
        }
        let words =
            usize::try_from(bytes / 8).map_err(|_| RingError::Geometry { slots: 0, arena: 0, bytes })?;
        let map = Map::new(&fd, words, ProtFlags::READ).map_err(failed("mmap", bytes))?;
        Ok(Self { map })
    }
}

impl Backing for ReadOnly {
    fn words(&self) -> &[AtomicU64] {
        self.map.words()
    }
}

/// A shared mapping; unmapped on drop.
struct Map {
    base: NonNull<AtomicU64>,
    words: usize,
}

impl Map {
    fn new(fd: impl AsFd, words: usize, protection: ProtFlags) -> Result<Self, Errno> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that Rust knows of.
        let base = unsafe { mmap(ptr::null_mut(), words * 8, protection, MapFlags::SHARED, fd, 0)? };
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { base, words })
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: `base` maps `words` words until `Drop` unmaps them, and the slice borrows `self`; it is page-aligned
        // and was zero-filled by the kernel; the file's size is sealed, so no page of it can go away; every access to it,
        // in every process, is atomic and of this size. A read-only mapping is only ever read by relaxed loads.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: `base` and `words` are those of `new`, nothing is unmapped twice, and no slice outlives `self`.
        // An error (impossible for a whole mapping) would leave the mapping in place.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.words * 8) };
    }
}

// SAFETY: the mapping is owned, bound to no thread, and only reachable as atomics.
unsafe impl Send for Map {}
// SAFETY: as for `Send`: shared access is atomic.
unsafe impl Sync for Map {}
