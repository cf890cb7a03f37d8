//! H.265 (RFC 7798): AP for parameter sets only, FU at the payload limit.

use bytes::Bytes;
use patchbay_media::nal;

use super::Writer;

const AP: u8 = 48;
const FU: u8 = 49;

/// Sends parameter sets: together when they fit, else one by one.
pub(super) fn write_sets(sets: &[Bytes], writer: &mut Writer<'_>) {
    let len = 2 + sets.iter().map(|set| 2 + set.len()).sum::<usize>();
    if sets.len() < 2 || len > writer.max_payload {
        for set in sets {
            write_nal(set, false, writer);
        }
        return;
    }
    // Parameter sets are of layer 0 and temporal id 0 (plus 1).
    let mut payload = Vec::with_capacity(len);
    payload.extend_from_slice(&[AP << 1, 1]);
    for set in sets {
        payload.extend_from_slice(&(set.len() as u16).to_be_bytes());
        payload.extend_from_slice(set);
    }
    writer.packet(false, &[&payload]);
}

/// Sends an access unit; its last packet has the marker (S44).
pub(super) fn write(unit: &[u8], writer: &mut Writer<'_>) {
    let mut nals = nal::units(unit).peekable();
    while let Some(nal) = nals.next() {
        write_nal(nal, nals.peek().is_none(), writer);
    }
}

fn write_nal(nal: &[u8], marker: bool, writer: &mut Writer<'_>) {
    if nal.len() <= writer.max_payload {
        writer.packet(marker, &[nal]);
        return;
    }
    let Some((&[h0, h1], body)) = nal.split_first_chunk::<2>() else { return };
    let kind = h0 >> 1 & 0x3f;
    let room = writer.max_payload - 3;
    let count = body.len().div_ceil(room);
    for (number, fragment) in body.chunks(room).enumerate() {
        let (is_first, is_last) = (number == 0, number + 1 == count);
        let fu_header = u8::from(is_first) << 7 | u8::from(is_last) << 6 | kind;
        writer.packet(marker && is_last, &[&[h0 & 0x81 | FU << 1, h1, fu_header], fragment]);
    }
}
