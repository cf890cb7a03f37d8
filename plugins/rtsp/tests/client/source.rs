//! The source role over real sockets on loopback: a camera of few words sends known access units.

use std::net::SocketAddr;
use std::time::Duration;

use patchbay_media::{Codec, Parameters, Unit};
use patchbay_plugin_rtsp::source::{Host, Refusals, run};
use patchbay_sdk::api::message::{Clock, Demand};
use patchbay_sdk::source::Tracks;
use patchbay_sdk::{Class, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};

/// Limit of every wait of a test.
const LIMIT: Duration = Duration::from_secs(20);
const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=0\r\n\
    m=audio 0 RTP/AVP 8\r\na=control:trackID=1\r\n";

#[derive(Debug)]
enum Event {
    Tracks(Vec<Codec>, String),
    Unit(u32, Unit),
    Clock(Clock),
}

struct TestHost {
    events: mpsc::UnboundedSender<Event>,
    demand: watch::Receiver<Demand>,
    closed: watch::Receiver<bool>,
}

impl Host for TestHost {
    fn tracks(&self, tracks: &Tracks) -> Result<(), Error> {
        let codecs = tracks.receive.iter().map(|t| t.parameters.codec).collect();
        let _ = self.events.send(Event::Tracks(codecs, tracks.connection.protocol.clone()));
        Ok(())
    }

    fn track_changed(&self, _: u32, _: &Parameters) -> Result<(), Error> {
        Ok(())
    }

    fn push(&self, id: u32, unit: &Unit) -> Result<(), Error> {
        let _ = self.events.send(Event::Unit(id, unit.clone()));
        Ok(())
    }

    fn clock(&self, clock: Clock) -> Result<(), Error> {
        let _ = self.events.send(Event::Clock(clock));
        Ok(())
    }

    fn demand(&self) -> watch::Receiver<Demand> {
        self.demand.clone()
    }

    async fn closed(&self) {
        let mut closed = self.closed.clone();
        let _ = closed.wait_for(|closed| *closed).await;
    }
}

/// A source under test, and the camera's listener.
struct Bench {
    listener: TcpListener,
    events: mpsc::UnboundedReceiver<Event>,
    demand: watch::Sender<Demand>,
    closed: watch::Sender<bool>,
    source: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Bench {
    async fn new(options: &str, tracks: &[u32]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("rtsp://{}/cam{options}", listener.local_addr().unwrap());
        let (events_tx, events) = mpsc::unbounded_channel();
        let (demand, demand_rx) = watch::channel(want(tracks));
        let (closed, closed_rx) = watch::channel(false);
        let host = TestHost { events: events_tx, demand: demand_rx, closed: closed_rx };
        let source = tokio::spawn(async move { run(&url, &host, &Refusals::default()).await });
        Self { listener, events, demand, closed, source }
    }

    async fn camera(&self) -> Camera {
        let (socket, _) = limit(self.listener.accept()).await.unwrap();
        Camera { socket, received: Vec::new(), ports: Vec::new() }
    }

    /// The next event that `pick` takes.
    async fn event<T>(&mut self, pick: impl Fn(Event) -> Option<T>) -> T {
        loop {
            let event = limit(self.events.recv()).await.expect("the source runs");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    }

    async fn unit(&mut self, track: u32) -> Unit {
        self.event(|event| match event {
            Event::Unit(id, unit) if id == track => Some(unit),
            _ => None,
        })
        .await
    }

    async fn ended(self) -> Result<(), Error> {
        limit(self.source).await.unwrap()
    }
}

fn want(tracks: &[u32]) -> Demand {
    Demand { tracks: tracks.to_vec(), class: "live".to_owned() }
}

async fn limit<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("in time")
}

struct Camera {
    socket: TcpStream,
    received: Vec<u8>,
    /// The client's RTP ports.
    ports: Vec<u16>,
}

impl Camera {
    /// Reads the next request; `None` at the end of the connection.
    async fn request(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.windows(4).position(|w| w == b"\r\n\r\n") {
                let text: Vec<u8> = self.received.drain(..end + 4).collect();
                return Some(String::from_utf8(text).unwrap());
            }
            if limit(self.socket.read_buf(&mut self.received)).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn reply(&mut self, request: &str, headers: &str, body: &str) {
        let cseq = request.lines().find(|l| l.starts_with("CSeq: ")).unwrap();
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        self.send(format!("RTSP/1.0 200 OK\r\n{cseq}\r\n{headers}{length}\r\n{body}").as_bytes()).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// Answers requests up to and with `last`.
    async fn until(&mut self, last: &str, server_port: u16) {
        loop {
            let request = self.request().await.unwrap_or_else(|| panic!("connection ended before {last}"));
            let method = request.split(' ').next().unwrap().to_owned();
            match method.as_str() {
                "DESCRIBE" => self.reply(&request, "Content-Type: application/sdp\r\n", SDP).await,
                "SETUP" => {
                    let transport =
                        request.lines().find(|l| l.starts_with("Transport: ")).unwrap().to_owned();
                    if let Some((_, ports)) = transport.split_once("client_port=") {
                        self.ports.push(ports.split('-').next().unwrap().parse().unwrap());
                        let ports = format!(";server_port={server_port}-{}", server_port + 1);
                        self.reply(&request, &format!("{transport}{ports}\r\nSession: 1\r\n"), "").await;
                    } else {
                        self.reply(&request, &format!("{transport}\r\nSession: 1\r\n"), "").await;
                    }
                }
                _ => self.reply(&request, "Session: 1\r\n", "").await,
            }
            if method == last {
                return;
            }
        }
    }
}

/// An RTP packet with the marker set.
fn rtp(payload_type: u8, sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, 0x80 | payload_type];
    out.extend(sequence.to_be_bytes());
    out.extend(timestamp.to_be_bytes());
    out.extend([0, 0, 0, payload_type]);
    out.extend(payload);
    out
}

fn frame(channel: u8, packet: &[u8]) -> Vec<u8> {
    [&[b'$', channel], &(packet.len() as u16).to_be_bytes()[..], packet].concat()
}

/// An access unit as one STAP-A: parameter sets of a 640x360 picture and an IDR slice of `len` bytes.
fn key_unit(len: usize) -> (Vec<u8>, Vec<u8>) {
    let sps =
        [0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01];
    let sps = [&sps[..], &[0x00, 0x00, 0x03, 0x00, 0x32, 0x0f, 0x16, 0x2e, 0x48]].concat();
    let pps = [0x68, 0xcb, 0x83, 0xcb, 0x20];
    let mut idr = vec![0x65, 0x88, 0x84];
    idr.extend((3..len).map(|i| (i % 251) as u8 | 1));
    let mut payload = vec![0x78];
    for nal in [&sps[..], &pps[..], &idr[..]] {
        payload.extend((nal.len() as u16).to_be_bytes());
        payload.extend(nal);
    }
    let unit = [&(idr.len() as u32).to_be_bytes()[..], &idr].concat();
    (payload, unit)
}

#[tokio::test]
async fn units_over_tcp_are_those_of_the_camera() {
    let mut bench = Bench::new("", &[0, 1]).await;
    let mut camera = bench.camera().await;
    camera.until("PLAY", 0).await;
    let found =
        bench.event(|e| if let Event::Tracks(codecs, how) = e { Some((codecs, how)) } else { None }).await;
    assert_eq!(found, (vec![Codec::H264, Codec::PcmAlaw], "rtsp+tcp".to_owned()));
    let (payload, unit) = key_unit(3000);
    let sound: Vec<u8> = (0..160).collect();
    let mut bytes = Vec::new();
    for n in 0..20u16 {
        bytes.extend(frame(0, &rtp(96, n, u32::from(n) * 3600, &payload)));
        bytes.extend(frame(2, &rtp(8, n, u32::from(n) * 160, &sound)));
    }
    // Cut anywhere
    for piece in bytes.chunks(777) {
        camera.send(piece).await;
    }
    let (mut video, mut audio) = (Vec::new(), Vec::new());
    while video.len() < 19 || audio.len() < 19 {
        match limit(bench.events.recv()).await.unwrap() {
            Event::Unit(0, unit) => video.push(unit),
            Event::Unit(1, unit) => audio.push(unit),
            _ => {}
        }
    }
    assert!(video.iter().all(|u| u.key && !u.incomplete && u.data == unit), "byte for byte");
    assert!(video.windows(2).all(|w| w[1].pts - w[0].pts == 3600));
    assert!(audio.iter().all(|u| u.data == sound));
    assert!(audio.windows(2).all(|w| w[1].pts - w[0].pts == 160));
    // C91: a sender report becomes a clock. 0xed003780 is 2026-01-01; the host's clock must be within a day
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 2_208_988_800;
    let mut report = vec![0x80, 200, 0, 6, 0, 0, 0, 96];
    report.extend((now as u32).to_be_bytes());
    report.extend([0; 4]);
    report.extend((19u32 * 3600).to_be_bytes());
    report.extend([0; 8]);
    camera.send(&frame(1, &report)).await;
    let clock = bench.event(|e| if let Event::Clock(clock) = e { Some(clock) } else { None }).await;
    assert_eq!((clock.track, clock.pts), (0, video[0].pts + 19 * 3600));
    // C11
    bench.closed.send(true).unwrap();
    camera.until("TEARDOWN", 0).await;
    assert_eq!(camera.request().await, None, "closed after TEARDOWN");
    assert_eq!(bench.ended().await, Ok(()));
}

#[tokio::test]
async fn c64_c66_udp_with_large_datagrams_from_another_port() {
    let mut bench = Bench::new("#transport=udp#media=video", &[0]).await;
    let mut camera = bench.camera().await;
    let named = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    camera.until("PLAY", named.local_addr().unwrap().port()).await;
    let to = SocketAddr::from(([127, 0, 0, 1], camera.ports[0]));
    assert_eq!(to.port() % 2, 0);
    let mut punch = [0; 100];
    let (len, from) = limit(named.recv_from(&mut punch)).await.unwrap();
    assert_eq!((len, from.port(), punch[0]), (12, to.port(), 0x80), "C65, before PLAY was answered");
    let (payload, unit) = key_unit(9000);
    // The second packet comes first (C67)
    for n in [0u16, 2, 1, 3, 4] {
        let packet = rtp(96, n, u32::from(n) * 3600, &payload);
        other.send_to(&packet, to).await.unwrap();
    }
    let mut last = None;
    for _ in 0..4 {
        let got = bench.unit(0).await;
        assert_eq!((&got.data[..], got.incomplete), (&unit[..], false));
        assert!(last.is_none_or(|pts| got.pts - pts == 3600), "in order, none lost");
        last = Some(got.pts);
    }
    bench.closed.send(true).unwrap();
    camera.until("TEARDOWN", 0).await;
    assert_eq!(bench.ended().await, Ok(()));
}

#[tokio::test]
async fn demand_starts_and_stops_the_session() {
    let bench = Bench::new("", &[]).await;
    let mut camera = bench.camera().await;
    camera.until("DESCRIBE", 0).await;
    bench.demand.send(want(&[1])).unwrap();
    let setup = camera.request().await.unwrap();
    assert!(setup.starts_with("SETUP ") && setup.contains("/cam/trackID=1 "), "{setup}");
    let transport = "Transport: RTP/AVP/TCP;interleaved=0-1\r\nSession: 1\r\n";
    camera.reply(&setup, transport, "").await;
    camera.until("PLAY", 0).await;
    bench.demand.send(want(&[])).unwrap();
    camera.until("TEARDOWN", 0).await;
    assert_eq!(camera.request().await, None);
    bench.demand.send(want(&[0, 1])).unwrap();
    let mut camera = bench.camera().await;
    camera.until("PLAY", 0).await;
    drop(camera);
    let error = bench.ended().await.unwrap_err();
    assert_eq!(error.class, Class::Eof);
}

#[tokio::test]
async fn ends_have_their_class_and_no_secrets() {
    let (demand, demand_rx) = watch::channel(want(&[0]));
    let (closed, closed_rx) = watch::channel(false);
    let (events, _events_rx) = mpsc::unbounded_channel();
    let host = TestHost { events, demand: demand_rx, closed: closed_rx };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    for url in [
        format!("rtsp://admin:secret@127.0.0.1:{port}/x?token=secret"),
        "rtsp://admin:secret@127.0.0.1/x#transport=quic".to_owned(),
        "rtsp://admin:secret@/x".to_owned(),
    ] {
        let error = limit(run(&url, &host, &Refusals::default())).await.unwrap_err();
        assert!(!error.message.contains("secret"), "{error}");
        assert!(matches!(error.class, Class::NotFound | Class::Unsupported), "{error:?}");
    }
    drop((demand, closed));
}

#[tokio::test]
async fn a_source_that_dials_can_be_closed() {
    // A listener whose backlog nobody serves takes the connection and never answers
    let bench = Bench::new("", &[0]).await;
    let _camera = bench.camera().await;
    bench.closed.send(true).unwrap();
    assert_eq!(bench.ended().await, Ok(()));
}
