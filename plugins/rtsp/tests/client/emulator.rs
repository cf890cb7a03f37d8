//! A camera by script and a clock that tests turn. The camera reads RTSP with its own few lines, checks what every request
//! must have, and shares no code with the client.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest, Md5};
use patchbay_net::SourceUrl;
use patchbay_plugin_rtsp::client::{
    Config, Error, Input, Output, Reconnect, Session, Starts, Target, Timeouts,
};
use patchbay_plugin_rtsp::wire::Lower;

pub(crate) const SDP: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=cam\r\nt=0 0\r\na=control:*\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:trackID=0\r\n\
    m=audio 0 RTP/AVP 8\r\na=control:trackID=1\r\n";

/// A request as the camera got it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) connection: usize,
    pub(crate) at: Duration,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Seen {
    /// Exact, case-sensitive lookup.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn reply(&self, status: &str, headers: &[&str], body: &str) -> String {
        let mut text = format!("RTSP/1.0 {status}\r\nCSeq: {}\r\n", self.header("CSeq").unwrap());
        for header in headers {
            text += &format!("{header}\r\n");
        }
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text + "\r\n" + body
    }

    pub(crate) fn status(&self, status: &str) -> Option<Vec<Act>> {
        Some(vec![Act::Send(self.reply(status, &[], "").into_bytes())])
    }

    pub(crate) fn answer(&self, status: &str, headers: &[&str], body: &str) -> Option<Vec<Act>> {
        Some(vec![Act::Send(self.reply(status, headers, body).into_bytes())])
    }

    /// Whether the digest in this request is right for a challenge without qop. Computed from the request line.
    pub(crate) fn has_digest(&self, user: &str, password: &str, realm: &str, nonce: &str) -> bool {
        let Some(value) = self.header("Authorization").and_then(|v| v.strip_prefix("Digest ")) else {
            return false;
        };
        let md5 = |text: String| Md5::digest(text).iter().map(|b| format!("{b:02x}")).collect::<String>();
        let ha1 = md5(format!("{user}:{realm}:{password}"));
        let ha2 = md5(format!("{}:{}", self.method, self.url));
        let response = md5(format!("{ha1}:{nonce}:{ha2}"));
        value.contains(&format!("response=\"{response}\""))
            && value.contains(&format!("uri=\"{}\"", self.url))
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Act {
    Send(Vec<u8>),
    Close,
}

pub(crate) fn silence() -> Option<Vec<Act>> {
    Some(Vec::new())
}

type Script = Box<dyn FnMut(&Seen) -> Option<Vec<Act>>>;

/// Session, camera and the wire between them.
pub(crate) struct Rig {
    pub(crate) session: Session,
    script: Script,
    pub(crate) now: Duration,
    pub(crate) seen: Vec<Seen>,
    /// Answers of the client to the camera's requests.
    pub(crate) answers: Vec<(Duration, String)>,
    pub(crate) connects: Vec<(Duration, Target, Option<Reconnect>)>,
    pub(crate) media: Vec<(Duration, usize, bool, Bytes)>,
    pub(crate) udp: Vec<(Duration, usize, bool, u16, Bytes)>,
    pub(crate) joined: Vec<(usize, std::net::IpAddr, (u16, u16))>,
    pub(crate) interleaved: Vec<(Duration, u8, Vec<u8>)>,
    pub(crate) closed: Option<(Duration, Result<(), Error>)>,
    pub(crate) playing: usize,
    pub(crate) starts: Option<Starts>,
    pub(crate) described: usize,
    /// Medias asked for once described.
    pub(crate) want: Vec<usize>,
    /// Medias that send one packet each 500 ms after PLAY.
    pub(crate) streams: Vec<usize>,
    inbox: VecDeque<Act>,
    from_client: Vec<u8>,
    last_cseq: u32,
    next_packet: Option<Duration>,
    ways: BTreeMap<usize, u8>,
    udp_ports: BTreeMap<usize, u16>,
    sequence: u16,
    /// The order of requests and datagrams, for checks across both.
    pub(crate) order: Vec<String>,
}

pub(crate) fn config(url: &str) -> Config {
    let url = SourceUrl::parse(url).unwrap();
    let lower = match url.option("transport") {
        Some("udp") => Lower::Udp,
        Some("multicast") => Lower::Multicast,
        _ => Lower::Tcp,
    };
    let backchannel = url.option("backchannel") == Some("1");
    let timeouts = Timeouts::default();
    Config {
        url,
        lower,
        backchannel,
        speaks: backchannel,
        timeouts,
        user_agent: "Emulated/1".to_owned(),
        seed: 7,
    }
}

impl Rig {
    /// [`Rig::new`], and the camera is asked for its backchannel, which is not set up at once.
    pub(crate) fn asking(url: &str, script: impl FnMut(&Seen) -> Option<Vec<Act>> + 'static) -> Self {
        let session = Session::new(Config { backchannel: true, ..config(url) });
        Self { session, ..Self::new(url, script) }
    }

    /// A camera that does everything right, but for what `script` answers itself.
    pub(crate) fn new(url: &str, script: impl FnMut(&Seen) -> Option<Vec<Act>> + 'static) -> Self {
        Self {
            session: Session::new(config(url)),
            script: Box::new(script),
            now: Duration::ZERO,
            seen: Vec::new(),
            answers: Vec::new(),
            connects: Vec::new(),
            media: Vec::new(),
            udp: Vec::new(),
            joined: Vec::new(),
            interleaved: Vec::new(),
            closed: None,
            playing: 0,
            starts: None,
            described: 0,
            want: vec![0, 1],
            streams: vec![0, 1],
            inbox: VecDeque::new(),
            from_client: Vec::new(),
            last_cseq: 0,
            next_packet: None,
            ways: BTreeMap::new(),
            udp_ports: BTreeMap::new(),
            sequence: 0,
            order: Vec::new(),
        }
    }

    /// Lets `secs` pass.
    pub(crate) fn run(&mut self, secs: f64) -> &mut Self {
        let end = self.now + Duration::from_secs_f64(secs);
        loop {
            let wake = match self.session.poll() {
                Output::WakeAt(at) => at,
                Output::Closed(result) => {
                    self.closed.get_or_insert((self.now, result));
                    self.now = end;
                    return self;
                }
                output => {
                    self.output(output);
                    continue;
                }
            };
            assert!(wake > self.now, "asked to wake at {wake:?}, now is {:?}", self.now);
            match self.inbox.pop_front() {
                Some(Act::Send(bytes)) => self.session.handle(self.now, Input::Received(&bytes)),
                Some(Act::Close) => {
                    self.next_packet = None;
                    self.session.handle(self.now, Input::Eof);
                }
                None => {
                    let next = wake.min(self.next_packet.unwrap_or(Duration::MAX));
                    if next > end {
                        self.now = end;
                        self.session.handle(end, Input::Timeout);
                        return self;
                    }
                    self.now = next;
                    if self.next_packet == Some(next) {
                        self.send_packets();
                    }
                    self.session.handle(self.now, Input::Timeout);
                }
            }
        }
    }

    /// Bytes from the camera, before anything else happens.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.inbox.push_back(Act::Send(bytes.as_ref().to_vec()));
        self
    }

    pub(crate) fn close(&mut self) -> &mut Self {
        self.inbox.push_back(Act::Close);
        self
    }

    pub(crate) fn input(&mut self, input: Input<'_>) -> &mut Self {
        self.session.handle(self.now, input);
        self
    }

    pub(crate) fn count(&self, method: &str) -> usize {
        self.seen.iter().filter(|s| s.method == method).count()
    }

    pub(crate) fn of(&self, method: &str) -> Vec<&Seen> {
        self.seen.iter().filter(|s| s.method == method).collect()
    }

    pub(crate) fn error(&self) -> &Error {
        match &self.closed {
            Some((_, Err(error))) => error,
            other => panic!("expected an error, got {other:?}; seen {:?}", self.methods()),
        }
    }

    pub(crate) fn methods(&self) -> Vec<&str> {
        self.seen.iter().map(|s| s.method.as_str()).collect()
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Connect { target, why, timeout: _ } => {
                self.connects.push((self.now, target, why));
                self.inbox.clear();
                self.from_client.clear();
                self.ways.clear();
                self.udp_ports.clear();
                self.next_packet = None;
                self.last_cseq = 0;
                self.session.handle(self.now, Input::Connected);
            }
            Output::Disconnect => {
                self.next_packet = None;
                self.inbox.clear();
            }
            Output::Send(bytes) => {
                self.from_client.extend_from_slice(&bytes);
                self.read_client();
            }
            Output::Described(_) => {
                self.described += 1;
                let want = self.want.clone();
                self.session.handle(self.now, Input::Wanted(&want));
            }
            Output::BindUdp { index } => {
                let port = 20_000 + 2 * index as u16;
                self.udp_ports.insert(index, port);
                self.session.handle(self.now, Input::UdpBound { index, port });
            }
            Output::JoinMulticast { index, group, ports } => self.joined.push((index, group, ports)),
            Output::SendUdp { index, from_rtcp, port, data } => {
                self.order.push(format!("udp {} {index} to {port}", if from_rtcp { "rtcp" } else { "rtp" }));
                self.udp.push((self.now, index, from_rtcp, port, data));
            }
            Output::Playing => self.playing += 1,
            Output::Starts(starts) => self.starts = Some(starts),
            Output::Media { index, is_rtcp, data } => self.media.push((self.now, index, is_rtcp, data)),
            Output::ReportsDue => {
                for index in 0..2 {
                    let data = Bytes::from(vec![0x81, 201, 0, 1, 0, 0, 0, index as u8]);
                    self.session.handle(self.now, Input::SendRtcp { index, data });
                }
            }
            Output::WakeAt(_) | Output::Closed(_) => unreachable!(),
        }
    }

    /// Splits what the client sent into frames, answers and requests.
    fn read_client(&mut self) {
        loop {
            if self.from_client.first() == Some(&b'$') {
                let len = usize::from(u16::from_be_bytes([self.from_client[2], self.from_client[3]]));
                let frame: Vec<u8> = self.from_client.drain(..4 + len).collect();
                self.interleaved.push((self.now, frame[1], frame[4..].to_vec()));
                continue;
            }
            let text = String::from_utf8_lossy(&self.from_client).into_owned();
            let Some(end) = text.find("\r\n\r\n") else { return };
            self.from_client.drain(..end + 4);
            let head = &text[..end];
            if head.starts_with("RTSP/1.0 ") {
                self.answers.push((self.now, head.to_owned()));
                continue;
            }
            let mut lines = head.split("\r\n");
            let words: Vec<&str> = lines.next().unwrap().split(' ').collect();
            assert_eq!(words.len(), 3, "request line {words:?}");
            assert_eq!(words[2], "RTSP/1.0");
            let headers: Vec<(String, String)> = lines
                .map(|l| l.split_once(": ").expect("a header"))
                .map(|(n, v)| (n.into(), v.into()))
                .collect();
            let seen = Seen {
                connection: self.connects.len(),
                at: self.now,
                method: words[0].to_owned(),
                url: words[1].to_owned(),
                headers,
            };
            // C5: on every request, byte for byte
            let cseq: u32 = seen.header("CSeq").expect("CSeq with this casing").parse().unwrap();
            assert!(cseq > self.last_cseq, "CSeq grows");
            self.last_cseq = cseq;
            assert!(!seen.header("User-Agent").expect("User-Agent").is_empty());
            self.order.push(seen.method.clone());
            self.seen.push(seen.clone());
            let acts =
                (self.script)(&seen).unwrap_or_else(|| vec![Act::Send(self.normal(&seen).into_bytes())]);
            if seen.method == "PLAY"
                && acts.iter().any(|a| matches!(a, Act::Send(b) if b.windows(8).any(|w| w == b".0 200 O")))
            {
                self.next_packet = Some(self.now + Duration::from_millis(500));
            }
            self.inbox.extend(acts);
        }
    }

    fn normal(&mut self, seen: &Seen) -> String {
        match seen.method.as_str() {
            "OPTIONS" => seen.reply(
                "200 OK",
                &["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER, SET_PARAMETER"],
                "",
            ),
            "DESCRIBE" => {
                let base = format!("Content-Base: {}/", seen.url.trim_end_matches('/'));
                seen.reply("200 OK", &["Content-Type: application/sdp", &base], SDP)
            }
            "SETUP" => {
                let transport = seen.header("Transport").expect("Transport").to_owned();
                let number: usize = seen.url.rsplit_once('=').map_or(0, |(_, n)| n.parse().unwrap_or(0));
                if let Some((_, channels)) = transport.split_once("interleaved=") {
                    self.ways.insert(number, channels.split('-').next().unwrap().parse().unwrap());
                }
                let extra = if transport.contains("client_port") {
                    let port = 6000 + 2 * number;
                    format!(";server_port={port}-{}", port + 1)
                } else {
                    String::new()
                };
                seen.reply(
                    "200 OK",
                    &[&format!("Transport: {transport}{extra}"), "Session: 4711;timeout=60"],
                    "",
                )
            }
            _ => seen.reply("200 OK", &["Session: 4711"], ""),
        }
    }

    fn send_packets(&mut self) {
        self.next_packet = Some(self.now + Duration::from_millis(500));
        for index in self.streams.clone() {
            self.sequence += 1;
            let packet = rtp(index, self.sequence);
            if let Some(channel) = self.ways.get(&index) {
                let bytes = frame(*channel, &packet);
                self.session.handle(self.now, Input::Received(&bytes));
            } else if self.udp_ports.contains_key(&index) {
                let from_port = 6000 + 2 * index as u16;
                let data = Bytes::from(packet);
                self.session.handle(self.now, Input::Datagram { index, to_rtcp: false, from_port, data });
            }
        }
    }
}

/// An RTP packet of media 0 (payload type 96) or 1 (8).
pub(crate) fn rtp(index: usize, sequence: u16) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    vec![
        0x80,
        if index == 0 { 96 } else { 8 },
        high,
        low,
        0,
        0,
        high,
        low,
        0,
        0,
        0,
        index as u8,
        0x41,
        1,
        2,
        3,
    ]
}

pub(crate) fn frame(channel: u8, packet: &[u8]) -> Vec<u8> {
    let mut out = vec![b'$', channel];
    out.extend((packet.len() as u16).to_be_bytes());
    out.extend(packet);
    out
}
