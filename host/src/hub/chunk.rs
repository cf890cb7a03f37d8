//! Chunks of an output, and what one viewer gets of them.

use bytes::{Bytes, BytesMut};
use patchbay_plugin_api::abi::chunk_flags;
use patchbay_plugin_api::{Patch, PatchKind};

/// How far before a viewer's start an FLV tag may be, in milliseconds (10 minutes).
const FLV_BEFORE_MS: u32 = 600_000;

/// A chunk up to this size is copied whole for a viewer with a clock of its own: a second piece would cost more.
const COPY_WHOLE: usize = 1024;

/// A chunk as one viewer gets it: its own head, and what it shares with all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Comes first; the whole chunk when it has no patches.
    pub head: Bytes,
    /// The rest, often empty.
    pub rest: Bytes,
}

impl Piece {
    /// Bytes of both.
    #[allow(clippy::len_without_is_empty)] // a chunk has bytes
    pub fn len(&self) -> usize {
        self.head.len() + self.rest.len()
    }

    /// Both in one buffer: a copy unless there is no rest.
    pub fn joined(self) -> Bytes {
        if self.rest.is_empty() {
            return self.head;
        }
        let mut all = BytesMut::with_capacity(self.len());
        all.extend_from_slice(&self.head);
        all.extend_from_slice(&self.rest);
        all.freeze()
    }
}

impl From<Bytes> for Piece {
    fn from(head: Bytes) -> Self {
        Self { head, rest: Bytes::new() }
    }
}

/// One chunk in a run's log.
#[derive(Default)]
pub(super) struct LogChunk {
    pub(super) data: Bytes,
    pub(super) flags: u32,
    pub(super) patches: [Option<Patch>; Patch::MAX],
}

/// The chunk with the clock of a viewer that began at `starts`: only its head is copied.
pub(super) fn patched(chunk: &LogChunk, starts: &[i64], sequence: &mut u32) -> Piece {
    let ends =
        chunk.patches.iter().flatten().map(|patch| (patch.offset as usize).saturating_add(patch.kind.len()));
    let Some(end) = ends.max() else { return chunk.data.clone().into() };
    let end = if chunk.data.len() <= COPY_WHOLE { chunk.data.len() } else { end.min(chunk.data.len()) };
    let mut rest = chunk.data.clone();
    let mut head = BytesMut::from(rest.split_to(end).as_ref());
    for patch in chunk.patches.iter().flatten() {
        let start = starts.get(patch.track as usize).copied().unwrap_or(0);
        apply(patch, start, sequence, &mut head);
    }
    Piece { head: head.freeze(), rest }
}

/// Whether everything in a chunk is older than a viewer's start: sound that waited for the pictures beside it. Its times
/// would be below 0.
pub(super) fn is_before(chunk: &LogChunk, starts: &[i64]) -> bool {
    if chunk.flags & (chunk_flags::INIT | chunk_flags::KEY) != 0 {
        return false;
    }
    let mut times = chunk.patches.iter().flatten().filter_map(|patch| {
        let start = starts.get(patch.track as usize).copied().unwrap_or(0);
        let field = chunk.data.get(patch.offset as usize..)?;
        match patch.kind {
            PatchKind::TimeU64 => {
                let value = u64::from_be_bytes(*field.first_chunk()?);
                Some(value.cast_signed() < start)
            }
            PatchKind::FlvMs => {
                let [a, b, c, d] = *field.first_chunk()?;
                let moved = u32::from_be_bytes([d, a, b, c]).wrapping_sub(start as u32);
                Some(moved > u32::MAX - FLV_BEFORE_MS)
            }
            PatchKind::TimeU32 | PatchKind::SequenceU32 => None,
        }
    });
    let first = times.next();
    first == Some(true) && times.all(|before| before)
}

/// Writes one patch of a viewer that began at `start` into a chunk's head.
fn apply(patch: &Patch, start: i64, sequence: &mut u32, head: &mut [u8]) {
    let at = patch.offset as usize;
    let Some(field) = head.get_mut(at..at.saturating_add(patch.kind.len())) else { return };
    match patch.kind {
        PatchKind::TimeU64 => {
            if let Some(value) = field.first_chunk::<8>().map(|b| u64::from_be_bytes(*b)) {
                // Before the viewer's 0 (sound that waited): at 0.
                let moved = value.cast_signed().saturating_sub(start).max(0);
                field.copy_from_slice(&moved.to_be_bytes());
            }
        }
        PatchKind::TimeU32 => {
            if let Some(value) = field.first_chunk::<4>().map(|b| u32::from_be_bytes(*b)) {
                field.copy_from_slice(&value.wrapping_sub(start as u32).to_be_bytes());
            }
        }
        PatchKind::SequenceU32 => {
            *sequence += 1;
            field.copy_from_slice(&sequence.to_be_bytes());
        }
        PatchKind::FlvMs => {
            if let Some([a, b, c, d]) = field.first_chunk::<4>().copied() {
                let moved = u32::from_be_bytes([d, a, b, c]).wrapping_sub(start as u32);
                // A little before the viewer's 0 (sound that waited): at 0. Days after it the sign means nothing.
                let moved = if moved > u32::MAX - FLV_BEFORE_MS { 0 } else { moved };
                let [d, a, b, c] = moved.to_be_bytes();
                field.copy_from_slice(&[a, b, c, d]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

    use super::*;

    fn chunk(len: usize, patches: &[Patch]) -> LogChunk {
        let mut all = [None; Patch::MAX];
        for (slot, patch) in all.iter_mut().zip(patches) {
            *slot = Some(*patch);
        }
        LogChunk { data: (0..len).map(|i| i as u8).collect(), flags: 0, patches: all }
    }

    const TIME: Patch = Patch { offset: 40, track: 1, kind: PatchKind::TimeU64 };
    const SEQUENCE: Patch = Patch { offset: 20, track: 0, kind: PatchKind::SequenceU32 };

    #[test]
    fn only_the_head_of_a_large_chunk_is_copied() {
        let mut chunk = chunk(20_000, &[SEQUENCE, TIME]);
        let mut data = chunk.data.to_vec();
        data[40..48].copy_from_slice(&1000_u64.to_be_bytes());
        chunk.data = data.clone().into();
        let mut sequence = 6;
        let piece = patched(&chunk, &[7, 400], &mut sequence);
        assert_eq!((piece.head.len(), sequence), (48, 7));
        assert_eq!(piece.rest.as_ptr(), chunk.data[48..].as_ptr());
        data[20..24].copy_from_slice(&7_u32.to_be_bytes());
        data[40..48].copy_from_slice(&600_u64.to_be_bytes());
        assert_eq!(piece.joined(), data);
    }

    #[test]
    fn a_chunk_without_patches_is_shared_whole() {
        let chunk = chunk(20_000, &[]);
        let piece = patched(&chunk, &[], &mut 0);
        assert_eq!((piece.head.as_ptr(), piece.rest.len()), (chunk.data.as_ptr(), 0));
    }

    #[test]
    fn what_is_older_than_a_viewers_start_is_not_for_it() {
        let mut chunk = chunk(100, &[SEQUENCE, TIME]);
        let mut data = chunk.data.to_vec();
        data[40..48].copy_from_slice(&1000_u64.to_be_bytes());
        data[60..64].copy_from_slice(&[0, 3, 232, 0]);
        chunk.data = data.into();
        assert!(is_before(&chunk, &[0, 1001]) && !is_before(&chunk, &[0, 1000]));
        chunk.flags = chunk_flags::KEY;
        assert!(!is_before(&chunk, &[0, 1001]));
        let flv = Patch { offset: 60, track: 0, kind: PatchKind::FlvMs };
        let chunk = LogChunk { flags: 0, patches: [Some(flv), None, None, None], data: chunk.data };
        assert!(
            is_before(&chunk, &[1001]) && !is_before(&chunk, &[1000]) && !is_before(&chunk, &[2_000_000])
        );
    }

    #[test]
    fn small_chunks_and_patches_outside_of_them() {
        let chunk = chunk(50, &[SEQUENCE, Patch { offset: 45, ..TIME }, Patch { offset: u32::MAX, ..TIME }]);
        let piece = patched(&chunk, &[], &mut 0);
        assert_eq!((piece.head.len(), piece.rest.len()), (50, 0));
        assert_eq!((&piece.head[20..24], &piece.head[45..]), (&[0, 0, 0, 1][..], &chunk.data[45..]));
        let past = self::chunk(5_000, &[Patch { offset: 6_000, ..TIME }]);
        assert_eq!(patched(&past, &[], &mut 0).joined(), past.data);
    }
}
