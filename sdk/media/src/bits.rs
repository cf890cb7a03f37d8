//! Big-endian bit fields and Exp-Golomb codes.

/// Reads bit fields, most significant bit first. Every read past the end gives `None`.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    data: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    /// A reader at the first bit of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, position: 0 }
    }

    /// Bits read so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bits left.
    pub fn left(&self) -> usize {
        self.data.len().saturating_mul(8).saturating_sub(self.position)
    }

    /// One bit as a flag.
    pub fn flag(&mut self) -> Option<bool> {
        let byte = *self.data.get(self.position / 8)?;
        let bit = (byte >> (7 - self.position % 8)) & 1;
        self.position += 1;
        Some(bit == 1)
    }

    /// `count` bits, at most 32, as a number. `None` leaves the position unchanged.
    pub fn bits(&mut self, count: u32) -> Option<u32> {
        if count > 32 || self.left() < count as usize {
            return None;
        }
        let mut value = 0_u64;
        let mut missing = count as usize;
        while missing > 0 {
            let byte = u64::from(*self.data.get(self.position / 8)?);
            let offset = self.position % 8;
            let take = missing.min(8 - offset);
            let chunk = (byte >> (8 - offset - take)) & ((1 << take) - 1);
            value = (value << take) | chunk;
            self.position += take;
            missing -= take;
        }
        u32::try_from(value).ok()
    }

    /// `count` bits, at most 8, as a byte.
    pub fn byte(&mut self, count: u32) -> Option<u8> {
        if count > 8 {
            return None;
        }
        self.bits(count).and_then(|value| u8::try_from(value).ok())
    }

    /// Passes over `count` bits.
    pub fn skip(&mut self, count: usize) -> Option<()> {
        if self.left() < count {
            return None;
        }
        self.position += count;
        Some(())
    }

    /// Unsigned Exp-Golomb code `ue(v)` of at most 32 bits. H.264 9.1, H.265 9.2.
    pub fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let rest = self.bits(zeros)?;
        ((1_u32 << zeros) - 1).checked_add(rest)
    }

    /// Signed Exp-Golomb code `se(v)`. H.264 9.1.1, H.265 9.2.2.
    pub fn se(&mut self) -> Option<i32> {
        let code = i64::from(self.ue()?);
        let magnitude = (code + 1) / 2;
        i32::try_from(if code % 2 == 1 { magnitude } else { -magnitude }).ok()
    }
}

/// Writes bit fields, most significant bit first.
#[derive(Debug, Clone, Default)]
pub struct BitWriter {
    data: Vec<u8>,
    partial: u8,
    filled: u32,
}

impl BitWriter {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the `count` (at most 32) low bits of `value`.
    pub fn bits(&mut self, count: u32, value: u32) {
        for shift in (0..count.min(32)).rev() {
            self.partial = (self.partial << 1) | u8::from((value >> shift) & 1 == 1);
            self.filled += 1;
            if self.filled == 8 {
                self.data.push(self.partial);
                self.partial = 0;
                self.filled = 0;
            }
        }
    }

    /// Appends one bit.
    pub fn flag(&mut self, value: bool) {
        self.bits(1, u32::from(value));
    }

    /// Appends `value`, below 2^32 - 1, as `ue(v)`.
    pub fn ue(&mut self, value: u32) {
        let code = u64::from(value) + 1;
        let length = 64 - code.leading_zeros();
        self.bits(length - 1, 0);
        self.bits(1, 1);
        self.bits(length - 1, value.wrapping_add(1));
    }

    /// The bytes, the last one filled up with zero bits.
    pub fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.data.push(self.partial << (8 - self.filled));
        }
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_round_trip(fields in proptest::collection::vec((1_u32..=32, any::<u32>()), 0..40)) {
            let mut writer = BitWriter::new();
            for (count, value) in &fields {
                writer.bits(*count, *value);
            }
            let data = writer.finish();
            let mut reader = BitReader::new(&data);
            for (count, value) in &fields {
                let mask = if *count == 32 { u32::MAX } else { (1 << count) - 1 };
                prop_assert_eq!(reader.bits(*count), Some(value & mask));
            }
            prop_assert!(reader.left() < 8);
        }

        #[test]
        fn exp_golomb_round_trips(values in proptest::collection::vec(0..u32::MAX, 0..20)) {
            let mut writer = BitWriter::new();
            for value in &values {
                writer.ue(*value);
            }
            let data = writer.finish();
            let mut reader = BitReader::new(&data);
            for value in &values {
                prop_assert_eq!(reader.ue(), Some(*value));
            }
        }
    }

    #[test]
    fn signed_exp_golomb_alternates() {
        let mut writer = BitWriter::new();
        (0..5).for_each(|code| writer.ue(code));
        let data = writer.finish();
        let mut reader = BitReader::new(&data);
        let values: Vec<_> = (0..5).filter_map(|_| reader.se()).collect();
        assert_eq!(values, [0, 1, -1, 2, -2]);
    }

    #[test]
    fn a_run_of_zeros_is_no_code() {
        assert_eq!(BitReader::new(&[0; 16]).ue(), None);
        assert_eq!(BitReader::new(&[]).flag(), None);
        assert_eq!(BitReader::new(&[1, 2]).bits(17), None);
    }
}
