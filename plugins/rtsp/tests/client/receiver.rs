//! Packets to units, clocks and reports: rows C41, C51, C67, C84 to C91 of the receiving side.

use std::time::Duration;

use bytes::Bytes;
use patchbay_media::Codec;
use patchbay_plugin_rtsp::client::{Delivery, MediaFilter, Receiver, Starts};
use patchbay_plugin_rtsp::wire::Lower;
use patchbay_rtp::{rtcp, sdp};

/// 2026-01-01T00:00:00Z.
const NEW_YEAR_NS: i64 = 1_767_225_600_000_000_000;
const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 26\r\nm=audio 0 RTP/AVP 8\r\nm=application 0 RTP/AVP 107\r\n\
    a=rtpmap:107 vnd.onvif.metadata/90000\r\nm=audio 0 RTP/AVP 0\r\na=sendonly\r\nm=audio 0 RTP/AVP 99\r\n\
    a=rtpmap:99 UNHEARD-OF/8000\r\n";

fn receiver(filter: MediaFilter, lower: Lower) -> Receiver {
    let mut receiver = Receiver::new(&sdp::parse(SDP.as_bytes()), filter, 7);
    receiver.restart(lower);
    receiver
}

/// 20 ms of PCMA.
fn sound(ssrc: u32, sequence: u16) -> Bytes {
    let mut out = vec![0x80, 8];
    out.extend(sequence.to_be_bytes());
    out.extend((u32::from(sequence) * 160).to_be_bytes());
    out.extend(ssrc.to_be_bytes());
    out.extend([sequence as u8; 160]);
    out.into()
}

fn at(sequence: u16) -> Duration {
    Duration::from_millis(u64::from(sequence) * 20)
}

/// First bytes of the units delivered so far, and whether each is a discontinuity.
fn units(receiver: &mut Receiver) -> Vec<(u8, bool)> {
    let mut out = Vec::new();
    while let Some(delivery) = receiver.poll() {
        if let Delivery::Unit { unit, .. } = delivery {
            out.push((unit.data[0], unit.discontinuity));
        }
    }
    out
}

#[test]
fn c41_c51_what_cannot_be_received_is_no_track() {
    let codecs =
        |filter| -> Vec<Codec> { receiver(filter, Lower::Tcp).parameters().map(|p| p.codec).collect() };
    assert_eq!(codecs(MediaFilter::All), [Codec::Mjpeg, Codec::PcmAlaw]);
    assert_eq!(codecs(MediaFilter::Video), [Codec::Mjpeg]);
    assert_eq!(codecs(MediaFilter::Audio), [Codec::PcmAlaw]);
    assert_eq!(receiver(MediaFilter::Audio, Lower::Tcp).media_of(0), Some(1));
}

#[test]
fn c67_udp_is_put_in_order_and_gaps_end_by_time() {
    let mut receiver = receiver(MediaFilter::All, Lower::Udp);
    for n in [1, 3, 2, 2, 4, 6] {
        receiver.packet(at(6), 1, false, &sound(1, n));
    }
    assert_eq!(units(&mut receiver), [(1, false), (2, false), (3, false), (4, false)]);
    let wake = receiver.wake_at().unwrap();
    assert_eq!(wake, at(6) + Duration::from_millis(100));
    receiver.timeout(wake);
    assert_eq!(units(&mut receiver), [(6, true)]);
    assert_eq!(receiver.wake_at(), None);
}

#[test]
fn c86_a_new_ssrc_is_a_discontinuity_and_foreign_reports_are_dropped() {
    let mut receiver = receiver(MediaFilter::All, Lower::Tcp);
    for n in 1..4 {
        receiver.packet(at(n), 1, false, &sound(1, n));
    }
    for n in 4..6 {
        receiver.packet(at(n), 1, false, &sound(2, n + 1000));
    }
    let found = units(&mut receiver);
    assert_eq!(found.iter().map(|u| u.1).collect::<Vec<_>>(), [false, false, false, true, false]);
    let report = |ssrc| {
        let ntp = rtcp::ntp_from_unix_ns(NEW_YEAR_NS + 100_000_000);
        rtcp::sender_report(
            &rtcp::SenderReport { ssrc, ntp, rtp_timestamp: 1005 * 160, packets: 1, octets: 1 },
            "cam",
        )
    };
    receiver.packet(at(6), 1, true, &report(1));
    assert_eq!(receiver.poll(), None, "of a stream that is over");
    receiver.packet(at(6), 1, true, &report(2));
    let Some(Delivery::Clock { track: 1, unix_ns, .. }) = receiver.poll() else { panic!("no clock") };
    assert_eq!(unix_ns, NEW_YEAR_NS + 100_000_000);
}

#[test]
fn c82_sound_lies_where_rtp_info_says_whenever_it_comes() {
    let sdp = "v=0\r\nm=audio 0 RTP/AVP 0\r\nm=audio 0 RTP/AVP 8\r\n";
    for (lower, late) in [(Lower::Tcp, at(3)), (Lower::Udp, at(9))] {
        let mut receiver = Receiver::new(&sdp::parse(sdp.as_bytes()), MediaFilter::All, 7);
        receiver.restart(lower);
        // The first media's packet is 20 ms behind the instant that is told, the second one's 60 ms.
        receiver.starts(Starts::parse("url=a;seq=1;rtptime=0,url=b;seq=3000;rtptime=479520"));
        let first = {
            let mut packet = sound(1, 1).to_vec();
            packet[1] = 0;
            Bytes::from(packet)
        };
        receiver.packet(at(50), 0, false, &first);
        receiver.packet(at(50) + late, 1, false, &sound(2, 3000));
        let mut times = Vec::new();
        while let Some(delivery) = receiver.poll() {
            if let Delivery::Unit { track, unit } = delivery {
                times.push((track, unit.pts));
            }
        }
        assert_eq!(times, [(0, 8000), (1, 8000 + 320)], "{lower:?}");
    }
}

#[test]
fn c88_broken_rtcp_is_passed_over() {
    let mut receiver = receiver(MediaFilter::All, Lower::Tcp);
    receiver.packet(at(1), 1, false, &sound(1, 1));
    for bytes in
        [&[0x80u8, 200][..], &[0x81, 202, 0, 2, 0x11, 0x22, 0x33, 0x44, 1, 2, 0x61, 0x62], &[0xff; 40]]
    {
        receiver.packet(at(1), 1, true, &Bytes::copy_from_slice(bytes));
        receiver.packet(at(1), 1, false, &Bytes::copy_from_slice(bytes));
    }
    receiver.packet(at(2), 1, false, &sound(1, 2));
    assert_eq!(units(&mut receiver), [(1, false), (2, false)]);
}

#[test]
fn c90_reports_state_what_was_lost() {
    let mut receiver = receiver(MediaFilter::All, Lower::Udp);
    assert!(receiver.reports(at(0)).is_empty(), "nothing came, nothing to report");
    for n in (1..100).filter(|n| n % 10 != 0) {
        receiver.packet(at(n), 1, false, &sound(9, n));
    }
    let reports = receiver.reports(at(100));
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].0, 1);
    let parsed = rtcp::parse(&reports[0].1);
    let rtcp::Rtcp::ReceiverReport(7, blocks) = &parsed[0] else { panic!("{parsed:?}") };
    assert_eq!((blocks[0].ssrc, blocks[0].cumulative_lost, blocks[0].extended_sequence), (9, 9, 99));
    assert!(matches!(&parsed[1], rtcp::Rtcp::Cname(7, _)));
}

#[test]
fn a_new_session_goes_on_where_the_old_one_ended() {
    let mut receiver = receiver(MediaFilter::All, Lower::Udp);
    receiver.packet(at(1), 1, false, &sound(1, 1));
    receiver.flush(at(2));
    receiver.restart(Lower::Tcp);
    receiver.packet(at(50), 1, false, &sound(2, 40_000));
    receiver.packet(at(51), 1, false, &sound(2, 40_001));
    let mut last = None;
    let mut marks = Vec::new();
    while let Some(delivery) = receiver.poll() {
        let Delivery::Unit { unit, .. } = delivery else { continue };
        assert!(last.is_none_or(|pts| unit.pts > pts), "times only grow");
        last = Some(unit.pts);
        marks.push(unit.discontinuity);
    }
    assert_eq!(marks, [false, true, false]);
}
