//! What one second of sound costs: `cargo bench -p patchbay-audio`.
#![allow(clippy::unwrap_used, missing_docs)] // a bench

use criterion::{Criterion, criterion_group, criterion_main};
use patchbay_audio::{Encoder, Target, Transcoder};
use patchbay_media::{Codec, Unit};

fn second(codec: Codec, rate: u32, channels: u8) -> (patchbay_media::Parameters, Vec<Unit>) {
    let target = Target { sample_rate: Some(rate), channels: Some(channels), ..Target::new(codec) };
    let mut encoder = Encoder::new(&target, rate, channels).unwrap();
    let frame = encoder.frame_samples();
    let step = i64::from(encoder.parameters().clock_rate) * frame as i64 / i64::from(rate);
    let mut units = Vec::new();
    for number in 0..rate as usize / frame {
        let samples: Vec<f32> = (0..frame * usize::from(channels))
            .map(|n| {
                let t = (number * frame + n / usize::from(channels)) as f32 / rate as f32;
                0.3 * (t * 2764.0).sin()
                    + 0.1 * (t * 11_310.0).sin()
                    + 0.02 * ((n * 7919 % 997) as f32 / 498.5 - 1.0)
            })
            .collect();
        units.push(Unit::new(number as i64 * step, true, encoder.encode(&samples).unwrap()));
    }
    (encoder.parameters().clone(), units)
}

fn bench(c: &mut Criterion) {
    for (name, from, rate, channels, to) in [
        ("aac_48k_stereo_to_opus", Codec::Aac, 48_000, 2, "opus/48000/2"),
        ("aac_16k_mono_to_opus", Codec::Aac, 16_000, 1, "opus"),
        ("pcma_8k_to_opus", Codec::PcmAlaw, 8_000, 1, "opus"),
        ("pcma_8k_to_aac", Codec::PcmAlaw, 8_000, 1, "aac"),
        ("opus_48k_stereo_to_aac", Codec::Opus, 48_000, 2, "aac/48000/2"),
        ("opus_48k_stereo_to_pcma", Codec::Opus, 48_000, 2, "pcma"),
    ] {
        let (parameters, units) = second(from, rate, channels);
        let target = Target::parse(to, std::time::Duration::from_millis(20)).unwrap();
        let mut transcoder = Transcoder::new(&parameters, &target).unwrap();
        let mut shift = 0;
        let mut out = Vec::new();
        c.bench_function(&format!("one second of {name}"), |b| {
            b.iter(|| {
                out.clear();
                for unit in &units {
                    let unit = Unit { pts: unit.pts + shift, dts: unit.dts + shift, ..unit.clone() };
                    transcoder.push(&unit, &mut out).unwrap();
                }
                shift += i64::from(parameters.clock_rate);
            });
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
