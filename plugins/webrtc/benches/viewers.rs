//! CPU of 1, 10 and 100 viewers of one stream, beside a floor in the same run that encrypts the same packets and sends them.
//!
//! The stream is made up: 25 units a second of 4 Mbit/s in groups of 2 s, and Opus of 64 kbit/s. Viewers are connections of `rtc`
//! in a process of their own; the first one decrypts what it gets, the others only count. Run `cargo bench -p patchbay-plugin-webrtc`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)] // a bench

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use rtc::crypto::AeadAlgorithm;
use rtc::peer_connection::RTCPeerConnectionBuilder;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::sansio::Protocol as _;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(5);

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match words.iter().position(|word| word == "--viewers") {
        Some(at) => runtime.block_on(viewers(words[at + 1].parse().unwrap())),
        None if words.iter().any(|word| word == "--sinks") => {
            runtime.block_on(sinks(words.last().unwrap().parse().unwrap()));
        }
        None => {
            println!(
                "viewers  floor: encrypt + GSO  floor: encrypt + sendto  Patchbay   beside GSO  beside sendto   (ms of CPU per second and viewer)"
            );
            let counts: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
            for count in if counts.is_empty() { vec![1, 10, 100] } else { counts } {
                let gso = floor(count, true);
                let each = floor(count, false);
                let (ours, seen) = runtime.block_on(patchbay(count));
                println!(
                    "{count:>7}  {gso:>20.3}  {each:>23.3}  {ours:>8.3}  {:>11.2}  {:>13.2}   first viewer: {seen}",
                    ours / gso,
                    ours / each
                );
            }
        }
    }
}

/// ns on the CPU of this process so far.
fn cpu() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as u64 * 1_000_000_000 + used.tv_nsec as u64
}

/// The stream: video and audio units with when they are due.
struct Source {
    video: Packetizer,
    audio: Packetizer,
    packets: Packets,
    number: u64,
}

impl Source {
    fn new() -> Self {
        let packetizer =
            |parameters: &Parameters| Packetizer::new(parameters, 0, 0, 0, 0, MAX_PAYLOAD).unwrap();
        Self {
            video: packetizer(&Parameters::video(Codec::H264, 90_000)),
            audio: packetizer(&Parameters::audio(Codec::Opus, 48_000, 2)),
            packets: Packets::new(0),
            number: 0,
        }
    }

    /// What is due in the next tick of 20 ms: track 0 every other tick, track 1 always.
    fn tick(&mut self) -> Vec<(usize, Arc<Frame>)> {
        let mut frames = Vec::new();
        let mut push = |track: usize, packetizer: &mut Packetizer, unit: &Unit, packets: &mut Packets| {
            packetizer.packetize(unit, None, packets);
            let mut frame = Frame::new(packets, 0, packetizer.timestamp(unit.pts), 0);
            frame.is_key = unit.key;
            frames.push((track, Arc::new(frame)));
        };
        if self.number.is_multiple_of(2) {
            let frame = self.number / 2;
            let key = frame.is_multiple_of(50);
            // 50 units of 2 s: 120 kB for the key unit, the rest of 1 MB for the others.
            let len: u32 = if key { 120_000 } else { 17_959 };
            let mut data = len.to_be_bytes().to_vec();
            data.push(if key { 0x65 } else { 0x41 });
            data.resize(len as usize + 4, 0x55);
            let unit = Unit::new(frame as i64 * 3600, key, Bytes::from(data));
            push(0, &mut self.video, &unit, &mut self.packets);
        }
        let unit = Unit::new(self.number as i64 * 960, true, Bytes::from(vec![0x7c; 160]));
        push(1, &mut self.audio, &unit, &mut self.packets);
        self.number += 1;
        frames
    }
}

/// Sends for WARM_UP + MEASURED; ms of CPU per second and viewer of the measured part.
fn measure(count: usize, mut tick: impl FnMut(&mut Source)) -> f64 {
    let mut source = Source::new();
    let start = Instant::now();
    let mut before = None;
    for number in 0.. {
        let due = start + Duration::from_millis(20) * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if before.is_none() && start.elapsed() >= WARM_UP {
            before = Some((cpu(), Instant::now()));
        }
        if start.elapsed() >= WARM_UP + MEASURED {
            break;
        }
        tick(&mut source);
    }
    let (used, since) = before.unwrap();
    (cpu() - used) as f64 / 1e6 / since.elapsed().as_secs_f64() / count as f64
}

/// Encrypts each packet for each viewer and sends it, and nothing else.
fn floor(count: usize, gso: bool) -> f64 {
    let (mut sink_process, targets) = sink_process(count);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let state = UdpSocketState::new(UdpSockRef::from(&socket)).unwrap();
    let most = state.max_gso_segments();
    let provider = Provider::shared();
    let mut ciphers: Vec<_> =
        (0..count).map(|_| provider.crypto().new_aead(AeadAlgorithm::Aes128Gcm, &[7; 16]).unwrap()).collect();
    let mut bytes = Vec::new();
    let used = measure(count, |source| {
        for (_, frame) in source.tick() {
            for (target, cipher) in targets.iter().zip(&mut ciphers) {
                let (mut segment, mut batched) = (0, 0);
                bytes.clear();
                for (index, piece) in frame.pieces.iter().enumerate() {
                    let at = bytes.len();
                    bytes.extend_from_slice(&[0x80; 12]);
                    bytes.extend_from_slice(&frame.payload(piece));
                    let mut tag = [0; 16];
                    cipher.seal_in_place(&[1; 12], &[0x80; 12], &mut bytes[at + 12..], &mut tag).unwrap();
                    bytes.extend_from_slice(&tag);
                    let len = bytes.len() - at;
                    if batched == 0 {
                        segment = len;
                    }
                    batched += 1;
                    let is_last = index + 1 == frame.pieces.len();
                    if !gso || is_last || len < segment || batched == most.min(48) {
                        let transmit = Transmit {
                            destination: *target,
                            ecn: None,
                            contents: &bytes,
                            segment_size: (batched > 1).then_some(segment),
                            src_ip: None,
                        };
                        let _ = state.try_send(UdpSockRef::from(&socket), &transmit);
                        bytes.clear();
                        batched = 0;
                    }
                }
            }
        }
    });
    sink_process.kill().unwrap();
    sink_process.wait().unwrap();
    used
}

/// A process that reads as many sockets as there are viewers, in the way that the viewers of the plugin's own path do: what a
/// sender pays for waking them is the same. And where they are.
fn sink_process(count: usize) -> (Child, Vec<SocketAddr>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--sinks", &count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, serde_json::from_str(&line).unwrap())
}

/// That process.
async fn sinks(count: usize) {
    let mut addresses = Vec::new();
    for _ in 0..count {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        addresses.push(socket.local_addr().unwrap());
        tokio::spawn(async move {
            let mut buffer = vec![0; 2048];
            while socket.recv_from(&mut buffer).await.is_ok() {}
        });
    }
    println!("{}", serde_json::to_string(&addresses).unwrap());
    tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await.unwrap();
}

/// The plugin's own path with real connections; also what the first viewer got.
async fn patchbay(count: usize) -> (f64, String) {
    let mut mux = Mux::default();
    assert!(mux.bind(Instant::now(), &[[127, 0, 0, 1].into()], 0).is_none());
    let address = mux.hub().udp_addresses()[0];
    let own = vec![candidate::own(address, Transport::Udp, 0)];
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--viewers", &count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut input = child.stdin.take().unwrap();
    let crypto = Provider::shared();
    let mut peers = Vec::new();
    let mut events = Vec::new();
    for _ in 0..count {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let offer = Description::parse(&serde_json::from_str::<String>(&line).unwrap()).unwrap();
        let uses: Vec<Use> =
            offer.sections.iter().map(|section| Use::Send(section.formats[0].clone())).collect();
        let (parts, Agreed { sdp: answer, .. }) = setup::answer(&offer, &uses, &own, &own, &crypto).unwrap();
        let (peer, heard) = Peer::new(mux.hub(), parts);
        writeln!(input, "{}", serde_json::to_string(&answer).unwrap()).unwrap();
        let driven = Arc::clone(&peer);
        tokio::spawn(async move { driven.drive().await });
        peers.push(peer);
        events.push(heard);
    }
    for heard in &mut events {
        while !matches!(heard.recv().await, Some(Event::Connected)) {}
    }
    for peer in &peers {
        peer.start(0, None);
        peer.start(1, None);
    }
    let sending = peers.clone();
    let used = tokio::task::spawn_blocking(move || {
        measure(sending.len(), |source| {
            let now = Instant::now();
            for (track, frame) in source.tick() {
                for peer in &sending {
                    peer.send(track, &frame, now);
                }
            }
        })
    })
    .await
    .unwrap();
    drop(input);
    let mut seen = String::new();
    output.read_line(&mut seen).unwrap();
    child.wait().unwrap();
    let sends = mux.hub().counters();
    let per_send = sends.packets.load(Relaxed) as f64 / sends.sends.load(Relaxed).max(1) as f64;
    for peer in peers {
        peer.close();
    }
    (used, format!("{} packets per send {per_send:.1}, dropped {}", seen.trim(), sends.dropped.load(Relaxed)))
}

/// The other process: that many connections, answered over standard input.
async fn viewers(count: usize) {
    let (packets, decrypted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut lines = std::io::stdin().lines();
    for index in 0..count {
        let mut engine = MediaEngine::default();
        let video = RTCRtpCodec {
            mime_type: "video/H264".to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
                .to_owned(),
            rtcp_feedback: Vec::new(),
        };
        let audio = RTCRtpCodec {
            mime_type: "audio/opus".to_owned(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: String::new(),
            rtcp_feedback: Vec::new(),
        };
        for (rtp_codec, payload_type, kind) in
            [(video, 102, RtpCodecKind::Video), (audio, 111, RtpCodecKind::Audio)]
        {
            engine.register_codec(RTCRtpCodecParameters { rtp_codec, payload_type }, kind).unwrap();
        }
        let mut connection =
            RTCPeerConnectionBuilder::new().with_media_engine(engine).build(Instant::now()).unwrap();
        for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                streams: Vec::new(),
                send_encodings: Vec::new(),
            };
            connection.add_transceiver_from_kind(kind, Some(init)).unwrap();
        }
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let local = socket.local_addr().unwrap();
        let candidate = candidate::own(local, Transport::Udp, 0);
        connection
            .add_local_candidate(RTCIceCandidateInit { candidate, ..RTCIceCandidateInit::default() })
            .unwrap();
        let offer = connection.create_offer(None).unwrap();
        connection.set_local_description(Instant::now(), offer.clone()).unwrap();
        println!("{}", serde_json::to_string(&offer.sdp).unwrap());
        let answer: String = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        connection
            .set_remote_description(Instant::now(), RTCSessionDescription::answer(answer).unwrap())
            .unwrap();
        let (packets, decrypted) = (Arc::clone(&packets), Arc::clone(&decrypted));
        tokio::spawn(async move {
            let mut buffer = vec![0; 2048];
            loop {
                while let Some(message) = connection.poll_write() {
                    let _ = socket.try_send_to(&message.message, message.transport.peer_addr);
                }
                while connection.poll_event().is_some() {}
                while let Some(message) = connection.poll_read() {
                    if matches!(message.message, RTCMessage::RtpPacket(..)) {
                        decrypted.fetch_add(1, Relaxed);
                    }
                }
                let now = Instant::now();
                let due = connection.poll_timeout().unwrap_or(now + Duration::from_secs(1));
                if due <= now {
                    connection.handle_timeout(now).unwrap();
                    continue;
                }
                let received = tokio::time::timeout_at(due.into(), socket.recv_from(&mut buffer)).await;
                let Ok(Ok((len, remote))) = received else { continue };
                // RTP, not RTCP, STUN or DTLS: the first viewer alone looks into it.
                let is_rtp = buffer[0] & 0xc0 == 0x80 && !(200..=207).contains(&buffer[1]);
                if is_rtp && index == 0 {
                    packets.fetch_add(1, Relaxed);
                }
                if !is_rtp || index == 0 {
                    let transport = TransportContext {
                        local_addr: local,
                        peer_addr: remote,
                        transport_protocol: TransportProtocol::UDP,
                        ecn: None,
                    };
                    let message = BytesMut::from(&buffer[..len]);
                    let _ =
                        connection.handle_read(TaggedBytesMut { now: Instant::now(), transport, message });
                }
            }
        });
    }
    // Until the other side has measured.
    drop(lines);
    tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await.unwrap();
    println!("{} packets, {} decrypted", packets.load(Relaxed), decrypted.load(Relaxed));
}
