//! Order of packets, other payload types and sources, and times.

use std::time::Duration;

use bytes::Bytes;
use patchbay_rtp::{Depacketizer, Item, RtpPacket};

use crate::support::{Feed, H264, depacketizer};

fn packet(sequence: u16, timestamp: u32) -> RtpPacket {
    RtpPacket {
        marker: true,
        payload_type: 96,
        sequence,
        timestamp,
        ssrc: 7,
        extension: None,
        payload: Bytes::from_static(&[0x65, 0x88, 1]),
    }
}

fn push(depacketizer: &mut Depacketizer, packet: &RtpPacket) -> Vec<Item> {
    depacketizer.push(packet, Duration::ZERO);
    std::iter::from_fn(|| depacketizer.poll()).collect()
}

#[test]
fn c87_same_sequence_and_another_payload_type_is_dropped_silently() {
    let mut d = depacketizer(H264);
    assert_eq!(push(&mut d, &packet(10, 0)).len(), 1);
    let mut odd = packet(10, 0);
    odd.payload_type = 50;
    assert!(push(&mut d, &odd).is_empty());
    assert!(matches!(push(&mut d, &packet(11, 3600))[..], [Item::Unit(_)]), "no loss is told");
}

#[test]
fn c41_all_listed_payload_types_are_accepted_and_no_others() {
    let mut d = depacketizer("m=video 0 RTP/AVP 95 96 97\r\na=rtpmap:96 H264/90000\r\n");
    let mut other = packet(1, 0);
    other.payload_type = 97;
    assert_eq!(push(&mut d, &other).len(), 1);
    other.payload_type = 101;
    other.sequence = 2;
    assert!(push(&mut d, &other).is_empty());
    assert!(matches!(push(&mut d, &packet(3, 3600))[..], [Item::Unit(_)]));
}

#[test]
fn c86_a_new_source_is_a_discontinuity() {
    let mut d = depacketizer(H264);
    push(&mut d, &packet(10, 1000));
    push(&mut d, &packet(11, 4600));
    let mut new = packet(40_000, 3_000_000_000);
    new.ssrc = 0;
    let items = push(&mut d, &new);
    let [Item::Unit(unit)] = &items[..] else { panic!("{items:?}") };
    assert!(unit.discontinuity);
    assert_eq!(unit.pts, 8200, "the timeline goes on");
}

#[test]
fn c67_late_packets_are_ignored_and_far_back_is_a_restart() {
    let mut d = depacketizer(H264);
    push(&mut d, &packet(100, 0));
    assert!(push(&mut d, &packet(99, 0)).is_empty());
    assert!(push(&mut d, &packet(100, 0)).is_empty());
    assert_eq!(d.faults().ignored_packets, 2);
    let items = push(&mut d, &packet(20, 3600));
    assert!(matches!(&items[..], [Item::Unit(unit)] if unit.discontinuity), "{items:?}");
}

#[test]
fn c85_an_empty_payload_is_no_loss() {
    let mut d = depacketizer(H264);
    push(&mut d, &packet(1, 0));
    let mut empty = packet(2, 3600);
    empty.payload = Bytes::new();
    assert!(push(&mut d, &empty).is_empty());
    assert!(matches!(&push(&mut d, &packet(3, 3600))[..], [Item::Unit(unit)] if !unit.discontinuity));
}

#[test]
fn x2_sequence_and_time_wrap() {
    let mut feed = Feed::new(H264);
    for frame in 0..8u32 {
        feed.hex(0xffff_e000u32.wrapping_add(frame * 3600), true, "658801");
    }
    let units = feed.units();
    assert_eq!(units[0].pts, 0xffff_e000);
    assert!(units.windows(2).all(|w| w[1].pts - w[0].pts == 3600 && !w[1].discontinuity));
}

#[test]
fn k14_r6_b_frames_have_rising_decoding_times() {
    // The SPS is x264's with B-frames; the order is FFmpeg's, in steps of 18000.
    let sdp = include_str!("../data/missing_content_type.sdp");
    let mut feed = Feed::new(sdp);
    let times = [0u32, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9];
    for (number, time) in times.iter().enumerate() {
        let slice = if number == 0 { "658801" } else { "419a01" };
        feed.hex(1_693_496_901 + time * 18_000, true, slice);
    }
    let units = feed.units();
    let pts: Vec<i64> = units.iter().map(|unit| (unit.pts - 1_693_496_901) / 18_000).collect();
    assert_eq!(pts, times.map(i64::from));
    assert!(units.iter().all(|unit| unit.dts <= unit.pts));
    assert!(
        units.windows(2).all(|w| w[1].dts > w[0].dts),
        "{:?}",
        units.iter().map(|u| u.dts).collect::<Vec<_>>()
    );
}

#[test]
fn r4_small_steps_back_keep_the_stream_and_the_times() {
    let mut feed = Feed::new(H264);
    let times = [0u32, 3600, 3500, 7200, 7199, 10_800];
    for time in times {
        feed.hex(time, true, "658801");
    }
    let units = feed.units();
    assert_eq!(units.iter().map(|unit| unit.pts).collect::<Vec<_>>(), times.map(i64::from));
    assert!(units.iter().all(|unit| unit.dts <= unit.pts));
}

#[test]
fn r5_empty_and_tiny_payloads() {
    for media in [
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000",
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000",
        "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 MPEG4-GENERIC/16000",
        "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 MP4A-LATM/24000",
        "m=audio 0 RTP/AVP 14",
        "m=video 0 RTP/AVP 26",
    ] {
        let mut feed = Feed::new(media);
        for byte in 0..=255 {
            feed.bytes(0, true, &[byte]).bytes(0, false, &[]);
        }
        assert!(feed.finish().len() <= 31, "{media}");
    }
}

#[test]
fn sender_reports_map_through_repairs() {
    let mut feed = Feed::new(H264);
    assert_eq!(feed.depacketizer.pts_of(0), None);
    feed.hex(90_000, true, "658801");
    assert_eq!(feed.depacketizer.pts_of(95_000), Some(95_000));
    assert_eq!(feed.depacketizer.pts_of(80_000), Some(80_000));
}
