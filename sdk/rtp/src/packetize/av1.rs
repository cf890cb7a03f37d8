//! AV1 (RTP Payload Format For AV1, version 1.0): OBUs without their sizes, each with its length in the packet (W = 0), cut at
//! the payload limit.

use patchbay_media::av1::{Obu, RECORD_HEAD, kind, obus};

use super::Writer;

/// Bits of the aggregation header (section 4.4): the first element goes on from the last packet; the last one goes on in the next;
/// a coded video sequence starts.
const CONTINUES: u8 = 0x80;
const CUT: u8 = 0x40;
const NEW_SEQUENCE: u8 = 0x08;

/// Sends a temporal unit; its last packet has the marker. A key unit without a sequence header gets the one of `record`.
pub(super) fn write(unit: &[u8], key: bool, record: Option<&[u8]>, writer: &mut Writer<'_>) {
    let has_header = obus(unit).any(|obu| obu.kind() == kind::SEQUENCE_HEADER);
    let config = record.and_then(|record| record.get(RECORD_HEAD..)).filter(|_| key && !has_header);
    let sets = obus(config.unwrap_or_default());
    let starts = key && (has_header || config.is_some_and(|config| !config.is_empty()));
    let kept =
        |obu: &Obu<'_>| !matches!(obu.kind(), kind::TEMPORAL_DELIMITER | kind::TILE_LIST | kind::PADDING);
    let mut out = Packing { payload: vec![if starts { NEW_SEQUENCE } else { 0 }], writer };
    for obu in sets.chain(obus(unit)).filter(kept) {
        out.element(&obu);
    }
    if out.payload.len() > 1 {
        out.writer.packet(true, &[&out.payload]);
    }
}

struct Packing<'a, 'b> {
    payload: Vec<u8>,
    writer: &'a mut Writer<'b>,
}

impl Packing<'_, '_> {
    fn element(&mut self, obu: &Obu<'_>) {
        let mut start = 0;
        while start < obu.len() {
            // Two bytes of length are enough: no packet is longer than 16 KB of what they can say, or the rest waits.
            let room = self.writer.max_payload.saturating_sub(self.payload.len() + 2).min(0x3fff);
            if room == 0 {
                self.flush(start > 0);
                continue;
            }
            let len = room.min(obu.len() - start);
            if len < 0x80 {
                self.payload.push(len as u8);
            } else {
                self.payload.extend_from_slice(&[len as u8 & 0x7f | 0x80, (len >> 7) as u8]);
            }
            let (head, body) = obu.part(start, len);
            self.payload.extend_from_slice(head);
            self.payload.extend_from_slice(body);
            start += len;
            if start < obu.len() {
                self.flush(true);
            }
        }
    }

    /// Sends a packet that is not the last; `is_cut`: its last element goes on in the next.
    fn flush(&mut self, is_cut: bool) {
        if let Some(header) = self.payload.first_mut().filter(|_| is_cut) {
            *header |= CUT;
        }
        self.writer.packet(false, &[&self.payload]);
        self.payload.clear();
        self.payload.push(if is_cut { CONTINUES } else { 0 });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use patchbay_media::{Codec, Parameters, Unit};
    use proptest::prelude::*;

    use patchbay_media::av1::kind::{SEQUENCE_HEADER, TEMPORAL_DELIMITER};
    use patchbay_media::av1::leb128;

    use super::super::{Packetizer, Packets};
    use super::*;

    fn sized(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut obu = vec![kind << 3 | 2];
        let mut len = payload.len();
        while len >= 0x80 {
            obu.push(len as u8 | 0x80);
            len >>= 7;
        }
        obu.push(len as u8);
        obu.extend_from_slice(payload);
        obu
    }

    fn payloads(unit: Vec<u8>, key: bool, record: &'static [u8]) -> Vec<(bool, Vec<u8>)> {
        let parameters =
            Parameters { extradata: Bytes::from_static(record), ..Parameters::video(Codec::Av1, 90_000) };
        let mut packetizer = Packetizer::new(&parameters, 96, 1, 0, 0, 300).unwrap();
        let mut packets = Packets::new(0);
        let sets = Some(&parameters).filter(|_| key);
        packetizer.packetize(&Unit::new(0, key, Bytes::from(unit)), sets, &mut packets);
        packets.datagrams().map(|packet| (packet[1] & 0x80 != 0, packet[12..].to_vec())).collect()
    }

    /// The elements of packets, put together again.
    fn elements(packets: &[(bool, Vec<u8>)]) -> Vec<Vec<u8>> {
        let mut out: Vec<Vec<u8>> = Vec::new();
        for (_, payload) in packets {
            let (header, mut rest) = payload.split_first().unwrap();
            let mut goes_on = header & CONTINUES != 0;
            while !rest.is_empty() {
                let (len, behind) = leb128(rest).unwrap();
                let (element, behind) = behind.split_at(len);
                match goes_on {
                    true => out.last_mut().unwrap().extend_from_slice(element),
                    false => out.push(element.to_vec()),
                }
                (goes_on, rest) = (false, behind);
            }
        }
        out
    }

    #[test]
    fn a_key_unit_gets_its_sequence_header() {
        let record = &[0x81, 0, 0x0c, 0, 0x0a, 3, 7, 8, 9];
        let unit = [sized(TEMPORAL_DELIMITER, &[]), sized(6, &[1, 2, 3])].concat();
        assert_eq!(
            payloads(unit.clone(), true, record),
            [(true, vec![NEW_SEQUENCE, 4, 0x08, 7, 8, 9, 4, 0x30, 1, 2, 3])]
        );
        assert_eq!(payloads(unit, false, record), [(true, vec![0, 4, 0x30, 1, 2, 3])]);
        // It has its own.
        let unit = [sized(SEQUENCE_HEADER, &[5]), sized(6, &[1])].concat();
        assert_eq!(payloads(unit, true, record), [(true, vec![NEW_SEQUENCE, 2, 0x08, 5, 2, 0x30, 1])]);
    }

    #[test]
    fn long_units_are_cut() {
        let unit = [sized(SEQUENCE_HEADER, &[5; 10]), sized(6, &[7; 700])].concat();
        let packets = payloads(unit, true, &[]);
        let heads: Vec<(bool, u8, usize)> =
            packets.iter().map(|(marker, p)| (*marker, p[0], p.len())).collect();
        let (first, next, last) = (NEW_SEQUENCE | CUT, CONTINUES | CUT, CONTINUES);
        assert_eq!(heads, [(false, first, 300), (false, next, 300), (true, last, 121)]);
        assert_eq!(
            elements(&packets),
            [[vec![0x08], vec![5; 10]].concat(), [vec![0x30], vec![7; 700]].concat()]
        );
    }

    proptest! {
        #[test]
        fn what_is_sent_can_be_put_together(lens in proptest::collection::vec(0_usize..900, 1..8)) {
            let bodies: Vec<Vec<u8>> = lens.iter().enumerate().map(|(number, len)| vec![number as u8; *len]).collect();
            let unit = bodies.iter().flat_map(|body| sized(6, body)).collect();
            let packets = payloads(unit, false, &[]);
            let expected: Vec<Vec<u8>> = bodies.iter().map(|body| [&[0x30], &body[..]].concat()).collect();
            prop_assert_eq!(elements(&packets), expected);
            prop_assert!(packets.iter().all(|(_, payload)| payload.len() <= 300));
            let markers: Vec<bool> = packets.iter().map(|(marker, _)| *marker).collect();
            prop_assert!(markers.iter().position(|marker| *marker) == Some(markers.len() - 1));
        }

        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..600), key in any::<bool>()) {
            payloads(data, key, &[0x81, 0, 0, 0, 0xff]);
        }
    }
}
