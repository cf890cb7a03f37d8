//! The order in which pictures are shown, from the pictures themselves: byte streams carry no times.

use std::collections::VecDeque;

use crate::access_unit::{Role, Set, role};
use crate::codec::Codec;
use crate::h264::{self, NalType, PicOrderCnt};
use crate::h265::{self, nal_type};

/// Frames taken for the reorder depth of a stream that does not tell it, in a file.
pub const GUESSED_DEPTH: u8 = 2;
/// Most frames that are shown later than they are decoded. H.264 A.3.1, H.265 A.4.2.
pub const MAX_DEPTH: u8 = 16;
/// A picture so far before the last one that was shown begins a sequence of its own: two counts a frame at most.
const NEW_SEQUENCE: i64 = 4 * MAX_DEPTH as i64;

/// Where a picture stands among those around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// `PicOrderCnt`: within a sequence, pictures are shown in its order.
    pub count: i64,
    /// All pictures before it in decoding order are shown before it, and `count` begins anew.
    pub begins: bool,
    /// It is one field, half a frame.
    pub field: bool,
}

/// What the active SPS says of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// Frames that a decoder holds back to put them in order; `None` unknown.
    pub reorder_depth: Option<u8>,
    /// Frames per second as a fraction.
    pub frame_rate: Option<(u32, u32)>,
}

#[derive(Debug)]
enum Sps {
    H264(h264::Sps),
    Hevc(h265::Sps),
}

impl Sps {
    fn id(&self) -> u8 {
        match self {
            Self::H264(sps) => sps.id,
            Self::Hevc(sps) => sps.id,
        }
    }
}

/// A picture parameter set; of H.264 only the ids count.
#[derive(Debug)]
struct Pps(h265::Pps);

/// Reads the order of pictures from access units in decoding order. H.264 8.2.1, H.265 8.3.1.
///
/// Types 1 and 2 of H.264's order count as decoding order, which is what type 2 says; encoders that use type 1 are not
/// known. `memory_management_control_operation` 5 is not followed: [`Reorder`] notices.
#[derive(Debug)]
pub struct PictureOrder {
    codec: Codec,
    /// At most 32.
    sps: Vec<Sps>,
    /// At most 256.
    pps: Vec<Pps>,
    timing: Timing,
    started: bool,
    /// The next picture begins a sequence: an end of sequence came.
    ended: bool,
    /// High part and low bits of the last picture that counts for those behind it.
    high: i64,
    low: i64,
    /// The last count, where decoding order is all there is.
    counted: i64,
}

impl PictureOrder {
    /// For a stream of `codec`, which is H.265 or else H.264.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            sps: Vec::new(),
            pps: Vec::new(),
            timing: Timing::default(),
            started: false,
            ended: false,
            high: 0,
            low: 0,
            counted: 0,
        }
    }

    /// What the SPS of the last picture says.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// The place of an access unit's picture. `None` when it has none, or one whose parameter sets did not come.
    pub fn push<'a>(&mut self, nals: impl IntoIterator<Item = &'a [u8]>) -> Option<Place> {
        let mut slice = None;
        let mut ends = false;
        for nal in nals {
            match role(self.codec, nal) {
                Some(Role::Set(set)) => self.add(set, nal),
                Some(Role::Slice { .. }) if slice.is_none() => slice = Some(nal),
                Some(Role::Suffix) => ends |= self.ends_sequence(nal),
                _ => {}
            }
        }
        let place = slice.and_then(|slice| match self.codec {
            Codec::Hevc => self.place_h265(slice),
            _ => self.place_h264(slice),
        });
        self.ended = ends || (self.ended && place.is_none());
        place
    }

    fn ends_sequence(&self, nal: &[u8]) -> bool {
        match self.codec {
            Codec::Hevc => matches!(h265::nal_type(nal), Some(nal_type::EOS | nal_type::EOB)),
            _ => matches!(NalType::of(nal), Some(NalType::Other(10 | 11))),
        }
    }

    fn add(&mut self, set: Set, nal: &[u8]) {
        match (set, self.codec) {
            (Set::Sps, codec) => {
                let parsed = match codec {
                    Codec::Hevc => h265::parse_sps(nal).ok().map(Sps::Hevc),
                    _ => h264::parse_sps(nal).ok().map(Sps::H264),
                };
                if let Some(sps) = parsed {
                    self.sps.retain(|other| other.id() != sps.id());
                    self.sps.push(sps);
                }
            }
            (Set::Pps, codec) => {
                let parsed = match codec {
                    Codec::Hevc => h265::parse_pps(nal).ok(),
                    _ => h264::parse_pps(nal).ok().map(|pps| h265::Pps {
                        id: pps.id,
                        sps_id: pps.sps_id,
                        output_flag_present: false,
                        extra_slice_header_bits: 0,
                    }),
                };
                if let Some(pps) = parsed {
                    self.pps.retain(|Pps(other)| other.id != pps.id);
                    self.pps.push(Pps(pps));
                }
            }
            (Set::Vps, _) => {}
        }
    }

    fn place_h264(&mut self, slice: &[u8]) -> Option<Place> {
        let pps_id = h264::parse_slice(slice, None).ok()?.pps_id;
        let Sps::H264(sps) = self.sets(pps_id)?.0 else { return None };
        let header = h264::parse_slice(slice, Some(sps)).ok()?;
        let order = sps.pic_order_cnt;
        self.timing = Timing { reorder_depth: sps.reorder_depth(), frame_rate: sps.frame_rate };
        let idr = NalType::of(slice) == Some(NalType::Idr);
        // The second field of an IDR picture may be an IDR picture too.
        let begins = (idr && header.bottom_field != Some(true)) || self.ended || !self.started;
        let reference = slice.first().is_some_and(|byte| byte & 0x60 != 0);
        let field = header.bottom_field.is_some();
        let count = match (order, header.pic_order_cnt_lsb) {
            (PicOrderCnt::Lsb { log2_max }, Some(low)) => self.count(low, log2_max, begins, reference),
            _ => {
                self.counted = if begins { 0 } else { self.counted + 1 };
                self.counted
            }
        };
        self.started = true;
        Some(Place { count, begins, field })
    }

    fn place_h265(&mut self, slice: &[u8]) -> Option<Place> {
        let (sps, pps) = self.sets(h265::slice_pps_id(slice)?)?;
        let Sps::Hevc(sps) = sps else { return None };
        let kind = h265::nal_type(slice)?;
        let idr = matches!(kind, nal_type::IDR_W_RADL | nal_type::IDR_N_LP);
        let low = if idr { 0 } else { h265::slice_pic_order_cnt_lsb(slice, sps, pps)? };
        let log2_max = sps.log2_max_pic_order_cnt_lsb;
        self.timing = Timing { reorder_depth: sps.num_reorder_frames, frame_rate: sps.frame_rate };
        let begins = (nal_type::BLA_W_LP..nal_type::CRA).contains(&kind) || self.ended || !self.started;
        // Only pictures of the lowest layer that others refer to count: not RASL, RADL, nor sub-layer non-reference ones.
        let leading = (6..=9).contains(&kind);
        let unreferenced = kind < 16 && kind.is_multiple_of(2);
        let layer = slice.get(1).map_or(0, |byte| byte & 7);
        let count = self.count(low, log2_max, begins, layer == 1 && !leading && !unreferenced);
        self.started = true;
        Some(Place { count, begins, field: false })
    }

    fn sets(&self, pps_id: u8) -> Option<(&Sps, &h265::Pps)> {
        let Pps(pps) = self.pps.iter().find(|Pps(pps)| pps.id == pps_id)?;
        self.sps.iter().find(|sps| sps.id() == pps.sps_id).map(|sps| (sps, pps))
    }

    /// The count from its low bits: the high part is that of the last picture that counts, or its neighbour.
    fn count(&mut self, low: u32, log2_max: u8, begins: bool, counts: bool) -> i64 {
        let low = i64::from(low);
        let max = 1_i64 << log2_max.min(16);
        let high = if begins {
            0
        } else if low < self.low && self.low - low >= max / 2 {
            self.high + max
        } else if low > self.low && low - self.low > max / 2 {
            self.high - max
        } else {
            self.high
        };
        if counts || begins {
            (self.high, self.low) = (high, low);
        }
        high + low
    }
}

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

        #[test]
        fn any_bytes_never_panic(hevc: bool, nals in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut order = PictureOrder::new(if hevc { Codec::Hevc } else { Codec::H264 });
            for nal in &nals {
                let _ = order.push([nal.as_slice()]);
            }
        }
    }
}
