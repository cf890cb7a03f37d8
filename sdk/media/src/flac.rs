//! FLAC frames around PCM samples, uncompressed: the one form of PCM that browsers take in MP4. RFC 9639.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Codec, Parameters, pcm};

/// Block size in `STREAMINFO`; also the most samples of a frame.
pub const MAX_BLOCK: u16 = 32_768;

/// Sample rate codes of a frame header. RFC 9639 9.1.2.
const RATE_CODES: [(u32, u8); 8] =
    [(8_000, 4), (16_000, 5), (22_050, 6), (24_000, 7), (32_000, 8), (44_100, 9), (48_000, 10), (96_000, 11)];
/// A verbatim subframe without wasted bits.
const VERBATIM: u8 = 0x02;

/// Smallest block that `STREAMINFO` may name. RFC 9639 8.2.
const MIN_BLOCK: u16 = 16;

/// Makes frames of the samples of one track.
#[derive(Debug, Clone)]
pub struct Framer {
    codec: Codec,
    sample_rate: u32,
    rate_code: u8,
    channels: u8,
    /// Number of the next frame's first sample.
    next_sample: u64,
}

impl Framer {
    /// `None` when the codec is not PCM, or rate or channels (1 or 2) do not fit.
    pub fn new(parameters: &Parameters) -> Option<Self> {
        let (_, rate_code) = RATE_CODES.iter().find(|(rate, _)| *rate == parameters.sample_rate)?;
        let fits = is_pcm(parameters.codec) && (1..=2).contains(&parameters.channels);
        fits.then_some(Self {
            codec: parameters.codec,
            sample_rate: parameters.sample_rate,
            rate_code: *rate_code,
            channels: parameters.channels,
            next_sample: 0,
        })
    }

    /// What stands in front of the frames in a stream or file of its own: `fLaC` and a `STREAMINFO` that leaves open what is not known
    /// before the end. RFC 9639 8.1, 8.2.
    pub fn stream_header(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(42);
        out.put_slice(b"fLaC");
        // The last metadata block, of type 0.
        out.put_u8(0x80);
        out.put_uint(34, 3);
        out.put_u16(MIN_BLOCK);
        out.put_u16(MAX_BLOCK);
        // Sizes of frames: not known.
        out.put_uint(0, 6);
        // 20 bits of rate, 3 of channels, 5 of bits per sample, 36 of the number of samples: not known.
        let channels = u64::from(self.channels - 1);
        out.put_u64(u64::from(self.sample_rate) << 44 | channels << 41 | 15 << 36);
        // The checksum: not known.
        out.put_bytes(0, 16);
        out.freeze()
    }

    /// One frame with the samples of `data` and their number per channel; `None` when there is none. What is more than
    /// [`MAX_BLOCK`] samples is left out.
    pub fn frame(&mut self, data: &[u8]) -> Option<(Bytes, u32)> {
        let samples = self.samples(data);
        let channels = usize::from(self.channels);
        let count = (samples.len() / channels).min(usize::from(MAX_BLOCK));
        let last = u16::try_from(count.checked_sub(1)?).ok()?;
        let mut out = BytesMut::with_capacity(24 + count * channels * 2);
        out.put_slice(&[0xff, 0xf9, 0x70 | self.rate_code, (self.channels - 1) << 4 | 0x08]);
        put_coded_number(self.next_sample, &mut out);
        out.put_u16(last);
        out.put_u8(crc8(&out));
        for channel in 0..channels {
            out.put_u8(VERBATIM);
            for sample in samples.iter().skip(channel).step_by(channels).take(count) {
                out.put_i16(*sample);
            }
        }
        out.put_u16(crc16(&out));
        let count = u32::from(last) + 1;
        // The number has 36 bits.
        self.next_sample = (self.next_sample + u64::from(count)) & 0xf_ffff_ffff;
        Some((out.freeze(), count))
    }

    fn samples(&self, data: &[u8]) -> Vec<i16> {
        let pairs = || data.chunks_exact(2).filter_map(|pair| <[u8; 2]>::try_from(pair).ok());
        match self.codec {
            Codec::PcmAlaw => data.iter().map(|byte| pcm::alaw_to_s16(*byte)).collect(),
            Codec::PcmMulaw => data.iter().map(|byte| pcm::mulaw_to_s16(*byte)).collect(),
            Codec::PcmS16be => pairs().map(i16::from_be_bytes).collect(),
            _ => pairs().map(i16::from_le_bytes).collect(),
        }
    }
}

/// The codecs that [`Framer`] takes.
pub fn is_pcm(codec: Codec) -> bool {
    matches!(codec, Codec::PcmAlaw | Codec::PcmMulaw | Codec::PcmS16be | Codec::PcmS16le)
}

/// RFC 9639 9.1.5: as UTF-8, extended to 36 bits.
fn put_coded_number(number: u64, out: &mut BytesMut) {
    let low = |bits: u64| u8::try_from(bits & 0xff).unwrap_or(0);
    if number < 0x80 {
        out.put_u8(low(number));
        return;
    }
    let bits = 64 - number.leading_zeros();
    // n bytes behind the first hold 6 bits each, the first one holds 6 - n.
    let behind = (1..6).find(|n| bits <= n * 6 + 6 - n).unwrap_or(6);
    let marker = 0xff_u8 << (7 - behind);
    out.put_u8(marker | low(number >> (6 * behind)));
    for n in (0..behind).rev() {
        out.put_u8(0x80 | low(number >> (6 * n) & 0x3f));
    }
}

fn crc8(data: &[u8]) -> u8 {
    data.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc: u8, _| if crc & 0x80 == 0 { crc << 1 } else { crc << 1 ^ 0x07 })
    })
}

fn crc16(data: &[u8]) -> u16 {
    data.iter().fold(0, |crc: u16, byte| {
        let index = usize::from((crc >> 8) ^ u16::from(*byte));
        crc << 8 ^ CRC16.get(index).copied().unwrap_or(0)
    })
}

/// Polynomial 8005.
const CRC16: [u16; 256] = {
    let mut table = [0_u16; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x8005 };
            bit += 1;
        }
        #[allow(clippy::indexing_slicing)] // evaluated by the compiler
        {
            table[index] = crc;
        }
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Observed on the wire of another server with these inputs.
    #[test]
    fn frames_of_known_samples() {
        let mut alaw = Framer::new(&Parameters::audio(Codec::PcmAlaw, 8_000, 1)).unwrap();
        assert_eq!(
            hex(&alaw.frame(&[0xd5, 0x55, 0x2a, 0xaa]).unwrap().0),
            "fff97408000003b5020008fff882007e00183d"
        );
        assert_eq!(
            hex(&alaw.frame(&[0, 0x80, 0x7f, 0xff]).unwrap().0),
            "fff974080400031e02ea801580fcb00350d7e8"
        );
        let mut pcm = Framer::new(&Parameters::audio(Codec::PcmS16le, 16_000, 1)).unwrap();
        assert_eq!(hex(&pcm.frame(&[1, 2, 3, 4]).unwrap().0), "fff97508000001d90202010403a401");
        assert!(pcm.frame(&[1]).is_none());
    }

    /// As RFC 9639 8.2 says it; ffmpeg 5.1 reads such streams.
    #[test]
    fn a_stream_begins_with_what_is_known() {
        let pcm = Framer::new(&Parameters::audio(Codec::PcmS16le, 16_000, 2)).unwrap();
        let header = hex(&pcm.stream_header());
        assert_eq!(
            header,
            "664c614380000022001080000000000000 0003e802f000000000".replace(' ', "") + &"00".repeat(16)
        );
        for (codec, rate, channels) in
            [(Codec::Aac, 16_000, 1), (Codec::PcmS16le, 12_345, 1), (Codec::PcmS16le, 16_000, 3)]
        {
            assert!(
                Framer::new(&Parameters::audio(codec, rate, channels)).is_none(),
                "{codec:?} {rate} {channels}"
            );
        }
    }

    #[test]
    fn numbers_are_coded_as_in_utf_8_and_beyond() {
        let coded = |number| {
            let mut out = BytesMut::new();
            put_coded_number(number, &mut out);
            hex(&out)
        };
        for text in ["\u{7f}", "\u{80}", "\u{7ff}", "\u{800}", "\u{ffff}", "\u{10000}"] {
            assert_eq!(coded(u64::from(u32::from(text.chars().next().unwrap()))), hex(text.as_bytes()));
        }
        assert_eq!(coded(0x1f_ffff), "f7bfbfbf");
        assert_eq!(coded(0x20_0000), "f888808080");
        assert_eq!(coded(0x3ff_ffff), "fbbfbfbfbf");
        assert_eq!(coded(0x400_0000), "fc8480808080");
        assert_eq!(coded(0x8000_0000), "fe828080808080");
        assert_eq!(coded(0xf_ffff_ffff), "febfbfbfbfbfbf");
    }
}
