//! A joining viewer: history numbered backwards from the live packets.

use std::time::Duration;

use patchbay_media::{Codec, Parameters, Unit, nal};
use patchbay_rtp::packetize::{History, Times};
use patchbay_rtp::{Depacketizer, Packetizer, Packets, RtpPacket};
use proptest::prelude::*;

use crate::support::{media_of, packets, units};

fn parameters() -> Parameters {
    media_of(include_str!("../data/reolink.sdp")).parameters().unwrap()
}

fn unit(number: i64, key: bool, len: usize) -> Unit {
    let mut slice = vec![if key { 0x65 } else { 0x41 }, 0x88, number as u8 | 1];
    slice.resize(3 + len, 0x55);
    Unit::new(1_000_000 + number * 3600, key, nal::to_length_prefixed([slice.as_slice()].into_iter()))
}

/// A run with live packets before and behind the join, and what one viewer is sent.
fn join(units: &[Unit], times: Times, first_sequence: u16) -> (Vec<RtpPacket>, usize) {
    let parameters = parameters();
    let mut run = Packetizer::new(&parameters, 96, 5, first_sequence, 77, 300).unwrap();
    let (history, live) = units.split_at(units.len() - 2);
    let mut before = Packets::new(0);
    for unit in history {
        run.packetize(unit, unit.key.then_some(&parameters), &mut before);
    }
    let mut viewer = Packets::new(0);
    let next = run.next_sequence();
    let count =
        run.packetize_history(&History { units: history, parameters: Some(&parameters), times }, &mut viewer);
    assert_eq!(run.next_sequence(), next, "the run is not touched");
    for unit in live {
        run.packetize(unit, unit.key.then_some(&parameters), &mut viewer);
    }
    (packets(&viewer), count)
}

fn times_of(sent: &[RtpPacket]) -> Vec<u32> {
    let mut times: Vec<u32> =
        sent.iter().map(|packet| packet.timestamp.wrapping_sub(77 + 1_000_000)).collect();
    times.dedup();
    times
}

#[test]
fn numbers_end_right_before_the_live_ones_and_times_one_frame_before() {
    let units: Vec<Unit> = (0..12).map(|n| unit(n, n == 0, 500)).collect();
    for first_sequence in [0, 65_500, 65_535] {
        let (sent, count) = join(&units, Times::Before(units[10].pts), first_sequence);
        assert!(count > 20);
        assert!(sent.windows(2).all(|w| w[1].sequence == w[0].sequence.wrapping_add(1)));
        let expected: Vec<u32> = (0..10).map(|n| 9 * 3600 - 9 + n).chain([36_000, 39_600]).collect();
        assert_eq!(times_of(&sent), expected);
        assert_eq!(sent[0].payload[0], 0x78, "the parameter sets first");
    }
    let (sent, _) = join(&units, Times::BeforeNext, 3);
    assert_eq!(times_of(&sent)[9..], [32_400, 36_000, 39_600]);
    let (sent, _) = join(&units, Times::True, 3);
    assert_eq!(times_of(&sent), (0..12).map(|n| n * 3600).collect::<Vec<u32>>());
}

#[test]
fn no_history_is_no_packet() {
    let run = Packetizer::new(&Parameters::video(Codec::H264, 90_000), 96, 5, 9, 0, 300).unwrap();
    let mut out = Packets::new(0);
    let history = History { units: &[], parameters: None, times: Times::BeforeNext };
    assert_eq!((run.packetize_history(&history, &mut out), out.len()), (0, 0));
}

#[test]
fn history_joins_a_list_that_has_packets_already() {
    let parameters = parameters();
    let run = Packetizer::new(&parameters, 96, 5, 100, 0, 300).unwrap();
    let mut out = Packets::new(0);
    let units = [unit(0, true, 10)];
    let history = History { units: &units, parameters: None, times: Times::BeforeNext };
    run.packetize_history(&history, &mut out);
    run.packetize_history(&history, &mut out);
    assert_eq!(packets(&out).iter().map(|packet| packet.sequence).collect::<Vec<_>>(), [99, 99]);
}

proptest! {
    #[test]
    fn every_unit_arrives_whole_and_in_order(
        lens in proptest::collection::vec(1usize..2000, 3..30),
        first_sequence: u16,
        raw: bool,
    ) {
        let units_in: Vec<Unit> = lens.iter().enumerate().map(|(n, len)| unit(n as i64, n == 0, *len)).collect();
        let times = if raw { Times::True } else { Times::BeforeNext };
        let (sent, _) = join(&units_in, times, first_sequence);
        let mut depacketizer =
            Depacketizer::new(&media_of("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n")).unwrap();
        for packet in &sent {
            depacketizer.push(packet, Duration::ZERO);
        }
        let received = units(std::iter::from_fn(|| depacketizer.poll()).collect());
        prop_assert_eq!(received.len(), units_in.len());
        prop_assert!(received.iter().zip(&units_in).all(|(a, b)| a.data == b.data && !a.discontinuity));
        prop_assert!(received.windows(2).all(|w| w[1].pts > w[0].pts));
        let last = received.len() - 1;
        prop_assert_eq!(received[last].pts - received[last - 2].pts, 7200, "the live units and the one before");
    }
}
