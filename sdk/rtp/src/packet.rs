//! RTP packets (RFC 3550 section 5.1), read leniently.

use bytes::{BufMut, Bytes, BytesMut};

/// Length of the fixed RTP header, in bytes.
pub const HEADER_LEN: usize = 12;

/// One RTP packet. The payload shares the memory of the buffer that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpPacket {
    /// The marker bit.
    pub marker: bool,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Media time in ticks of the track's clock, modulo 2^32.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Header extension: its profile word and its data.
    pub extension: Option<(u16, Bytes)>,
    /// Payload without padding; may be empty.
    pub payload: Bytes,
}

/// Why bytes are no RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Shorter than the header that it announces.
    #[error("RTP packet of {len} bytes is cut short")]
    Short {
        /// Bytes that there are.
        len: usize,
    },
    /// Not version 2.
    #[error("RTP version {version} instead of 2")]
    Version {
        /// The version found.
        version: u8,
    },
}

/// Whether `datagram` is RTCP rather than RTP: packet types 200 to 207 (RFC 5761 section 4). Cameras mix both on one
/// channel or swap the channels (C84).
pub fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.get(1).is_some_and(|kind| (200..=207).contains(kind))
}

impl RtpPacket {
    /// Reads one packet. Wrong padding counts are taken as no padding, an extension or CSRC list past the end is an
    /// error (C85).
    pub fn parse(datagram: &Bytes) -> Result<Self, PacketError> {
        let short = PacketError::Short { len: datagram.len() };
        let (head, rest) = datagram.split_first_chunk::<HEADER_LEN>().ok_or(short)?;
        let [b0, b1, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3] = *head;
        let version = b0 >> 6;
        if version != 2 {
            return Err(PacketError::Version { version });
        }
        let csrc_len = usize::from(b0 & 0x0f) * 4;
        let mut rest = rest.get(csrc_len..).ok_or(short)?;
        let mut extension = None;
        if b0 & 0x10 != 0 {
            let ([p0, p1, l0, l1], after) = rest.split_first_chunk::<4>().ok_or(short)?;
            let len = usize::from(u16::from_be_bytes([*l0, *l1])) * 4;
            let data = after.get(..len).ok_or(short)?;
            extension = Some((u16::from_be_bytes([*p0, *p1]), datagram.slice_ref(data)));
            rest = after.get(len..).unwrap_or_default();
        }
        if b0 & 0x20 != 0 {
            let padding = usize::from(rest.last().copied().unwrap_or(0));
            if padding > 0 && padding <= rest.len() {
                rest = rest.get(..rest.len() - padding).unwrap_or_default();
            }
        }
        Ok(Self {
            marker: b1 & 0x80 != 0,
            payload_type: b1 & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([r0, r1, r2, r3]),
            extension,
            payload: if rest.is_empty() { Bytes::new() } else { datagram.slice_ref(rest) },
        })
    }

    /// Writes the packet, with no padding and no CSRCs.
    pub fn write(&self, out: &mut BytesMut) {
        let first = if self.extension.is_some() { 0x90 } else { 0x80 };
        let header = Header {
            marker: self.marker,
            payload_type: self.payload_type,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        };
        header.write(first, out);
        if let Some((profile, data)) = &self.extension {
            let words = data.len().div_ceil(4).min(usize::from(u16::MAX));
            out.put_u16(*profile);
            out.put_u16(words as u16);
            let len = data.len().min(words * 4);
            out.put_slice(data.get(..len).unwrap_or_default());
            out.put_bytes(0, words * 4 - len);
        }
        out.put_slice(&self.payload);
    }
}

/// The fields of a fixed header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
}

impl Header {
    /// Writes the 12 bytes; `first` is the byte with version, padding, extension and CSRC count.
    pub(crate) fn write(self, first: u8, out: &mut BytesMut) {
        out.put_u8(first);
        out.put_u8(u8::from(self.marker) << 7 | self.payload_type & 0x7f);
        out.put_u16(self.sequence);
        out.put_u32(self.timestamp);
        out.put_u32(self.ssrc);
    }
}
