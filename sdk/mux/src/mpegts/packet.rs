//! Transport packets. ISO/IEC 13818-1 2.4.3.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of a packet.
pub(super) const PACKET_BYTES: usize = 188;
const SYNC: u8 = 0x47;
/// Distances of packets: plain, with a time in front (M2TS), with Reed-Solomon bytes behind.
const STRIDES: [usize; 3] = [188, 192, 204];

/// A packet's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub pid: u16,
    /// A PES packet or section starts here.
    pub starts: bool,
    pub continuity: u8,
    /// `discontinuity_indicator`.
    pub discontinuity: bool,
    /// Cannot be used: damaged or scrambled.
    pub unusable: bool,
    pub payload: Option<Bytes>,
}

/// Finds packets in bytes that arrive in pieces.
#[derive(Debug, Default)]
pub(super) struct Packets {
    buffer: BytesMut,
    stride: Option<usize>,
    /// Bytes to come that stand between packets.
    between: usize,
    /// Bytes that were no packet.
    pub skipped: u64,
}

impl Packets {
    pub(super) fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next packet. `end`: no more bytes come.
    pub(super) fn next(&mut self, end: bool) -> Option<Packet> {
        loop {
            let Some(stride) = self.stride else {
                self.find(end)?;
                continue;
            };
            let between = self.between.min(self.buffer.len());
            self.buffer.advance(between);
            self.between -= between;
            if self.buffer.len() < PACKET_BYTES {
                return None;
            }
            if self.buffer.first() != Some(&SYNC) {
                self.stride = None;
                continue;
            }
            let packet = parse(&self.buffer.split_to(PACKET_BYTES).freeze());
            self.between = stride - PACKET_BYTES;
            if let Some(packet) = packet {
                return Some(packet);
            }
        }
    }

    /// Goes to where three packets stand one behind the other, or as many as there are when no more come.
    fn find(&mut self, end: bool) -> Option<()> {
        let data = &self.buffer;
        let at = |at: usize| data.get(at).map(|byte| *byte == SYNC);
        for start in 0..data.len() {
            if at(start) != Some(true) {
                continue;
            }
            for stride in STRIDES {
                match (at(start + stride), at(start + 2 * stride)) {
                    (Some(true), Some(true)) => {
                        self.found(start, stride);
                        return Some(());
                    }
                    (Some(true) | None, None) if end && start + PACKET_BYTES <= data.len() => {
                        self.found(start, stride);
                        return Some(());
                    }
                    _ => {}
                }
            }
            if !end && start + 2 * 204 >= data.len() {
                // More bytes may make it a packet.
                if start > 0 {
                    self.skip(start);
                }
                return None;
            }
        }
        let keep = if end { 0 } else { self.buffer.len().min(2 * 204) };
        self.skip(self.buffer.len() - keep);
        None
    }

    fn found(&mut self, start: usize, stride: usize) {
        self.skip(start);
        self.between = 0;
        self.stride = Some(stride);
    }

    fn skip(&mut self, bytes: usize) {
        self.buffer.advance(bytes.min(self.buffer.len()));
        self.skipped += bytes as u64;
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }
}

fn parse(packet: &Bytes) -> Option<Packet> {
    let [_, b1, b2, b3, ..] = **packet else { return None };
    let mut result = Packet {
        pid: u16::from(b1 & 0x1f) << 8 | u16::from(b2),
        starts: b1 & 0x40 != 0,
        continuity: b3 & 0x0f,
        discontinuity: false,
        unusable: b1 & 0x80 != 0 || b3 & 0xc0 != 0,
        payload: None,
    };
    let mut payload_at = 4;
    if b3 & 0x20 != 0 {
        let length = usize::from(*packet.get(4)?);
        result.discontinuity = length > 0 && packet.get(5).is_some_and(|flags| flags & 0x80 != 0);
        payload_at += 1 + length;
    }
    if b3 & 0x10 != 0 {
        // A field that is too long leaves no payload.
        result.payload = (payload_at < packet.len()).then(|| packet.slice(payload_at..));
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(stride: usize, lead: usize, count: usize) -> Vec<u8> {
        let mut out = vec![1; lead];
        for index in 0..count {
            let mut packet = vec![0xff; stride];
            packet[..4].copy_from_slice(&[SYNC, 0x01, index as u8, 0x10]);
            out.extend_from_slice(&packet);
        }
        out
    }

    proptest! {
        #[test]
        fn packets_are_found_in_any_pieces(stride in 0_usize..3, lead in 0_usize..300, count in 3_usize..12, piece in 1_usize..500) {
            let data = stream(STRIDES[stride], lead, count);
            let mut packets = Packets::default();
            let mut found = Vec::new();
            for piece in data.chunks(piece) {
                packets.push(piece);
                while let Some(packet) = packets.next(false) {
                    found.push(packet.pid);
                }
            }
            while let Some(packet) = packets.next(true) {
                found.push(packet.pid);
            }
            prop_assert_eq!(found, (0..count).map(|index| 0x100 | index as u16).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_never_panic(data: Vec<u8>, piece in 1_usize..400) {
            let mut packets = Packets::default();
            for piece in data.chunks(piece) {
                packets.push(piece);
                while packets.next(false).is_some() {}
                prop_assert!(packets.len() <= 3 * 204);
            }
            while packets.next(true).is_some() {}
        }
    }
}
