//! What a viewer needs from before it joined: packets numbered backwards from the next live one.

use patchbay_media::{Parameters, Unit};

use super::{Packetizer, Packets};

/// Units from the newest key unit to now, in decoding order.
#[derive(Debug, Clone, Copy)]
pub struct History<'a> {
    /// The units.
    pub units: &'a [Unit],
    /// The configuration of the key units among them.
    pub parameters: Option<&'a Parameters>,
    /// When they are shown.
    pub times: Times,
}

/// When history is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// At its own times: for recorders.
    True,
    /// One tick apart, ending one frame before the first live unit, whose `pts` is this. Units to be shown at that time or
    /// later keep their own.
    Before(i64),
    /// As [`Self::Before`], when the first live unit has not come: the newest unit of the history keeps its time.
    BeforeNext,
}

impl Packetizer {
    /// Appends the packets of `history`, with sequence numbers that end right before [`Packetizer::next_sequence`]. The
    /// packetizer stays as it is: call it at the moment from which the viewer gets live packets. Gives the number of
    /// packets.
    pub fn packetize_history(&self, history: &History<'_>, out: &mut Packets) -> usize {
        let first_index = out.len();
        let mut run = self.clone();
        run.sequence = 0;
        // A single unit tells no frame rate: 25 per second.
        let pts = squeezed(history, i64::from(self.clock_rates.0 / 25));
        for (unit, pts) in history.units.iter().zip(pts) {
            let sets = history.parameters.filter(|_| unit.key);
            run.packetize_at(unit, self.timestamp(pts), sets, out);
        }
        let count = out.len() - first_index;
        let first_sequence = self.sequence.wrapping_sub(count as u16);
        for index in 0..count {
            let sequence = first_sequence.wrapping_add(index as u16).to_be_bytes();
            if let Some(field) = out.packet_mut(first_index + index).get_mut(2..4) {
                field.copy_from_slice(&sequence);
            }
        }
        count
    }
}

/// The presentation times to send, in the units' order.
fn squeezed(history: &History<'_>, default_frame: i64) -> Vec<i64> {
    let own: Vec<i64> = history.units.iter().map(|unit| unit.pts).collect();
    let mut shown = own.clone();
    shown.sort_unstable();
    let Some(newest) = shown.last().copied() else { return own };
    let steps = shown.windows(2).filter_map(|pair| match pair {
        [a, b] => b.checked_sub(*a).filter(|step| *step > 0),
        _ => None,
    });
    let frame = steps.min().unwrap_or(default_frame);
    let live = match history.times {
        Times::True => return own,
        Times::Before(live) => live,
        Times::BeforeNext => newest.saturating_add(frame),
    };
    // In the order in which they are shown, the ones before the live unit move together.
    let earlier = shown.partition_point(|pts| *pts < live);
    own.iter()
        .map(|pts| {
            let rank = shown.partition_point(|other| other < pts);
            let behind = earlier.saturating_sub(rank + 1);
            let last = live.saturating_sub(frame);
            if *pts >= live {
                *pts
            } else {
                last.saturating_sub(i64::try_from(behind).unwrap_or(0)).max(*pts)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn times(pts: &[i64], times: Times) -> Vec<i64> {
        let units: Vec<Unit> = pts.iter().map(|pts| Unit::new(*pts, false, Bytes::new())).collect();
        squeezed(&History { units: &units, parameters: None, times }, 3600)
    }

    #[test]
    fn squeezed_to_end_one_frame_before_live() {
        assert_eq!(times(&[0, 3600, 7200, 10_800], Times::Before(14_400)), [10_797, 10_798, 10_799, 10_800]);
        assert_eq!(times(&[0, 3600, 7200, 10_800], Times::BeforeNext), [10_797, 10_798, 10_799, 10_800]);
        assert_eq!(times(&[0, 3600], Times::True), [0, 3600]);
        assert_eq!(times(&[7], Times::BeforeNext), [7]);
        assert!(times(&[], Times::BeforeNext).is_empty());
    }

    #[test]
    fn the_order_of_b_frames_is_kept() {
        // I0 P3 b1 b2 P6, and b4 is the first live unit.
        let squeezed = times(&[0, 300, 100, 200, 600], Times::Before(400));
        assert_eq!(squeezed, [297, 300, 298, 299, 600]);
    }

    #[test]
    fn a_gap_in_the_history_moves_nothing_backwards() {
        assert_eq!(times(&[0, 3600, 100_000], Times::Before(103_600)), [99_998, 99_999, 100_000]);
    }
}
