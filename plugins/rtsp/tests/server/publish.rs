//! Publishers by script against the server on real sockets.

use std::collections::BTreeMap;

use bytes::Bytes;
use patchbay_media::{Codec, Parameters, Unit};
use patchbay_plugin_rtsp::server::Config;
use patchbay_rtp::packetize::{Packetizer, Packets};
use patchbay_rtp::rtcp::{self, SenderReport};
use patchbay_rtp::sdp::{self, Description, Direction, MediaDescription};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::memory::{Published, picture};
use crate::peer::{Got, PATIENCE, Peer, header, host};

/// Of libx264, baseline, 320x240.
const SPS: [u8; 24] = [
    0x67, 0x42, 0xc0, 0x0d, 0xd9, 0x01, 0x41, 0xfb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00,
    0x03, 0x03, 0x20, 0xf1, 0x42, 0xa4, 0x80,
];
const PPS: [u8; 5] = [0x68, 0xcb, 0x83, 0xcb, 0x20];
/// 2026-01-01T00:00:00Z.
const NEW_YEAR_NS: i64 = 1_767_225_600_000_000_000;

fn video() -> Parameters {
    let mut parameters = Parameters::video(Codec::H264, 90_000);
    parameters.extradata = patchbay_media::h264::avcc(&[&SPS], &[&PPS]);
    parameters
}

fn audio() -> Parameters {
    let mut parameters = Parameters::audio(Codec::Aac, 48_000, 2);
    parameters.extradata = Bytes::from_static(&[0x11, 0x90]);
    parameters
}

fn description() -> String {
    let media = |parameters: Parameters, payload_type, control: &str| MediaDescription {
        parameters,
        payload_type,
        port: 0,
        control: control.to_owned(),
        direction: Direction::RecvOnly,
    };
    sdp::build(&Description {
        session_name: "test".to_owned(),
        session_id: 1,
        address: "127.0.0.1".to_owned(),
        control: "*".to_owned(),
        medias: vec![media(video(), 96, "streamid=0"), media(audio(), 97, "streamid=1")],
    })
    .unwrap()
}

/// Pictures and sounds as packets: `(media, packet)`.
struct Sender {
    video: Packetizer,
    audio: Packetizer,
}

impl Sender {
    fn new() -> Self {
        Self {
            video: Packetizer::new(&video(), 96, 1, 65_530, 0xffff_f000, 1440).unwrap(),
            audio: Packetizer::new(&audio(), 97, 2, 5, 77_777, 1440).unwrap(),
        }
    }

    fn packets(&mut self, media: usize, unit: &Unit) -> Vec<Bytes> {
        let mut packets = Packets::new(0);
        match media {
            0 => self.video.packetize(unit, unit.key.then_some(&video()), &mut packets),
            _ => self.audio.packetize(unit, None, &mut packets),
        };
        packets.datagrams().map(Bytes::copy_from_slice).collect()
    }

    fn report(&self, media: usize, ntp_ns: i64, pts: i64) -> Bytes {
        let run = if media == 0 { &self.video } else { &self.audio };
        let report = SenderReport {
            ssrc: run.ssrc(),
            ntp: rtcp::ntp_from_unix_ns(ntp_ns),
            rtp_timestamp: run.timestamp(pts),
            packets: 0,
            octets: 0,
        };
        rtcp::sender_report(&report, "test")
    }
}

fn frame_of_sound(number: i64) -> Unit {
    Unit::new(number * 1024, true, Bytes::from(vec![number as u8; 200]))
}

async fn next(events: &mut UnboundedReceiver<Published>) -> Published {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("nothing came").expect("open")
}

/// Units of each track until there are `count` of both; the announced tracks before them.
async fn units(events: &mut UnboundedReceiver<Published>, count: usize) -> BTreeMap<u32, Vec<Unit>> {
    let mut units: BTreeMap<u32, Vec<Unit>> = BTreeMap::new();
    while units.len() < 2 || units.values().any(|units| units.len() < count) {
        match next(events).await {
            Published::Unit(track, unit) => units.entry(track).or_default().push(unit),
            Published::Clock(_) | Published::Changed => {}
            other => panic!("{other:?}"),
        }
    }
    units
}

async fn announce(peer: &mut Peer, transport: impl Fn(usize) -> String) -> Vec<String> {
    let url = peer.url.clone();
    let reply = peer.ask("ANNOUNCE", &url, "", &description()).await;
    assert!(reply.starts_with("RTSP/1.0 200"), "{reply}");
    assert_eq!(header(&reply, "Session"), None);
    let mut replies = Vec::new();
    for media in 0..2 {
        let headers = format!("Transport: {}\r\n", transport(media));
        let reply = peer.ask("SETUP", &format!("{url}/streamid={media}"), &headers, "").await;
        assert!(reply.starts_with("RTSP/1.0 200"), "{reply}");
        replies.push(reply);
    }
    replies
}

fn tcp(media: usize) -> String {
    format!("RTP/AVP/TCP;unicast;interleaved={}-{};mode=record", 2 * media, 2 * media + 1)
}

#[tokio::test]
async fn s60_s61_units_over_tcp_are_the_same_bytes_also_before_record() {
    let host = host(Config::default()).await;
    let mut events = host.memory.may_publish("cam");
    let mut peer = Peer::connect(&host, "cam?x=1").await;
    announce(&mut peer, tcp).await;
    let mut sender = Sender::new();
    let sent: Vec<(Unit, Unit)> =
        (0..30).map(|n| (picture(n, n % 10 == 0, 4_000 + n as usize), frame_of_sound(n))).collect();
    for (number, (picture, sound)) in sent.iter().enumerate() {
        if number == 5 {
            let url = peer.url.clone();
            let reply = peer.ask("RECORD", &url, "Range: npt=0.000-\r\n", "").await;
            assert!(reply.starts_with("RTSP/1.0 200"), "{reply}");
        }
        for packet in sender.packets(0, picture) {
            peer.frame(0, &packet).await;
        }
        for packet in sender.packets(1, sound) {
            peer.frame(2, &packet).await;
        }
    }
    let Published::Accepted(publish, _end) = next(&mut events).await else { panic!() };
    assert_eq!(publish.stream, "cam");
    let Published::Tracks(tracks) = next(&mut events).await else { panic!() };
    let codecs: Vec<Codec> = tracks.receive.iter().map(|t| t.parameters.codec).collect();
    assert_eq!(codecs, [Codec::H264, Codec::Aac]);
    assert_eq!(tracks.receive[0].parameters.extradata, video().extradata);
    let got = units(&mut events, 29).await;
    for (index, (picture, sound)) in sent.iter().take(29).enumerate() {
        assert!(got[&0][index].data == picture.data, "picture {index}");
        assert_eq!(got[&0][index].key, picture.key);
        assert!(got[&1][index].data == sound.data, "sound {index}");
    }
    for (track, step) in [(0, 3600), (1, 1024)] {
        assert!(got[&track].windows(2).all(|w| w[1].pts - w[0].pts == step), "exact differences");
    }
    let url = peer.url.clone();
    let reply = peer.ask("TEARDOWN", &url, "", "").await;
    assert!(reply.starts_with("RTSP/1.0 200"));
    loop {
        if matches!(next(&mut events).await, Published::Gone) {
            break;
        }
    }
}

#[tokio::test]
async fn sender_reports_before_the_first_packets_align_the_tracks() {
    let host = host(Config::default()).await;
    let mut events = host.memory.may_publish("cam");
    let mut peer = Peer::connect(&host, "cam").await;
    announce(&mut peer, tcp).await;
    let mut sender = Sender::new();
    // The sound of this sender is 250 ms later than its first picture.
    let report = sender.report(0, NEW_YEAR_NS, 0);
    peer.frame(1, &report).await;
    let report = sender.report(1, NEW_YEAR_NS + 250_000_000, 0);
    peer.frame(3, &report).await;
    for number in 0..3 {
        for packet in sender.packets(0, &picture(number, number == 0, 100)) {
            peer.frame(0, &packet).await;
        }
        for packet in sender.packets(1, &frame_of_sound(number)) {
            peer.frame(2, &packet).await;
        }
    }
    assert!(matches!(next(&mut events).await, Published::Accepted(..)));
    let tracks = next(&mut events).await;
    assert!(matches!(tracks, Published::Tracks(_)), "{tracks:?}");
    // The host places the tracks: it is told before the first unit of each what its time is.
    let mut told = BTreeMap::new();
    let mut first = BTreeMap::new();
    while first.len() < 2 {
        match next(&mut events).await {
            Published::Clock(clock) => assert!(told.insert(clock.track, clock).is_none()),
            Published::Unit(track, unit) => {
                let clock = told.get(&track).expect("the clock comes before the unit");
                first.entry(track).or_insert((unit.pts - clock.pts, clock.unix_ns));
            }
            other => panic!("{other:?}"),
        }
    }
    let picture = picture(0, true, 100).pts;
    assert_eq!(first[&0], (picture, NEW_YEAR_NS));
    assert_eq!(first[&1], (0, NEW_YEAR_NS + 250_000_000));
}

#[tokio::test]
async fn s60_units_over_udp() {
    let host = host(Config::default()).await;
    let mut events = host.memory.may_publish("cam");
    let mut peer = Peer::connect(&host, "cam").await;
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    }
    let port = |index: usize| sockets[index].local_addr().unwrap().port();
    let replies = announce(&mut peer, |media| {
        format!("RTP/AVP/UDP;unicast;client_port={}-{};mode=record", port(2 * media), port(2 * media + 1))
    })
    .await;
    let url = peer.url.clone();
    peer.ask("RECORD", &url, "", "").await;
    let mut sender = Sender::new();
    for (media, reply) in replies.iter().enumerate() {
        let transport = header(reply, "Transport").unwrap();
        let to: u16 =
            transport.split("server_port=").nth(1).unwrap().split('-').next().unwrap().parse().unwrap();
        sockets[2 * media].connect(("127.0.0.1", to)).await.unwrap();
    }
    let mut held: Option<Bytes> = None;
    for number in 0..30 {
        for packet in sender.packets(0, &picture(number, number % 10 == 0, 4_000)) {
            // Every other pair in the wrong order.
            match held.take() {
                Some(first) => {
                    sockets[0].send(&packet).await.unwrap();
                    sockets[0].send(&first).await.unwrap();
                }
                None => held = Some(packet),
            }
        }
        for packet in sender.packets(1, &frame_of_sound(number)) {
            sockets[2].send(&packet).await.unwrap();
        }
    }
    if let Some(last) = held {
        sockets[0].send(&last).await.unwrap();
    }
    assert!(matches!(next(&mut events).await, Published::Accepted(..)));
    let tracks = next(&mut events).await;
    assert!(matches!(tracks, Published::Tracks(_)), "{tracks:?}");
    let got = units(&mut events, 29).await;
    for number in 0..29 {
        let sent = picture(number, number % 10 == 0, 4_000);
        assert!(got[&0][number as usize].data == sent.data, "picture {number}");
        assert!(got[&1][number as usize].data == frame_of_sound(number).data, "sound {number}");
    }
}

#[tokio::test]
async fn a_report_over_udp_is_taken_before_the_packets_that_wait_beside_it() {
    let host = host(Config::default()).await;
    let mut events = host.memory.may_publish("cam");
    let mut peer = Peer::connect(&host, "cam").await;
    let sockets: Vec<_> = (0..4).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let port = |index: usize| sockets[index].local_addr().unwrap().port();
    let replies = announce(&mut peer, |media| {
        format!("RTP/AVP/UDP;unicast;client_port={}-{};mode=record", port(2 * media), port(2 * media + 1))
    })
    .await;
    let url = peer.url.clone();
    peer.ask("RECORD", &url, "", "").await;
    for (media, reply) in replies.iter().enumerate() {
        let ports = header(reply, "Transport").unwrap();
        let ports = ports.split("server_port=").nth(1).unwrap().split(';').next().unwrap().to_owned();
        for (socket, to) in ports.split('-').enumerate() {
            sockets[2 * media + socket].connect(("127.0.0.1", to.parse().unwrap())).unwrap();
        }
    }
    // All of it is there before the server looks, in any order, and the first packet of the sound is lost.
    let mut sender = Sender::new();
    sender.packets(1, &frame_of_sound(0));
    for number in 1..4 {
        for packet in sender.packets(1, &frame_of_sound(number)) {
            sockets[2].send(&packet).unwrap();
        }
    }
    sockets[3].send(&sender.report(1, NEW_YEAR_NS, 0)).unwrap();
    assert!(matches!(next(&mut events).await, Published::Accepted(..)));
    assert!(matches!(next(&mut events).await, Published::Tracks(_)));
    let told = next(&mut events).await;
    let Published::Clock(clock) = told else { panic!("a unit before its report: {told:?}") };
    let Published::Unit(1, unit) = next(&mut events).await else { panic!("no sound") };
    assert_eq!((clock.unix_ns, unit.pts - clock.pts), (NEW_YEAR_NS, 1024));
}

#[tokio::test]
async fn s62_a_name_that_nobody_may_publish_is_404() {
    let host = host(Config::default()).await;
    let mut peer = Peer::connect(&host, "other").await;
    let url = peer.url.clone();
    let reply = peer.ask("ANNOUNCE", &url, "", &description()).await;
    assert!(reply.starts_with("RTSP/1.0 404"), "{reply}");
    // The connection stays.
    assert!(peer.ask("OPTIONS", &url, "", "").await.starts_with("RTSP/1.0 200"));
}

#[tokio::test]
async fn s63_a_replaced_publisher_is_closed() {
    let host = host(Config::default()).await;
    let mut events = host.memory.may_publish("cam");
    let mut old = Peer::connect(&host, "cam").await;
    announce(&mut old, tcp).await;
    let Published::Accepted(_, end) = next(&mut events).await else { panic!() };
    let mut new = Peer::connect(&host, "cam").await;
    announce(&mut new, tcp).await;
    // The host ends the old one, since it took the new one.
    end.send_replace(Some("replaced".to_owned()));
    assert_eq!(old.next().await, Got::End);
    let url = new.url.clone();
    assert!(new.ask("RECORD", &url, "", "").await.starts_with("RTSP/1.0 200"));
}

#[tokio::test]
async fn a_media_that_is_not_set_up_is_no_track() {
    let host = host(Config::default()).await;
    let mut events = host.memory.may_publish("cam");
    let mut peer = Peer::connect(&host, "cam").await;
    let url = peer.url.clone();
    peer.ask("ANNOUNCE", &url, "", &description()).await;
    let transport = format!("Transport: {}\r\n", tcp(0));
    peer.ask("SETUP", &format!("{url}/streamid=1"), &transport, "").await;
    peer.ask("RECORD", &url, "", "").await;
    assert!(matches!(next(&mut events).await, Published::Accepted(..)));
    let Published::Tracks(tracks) = next(&mut events).await else { panic!() };
    assert_eq!(tracks.receive.len(), 1);
    assert_eq!(tracks.receive[0].parameters.codec, Codec::Aac);
    let mut sender = Sender::new();
    for packet in sender.packets(1, &frame_of_sound(3)) {
        peer.frame(0, &packet).await;
    }
    let Published::Unit(0, unit) = next(&mut events).await else { panic!() };
    assert_eq!(unit.data, frame_of_sound(3).data);
}
