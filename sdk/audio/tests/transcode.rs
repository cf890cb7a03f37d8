//! Sound keeps its time and its quality.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use std::f64::consts::PI;
use std::time::Duration;

use bytes::Bytes;
use patchbay_audio::{Decoder, Encoder, PACKET, Sound, Target, Transcoder};
use patchbay_media::{Codec, Parameters, Unit};

/// Units of `codec` that hold `sample(n)` at every channel, from sample 0 on.
fn units(
    codec: Codec,
    rate: u32,
    channels: u8,
    seconds: f64,
    sample: &dyn Fn(usize) -> f64,
) -> (Parameters, Vec<Unit>) {
    let mut pcm = Parameters::audio(Codec::PcmS16le, rate, channels);
    pcm.clock_rate = rate;
    let len = (f64::from(rate) * seconds) as usize;
    let step = rate as usize / 50;
    let raw: Vec<Unit> = (0..len / step)
        .map(|number| {
            let samples = (number * step..(number + 1) * step).flat_map(|n| {
                let value = (sample(n) * 32_767.0) as i16;
                std::iter::repeat_n(value.to_le_bytes(), usize::from(channels)).flatten()
            });
            Unit::new((number * step) as i64, true, samples.collect::<Bytes>())
        })
        .collect();
    if codec == Codec::PcmS16le {
        return (pcm, raw);
    }
    let target = Target { sample_rate: Some(rate), channels: Some(channels), ..Target::new(codec) };
    let mut transcoder = Transcoder::new(&pcm, &target).unwrap();
    let mut out = Vec::new();
    for unit in &raw {
        transcoder.push(unit, &mut out).unwrap();
    }
    (transcoder.parameters().clone(), out)
}

/// The first channel, with the time of its first sample in seconds; every unit is put where its `pts` says.
fn decoded(parameters: &Parameters, units: &[Unit]) -> (f64, u32, Vec<f64>) {
    let mut decoder = Decoder::new(parameters).unwrap();
    let mut sound = Sound::default();
    let mut samples = Vec::new();
    for unit in units {
        decoder.decode(&unit.data, &mut sound).unwrap();
        let at = (unit.pts - units[0].pts) as f64 / f64::from(parameters.clock_rate)
            * f64::from(sound.sample_rate);
        assert!((at - samples.len() as f64).abs() <= 1.0, "unit at {at}, samples {}", samples.len());
        samples.extend(sound.samples.iter().step_by(sound.channels).map(|s| f64::from(*s)));
    }
    (units[0].pts as f64 / f64::from(parameters.clock_rate), sound.sample_rate, samples)
}

fn tone(rate: u32, hz: f64) -> impl Fn(usize) -> f64 {
    move |n| 0.5 * (2.0 * PI * hz * n as f64 / f64::from(rate)).sin()
}

/// How much stronger a tone is than what differs from it, in dB; the tone is where its time says, to a tick.
fn snr((start, rate, samples): &(f64, u32, Vec<f64>), hz: f64) -> f64 {
    let middle = *rate as usize / 2..samples.len() - *rate as usize / 4;
    let at = |shift: i32| {
        let (mut signal, mut noise) = (0.0, 0.0);
        for n in middle.clone() {
            let time = start + (n as f64 + f64::from(shift) / 32.0) / f64::from(*rate);
            let wanted = 0.5 * (2.0 * PI * hz * time).sin();
            signal += wanted * wanted;
            noise += (samples[n] - wanted).powi(2);
        }
        10.0 * (signal / noise.max(1e-12)).log10()
    };
    (-32..=32).map(at).fold(f64::MIN, f64::max)
}

/// Every pair of codecs: the tone is there, at its time, as clean as the worse codec leaves it.
#[test]
fn every_codec_to_every_other() {
    let kinds = [
        (Codec::PcmS16le, 48_000, 2, 60.0),
        (Codec::PcmS16be, 16_000, 1, 60.0),
        (Codec::PcmAlaw, 8_000, 1, 30.0),
        (Codec::PcmMulaw, 8_000, 1, 30.0),
        (Codec::Aac, 44_100, 2, 40.0),
        (Codec::Aac, 16_000, 1, 35.0),
        (Codec::Opus, 48_000, 2, 20.0),
        (Codec::Opus, 16_000, 1, 14.0),
    ];
    for (from, from_rate, from_channels, from_db) in kinds {
        let (parameters, input) = units(from, from_rate, from_channels, 1.5, &tone(from_rate, 440.0));
        for (to, rate, channels, db) in kinds {
            let target = Target { sample_rate: Some(rate), channels: Some(channels), ..Target::new(to) };
            let mut transcoder = Transcoder::new(&parameters, &target).unwrap();
            let mut out = Vec::new();
            for unit in &input {
                transcoder.push(unit, &mut out).unwrap();
            }
            assert_eq!(transcoder.counters().jumps + transcoder.counters().filled, 0, "{from:?} to {to:?}");
            let heard = snr(&decoded(transcoder.parameters(), &out), 440.0);
            println!("{from:?}/{from_rate} to {to:?}/{rate}: {heard:.1} dB");
            assert!(
                heard > f64::min(from_db, db) - 4.0,
                "{from:?}/{from_rate} to {to:?}/{rate}: {heard:.1} dB"
            );
        }
    }
}

/// A click lies where it lay, to half a millisecond, through the encoder's delay and another sample rate.
#[test]
fn a_click_stays_where_it_is() {
    let click = |n: usize| if (4_000..4_080).contains(&n) { 0.9 * (n as f64 * 0.9).sin() } else { 0.0 };
    let (parameters, input) = units(Codec::PcmS16le, 8_000, 1, 1.5, &click);
    for to in ["opus", "opus/16000", "aac", "aac/44100", "pcma", "pcml/48000"] {
        let mut transcoder = Transcoder::new(&parameters, &Target::parse(to, PACKET).unwrap()).unwrap();
        let mut out = Vec::new();
        for unit in &input {
            transcoder.push(unit, &mut out).unwrap();
        }
        let (start, rate, samples) = decoded(transcoder.parameters(), &out);
        let energy: f64 = samples.iter().map(|s| s * s).sum();
        let centre: f64 = samples.iter().enumerate().map(|(n, s)| n as f64 * s * s).sum::<f64>() / energy;
        let at = start + centre / f64::from(rate);
        println!("{to}: the click's centre at {at:.5} s of 0.50500");
        assert!((at - 0.505).abs() < 0.0005, "{to}: {at}");
    }
}

/// An hour of units from a clock of 90 kHz: the last one is as exact as the first, in time and in length.
#[test]
fn an_hour_does_not_drift() {
    let mut input = Parameters::audio(Codec::PcmMulaw, 8_000, 1);
    input.clock_rate = 90_000;
    let mut transcoder = Transcoder::new(&input, &Target::parse("pcma/8000", PACKET).unwrap()).unwrap();
    let data = Bytes::from(vec![0xff; 200]);
    let mut out = Vec::new();
    let (start, mut number) = (1_i64 << 40, 0_i64);
    for n in 0..144_000_i64 {
        // 25 ms; the times are of another clock that jitters by a tick.
        let unit = Unit::new(start + n * 2_250 + n % 2, true, data.clone());
        transcoder.push(&unit, &mut out).unwrap();
        for unit in out.drain(..) {
            let wanted = (start * 8 + 45) / 90 + number * 160;
            assert_eq!((unit.pts, unit.duration, unit.data.len()), (wanted, 160, 160), "unit {number}");
            number += 1;
        }
    }
    assert_eq!(number, 180_000);
}

#[test]
fn holes_become_silence_and_long_ones_a_discontinuity() {
    let (parameters, input) = units(Codec::PcmS16le, 8_000, 1, 3.0, &tone(8_000, 440.0));
    let lost = |n: usize| (20..30).contains(&n) || (60..130).contains(&n);
    let mut transcoder = Transcoder::new(&parameters, &Target::parse("pcml/8000", PACKET).unwrap()).unwrap();
    let mut out = Vec::new();
    for (_, unit) in input.iter().enumerate().filter(|(n, _)| !lost(*n)) {
        transcoder.push(unit, &mut out).unwrap();
    }
    let broken: Vec<i64> = out.iter().filter(|unit| unit.discontinuity).map(|unit| unit.pts).collect();
    assert_eq!(broken, [130 * 160], "1.4 s are no silence");
    let silent: Vec<i64> =
        out.iter().filter(|unit| unit.data.iter().all(|b| *b == 0)).map(|unit| unit.pts / 160).collect();
    assert_eq!(silent, (20..30).collect::<Vec<_>>());
    assert!(out.windows(2).all(|pair| pair[1].discontinuity || pair[1].pts - pair[0].pts == 160));
    let counters = transcoder.counters();
    assert_eq!((counters.filled, counters.jumps, counters.damaged), (1, 1, 0));
}

#[test]
fn damaged_units_are_holes_and_new_parameters_are_followed() {
    let (aac, frames) = units(Codec::Aac, 48_000, 2, 1.0, &tone(48_000, 440.0));
    let mut transcoder = Transcoder::new(&aac, &Target::parse("opus", PACKET).unwrap()).unwrap();
    let mut out = Vec::new();
    for (n, unit) in frames.iter().enumerate() {
        let broken = Unit { data: unit.data.slice(..9), ..unit.clone() };
        let taken = transcoder.push(if n == 10 { &broken } else { unit }, &mut out);
        assert_eq!(taken.is_err(), n == 10, "unit {n}");
    }
    let before = out.len();
    let (alaw, mut more) = units(Codec::PcmAlaw, 8_000, 1, 1.0, &tone(8_000, 440.0));
    transcoder.set_input(&alaw).unwrap();
    for unit in &mut more {
        // It goes on where the other codec ended.
        unit.pts += 8_000;
        transcoder.push(unit, &mut out).unwrap();
    }
    assert!(before > 45 && out.len() > before + 45, "{before} and {} units", out.len());
    assert!(out.windows(2).all(|pair| pair[0].pts < pair[1].pts));
    assert_eq!(transcoder.counters().damaged, 1);
    assert!(transcoder.set_input(&Parameters::audio(Codec::Flac, 48_000, 2)).is_err());
}

/// Packets have the length that was asked for, and the header says what a player throws away.
#[test]
fn packets_have_the_length_that_was_asked_for() {
    let (parameters, input) = units(Codec::PcmS16le, 48_000, 1, 1.0, &tone(48_000, 440.0));
    for (to, ms, ticks) in [("opus", 20, 960), ("opus", 60, 2_880), ("pcma", 30, 240), ("aac", 20, 1_024)] {
        let target = Target::parse(to, Duration::from_millis(ms)).unwrap();
        let mut transcoder = Transcoder::new(&parameters, &target).unwrap();
        let mut out = Vec::new();
        for unit in &input {
            transcoder.push(unit, &mut out).unwrap();
        }
        assert!(out.windows(2).all(|pair| pair[1].pts - pair[0].pts == ticks), "{to} of {ms} ms");
        assert!(out.iter().all(|unit| i64::from(unit.duration) == ticks));
        if to == "opus" {
            assert!(out.iter().all(|u| patchbay_media::opus::packet_samples(&u.data) == Some(ticks as u32)));
            let head = patchbay_media::opus::Head::parse(&transcoder.parameters().extradata).unwrap();
            assert_eq!((i64::from(head.pre_skip), head.channels), (-out[0].pts, 1));
        }
    }
}

/// ffmpeg decodes what is encoded here, as clean as our own decoder does.
#[test]
fn ffmpeg_decodes_our_aac() {
    for (rate, channels, db) in [(48_000, 2, 40.0), (44_100, 1, 40.0), (16_000, 1, 30.0), (8_000, 1, 25.0)] {
        let (parameters, frames) = units(Codec::Aac, rate, channels, 2.0, &tone(rate, 440.0));
        let folder = std::env::temp_dir().join(format!("patchbay-audio-{}-{rate}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("tone.aac");
        let config = patchbay_media::aac::AudioSpecificConfig::parse(&parameters.extradata).unwrap();
        assert_eq!((config.sample_rate, config.channels), (rate, channels));
        let mut bytes = Vec::new();
        for frame in &frames {
            bytes.extend_from_slice(&syom::wrap_adts_au(&frame.data, rate, usize::from(channels)).unwrap());
        }
        std::fs::write(&file, &bytes).unwrap();
        let ran = std::process::Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-i"])
            .arg(&file)
            .args(["-f", "s16le", "-"])
            .output()
            .unwrap();
        assert!(ran.status.success() && ran.stderr.is_empty(), "{}", String::from_utf8_lossy(&ran.stderr));
        let samples: Vec<f64> = ran
            .stdout
            .chunks_exact(2 * usize::from(channels))
            .map(|s| f64::from(i16::from_le_bytes([s[0], s[1]])) / 32_768.0)
            .collect();
        let start = frames[0].pts as f64 / f64::from(rate);
        let heard = snr(&(start, rate, samples), 440.0);
        println!("{rate} Hz, {channels} channels: {heard:.1} dB by ffmpeg");
        assert!(heard > db, "{rate}: {heard:.1} dB");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn what_is_not_there_is_said() {
    let flac = Parameters::audio(Codec::Flac, 48_000, 2);
    let error = Decoder::new(&flac).err().unwrap();
    assert_eq!(error.to_string(), "flac is not decoded here");
    assert!(Encoder::new(&Target::new(Codec::Mp3), 48_000, 2).is_err());
    assert!(Decoder::new(&Parameters::audio(Codec::Aac, 48_000, 2)).is_err(), "without its configuration");
    assert!(Decoder::new(&Parameters::audio(Codec::PcmAlaw, 0, 1)).is_err(), "without its rate");
}
