//! The clip: 16 s of test pattern at 25 frames a second with a 440 Hz tone, shipped in the library.

use patchbay_sdk::Error;
use patchbay_sdk::media::aac::adts;
use patchbay_sdk::media::assembler::Flags;
use patchbay_sdk::media::{AccessUnitSplitter, Assembler, Codec, Parameters, Unit, annexb};

const VIDEO: &[u8] = include_bytes!("../data/clip.h264");
const AUDIO: &[u8] = include_bytes!("../data/clip.aac");

/// Ticks per second of the video.
const CLOCK: u32 = 90_000;

/// Frames per second of the video.
const FRAME_RATE: u32 = 25;

/// Length of the clip; a whole number of video frames and of AAC frames.
const SECONDS: i64 = 16;

/// The clip as units whose times start at 0.
#[derive(Debug, Clone)]
pub struct Clip {
    /// H.264.
    pub video: Parameters,
    /// AAC-LC.
    pub audio: Parameters,
    /// `(track, unit)` in the order of time; track 0 is the video.
    pub units: Vec<(u32, Unit)>,
}

impl Clip {
    /// Reads the clip.
    pub fn load() -> Result<Self, Error> {
        let mut assembler = Assembler::new(Codec::H264, CLOCK, &[]);
        let mut splitter = AccessUnitSplitter::new(Codec::H264);
        let mut access_units = Vec::new();
        for nal in annexb::split(VIDEO) {
            access_units.extend(splitter.push(bytes::Bytes::copy_from_slice(nal)));
        }
        access_units.extend(splitter.flush());
        let frame = i64::from(CLOCK / FRAME_RATE);
        let mut video_units = Vec::new();
        for (number, access_unit) in (0_i64..).zip(&access_units) {
            let pts = number * frame;
            let nals = access_unit.nals.iter().map(AsRef::as_ref);
            let assembled = assembler.push_access_unit(pts, Some(pts), nals, Flags::default());
            if let Some(mut unit) = assembled.unit {
                unit.duration = CLOCK / FRAME_RATE;
                video_units.push((0, unit));
            }
        }
        let video = assembler.parameters().clone();
        let mut audio = None;
        let mut audio_units = Vec::new();
        for (number, (header, data)) in (0_i64..).zip(adts::split(AUDIO)) {
            let config = header.config;
            let samples = i64::from(config.output_frame_length());
            if number * samples >= SECONDS * i64::from(config.sample_rate) {
                break;
            }
            let mut unit = Unit::new(number * samples, true, bytes::Bytes::copy_from_slice(data));
            unit.duration = samples as u32;
            audio_units.push((1, unit));
            audio.get_or_insert_with(|| {
                let mut parameters = Parameters::audio(Codec::Aac, config.sample_rate, config.channels);
                parameters.extradata = config.build().unwrap_or_default();
                parameters
            });
        }
        let broken = || Error::unsupported("the clip in this library is broken");
        let audio = audio.ok_or_else(broken)?;
        if video.extradata.is_empty() || video_units.is_empty() {
            return Err(broken());
        }
        let rate = i64::from(audio.clock_rate);
        let mut units = [video_units, audio_units].concat();
        units.sort_by_key(
            |(track, unit)| if *track == 0 { unit.dts * rate } else { unit.dts * i64::from(CLOCK) },
        );
        Ok(Self { video, audio, units })
    }

    /// The units of turn `turn`, with times that go on.
    pub fn turn(&self, turn: i64) -> impl Iterator<Item = (u32, Unit)> + '_ {
        self.units.iter().map(move |(track, unit)| {
            let rate = if *track == 0 { self.video.clock_rate } else { self.audio.clock_rate };
            let shift = turn * SECONDS * i64::from(rate);
            (*track, Unit { pts: unit.pts + shift, dts: unit.dts + shift, ..unit.clone() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_join_without_a_gap() {
        let clip = Clip::load().unwrap();
        assert_eq!((clip.video.width, clip.video.height), (640, 360));
        for track in 0..2 {
            let times: Vec<i64> = (0..3)
                .flat_map(|turn| clip.turn(turn))
                .filter(|(t, _)| *t == track)
                .map(|(_, u)| u.dts)
                .collect();
            let step = if track == 0 { 3600 } else { 1024 };
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] == step), "track {track}");
        }
        let keys = clip.units.iter().filter(|(track, unit)| *track == 0 && unit.key).count();
        assert_eq!(keys, 8, "a key frame every 2 s");
    }
}
