//! Reading a ring that somebody else writes: copy, then check that the copy was not overtaken.
//!
//! Whatever the memory holds, a read ends after at most one step per slot and touches nothing outside of it.

use crate::layout::{Geometry, SLOT_WORDS, Slot, W_CLOSED, W_FLOOR, W_HEAD, W_KEYS, W_REPLACED, load};
use crate::output::Output;
use crate::sync::{Acquire, AtomicU64, Relaxed, Site, fence_at, strong};
use crate::unit::{RECORD_HEADER, TRACKS};

/// What a read did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReadOutcome {
    /// Where the next read goes on.
    pub next: u64,
    /// Records written.
    pub units: u32,
    /// Bytes of these records.
    pub written: u64,
    /// Units of any track from the cursor on that were overwritten before they could be read. They all lie before the
    /// first record: a loss behind it is left to the next read.
    pub lost: u64,
    /// Everything that was there is read.
    pub end: bool,
    /// Bytes the next record needs, when not even one fitted; else 0.
    pub needed: u64,
    /// The ring takes no more units, and why. With `end`, nothing follows.
    pub closed: Option<u64>,
    /// The mapped memory has a successor, where newer units are: map that one and go on there with `next`. Never set
    /// by a [`RingHandle`](crate::RingHandle), which follows by itself.
    pub replaced: bool,
}

/// What [`locate`](crate::RingHandle::locate) looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// The newest keyframe of a track; on a track without keyframes its newest unit.
    NewestKey {
        /// The track.
        track: u16,
    },
    /// The newest keyframe of a track that came at least `ms` before the newest unit of the ring, or the oldest
    /// keyframe there is, if that came later.
    KeyBefore {
        /// The track.
        track: u16,
        /// Milliseconds before the newest unit.
        ms: u64,
    },
    /// The oldest unit.
    Oldest,
    /// The next unit to come.
    Head,
}

/// Losses in a row after which a read returns instead of trying again.
const TRIES: u32 = 3;

/// A reader's view of one ring memory.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) words: &'a [AtomicU64],
    pub(crate) geometry: Geometry,
}

/// Why a slot could not be read.
enum Miss {
    /// The writer was faster.
    Overtaken,
    /// No such unit although the floor says so: memory of a hostile writer.
    Broken,
}

impl<'a> View<'a> {
    /// The next sequence to be written. Everything before it is visible after this.
    pub(crate) fn head(self) -> u64 {
        let head = load(self.words, W_HEAD);
        // Partner: the release fence before the head is stored (`Writer::publish`).
        fence_at(Site::Head, Acquire);
        head
    }

    /// Why the ring was closed. To be called before `head`: then a closed ring's head is its last.
    pub(crate) fn closed(self) -> Option<u64> {
        let closed = load(self.words, W_CLOSED);
        // Partner: the release fence of `Writer::close`.
        fence_at(Site::Head, Acquire);
        closed.checked_sub(1)
    }

    /// Generation of the successor, once there is one.
    pub(crate) fn replaced(self) -> Option<u64> {
        Some(load(self.words, W_REPLACED)).filter(|generation| *generation != 0)
    }

    /// The oldest sequence that may still be whole, between 1 and `head`.
    pub(crate) fn oldest(self, head: u64) -> u64 {
        let floor = load(self.words, W_FLOOR).max(1);
        floor.max(head.saturating_sub(self.geometry.slots)).min(head)
    }

    /// Whether what was loaded before this call, of the unit `sequence`, was whole.
    fn still_whole(self, sequence: u64) -> bool {
        // Partner: the release fence after the floor is stored (`Writer::exclude`): who has seen one word of the
        // overwriting unit sees the floor that excludes `sequence`.
        fence_at(Site::Validate, Acquire);
        load(self.words, W_FLOOR) <= sequence || !strong(Site::Check)
    }

    /// Copies a slot without checking that it was whole.
    fn copy_slot(self, sequence: u64) -> Option<Slot> {
        let first = self.geometry.slot(sequence);
        let slot = self.words.get(first..first + SLOT_WORDS)?;
        let (id, rest) = slot.split_first()?;
        if id.load(Relaxed) != sequence {
            return None;
        }
        let mut words = [0; 8];
        for (to, from) in words.iter_mut().skip(1).zip(rest) {
            *to = from.load(Relaxed);
        }
        words[0] = sequence;
        Some(Slot::decode(words))
    }

    /// A slot that was whole. What it says is still data from outside.
    fn slot(self, sequence: u64) -> Result<Slot, Miss> {
        match self.copy_slot(sequence) {
            _ if !self.still_whole(sequence) => Err(Miss::Overtaken),
            Some(slot) => Ok(slot),
            None => Err(Miss::Broken),
        }
    }

    /// The arena words of a unit, if the slot names a range inside the arena.
    fn payload(self, slot: &Slot) -> Option<&'a [AtomicU64]> {
        let len = u64::from(slot.header.len);
        let position = slot.offset % self.geometry.arena;
        if !position.is_multiple_of(8) || position + len > self.geometry.arena {
            return None;
        }
        let first = self.geometry.arena_word(slot.offset);
        self.words.get(first..first + len.div_ceil(8) as usize)
    }

    /// See [`RingHandle::read`](crate::RingHandle::read).
    pub(crate) fn read<O: Output + ?Sized>(self, cursor: u64, mask: u64, out: &mut O) -> ReadOutcome {
        let closed = self.closed();
        let head = self.head();
        let mut done = ReadOutcome { next: cursor.max(1), closed, ..ReadOutcome::default() };
        let mut tries = 0;
        while done.next < head {
            let oldest = self.oldest(head);
            if done.next < oldest {
                if done.units > 0 {
                    return done;
                }
                done.lost += oldest - done.next;
                done.next = oldest;
                continue;
            }
            match self.deliver(done.next, mask, out, &mut done) {
                Ok(true) => done.next += 1,
                Ok(false) => return done,
                Err(_) if done.units > 0 => return done,
                Err(Miss::Broken) => {
                    done.lost += 1;
                    done.next += 1;
                }
                Err(Miss::Overtaken) => {
                    tries += 1;
                    if tries == TRIES {
                        return done;
                    }
                }
            }
        }
        done.end = true;
        done
    }

    /// Appends the record of one unit, or skips it. `Ok(false)`: it does not fit.
    fn deliver<O: Output + ?Sized>(
        self,
        sequence: u64,
        mask: u64,
        out: &mut O,
        done: &mut ReadOutcome,
    ) -> Result<bool, Miss> {
        // For a unit that is copied the check comes once, behind the payload.
        let Some(slot) = self.copy_slot(sequence) else {
            return Err(if self.still_whole(sequence) { Miss::Broken } else { Miss::Overtaken });
        };
        let check = |ok| if self.still_whole(sequence) { ok } else { Err(Miss::Overtaken) };
        if usize::from(slot.header.track) >= TRACKS || mask >> slot.header.track & 1 == 0 {
            return check(Ok(true));
        }
        let Some(payload) = self.payload(&slot) else { return check(Err(Miss::Broken)) };
        let at = done.written as usize;
        let record = slot.header.record_len();
        if out.room().saturating_sub(at) < record {
            let outcome = check(Ok(false));
            if outcome.is_ok() && done.units == 0 {
                done.needed = record as u64;
            }
            return outcome;
        }
        out.copy(at + RECORD_HEADER, payload);
        check(Ok(true))?;
        out.put(at, &slot.header.to_record());
        done.units += 1;
        done.written += record as u64;
        Ok(true)
    }

    /// See [`RingHandle::locate`](crate::RingHandle::locate).
    pub(crate) fn locate(self, target: Target) -> Option<u64> {
        let head = self.head();
        match target {
            Target::Head => Some(head.max(1)),
            Target::Oldest => Some(self.oldest(head)).filter(|oldest| (1..head).contains(oldest)),
            Target::NewestKey { track } => self.newest_key(track, head),
            Target::KeyBefore { track, ms } => {
                let now = self.slot(head.checked_sub(1)?).ok()?.header.arrival_ns;
                self.key_before(track, now.saturating_sub(ms.saturating_mul(1_000_000)), head)
            }
        }
    }

    fn newest_key(self, track: u16, head: u64) -> Option<u64> {
        if usize::from(track) >= TRACKS {
            return None;
        }
        let key = load(self.words, W_KEYS + usize::from(track));
        // A key stored after `head` was loaded lies behind it: as good as one before it.
        (key != 0 && key >= self.oldest(head)).then_some(key)
    }

    /// Walks back from keyframe to keyframe until one that came at or before `latest_ns`.
    fn key_before(self, track: u16, latest_ns: u64, head: u64) -> Option<u64> {
        let mut found = None;
        let mut at = self.newest_key(track, head)?;
        // Each step goes back by one at least, and never below the floor.
        while let Ok(slot) = self.slot(at) {
            if slot.header.track == track && slot.header.last_key == at {
                found = Some(at);
                if slot.header.arrival_ns <= latest_ns {
                    break;
                }
            }
            let back = if slot.header.track == track { slot.header.last_key } else { 0 };
            at = if (1..at).contains(&back) { back } else { at - 1 };
            if at < self.oldest(head) || at + self.geometry.slots < head {
                break;
            }
        }
        found
    }
}
