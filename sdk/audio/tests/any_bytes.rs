//! Bytes from outside, through the functions that the fuzz targets call.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use patchbay_audio::{Encoder, Target, fuzz};
use patchbay_media::Codec;
use proptest::prelude::*;

/// Units of a codec as the fuzz targets take them: each with its length before it.
fn seeds(codec: Codec) -> Vec<u8> {
    let target = Target { sample_rate: Some(48_000), channels: Some(2), ..Target::new(codec) };
    let mut encoder = Encoder::new(&target, 48_000, 2).unwrap();
    let mut seeds = Vec::new();
    for number in 0..6 {
        let samples: Vec<f32> = (0..encoder.frame_samples() * 2)
            .map(|n| ((n + number * 977) as f32 * 0.05).sin() * if number == 3 { 1.0 } else { 0.02 })
            .collect();
        let unit = encoder.encode(&samples).unwrap();
        let unit = &unit[..unit.len().min(255)];
        seeds.push(unit.len() as u8);
        seeds.extend_from_slice(unit);
    }
    seeds
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..1200)) {
        fuzz::opus(&data);
        fuzz::aac(&data);
        fuzz::mpa(&data);
        fuzz::transcode(&data);
    }

    /// Real units with some bytes changed reach further than random ones.
    #[test]
    fn damaged_units_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        for (codec, target) in [(Codec::Opus, fuzz::opus as fn(&[u8])), (Codec::Aac, fuzz::aac)] {
            let mut data = seeds(codec);
            for (at, byte) in &changes {
                let at = at.index(data.len());
                data[at] = *byte;
            }
            target(&data);
        }
    }
}
