//! The ring of one source: what it holds, when it grows.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::TRACKS;
use crate::backing::{BackingKind, page_size};
use crate::budget::{Budget, Lease};
use crate::error::{PushError, RingError};
use crate::handle::{Generation, RingHandle};
use crate::layout::{Geometry, MAX_SLOTS, unit_bytes};
use crate::sizing::{Gops, START_ARENA, START_SLOTS};
use crate::unit::{UnitHeader, flags};
use crate::writer::{Place, Writer};

/// Units that tracks without a keyframe track keep at least.
const LEAST_UNITS: usize = 4;

/// What a ring may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of one ring.
    pub max_bytes: u64,
    /// Bytes of all rings together.
    pub budget: Arc<Budget>,
    /// Bytes of one unit.
    pub max_unit_bytes: u64,
    /// What a source without keyframes (JPEG, raw, audio) keeps.
    pub keyframe_only_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            budget: Budget::new(u64::MAX),
            max_unit_bytes: 32 << 20,
            keyframe_only_ms: 500,
        }
    }
}

/// Figures of a ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingStats {
    /// Bytes of its memory.
    pub bytes: u64,
    /// Units it can tell apart.
    pub slots: u64,
    /// Bytes of the units in it.
    pub used_bytes: u64,
    /// Units in it.
    pub units: u64,
    /// Number of its memory, from 1 on.
    pub generation: u64,
    /// The next sequence.
    pub head: u64,
    /// The oldest sequence.
    pub oldest: u64,
    /// Units that were not taken.
    pub dropped_units: u64,
    /// How often its memory was replaced.
    pub replaced: u64,
    /// How often the newest keyframe was overwritten because a limit allowed no growth.
    pub key_given_up: u64,
}

/// The writer's side of a ring, with its own record of what it holds: nothing is ever read back from shared memory.
pub struct Ring {
    kind: BackingKind,
    limits: Limits,
    lease: Lease,
    writer: Writer,
    handle: Arc<RingHandle>,
    live: VecDeque<Entry>,
    next: u64,
    tracks: Vec<Track>,
    gops: Gops,
    generation: u64,
    retain_ns: u64,
    used_bytes: u64,
    dropped: u64,
    given_up: u64,
    closed: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    header: UnitHeader,
    start: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Track {
    has_keys: bool,
    last_key: u64,
    lost: bool,
    /// The newest keyframe is of another configuration than the next unit.
    stale: bool,
}

impl Ring {
    /// An empty ring of the start size.
    pub fn new(kind: BackingKind, limits: Limits) -> Result<Self, RingError> {
        let geometry = Geometry::new(START_SLOTS, START_ARENA, page_size());
        let lease = Lease::entitled(Arc::clone(&limits.budget), geometry.bytes());
        let backing = kind.create(geometry.words())?;
        let writer = Writer::new(Arc::clone(&backing), geometry, 1, 1);
        let handle = RingHandle::new(Generation { backing, geometry, number: 1 });
        Ok(Self {
            kind,
            limits,
            lease,
            writer,
            handle,
            live: VecDeque::new(),
            next: 1,
            tracks: vec![Track::default(); TRACKS],
            gops: Gops::default(),
            generation: 1,
            retain_ns: 0,
            used_bytes: 0,
            dropped: 0,
            given_up: 0,
            closed: None,
        })
    }

    /// Says whether units of `track` need a keyframe before them (video); tracks without (audio, JPEG, raw) are all
    /// keys. The clock rate is the caller's to know.
    pub fn set_track(&mut self, track: u16, _clock_rate: u32, has_keys: bool) {
        if let Some(track) = self.tracks.get_mut(usize::from(track)) {
            track.has_keys = has_keys;
        }
    }

    /// The configuration of `track` has changed: until its next keyframe there is none to start with, since a viewer that
    /// starts with what is there would decode it by the new one.
    pub fn forget_key(&mut self, track: u16) {
        if let Some(known) = self.tracks.get_mut(usize::from(track)) {
            known.stale = true;
            self.writer.set_key(track, 0);
        }
    }

    /// Copies a unit into the ring; `sequence`, `len` and `last_key` of `header` are the ring's to set. Never waits.
    pub fn push(&mut self, header: &UnitHeader, data: &[u8]) -> Result<u64, PushError> {
        if let Some(reason) = self.closed {
            return Err(PushError::Closed { reason });
        }
        let index = usize::from(header.track);
        if index >= self.tracks.len() {
            return Err(PushError::Track { track: header.track });
        }
        let room = match u32::try_from(data.len()) {
            Ok(_) if data.len() as u64 <= self.limits.max_unit_bytes => self.make_room(data.len()),
            _ => Err(PushError::TooLong { len: data.len() as u64, max: self.limits.max_unit_bytes }),
        };
        if let Err(error) = room {
            self.dropped += 1;
            if let Some(track) = self.tracks.get_mut(index) {
                track.lost = true;
            }
            return Err(error);
        }
        let bytes = unit_bytes(data.len()).max(unit_bytes(1));
        let place = self.writer.place(bytes);
        self.evict(place);
        let sequence = self.next;
        let mut header = UnitHeader { sequence, len: data.len() as u32, reserved: 0, ..*header };
        let mut is_key = false;
        if let Some(track) = self.tracks.get_mut(index) {
            is_key = !track.has_keys || header.flags & flags::KEY != 0;
            let before = track.last_key;
            if is_key {
                track.last_key = sequence;
                track.stale = false;
            }
            header.last_key = track.last_key;
            if std::mem::take(&mut track.lost) {
                header.flags |= flags::DISCONTINUITY;
            }
            if is_key && track.has_keys && before != 0 {
                let first = self.live.partition_point(|entry| entry.header.sequence < before);
                let gop = self.live.range(first..);
                let (bytes, units) =
                    gop.fold((0, 0), |(bytes, units), entry| (bytes + entry.bytes, units + 1));
                self.gops.add(bytes, units);
            }
        }
        self.writer.write(place, header, data);
        self.live.push_back(Entry { header, start: place.start, bytes });
        self.used_bytes += bytes;
        self.next += 1;
        self.writer.publish(self.next);
        if is_key {
            self.writer.set_key(header.track, sequence);
        }
        self.handle.announce(header.track, sequence);
        if is_key && self.gops.is_full() {
            self.shrink();
        }
        Ok(sequence)
    }

    /// Gives memory back when the need fell to less than half for [`Gops`]'s whole memory: after a switch to the
    /// substream, or a burst of long GOPs.
    fn shrink(&mut self) {
        let geometry = self.writer.geometry();
        if geometry.arena <= 2 * START_ARENA {
            return;
        }
        let protected = self.protected();
        let first = self.live.partition_point(|entry| entry.header.sequence < protected);
        let window: u64 = self.live.range(first..).map(|entry| entry.bytes).sum();
        let (arena, slots) = self.gops.wanted(window, (self.live.len() - first) as u64);
        let wanted = Geometry::new(slots.max(START_SLOTS), arena.max(START_ARENA), page_size());
        if wanted.arena <= geometry.arena / 2 && self.replace(wanted, 0) {
            self.gops.forget();
        }
    }

    /// Keeps at least `ms` of units from now on, as far as the limits allow; 0 keeps what live viewers need.
    pub fn retain(&mut self, ms: u64) {
        self.retain_ns = ms.saturating_mul(1_000_000);
    }

    /// What readers use; stays valid over replacements and after the ring.
    pub fn handle(&self) -> Arc<RingHandle> {
        Arc::clone(&self.handle)
    }

    /// The lowest configuration epoch that a unit of `track` in the ring names.
    pub fn oldest_epoch(&self, track: u16) -> Option<u32> {
        self.live.iter().filter(|entry| entry.header.track == track).map(|entry| entry.header.epoch).min()
    }

    /// Figures.
    pub fn stats(&self) -> RingStats {
        RingStats {
            bytes: self.writer.geometry().bytes(),
            slots: self.writer.geometry().slots,
            used_bytes: self.used_bytes,
            units: self.live.len() as u64,
            generation: self.generation,
            head: self.next,
            oldest: self.live.front().map_or(self.next, |entry| entry.header.sequence),
            dropped_units: self.dropped,
            replaced: self.generation - 1,
            key_given_up: self.given_up,
        }
    }

    /// No unit will follow: readers are told after the last one.
    pub fn close(&mut self, reason: u64) {
        self.closed = Some(reason);
        self.writer.close(reason);
        self.handle.close(reason);
    }

    /// The oldest sequence that must not be written over.
    fn protected(&self) -> u64 {
        let oldest = self.live.front().map_or(self.next, |entry| entry.header.sequence);
        let newest_ns = self.live.back().map_or(0, |entry| entry.header.arrival_ns);
        let younger_than = |ns: u64| {
            let young = |entry: &Entry| newest_ns.saturating_sub(entry.header.arrival_ns) < ns;
            let at = self.live.partition_point(|entry| !young(entry));
            self.live.get(at).map_or(self.next, |entry| entry.header.sequence)
        };
        let keys =
            self.tracks.iter().filter(|track| track.has_keys && track.last_key >= oldest).map(|t| t.last_key);
        let least = self.live.len().checked_sub(LEAST_UNITS).and_then(|at| self.live.get(at));
        let wanted = keys.min().unwrap_or_else(|| {
            let recent = younger_than(self.limits.keyframe_only_ms * 1_000_000);
            recent.min(least.map_or(oldest, |entry| entry.header.sequence))
        });
        if self.retain_ns == 0 { wanted } else { wanted.min(younger_than(self.retain_ns)) }
    }

    /// Grows the ring when a unit of `len` bytes would cover what must stay.
    fn make_room(&mut self, len: usize) -> Result<(), PushError> {
        let bytes = unit_bytes(len).max(unit_bytes(1));
        let protected = self.protected();
        let geometry = self.writer.geometry();
        let first = self.live.partition_point(|entry| entry.header.sequence < protected);
        let kept = self.live.len() - first;
        let fits = bytes <= geometry.arena && {
            let place = self.writer.place(bytes);
            let whole = self.live.get(first).is_none_or(|entry| !self.writer.covers(place, entry.start));
            whole && (kept as u64) < geometry.slots
        };
        if fits {
            return Ok(());
        }
        let window: u64 = self.live.range(first..).map(|entry| entry.bytes).sum();
        // A unit that would straddle the end leaves as much as its own length unused.
        let (arena, slots) = self.gops.wanted(window + 2 * bytes, kept as u64 + 1);
        let allowed = self.lease.allowed().min(self.limits.max_bytes);
        let wanted = Geometry::within(slots.min(MAX_SLOTS), arena.max(geometry.arena), page_size(), allowed);
        let larger = wanted.arena > geometry.arena || wanted.slots > geometry.slots;
        if larger
            && wanted.arena >= geometry.arena
            && wanted.bytes() <= allowed
            && self.replace(wanted, bytes)
        {
            let place = self.writer.place(bytes);
            if bytes <= wanted.arena
                && self
                    .live
                    .iter()
                    .find(|e| e.header.sequence >= protected)
                    .is_none_or(|e| !self.writer.covers(place, e.start))
            {
                return Ok(());
            }
        }
        if bytes > self.writer.geometry().arena {
            return Err(PushError::OverLimit { needed: arena, allowed });
        }
        self.given_up += 1;
        Ok(())
    }

    /// Goes on in new memory with room for a next unit of `next` bytes, after the live units were copied over, the newest
    /// as far as they fit. False: there is no memory.
    fn replace(&mut self, geometry: Geometry, next: u64) -> bool {
        let before = self.lease.bytes();
        if !self.lease.resize(geometry.bytes()) {
            return false;
        }
        let Ok(backing) = self.kind.create(geometry.words()) else {
            self.lease.resize(before);
            return false;
        };
        // They are laid one behind the other. What must stay goes only when there is no place for it at all; what is older
        // also makes way for the next unit and one like those that stay, which else would cover what must stay.
        let protected = self.protected();
        let stays = |entry: &Entry| entry.header.sequence >= protected;
        let like = self.live.iter().filter(|entry| stays(entry)).map(|entry| entry.bytes).max().unwrap_or(0);
        let mut total: u64 = self.live.iter().map(|entry| entry.bytes).sum();
        while let Some(front) = self.live.front() {
            let room = if stays(front) { 0 } else { next.max(like) };
            if total + room <= geometry.arena && (self.live.len() as u64) < geometry.slots {
                break;
            }
            total -= front.bytes;
            self.used_bytes -= front.bytes;
            self.live.pop_front();
        }
        let first = self.live.front().map_or(self.next, |entry| entry.header.sequence);
        self.generation += 1;
        let mut writer = Writer::new(Arc::clone(&backing), geometry, self.generation, first);
        for entry in &mut self.live {
            let place = writer.place(entry.bytes);
            writer.adopt(place, entry.header, &self.writer, entry.start);
            entry.start = place.start;
        }
        writer.publish(self.next);
        for (index, track) in (0_u16..).zip(&self.tracks) {
            if track.last_key >= first && !track.stale {
                writer.set_key(index, track.last_key);
            }
        }
        self.writer.replaced_by(self.generation);
        self.writer = writer;
        self.handle.switch(Generation { backing, geometry, number: self.generation });
        true
    }

    /// Forgets the units that `place` and its slot will cover, and tells readers before they are written over.
    fn evict(&mut self, place: Place) {
        let slots = self.writer.geometry().slots;
        let before = self.live.len();
        while let Some(front) = self.live.front() {
            if !self.writer.covers(place, front.start) && (self.live.len() as u64) < slots {
                break;
            }
            self.used_bytes -= front.bytes;
            self.live.pop_front();
        }
        if self.live.len() != before {
            self.writer.exclude(self.live.front().map_or(self.next, |entry| entry.header.sequence));
        }
    }
}

#[cfg(test)]
mod tests;
