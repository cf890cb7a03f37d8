//! What an output hands to the host for fan-out.

use bytes::Bytes;
use patchbay_plugin_api as api;
use patchbay_plugin_api::abi::chunk_flags;

/// Bytes at the start of a chunk that the host copies per viewer; every patched field ends within them.
pub const PATCH_WINDOW: usize = 512;
/// Most patches of a chunk.
pub const MAX_PATCHES: usize = 4;

/// A piece of an output that is never split: a slow viewer gets all of it or skips it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    /// The bytes, the same for all viewers but for `patches`.
    pub data: Bytes,
    /// A viewer can start here.
    pub key: bool,
    /// The header that each viewer gets first; replaces the one before.
    pub init: bool,
    /// The fields that differ per viewer.
    pub patches: Patches,
}

impl From<Chunk> for api::Chunk {
    fn from(chunk: Chunk) -> Self {
        let patches = chunk.patches.iter().map(|patch| api::Patch {
            offset: u32::from(patch.offset),
            track: u32::from(patch.track),
            kind: match patch.kind {
                PatchKind::TimeU64 => api::PatchKind::TimeU64,
                PatchKind::TimeU32 => api::PatchKind::TimeU32,
                PatchKind::SequenceU32 => api::PatchKind::SequenceU32,
                PatchKind::FlvMs => api::PatchKind::FlvMs,
            },
        });
        let key = if chunk.key { chunk_flags::KEY } else { 0 };
        let init = if chunk.init { chunk_flags::INIT } else { 0 };
        let patches = patches.collect();
        Self { data: chunk.data, flags: key | init, patches, ..Self::default() }
    }
}

/// A field in the first [`PATCH_WINDOW`] bytes of a chunk that the host rewrites per viewer.
///
/// Times are two's complement: the host reads the field as signed, subtracts the viewer's start of `track` and writes
/// 0 when the result is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// Where the big-endian field begins in `data`.
    pub offset: u16,
    /// Index of the output's track whose start counts.
    pub track: u16,
    /// What the field is.
    pub kind: PatchKind,
}

/// Kinds of patched fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// A 64-bit time in the track's clock.
    TimeU64,
    /// A 32-bit time in the track's clock.
    TimeU32,
    /// A 32-bit number that counts a viewer's chunks from 1.
    SequenceU32,
    /// FLV's 24-bit milliseconds with the upper 8 bits behind.
    FlvMs,
}

impl PatchKind {
    /// Bytes of the field.
    pub fn size(self) -> usize {
        if self == Self::TimeU64 { 8 } else { 4 }
    }
}

/// Up to [`MAX_PATCHES`] patches, without an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Patches {
    list: [Option<Patch>; MAX_PATCHES],
}

impl Patches {
    /// Adds a patch. `false` when there is no room left or the field does not end within [`PATCH_WINDOW`].
    #[must_use]
    pub fn push(&mut self, offset: usize, track: usize, kind: PatchKind) -> bool {
        let (Ok(at), Ok(track)) = (u16::try_from(offset), u16::try_from(track)) else { return false };
        if offset + kind.size() > PATCH_WINDOW {
            return false;
        }
        let Some(free) = self.list.iter_mut().find(|slot| slot.is_none()) else { return false };
        *free = Some(Patch { offset: at, track, kind });
        true
    }

    /// The patches in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = Patch> + '_ {
        self.list.iter().flatten().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether the chunk is the same for all viewers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_few_and_near_the_start() {
        let mut patches = Patches::default();
        assert!(patches.is_empty());
        assert!(patches.push(504, 0, PatchKind::TimeU64));
        assert!(!patches.push(505, 0, PatchKind::TimeU64));
        assert!(patches.push(508, 1, PatchKind::SequenceU32));
        assert!(patches.push(0, 1, PatchKind::TimeU32));
        assert!(patches.push(0, 1, PatchKind::FlvMs));
        assert!(!patches.push(0, 1, PatchKind::FlvMs));
        assert_eq!(patches.iter().map(|p| p.offset).collect::<Vec<_>>(), [504, 508, 0, 0]);
    }
}
