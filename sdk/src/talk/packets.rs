//! PCM in packets of the length that a camera wants; other codecs as they are. Does no I/O.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_media::{Codec, Parameters, Unit};

/// A jump in the times of more than this, in seconds, is a pause: what is left of a packet is not waited for.
const PAUSE_S: i64 = 1;

/// Sound that is held at most, in bytes: a second of 48 kHz stereo with 16 bits.
const MAX_HELD: usize = 192_000;

/// Cuts units of PCM and G.711 anew.
#[derive(Debug)]
pub struct Packets {
    /// Bytes per tick of all channels; 0: units are passed on as they are.
    sample_bytes: usize,
    /// Ticks of a packet.
    ticks: usize,
    clock_rate: i64,
    held: BytesMut,
    /// Time of the first sample held.
    at: i64,
    discontinuity: bool,
    ready: VecDeque<Unit>,
}

impl Packets {
    /// Packets of `length` out of sound with these parameters; zero leaves all units as they are.
    pub fn new(parameters: &Parameters, length: Duration) -> Self {
        let sample = match parameters.codec {
            Codec::PcmAlaw | Codec::PcmMulaw => 1,
            Codec::PcmS16be | Codec::PcmS16le => 2,
            _ => 0,
        };
        let rate = if parameters.sample_rate == 0 { parameters.clock_rate } else { parameters.sample_rate };
        // Times must count samples.
        let sample = if rate == parameters.clock_rate { sample } else { 0 };
        let ticks = u64::from(rate) * u64::try_from(length.as_micros()).unwrap_or(0) / 1_000_000;
        let ticks = usize::try_from(ticks).unwrap_or(0);
        let sample_bytes = sample * usize::from(parameters.channels.max(1));
        let fits = ticks > 0 && ticks.saturating_mul(sample_bytes) <= MAX_HELD / 2;
        Self {
            sample_bytes: if fits { sample_bytes } else { 0 },
            ticks,
            clock_rate: i64::from(parameters.clock_rate),
            held: BytesMut::new(),
            at: 0,
            discontinuity: false,
            ready: VecDeque::new(),
        }
    }

    /// Takes a unit. One that is longer than a second is cut off there.
    pub fn push(&mut self, unit: &Unit) {
        if self.sample_bytes == 0 {
            self.ready.push_back(unit.clone());
            return;
        }
        let held = i64::try_from(self.held.len() / self.sample_bytes).unwrap_or(0);
        let gap = unit.dts.saturating_sub(self.at.saturating_add(held));
        if self.held.is_empty() || gap.unsigned_abs() > (self.clock_rate * PAUSE_S).unsigned_abs() {
            self.held.clear();
            self.at = unit.dts;
            self.discontinuity |= gap != 0;
        } else if gap > 0 && gap.unsigned_abs() > self.ticks as u64 {
            // Lost packets, or a short pause: the rest of the packet before it goes with the sound behind it.
            self.at = unit.dts.saturating_sub(held);
        }
        let room = MAX_HELD.saturating_sub(self.held.len());
        let data = unit.data.get(..room.min(unit.data.len())).unwrap_or_default();
        self.held.extend_from_slice(data);
        let bytes = self.ticks * self.sample_bytes;
        while self.held.len() >= bytes {
            let data: Bytes = self.held.split_to(bytes).freeze();
            let mut packet = Unit::new(self.at, true, data);
            packet.duration = u32::try_from(self.ticks).unwrap_or(0);
            packet.discontinuity = std::mem::take(&mut self.discontinuity);
            self.at = self.at.saturating_add(i64::try_from(self.ticks).unwrap_or(0));
            self.ready.push_back(packet);
        }
    }

    /// The next packet.
    pub fn pop(&mut self) -> Option<Unit> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alaw() -> Parameters {
        Parameters::audio(Codec::PcmAlaw, 8000, 1)
    }

    fn all(packets: &mut Packets) -> Vec<Unit> {
        std::iter::from_fn(|| packets.pop()).collect()
    }

    #[test]
    fn c112_g711_in_packets_of_the_cameras_length() {
        for (length, bytes) in [(20, 160), (40, 320), (64, 512), (128, 1024)] {
            let mut packets = Packets::new(&alaw(), Duration::from_millis(length));
            for chunk in 0..10_i64 {
                packets.push(&Unit::new(7000 + chunk * 480, true, Bytes::from(vec![chunk as u8; 480])));
            }
            let out = all(&mut packets);
            assert_eq!(out.len(), 4800 / bytes);
            for (number, packet) in (0..).zip(&out) {
                assert_eq!((packet.data.len(), packet.dts), (bytes, 7000 + number * bytes as i64));
            }
        }
    }

    #[test]
    fn a_pause_is_a_jump_and_opus_is_left_alone() {
        let mut packets = Packets::new(&alaw(), Duration::from_millis(20));
        packets.push(&Unit::new(0, true, Bytes::from(vec![1; 200])));
        packets.push(&Unit::new(80_000, true, Bytes::from(vec![2; 160])));
        let out = all(&mut packets);
        assert_eq!(
            out.iter().map(|p| (p.dts, p.discontinuity)).collect::<Vec<_>>(),
            [(0, false), (80_000, true)]
        );
        let mut packets = Packets::new(&Parameters::audio(Codec::Opus, 48_000, 2), Duration::from_millis(20));
        packets.push(&Unit::new(5, true, Bytes::from_static(b"opus")));
        assert_eq!(all(&mut packets)[0].data.as_ref(), b"opus");
    }

    proptest! {
        #[test]
        fn sound_without_gaps_comes_out_whole(cuts in prop::collection::vec(1_usize..2000, 1..40), ms in 1_u64..200) {
            let mut packets = Packets::new(&alaw(), Duration::from_millis(ms));
            let (mut at, mut given, mut taken) = (-3_i64, Vec::new(), Vec::new());
            for len in cuts {
                let data: Vec<u8> = (0..len).map(|i| (i as u8) ^ (at as u8)).collect();
                packets.push(&Unit::new(at, true, Bytes::from(data.clone())));
                at += len as i64;
                given.extend(data);
                for packet in all(&mut packets) {
                    prop_assert_eq!(packet.dts, -3 + taken.len() as i64);
                    taken.extend_from_slice(&packet.data);
                }
            }
            prop_assert!(given.len() - taken.len() < (ms as usize) * 8);
            prop_assert_eq!(&given[..taken.len()], &taken[..]);
        }

        #[test]
        fn any_times_and_lengths(units in prop::collection::vec((any::<i64>(), 0_usize..5000), 0..50), rate: u32, channels: u8, ms in 0_u64..5000) {
            let mut packets = Packets::new(&Parameters::audio(Codec::PcmS16be, rate, channels), Duration::from_millis(ms));
            for (dts, len) in units {
                packets.push(&Unit::new(dts, true, Bytes::from(vec![0; len])));
                while packets.pop().is_some() {}
                prop_assert!(packets.held.len() <= MAX_HELD);
            }
        }
    }
}
