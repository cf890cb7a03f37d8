//! Times of presentation from the order of presentation.

use std::collections::VecDeque;

use super::Place;

/// Frames taken for the reorder depth of a stream that does not tell it, in a file.
pub const GUESSED_DEPTH: u8 = 2;
/// Most frames that are shown later than they are decoded. H.264 A.3.1, H.265 A.4.2.
pub const MAX_DEPTH: u8 = 16;
/// A picture so far before the last one that was shown begins a sequence of its own: two counts a frame at most.
const NEW_SEQUENCE: i64 = 4 * MAX_DEPTH as i64;

/// Gives pictures their times of presentation: the n-th picture that is shown gets the time of the n-th that was decoded,
/// as a decoder with the stream's reorder depth shows them (H.264 C.4.5.3). A picture is held until its time is known:
/// `depth` pictures at most, none in a stream that is shown in decoding order.
#[derive(Debug)]
pub struct Reorder<T> {
    depth: u8,
    declared: bool,
    /// In decoding order.
    held: VecDeque<Held<T>>,
    /// Times of pictures that were decoded and not given away yet.
    times: VecDeque<i64>,
    /// Pictures in `held` without a time.
    waiting: usize,
    last_shown: Option<i64>,
}

#[derive(Debug)]
struct Held<T> {
    picture: T,
    count: i64,
    pts: Option<i64>,
}

impl<T> Reorder<T> {
    /// `guess` is the depth where the stream does not tell it; it grows when it shows to be too small.
    pub fn new(guess: u8) -> Self {
        Self {
            depth: guess,
            declared: false,
            held: VecDeque::new(),
            times: VecDeque::new(),
            waiting: 0,
            last_shown: None,
        }
    }

    /// The depth that the stream tells, for the pictures from here on.
    pub fn configure(&mut self, depth: Option<u8>) {
        if let Some(depth) = depth {
            // Once it has shown to be wrong it is not believed again.
            self.depth =
                if self.declared { self.depth.max(depth.min(MAX_DEPTH)) } else { depth.min(MAX_DEPTH) };
            self.declared = true;
        }
    }

    /// Pictures that are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes the next picture in decoding order, decoded at `time`. Times must rise.
    pub fn push(&mut self, picture: T, place: Place, time: i64) {
        let elsewhere = self.last_shown.is_some_and(|last| place.count < last.saturating_sub(NEW_SEQUENCE));
        if place.begins || elsewhere {
            self.show(0);
            self.last_shown = None;
        } else if self.last_shown.is_some_and(|last| place.count < last) && self.depth < MAX_DEPTH {
            self.depth += 1;
        }
        self.held.push_back(Held { picture, count: place.count, pts: None });
        self.times.push_back(time);
        self.waiting += 1;
        self.show(usize::from(self.depth));
    }

    /// No picture follows, or none that would be shown before those that are held.
    pub fn flush(&mut self) {
        self.show(0);
    }

    /// The next picture in decoding order with its time of presentation, when that is known.
    pub fn pop(&mut self) -> Option<(T, i64)> {
        let pts = self.held.front()?.pts?;
        self.held.pop_front().map(|held| (held.picture, pts))
    }

    /// Shows pictures in order until `keep` wait.
    fn show(&mut self, keep: usize) {
        while self.waiting > keep {
            let next = self.held.iter_mut().filter(|held| held.pts.is_none()).min_by_key(|held| held.count);
            let (Some(next), Some(time)) = (next, self.times.pop_front()) else { return };
            next.pts = Some(time);
            self.last_shown = Some(next.count);
            self.waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(count: i64, begins: bool) -> Place {
        Place { count, begins, field: false }
    }

    fn times(reorder: &mut Reorder<()>) -> Vec<i64> {
        std::iter::from_fn(|| reorder.pop().map(|((), pts)| pts)).collect()
    }

    #[test]
    fn without_reordering_nothing_waits() {
        let mut reorder = Reorder::new(0);
        for n in 0..5 {
            reorder.push((), frame(2 * n, n == 0), n);
            assert_eq!(times(&mut reorder), [n]);
        }
    }

    /// A stream that does not say that it has B-frames: the first is late, the others are right.
    #[test]
    fn an_undeclared_depth_is_learned() {
        let mut reorder = Reorder::new(0);
        let counts = [0, 4, 2, 8, 6, 12, 10];
        for (n, count) in (0..).zip(counts) {
            reorder.push((), frame(count, n == 0), n);
        }
        reorder.flush();
        assert_eq!(times(&mut reorder), [0, 1, 2, 4, 3, 6, 5]);
    }

    /// Counts that begin anew without an IDR picture do not make all that follows late.
    #[test]
    fn a_far_step_back_begins_a_sequence() {
        let mut reorder = Reorder::new(1);
        for n in 0..6 {
            reorder.push((), frame(if n < 3 { 500 + n } else { n - 3 }, n == 0), n);
        }
        assert_eq!(times(&mut reorder), [0, 1, 2, 3, 4]);
        reorder.flush();
        assert_eq!(times(&mut reorder), [5]);
    }

    proptest! {
        /// Any order within the declared depth comes back as the time of its rank.
        #[test]
        fn declared_depth_puts_all_in_order(
            depth in 0_u8..=4,
            choices in proptest::collection::vec(0_usize..5, 1..60),
            gop in 1_usize..20,
        ) {
            let mut reorder = Reorder::new(0);
            reorder.configure(Some(depth));
            let mut expected = Vec::new();
            let mut decoded = 0_i64;
            for part in choices.chunks(gop) {
                // Within a sequence, a frame waits until `depth` frames overtook it.
                let base = decoded;
                let mut pending: Vec<(i64, u8)> = vec![];
                let mut next = 1;
                let mut order = vec![0];
                for choice in part {
                    while pending.len() <= usize::from(depth) && next <= part.len() as i64 {
                        pending.push((next, 0));
                        next += 1;
                    }
                    let forced = pending.iter().position(|(_, overtaken)| *overtaken >= depth);
                    let index = (*choice % pending.len()).min(forced.unwrap_or(usize::MAX));
                    let (rank, _) = pending.remove(index);
                    pending[..index].iter_mut().for_each(|(_, overtaken)| *overtaken += 1);
                    order.push(rank);
                }
                for rank in order {
                    reorder.push((), frame(rank * 2, rank == 0), decoded * 10);
                    expected.push((base + rank) * 10);
                    decoded += 1;
                    prop_assert!(reorder.waiting <= usize::from(depth));
                }
            }
            reorder.flush();
            prop_assert_eq!(times(&mut reorder), expected);
        }

        #[test]
        fn any_places_keep_every_picture(places in proptest::collection::vec((any::<i64>(), any::<bool>()), 0..60)) {
            let mut reorder = Reorder::new(0);
            let mut seen = Vec::new();
            for (n, (count, begins)) in (0..).zip(&places) {
                reorder.push((), frame(*count, *begins), n);
                seen.extend(times(&mut reorder));
                prop_assert!(reorder.len() <= usize::from(MAX_DEPTH) * 2);
            }
            reorder.flush();
            seen.extend(times(&mut reorder));
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..places.len() as i64).collect::<Vec<_>>());
        }
    }
}
