//! The units from the last key unit to now, for a viewer that joins.
//!
//! Sent with their own times, players stay that far behind for ever. Squeezed, each lasts one tick, and the last of them
//! is due where the live units begin: a player decodes them at once and shows the newest.

use bytes::Bytes;

/// Which times the units of a history get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One tick each, for viewers that watch now.
    Squeezed,
    /// Their own, for recorders.
    Raw,
}

/// What a joining viewer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// One chunk, final for this viewer; empty when there were no units.
    pub data: Bytes,
    /// Per track of the output: the time that is the viewer's 0, subtracted from every live time.
    pub starts: Vec<i64>,
}

/// Where a unit of the history stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Decoding time after that of the first unit.
    pub decode: i64,
    /// Presentation time after the decoding time of the first unit.
    pub presentation: i64,
}

/// Places units of presentation times `pts`, in decoding order, so that the unit behind them is decoded at `next`.
/// The second value is how long they last in all: `next` less that is the decoding time of the first.
///
/// Units that are shown after `next` keep their place, since live units (B-frames) may be shown between them. All
/// others keep their order, `tick` apart.
pub(crate) fn squeeze(pts: &[i64], next: i64, tick: i64) -> (Vec<Placed>, i64) {
    let mut order: Vec<usize> =
        (0..pts.len()).filter(|i| pts.get(*i).is_some_and(|pts| *pts <= next)).collect();
    order.sort_by_key(|i| pts.get(*i).copied());
    let mut rank = vec![None; pts.len()];
    for (place, index) in order.iter().enumerate() {
        if let Some(slot) = rank.get_mut(*index) {
            *slot = Some(place);
        }
    }
    // A unit is shown at the earliest when it is decoded.
    let reorder =
        rank.iter().enumerate().filter_map(|(i, rank)| Some(i.saturating_sub((*rank)?))).max().unwrap_or(0);
    let ticks = |count: usize| i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(tick);
    let total = ticks(pts.len() + reorder);
    let start = next.saturating_sub(total);
    let placed = rank.iter().zip(pts).enumerate().map(|(i, (rank, pts))| Placed {
        decode: ticks(i),
        presentation: rank.map_or(pts.saturating_sub(start), |rank| ticks(rank + reorder)),
    });
    (placed.collect(), total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_reordering_each_lasts_a_tick() {
        let (placed, total) = squeeze(&[0, 3_600, 7_200], 7_200, 1);
        assert_eq!(total, 3);
        assert_eq!(
            placed.iter().map(|p| (p.decode, p.presentation)).collect::<Vec<_>>(),
            [(0, 0), (1, 1), (2, 2)]
        );
    }

    #[test]
    fn pictures_that_live_ones_precede_keep_their_time() {
        // I0 P3 B1 B2 P6 | B4: the newest decoding time is 200, P6 is shown at 600.
        let (placed, total) = squeeze(&[0, 300, 100, 200, 600], 200, 1);
        // P3, shown at 300, B4 may precede too.
        assert_eq!(total, 5 + 1);
        let shown: Vec<i64> = placed.iter().map(|p| p.presentation).collect();
        assert_eq!(shown, [1, 100 + total, 2, 3, 400 + total]);
    }

    proptest! {
        #[test]
        fn order_is_kept_and_nothing_is_shown_before_it_is_decoded(
            jitter in proptest::collection::vec(0_i64..5, 1..40), tick in 1_i64..3,
        ) {
            let pts: Vec<i64> = jitter.iter().enumerate().map(|(i, j)| (i as i64 + j) * 40).collect();
            let next = (pts.len() as i64 - 1) * 40;
            let (placed, total) = squeeze(&pts, next, tick);
            for (i, a) in placed.iter().enumerate() {
                prop_assert!(a.presentation >= a.decode && a.decode < total);
                prop_assert_eq!(pts[i] > next, a.presentation > total);
                for (j, b) in placed.iter().enumerate() {
                    if pts[i] < pts[j] {
                        prop_assert!(a.presentation < b.presentation);
                    }
                }
            }
        }
    }
}
