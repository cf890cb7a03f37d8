//! Writing one ring memory. Nothing that decides is ever read back from it.

use std::sync::Arc;

use crate::backing::Backing;
use crate::layout::{
    Geometry, MAGIC, Slot, VERSION, W_ARENA, W_CLOSED, W_FLOOR, W_GENERATION, W_HEAD, W_KEYS, W_MAGIC,
    W_REPLACED, W_SLOTS, W_VERSION, store,
};
use crate::sync::{Relaxed, Release, Site, fence_at};
use crate::unit::UnitHeader;

/// The bytes a unit takes, as absolute offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// The single writer of one ring memory.
pub(crate) struct Writer {
    backing: Arc<dyn Backing>,
    geometry: Geometry,
    /// Absolute offset behind the last unit.
    tail: u64,
}

impl Writer {
    /// Starts an empty ring in zeroed memory, whose first unit will be `head`.
    pub(crate) fn new(backing: Arc<dyn Backing>, geometry: Geometry, generation: u64, head: u64) -> Self {
        let words = backing.words();
        store(words, W_GENERATION, generation);
        store(words, W_SLOTS, geometry.slots);
        store(words, W_ARENA, geometry.arena);
        store(words, W_VERSION, VERSION);
        store(words, W_FLOOR, head);
        store(words, W_HEAD, head);
        store(words, W_MAGIC, MAGIC);
        Self { backing, geometry, tail: 0 }
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Where the next unit of `bytes` (aligned, at most the arena) goes: behind the last one, or at the arena's start
    /// when it would straddle the end.
    pub(crate) fn place(&self, bytes: u64) -> Place {
        let arena = self.geometry.arena;
        let position = self.tail % arena;
        let padding = if position + bytes > arena { arena - position } else { 0 };
        let start = self.tail + padding;
        Place { start, end: start + bytes }
    }

    /// Whether writing to `place` covers the unit that starts at `start`.
    pub(crate) fn covers(&self, place: Place, start: u64) -> bool {
        start + self.geometry.arena < place.end
    }

    /// Tells readers that everything below `floor` is gone. To be called before its bytes or slots are written over.
    pub(crate) fn exclude(&self, floor: u64) {
        store(self.backing.words(), W_FLOOR, floor);
        // Partner: the acquire fence of `View::still_whole`.
        fence_at(Site::Floor, Release);
    }

    /// Writes payload and slot of a unit. Readers do not see it yet.
    pub(crate) fn write(&mut self, place: Place, header: UnitHeader, data: &[u8]) {
        let words = self.backing.words();
        let first = self.geometry.arena_word(place.start);
        let (whole, rest) = data.as_chunks::<8>();
        let to = words.get(first..).unwrap_or_default();
        for (word, bytes) in to.iter().zip(whole) {
            word.store(u64::from_le_bytes(*bytes), Relaxed);
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            store(words, first + whole.len(), u64::from_le_bytes(last));
        }
        self.write_slot(place, header);
    }

    /// Copies a unit that starts at `start` in the ring that this one replaces.
    pub(crate) fn adopt(&mut self, place: Place, header: UnitHeader, from: &Self, start: u64) {
        let to = self.geometry.arena_word(place.start);
        let source = from.geometry.arena_word(start);
        let count = (header.len as usize).div_ceil(8);
        let to = self.backing.words().get(to..to + count).unwrap_or_default();
        let source = from.backing.words().get(source..source + count).unwrap_or_default();
        for (to, from) in to.iter().zip(source) {
            to.store(from.load(Relaxed), Relaxed);
        }
        self.write_slot(place, header);
    }

    fn write_slot(&mut self, place: Place, header: UnitHeader) {
        let words = self.backing.words();
        let slot = words.get(self.geometry.slot(header.sequence)..).unwrap_or_default();
        let encoded = Slot { header, offset: place.start }.encode();
        for (word, value) in slot.iter().zip(encoded).take(crate::layout::SLOT_WORDS) {
            word.store(value, Relaxed);
        }
        self.tail = place.end;
    }

    /// Makes everything before `head` visible.
    pub(crate) fn publish(&self, head: u64) {
        // Partner: the acquire fence of `View::head`.
        fence_at(Site::Publish, Release);
        store(self.backing.words(), W_HEAD, head);
    }

    /// Notes the newest keyframe of a track, published before; 0: there is none.
    pub(crate) fn set_key(&self, track: u16, sequence: u64) {
        let word = W_KEYS + usize::from(track);
        if usize::from(track) < crate::TRACKS {
            store(self.backing.words(), word, sequence);
        }
    }

    /// No unit will follow.
    pub(crate) fn close(&self, reason: u64) {
        // Partner: the acquire fence of `View::closed`: who sees the ring closed sees its last head.
        fence_at(Site::Publish, Release);
        store(self.backing.words(), W_CLOSED, reason.saturating_add(1));
    }

    /// Newer units are in the memory of `generation`.
    pub(crate) fn replaced_by(&self, generation: u64) {
        fence_at(Site::Publish, Release);
        store(self.backing.words(), W_REPLACED, generation);
    }
}
