//! VP8 (RFC 7741), VP9 (RFC 9628) and MPEG-4 Visual (RFC 6416): frames cut at the payload limit, the first two with the shortest
//! descriptor before each part. There are no picture ids: history and live packets are numbered by runs of their own.

use patchbay_media::vp9;

use super::Writer;

/// The start of a partition.
const VP8_START: u8 = 0x10;

/// Bits of VP9's descriptor: predicted from other pictures; start and end of a frame.
const VP9_INTER: u8 = 0x40;
const VP9_START: u8 = 0x08;
const VP9_END: u8 = 0x04;

/// Sends a frame; its last packet has the marker.
pub(super) fn vp8(frame: &[u8], writer: &mut Writer<'_>) {
    parts(frame, writer, |is_first, _| if is_first { VP8_START } else { 0 });
}

/// Sends a frame or superframe; its last packet has the marker.
pub(super) fn vp9(frame: &[u8], writer: &mut Writer<'_>) {
    let inter = if vp9::is_key(frame) { 0 } else { VP9_INTER };
    parts(frame, writer, |is_first, is_last| {
        inter | if is_first { VP9_START } else { 0 } | if is_last { VP9_END } else { 0 }
    });
}

/// The bytes of a VOP (RFC 6416 section 5); its last packet has the marker.
pub(super) fn mpeg4(vop: &[u8], writer: &mut Writer<'_>) {
    let room = writer.max_payload;
    let count = vop.len().div_ceil(room);
    for (number, part) in vop.chunks(room).enumerate() {
        writer.packet(number + 1 == count, &[part]);
    }
}

fn parts(frame: &[u8], writer: &mut Writer<'_>, descriptor: impl Fn(bool, bool) -> u8) {
    let room = writer.max_payload - 1;
    let count = frame.len().div_ceil(room);
    for (number, part) in frame.chunks(room).enumerate() {
        let is_last = number + 1 == count;
        writer.packet(is_last, &[&[descriptor(number == 0, is_last)], part]);
    }
}
