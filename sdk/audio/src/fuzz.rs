//! One function per fuzz target: any bytes in, a panic when an invariant does not hold.

use bytes::Bytes;
use patchbay_media::{Codec, Parameters, Unit};

use crate::target::{PACKET, Target};
use crate::{Decoder, MAX_CHANNELS, Sound, Transcoder};

/// Any packets to the Opus decoder.
pub fn opus(data: &[u8]) {
    decode(&Parameters::audio(Codec::Opus, 48_000, 2), data);
}

/// Any frames to the AAC decoder, and any configuration.
pub fn aac(data: &[u8]) {
    let mut parameters = Parameters::audio(Codec::Aac, 48_000, 2);
    parameters.extradata = Bytes::from_static(&[0x11, 0x90]);
    decode(&parameters, data);
    if let Some((config, frames)) = data.split_at_checked(5) {
        parameters.extradata = Bytes::copy_from_slice(config);
        decode(&parameters, frames);
    }
}

/// Any frames to the MPEG audio decoder.
pub fn mpa(data: &[u8]) {
    decode(&Parameters::audio(Codec::Mp3, 48_000, 2), data);
    decode(&Parameters::audio(Codec::Mp2, 48_000, 2), data);
}

/// Units with any times through a whole transcoder: times go forward and nothing grows without bound.
pub fn transcode(data: &[u8]) {
    let input = Parameters::audio(Codec::PcmMulaw, 8_000, 1);
    let Ok(mut transcoder) =
        Transcoder::new(&input, &Target { packet: PACKET, ..Target::new(Codec::PcmS16le) })
    else {
        return;
    };
    let mut out = Vec::new();
    let mut pts = 0_i64;
    for piece in data.chunks(40) {
        let Some((step, sound)) = piece.split_first_chunk::<4>() else { break };
        pts = pts.wrapping_add(i64::from(i32::from_le_bytes(*step)) >> (step[0] % 32));
        let _ = transcoder.push(&Unit::new(pts, true, Bytes::copy_from_slice(sound)), &mut out);
    }
    assert!(out.windows(2).all(|pair| matches!(pair, [a, b] if a.pts < b.pts)), "times go forward");
    let limit = data.len() / 40 * 8_000 + data.len();
    assert!(
        out.iter().map(|unit| unit.data.len() / 2).sum::<usize>() <= limit,
        "a second of silence each at most"
    );
}

/// Units are length-prefixed pieces of the data.
fn decode(parameters: &Parameters, mut data: &[u8]) {
    let Ok(mut decoder) = Decoder::new(parameters) else { return };
    let mut sound = Sound::default();
    while let Some((len, rest)) = data.split_first() {
        let (unit, rest) = rest.split_at_checked(usize::from(*len)).unwrap_or((rest, &[]));
        data = rest;
        if decoder.decode(unit, &mut sound).is_ok() {
            assert!((1..=MAX_CHANNELS).contains(&sound.channels), "{} channels", sound.channels);
            assert_eq!(sound.samples.len() % sound.channels, 0, "whole groups");
            assert!(sound.samples.len() <= 65_536 * MAX_CHANNELS, "a unit is short");
        } else {
            assert!(sound.samples.is_empty(), "nothing of a damaged unit");
        }
    }
}
