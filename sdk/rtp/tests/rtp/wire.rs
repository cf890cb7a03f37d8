//! RTP and RTCP on the wire.

use std::time::Duration;

use bytes::Bytes;
use patchbay_rtp::rtcp::{self, Reception, ReportBlock, Rtcp, SenderReport};
use patchbay_rtp::{PacketError, Reorder, RtpPacket, is_rtcp};

use crate::support::hex;

fn parse(text: &str) -> Result<RtpPacket, PacketError> {
    RtpPacket::parse(&Bytes::from(hex(text)))
}

#[test]
fn k6_padding_and_extension() {
    let packet = parse("b0e0fffffffffff011223344abac0001cafebabe658800000004").unwrap();
    assert_eq!(packet.payload.as_ref(), hex("6588"));
    assert_eq!((packet.payload_type, packet.marker, packet.sequence), (96, true, 65535));
    assert_eq!((packet.timestamp, packet.ssrc), (0xffff_fff0, 0x1122_3344));
    assert_eq!(packet.extension, Some((0xabac, Bytes::from(hex("cafebabe")))));
}

#[test]
fn c85_csrcs_wrong_padding_and_cut_packets() {
    assert_eq!(parse("82600001000000000000000aaaaaaaaabbbbbbbb41").unwrap().payload.as_ref(), [0x41]);
    assert_eq!(parse("a0600001000000000000000a41ff").unwrap().payload.as_ref(), [0x41, 0xff]);
    assert_eq!(parse("a0600001000000000000000a4100").unwrap().payload.as_ref(), [0x41, 0x00]);
    assert!(parse("80600001000000000000000a").unwrap().payload.is_empty());
    assert_eq!(parse("90600001000000000000000aabac000241424344"), Err(PacketError::Short { len: 20 }));
    assert_eq!(parse("40600001000000000000000a"), Err(PacketError::Version { version: 1 }));
    assert_eq!(parse("8060"), Err(PacketError::Short { len: 2 }));
}

/// A second implementation reads what we write.
#[test]
fn rtp_types_reads_our_packets() {
    let packet = RtpPacket {
        marker: true,
        payload_type: 97,
        sequence: 1234,
        timestamp: 0xdead_beef,
        ssrc: 0x0102_0304,
        extension: Some((0xffd8, Bytes::from_static(&[1, 2, 3]))),
        payload: Bytes::from_static(b"payload"),
    };
    let mut written = bytes::BytesMut::new();
    packet.write(&mut written);
    let read = rtp_types::RtpPacket::parse(&written).unwrap();
    assert!(read.marker_bit());
    assert_eq!((read.payload_type(), read.sequence_number(), read.timestamp()), (97, 1234, 0xdead_beef));
    assert_eq!((read.ssrc(), read.payload()), (0x0102_0304, &b"payload"[..]));
    assert_eq!(read.extension(), Some((0xffd8, &[1u8, 2, 3, 0][..])));
}

#[test]
fn c84_rtcp_is_known_by_its_type() {
    assert!(is_rtcp(&hex("80c80006")) && is_rtcp(&hex("81cf")));
    assert!(!is_rtcp(&hex("80e0")) && !is_rtcp(&hex("8060")) && !is_rtcp(&[]));
}

const REPORT: SenderReport = SenderReport {
    ssrc: 0x1122_3344,
    ntp: 0xed00_3780_8000_0000,
    rtp_timestamp: 900_000,
    packets: 100,
    octets: 144_000,
};
const SR: &str = "80c8000611223344ed00378080000000000dbba00000006400023280";

#[test]
fn k7_reports() {
    let sent = rtcp::sender_report(&REPORT, "ab");
    assert!(sent.starts_with(&hex(SR)), "{sent:02x?}");
    assert_eq!(
        rtcp::parse(&sent),
        [Rtcp::SenderReport(REPORT, vec![]), Rtcp::Cname(0x1122_3344, "ab".into())]
    );
    let block = ReportBlock {
        ssrc: 0x1122_3344,
        extended_sequence: 0x1ffff,
        last_sender_report: 0x3780_8000,
        delay_since_last: 65536,
        ..ReportBlock::default()
    };
    let rr = "81c900070102030411223344000000000001ffff000000003780800000010000";
    let sent = rtcp::receiver_report(0x0102_0304, &[block], "x");
    assert!(sent.starts_with(&hex(rr)), "{sent:02x?}");
    assert_eq!(rtcp::parse(&sent)[0], Rtcp::ReceiverReport(0x0102_0304, vec![block]));
    let bye = rtcp::parse(&rtcp::bye(5, "x"));
    assert_eq!(bye, [Rtcp::ReceiverReport(5, vec![]), Rtcp::Cname(5, "x".into()), Rtcp::Bye(vec![5])]);
}

#[test]
fn k7_c88_broken_compounds() {
    let without_end = hex("81ca00021122334401026162");
    assert_eq!(rtcp::parse(&without_end), [Rtcp::Cname(0x1122_3344, "ab".into())]);
    // A good report, then a description that claims 400 bytes.
    let mut compound = hex(SR);
    compound.extend(hex("81ca00631122334401026162"));
    assert_eq!(rtcp::parse(&compound).len(), 2);
    // A report cut short, and bytes that are nothing.
    assert!(rtcp::parse(&hex("80c800061122334400")).is_empty());
    assert!(rtcp::parse(b"\x00\x00\x00\x00").is_empty());
    assert_eq!(rtcp::parse(&hex("80cc0000")), [Rtcp::Other(204)]);
}

#[test]
fn ntp_and_unix_time() {
    let half_past_new_year = 1_767_225_600_500_000_000;
    assert_eq!(rtcp::ntp_from_unix_ns(half_past_new_year), 0xed00_3780_8000_0000);
    assert_eq!(rtcp::unix_ns_from_ntp(0xed00_3780_8000_0000), half_past_new_year);
    // The era after 2036-02-07T06:28:16Z.
    assert_eq!(rtcp::unix_ns_from_ntp(1 << 32), 2_085_978_497_000_000_000);
    assert_eq!(rtcp::ntp_from_unix_ns(2_085_978_497_000_000_000), 1 << 32);
}

fn packet(sequence: u16) -> RtpPacket {
    let payload = Bytes::from_static(&[1]);
    RtpPacket { marker: false, payload_type: 96, sequence, timestamp: 0, ssrc: 1, extension: None, payload }
}

fn sequences(reorder: &mut Reorder, now: Duration) -> Vec<u16> {
    std::iter::from_fn(|| reorder.poll(now)).map(|packet| packet.sequence).collect()
}

#[test]
fn reception_counts_loss_and_jitter() {
    let mut reception = Reception::new(90_000);
    assert_eq!(reception.report(Duration::ZERO), None);
    for (i, sequence) in [65_534, 65_535, 1, 2].into_iter().enumerate() {
        let mut packet = packet(sequence);
        packet.timestamp = i as u32 * 900;
        reception.packet(&packet, Duration::from_millis(10 * i as u64));
    }
    reception.sender_report(&REPORT, Duration::from_secs(1));
    let block = reception.report(Duration::from_secs(3)).unwrap();
    assert_eq!((block.extended_sequence, block.cumulative_lost, block.fraction_lost), (65_538, 1, 51));
    assert_eq!((block.jitter, block.last_sender_report, block.delay_since_last), (0, 0x3780_8000, 2 << 16));
    assert_eq!(reception.report(Duration::from_secs(4)).unwrap().fraction_lost, 0, "a new interval");
}

#[test]
fn c67_swaps_and_duplicates() {
    let mut reorder = Reorder::new();
    let now = Duration::ZERO;
    for sequence in [65_534, 0, 65_535, 65_535, 3, 1, 2, 2] {
        reorder.push(packet(sequence), now);
    }
    assert_eq!(sequences(&mut reorder, now), [65_534, 65_535, 0, 1, 2, 3]);
    assert_eq!((reorder.dropped(), reorder.wake_at()), (2, None));
}

#[test]
fn c67_a_gap_is_given_up_after_100_ms_or_64_packets() {
    let mut reorder = Reorder::new();
    let at = Duration::from_millis;
    reorder.push(packet(1), at(0));
    reorder.push(packet(3), at(10));
    assert_eq!(sequences(&mut reorder, at(109)), [1]);
    assert_eq!(reorder.wake_at(), Some(at(110)));
    assert_eq!(sequences(&mut reorder, at(110)), [3]);
    reorder.push(packet(2), at(111));
    assert_eq!(reorder.dropped(), 1, "too late");
    for sequence in 5..69 {
        reorder.push(packet(sequence), at(112));
    }
    assert!(sequences(&mut reorder, at(112)).is_empty());
    reorder.push(packet(69), at(112));
    assert_eq!(sequences(&mut reorder, at(112)).len(), 65);
}

#[test]
fn c67_a_sender_that_begins_anew() {
    let mut reorder = Reorder::new();
    let now = Duration::ZERO;
    for sequence in [1000, 1002, 900, 901] {
        reorder.push(packet(sequence), now);
    }
    assert_eq!(sequences(&mut reorder, now), [1000, 1002, 900, 901]);
    let mut other = packet(77);
    other.ssrc = 2;
    reorder.push(other, now);
    assert_eq!(sequences(&mut reorder, now), [77]);
}
