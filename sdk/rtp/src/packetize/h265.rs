//! H.265 (RFC 7798): AP for parameter sets only, FU at the payload limit.

use bytes::Bytes;

use super::{Writer, nal_units};

const AP: u8 = 48;
const FU: u8 = 49;

/// Sends parameter sets, which are of layer 0 and temporal id 0 (plus 1).
pub(super) fn write_sets(sets: &[Bytes], writer: &mut Writer<'_>) {
    nal_units::write_sets(&[AP << 1, 1], sets, write_nal, writer);
}

/// Sends an access unit.
pub(super) fn write(unit: &[u8], writer: &mut Writer<'_>) {
    nal_units::write(unit, write_nal, writer);
}

fn write_nal(nal: &[u8], marker: bool, writer: &mut Writer<'_>) {
    if nal.len() <= writer.max_payload {
        writer.packet(marker, &[nal]);
        return;
    }
    let Some((&[h0, h1], body)) = nal.split_first_chunk::<2>() else { return };
    nal_units::write_fragments(&[h0 & 0x81 | FU << 1, h1], h0 >> 1 & 0x3f, body, marker, writer);
}
