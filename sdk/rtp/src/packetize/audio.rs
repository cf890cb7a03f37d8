//! AAC (RFC 3640), Opus (RFC 7587), MPEG audio (RFC 2250) and samples (RFC 3551).

use super::Writer;

/// Largest frame that a 13-bit size can tell.
const MAX_AAC_FRAME: usize = (1 << 13) - 1;

/// One frame, in several packets when it is too large: mode AAC-hbr, sizes of 13 bits, marker on the last packet.
pub(super) fn aac(frame: &[u8], writer: &mut Writer<'_>) {
    if frame.is_empty() || frame.len() > MAX_AAC_FRAME {
        return;
    }
    let size = ((frame.len() << 3) as u16).to_be_bytes();
    let header = [0, 16, size[0], size[1]];
    let room = writer.max_payload - header.len();
    let count = frame.len().div_ceil(room);
    for (number, fragment) in frame.chunks(room).enumerate() {
        writer.packet(number + 1 == count, &[&header, fragment]);
    }
}

/// One packet, which cannot be divided. The marker tells of a beginning (S44).
pub(super) fn opus(packet: &[u8], is_first: bool, writer: &mut Writer<'_>) {
    if !packet.is_empty() && packet.len() <= *super::PAYLOAD_LIMITS.end() {
        writer.packet(is_first, &[packet]);
    }
}

/// One frame, in several packets when it is too large.
pub(super) fn mpa(frame: &[u8], writer: &mut Writer<'_>) {
    let room = writer.max_payload - 4;
    for (number, fragment) in frame.chunks(room).enumerate() {
        let Ok(offset) = u16::try_from(number * room) else { return };
        let [o0, o1] = offset.to_be_bytes();
        writer.packet(true, &[&[0, 0, o0, o1], fragment]);
    }
}

/// Samples, divided between samples when there are too many; `frame_len` is bytes per tick of the clock.
pub(super) fn samples(data: &[u8], frame_len: usize, is_first: bool, writer: &mut Writer<'_>) {
    let frame_len = frame_len.max(1);
    let frames_per_packet = (writer.max_payload / frame_len).max(1);
    let mut timestamp = writer.timestamp;
    for (number, chunk) in data.chunks(frames_per_packet * frame_len).enumerate() {
        writer.packet_at(is_first && number == 0, timestamp, None, &[chunk]);
        timestamp = timestamp.wrapping_add((chunk.len() / frame_len) as u32);
    }
}
