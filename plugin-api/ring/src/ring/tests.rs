//! What a ring holds while it fills, grows and shrinks.

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
