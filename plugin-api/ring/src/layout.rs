//! Where what lies in a ring's memory: little-endian `u64` words, only ever accessed as such.
//!
//! ```text
//! word 0       magic, layout version, generation, slots, arena bytes
//! word 8       head: next sequence
//! word 16      floor: oldest sequence still whole
//! word 24      closed: reason + 1; replaced: generation of the successor
//! word 64      newest keyframe of each track
//! word 512     slots, 8 words each
//! behind them  arena: units aligned to 64 bytes, none straddles the end
//! ```
//!
//! The layout is private to the host and its runner, which ship together.

use crate::error::RingError;
use crate::sync::{AtomicU64, Relaxed};
use crate::unit::{TRACKS, UnitHeader};

/// `PBRING1\0`.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"PBRING1\0");
/// Raised with every change of this file.
pub(crate) const VERSION: u64 = 1;

pub(crate) const W_MAGIC: usize = 0;
pub(crate) const W_VERSION: usize = 1;
pub(crate) const W_GENERATION: usize = 2;
pub(crate) const W_SLOTS: usize = 3;
pub(crate) const W_ARENA: usize = 4;
pub(crate) const W_HEAD: usize = 8;
pub(crate) const W_FLOOR: usize = 16;
pub(crate) const W_CLOSED: usize = 24;
pub(crate) const W_REPLACED: usize = 25;
pub(crate) const W_KEYS: usize = if cfg!(loom) { 26 } else { 64 };
/// Words before the first slot. Models have two tracks and no page to fill.
pub(crate) const HEADER_WORDS: usize = if cfg!(loom) { W_KEYS + TRACKS } else { 512 };
/// Words of a slot. The five that models leave out are stored and loaded as the others.
pub(crate) const SLOT_WORDS: usize = if cfg!(loom) { 3 } else { 8 };
/// Alignment of a unit in the arena, in bytes.
pub(crate) const UNIT_ALIGN: u64 = if cfg!(loom) { 16 } else { 64 };

/// Most slots of a ring (16 MiB of them: an hour of video and audio at 80 units a second).
pub(crate) const MAX_SLOTS: u64 = 1 << 18;
/// Most bytes of a ring that may be mapped.
pub(crate) const MAX_BYTES: u64 = 1 << 32;

/// The sizes of one ring memory. The parties keep it in their own memory and never read it back from the ring's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Units the ring can tell apart; a power of two.
    pub(crate) slots: u64,
    /// Bytes for payload; a multiple of [`UNIT_ALIGN`].
    pub(crate) arena: u64,
}

impl Geometry {
    /// The smallest geometry with at least `slots` and `arena` whose whole is a multiple of `page`.
    pub(crate) fn new(slots: u64, arena: u64, page: u64) -> Self {
        let slots = slots.clamp(2, MAX_SLOTS).next_power_of_two();
        let fixed = Self { slots, arena: 0 }.bytes();
        let arena = arena.clamp(UNIT_ALIGN, MAX_BYTES).next_multiple_of(UNIT_ALIGN);
        Self { slots, arena: (fixed + arena).next_multiple_of(page.max(8)) - fixed }
    }

    /// As [`Self::new`], with the largest arena that keeps the whole within `limit` when `arena` does not fit.
    pub(crate) fn within(slots: u64, arena: u64, page: u64, limit: u64) -> Self {
        let wanted = Self::new(slots, arena, page);
        if wanted.bytes() <= limit {
            return wanted;
        }
        let page = page.max(8);
        let fixed = Self { slots: wanted.slots, arena: 0 }.bytes();
        let arena = (limit / page * page).saturating_sub(fixed).max(UNIT_ALIGN);
        Self { slots: wanted.slots, arena: arena / UNIT_ALIGN * UNIT_ALIGN }
    }

    /// Bytes of the whole memory.
    pub(crate) fn bytes(&self) -> u64 {
        (HEADER_WORDS as u64) * 8 + self.slots * (SLOT_WORDS as u64) * 8 + self.arena
    }

    /// Words of the whole memory.
    pub(crate) fn words(&self) -> usize {
        (self.bytes() / 8) as usize
    }

    /// First word of the slot of `sequence`.
    pub(crate) fn slot(&self, sequence: u64) -> usize {
        HEADER_WORDS + (sequence & (self.slots - 1)) as usize * SLOT_WORDS
    }

    /// First word of the arena byte with the absolute offset `offset`.
    pub(crate) fn arena_word(&self, offset: u64) -> usize {
        HEADER_WORDS + self.slots as usize * SLOT_WORDS + (offset % self.arena) as usize / 8
    }

    /// Reads and checks the geometry of a memory of `bytes` bytes that somebody else filled.
    pub(crate) fn check(words: &[AtomicU64], bytes: u64) -> Result<Self, RingError> {
        let found = |index| load(words, index);
        if found(W_MAGIC) != MAGIC || found(W_VERSION) != VERSION {
            return Err(RingError::NotARing { magic: found(W_MAGIC), version: found(W_VERSION) });
        }
        let geometry = Self { slots: found(W_SLOTS), arena: found(W_ARENA) };
        let sound = geometry.slots.is_power_of_two()
            && (2..=MAX_SLOTS).contains(&geometry.slots)
            && geometry.arena != 0
            && geometry.arena <= MAX_BYTES
            && geometry.arena.is_multiple_of(UNIT_ALIGN)
            && geometry.bytes() == bytes
            && words.len() == geometry.words();
        if sound {
            Ok(geometry)
        } else {
            Err(RingError::Geometry { slots: geometry.slots, arena: geometry.arena, bytes })
        }
    }
}

/// Bytes that a unit of `len` bytes takes in the arena.
pub(crate) fn unit_bytes(len: usize) -> u64 {
    (len as u64).next_multiple_of(UNIT_ALIGN)
}

/// A slot: the header of its unit and where the payload is. `len`, `offset` and the rest are data from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) header: UnitHeader,
    pub(crate) offset: u64,
}

impl Slot {
    pub(crate) fn encode(&self) -> [u64; 8] {
        let h = &self.header;
        [
            h.sequence,
            self.offset,
            u64::from(h.len) | u64::from(h.track) << 32 | u64::from(h.flags) << 48,
            h.pts.cast_unsigned(),
            h.dts.cast_unsigned(),
            h.arrival_ns,
            h.last_key,
            u64::from(h.epoch) | u64::from(h.duration) << 32,
        ]
    }

    pub(crate) fn decode([sequence, offset, packed, pts, dts, arrival_ns, last_key, rest]: [u64; 8]) -> Self {
        let header = UnitHeader {
            sequence,
            track: (packed >> 32) as u16,
            flags: (packed >> 48) as u16,
            epoch: rest as u32,
            pts: pts.cast_signed(),
            dts: dts.cast_signed(),
            duration: (rest >> 32) as u32,
            len: packed as u32,
            arrival_ns,
            last_key,
            reserved: 0,
        };
        Self { header, offset }
    }
}

/// A relaxed load; a word outside the memory is 0.
#[inline]
pub(crate) fn load(words: &[AtomicU64], index: usize) -> u64 {
    words.get(index).map_or(0, |word| word.load(Relaxed))
}

/// A relaxed store; a word outside the memory is ignored.
#[inline]
pub(crate) fn store(words: &[AtomicU64], index: usize, value: u64) {
    if let Some(word) = words.get(index) {
        word.store(value, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn geometry_is_page_sized(slots in 1_u64..5000, arena in 0_u64..(1 << 24), page in prop::sample::select(vec![4096_u64, 16384, 65536])) {
            let g = Geometry::new(slots, arena, page);
            prop_assert!(g.slots >= slots && g.arena >= arena && g.slots.is_power_of_two());
            prop_assert_eq!(g.bytes() % page, 0);
            prop_assert_eq!(g.arena % UNIT_ALIGN, 0);
            prop_assert!(g.bytes() < HEADER_WORDS as u64 * 8 + g.slots * 64 + arena + 64 + page);
        }

        #[test]
        fn geometry_stays_within_its_limit(slots in 1_u64..5000, arena in 0_u64..(1 << 24), limit in 1_u64 << 20..1 << 23) {
            let g = Geometry::within(slots, arena, 4096, limit);
            prop_assert!(g.bytes() <= limit);
            prop_assert_eq!(g.bytes() % 4096, 0);
        }

        #[test]
        fn slot_round_trip(words: [u64; 8]) {
            prop_assert_eq!(Slot::decode(words).encode(), words);
        }
    }
}
