//! MPEG-4 Visual (ISO/IEC 14496-2). Units are the start codes and bytes of one VOP, with the headers that the encoder put before it;
//! the configuration is the visual object sequence and layer headers as they stand in a stream.

/// Start code of a VOP.
const VOP: u8 = 0xb6;

/// Whether decoding can start with a unit: its first VOP is coded without others (section 6.3.5).
pub fn is_key(unit: &[u8]) -> bool {
    let vop = unit.windows(5).find(|window| matches!(window, [0, 0, 1, VOP, _]));
    vop.and_then(<[u8]>::last).is_some_and(|kind| kind >> 6 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_vops() {
        assert!(is_key(&[0, 0, 1, 0xb3, 0, 0, 1, 0xb6, 0x10]));
        assert!(!is_key(&[0, 0, 1, 0xb6, 0x50, 0, 0, 1, 0xb6, 0x10]));
        assert!(!is_key(&[0, 0, 1, 0xb6]) && !is_key(&[]));
    }
}
