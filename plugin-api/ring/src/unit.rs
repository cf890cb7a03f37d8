//! What is known of a unit beside its bytes.

/// Bytes of a record's header: a [`UnitHeader`] in memory order.
pub const RECORD_HEADER: usize = 64;

/// Tracks a ring can tell apart: one bit each in a mask.
pub const TRACKS: usize = if cfg!(loom) { 2 } else { 64 };

/// Flag bits of [`UnitHeader::flags`].
pub mod flags {
    /// Decoding can start here.
    pub const KEY: u16 = 1;
    /// Something is missing before this unit, or its time does not continue the last one's.
    pub const DISCONTINUITY: u16 = 2;
    /// Parts of this unit were lost on the way in.
    pub const INCOMPLETE: u16 = 4;
    /// The last unit of its track.
    pub const END: u16 = 8;
    /// The first unit of a new configuration epoch.
    pub const CONFIG: u16 = 16;
}

/// The header of one unit (access unit, audio frame, JPEG, raw frame), and of one record that a read delivers:
/// these 64 bytes in native order, then `len` bytes, then zeros up to a multiple of 8.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnitHeader {
    /// Number in the ring over all tracks, from 1 on, without holes. Given by the ring.
    pub sequence: u64,
    /// Track of the source, below [`TRACKS`].
    pub track: u16,
    /// Bits of [`flags`].
    pub flags: u16,
    /// Configuration epoch of the track (parameter sets, resolution, sample rate) that the unit needs.
    pub epoch: u32,
    /// Presentation time in ticks of the track's clock rate.
    pub pts: i64,
    /// Decoding time in ticks of the track's clock rate.
    pub dts: i64,
    /// Ticks until the next unit; 0 is unknown.
    pub duration: u32,
    /// Payload bytes. Given by the ring.
    pub len: u32,
    /// When the unit came, ns of `CLOCK_MONOTONIC`.
    pub arrival_ns: u64,
    /// Sequence of the track's last keyframe (its own for a keyframe and on tracks without keyframes); 0 before the
    /// first. Given by the ring.
    pub last_key: u64,
    /// Zero.
    pub reserved: u64,
}

const _: () = assert!(size_of::<UnitHeader>() == RECORD_HEADER);

impl UnitHeader {
    /// The header of a record: the bytes a read wrote.
    #[must_use]
    pub fn from_record(record: &[u8; RECORD_HEADER]) -> Self {
        let words: [u64; 8] = std::array::from_fn(|i| {
            let word = record.as_chunks::<8>().0.get(i).copied().unwrap_or_default();
            u64::from_ne_bytes(word)
        });
        let [sequence, ids, pts, dts, lengths, arrival_ns, last_key, reserved] = words;
        let [t0, t1, f0, f1, e0, e1, e2, e3] = ids.to_ne_bytes();
        let [d0, d1, d2, d3, l0, l1, l2, l3] = lengths.to_ne_bytes();
        Self {
            sequence,
            track: u16::from_ne_bytes([t0, t1]),
            flags: u16::from_ne_bytes([f0, f1]),
            epoch: u32::from_ne_bytes([e0, e1, e2, e3]),
            pts: pts.cast_signed(),
            dts: dts.cast_signed(),
            duration: u32::from_ne_bytes([d0, d1, d2, d3]),
            len: u32::from_ne_bytes([l0, l1, l2, l3]),
            arrival_ns,
            last_key,
            reserved,
        }
    }

    /// The bytes of a record's header, the counterpart of [`Self::from_record`].
    #[must_use]
    pub fn to_record(&self) -> [u8; RECORD_HEADER] {
        let [t0, t1] = self.track.to_ne_bytes();
        let [f0, f1] = self.flags.to_ne_bytes();
        let [e0, e1, e2, e3] = self.epoch.to_ne_bytes();
        let [d0, d1, d2, d3] = self.duration.to_ne_bytes();
        let [l0, l1, l2, l3] = self.len.to_ne_bytes();
        let words = [
            self.sequence.to_ne_bytes(),
            [t0, t1, f0, f1, e0, e1, e2, e3],
            self.pts.to_ne_bytes(),
            self.dts.to_ne_bytes(),
            [d0, d1, d2, d3, l0, l1, l2, l3],
            self.arrival_ns.to_ne_bytes(),
            self.last_key.to_ne_bytes(),
            self.reserved.to_ne_bytes(),
        ];
        let mut record = [0; RECORD_HEADER];
        for (to, from) in record.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = from;
        }
        record
    }

    /// Whether decoding can start at this unit.
    #[must_use]
    pub fn is_key(&self) -> bool {
        self.flags & flags::KEY != 0
    }

    /// Bytes of the record of this unit: header, payload, padding to 8.
    #[must_use]
    pub fn record_len(&self) -> usize {
        RECORD_HEADER + (self.len as usize).next_multiple_of(8)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn record_round_trip(words: [u64; 8]) {
            let mut record = [0; RECORD_HEADER];
            for (to, from) in record.as_chunks_mut::<8>().0.iter_mut().zip(words) {
                *to = from.to_ne_bytes();
            }
            prop_assert_eq!(UnitHeader::from_record(&record).to_record(), record);
        }
    }

    #[test]
    fn fields_lie_where_repr_c_puts_them() {
        let header = UnitHeader {
            track: 0x0102,
            flags: 0x0304,
            epoch: 7,
            len: 9,
            duration: 5,
            ..UnitHeader::default()
        };
        let record = header.to_record();
        let at = |offset: usize, bytes: &[u8]| assert_eq!(&record[offset..offset + bytes.len()], bytes);
        at(std::mem::offset_of!(UnitHeader, track), &0x0102_u16.to_ne_bytes());
        at(std::mem::offset_of!(UnitHeader, flags), &0x0304_u16.to_ne_bytes());
        at(std::mem::offset_of!(UnitHeader, epoch), &7_u32.to_ne_bytes());
        at(std::mem::offset_of!(UnitHeader, duration), &5_u32.to_ne_bytes());
        at(std::mem::offset_of!(UnitHeader, len), &9_u32.to_ne_bytes());
    }
}
