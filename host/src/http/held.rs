//! Large chunks on their way to clients of HTTP: handed on in parts, so that what a client does not take stays here, where
//! it can be given up.
//!
//! A start of the stream is made for one viewer, and clients that connect and read nothing would hold one each.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;
use std::time::Duration;

use axum::body::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Bytes of one part: what HTTP's queue takes.
const PART: usize = 64 << 10;

/// Bytes that all clients may have yet to take; past them those that have stalled longest are given up.
const MAX_HELD: usize = 64 << 20;

/// A client that takes nothing for so long has stalled.
const STALLED: Duration = Duration::from_secs(10);

static HELD: LazyLock<Mutex<Held>> = LazyLock::new(|| Mutex::new(Held::new(MAX_HELD)));

/// Bytes that clients have yet to take, and those of clients that were given up so far.
pub(super) fn figures() -> (u64, u64) {
    let held = HELD.lock();
    (held.bytes as u64, held.given_up)
}

/// A chunk on its way to one client.
pub(super) struct Chunk(Way);

enum Way {
    Small(Bytes),
    /// By its number.
    Large(u64),
}

impl Chunk {
    pub(super) fn new(data: Bytes) -> Self {
        if data.len() <= PART {
            return Self(Way::Small(data));
        }
        Self(Way::Large(HELD.lock().keep(data, Instant::now())))
    }

    /// The next part; empty: there is no more. `None`: the client was given up.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Way::Small(data) => Some(std::mem::take(data)),
            Way::Large(id) => {
                let part = HELD.lock().take(*id, Instant::now());
                // A handle in HTTP's queue would keep the whole. Copied while nobody waits for the lock.
                part.map(|part| Bytes::copy_from_slice(&part))
            }
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Way::Large(id) = self.0 {
            HELD.lock().release(id);
        }
    }
}

struct Held {
    most: usize,
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// By address: how many clients share the bytes.
    shared: HashMap<usize, usize>,
    bytes: usize,
    given_up: u64,
}

struct Waiting {
    all: Bytes,
    taken: usize,
    /// When its client took something.
    at: Instant,
}

impl Held {
    fn new(most: usize) -> Self {
        Self { most, next: 0, waiting: BTreeMap::new(), shared: HashMap::new(), bytes: 0, given_up: 0 }
    }

    fn keep(&mut self, all: Bytes, now: Instant) -> u64 {
        let sharers = self.shared.entry(all.as_ptr().addr()).or_default();
        *sharers += 1;
        if *sharers == 1 {
            self.bytes += all.len();
        }
        let id = self.next;
        self.next += 1;
        self.waiting.insert(id, Waiting { all, taken: 0, at: now });
        if self.bytes > self.most {
            self.give_up(now);
        }
        id
    }

    /// The next part, of the whole's memory.
    fn take(&mut self, id: u64, now: Instant) -> Option<Bytes> {
        let waiting = self.waiting.get_mut(&id)?;
        let end = waiting.all.len().min(waiting.taken + PART);
        let part = waiting.all.slice(waiting.taken..end);
        waiting.taken = end;
        waiting.at = now;
        Some(part)
    }

    fn release(&mut self, id: u64) {
        let Some(waiting) = self.waiting.remove(&id) else { return };
        let place = waiting.all.as_ptr().addr();
        let Some(sharers) = self.shared.get_mut(&place) else { return };
        *sharers -= 1;
        if *sharers == 0 {
            self.shared.remove(&place);
            self.bytes -= waiting.all.len();
        }
    }

    fn give_up(&mut self, now: Instant) {
        let stalled = |(id, waiting): (&u64, &Waiting)| {
            (now.saturating_duration_since(waiting.at) >= STALLED).then_some((waiting.at, *id))
        };
        let mut stalled: Vec<(Instant, u64)> = self.waiting.iter().filter_map(stalled).collect();
        stalled.sort_unstable();
        for (_, id) in stalled {
            if self.bytes <= self.most {
                return;
            }
            self.release(id);
            self.given_up += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn those_that_stalled_longest_are_given_up_when_it_is_too_much() {
        let (mut held, start) = (Held::new(1_000_000), Instant::now());
        let large = |byte| Bytes::from(vec![byte; 400_000]);
        let shared = large(1);
        let ids = [held.keep(shared.clone(), start), held.keep(shared, start), held.keep(large(2), start)];
        assert_eq!(held.bytes, 800_000, "what is shared counts once");
        let later = start + STALLED;
        assert_eq!(held.take(ids[1], later).map(|part| part.len()), Some(PART));
        let fourth = held.keep(large(3), later);
        // The first, whose bytes another one keeps, then the third.
        assert_eq!((held.bytes, held.given_up), (800_000, 2));
        assert!(held.take(ids[0], later).is_none() && held.take(ids[2], later).is_none());
        assert_eq!(held.take(fourth, later).map(|part| part[0]), Some(3));
        held.keep(large(4), later);
        assert_eq!((held.bytes, held.given_up), (1_200_000, 2), "none has stalled");
    }

    proptest! {
        #[test]
        fn parts_add_up_and_nothing_stays(lens in proptest::collection::vec(0_usize..300_000, 0..6)) {
            let (mut held, now) = (Held::new(usize::MAX), Instant::now());
            for len in &lens {
                let all: Bytes = (0..*len).map(|at| at as u8).collect();
                let id = held.keep(all.clone(), now);
                let mut came = Vec::new();
                while let Some(part) = held.take(id, now).filter(|part| !part.is_empty()) {
                    prop_assert!(part.len() <= PART);
                    came.extend_from_slice(&part);
                }
                prop_assert_eq!(came, all);
                held.release(id);
            }
            prop_assert_eq!((held.bytes, held.waiting.len(), held.shared.len()), (0, 0, 0));
        }
    }
}
