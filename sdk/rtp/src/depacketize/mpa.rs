//! MPEG audio, layers 2 and 3 (RFC 2250 section 3.5).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_media::{Codec, Parameters};

use super::aac::MAX_FRAME_LEN;
use super::{Body, Frame, Malformed};
use crate::RtpPacket;

#[derive(Debug)]
pub(super) struct Mpa {
    parameters: Parameters,
    /// A frame over several packets, so far without a gap.
    partial: BytesMut,
}

impl Mpa {
    pub(super) fn new(parameters: &Parameters) -> Self {
        Self { parameters: parameters.clone(), partial: BytesMut::new() }
    }

    pub(super) fn lost(&mut self) {
        self.partial.clear();
    }

    pub(super) fn push(
        &mut self,
        packet: &RtpPacket,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        let ([_, _, o0, o1], body) = packet.payload.split_first_chunk::<4>().ok_or(Malformed)?;
        let offset = usize::from(u16::from_be_bytes([*o0, *o1]));
        let mut rest = packet.payload.slice_ref(body);
        if offset > 0 {
            if offset != self.partial.len() || offset + rest.len() > MAX_FRAME_LEN {
                self.partial.clear();
                return Err(Malformed);
            }
            self.partial.extend_from_slice(&rest);
            rest = self.partial.clone().freeze();
        }
        self.partial.clear();
        let mut timestamp = packet.timestamp;
        while !rest.is_empty() {
            let header = Header::parse(&rest).ok_or(Malformed)?;
            if header.len > rest.len() {
                if timestamp == packet.timestamp {
                    self.partial.extend_from_slice(&rest);
                    return Ok(());
                }
                return Err(Malformed);
            }
            let data = rest.split_to(header.len);
            timestamp = timestamp.wrapping_add(self.emit(header, timestamp, data, arrival, out));
        }
        Ok(())
    }

    /// Gives the frame out; its ticks.
    fn emit(
        &mut self,
        header: Header,
        timestamp: u32,
        data: Bytes,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> u32 {
        let codec = if header.layer == 3 { Codec::Mp3 } else { Codec::Mp2 };
        let known = (self.parameters.codec, self.parameters.sample_rate, self.parameters.channels);
        if known != (codec, header.sample_rate, header.channels) {
            (self.parameters.codec, self.parameters.sample_rate, self.parameters.channels) =
                (codec, header.sample_rate, header.channels);
            out.push(Frame::parameters(self.parameters.clone()));
        }
        let ticks =
            u64::from(header.samples) * u64::from(self.parameters.clock_rate) / u64::from(header.sample_rate);
        let ticks = u32::try_from(ticks).unwrap_or(0);
        let body = Body::Data(data);
        out.push(Frame {
            timestamp,
            arrival,
            duration: ticks,
            snap: false,
            incomplete: false,
            picture: None,
            body,
        });
        ticks
    }
}

/// An MPEG audio frame header (ISO/IEC 11172-3 section 2.4.1.3, ISO/IEC 13818-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    layer: u8,
    sample_rate: u32,
    channels: u8,
    samples: u32,
    /// Bytes of the frame, header included.
    len: usize,
}

impl Header {
    fn parse(data: &[u8]) -> Option<Self> {
        const LAYER2: [u32; 15] = [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384];
        const LAYER3: [u32; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
        const LOW: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
        let [b0, b1, b2, b3] = *data.first_chunk::<4>()?;
        if b0 != 0xff || b1 & 0xe0 != 0xe0 {
            return None;
        }
        let layer = match b1 >> 1 & 3 {
            1 => 3,
            2 => 2,
            _ => return None,
        };
        let (divisor, is_low) = match b1 >> 3 & 3 {
            3 => (1, false),
            2 => (2, true),
            0 => (4, true),
            _ => return None,
        };
        let table = match (is_low, layer) {
            (true, _) => LOW,
            (false, 2) => LAYER2,
            (false, _) => LAYER3,
        };
        let kbps = *table.get(usize::from(b2 >> 4)).filter(|kbps| **kbps > 0)?;
        let sample_rate = [44100, 48000, 32000].get(usize::from(b2 >> 2 & 3))? / divisor;
        let samples: u32 = if layer == 3 && is_low { 576 } else { 1152 };
        let len = samples / 8 * kbps * 1000 / sample_rate + u32::from(b2 >> 1 & 1);
        let channels = if b3 >> 6 == 3 { 1 } else { 2 };
        Some(Self { layer, sample_rate, channels, samples, len: usize::try_from(len).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_both_layers() {
        let header = Header::parse(&[0xff, 0xfb, 0x90, 0x44]);
        let expected = Header { layer: 3, sample_rate: 44100, channels: 2, samples: 1152, len: 417 };
        assert_eq!(header, Some(expected));
        let header = Header::parse(&[0xff, 0xfd, 0xa4, 0xc0]);
        assert_eq!(
            header,
            Some(Header { layer: 2, sample_rate: 48000, channels: 1, samples: 1152, len: 576 })
        );
        assert_eq!(Header::parse(&[0xff, 0xfb, 0xf0, 0x44]), None);
    }
}
