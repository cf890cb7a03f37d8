//! Units of one codec to units of another one.

use patchbay_media::{Parameters, Unit};

use crate::decode::{Decoder, Sound};
use crate::encode::Encoder;
use crate::error::Error;
use crate::mix::mix;
use crate::resample::Resampler;
use crate::target::Target;
use crate::timeline::{Place, Timeline, stretch};

/// What a [`Transcoder`] met, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Units that came in.
    pub units_in: u64,
    /// Units that went out.
    pub units_out: u64,
    /// Units that could not be decoded.
    pub damaged: u64,
    /// Holes that were filled with silence.
    pub filled: u64,
    /// New beginnings, the first one not counted.
    pub jumps: u64,
}

/// Decodes, mixes, resamples and encodes one track.
///
/// Times stay: what was heard at `pts` is heard at the same `pts` of the output, to the sample. What a decoder of the output
/// lags behind (Opus' pre-skip, the frame that AAC overlaps with) is taken off its times. Short holes become silence, long
/// ones a discontinuity; a sender whose samples are too many or too few for its times is followed, a sample at a time.
pub struct Transcoder {
    decoder: Decoder,
    encoder: Encoder,
    /// Made for the rate that is decoded, which is known when sound is there.
    resampler: Option<(u32, Resampler)>,
    timeline: Timeline,
    sound: Sound,
    mixed: Vec<f32>,
    /// Interleaved, at the encoder's rate.
    pending: Vec<f32>,
    /// Samples per channel that were encoded since the anchor.
    encoded: i64,
    is_broken: bool,
    /// Times go forward.
    last_pts: Option<i64>,
    counters: Counters,
}

impl Transcoder {
    /// From units with these parameters to `target`.
    pub fn new(input: &Parameters, target: &Target) -> Result<Self, Error> {
        let sample_rate = if input.sample_rate == 0 { 48_000 } else { input.sample_rate };
        Ok(Self {
            decoder: Decoder::new(input)?,
            encoder: Encoder::new(target, sample_rate, if input.channels == 0 { 2 } else { input.channels })?,
            resampler: None,
            timeline: Timeline::default(),
            sound: Sound::default(),
            mixed: Vec::new(),
            pending: Vec::new(),
            encoded: 0,
            is_broken: false,
            last_pts: None,
            counters: Counters::default(),
        })
    }

    /// What comes out; it never changes.
    pub fn parameters(&self) -> &Parameters {
        self.encoder.parameters()
    }

    /// What it met.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Units from now on have these parameters.
    pub fn set_input(&mut self, input: &Parameters) -> Result<(), Error> {
        if input != self.decoder.parameters() {
            if input.clock_rate != self.decoder.parameters().clock_rate {
                self.timeline.forget();
            }
            self.decoder = Decoder::new(input)?;
        }
        Ok(())
    }

    /// Takes a unit and appends those that it completes. An error is of this unit alone: it becomes a hole.
    pub fn push(&mut self, unit: &Unit, out: &mut Vec<Unit>) -> Result<(), Error> {
        self.counters.units_in += 1;
        if let Err(error) = self.decoder.decode(&unit.data, &mut self.sound) {
            self.counters.damaged += 1;
            return Err(error);
        }
        let rate = self.sound.sample_rate;
        let channels = self.encoder.channels();
        if self.resampler.as_ref().is_none_or(|(known, _)| *known != rate) {
            self.timeline.forget();
            self.resampler = Some((rate, Resampler::new(rate, self.encoder.sample_rate(), channels)));
        }
        self.mixed.clear();
        mix(&self.sound.samples, self.sound.channels, channels, &mut self.mixed);
        let len = self.mixed.len() / channels.max(1);
        let clock_rate = self.decoder.parameters().clock_rate;
        match self.timeline.place(unit.pts, clock_rate, rate, len) {
            Place::Follow => {}
            Place::Silence(samples) => {
                self.counters.filled += 1;
                self.mixed.splice(..0, std::iter::repeat_n(0.0, samples * channels));
            }
            Place::Skip(samples) => drop(self.mixed.drain(..(samples * channels).min(self.mixed.len()))),
            Place::Stretch(by) => stretch(&mut self.mixed, channels, by),
            Place::Jump => self.begin(),
        }
        self.timeline.advance(self.mixed.len() / channels.max(1));
        if let Some((_, resampler)) = &mut self.resampler {
            resampler.push(&self.mixed, &mut self.pending);
        }
        self.encode(out)
    }

    fn begin(&mut self) {
        if self.counters.units_in > 1 {
            self.counters.jumps += 1;
            self.is_broken = true;
        }
        if let Some((_, resampler)) = &mut self.resampler {
            resampler.reset();
        }
        self.pending.clear();
        self.encoded = 0;
    }

    fn encode(&mut self, out: &mut Vec<Unit>) -> Result<(), Error> {
        let Some(anchor) = self.timeline.anchor() else { return Ok(()) };
        let clock_in = i128::from(self.decoder.parameters().clock_rate.max(1));
        let clock_out = i128::from(self.encoder.parameters().clock_rate);
        let rate = i128::from(self.encoder.sample_rate().max(1));
        let frame = self.encoder.frame_samples();
        let size = frame * self.encoder.channels();
        let mut used = 0;
        while let Some(samples) = self.pending.get(used..used + size) {
            let data = self.encoder.encode(samples)?;
            used += size;
            let at = i128::from(self.encoded) - self.encoder.delay_samples() as i128;
            self.encoded += frame as i64;
            // One rounding for both, so that steps are even.
            let ticks =
                (i128::from(anchor) * clock_out).div_euclid(clock_in) + (at * clock_out).div_euclid(rate);
            let pts = i64::try_from(ticks).unwrap_or(i64::MAX);
            if self.last_pts.is_some_and(|last| pts <= last) {
                continue;
            }
            self.last_pts = Some(pts);
            let mut unit = Unit::new(pts, true, data);
            unit.duration = u32::try_from(frame as i128 * clock_out / rate).unwrap_or(0);
            unit.discontinuity = std::mem::take(&mut self.is_broken);
            self.counters.units_out += 1;
            out.push(unit);
        }
        self.pending.drain(..used);
        Ok(())
    }
}
