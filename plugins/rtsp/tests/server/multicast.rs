//! Multicast over the loopback interface: one group for all players of a stream, and the client in a camera's group.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

use patchbay_media::{Codec, Parameters};
use patchbay_plugin_rtsp::server::Config;
use patchbay_rtp::rtcp::{self, Rtcp};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::memory::{Memory, picture, picture_number};
use crate::peer::{Host, PATIENCE, Peer, controls, header, host, nals, rtp, rtp_info};

/// Of the range for use within one organization (RFC 2365), one address per test.
const GROUPS: [&str; 2] = ["239.255.77.1", "239.255.77.2"];

async fn stream(group: &str) -> Host {
    let host = host(Config { multicast: group.to_owned(), multicast_ttl: 3, ..Config::default() }).await;
    let mut video = Parameters::video(Codec::H264, 90_000);
    video.extradata = patchbay_media::h264::avcc(&[&[0x67, 0x42, 0xe0, 0x1f]], &[&[0x68, 0xce, 0x3c, 0x80]]);
    let audio = Parameters::audio(Codec::PcmAlaw, 8_000, 1);
    host.memory.stream("cam", &[(1, 0, video), (1, 1, audio)]);
    host.memory.stream("other", &[(1, 1, Parameters::audio(Codec::PcmAlaw, 8_000, 1))]);
    host
}

fn join(group: &str, port: u16) -> UdpSocket {
    let group: Ipv4Addr = group.parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from((group, port)).into()).unwrap();
    socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
    UdpSocket::from_std(socket.into()).unwrap()
}

/// SETUP of both medias: where they are sent to.
async fn set_up(peer: &mut Peer) -> Vec<String> {
    let described = peer.describe().await;
    let mut places = Vec::new();
    for control in controls(&described) {
        let reply = peer.ask("SETUP", &control, "Transport: RTP/AVP/UDP;multicast;mode=PLAY\r\n", "").await;
        assert!(reply.starts_with("RTSP/1.0 200"), "{reply}");
        places.push(header(&reply, "Transport").unwrap());
    }
    places
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let received = tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await.expect("nothing came");
    buffer.truncate(received.unwrap().0);
    buffer
}

fn push(memory: &Memory, number: i64, is_key: bool) {
    memory.push(1, 0, picture(number, is_key, 100));
}

#[tokio::test]
async fn s40_two_players_are_one_group() {
    let host = stream(GROUPS[0]).await;
    push(&host.memory, 0, true);
    let mut first = Peer::connect(&host, "cam").await;
    let places = set_up(&mut first).await;
    let expected = |port: u16| {
        format!(
            "RTP/AVP/UDP;multicast;destination={};source=127.0.0.1;port={port}-{};ttl=3",
            GROUPS[0],
            port + 1
        )
    };
    for (place, port) in places.iter().zip([16_384, 16_386]) {
        assert!(place.starts_with(&expected(port)), "{place}");
    }
    let (video, reports) = (join(GROUPS[0], 16_384), join(GROUPS[0], 16_385));
    let url = first.url.clone();
    let reply = first.ask("PLAY", &url, "", "").await;
    assert!(reply.starts_with("RTSP/1.0 200"), "{reply}");
    let told = rtp_info(&reply)[0];
    // What came before is for nobody: a group begins at a key unit.
    for number in 1..4 {
        push(&host.memory, number, number == 3);
    }
    let report = rtcp::parse(&receive(&reports).await);
    assert!(matches!(report[0], Rtcp::SenderReport(..)), "{report:?}");
    let mut packets = vec![rtp(&receive(&video).await)];
    if let (Some(sequence), _) = told {
        assert_eq!(packets[0].sequence, sequence);
    }
    while nals(&packets).iter().all(|nal| nal[0] != 0x65) {
        packets.push(rtp(&receive(&video).await));
    }
    let key = nals(&packets).into_iter().find(|nal| nal[0] == 0x65).unwrap();
    assert_eq!(picture_number(&key), 3);
    // A second player: the same places, no second run, nothing sent twice.
    let mut second = Peer::connect(&host, "cam").await;
    assert_eq!(set_up(&mut second).await, places);
    let reply = second.ask("PLAY", &url, "", "").await;
    assert!(reply.starts_with("RTSP/1.0 200"), "{reply}");
    push(&host.memory, 4, false);
    push(&host.memory, 5, false);
    for number in [4, 5] {
        let packet = rtp(&receive(&video).await);
        assert_eq!(picture_number(&packet.payload), number, "each picture once");
    }
    assert_eq!(host.server.hub().counters().runs.load(Relaxed), 2);
    // The first one leaves, the group goes on.
    first.ask("TEARDOWN", &url, "", "").await;
    push(&host.memory, 6, false);
    assert_eq!(picture_number(&rtp(&receive(&video).await).payload), 6);
}

#[tokio::test]
async fn s40_no_addresses_are_461_and_one_that_is_left_is_used_again() {
    let host = stream(GROUPS[1]).await;
    let mut first = Peer::connect(&host, "cam").await;
    set_up(&mut first).await;
    let mut second = Peer::connect(&host, "other?audio").await;
    let described = second.describe().await;
    let control = controls(&described).remove(0);
    let transport = "Transport: RTP/AVP;multicast\r\n";
    let reply = second.ask("SETUP", &control, transport, "").await;
    assert!(reply.starts_with("RTSP/1.0 461"), "{reply}");
    let url = first.url.clone();
    first.ask("TEARDOWN", &url, "", "").await;
    let reply = second.ask("SETUP", &control, transport, "").await;
    assert!(reply.starts_with("RTSP/1.0 200"), "{reply}");
    // Not configured.
    let host = stream("").await;
    let mut peer = Peer::connect(&host, "cam").await;
    let control = controls(&peer.describe().await).remove(0);
    let both = "Transport: RTP/AVP;multicast,RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    assert!(peer.ask("SETUP", &control, transport, "").await.starts_with("RTSP/1.0 461"));
    assert!(peer.ask("SETUP", &control, both, "").await.contains("interleaved"), "the next choice is taken");
}
