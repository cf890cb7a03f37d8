//! How large a ring should be.

/// Slots of a new ring.
pub(crate) const START_SLOTS: u64 = 512;

/// Arena bytes of a new ring.
pub(crate) const START_ARENA: u64 = 1 << 20;

/// Added to what was measured, in bytes.
pub(crate) const HEADROOM: u64 = 256 << 10;

/// GOPs that are remembered.
const GOPS: usize = 8;

/// Lengths of the last GOPs.
#[derive(Debug, Default)]
pub(crate) struct Gops {
    lengths: [(u64, u64); GOPS],
    next: usize,
}

impl Gops {
    /// A GOP of so many bytes and units is complete.
    pub(crate) fn add(&mut self, bytes: u64, units: u64) {
        if let Some(slot) = self.lengths.get_mut(self.next % GOPS) {
            *slot = (bytes, units);
        }
        self.next = self.next.saturating_add(1);
    }

    /// Whether so many GOPs are known that their largest says what is needed.
    pub(crate) fn is_full(&self) -> bool {
        self.next >= GOPS
    }

    /// Starts counting anew; the lengths stay.
    pub(crate) fn forget(&mut self) {
        self.next = 0;
    }

    /// Arena bytes and slots for a ring that has to hold `bytes` and `units` now: 1.25 times the largest of these and
    /// the last GOPs, and headroom.
    pub(crate) fn wanted(&self, bytes: u64, units: u64) -> (u64, u64) {
        let bytes = self.lengths.iter().map(|(bytes, _)| *bytes).fold(bytes, u64::max);
        let units = self.lengths.iter().map(|(_, units)| *units).fold(units, u64::max);
        (bytes + bytes / 4 + HEADROOM, units + units / 4 + 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_eight_gops_counts() {
        let mut gops = Gops::default();
        gops.add(4 << 20, 300);
        assert_eq!(gops.wanted(1000, 10), ((5 << 20) + HEADROOM, 439));
        for _ in 0..8 {
            gops.add(1 << 20, 50);
        }
        assert_eq!(gops.wanted(1000, 10).0, (1 << 20) / 4 * 5 + HEADROOM);
    }
}
