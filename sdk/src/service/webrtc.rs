//! The service `webrtc`: a camera whose vendor speaks WebRTC is two things, signalling, which is the vendor's plugin, and the
//! connection, which is this service's. Media goes from the connection into the ring of the vendor's source; the vendor's
//! plugin sees descriptions, candidates, states and what comes over data channels.
//!
//! ```text
//! role offerer                              role answerer
//!   open ▶                                    open ▶
//!   ◀ offer      (rewrite it, send it)        offer ▶      (as received, rewritten)
//!   answer ▶     (as received, rewritten)     ◀ answer     (rewrite it, send it)
//!   candidate ◀▶ ...                          candidate ◀▶ ...
//!   ◀ state connecting, connected             ◀ state connecting, connected
//!   send ▶  ◀ data, channel                   send ▶  ◀ data, channel
//!   renegotiate ▶ ◀ offer, answer ▶           offer ▶ ◀ answer   (the other side renegotiates)
//! ```
//!
//! The service announces the tracks that the camera sends when it is connected, again when there are more after a
//! renegotiation, and asks for key units. When the connection fails or closes the conversation ends with the reason.
//!
//! | method, to the service | value |
//! |---|---|
//! | `open` | [`Open`] |
//! | `offer`, `answer` | `{"sdp"}`: the other side's |
//! | `candidate` | [`Candidate`]: the other side's; an empty text is passed over |
//! | `send` | `{"channel", "text"}` and bytes: a message on a data channel |
//! | `renegotiate` | [`Renegotiate`]: a new offer follows |
//! | `close` | nothing |
//!
//! | method, from the service | value |
//! |---|---|
//! | `offer`, `answer` | `{"sdp"}`: this side's, with candidates unless [`Open::trickle`] |
//! | `candidate` | [`Candidate`]: this side's, with [`Open::trickle`]; an empty text: that was all |
//! | `state` | `{"state"}`: `connecting`, `connected`, `disconnected` |
//! | `channel` | `{"channel", "label", "protocol", "ordered", "open"}`: a data channel opened or closed |
//! | `talk` | `{"active"}`: a player begins to speak to the camera, or has ended: some cameras are to be told |
//! | `data` | `{"channel", "text"}` and bytes: a message on a data channel |
//!
//! Data channels are numbered: those of [`Open::channels`] from 0, then those that the other side opens.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Conversation, Message, Sender};
use crate::error::Error;
use crate::source::Session;

/// Name of the service.
pub const SERVICE: &str = "webrtc";

/// Longest message on a data channel, in bytes.
pub const MAX_DATA: usize = 256 << 10;

/// Most data channels of a connection.
pub const MAX_CHANNELS: usize = 64;

/// Who makes the first offer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The service.
    #[default]
    Offerer,
    /// The camera, or its cloud.
    Answerer,
}

/// Who sends in a media section, seen from the service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The camera.
    #[default]
    RecvOnly,
    /// Both: the camera takes talk.
    SendRecv,
    /// This side.
    SendOnly,
    /// Nobody, for now.
    Inactive,
}

/// A media section of an offer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Media {
    /// `audio` or `video`.
    pub kind: String,
    /// Who sends.
    pub direction: Direction,
    /// FFmpeg's codec names, the best first (`h264`, `hevc`, `opus`, `pcm_mulaw`, `pcm_alaw`); none: all that are known.
    pub codecs: Vec<String>,
    /// Length of the packets of G.711 that the camera wants, when this side sends; 0: 20 ms.
    pub packet_ms: u32,
}

impl Media {
    /// A section in which the camera sends any codec.
    pub fn receive(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
    }
}

/// A data channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Channel {
    /// Its label.
    pub label: String,
    /// Its subprotocol, empty: none.
    pub protocol: String,
    /// Messages come in order.
    pub ordered: bool,
    /// Partly reliable: a message is sent again so often.
    pub max_retransmits: Option<u16>,
    /// Partly reliable: a message is sent again for so long, ms. Not together with `max_retransmits`.
    pub max_packet_life_time: Option<u16>,
    /// Both sides know of it, under this id; none: the other side is told in the channel itself (RFC 8832).
    pub negotiated: Option<u16>,
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            label: String::new(),
            protocol: String::new(),
            ordered: true,
            max_retransmits: None,
            max_packet_life_time: None,
            negotiated: None,
        }
    }
}

/// STUN or TURN servers with one login.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IceServer {
    /// `stun:host:port`, `turn:host:port?transport=udp`.
    pub urls: Vec<String>,
    /// Login name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServer").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// What to connect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Open {
    /// Who makes the first offer.
    pub role: Role,
    /// STUN and TURN servers; none given: those of the user's configuration.
    pub ice_servers: Option<Vec<IceServer>>,
    /// Descriptions are told at once and candidates one by one; else descriptions wait for their candidates.
    pub trickle: bool,
    /// The offer's media sections, in this order; that of the data channels comes last. As an answerer: the codecs that are
    /// accepted, by kind.
    pub medias: Vec<Media>,
    /// Data channels that this side opens.
    pub channels: Vec<Channel>,
    /// What `/api/streams` says of the connection: `format_name`, empty: `webrtc`.
    pub format_name: String,
    /// What it says of the way of the signalling: `ws`, `mqtt`, `https` ...
    pub signalling: String,
}

/// A candidate, as browsers write it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Candidate {
    /// `candidate:...`; empty: there are no more.
    pub candidate: String,
    /// Its section by name.
    #[serde(rename = "sdpMid", skip_serializing_if = "Option::is_none")]
    pub sdp_mid: Option<String>,
    /// Its section by number.
    #[serde(rename = "sdpMLineIndex", skip_serializing_if = "Option::is_none")]
    pub sdp_m_line_index: Option<u16>,
}

/// What a renegotiation changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Renegotiate {
    /// Sections that are added.
    pub medias: Vec<Media>,
    /// New credentials and candidates.
    pub ice_restart: bool,
}

/// A description.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Description {
    /// Its text.
    pub sdp: String,
}

/// Which data channel a message is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Data {
    /// Number of the channel.
    pub channel: u32,
    /// It is text (UTF-8), not bytes.
    pub text: bool,
}

/// A data channel that opened or closed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelState {
    /// Its number.
    pub channel: u32,
    /// Its label.
    pub label: String,
    /// Its subprotocol.
    pub protocol: String,
    /// Messages come in order.
    pub ordered: bool,
    /// It is open; else closed for good.
    pub open: bool,
}

/// State of the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// Not up yet.
    #[default]
    Connecting,
    /// Media and data flow.
    Connected,
    /// Nothing has come for a while; it may come back.
    Disconnected,
}

/// `state`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateChange {
    /// The state.
    pub state: State,
}

/// `talk`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TalkChange {
    /// A player speaks.
    pub active: bool,
}

/// What the service tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// This side's offer: send it.
    Offer(String),
    /// This side's answer: send it.
    Answer(String),
    /// A candidate of this side: send it.
    Candidate(Candidate),
    /// How the connection is.
    State(State),
    /// A player begins to speak to the camera, or has ended.
    Talk(bool),
    /// A data channel opened or closed.
    Channel(ChannelState),
    /// A message on a data channel.
    Data(Data, Bytes),
    /// Something that this sdk does not know.
    Other(Message),
}

impl Event {
    /// Reads what the service sent.
    pub fn from_message(message: Message) -> Result<Self, Error> {
        Ok(match message.method.as_str() {
            "offer" => Self::Offer(message.parse::<Description>()?.sdp),
            "answer" => Self::Answer(message.parse::<Description>()?.sdp),
            "candidate" => Self::Candidate(message.parse()?),
            "state" => Self::State(message.parse::<StateChange>()?.state),
            "talk" => Self::Talk(message.parse::<TalkChange>()?.active),
            "channel" => Self::Channel(message.parse()?),
            "data" => {
                let bytes = message.bytes.clone().unwrap_or_default();
                Self::Data(message.parse()?, bytes)
            }
            _ => Self::Other(message),
        })
    }
}

/// A connection that the service holds for this plugin. Dropping it ends the connection.
pub struct Peer {
    conversation: Conversation,
    calls: Calls,
}

/// The way to the service. Cheap to clone.
#[derive(Clone)]
pub struct Calls(Sender);

impl Peer {
    /// Has the service make a connection that feeds `session`.
    pub fn open(session: &Session, open: &Open) -> Result<Self, Error> {
        let conversation = session.call(SERVICE, "open", open)?;
        let calls = Calls(conversation.calls());
        Ok(Self { conversation, calls })
    }

    /// What comes next; an error when the connection is over, with the reason.
    pub async fn next(&mut self) -> Result<Event, Error> {
        Event::from_message(self.conversation.next().await?)
    }

    /// The way to the service.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }
}

impl Calls {
    /// The other side's offer.
    pub fn offer(&self, sdp: &str) -> Result<(), Error> {
        self.0.send("offer", &Description { sdp: sdp.to_owned() })
    }

    /// The other side's answer.
    pub fn answer(&self, sdp: &str) -> Result<(), Error> {
        self.0.send("answer", &Description { sdp: sdp.to_owned() })
    }

    /// A candidate of the other side.
    pub fn candidate(&self, candidate: &Candidate) -> Result<(), Error> {
        self.0.send("candidate", candidate)
    }

    /// Sends a message on an open data channel, as soon as those before it were taken.
    pub async fn send(&self, data: Data, bytes: &[u8]) -> Result<(), Error> {
        self.0.send_bytes("send", &data, bytes).await
    }

    /// Negotiates anew: [`Event::Offer`] follows.
    pub fn renegotiate(&self, change: &Renegotiate) -> Result<(), Error> {
        self.0.send("renegotiate", change)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_may_say_little() {
        let open: Open = serde_json::from_value(json!({
            "role": "answerer", "medias": [{"kind": "audio", "direction": "sendrecv"}], "channels": [{"label": "x", "ordered": false}]
        }))
        .unwrap();
        assert_eq!((open.role, open.ice_servers, open.trickle), (Role::Answerer, None, false));
        assert_eq!(open.medias[0].direction, Direction::SendRecv);
        assert!(!open.channels[0].ordered && open.channels[0].max_retransmits.is_none());
    }

    #[test]
    fn messages_become_events() {
        let message = |method: &str, value, bytes| Message { method: method.to_owned(), value, bytes };
        let candidate = Event::from_message(message(
            "candidate",
            json!({"candidate": "candidate:1", "sdpMLineIndex": 0}),
            None,
        ));
        let Ok(Event::Candidate(candidate)) = candidate else { panic!("{candidate:?}") };
        assert_eq!((candidate.sdp_m_line_index, candidate.sdp_mid), (Some(0), None));
        let data = message("data", json!({"channel": 2, "text": true}), Some(Bytes::from_static(b"hi")));
        let expected = Event::Data(Data { channel: 2, text: true }, Bytes::from_static(b"hi"));
        assert_eq!(Event::from_message(data), Ok(expected));
        assert!(Event::from_message(message("state", json!({"state": 7}), None)).is_err());
        assert!(matches!(Event::from_message(message("weather", json!(null), None)), Ok(Event::Other(_))));
    }
}
