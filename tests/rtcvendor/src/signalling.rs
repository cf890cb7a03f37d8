//! The vendor's messages: a JSON text per line, over TCP.

use patchbay_sdk::Error;
use patchbay_sdk::service::webrtc::{Candidate, Role};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Longest line, in bytes.
const MAX_LINE: u64 = 256 << 10;

/// What the vendor marks its sessions with.
const MARK: &str = "a=x-vendor-session:1";

/// A message, either way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// To the camera, first: who makes the first offer.
    Hello {
        /// Of this side.
        role: Role,
    },
    /// A description.
    Offer {
        /// In the vendor's form.
        sdp: String,
    },
    /// A description.
    Answer {
        /// In the vendor's form.
        sdp: String,
    },
    /// A candidate.
    Candidate(Candidate),
    /// From the camera: it has a microphone, too, and wants an offer for it.
    Microphone,
    /// To the camera: somebody speaks, or has ended.
    Loudspeaker {
        /// Somebody speaks.
        on: bool,
    },
    /// To the camera: what came over the data channels.
    Report {
        /// Answers on the channel `control`, all in order.
        control: usize,
        /// Bytes on the channel `events`.
        events: usize,
        /// Texts on the channel that the camera opened, and on the one that nobody announced.
        camera: usize,
    },
}

/// The signalling connection.
pub struct Signalling {
    lines: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    line: Vec<u8>,
}

impl Signalling {
    /// Dials.
    pub async fn connect(address: &str) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Self { lines: BufReader::new(reader), writer, line: Vec::new() })
    }

    /// The camera's next message. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Message, Error> {
        let room = MAX_LINE.saturating_sub(self.line.len() as u64);
        (&mut self.lines).take(room).read_until(b'\n', &mut self.line).await?;
        if self.line.last() != Some(&b'\n') {
            return Err(Error::eof("rtcvendor: the camera has hung up"));
        }
        let line = std::mem::take(&mut self.line);
        serde_json::from_slice(&line).map_err(|error| Error::protocol(format!("rtcvendor: {error}")))
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &Message) -> Result<(), Error> {
        let mut line = serde_json::to_vec(message).map_err(|error| Error::protocol(error.to_string()))?;
        line.push(b'\n');
        Ok(self.writer.write_all(&line).await?)
    }
}

/// With this vendor whoever offers begins, with DTLS and with data channels; its descriptions do not say so (RFC 5763
/// section 5).
fn begins(line: &str) -> &str {
    if line == "a=setup:actpass" { "a=setup:active" } else { line }
}

/// A description as the vendor wants it: marked, with its lines joined by `|`.
pub fn to_vendor(sdp: &str) -> String {
    let mut lines: Vec<&str> = sdp.lines().map(str::trim_end).map(begins).collect();
    let media = lines.iter().position(|line| line.starts_with("m=")).unwrap_or(lines.len());
    lines.insert(media, MARK);
    lines.join("|")
}

/// A description of the vendor as everybody else writes it.
pub fn from_vendor(sdp: &str) -> String {
    let lines = sdp.split('|').map(str::trim).filter(|line| !line.is_empty() && *line != MARK);
    lines.map(begins).map(|line| format!("{line}\r\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_go_there_and_back() {
        let sdp = "v=0\r\ns=-\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=setup:active\r\n";
        let vendor = to_vendor(&sdp.replace("active", "actpass"));
        assert_eq!(vendor, "v=0|s=-|a=x-vendor-session:1|m=video 9 UDP/TLS/RTP/SAVPF 96|a=setup:active");
        assert_eq!(from_vendor(&vendor), sdp);
    }

    #[test]
    fn messages_are_what_the_camera_writes() {
        let message: Message =
            serde_json::from_str(r#"{"type":"candidate","candidate":"candidate:1","sdpMLineIndex":0}"#)
                .unwrap();
        let Message::Candidate(candidate) = message else { panic!("{message:?}") };
        assert_eq!(candidate.sdp_m_line_index, Some(0));
        let hello = serde_json::to_string(&Message::Hello { role: Role::Answerer }).unwrap();
        assert_eq!(hello, r#"{"type":"hello","role":"answerer"}"#);
    }
}
