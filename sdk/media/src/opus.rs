//! Opus packets (RFC 6716) and the `OpusHead` header (RFC 7845).

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Error, Field};

/// The clock of Opus, in any container.
pub const CLOCK_RATE: u32 = 48_000;
/// Longest packet: 120 ms at 48 kHz. RFC 6716 3.2.5.
pub const MAX_PACKET_SAMPLES: u32 = 5_760;
/// Bytes of an `OpusHead` with channel mapping family 0.
const HEAD_BYTES: usize = 19;

/// Samples per channel at 48 kHz that `packet` decodes to, from its table-of-contents byte. RFC 6716 3.1, 3.2.
/// `None` when the packet is empty, says no frames, or more than 120 ms.
pub fn packet_samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(*packet.get(1)? & 0x3f),
    };
    let samples = frames * frame_samples(toc);
    (samples > 0 && samples <= MAX_PACKET_SAMPLES).then_some(samples)
}

/// Channels that `packet` carries: 2 when its stereo bit is set. RFC 6716 3.1.
pub fn packet_channels(packet: &[u8]) -> Option<u8> {
    packet.first().map(|toc| if toc & 4 == 0 { 1 } else { 2 })
}

/// RFC 6716 table 2.
fn frame_samples(toc: u8) -> u32 {
    let config = u32::from(toc >> 3);
    match config {
        // SILK: 10, 20, 40, 60 ms.
        0..12 => match config % 4 {
            3 => 2_880,
            step => 480 << step,
        },
        // Hybrid: 10, 20 ms.
        12..16 => 480 << (config % 2),
        // CELT: 2.5, 5, 10, 20 ms.
        _ => 120 << (config % 4),
    }
}

/// The `OpusHead` identification header. RFC 7845 5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Output channels, at least 1.
    pub channels: u8,
    /// Samples at 48 kHz to throw away at the start.
    pub pre_skip: u16,
    /// Rate of the audio before it was encoded, for information.
    pub input_sample_rate: u32,
    /// Gain to apply, in 1/256 dB.
    pub output_gain: i16,
    /// Channel mapping family; 0 for one or two channels.
    pub mapping_family: u8,
}

impl Head {
    /// A header of family 0 for 48 kHz audio.
    pub fn new(channels: u8, pre_skip: u16) -> Self {
        Self { channels, pre_skip, input_sample_rate: CLOCK_RATE, output_gain: 0, mapping_family: 0 }
    }

    /// Reads a header. A mapping table behind it is passed over.
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        let (head, _) = data.split_first_chunk::<HEAD_BYTES>().field("OpusHead")?;
        let [magic @ .., _, channels, skip0, skip1, rate0, rate1, rate2, rate3, gain0, gain1, mapping_family] =
            *head;
        if &magic != b"OpusHead" {
            return Err(Error::NoSync { what: "OpusHead" });
        }
        if channels == 0 {
            return Err(Error::OutOfRange { field: "channel count", value: 0 });
        }
        Ok(Self {
            channels,
            pre_skip: u16::from_le_bytes([skip0, skip1]),
            input_sample_rate: u32::from_le_bytes([rate0, rate1, rate2, rate3]),
            output_gain: i16::from_le_bytes([gain0, gain1]),
            mapping_family,
        })
    }

    /// The 19 bytes of the header, without a mapping table.
    pub fn build(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEAD_BYTES);
        out.put_slice(b"OpusHead\x01");
        out.put_u8(self.channels);
        out.put_u16_le(self.pre_skip);
        out.put_u32_le(self.input_sample_rate);
        out.put_i16_le(self.output_gain);
        out.put_u8(self.mapping_family);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_follow_the_toc() {
        for toc in [0xf8, 0xfc, 0x78, 0x08] {
            assert_eq!(packet_samples(&[toc]), Some(960), "{toc:#x}");
        }
        assert_eq!(packet_samples(&[0x4b, 0x83]), Some(2_880));
        assert_eq!(packet_samples(&[0x18]), Some(2_880));
        assert_eq!(packet_samples(&[0x80]), Some(120));
        assert_eq!(packet_samples(&[0x4b]), None);
        assert_eq!(packet_samples(&[0x4b, 0]), None);
        assert_eq!(packet_samples(&[0xfb, 7]), None, "140 ms");
        assert_eq!((packet_channels(&[0xfc]), packet_channels(&[0xf8])), (Some(2), Some(1)));
    }

    /// RFC 7845 layout, mono with the 312 samples of libopus.
    #[test]
    fn head_of_a_mono_encoder() {
        let bytes = *b"OpusHead\x01\x01\x38\x01\x80\xbb\x00\x00\x00\x00\x00";
        assert_eq!(Head::new(1, 312).build(), &bytes[..]);
        assert_eq!(Head::parse(&bytes), Ok(Head::new(1, 312)));
    }

    proptest! {
        #[test]
        fn heads_round_trip(channels in 1_u8.., pre_skip: u16, input_sample_rate: u32, output_gain: i16, mapping_family: u8) {
            let head = Head { channels, pre_skip, input_sample_rate, output_gain, mapping_family };
            prop_assert_eq!(Head::parse(&head.build()), Ok(head));
        }

        #[test]
        fn any_bytes_never_panic(data: Vec<u8>) {
            let _ = Head::parse(&data);
            prop_assert!(packet_samples(&data).is_none_or(|samples| samples <= MAX_PACKET_SAMPLES));
        }
    }
}
