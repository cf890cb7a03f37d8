//! Where a read puts records.

use std::mem::MaybeUninit;

use crate::sync::{AtomicU64, Relaxed};
use crate::unit::RECORD_HEADER;

pub(crate) mod sealed {
    pub trait Sealed {}
    impl Sealed for [u8] {}
    impl Sealed for [std::mem::MaybeUninit<u8>] {}
}

/// A caller's buffer: `[u8]`, or `[MaybeUninit<u8>]` for memory that came as pointer and length. After a read its first
/// [`written`](crate::ReadOutcome::written) bytes are initialised; bytes behind them may have been written too.
pub trait Output: sealed::Sealed {
    /// Bytes of the buffer.
    fn room(&self) -> usize;
    /// Writes a record's header.
    #[doc(hidden)]
    fn put(&mut self, at: usize, header: &[u8; RECORD_HEADER]);
    /// Copies words out of the ring.
    #[doc(hidden)]
    fn copy(&mut self, at: usize, words: &[AtomicU64]);
}

impl Output for [u8] {
    fn room(&self) -> usize {
        self.len()
    }

    fn put(&mut self, at: usize, header: &[u8; RECORD_HEADER]) {
        if let Some(to) = self.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *to = *header;
        }
    }

    fn copy(&mut self, at: usize, words: &[AtomicU64]) {
        let Some(to) = self.get_mut(at..) else { return };
        for (to, word) in to.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = word.load(Relaxed).to_le_bytes();
        }
    }
}

impl Output for [MaybeUninit<u8>] {
    fn room(&self) -> usize {
        self.len()
    }

    fn put(&mut self, at: usize, header: &[u8; RECORD_HEADER]) {
        if let Some(to) = self.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *to = header.map(MaybeUninit::new);
        }
    }

    fn copy(&mut self, at: usize, words: &[AtomicU64]) {
        let Some(to) = self.get_mut(at..) else { return };
        for (to, word) in to.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = word.load(Relaxed).to_le_bytes().map(MaybeUninit::new);
        }
    }
}
