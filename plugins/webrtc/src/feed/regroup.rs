//! G.711 and samples as browsers take them: 8000 mono samples a second, in packets of one length. Browsers play packets of cameras,
//! which differ in length and time, with clicks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use patchbay_media::{Codec, Parameters, Unit, pcm};

/// Samples of a packet, as go2rtc sends them: 128 ms.
const SAMPLES: usize = 1024;

/// Samples per second of G.711.
const RATE: u32 = 8000;

/// A gap or overlap of the input larger than this, in samples, starts anew.
const TOLERANCE: i64 = 2048;

/// The codec that a track is sent in: samples become A-law, other codecs stay.
pub(crate) fn sent_as(codec: Codec) -> Codec {
    match codec {
        Codec::PcmS16be | Codec::PcmS16le => Codec::PcmAlaw,
        codec => codec,
    }
}

/// Collects samples and hands out packets.
#[derive(Debug)]
pub(super) struct Regroup {
    convert: Option<Convert>,
    /// Ticks of the input per second.
    clock_rate: u32,
    samples: BytesMut,
    /// Time of the first sample that waits, at [`RATE`].
    pts: Option<i64>,
    ready: VecDeque<Unit>,
}

impl Regroup {
    /// A regrouping, for codecs that need it, and what comes out of it.
    pub(super) fn new(parameters: &Parameters) -> Option<(Self, Parameters)> {
        let to = sent_as(parameters.codec);
        if !matches!(to, Codec::PcmAlaw | Codec::PcmMulaw) {
            return None;
        }
        let rate = if parameters.sample_rate == 0 { RATE } else { parameters.sample_rate };
        let is_same = to == parameters.codec && parameters.channels <= 1 && rate == RATE;
        let regroup = Self {
            convert: (!is_same).then(|| Convert::new(parameters, to, rate)),
            clock_rate: parameters.clock_rate.max(1),
            samples: BytesMut::new(),
            pts: None,
            ready: VecDeque::new(),
        };
        Some((regroup, Parameters::audio(to, RATE, 1)))
    }

    /// Takes a unit.
    pub(super) fn push(&mut self, unit: &Unit) {
        let pts = i128::from(unit.pts) * i128::from(RATE) / i128::from(self.clock_rate);
        let pts = i64::try_from(pts).unwrap_or(0);
        let waiting = i64::try_from(self.samples.len()).unwrap_or(0);
        let is_continued =
            self.pts.is_some_and(|first| (pts - first.saturating_add(waiting)).abs() <= TOLERANCE);
        if !is_continued || unit.discontinuity {
            self.samples.clear();
            self.pts = Some(pts);
        }
        match &mut self.convert {
            None => self.samples.extend_from_slice(&unit.data),
            Some(convert) => convert.push(&unit.data, &mut self.samples),
        }
        while self.samples.len() >= SAMPLES {
            let data: Bytes = self.samples.split_to(SAMPLES).freeze();
            let first = self.pts.unwrap_or(pts);
            self.pts = Some(first.saturating_add(SAMPLES as i64));
            self.ready.push_back(Unit::new(first, true, data));
        }
    }

    /// The next packet.
    pub(super) fn pop(&mut self) -> Option<Unit> {
        self.ready.pop_front()
    }
}

/// Mixes channels down and changes the rate: the mean of the samples that fall into one of the output, or the last one again.
#[derive(Debug)]
struct Convert {
    from: Codec,
    to: Codec,
    channels: usize,
    rate: u32,
    /// Share of an output sample that is filled, in units of 1 / `rate`.
    filled: u32,
    sum: i64,
    count: i64,
}

impl Convert {
    fn new(parameters: &Parameters, to: Codec, rate: u32) -> Self {
        let channels = usize::from(parameters.channels.max(1));
        Self { from: parameters.codec, to, channels, rate, filled: 0, sum: 0, count: 0 }
    }

    fn push(&mut self, data: &[u8], out: &mut BytesMut) {
        let width = if matches!(self.from, Codec::PcmS16be | Codec::PcmS16le) { 2 } else { 1 };
        for group in data.chunks_exact(width * self.channels) {
            let total: i64 = group.chunks_exact(width).map(|sample| i64::from(self.decode(sample))).sum();
            self.sum += total / self.channels as i64;
            self.count += 1;
            self.filled += RATE;
            if self.filled < self.rate {
                continue;
            }
            let mean = self.sum / self.count;
            let sample = i16::try_from(mean).unwrap_or(0);
            let byte = match self.to {
                Codec::PcmMulaw => pcm::s16_to_mulaw(sample),
                _ => pcm::s16_to_alaw(sample),
            };
            while self.filled >= self.rate {
                self.filled -= self.rate;
                out.extend_from_slice(&[byte]);
            }
            (self.sum, self.count) = (0, 0);
        }
    }

    fn decode(&self, sample: &[u8]) -> i16 {
        match (self.from, sample) {
            (Codec::PcmS16be, [a, b]) => i16::from_be_bytes([*a, *b]),
            (Codec::PcmS16le, [a, b]) => i16::from_le_bytes([*a, *b]),
            (Codec::PcmMulaw, [byte]) => pcm::mulaw_to_s16(*byte),
            (_, [byte]) => pcm::alaw_to_s16(*byte),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn regroup(codec: Codec, rate: u32, channels: u8) -> Regroup {
        Regroup::new(&Parameters::audio(codec, rate, channels)).unwrap().0
    }

    #[test]
    fn units_of_any_length_become_packets_of_one() {
        let mut regroup = regroup(Codec::PcmAlaw, 8000, 1);
        let mut pts = 5000;
        for len in [160, 480, 1000, 33, 2000] {
            regroup.push(&Unit::new(pts, true, Bytes::from(vec![1; len])));
            pts += len as i64;
        }
        let times: Vec<(i64, usize)> =
            std::iter::from_fn(|| regroup.pop()).map(|unit| (unit.pts, unit.data.len())).collect();
        assert_eq!(times, [(5000, 1024), (6024, 1024), (7048, 1024)]);
        // A hole of a second: what waited is dropped, times start anew.
        regroup.push(&Unit::new(pts + 8000, true, Bytes::from(vec![2; 1024])));
        assert_eq!(regroup.pop().map(|unit| (unit.pts, unit.data[0])), Some((pts + 8000, 2)));
    }

    #[test]
    fn samples_of_other_rates_become_a_law() {
        // One second of stereo at 44100: left 1000, right 3000.
        let mut stereo = regroup(Codec::PcmS16be, 44_100, 2);
        let data: Vec<u8> =
            [1000_i16, 3000].iter().flat_map(|s| s.to_be_bytes()).collect::<Vec<_>>().repeat(44_100);
        stereo.push(&Unit::new(44_100, true, Bytes::from(data)));
        let units: Vec<Unit> = std::iter::from_fn(|| stereo.pop()).collect();
        assert_eq!(units.len(), 7, "8000 samples");
        assert_eq!(units[0].pts, 8000);
        assert!(units.iter().all(|unit| unit.data.iter().all(|byte| *byte == pcm::s16_to_alaw(2000))));
        // A rate below G.711's repeats samples.
        let mut slow = regroup(Codec::PcmMulaw, 4000, 1);
        slow.push(&Unit::new(0, true, Bytes::from(vec![0x55; 512])));
        assert_eq!(slow.pop().map(|unit| unit.data), Some(Bytes::from(vec![0x55; 1024])));
    }

    #[test]
    fn other_codecs_are_left_alone() {
        assert!(Regroup::new(&Parameters::audio(Codec::Opus, 48_000, 2)).is_none());
        assert_eq!(sent_as(Codec::PcmS16le), Codec::PcmAlaw);
        assert_eq!(sent_as(Codec::Opus), Codec::Opus);
    }

    proptest! {
        /// As many samples come out as time went in, however the units are cut.
        #[test]
        fn time_is_kept(rate in 1000_u32..96_000, channels in 1_u8..4, cuts in proptest::collection::vec(1_usize..500, 1..40)) {
            let mut regroup = regroup(Codec::PcmS16le, rate, channels);
            let (mut pts, mut out) = (0_i64, 0);
            for cut in cuts {
                regroup.push(&Unit::new(pts, true, Bytes::from(vec![7; cut * usize::from(channels) * 2])));
                pts += cut as i64;
                out += std::iter::from_fn(|| regroup.pop()).map(|unit| unit.data.len()).sum::<usize>();
            }
            let made = out + regroup.samples.len();
            let expected = (pts as u64 * u64::from(RATE) / u64::from(rate)) as usize;
            prop_assert!(made.abs_diff(expected) <= 8000 / 1000 + 1, "{made} {expected}");
        }
    }
}
