//! A connection of the server and one of `rtc` as the player, over loopback.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use patchbay_media::{Codec, Parameters, Unit};
use patchbay_plugin_webrtc::candidate;
use patchbay_plugin_webrtc::config::Transport;
use patchbay_plugin_webrtc::crypto::Provider;
use patchbay_plugin_webrtc::feed::{Frame, MAX_PAYLOAD};
use patchbay_plugin_webrtc::mux::Mux;
use patchbay_plugin_webrtc::peer::agree::Agreed;
use patchbay_plugin_webrtc::peer::setup::{self, Use};
use patchbay_plugin_webrtc::peer::{Event, Peer};
use patchbay_plugin_webrtc::sdp::Description;
use patchbay_rtp::packetize::{Packetizer, Packets};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::interceptor::Registry;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::sansio::Protocol as _;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use tokio::sync::mpsc;

/// The player's side.
struct Player {
    connection: RTCPeerConnection,
    socket: tokio::net::UdpSocket,
    /// Sequence numbers that came, with RTP time, marker and payload length.
    got: BTreeMap<u16, (u32, bool, usize)>,
    ssrc: u32,
    /// RTP packets to lose: every so many of those that come for the first time.
    lose: Option<u16>,
    lost: HashSet<u16>,
    /// Where the last datagram came from.
    from: Option<SocketAddr>,
}

impl Player {
    async fn new(profiles: Vec<SrtpProtectionProfile>) -> (Self, String) {
        let mut engine = MediaEngine::default();
        let rtp_codec = RTCRtpCodec {
            mime_type: "video/H264".to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
                .to_owned(),
            rtcp_feedback: vec![
                RTCPFeedback { typ: "nack".to_owned(), parameter: String::new() },
                RTCPFeedback { typ: "nack".to_owned(), parameter: "pli".to_owned() },
            ],
        };
        engine
            .register_codec(RTCRtpCodecParameters { rtp_codec, payload_type: 102 }, RtpCodecKind::Video)
            .unwrap();
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(SettingEngineBuilder::new().with_srtp_protection_profiles(profiles).build())
            .with_interceptor_registry(registry)
            .build(Instant::now())
            .unwrap();
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            streams: Vec::new(),
            send_encodings: Vec::new(),
        };
        connection.add_transceiver_from_kind(RtpCodecKind::Video, Some(init)).unwrap();
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let candidate = candidate::own(socket.local_addr().unwrap(), Transport::Udp, 0);
        connection
            .add_local_candidate(RTCIceCandidateInit { candidate, ..RTCIceCandidateInit::default() })
            .unwrap();
        let offer = connection.create_offer(None).unwrap();
        connection.set_local_description(Instant::now(), offer.clone()).unwrap();
        let player = Self {
            connection,
            socket,
            got: BTreeMap::new(),
            ssrc: 0,
            lose: None,
            lost: HashSet::new(),
            from: None,
        };
        (player, offer.sdp)
    }

    fn accept(&mut self, answer: &str) {
        let answer = RTCSessionDescription::answer(answer.to_owned()).unwrap();
        self.connection.set_remote_description(Instant::now(), answer).unwrap();
    }

    /// An offer that starts ICE anew.
    fn restart(&mut self) -> String {
        self.connection.restart_ice();
        let offer = self.connection.create_offer(None).unwrap();
        self.connection.set_local_description(Instant::now(), offer.clone()).unwrap();
        offer.sdp
    }

    fn want_key(&mut self) {
        let packet = PictureLossIndication { sender_ssrc: 1, media_ssrc: self.ssrc };
        let message = RTCMessage::RtcpPacket(String::new(), vec![Box::new(packet)]);
        self.connection.handle_write(TaggedRTCMessage { now: Instant::now(), message }).unwrap();
    }

    /// Runs until `done`, or fails after 60 s.
    async fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        let mut buffer = vec![0; 2048];
        let local_addr = self.socket.local_addr().unwrap();
        loop {
            while let Some(message) = self.connection.poll_write() {
                self.socket.send_to(&message.message, message.transport.peer_addr).await.unwrap();
            }
            while self.connection.poll_event().is_some() {}
            while let Some(message) = self.connection.poll_read() {
                if let RTCMessage::RtpPacket(_, packet) = message.message {
                    let header = &packet.header;
                    self.ssrc = header.ssrc;
                    let seen = (header.timestamp, header.marker, packet.payload.len());
                    self.got.insert(header.sequence_number, seen);
                }
            }
            if done(self) {
                return;
            }
            assert!(Instant::now() < end, "no {what}: {} packets, {} lost", self.got.len(), self.lost.len());
            let now = Instant::now();
            let due = self.connection.poll_timeout().unwrap_or(now).min(now + Duration::from_millis(20));
            if due <= now {
                self.connection.handle_timeout(now).unwrap();
            }
            let due = due.max(now + Duration::from_millis(1));
            let Ok(Ok((len, peer_addr))) =
                tokio::time::timeout_at(due.into(), self.socket.recv_from(&mut buffer)).await
            else {
                continue;
            };
            self.from = Some(peer_addr);
            let is_rtp = buffer[0] & 0xc0 == 0x80 && !(200..=207).contains(&buffer[1]);
            let sequence = u16::from_be_bytes([buffer[2], buffer[3]]);
            if is_rtp
                && self.lose.is_some_and(|every| sequence.is_multiple_of(every))
                && self.lost.insert(sequence)
            {
                continue;
            }
            let transport = TransportContext {
                local_addr,
                peer_addr,
                transport_protocol: TransportProtocol::UDP,
                ecn: None,
            };
            let message = BytesMut::from(&buffer[..len]);
            let _ = self.connection.handle_read(TaggedBytesMut { now: Instant::now(), transport, message });
        }
    }
}

struct Rig {
    mux: Mux,
    peer: Arc<Peer>,
    events: mpsc::Receiver<Event>,
    player: Player,
    packetizer: Packetizer,
    packets: Packets,
    number: u64,
    offer: Description,
}

impl Rig {
    /// A connected pair whose track was started without a history.
    async fn new() -> Self {
        Self::with(Vec::new()).await
    }

    /// The same with a player that knows only these ways to protect packets, if there are any.
    async fn with(profiles: Vec<SrtpProtectionProfile>) -> Self {
        let mut mux = Mux::default();
        assert!(mux.bind(Instant::now(), &[[127, 0, 0, 1].into()], 0).is_none());
        let own = vec![candidate::own(mux.hub().udp_addresses()[0], Transport::Udp, 0)];
        let (mut player, offer) = Player::new(profiles).await;
        let offer = Description::parse(&offer).unwrap();
        let uses = [Use::Send(offer.sections[0].formats[0].clone())];
        let (parts, Agreed { sdp: answer, .. }) =
            setup::answer(&offer, &uses, &own, &own, &Provider::shared()).unwrap();
        let (peer, mut events) = Peer::new(mux.hub(), parts);
        let driven = Arc::clone(&peer);
        tokio::spawn(async move { driven.drive().await });
        player.accept(&answer);
        let mut is_connected = false;
        player
            .until("connection", |_| {
                is_connected |= matches!(events.try_recv(), Ok(Event::Connected));
                is_connected
            })
            .await;
        let parameters = Parameters::video(Codec::H264, 90_000);
        let packetizer = Packetizer::new(&parameters, 0, 0, 0, 0, MAX_PAYLOAD).unwrap();
        Self { mux, peer, events, player, packetizer, packets: Packets::new(0), number: 0, offer }
    }

    /// The next frame of the stream, of about so many bytes.
    fn frame(&mut self, key: bool, len: usize) -> Frame {
        let mut data = (len as u32).to_be_bytes().to_vec();
        data.push(if key { 0x65 } else { 0x41 });
        data.resize(len + 4, 0x55);
        let unit = Unit::new(self.number as i64 * 3600, key, Bytes::from(data));
        self.packetizer.packetize(&unit, None, &mut self.packets);
        let mut frame = Frame::new(&mut self.packets, 0, self.packetizer.timestamp(unit.pts), 0);
        (frame.is_key, frame.sequence) = (key, self.number);
        self.number += 1;
        frame
    }

    fn send(&mut self, key: bool, len: usize) {
        let frame = Arc::new(self.frame(key, len));
        self.peer.send(0, &frame, Instant::now());
    }
}

/// Whether the numbers have no gap.
fn is_whole(got: &BTreeMap<u16, (u32, bool, usize)>) -> bool {
    let numbers: Vec<u16> = got.keys().copied().collect();
    numbers.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_starts_at_a_key_unit() {
    let mut rig = Rig::new().await;
    rig.peer.start(0, None);
    rig.send(false, 500);
    rig.send(true, 5000);
    rig.send(false, 500);
    // 5 packets of 5000 bytes and one of 500: what came before the key unit was left out.
    rig.player.until("packets", |player| player.got.len() >= 6).await;
    let times: Vec<u32> = rig.player.got.values().map(|(time, ..)| *time).collect();
    assert!(is_whole(&rig.player.got));
    assert_eq!(times[..5], [times[0]; 5]);
    assert_eq!(times[5].wrapping_sub(times[0]), 3600);
    let marks: Vec<bool> = rig.player.got.values().map(|(_, mark, _)| *mark).collect();
    assert_eq!(marks, [false, false, false, false, true, true]);
    assert_eq!(rig.peer.counts().drops, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protection_profile_is_spoken() {
    for profile in [
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32,
    ] {
        let mut rig = Rig::with(vec![profile]).await;
        rig.peer.start(0, None);
        rig.send(true, 5000);
        // The player's connection takes nothing whose tag is wrong.
        rig.player.until("packets", |player| player.got.len() >= 5).await;
        assert!(is_whole(&rig.player.got), "{profile:?}");
        let lens: Vec<usize> = rig.player.got.values().map(|(_, _, len)| *len).collect();
        assert_eq!(lens[..4], [MAX_PAYLOAD; 4], "{profile:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_go_on_past_their_end() {
    let mut rig = Rig::new().await;
    rig.peer.start(0, None);
    let (mut total, mut wraps, mut last) = (0, 0, 0);
    while wraps == 0 || last < 200 {
        rig.send(total == 0, 100_000);
        total += 85;
        rig.player.until("packets", |player| player.got.len() >= 85).await;
        let numbers: Vec<u16> = rig.player.got.keys().copied().collect();
        wraps += usize::from(numbers.contains(&0) || numbers[0] < last);
        last = numbers[84];
        rig.player.got.clear();
        assert!(total < 200_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_packets_come_again() {
    let mut rig = Rig::new().await;
    rig.peer.start(0, None);
    rig.player.lose = Some(7);
    for number in 0..40 {
        rig.send(number == 0, 6000);
        // As in a network with some delay: a retransmission further back than the player's replay window would be refused.
        rig.player.until("packets", |player| player.got.len() + 3 >= (number + 1) * 6).await;
    }
    // The last ones may be lost without anything behind them that shows it.
    rig.player
        .until("repairs", |player| player.lost.len() > 20 && player.got.len() >= 238 && is_whole(&player.got))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_key_unit_gets_what_lies_before_now() {
    let mut rig = Rig::new().await;
    rig.peer.start(0, None);
    rig.send(true, 5000);
    rig.player.until("packets", |player| player.got.len() >= 5).await;
    rig.player.want_key();
    let events = &mut rig.events;
    let mut asked = None;
    rig.player
        .until("request", |_| {
            if let Ok(Event::KeyframeWanted(track)) = events.try_recv() {
                asked = Some(track);
            }
            asked.is_some()
        })
        .await;
    assert_eq!(asked, Some(0));
    let before = *rig.player.got.last_key_value().unwrap().1;
    rig.peer.hold(0);
    // What comes while the history is made waits, and a part of it is in the history already.
    let mut history = rig.frame(true, 5000);
    (history.is_history, history.sequence) = (true, rig.number + 1);
    rig.send(false, 400);
    rig.send(false, 500);
    rig.peer.start(0, Some(Arc::new(history)));
    rig.player.until("history", |player| player.got.len() >= 11).await;
    assert!(is_whole(&rig.player.got));
    let lens: Vec<usize> = rig.player.got.values().skip(5).map(|(_, _, len)| *len).collect();
    assert_eq!(lens.last(), Some(&500), "the unit of 400 bytes was in the history");
    let times: Vec<u32> = rig.player.got.values().skip(5).map(|(time, ..)| *time).collect();
    assert!(times.iter().all(|time| time.wrapping_sub(before.0) as i32 > 0), "{before:?} {times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_cannot_be_taken_changes_nothing() {
    let mut rig = Rig::new().await;
    rig.peer.start(0, None);
    rig.send(true, 5000);
    let bad =
        Description::parse("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 102\r\na=rtpmap:102 H264/90000\r\n").unwrap();
    assert!(rig.peer.renegotiate(&bad, &[Use::Nothing], &[]).is_err());
    rig.send(false, 5000);
    rig.player.until("packets", |player| player.got.len() >= 10).await;
    // The same offer again, on the same connection: the same stream goes on.
    let uses = [Use::Send(rig.offer.sections[0].formats[0].clone())];
    let agreed = rig.peer.renegotiate(&rig.offer, &uses, &[]).unwrap();
    assert_eq!(agreed.tracks, [Some(0)]);
    rig.send(false, 5000);
    rig.player.until("more packets", |player| player.got.len() >= 15).await;
    assert!(is_whole(&rig.player.got));
    // Other credentials of the player: the sockets know the session by its new name alone.
    let agreed = rig.peer.restart("player", "a password of the player").unwrap().unwrap();
    assert!(rig.peer.restart("player", "a password of the player").unwrap().is_none());
    assert_eq!(rig.mux.hub().entries(), (1, 1), "{}", agreed.sdp);
    rig.peer.close();
    assert_eq!(rig.mux.hub().entries(), (0, 0));
    assert!(rig.peer.renegotiate(&rig.offer, &uses, &[]).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn ice_restarts_at_another_address() {
    let [before, after] = [1, 3].map(|last| IpAddr::from([127, 0, 0, last]));
    let mut rig = Rig::new().await;
    rig.peer.start(0, None);
    rig.send(true, 5000);
    rig.player.until("packets", |player| player.got.len() >= 5).await;
    // One more address: the connection stays where it is.
    let generation = rig.mux.hub().generation();
    assert!(rig.mux.bind(Instant::now(), &[before, after], 0).is_none());
    assert_eq!(rig.mux.hub().generation(), generation + 1);
    rig.send(false, 5000);
    rig.player.until("more packets", |player| player.got.len() >= 10).await;
    assert_eq!(rig.player.from.map(|from| from.ip()), Some(before));
    // The first one is gone, and its socket after a minute as well.
    let now = Instant::now();
    for later in [now, now + Duration::from_secs(60)] {
        assert!(rig.mux.bind(later, &[after], 0).is_none());
    }
    let addresses = rig.mux.hub().udp_addresses();
    assert_eq!(addresses.iter().map(|address| address.ip()).collect::<Vec<_>>(), [after]);
    let own = vec![candidate::own(addresses[0], Transport::Udp, 0)];
    rig.peer.add_own(own.iter());
    let offer = Description::parse(&rig.player.restart()).unwrap();
    let uses = [Use::Send(offer.sections[0].formats[0].clone())];
    let agreed = rig.peer.renegotiate(&offer, &uses, &own).unwrap();
    rig.player.accept(&agreed.sdp);
    rig.player.until("way to the new address", |player| player.from == Some(addresses[0])).await;
    let mut sent = 10;
    while rig.player.got.len() < 40 {
        rig.send(false, 5000);
        sent += 5;
        // What goes out before the new way is chosen is lost.
        let end = Instant::now() + Duration::from_millis(200);
        rig.player.until("packets", |player| player.got.len() >= sent || Instant::now() > end).await;
        assert!(sent < 10_000);
    }
    assert!(!rig.peer.gone().is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_closed_connection() {
    let rig = Rig::new().await;
    assert_eq!(rig.mux.hub().entries(), (1, 1));
    rig.peer.close();
    assert!(rig.peer.gone().is_cancelled());
    assert_eq!(rig.mux.hub().entries(), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_sends_is_seldom_looked_after() {
    let mut rig = Rig::new().await;
    rig.peer.start(0, None);
    rig.send(true, 6000);
    let before = rig.mux.hub().counters().ticks.load(std::sync::atomic::Ordering::Relaxed);
    let start = Instant::now();
    // Sequence numbers tell the packets apart: fewer than there are of them.
    while start.elapsed() < Duration::from_secs(2) && rig.player.got.len() < 60_000 {
        let wanted = rig.player.got.len() + 3;
        rig.send(false, 3000);
        rig.player.until("packets", |player| player.got.len() >= wanted).await;
    }
    let ticks = rig.mux.hub().counters().ticks.load(std::sync::atomic::Ordering::Relaxed) - before;
    // Each packet would be thousands; on a slow machine the loop lasts longer than it was meant to.
    let most = 20.0 * start.elapsed().as_secs_f64().max(2.0);
    assert!((ticks as f64) < most, "{ticks} in {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_vanishes_is_noticed() {
    let rig = Rig::new().await;
    drop(rig.player);
    let why = tokio::time::timeout(Duration::from_secs(20), rig.peer.ended()).await.unwrap();
    assert_eq!(why, "disconnected");
}
