//! Audio whose packets are units: Opus (RFC 7587), G.711, G.722, G.726 and PCM (RFC 3551, RFC 3190), R50 to R56.

use std::time::Duration;

use bytes::Bytes;
use patchbay_media::bits::{BitReader, BitWriter};
use patchbay_media::{Codec, Parameters, opus};

use super::{Frame, Malformed};
use crate::RtpPacket;

#[derive(Debug)]
pub(super) struct Simple {
    layout: Layout,
    channels: usize,
}

#[derive(Debug, Clone, Copy)]
enum Layout {
    Opus,
    /// This many bits per sample and channel; ticks are samples.
    Samples {
        bits: u32,
    },
    /// G.726 with this many bits per sample, the first sample in the lowest bits (RFC 3551 section 4.5.4).
    LowestFirst {
        bits: u32,
    },
}

impl Simple {
    pub(super) fn new(encoding: &str, parameters: &Parameters) -> Option<Self> {
        let g726_bits = |name: &str| match name {
            "16" => Some(2),
            "24" => Some(3),
            "32" => Some(4),
            "40" => Some(5),
            _ => None,
        };
        let layout = match parameters.codec {
            Codec::Opus => Layout::Opus,
            // G.722 has 8 bits for two samples, and its clock counts one of the two (R53).
            Codec::PcmAlaw | Codec::PcmMulaw | Codec::AdpcmG722 => Layout::Samples { bits: 8 },
            Codec::PcmU8 => Layout::Samples { bits: 8 },
            Codec::PcmS16be | Codec::PcmS16le => Layout::Samples { bits: 16 },
            Codec::PcmS24be => Layout::Samples { bits: 24 },
            // Units are in the order that FFmpeg calls adpcm_g726: first sample in the highest bits, as AAL2 has it.
            Codec::AdpcmG726 => match encoding.strip_prefix("AAL2-G726-") {
                Some(rate) => Layout::Samples { bits: g726_bits(rate)? },
                None => Layout::LowestFirst { bits: g726_bits(encoding.strip_prefix("G726-")?)? },
            },
            _ => return None,
        };
        Some(Self { layout, channels: usize::from(parameters.channels.max(1)) })
    }

    pub(super) fn push(
        &mut self,
        packet: &RtpPacket,
        arrival: Duration,
        out: &mut Vec<Frame>,
    ) -> Result<(), Malformed> {
        let (duration, data) = match self.layout {
            Layout::Opus => (opus::packet_samples(&packet.payload).ok_or(Malformed)?, packet.payload.clone()),
            Layout::Samples { bits: bits @ (16 | 24) } => {
                let frame = bits as usize / 8 * self.channels;
                let count = packet.payload.len() / frame;
                (u32::try_from(count).unwrap_or(0), packet.payload.slice(..count * frame))
            }
            Layout::Samples { bits } => (self.samples(&packet.payload, bits), packet.payload.clone()),
            Layout::LowestFirst { bits } => {
                (self.samples(&packet.payload, bits), highest_first(&packet.payload, bits))
            }
        };
        if data.is_empty() {
            return Err(Malformed);
        }
        out.push(Frame::whole(packet, arrival, duration, data));
        Ok(())
    }

    fn samples(&self, payload: &[u8], bits: u32) -> u32 {
        let samples = payload.len() * 8 / (bits.max(1) as usize * self.channels);
        u32::try_from(samples).unwrap_or(0)
    }
}

/// Codewords of `bits` bits turned from "first in the lowest bits" to "first in the highest bits" (R54).
fn highest_first(payload: &[u8], bits: u32) -> Bytes {
    let reversed: Vec<u8> = payload.iter().map(|byte| byte.reverse_bits()).collect();
    let mut reader = BitReader::new(&reversed);
    let mut writer = BitWriter::new();
    while let Some(code) = reader.bits(bits) {
        writer.bits(bits, code.reverse_bits() >> (32 - bits));
    }
    writer.finish().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r54_bit_orders() {
        assert_eq!(highest_first(&[0x12, 0xf0], 4).as_ref(), [0x21, 0x0f]);
        assert_eq!(highest_first(&[0b1110_0100], 2).as_ref(), [0b0001_1011]);
    }
}
