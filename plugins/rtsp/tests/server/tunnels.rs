//! RTSP inside TLS, HTTP and WebSocket: the server against raw peers, the client against raw cameras, and both together.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use patchbay_media::{Codec, Parameters, Unit};
use patchbay_net::tls::{Verify, connect};
use patchbay_plugin_rtsp::server::Config;
use patchbay_plugin_rtsp::source::{Host as SourceHost, Refusals, run};
use patchbay_sdk::Error;
use patchbay_sdk::api::message::{Clock, Demand};
use patchbay_sdk::source::Tracks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::memory::{picture, picture_number, sound};
use crate::peer::{Host, PATIENCE, host};

/// A certificate of `localhost` and its key, made for these tests.
const IDENTITY: &str = include_str!("../data/localhost.pem");

fn with_tls() -> Config {
    Config { tls_cert: IDENTITY.to_owned(), tls_key: IDENTITY.to_owned(), ..Config::default() }
}

async fn limit<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// A host with one stream of a key picture and sound, and more of both while the test runs.
async fn playing(config: Config) -> Host {
    let host = host(config).await;
    let mut video = Parameters::video(Codec::H264, 90_000);
    video.extradata = patchbay_media::h264::avcc(&[&[0x67, 0x42, 0xe0, 0x1f]], &[&[0x68, 0xce, 0x3c, 0x80]]);
    let audio = Parameters::audio(Codec::PcmAlaw, 8_000, 1);
    host.memory.stream("cam", &[(1, 0, video), (1, 1, audio)]);
    let memory = host.memory.clone();
    tokio::spawn(async move {
        for number in 0.. {
            memory.push(1, 0, picture(number, number % 10 == 0, 3_000));
            memory.push(1, 1, sound(number));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    host
}

fn request(method: &str, url: &str, cseq: u32, headers: &str) -> String {
    format!("{method} {url} RTSP/1.0\r\nCSeq: {cseq}\r\n{headers}\r\n")
}

/// Reads until `text` has come.
async fn until(stream: &mut (impl AsyncReadExt + Unpin), text: &str) -> String {
    let mut got = Vec::new();
    loop {
        let found = String::from_utf8_lossy(&got).into_owned();
        if found.contains(text) {
            return found;
        }
        let len = limit(stream.read_buf(&mut got)).await.unwrap();
        assert!(len > 0, "ended before {text}: {found}");
    }
}

#[tokio::test]
async fn s25_tls_on_the_same_port() {
    let host = playing(with_tls()).await;
    let tcp = TcpStream::connect(host.address).await.unwrap();
    let mut tls = connect(tcp, "localhost", Verify::No, PATIENCE).await.unwrap();
    let url = format!("rtsps://{}/cam", host.address);
    tls.write_all(request("DESCRIBE", &url, 1, "").as_bytes()).await.unwrap();
    let described = until(&mut tls, "trackID=1").await;
    assert!(described.contains(&format!("a=control:{url}/trackID=0")), "{described}");
    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    tls.write_all(request("SETUP", &format!("{url}/trackID=0"), 2, transport).as_bytes()).await.unwrap();
    until(&mut tls, "CSeq: 2").await;
    tls.write_all(request("PLAY", &url, 3, "").as_bytes()).await.unwrap();
    until(&mut tls, "CSeq: 3").await;
    let mut media = vec![0; 200_000];
    limit(tls.read_exact(&mut media)).await.unwrap();
    // Plain RTSP on the same port.
    let mut plain = TcpStream::connect(host.address).await.unwrap();
    let asked = request("GET_PARAMETER", "*", 1, "");
    for byte in asked.bytes() {
        plain.write_all(&[byte]).await.unwrap();
    }
    until(&mut plain, "RTSP/1.0 200").await;
}

#[tokio::test]
async fn s25_without_a_certificate_tls_is_closed() {
    let host = playing(Config::default()).await;
    let tcp = TcpStream::connect(host.address).await.unwrap();
    assert!(connect(tcp, "localhost", Verify::No, PATIENCE).await.is_err());
    let broken = Config { tls_cert: "x\n".to_owned(), ..with_tls() };
    let host = playing(broken).await;
    let mut plain = TcpStream::connect(host.address).await.unwrap();
    plain.write_all(request("OPTIONS", "*", 1, "").as_bytes()).await.unwrap();
    until(&mut plain, "RTSP/1.0 200").await;
}

#[tokio::test]
async fn s26_two_requests_are_one_connection() {
    let host = playing(Config::default()).await;
    let mut get = TcpStream::connect(host.address).await.unwrap();
    let head = "GET /cam HTTP/1.0\r\nX-SessionCookie: abc\r\nAccept: application/x-rtsp-tunnelled\r\n\r\n";
    get.write_all(head.as_bytes()).await.unwrap();
    let opened = until(&mut get, "\r\n\r\n").await;
    assert!(opened.starts_with("HTTP/1.0 200 OK\r\n"), "{opened}");
    assert!(
        opened.contains("Content-Type: application/x-rtsp-tunnelled") && !opened.contains("Content-Length")
    );
    // A second GET with this cookie, a POST with another.
    let mut other = TcpStream::connect(host.address).await.unwrap();
    other.write_all(head.as_bytes()).await.unwrap();
    assert!(until(&mut other, "\r\n\r\n").await.starts_with("HTTP/1.1 409"));
    let mut other = TcpStream::connect(host.address).await.unwrap();
    other.write_all(b"POST /cam HTTP/1.0\r\nx-sessioncookie: abd\r\n\r\n").await.unwrap();
    assert!(until(&mut other, "\r\n\r\n").await.starts_with("HTTP/1.1 404"));
    let url = format!("rtsp://{}/cam", host.address);
    let post = || async {
        let mut post = TcpStream::connect(host.address).await.unwrap();
        post.write_all(b"POST /cam HTTP/1.0\r\nx-sessioncookie: abc\r\nContent-Length: 32767\r\n\r\n")
            .await
            .unwrap();
        post
    };
    let mut first = post().await;
    let mut described = request("DESCRIBE", &url, 1, "");
    if described.len().is_multiple_of(3) {
        described = request("DESCRIBE", &url, 1, "X: y1\r\n");
    }
    let described = STANDARD.encode(described);
    assert!(described.ends_with('='), "padding in the middle of the body");
    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    let body = described + &STANDARD.encode(request("SETUP", &format!("{url}/trackID=0"), 2, transport));
    for piece in body.as_bytes().chunks(3) {
        first.write_all(piece).await.unwrap();
    }
    until(&mut get, "CSeq: 2").await;
    drop(first);
    // The way up goes on in another POST.
    let mut second = post().await;
    second.write_all(STANDARD.encode(request("PLAY", &url, 3, "")).as_bytes()).await.unwrap();
    until(&mut get, "CSeq: 3").await;
    let mut media = vec![0; 100_000];
    limit(get.read_exact(&mut media)).await.unwrap();
    second.write_all(b"$$$$").await.unwrap();
    let mut rest = Vec::new();
    limit(get.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn s27_a_websocket_of_single_bytes() {
    let host = playing(Config::default()).await;
    let mut ask = format!("ws://{}/rtsp-over-websocket", host.address).into_client_request().unwrap();
    ask.headers_mut().insert("Sec-WebSocket-Protocol", "x, rtsp.onvif.org".parse().unwrap());
    let tcp = TcpStream::connect(host.address).await.unwrap();
    let (mut socket, answer) = tokio_tungstenite::client_async(ask, tcp).await.unwrap();
    assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "rtsp.onvif.org");
    let url = format!("rtsp://{}/cam", host.address);
    for byte in request("DESCRIBE", &url, 1, "").bytes() {
        socket.send(Message::binary(vec![byte])).await.unwrap();
    }
    socket.send(Message::Ping(b"alive".to_vec().into())).await.unwrap();
    let (mut text, mut has_pong) = (String::new(), false);
    while !text.contains("trackID=1") || !has_pong {
        match limit(socket.next()).await.unwrap().unwrap() {
            Message::Binary(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
            Message::Pong(payload) => has_pong = &payload[..] == b"alive",
            other => panic!("{other:?}"),
        }
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(message)) = limit(socket.next()).await {
        assert!(message.is_close() || message.is_binary(), "{message:?}");
    }
}

#[tokio::test]
async fn other_http_is_refused() {
    let host = playing(Config::default()).await;
    for ask in ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", "POST /cam HTTP/1.1\r\n\r\n"] {
        let mut socket = TcpStream::connect(host.address).await.unwrap();
        socket.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = String::new();
        limit(socket.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
}

/// A source's host that hands on its units.
struct Taker {
    units: mpsc::UnboundedSender<(u32, Unit)>,
    protocol: watch::Sender<String>,
    demand: watch::Receiver<Demand>,
}

impl SourceHost for Taker {
    fn tracks(&self, tracks: &Tracks) -> Result<(), Error> {
        self.protocol.send_replace(tracks.connection.protocol.clone());
        Ok(())
    }
    fn track_changed(&self, _: u32, _: &Parameters) -> Result<(), Error> {
        Ok(())
    }
    fn push(&self, id: u32, unit: &Unit) -> Result<(), Error> {
        let _ = self.units.send((id, unit.clone()));
        Ok(())
    }
    fn clock(&self, _: Clock) -> Result<(), Error> {
        Ok(())
    }
    fn demand(&self) -> watch::Receiver<Demand> {
        self.demand.clone()
    }
    async fn closed(&self) {
        std::future::pending().await
    }
}

struct Dialling {
    units: mpsc::UnboundedReceiver<(u32, Unit)>,
    protocol: watch::Receiver<String>,
    task: tokio::task::JoinHandle<Result<(), Error>>,
    _demand: watch::Sender<Demand>,
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn dial(url: String) -> Dialling {
    let (sender, units) = mpsc::unbounded_channel();
    let (protocol, told) = watch::channel(String::new());
    let (_demand, demand) = watch::channel(Demand { tracks: vec![0, 1], class: "live".to_owned() });
    let host = Taker { units: sender, protocol, demand };
    let task = tokio::spawn(async move { run(&url, &host, &Refusals::default()).await });
    Dialling { units, protocol: told, task, _demand }
}

impl Dialling {
    async fn takes(&mut self, protocol: &str) {
        let (mut pictures, mut sounds) = (0, 0);
        while pictures < 12 || sounds < 12 {
            let (track, unit) = limit(self.units.recv()).await.expect("the source runs");
            if track == 0 {
                let number = picture_number(&unit.data[4..]);
                assert_eq!(unit.data, picture(number, unit.key, 3_000).data);
                pictures += 1;
            } else {
                sounds += 1;
            }
        }
        assert_eq!(*self.protocol.borrow(), protocol);
    }
}

#[tokio::test]
async fn client_and_server_through_each_way() {
    let login =
        Config { username: "u".to_owned(), password: "p/w".to_owned(), local_auth: true, ..with_tls() };
    let host = playing(login).await;
    let at = host.address;
    for (url, protocol) in [
        (format!("rtspx://u:p%2Fw@{at}/cam"), "rtsps+tcp"),
        (format!("rtsps://u:p%2Fw@{at}/cam"), "rtsps+tcp"),
        (format!("rtsp://u:p%2Fw@{at}/cam#transport=http"), "rtsp+http"),
        (format!("rtspx://u:p%2Fw@{at}/cam#transport=http"), "rtsps+http"),
        (format!("rtsp://u:p%2Fw@{at}/cam#transport=ws://{at}/x"), "ws"),
        (format!("rtsp://u:p%2Fw@{at}/cam#transport=wss://{at}/x"), "wss"),
    ] {
        dial(url).takes(protocol).await;
    }
}

/// Reads an HTTP head.
async fn head(socket: &mut TcpStream) -> String {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        let byte = limit(socket.read_u8()).await.unwrap();
        got.push(byte);
    }
    String::from_utf8(got).unwrap()
}

#[tokio::test]
async fn c69_the_camera_sees_get_then_post_with_the_same_cookie() {
    let camera = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = camera.local_addr().unwrap();
    let _source = dial(format!("rtsp://admin:12345@{at}/cam?channel=1&subtype=0#transport=http"));
    // The camera wants a login for the tunnel, too.
    let (mut get, _) = limit(camera.accept()).await.unwrap();
    let asked = head(&mut get).await;
    assert!(asked.starts_with("GET /cam?channel=1&subtype=0 HTTP/1.0\r\n"), "{asked}");
    assert!(!asked.contains("Authorization"), "{asked}");
    get.write_all(b"HTTP/1.0 401 No\r\nWWW-Authenticate: Basic realm=\"cam\"\r\n\r\n").await.unwrap();
    drop(get);
    let (mut get, _) = limit(camera.accept()).await.unwrap();
    let asked = head(&mut get).await;
    let of = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name}: {text}")).split_once(": ").unwrap().1.to_owned()
    };
    assert_eq!(of(&asked, "Authorization"), format!("Basic {}", STANDARD.encode("admin:12345")));
    assert_eq!(of(&asked, "Accept"), "application/x-rtsp-tunnelled");
    // Bytes behind the head come in the same segment.
    get.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: application/x-rtsp-tunnelled\r\n\r\n").await.unwrap();
    let (mut post, _) = limit(camera.accept()).await.unwrap();
    let posted = head(&mut post).await;
    assert!(posted.starts_with("POST /cam?channel=1&subtype=0 HTTP/1.0\r\n"), "{posted}");
    assert_eq!(of(&posted, "x-sessioncookie"), of(&asked, "x-sessioncookie"));
    assert_eq!(of(&posted, "Content-Type"), "application/x-rtsp-tunnelled");
    assert_eq!(of(&posted, "Content-Length"), "32767");
    assert!(posted.contains("Authorization: Basic"), "{posted}");
    // The POST is not answered; its body is one padded group of base64 a request.
    let mut body = vec![0; 4096];
    for expected in ["OPTIONS", "DESCRIBE"] {
        let len = limit(post.read(&mut body)).await.unwrap();
        let text = String::from_utf8(STANDARD.decode(&body[..len]).unwrap()).unwrap();
        let start = format!("{expected} rtsp://{at}/cam?channel=1&subtype=0 RTSP/1.0\r\nCSeq: ");
        assert!(text.starts_with(&start), "{text}");
        get.write_all(format!("RTSP/1.0 200 OK\r\nCSeq: {}\r\n\r\n", of(&text, "CSeq")).as_bytes())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn c69_a_camera_that_does_not_tunnel_is_named() {
    let camera = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = camera.local_addr().unwrap();
    let host_of = |url: String| {
        let (units, _keep) = mpsc::unbounded_channel();
        let (protocol, _) = watch::channel(String::new());
        let (_, demand) = watch::channel(Demand::default());
        let host = Taker { units, protocol, demand };
        async move { run(&url, &host, &Refusals::default()).await.unwrap_err() }
    };
    let asking = tokio::spawn(host_of(format!("rtsp://a:secret@{at}/cam#transport=http")));
    let (mut get, _) = limit(camera.accept()).await.unwrap();
    head(&mut get).await;
    get.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let error = limit(asking).await.unwrap();
    assert!(error.message.contains("404") && !error.message.contains("secret"), "{error}");
}

#[tokio::test]
async fn c70_a_camera_that_splits_at_every_byte() {
    let camera = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = camera.local_addr().unwrap();
    let mut source = dial(format!("rtsp://{at}/cam#transport=ws://v:q@{at}/rtspoverwebsocket"));
    let (tcp, _) = limit(camera.accept()).await.unwrap();
    // The size of the error is the crate's choice.
    #[allow(clippy::result_large_err)]
    let check = |ask: &tokio_tungstenite::tungstenite::handshake::server::Request,
                 mut answer: tokio_tungstenite::tungstenite::handshake::server::Response| {
        assert_eq!(ask.uri().path(), "/rtspoverwebsocket");
        assert_eq!(ask.headers()["Sec-WebSocket-Protocol"], "rtsp.onvif.org");
        assert_eq!(ask.headers()["Authorization"], format!("Basic {}", STANDARD.encode("v:q")));
        answer.headers_mut().insert("Sec-WebSocket-Protocol", "rtsp.onvif.org".parse().unwrap());
        Ok(answer)
    };
    let mut socket = limit(tokio_tungstenite::accept_hdr_async(tcp, check)).await.unwrap();
    const SDP: &str = "v=0\r\nm=audio 0 RTP/AVP 8\r\na=control:trackID=0\r\n";
    let mut say = Vec::new();
    loop {
        let Message::Binary(asked) = limit(socket.next()).await.unwrap().unwrap() else { panic!() };
        let asked = String::from_utf8(asked.to_vec()).unwrap();
        let cseq = asked.lines().find(|line| line.starts_with("CSeq: ")).unwrap();
        let (headers, body) = match asked.split(' ').next().unwrap() {
            "DESCRIBE" => (format!("Content-Length: {}\r\n", SDP.len()), SDP),
            "SETUP" => ("Session: 1\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n".to_owned(), ""),
            _ => ("Session: 1\r\n".to_owned(), ""),
        };
        say.extend(format!("RTSP/1.0 200 OK\r\n{cseq}\r\n{headers}\r\n{body}").bytes());
        let plays = asked.starts_with("PLAY");
        for number in (0..20_u8).filter(|_| plays) {
            say.extend([b'$', 0, 0, 172, 0x80, 8, 0, number, 0, 0]);
            say.extend((u16::from(number) * 160).to_be_bytes());
            say.extend([0, 0, 0, 7]);
            say.extend([number; 160]);
        }
        for byte in say.drain(..) {
            socket.feed(Message::binary(vec![byte])).await.unwrap();
        }
        socket.flush().await.unwrap();
        if plays {
            break;
        }
    }
    for number in 0..19 {
        let (track, unit) = limit(source.units.recv()).await.unwrap();
        assert_eq!((track, &unit.data[..]), (0, &[number; 160][..]));
    }
}
