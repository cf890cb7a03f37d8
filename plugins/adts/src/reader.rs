//! ADTS frames become units. ISO/IEC 14496-3 1.A.3.

use std::time::Duration;

use bytes::Bytes;
use patchbay_sdk::demuxer::{FrameParser, FrameReader, Frames};
use patchbay_sdk::media::aac::AudioSpecificConfig;
use patchbay_sdk::media::aac::adts::{Header, Splitter};
use patchbay_sdk::media::{Codec, Parameters};

/// Reads a stream of ADTS frames.
///
/// Frames of several raw data blocks, which nothing is known to write, are left out: where one ends is known to a decoder only.
pub type Reader = FrameReader<Adts>;

/// Finds ADTS frames.
#[derive(Debug, Default)]
pub struct Adts(Splitter);

impl FrameParser for Adts {
    const FORMAT: &'static str = "adts";
    type Kind = AudioSpecificConfig;

    fn push(&mut self, data: &[u8], at: Duration, frames: &mut Frames<AudioSpecificConfig>) {
        self.0.push(data, |header, payload| frame(frames, header, payload, at));
    }

    fn end(&mut self, frames: &mut Frames<AudioSpecificConfig>) {
        self.0.flush(|header, payload| frame(frames, header, payload, Duration::ZERO));
    }
}

fn frame(frames: &mut Frames<AudioSpecificConfig>, header: Header, payload: &[u8], at: Duration) {
    let config = header.config;
    let parameters = || {
        let mut parameters = Parameters::audio(Codec::Aac, config.sample_rate, config.channels);
        // Without: channels that a program configuration element in the frame describes, which no header of ours can tell.
        parameters.extradata = config.build()?;
        Some(parameters)
    };
    if !frames.is_of(config, config.sample_rate, parameters) {
        return;
    }
    let samples = u64::from(config.frame_length) * u64::from(header.blocks);
    let is_one = header.blocks <= 1 && !payload.is_empty();
    frames.push(at, samples, config.sample_rate, is_one.then(|| Bytes::copy_from_slice(payload)));
}
