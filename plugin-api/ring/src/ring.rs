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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reader::Target;

    fn header(track: u16, key: bool, number: u64) -> UnitHeader {
        let flags = if key { flags::KEY } else { 0 };
        UnitHeader {
            track,
            flags,
            pts: number as i64,
            dts: number as i64,
            arrival_ns: number * 40_000_000,
            ..UnitHeader::default()
        }
    }

    fn read_all(ring: &Ring, mut cursor: u64, mask: u64) -> (Vec<(UnitHeader, Vec<u8>)>, u64) {
        let (handle, mut found, mut lost) = (ring.handle(), Vec::new(), 0);
        let mut buf = vec![0_u8; 1 << 20];
        loop {
            let outcome = handle.read(cursor, mask, buf.as_mut_slice());
            assert_eq!(outcome.needed, 0);
            lost += outcome.lost;
            let mut rest = &buf[..outcome.written as usize];
            while let Some((head, tail)) = rest.split_first_chunk::<64>() {
                let header = UnitHeader::from_record(head);
                let len = header.len as usize;
                found.push((header, tail[..len].to_vec()));
                rest = &tail[len.next_multiple_of(8)..];
            }
            if outcome.end {
                return (found, lost);
            }
            cursor = outcome.next;
        }
    }

    #[test]
    fn a_long_gop_is_never_lost() {
        for kind in [BackingKind::Heap, BackingKind::Memfd] {
            let mut ring = Ring::new(kind, Limits::default()).unwrap();
            ring.set_track(0, 90_000, true);
            let unit = vec![7_u8; 20_000];
            for number in 1..=300 {
                ring.push(&header(0, number == 1, number), &unit).unwrap();
            }
            assert_eq!(ring.handle().locate(Target::NewestKey { track: 0 }), Some(1));
            let (units, lost) = read_all(&ring, 1, 1);
            assert_eq!((units.len(), lost), (300, 0));
            let stats = ring.stats();
            assert!(stats.replaced > 0 && stats.key_given_up == 0, "{stats:?}");
            assert!(stats.bytes < 300 * 20_000 * 2, "{stats:?}");
        }
    }

    /// The unit `cursor`, which is the newest.
    fn read_newest(ring: &Ring, cursor: u64, buf: &mut [u8]) -> (u64, usize) {
        let outcome = ring.handle().read(cursor, u64::MAX, buf);
        assert_eq!((outcome.units, outcome.lost, outcome.end), (1, 0, true), "unit {cursor}: {outcome:?}");
        let (head, payload) = buf.split_first_chunk::<64>().unwrap();
        let header = UnitHeader::from_record(head);
        let len = header.len as usize;
        assert!(payload[..len].iter().all(|byte| *byte == header.sequence as u8));
        (header.sequence, len)
    }

    #[test]
    fn a_keyframe_much_larger_than_the_rest_stays_when_the_ring_grows() {
        let mut ring = Ring::new(BackingKind::Heap, Limits::default()).unwrap();
        ring.set_track(0, 90_000, true);
        for number in 1..=600 {
            let len = if number == 1 { 1_500_000 } else { 20_000 };
            ring.push(&header(0, number == 1, number), &vec![number as u8; len]).unwrap();
            assert_eq!(ring.handle().locate(Target::NewestKey { track: 0 }), Some(1), "unit {number}");
        }
        let stats = ring.stats();
        assert!(stats.replaced > 1 && stats.key_given_up == 0 && stats.oldest == 1, "{stats:?}");
    }

    #[test]
    fn what_is_new_stays_when_the_ring_shrinks_below_an_old_unit() {
        let mut ring = Ring::new(BackingKind::Heap, Limits::default()).unwrap();
        ring.set_track(0, 90_000, true);
        let (mut number, mut buf) = (0, vec![0; 4 << 20]);
        for gop in 0..24 {
            for at in 0..5 {
                number += 1;
                let len = if gop < 3 && at == 0 { 3_000_000 } else { 5_000 };
                ring.push(&header(0, at == 0, number), &vec![number as u8; len]).unwrap();
                read_newest(&ring, number, &mut buf);
                let key = ring.handle().locate(Target::NewestKey { track: 0 });
                assert_eq!(key, Some(number - at), "unit {number}");
            }
        }
        let stats = ring.stats();
        assert!(stats.bytes < 2 << 20 && stats.key_given_up == 0, "{stats:?}");
    }

    #[test]
    fn a_reader_loses_nothing_while_the_memory_is_replaced_under_it() {
        use std::sync::atomic::{AtomicU64, Ordering};
        use std::thread;
        const UNITS: u64 = 6000;
        let limits = Limits { keyframe_only_ms: 0, ..Limits::default() };
        let mut ring = Ring::new(BackingKind::Memfd, limits).unwrap();
        ring.set_track(0, 90_000, true);
        let (handle, read) = (ring.handle(), Arc::new(AtomicU64::new(0)));
        let done = Arc::clone(&read);
        let reader = thread::spawn(move || {
            let (mut cursor, mut generations, mut buf) = (1, 0, vec![0; 4 << 20]);
            let mut generation = 0;
            while cursor <= UNITS {
                let outcome = handle.read(cursor, 1, buf.as_mut_slice());
                assert_eq!((outcome.lost, outcome.needed), (0, 0), "at {cursor}");
                let mut rest = &buf[..outcome.written as usize];
                while let Some((head, tail)) = rest.split_first_chunk::<64>() {
                    let header = UnitHeader::from_record(head);
                    let len = header.len as usize;
                    assert_eq!(header.sequence, cursor);
                    assert!(tail[..len].iter().all(|byte| *byte == cursor as u8), "unit {cursor}");
                    rest = &tail[len.next_multiple_of(8)..];
                    cursor += 1;
                }
                generations += u64::from(generation != handle.generation());
                generation = handle.generation();
                done.store(cursor - 1, Ordering::Release);
                thread::yield_now();
            }
            generations
        });
        // Periods of large and of small pictures, so that the ring grows and shrinks.
        for number in 1..=UNITS {
            let large = number / 600 % 2 == 0;
            let key = number % 20 == 1;
            let len = match (large, key) {
                (true, true) => 700_000,
                (true, false) => 60_000,
                (false, true) => 30_000,
                (false, false) => 3_000,
            };
            ring.push(&header(0, key, number), &vec![number as u8; len]).unwrap();
            // The reader lags by two at most: those are never given up.
            while read.load(Ordering::Acquire) + 2 < number && !reader.is_finished() {
                thread::yield_now();
            }
        }
        let stats = ring.stats();
        let seen = reader.join().unwrap();
        assert!(stats.replaced >= 6 && stats.key_given_up == 0, "{stats:?}");
        assert!(seen >= 4, "the reader saw {seen} of {} memories", stats.generation);
    }

    #[test]
    fn memory_is_given_back_when_the_need_falls() {
        let limits = Limits::default();
        let budget = Arc::clone(&limits.budget);
        let mut ring = Ring::new(BackingKind::Memfd, limits).unwrap();
        ring.set_track(0, 90_000, true);
        let (mut number, mut cursor) = (0, 1);
        let mut gop = |ring: &mut Ring, len: usize| {
            for at in 0..100 {
                number += 1;
                ring.push(&header(0, at == 0, number), &vec![number as u8; len]).unwrap();
            }
            let (units, lost) = read_all(ring, cursor, 1);
            assert_eq!(
                (units.len() as u64, lost),
                (number + 1 - cursor, 0),
                "a reader that keeps up loses nothing"
            );
            assert!(units.iter().all(|(h, data)| data.iter().all(|b| *b == h.sequence as u8)));
            cursor = number + 1;
        };
        gop(&mut ring, 100_000);
        gop(&mut ring, 100_000);
        let large = ring.stats();
        assert!(large.bytes > 10_000_000, "{large:?}");
        for _ in 0..24 {
            gop(&mut ring, 5_000);
        }
        let small = ring.stats();
        assert!(small.bytes < large.bytes / 4 && small.key_given_up == 0, "{small:?}");
        assert_eq!(budget.used(), small.bytes);
        let replaced = small.replaced;
        for _ in 0..24 {
            gop(&mut ring, 5_000);
        }
        assert_eq!(ring.stats().replaced, replaced, "it does not swing");
    }

    #[test]
    fn at_the_limit_the_keyframe_is_given_up_and_units_still_flow() {
        let limits = Limits { max_bytes: 2 << 20, ..Limits::default() };
        let budget = Arc::clone(&limits.budget);
        let mut ring = Ring::new(BackingKind::Heap, limits).unwrap();
        ring.set_track(0, 90_000, true);
        for number in 1..=400 {
            ring.push(&header(0, number == 1, number), &[1; 20_000]).unwrap();
        }
        let stats = ring.stats();
        assert!(stats.bytes <= 2 << 20 && stats.key_given_up > 0, "{stats:?}");
        assert_eq!(ring.handle().locate(Target::NewestKey { track: 0 }), None);
        assert_eq!(
            ring.push(&header(0, false, 401), &vec![0; 3 << 20]),
            Err(PushError::OverLimit {
                needed: match ring.push(&header(0, false, 401), &vec![0; 3 << 20]) {
                    Err(PushError::OverLimit { needed, .. }) => needed,
                    other => panic!("{other:?}"),
                },
                allowed: 2 << 20,
            })
        );
        ring.push(&header(0, false, 402), &[2; 10]).unwrap();
        let (units, _) = read_all(&ring, ring.stats().head - 1, 1);
        assert_ne!(units[0].0.flags & flags::DISCONTINUITY, 0, "the unit after a dropped one is marked");
        drop(ring);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_keyframe_of_an_older_configuration_is_no_start() {
        let mut ring = Ring::new(BackingKind::Heap, Limits::default()).unwrap();
        ring.set_track(0, 90_000, true);
        for number in 1..=10 {
            ring.push(&header(0, number == 1, number), &[1; 1000]).unwrap();
        }
        let newest = |ring: &Ring| ring.handle().locate(Target::NewestKey { track: 0 });
        assert_eq!(newest(&ring), Some(1));
        ring.forget_key(0);
        assert_eq!(newest(&ring), None);
        // Not even when the memory is replaced meanwhile.
        for number in 11..=200 {
            ring.push(&header(0, false, number), &[1; 20_000]).unwrap();
        }
        assert!(ring.stats().replaced > 0 && newest(&ring).is_none(), "{:?}", ring.stats());
        ring.push(&header(0, true, 201), &[1; 100]).unwrap();
        assert_eq!(newest(&ring), Some(201));
    }

    #[test]
    fn a_closed_ring_says_so_after_its_last_unit() {
        let mut ring = Ring::new(BackingKind::Heap, Limits::default()).unwrap();
        ring.push(&header(0, true, 1), &[1; 100]).unwrap();
        ring.close(5);
        let mut buf = [0_u8; 1024];
        let outcome = ring.handle().read(1, 1, buf.as_mut_slice());
        assert_eq!((outcome.units, outcome.closed), (1, Some(5)));
        assert_eq!(ring.push(&header(0, true, 2), &[1]), Err(PushError::Closed { reason: 5 }));
    }

    /// Most units are small, a few much larger than the rest.
    fn lengths() -> impl Strategy<Value = usize> {
        prop_oneof![60 => 1_usize..40_000, 1 => 300_000_usize..900_000]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Against a model that holds everything: what is read is what was pushed, in order, and nothing since the
        /// newest keyframe is missing.
        #[test]
        fn reads_are_the_pushes(ops in prop::collection::vec((0_u16..3, prop::bool::weighted(0.05), lengths()), 1..400), retain in 0_u64..3) {
            let mut ring = Ring::new(BackingKind::Heap, Limits::default()).unwrap();
            ring.set_track(0, 90_000, true);
            ring.retain(retain * 1000);
            let mut model = Vec::new();
            let mut cursor = 1;
            let mut delivered = 0;
            for (number, (track, key, len)) in (1_u64..).zip(ops) {
                let data: Vec<u8> = (0..len).map(|i| (i as u64 * number) as u8).collect();
                let sequence = ring.push(&header(track, key, number), &data).unwrap();
                prop_assert_eq!(sequence, number);
                // Who keeps up gets everything.
                prop_assert_eq!(ring.stats().oldest <= number, true);
                model.push((track, key, data));
                if number % 7 == 0 {
                    let (units, lost) = read_all(&ring, cursor, u64::MAX);
                    prop_assert_eq!(units.len() as u64 + lost, ring.stats().head - cursor);
                    for (header, data) in &units {
                        let (track, _, pushed) = &model[header.sequence as usize - 1];
                        prop_assert_eq!((header.track, data), (*track, pushed));
                    }
                    delivered += units.len();
                    cursor = ring.stats().head;
                }
            }
            let newest_key = model.iter().rposition(|(track, key, _)| *track == 0 && *key);
            let located = ring.handle().locate(Target::NewestKey { track: 0 });
            prop_assert_eq!(located, newest_key.map(|at| at as u64 + 1));
            if let Some(at) = newest_key {
                let (units, lost) = read_all(&ring, at as u64 + 1, u64::MAX);
                prop_assert_eq!((units.len(), lost), (model.len() - at, 0));
            }
            let _ = delivered;
        }
    }
}
