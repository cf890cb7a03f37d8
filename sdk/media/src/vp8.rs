//! VP8 frames (RFC 6386 section 9.1). Units are frames.

/// Whether decoding can start with a frame.
pub fn is_key(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & 1 == 0)
}

/// Width and height in pixels of a key frame, without the scaling that it asks of the player.
pub fn size(frame: &[u8]) -> Option<(u32, u32)> {
    let [first, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = *frame.first_chunk::<10>()? else { return None };
    let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    let (width, height) = (side(w0, w1), side(h0, h1));
    (first & 1 == 0 && width > 0 && height > 0).then_some((width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_have_a_size() {
        // 320x240 by libvpx.
        let key = [0x50, 0x2e, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 0x00];
        assert!(is_key(&key));
        assert_eq!(size(&key), Some((320, 240)));
        assert_eq!(size(&key[..9]), None);
        assert!(!is_key(&[0x51, 0, 0]) && !is_key(&[]));
    }
}
