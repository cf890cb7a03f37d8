//! Groups of H.265 pictures that begin with a clean random access picture (CRA), for decoders that start there.
//!
//! Pictures that follow such a one and are shown before it may refer to the group before (RASL, H.265 section 3): whoever did not get that
//! cannot decode them. A group that is sent again in the middle of a stream would have its pictures twice under one number, too. A broken
//! link access picture (BLA) says both: it begins a sequence of its own, and differs from a CRA picture in its type alone.

use bytes::BytesMut;
use patchbay_media::h265::{self, nal_type};
use patchbay_media::{Unit, nal};

/// `nal_unit_type` of a BLA picture that is followed by leading pictures that can be decoded, or by none.
const BLA_W_RADL: u8 = 17;

/// Whether a unit cannot be decoded without the group before its own.
pub(super) fn is_leading(unit: &Unit) -> bool {
    h265::is_rasl(nal::units(&unit.data))
}

/// The units of a group, the first of which is its key unit, as one that depends on nothing before it.
pub(super) fn closed(mut units: Vec<Unit>) -> Vec<Unit> {
    units.retain(|unit| !is_leading(unit));
    if let Some(first) = units.first_mut() {
        broken_link(first);
    }
    units
}

/// Makes a CRA picture a BLA picture; leaves others alone.
fn broken_link(unit: &mut Unit) {
    let is_cra = |nal: &[u8]| h265::nal_type(nal) == Some(nal_type::CRA);
    if !nal::units(&unit.data).any(is_cra) {
        return;
    }
    let mut data = BytesMut::with_capacity(unit.data.len());
    for nal in nal::units(&unit.data) {
        let at = data.len() + LENGTH;
        data.extend_from_slice(&u32::try_from(nal.len()).unwrap_or(0).to_be_bytes());
        data.extend_from_slice(nal);
        if let Some(header) = data.get_mut(at).filter(|_| is_cra(nal)) {
            // RFC 7798 section 1.1.4: the type is the six bits behind the first.
            *header = *header & 0x81 | BLA_W_RADL << 1;
        }
    }
    unit.data = data.freeze();
}

/// Bytes of the length before a NAL unit.
const LENGTH: usize = 4;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn unit(kinds: &[u8]) -> Unit {
        let nal = |kind: &u8| [0, 0, 0, 4, kind << 1, 1, 0x80, 7];
        Unit::new(0, false, Bytes::from(kinds.iter().flat_map(nal).collect::<Vec<u8>>()))
    }

    fn kinds(units: &[Unit]) -> Vec<Vec<u8>> {
        units.iter().map(|unit| nal::units(&unit.data).filter_map(h265::nal_type).collect()).collect()
    }

    #[test]
    fn a_group_after_a_cra_stands_alone() {
        // SEI and two slices of a CRA picture, RASL pictures, a RADL picture, two trailing ones.
        let units = vec![unit(&[39, 21, 21]), unit(&[9]), unit(&[8]), unit(&[7]), unit(&[1]), unit(&[39, 0])];
        let closed = closed(units);
        assert_eq!(kinds(&closed), [vec![39, 17, 17], vec![7], vec![1], vec![39, 0]]);
        assert_eq!(&closed[0].data[8..], &[0, 0, 0, 4, 34, 1, 0x80, 7, 0, 0, 0, 4, 34, 1, 0x80, 7]);
    }

    #[test]
    fn others_are_left_alone() {
        let units = vec![unit(&[19]), unit(&[1])];
        assert_eq!(kinds(&closed(units)), [vec![19], vec![1]]);
        assert!(closed(Vec::new()).is_empty());
    }
}
