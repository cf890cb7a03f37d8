//! Loom models of the ring's orderings. Each has twins in which one ordering is weakened, and which must fail.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p patchbay-ring --release --lib model`

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::Site;

/// Sites that a model can weaken, in the order of their numbers.
const SITES: [Site; 11] = [
    Site::Floor,
    Site::Publish,
    Site::Head,
    Site::Validate,
    Site::Check,
    Site::Wake,
    Site::Sleep,
    Site::Arm,
    Site::Collect,
    Site::Newest,
    Site::See,
];

/// Number of the weakened site + 1, 0: none. Not one of loom's: it does not change while a model runs.
static WEAKENED: AtomicUsize = AtomicUsize::new(0);

/// The site that is weakened now.
pub(crate) fn weakened() -> Option<Site> {
    SITES.get(WEAKENED.load(Ordering::Relaxed).wrapping_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::sync::Mutex;

    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::backing::BackingKind;
    use crate::layout::Geometry;
    use crate::reader::View;
    use crate::unit::{RECORD_HEADER, UnitHeader};
    use crate::wake::{Gate, Sleeper, Wake};
    use crate::writer::Writer;

    /// Models share [`WEAKENED`].
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    /// Whether `model` holds with `site` weakened.
    fn holds(site: Option<Site>, model: fn()) -> bool {
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let number = site.map_or(0, |site| SITES.iter().position(|s| *s == site).unwrap() + 1);
        WEAKENED.store(number, Ordering::Relaxed);
        let held = catch_unwind(|| loom::model(model)).is_ok();
        WEAKENED.store(0, Ordering::Relaxed);
        held
    }

    /// A ring of two units of two words: three are pushed while a reader reads.
    fn overwriting() {
        let geometry = Geometry { slots: 2, arena: 32 };
        let backing = BackingKind::Heap.create(geometry.words()).unwrap();
        let mut writer = Writer::new(std::sync::Arc::clone(&backing), geometry, 1, 1);
        let reader = thread::spawn(move || {
            let mut cursor = 1;
            for _ in 0..2 {
                let mut out = [0_u8; 2 * (RECORD_HEADER + 16)];
                let view = View { words: backing.words(), geometry };
                let outcome = view.read(cursor, 1, out.as_mut_slice());
                let mut rest = &out[..outcome.written as usize];
                while let Some((head, tail)) = rest.split_first_chunk::<RECORD_HEADER>() {
                    let header = UnitHeader::from_record(head);
                    let word = u64::from_le_bytes([header.sequence as u8; 8]);
                    let (data, tail) = tail.split_at(16);
                    assert_eq!(data, [word.to_le_bytes(), word.to_le_bytes()].concat(), "a torn unit");
                    assert!(header.sequence >= cursor);
                    rest = tail;
                }
                cursor = outcome.next;
            }
        });
        for sequence in 1..=3_u64 {
            let place = writer.place(16);
            if sequence > 2 {
                writer.exclude(sequence - 1);
            }
            let header = UnitHeader { sequence, len: 16, ..UnitHeader::default() };
            writer.write(place, header, &[sequence as u8; 16]);
            writer.publish(sequence + 1);
        }
        reader.join().unwrap();
    }

    struct Flag(std::sync::Arc<std::sync::atomic::AtomicBool>);

    impl Wake for Flag {
        fn wake(&self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// A reader arms a wake while the writer announces one unit: it is woken, or told not to sleep.
    fn waking() {
        wake_for(1);
    }

    /// The reader waits for the second unit: the first may wake it too, but must not use up its wake.
    fn waking_for_the_second() {
        wake_for(2);
    }

    fn wake_for(wanted: u64) {
        let woken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let sleeper =
            std::sync::Arc::new(Sleeper::new(std::sync::Arc::new(Flag(std::sync::Arc::clone(&woken)))));
        let gate = Arc::new(Gate::new());
        let head = Arc::new(loom::sync::atomic::AtomicU64::new(1));
        let writer = {
            let (gate, sleeper, head) =
                (Arc::clone(&gate), std::sync::Arc::clone(&sleeper), Arc::clone(&head));
            thread::spawn(move || {
                for sequence in 1..=wanted {
                    head.store(sequence + 1, Ordering::Relaxed);
                    if gate.announce(0, sequence) {
                        gate.fire(1, std::iter::once(&*sleeper));
                    }
                }
            })
        };
        let asleep = gate.arm(&sleeper, 1, wanted);
        if !asleep {
            assert_eq!(
                head.load(Ordering::Relaxed),
                wanted + 1,
                "told that there is a unit, and does not see it"
            );
        }
        writer.join().unwrap();
        assert!(!asleep || woken.load(Ordering::SeqCst), "asleep for ever");
    }

    #[test]
    fn no_torn_unit_is_delivered() {
        assert!(holds(None, overwriting));
    }

    #[test]
    fn each_ordering_of_the_memory_is_needed() {
        for site in [Site::Floor, Site::Publish, Site::Head, Site::Validate, Site::Check] {
            assert!(!holds(Some(site), overwriting), "{site:?} can go");
        }
    }

    #[test]
    fn no_wake_is_lost() {
        assert!(holds(None, waking));
        assert!(holds(None, waking_for_the_second));
    }

    #[test]
    fn each_ordering_of_the_wake_is_needed() {
        for site in [Site::Wake, Site::Sleep, Site::Newest, Site::See] {
            assert!(!holds(Some(site), waking), "{site:?} can go");
        }
        for site in [Site::Arm, Site::Collect] {
            assert!(!holds(Some(site), waking_for_the_second), "{site:?} can go");
        }
    }
}
