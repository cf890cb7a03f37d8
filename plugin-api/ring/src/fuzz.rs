//! Entry point of the fuzz target: a reader of memory that a hostile writer fills and changes.

use crate::layout::{
    Geometry, HEADER_WORDS, MAGIC, VERSION, W_ARENA, W_HEAD, W_MAGIC, W_SLOTS, W_VERSION, store,
};
use crate::output::Output;
use crate::reader::{Target, View};
use crate::sync::{AtomicU64, Relaxed};

/// Bytes of the reader's buffer.
const ROOM: usize = 4096;

/// An output that changes the memory while it is copied out.
struct Changing<'a> {
    buf: [u8; ROOM],
    words: &'a [AtomicU64],
    changes: std::slice::Iter<'a, [u8; 10]>,
}

fn change(words: &[AtomicU64], change: [u8; 10]) {
    let [a, b, value @ ..] = change;
    let value = u64::from_le_bytes(value);
    // A third of the changes hits the words that everything hangs on.
    let index = usize::from(u16::from_le_bytes([a, b]));
    let index = if index.is_multiple_of(3) { index % HEADER_WORDS % 90 } else { index % words.len() };
    // Small numbers are near what a ring counts.
    store(words, index, if value.is_multiple_of(2) { value >> 1 & 0x3f } else { value });
}

/// Fills a small ring's memory with `data`, reads, locates and follows its cursor while more of `data` changes it. A read
/// must end, stay within its buffer and its memory, and go forward.
pub fn reader(data: &[u8]) {
    let Some((first, data)) = data.split_first_chunk::<2>() else { return };
    let geometry = Geometry::new(u64::from(first[0] % 6) + 2, u64::from(first[1]) * 16, 8);
    let words: Vec<AtomicU64> = (0..geometry.words()).map(|_| AtomicU64::new(0)).collect();
    let (changes, _) = data.as_chunks::<10>();
    let (before, during) = changes.split_at(changes.len() / 2);
    for step in before {
        change(&words, *step);
    }
    let check = Geometry::check(&words, geometry.bytes());
    assert!(check.is_err() || words.first().is_some_and(|magic| magic.load(Relaxed) == MAGIC));
    for (index, value) in
        [(W_MAGIC, MAGIC), (W_VERSION, VERSION), (W_SLOTS, geometry.slots), (W_ARENA, geometry.arena)]
    {
        store(&words, index, value);
    }
    assert!(Geometry::check(&words, geometry.bytes()).is_ok_and(|found| found == geometry));
    let view = View { words: &words, geometry };
    let mut out = Changing { buf: [0; ROOM], words: &words, changes: during.iter() };
    let mut cursor = 1;
    for _ in 0..16 {
        let outcome = view.read::<Changing<'_>>(cursor, u64::MAX, &mut out);
        assert!(outcome.written as usize <= ROOM, "records stay in the buffer");
        assert!(outcome.next >= cursor.max(1), "reading goes forward");
        assert!(u64::from(outcome.units) <= outcome.next - cursor.max(1), "a unit is delivered once");
        for track in [0, 1, 63, 64, u16::MAX] {
            for target in [
                Target::NewestKey { track },
                Target::KeyBefore { track, ms: 1000 },
                Target::Oldest,
                Target::Head,
            ] {
                let _ = view.locate(target);
            }
        }
        cursor = outcome.next;
        // So that a far head does not end the reading.
        if outcome.end
            && let Some(step) = out.changes.next()
        {
            change(&words, *step);
            store(&words, W_HEAD, cursor.wrapping_add(4));
        }
    }
}

impl crate::output::sealed::Sealed for Changing<'_> {}

impl Output for Changing<'_> {
    fn room(&self) -> usize {
        self.buf.len()
    }

    fn put(&mut self, at: usize, header: &[u8; crate::RECORD_HEADER]) {
        assert!(at + header.len() <= ROOM, "a header stays in the buffer");
        self.buf.as_mut_slice().put(at, header);
    }

    fn copy(&mut self, at: usize, words: &[AtomicU64]) {
        assert!(at + words.len() * 8 <= ROOM, "a payload stays in the buffer");
        self.buf.as_mut_slice().copy(at, words);
        if let Some(step) = self.changes.next() {
            change(self.words, *step);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn memory_of_a_hostile_writer_does_no_harm(data in prop::collection::vec(any::<u8>(), 0..2000)) {
            super::reader(&data);
        }
    }
}
