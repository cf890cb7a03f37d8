//! What the payload formats of H.264 (RFC 6184) and H.265 (RFC 7798) share.

use bytes::Bytes;
use patchbay_media::nal;

use super::Writer;

/// Sends one NAL unit: whole, or in fragments.
pub(super) type WriteNal = fn(&[u8], bool, &mut Writer<'_>);

/// Sends parameter sets: together behind `header` when they fit, else one by one.
pub(super) fn write_sets(header: &[u8], sets: &[Bytes], write_nal: WriteNal, writer: &mut Writer<'_>) {
    let len = header.len() + sets.iter().map(|set| 2 + set.len()).sum::<usize>();
    if sets.len() < 2 || len > writer.max_payload {
        for set in sets {
            write_nal(set, false, writer);
        }
        return;
    }
    let mut payload = Vec::with_capacity(len);
    payload.extend_from_slice(header);
    for set in sets {
        payload.extend_from_slice(&(set.len() as u16).to_be_bytes());
        payload.extend_from_slice(set);
    }
    writer.packet(false, &[&payload]);
}

/// Sends an access unit; its last packet has the marker (S44).
pub(super) fn write(unit: &[u8], write_nal: WriteNal, writer: &mut Writer<'_>) {
    let mut nals = nal::units(unit).peekable();
    while let Some(nal) = nals.next() {
        write_nal(nal, nals.peek().is_none(), writer);
    }
}

/// Sends the `body` of a NAL unit of this `kind` in fragments, each behind `header` and a byte that says which it is.
pub(super) fn write_fragments(header: &[u8], kind: u8, body: &[u8], marker: bool, writer: &mut Writer<'_>) {
    let room = writer.max_payload - header.len() - 1;
    let count = body.len().div_ceil(room);
    for (number, fragment) in body.chunks(room).enumerate() {
        let (is_first, is_last) = (number == 0, number + 1 == count);
        let fu_header = u8::from(is_first) << 7 | u8::from(is_last) << 6 | kind;
        writer.packet(marker && is_last, &[header, &[fu_header], fragment]);
    }
}
