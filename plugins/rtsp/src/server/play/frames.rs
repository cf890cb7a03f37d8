//! Interleaved frames (RFC 2326 section 10.12) of our own making.

use bytes::{Bytes, BytesMut};

/// Cuts interleaved frames into packets with their channels.
pub(super) struct Frames<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let ([_, channel, l0, l1], rest) = self.0.split_first_chunk::<4>()?;
        let (packet, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*l0, *l1])))?;
        self.0 = rest;
        Some((*channel, packet))
    }
}

/// The same frames on another channel pair: two tracks of different sources may have the same one. A copy, unless it is
/// the same pair.
pub(super) fn with_channel(frames: &Bytes, from: u8, to: u8) -> Bytes {
    if from == to {
        return frames.clone();
    }
    let mut copy = BytesMut::with_capacity(frames.len());
    for (channel, packet) in Frames(frames) {
        crate::wire::write_interleaved(to + (channel & 1), packet, &mut copy);
    }
    copy.freeze()
}
