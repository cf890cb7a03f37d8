//! Times that go on over discontinuities, the same for all renditions.

use std::collections::BTreeMap;

use patchbay_mux::timeline::rescale;

const NS: u32 = 1_000_000_000;
/// Discontinuities that are remembered.
const MAX_PERIODS: usize = 16;
/// Times further from where they should be than this are of another count, ns.
const FARTHEST: i64 = 10_000_000_000;

/// Maps the times of segments to those of the session.
#[derive(Debug, Default)]
pub struct Timeline {
    /// What is added in each period, ns.
    offsets: BTreeMap<u64, i64>,
    /// Where the newest unit of any track ends, ns.
    front: Option<i64>,
    /// Newest decoding time of each track, in its clock.
    last: Vec<Option<i64>>,
}

impl Timeline {
    /// Places the times of a unit of `track`, whose clock has `rate` ticks a second, in `period`: a number that grows with
    /// each discontinuity. Decoding times grow within a track. `true`: it does not continue the unit before it.
    pub fn place(&mut self, track: usize, rate: u32, period: u64, pts: i64, dts: i64) -> (i64, i64, bool) {
        let rate = rate.max(1);
        if self.last.len() <= track {
            self.last.resize(track + 1, None);
        }
        let time = rescale(dts, rate, NS);
        let front = self.front;
        let known = self.offsets.get(&period).copied();
        let (offset, fresh) = match (known, front) {
            (Some(offset), Some(front))
                if time.saturating_add(offset).abs_diff(front) <= FARTHEST.unsigned_abs() =>
            {
                (offset, false)
            }
            (Some(offset), None) => (offset, false),
            (_, front) => {
                (front.map_or(0, |front| front.saturating_sub(time)), known.is_some() || front.is_some())
            }
        };
        if known != Some(offset) {
            self.offsets.insert(period, offset);
            while self.offsets.len() > MAX_PERIODS {
                self.offsets.pop_first();
            }
        }
        let shift = rescale(offset, NS, rate);
        let (pts, mut dts) = (pts.saturating_add(shift), dts.saturating_add(shift));
        let mut broken = fresh;
        if let Some(last) = self.last.get_mut(track) {
            if let Some(last) = *last
                && dts <= last
            {
                dts = last.saturating_add(1);
                broken = true;
            }
            *last = Some(dts);
        }
        let end = rescale(dts, rate, NS).saturating_add(i64::from(NS) / 50);
        self.front = Some(front.map_or(end, |front| front.max(end)));
        (pts.max(dts), dts, broken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_discontinuity_goes_on_where_the_last_period_ended() {
        let mut t = Timeline::default();
        assert_eq!(t.place(0, 90_000, 0, 903_600, 900_000), (903_600, 900_000, false));
        assert_eq!(t.place(1, 48_000, 0, 480_000, 480_000), (480_000, 480_000, false));
        // 0 in the new period is 20 ms behind the newest unit, for both tracks.
        let (_, video, fresh) = t.place(0, 90_000, 1, 0, 0);
        assert_eq!((video, fresh), (901_800, true));
        assert_eq!(t.place(1, 48_000, 1, 0, 0).1, 480_960);
        assert_eq!(t.place(0, 90_000, 1, 3_600, 3_600), (905_400, 905_400, false));
        // A period of before, from a rendition that is behind.
        assert!(!t.place(1, 48_000, 0, 481_024, 481_024).2);
    }

    proptest! {
        #[test]
        fn decoding_times_grow(units in prop::collection::vec((0_usize..3, 0_u64..4, any::<i64>()), 0..80)) {
            let mut t = Timeline::default();
            let mut last = [i64::MIN; 3];
            for (track, period, time) in units {
                let time = time >> 12;
                let (pts, dts, _) = t.place(track, [90_000, 48_000, 1_000][track], period, time, time);
                prop_assert!(dts > last[track] && pts >= dts);
                last[track] = dts;
            }
        }
    }
}
