//! Supplemental enhancement information. H.264 annex D.

use crate::bits::BitReader;
use crate::nal::unescape;

/// `payloadType` of the recovery point message, H.264 D.1.
const RECOVERY_POINT: u32 = 6;

/// `recovery_frame_cnt` of the recovery point message in the SEI NAL unit `nal`: how many frames after this one the
/// picture is right when decoding starts here. H.264 D.1.8.
pub fn recovery_frame_cnt(nal: &[u8]) -> Option<u32> {
    let rbsp = unescape(nal);
    let mut rest = rbsp.get(1..)?;
    // Two bytes are the shortest message; a single one is the trailing bits.
    while rest.len() > 2 {
        let (kind, after) = ff_coded(rest)?;
        let (size, after) = ff_coded(after)?;
        let (payload, after) = after.split_at_checked(usize::try_from(size).ok()?)?;
        if kind == RECOVERY_POINT {
            return BitReader::new(payload).ue();
        }
        rest = after;
    }
    None
}

/// A number written as a run of `ff` and a last byte. H.264 7.3.2.3.1.
fn ff_coded(data: &[u8]) -> Option<(u32, &[u8])> {
    let run = data.iter().take_while(|byte| **byte == 0xff).count();
    let (last, rest) = data.get(run..)?.split_first()?;
    let value = u32::try_from(run).ok()?.checked_mul(255)?.checked_add(u32::from(*last))?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_point_is_found_behind_other_messages() {
        // A user data message of 260 bytes, then a recovery point with count 0, exact_match and broken_link flags.
        let mut nal = vec![0x06, 5, 0xff, 5];
        nal.extend([0x11; 260]);
        nal.extend([6, 1, 0xc4, 0x80]);
        assert_eq!(recovery_frame_cnt(&nal), Some(0));
        assert_eq!(recovery_frame_cnt(&[0x06, 6, 1, 0x4c, 0x80]), Some(1));
        assert_eq!(recovery_frame_cnt(&[0x06, 1, 1, 0xc4, 0x80]), None);
        assert_eq!(recovery_frame_cnt(&[0x06, 6, 9, 0xc4, 0x80]), None);
    }
}
