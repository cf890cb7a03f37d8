//! G.711 and 16-bit PCM.

use bytes::{BufMut, Bytes, BytesMut};

static ALAW: [i16; 256] = alaw_table();
static MULAW: [i16; 256] = mulaw_table();

/// The sample of an A-law byte. ITU-T G.711 table 1, scaled to 16 bits.
pub fn alaw_to_s16(byte: u8) -> i16 {
    ALAW.get(usize::from(byte)).copied().unwrap_or(0)
}

/// The sample of a mu-law byte. ITU-T G.711 table 2, scaled to 16 bits.
pub fn mulaw_to_s16(byte: u8) -> i16 {
    MULAW.get(usize::from(byte)).copied().unwrap_or(0)
}

/// The A-law byte nearest to a sample.
pub fn s16_to_alaw(sample: i16) -> u8 {
    // Negative samples are one step lower, so that -1 is the smallest negative value; 13 bits are coded.
    let negative = sample < 0;
    let magnitude =
        u16::try_from(if negative { !(i32::from(sample)) } else { i32::from(sample) }).unwrap_or(0) >> 3;
    let segment = 16_u32.saturating_sub(magnitude.leading_zeros()).saturating_sub(5);
    let mantissa = if segment < 2 { magnitude >> 1 } else { magnitude >> segment } & 0x0f;
    let code = u8::try_from(segment << 4).unwrap_or(0x70) | u8::try_from(mantissa).unwrap_or(0);
    code ^ if negative { 0x55 } else { 0xd5 }
}

/// The mu-law byte nearest to a sample.
pub fn s16_to_mulaw(sample: i16) -> u8 {
    const BIAS: u32 = 0x84;
    const CLIP: u32 = 32_635;
    let magnitude = u32::from(sample.unsigned_abs()).min(CLIP) + BIAS;
    // The bias puts the highest bit at 7 to 14.
    let segment = 24_u32.saturating_sub(magnitude.leading_zeros());
    let mantissa = (magnitude >> (segment + 3)) & 0x0f;
    let code = u8::try_from(segment << 4 | mantissa).unwrap_or(0x7f);
    !(code | if sample < 0 { 0x80 } else { 0 })
}

/// Big-endian 16-bit samples from little-endian ones, or the other way. An odd last byte is left out.
pub fn swap_bytes(samples: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(samples.len());
    for pair in samples.chunks_exact(2) {
        if let [a, b] = pair {
            out.put_slice(&[*b, *a]);
        }
    }
    out.freeze()
}

const fn alaw_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut rest = table.as_mut_slice();
    let mut code = 0_u16;
    while let Some((sample, tail)) = rest.split_first_mut() {
        let bits = code ^ 0x55;
        let segment = (bits >> 4) & 7;
        let step = ((bits & 0x0f) << 4) + if segment == 0 { 8 } else { 0x108 };
        let magnitude = (if segment > 1 { step << (segment - 1) } else { step }) as i16;
        *sample = if bits & 0x80 != 0 { magnitude } else { -magnitude };
        code += 1;
        rest = tail;
    }
    table
}

const fn mulaw_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut rest = table.as_mut_slice();
    let mut code = 0_u16;
    while let Some((sample, tail)) = rest.split_first_mut() {
        let bits = !(code);
        let magnitude = ((((bits & 0x0f) << 3) + 0x84) << ((bits >> 4) & 7)) as i16 - 0x84;
        *sample = if bits & 0x80 == 0 { magnitude } else { -magnitude };
        code += 1;
        rest = tail;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decoding_matches_g711() {
        let alaw = [(0xd5, 8), (0x55, -8), (0x00, -5504), (0x80, 5504), (0x2a, -32256), (0xaa, 32256)];
        for (code, sample) in alaw {
            assert_eq!(alaw_to_s16(code), sample, "A-law {code:#04x}");
        }
        for (code, sample) in [(0xff, 0), (0x7f, 0), (0x00, -32124), (0x80, 32124)] {
            assert_eq!(mulaw_to_s16(code), sample, "mu-law {code:#04x}");
        }
    }

    #[test]
    fn encoding_matches_g711() {
        let samples = [
            (0, 0xd5, 0xff),
            (8, 0xd5, 0xfe),
            (100, 0xd3, 0xf2),
            (1000, 0xfa, 0xce),
            (-1000, 0x7a, 0x4e),
            (8192, 0xb5, 0x9f),
            (32767, 0xaa, 0x80),
            (-32768, 0x2a, 0x00),
        ];
        for (sample, alaw, mulaw) in samples {
            assert_eq!((s16_to_alaw(sample), s16_to_mulaw(sample)), (alaw, mulaw), "{sample}");
        }
    }

    #[test]
    fn every_code_survives_decoding() {
        for code in 0..=255 {
            assert_eq!(s16_to_alaw(alaw_to_s16(code)), code);
            // Mu-law has two codes for silence.
            let expected = if code == 0x7f { 0xff } else { code };
            assert_eq!(s16_to_mulaw(mulaw_to_s16(code)), expected);
        }
    }

    proptest! {
        /// No other code is nearer than the one chosen, within the truncation that G.711 allows.
        #[test]
        fn encoding_stays_within_a_step(sample: i16) {
            let error = |back: i16| (i32::from(back) - i32::from(sample)).abs();
            let allowed = (i32::from(sample).abs() / 16).max(16);
            prop_assert!(error(alaw_to_s16(s16_to_alaw(sample))) <= allowed);
            prop_assert!(error(mulaw_to_s16(s16_to_mulaw(sample))) <= allowed);
        }

        #[test]
        fn swapping_twice_changes_nothing(samples in proptest::collection::vec(any::<[u8; 2]>(), 0..40)) {
            let bytes = samples.concat();
            prop_assert_eq!(swap_bytes(&swap_bytes(&bytes)), bytes);
        }
    }
}
