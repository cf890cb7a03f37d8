//! H.264 (RFC 6184), packetization mode 1: STAP-A for parameter sets only, FU-A at the payload limit (R20).

use bytes::Bytes;

use super::{Writer, nal_units};

const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Sends parameter sets.
pub(super) fn write_sets(sets: &[Bytes], writer: &mut Writer<'_>) {
    // The header has the highest importance of its parts (RFC 6184 section 5.7.1).
    let importance = sets.iter().filter_map(|set| set.first()).map(|byte| byte & 0x60).max().unwrap_or(0);
    nal_units::write_sets(&[importance | STAP_A], sets, write_nal, writer);
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
    let Some((&header, body)) = nal.split_first() else { return };
    nal_units::write_fragments(&[header & 0xe0 | FU_A], header & 0x1f, body, marker, writer);
}
