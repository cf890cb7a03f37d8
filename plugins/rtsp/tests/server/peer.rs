//! A player or publisher by script: raw bytes on a real socket, parsed by its own few lines.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use patchbay_fanout::Limits;
use patchbay_plugin_rtsp::server::{Config, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::memory::Memory;

/// How long something that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server of streams in memory.
pub(crate) struct Host {
    pub(crate) memory: Memory,
    pub(crate) server: Arc<Server<Memory>>,
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn host(config: Config) -> Host {
    let memory = Memory::default();
    let server = Server::new(config, memory.clone(), Limits::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(Arc::clone(&server).accept([listener], std::future::pending(), || {}));
    Host { memory, server, address, task }
}

/// What a connection brings: a reply with its body, or an interleaved frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Got {
    Reply(String),
    Frame(u8, Vec<u8>),
    End,
}

pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
    pub(crate) url: String,
    buffer: Vec<u8>,
    cseq: u32,
    session: String,
}

impl Peer {
    pub(crate) async fn connect(host: &Host, path: &str) -> Self {
        let socket = TcpStream::connect(host.address).await.unwrap();
        Self::on(socket, host, path)
    }

    pub(crate) fn on(socket: TcpStream, host: &Host, path: &str) -> Self {
        let url = format!("rtsp://{}/{path}", host.address);
        Self { socket, url, buffer: Vec::new(), cseq: 0, session: String::new() }
    }

    pub(crate) async fn send(&mut self, method: &str, url: &str, headers: &str, body: &str) {
        self.cseq += 1;
        let mut text = format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n{}{headers}", self.cseq, self.session);
        if !body.is_empty() {
            text.push_str(&format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n", body.len()));
        }
        self.socket.write_all(format!("{text}\r\n{body}").as_bytes()).await.unwrap();
    }

    pub(crate) async fn frame(&mut self, channel: u8, packet: &[u8]) {
        let mut frame = vec![b'$', channel];
        frame.extend_from_slice(&(packet.len() as u16).to_be_bytes());
        frame.extend_from_slice(packet);
        self.socket.write_all(&frame).await.unwrap();
    }

    /// Sends a request and gives its reply; frames before it are an error unless `frames` takes them.
    pub(crate) async fn ask(&mut self, method: &str, url: &str, headers: &str, body: &str) -> String {
        self.send(method, url, headers, body).await;
        match self.next().await {
            Got::Reply(reply) => {
                assert_eq!(header(&reply, "CSeq").unwrap(), self.cseq.to_string());
                if let Some(session) = header(&reply, "Session") {
                    self.session = format!("Session: {}\r\n", session.split(';').next().unwrap());
                }
                reply
            }
            other => panic!("no reply to {method}: {other:?}"),
        }
    }

    pub(crate) async fn describe(&mut self) -> String {
        let url = self.url.clone();
        self.ask("DESCRIBE", &url, "Accept: application/sdp\r\n", "").await
    }

    /// DESCRIBE and SETUP over TCP of every media. Gives the description.
    pub(crate) async fn set_up(&mut self) -> String {
        let described = self.describe().await;
        assert!(described.starts_with("RTSP/1.0 200"), "{described}");
        for (index, control) in controls(&described).iter().enumerate() {
            let transport =
                format!("Transport: RTP/AVP/TCP;unicast;interleaved={}-{}\r\n", 2 * index, 2 * index + 1);
            let reply = self.ask("SETUP", control, &transport, "").await;
            assert!(reply.starts_with("RTSP/1.0 200"), "{reply}");
        }
        described
    }

    /// All of it up to the reply to PLAY.
    pub(crate) async fn play(&mut self) -> (String, String) {
        let described = self.set_up().await;
        let url = self.url.clone();
        let reply = self.ask("PLAY", &url, "Range: npt=0.000-\r\n", "").await;
        assert!(reply.starts_with("RTSP/1.0 200"), "{reply}");
        (described, reply)
    }

    /// The next reply or frame.
    pub(crate) async fn next(&mut self) -> Got {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("nothing came")
    }

    pub(crate) async fn next_frame(&mut self) -> (u8, Vec<u8>) {
        match self.next().await {
            Got::Frame(channel, packet) => (channel, packet),
            other => panic!("no frame: {other:?}"),
        }
    }

    async fn read(&mut self) -> Got {
        loop {
            if let Some((got, len)) = take(&self.buffer) {
                self.buffer.drain(..len);
                return got;
            }
            if self.socket.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                assert!(self.buffer.is_empty(), "the stream ends inside of something");
                return Got::End;
            }
        }
    }
}

fn take(bytes: &[u8]) -> Option<(Got, usize)> {
    if bytes.first()? == &b'$' {
        let len = 4 + usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
        return Some((Got::Frame(bytes[1], bytes.get(4..len)?.to_vec()), len));
    }
    let text = String::from_utf8_lossy(bytes);
    assert!(
        "RTSP/1.0 ".starts_with(text.get(..9).unwrap_or(&text)),
        "neither reply nor frame: {:?}",
        text.get(..40)
    );
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let body =
        header(&String::from_utf8_lossy(&bytes[..head]), "Content-Length").map_or(0, |v| v.parse().unwrap());
    let all = bytes.get(..head + body)?;
    Some((Got::Reply(String::from_utf8(all.to_vec()).unwrap()), head + body))
}

pub(crate) fn header(reply: &str, name: &str) -> Option<String> {
    let head = reply.split("\r\n\r\n").next()?;
    head.split("\r\n")
        .filter_map(|line| line.split_once(": "))
        .find(|(n, _)| *n == name)
        .map(|(_, v)| v.to_owned())
}

/// Control URLs of the medias.
pub(crate) fn controls(described: &str) -> Vec<String> {
    let medias = described.split("\r\nm=").skip(1);
    medias.map(|m| m.split("a=control:").nth(1).unwrap().lines().next().unwrap().to_owned()).collect()
}

/// `seq` and `rtptime` of each media in RTP-Info.
pub(crate) fn rtp_info(reply: &str) -> Vec<(Option<u16>, Option<u32>)> {
    let info = header(reply, "RTP-Info").unwrap_or_default();
    let number = |part: &str, key: &str| {
        part.split(';').find_map(|field| field.strip_prefix(key).map(|v| v.parse::<u64>().unwrap()))
    };
    info.split(',')
        .map(|part| (number(part, "seq=").map(|v| v as u16), number(part, "rtptime=").map(|v| v as u32)))
        .collect()
}

/// One RTP packet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rtp {
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn rtp(packet: &[u8]) -> Rtp {
    assert_eq!(packet[0], 0x80, "version 2, nothing else");
    Rtp {
        marker: packet[1] & 0x80 != 0,
        payload_type: packet[1] & 0x7f,
        sequence: u16::from_be_bytes([packet[2], packet[3]]),
        timestamp: u32::from_be_bytes(packet[4..8].try_into().unwrap()),
        ssrc: u32::from_be_bytes(packet[8..12].try_into().unwrap()),
        payload: packet[12..].to_vec(),
    }
}

/// NAL units of H.264 packets, one after the other (RFC 6184: single, STAP-A, FU-A).
pub(crate) fn nals(packets: &[Rtp]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for packet in packets {
        let p = &packet.payload;
        match p[0] & 31 {
            24 => {
                let mut rest = &p[1..];
                while rest.len() > 2 {
                    let len = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                    all.push(rest[2..2 + len].to_vec());
                    rest = &rest[2 + len..];
                }
            }
            28 => {
                if p[1] & 0x80 != 0 {
                    all.push(vec![p[0] & 0xe0 | p[1] & 31]);
                }
                all.last_mut().unwrap().extend_from_slice(&p[2..]);
            }
            _ => all.push(p.clone()),
        }
    }
    all
}
