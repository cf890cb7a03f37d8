//! H.264 (RFC 6184), packetization mode 1: STAP-A for parameter sets only, FU-A at the payload limit (R20).

use bytes::Bytes;
use patchbay_media::nal;

use super::Writer;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Sends parameter sets: together when they fit, else one by one.
pub(super) fn write_sets(sets: &[Bytes], writer: &mut Writer<'_>) {
    let len = 1 + sets.iter().map(|set| 2 + set.len()).sum::<usize>();
    if sets.len() < 2 || len > writer.max_payload {
        for set in sets {
            write_nal(set, false, writer);
        }
        return;
    }
    // The header has the highest importance of its parts (RFC 6184 section 5.7.1).
    let importance = sets.iter().filter_map(|set| set.first()).map(|byte| byte & 0x60).max().unwrap_or(0);
    let mut payload = Vec::with_capacity(len);
    payload.push(importance | STAP_A);
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
    let Some((&header, body)) = nal.split_first() else { return };
    let indicator = header & 0xe0 | FU_A;
    let room = writer.max_payload - 2;
    let count = body.len().div_ceil(room);
    for (number, fragment) in body.chunks(room).enumerate() {
        let (is_first, is_last) = (number == 0, number + 1 == count);
        let fu_header = u8::from(is_first) << 7 | u8::from(is_last) << 6 | header & 0x1f;
        writer.packet(marker && is_last, &[&[indicator, fu_header], fragment]);
    }
}
