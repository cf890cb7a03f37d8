//! Wrapping counters made endless: sequence numbers and timestamps to 64 bits (X2).

/// Unwraps 16-bit sequence numbers. A step of up to 32767 forward or 32768 back is taken as such.
#[derive(Debug, Clone, Default)]
pub struct SequenceUnwrapper(Option<i64>);

impl SequenceUnwrapper {
    /// The endless value of `sequence`, which becomes the reference for the next.
    pub fn unwrap(&mut self, sequence: u16) -> i64 {
        let value = self.nearest(sequence);
        self.0 = Some(value);
        value
    }

    /// The endless value of `sequence` nearest to the reference, which stays.
    pub fn nearest(&self, sequence: u16) -> i64 {
        match self.0 {
            Some(last) => last + i64::from(sequence.wrapping_sub(last as u16) as i16),
            None => i64::from(sequence),
        }
    }
}

/// Unwraps 32-bit timestamps. A step of less than 2^31 either way is taken as such.
#[derive(Debug, Clone, Default)]
pub struct TimestampUnwrapper(Option<i64>);

impl TimestampUnwrapper {
    /// The endless value of `timestamp`, which becomes the reference for the next. The first one is itself.
    pub fn unwrap(&mut self, timestamp: u32) -> i64 {
        let value = self.nearest(timestamp);
        self.0 = Some(value);
        value
    }

    /// The endless value of `timestamp` nearest to the reference, which stays.
    pub fn nearest(&self, timestamp: u32) -> i64 {
        match self.0 {
            Some(last) => last + i64::from(timestamp.wrapping_sub(last as u32) as i32),
            None => i64::from(timestamp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_wraps_both_ways() {
        let mut s = SequenceUnwrapper::default();
        assert_eq!(s.unwrap(65534), 65534);
        assert_eq!(s.unwrap(65535), 65535);
        assert_eq!(s.unwrap(0), 65536);
        assert_eq!(s.nearest(65535), 65535);
        assert_eq!(s.unwrap(1), 65537);
        let mut back = SequenceUnwrapper::default();
        assert_eq!(back.unwrap(0), 0);
        assert_eq!(back.unwrap(65535), -1);
    }

    #[test]
    fn x2_timestamp_wrap_is_one_frame() {
        let mut t = TimestampUnwrapper::default();
        let first = t.unwrap(u32::MAX - 1799);
        assert_eq!(t.unwrap(1800) - first, 3600);
        assert_eq!(t.unwrap(u32::MAX - 1799) - first, 0);
    }
}
