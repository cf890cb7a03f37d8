//! Sample rates: a polyphase filter whose output lies exactly where its input says.

use std::collections::VecDeque;
use std::f64::consts::PI;

/// Zero crossings of the filter on each side, at the lower of both rates.
const CROSSINGS: f64 = 24.0;
/// Shape of the Kaiser window: about 90 dB of attenuation.
const BETA: f64 = 9.0;
/// Where the pass band ends, as a part of the lower rate's half.
const PASS: f64 = 0.92;
/// Most phases that are kept; rates with more take the nearest one.
const MAX_PHASES: u64 = 1024;

/// From one sample rate to another. Output sample `n` lies at input sample `n * from / to`, exactly and for ever: positions
/// are counted in whole numbers, and the filter is symmetric around them, so nothing drifts and nothing is delayed in time;
/// it only wants to see [`Resampler::lookahead`] samples of what follows.
#[derive(Debug)]
pub struct Resampler {
    channels: usize,
    /// Output samples per `down` input samples.
    up: u64,
    down: u64,
    /// Taps of each phase.
    taps: usize,
    phases: u64,
    /// `phases` rows of `taps`.
    table: Vec<f32>,
    /// Interleaved input that is still needed.
    kept: VecDeque<f32>,
    /// Input sample number of the first kept one, counted from `-half`.
    first: u64,
    /// Output samples given.
    given: u64,
}

impl Resampler {
    /// From `from` to `to` samples per second, both at least 1, of so many interleaved channels, at least 1.
    pub fn new(from: u32, to: u32, channels: usize) -> Self {
        let (from, to) = (u64::from(from.max(1)), u64::from(to.max(1)));
        let common = gcd(from, to);
        let (up, down) = (to / common, from / common);
        // In input samples.
        let scale = (from as f64 / to as f64).max(1.0);
        let half = (CROSSINGS * scale).ceil() as usize;
        let taps = half * 2;
        let phases = up.min(MAX_PHASES);
        let table = if up == down { Vec::new() } else { filter(phases, half, PASS / scale) };
        let mut resampler = Self {
            channels: channels.max(1),
            up,
            down,
            taps,
            phases,
            table,
            kept: VecDeque::new(),
            first: 0,
            given: 0,
        };
        resampler.reset();
        resampler
    }

    /// Begins anew: the next input sample is number 0.
    pub fn reset(&mut self) {
        self.kept.clear();
        // The first output sample looks back at silence.
        self.kept.extend(std::iter::repeat_n(0.0, self.lookahead() * self.channels));
        self.first = 0;
        self.given = 0;
    }

    /// Input samples per channel that must follow one that is given.
    pub fn lookahead(&self) -> usize {
        if self.table.is_empty() { 0 } else { self.taps / 2 }
    }

    /// Takes interleaved samples and appends those that they complete.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        if self.table.is_empty() {
            out.extend_from_slice(samples);
            return;
        }
        self.kept.extend(samples);
        let have = self.first + (self.kept.len() / self.channels) as u64;
        let kept = self.kept.make_contiguous();
        loop {
            // The kept samples begin `half` before input sample `first`, so a filter around one begins at its own number.
            let at = self.given * self.down;
            let (start, phase) = (at / self.up, at % self.up);
            if start + self.taps as u64 > have {
                break;
            }
            let row = if self.up == self.phases { phase } else { phase * self.phases / self.up };
            let row = row as usize * self.taps;
            let Some(row) = self.table.get(row..row + self.taps) else { break };
            let Some(input) = kept.get((start - self.first) as usize * self.channels..) else { break };
            for channel in 0..self.channels {
                let own = input.get(channel..).unwrap_or_default().iter().step_by(self.channels);
                out.push(own.zip(row).map(|(sample, tap)| sample * tap).sum());
            }
            self.given += 1;
        }
        let next = (self.given * self.down / self.up).max(self.first);
        let unneeded = ((next - self.first) as usize * self.channels).min(self.kept.len());
        self.kept.drain(..unneeded);
        self.first = next;
    }
}

/// Rows of a windowed sinc: row `p` has its peak `p / phases` of an input sample behind tap `half`.
fn filter(phases: u64, half: usize, cutoff: f64) -> Vec<f32> {
    let taps = half * 2;
    let mut table = Vec::with_capacity(taps * phases as usize);
    for phase in 0..phases {
        let shift = phase as f64 / phases as f64;
        let row: Vec<f64> = (0..taps)
            .map(|tap| {
                let x = tap as f64 - half as f64 - shift;
                cutoff * sinc(x * cutoff) * kaiser(x / (half as f64 + 1.0))
            })
            .collect();
        // Every phase passes a constant unchanged.
        let sum: f64 = row.iter().sum();
        table.extend(row.iter().map(|tap| (tap / sum) as f32));
    }
    table
}

fn sinc(x: f64) -> f64 {
    if x.abs() < 1e-9 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

fn kaiser(x: f64) -> f64 {
    bessel(BETA * (1.0 - x * x).max(0.0).sqrt()) / bessel(BETA)
}

/// Modified Bessel function of the first kind, order 0, by its series.
fn bessel(x: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..40_u32 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
    }
    sum
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, hz: f64, len: usize) -> Vec<f32> {
        (0..len).map(|n| (2.0 * PI * hz * n as f64 / f64::from(rate)).sin() as f32 * 0.5).collect()
    }

    /// A tone lies where it lay: every output sample is the tone's value at its own time.
    #[test]
    fn tones_stay_where_they_are() {
        for (from, to, hz) in [
            (8_000, 48_000, 440.0),
            (48_000, 8_000, 440.0),
            (44_100, 48_000, 1_000.0),
            (48_000, 44_100, 10_000.0),
            (16_000, 8_000, 1_000.0),
            (11_025, 48_000, 1_000.0),
            (7_999, 48_000, 300.0),
            (48_000, 48_000, 1_000.0),
        ] {
            let mut resampler = Resampler::new(from, to, 1);
            let mut out = Vec::new();
            resampler.push(&tone(from, hz, from as usize), &mut out);
            let wanted = tone(to, hz, out.len());
            assert!(out.len() + to as usize / 20 > to as usize, "{from} to {to}: {}", out.len());
            let middle = to as usize / 20..out.len();
            let worst = out[middle.clone()].iter().zip(&wanted[middle]).map(|(a, b)| (a - b).abs());
            let worst = worst.fold(0.0, f32::max);
            let allowed = if from == 7_999 { 2e-2 } else { 5e-4 };
            assert!(worst < allowed, "{from} to {to}: {worst}");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_gone() {
        let mut resampler = Resampler::new(48_000, 8_000, 1);
        let mut out = Vec::new();
        resampler.push(&tone(48_000, 5_000.0, 48_000), &mut out);
        let loudest = out[400..].iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        assert!(loudest < 5e-4, "{loudest}");
    }

    proptest::proptest! {
        /// However the input is cut, the output is the same, and no longer than time allows.
        #[test]
        fn cuts_change_nothing(cuts in proptest::collection::vec(0_usize..700, 1..12), pair in 0_usize..5, channels in 1_usize..3) {
            let (from, to) = [(8_000, 48_000), (48_000, 8_000), (44_100, 48_000), (16_000, 22_050), (8_000, 8_000)][pair];
            let len: usize = cuts.iter().sum();
            let input: Vec<f32> = (0..len * channels).map(|n| ((n * 7919) % 1000) as f32 / 1000.0 - 0.5).collect();
            let mut whole = Vec::new();
            Resampler::new(from, to, channels).push(&input, &mut whole);
            let mut resampler = Resampler::new(from, to, channels);
            let (mut parts, mut at) = (Vec::new(), 0);
            for cut in cuts {
                resampler.push(&input[at..at + cut * channels], &mut parts);
                at += cut * channels;
            }
            proptest::prop_assert_eq!(&whole, &parts);
            proptest::prop_assert!(parts.len() / channels <= len * to as usize / from as usize + 1);
        }
    }
}
