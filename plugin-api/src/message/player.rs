//! What outputs, servers and routes say for their players, and what every plugin may say of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Connection, SendTrack, TrackInfo};

/// How a viewer starts. A word that the reader does not know is `live`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum History {
    /// The same with their own times.
    Raw,
    /// Nothing: start at the next key unit.
    None,
    /// Only the newest key unit, as a still.
    Keyframe,
    /// Units from the newest key unit on, squeezed in time to end at now.
    #[default]
    #[serde(other)]
    Live,
}

/// A viewer of an output.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Join {
    /// Comes back in the history chunk.
    pub join: u64,
    /// How to start.
    pub history: History,
}

/// What an output makes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutputInfo {
    /// Content type with codecs.
    pub mime: String,
}

/// A consumer's wish.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Consume {
    /// Name of the stream, or a source URL that the API may create.
    pub stream: String,
    /// Codec filters as in a URL (`video=h264&audio`); used when `medias` is empty.
    pub query: String,
    /// What it takes, in order.
    pub medias: Vec<Media>,
    /// For `/api/streams`.
    pub connection: Connection,
    /// Loop guard: a source with this text is not used.
    pub source: String,
    /// Give up after so long without tracks; 0: 10 s.
    pub timeout_ms: u64,
    /// What it is for: `live` (when empty), `record`, `still` or `background`. A sleeping camera is woken for the first alone.
    pub class: String,
}

/// One thing a consumer takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Media {
    /// `video` or `audio`.
    pub kind: String,
    /// FFmpeg's codec names in the order of preference; `any`: one track of whatever; `all`: every track.
    pub codecs: Vec<String>,
}

/// A track that a consumer or output reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BoundTrack {
    /// Source id for `read`, `locate`, `track_config`.
    pub source: u64,
    /// Epoch of `info`.
    pub epoch: u32,
    /// The track; `info.id` is its bit in the mask.
    pub info: TrackInfo,
}

/// What a consumer may read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bound {
    /// In the order of the consumer's medias.
    pub tracks: Vec<BoundTrack>,
    /// What the cameras behind the stream accept, as far as they are connected: what [`super::event::TALK`] may offer. Behind it, with a
    /// sample rate of 0, codecs that are transcoded to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub send: Vec<SendTrack>,
}

/// Counters of a consumer.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerCounters {
    /// Bytes sent since it was bound.
    pub bytes: u64,
    /// Units sent.
    pub packets: u64,
    /// Units dropped because it was slow.
    pub drops: u64,
}

/// A publisher's wish.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Publish {
    /// Name of the stream.
    pub stream: String,
    /// For `/api/streams`.
    pub connection: Connection,
}

/// A bound listener.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Listening {
    /// `rtsp`.
    pub protocol: String,
    /// As configured, with the port that was bound.
    pub addr: String,
    /// For `GET /api`: what goes under the protocol's name.
    pub info: serde_json::Map<String, serde_json::Value>,
}

/// Head of an HTTP answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub headers: Vec<(String, String)>,
}

/// Bytes that were handed over once ([`crate::abi::chunk_flags::BLOB`]) and are sent to many.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Blobs {
    /// Ids that the plugin chose.
    pub ids: Vec<u64>,
}

/// Puts the client of a route on an output.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Serve {
    /// Who and what.
    pub consume: Consume,
    /// Output format of any plugin.
    pub format: String,
    /// Mux options.
    pub options: BTreeMap<String, String>,
    /// How it starts; a still ends after one chunk and gets a `Content-Length`.
    pub history: History,
    /// Extra header fields of the answer.
    pub headers: Vec<(String, String)>,
    /// Content type that replaces the output's; an empty one leaves the value of the WebSocket message out.
    pub content_type: Option<String>,
    /// The answer ends after so many seconds; 0: never.
    pub duration_s: u64,
    /// Type of the text message that carries the MIME type (WebSocket).
    pub ws_type: String,
}

/// Counters of a plugin, added up by name in `/metrics` as `patchbay_plugin_NAME{plugin="..."}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Name to value; names are `[a-z_]+`, values only grow.
    pub counters: BTreeMap<String, u64>,
}

/// A `tracing` event on its way to the host's log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogEvent {
    /// The message.
    pub message: String,
    /// Fields of the event and its spans.
    pub fields: serde_json::Map<String, serde_json::Value>,
}
