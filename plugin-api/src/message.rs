//! What `open`, `command` and `emit` carry.
//!
//! Payloads are JSON objects (UTF-8) of the structs here unless a kind says "bytes". Unknown fields are ignored and missing ones
//! have defaults, so that fields can be added; a field that is there has its type (`null` only where the type is an `Option`).
//! Numbers are JSON integers, ids exact to all 64 bits. A word that the reader does not know means what the field says of it; a
//! kind that it does not know is passed over. Bytes within JSON are base64 (RFC 4648 section 4, with padding).
//!
//! Session ids: the host chooses them for `open`, the plugin (with [`PLUGIN_ID`] set) for [`event::CONSUME`],
//! [`event::PUBLISH`], [`event::TALK`] and [`event::CALL`].
//!
//! ```text
//! source, demuxer:  open ▶ TRACKS ◀  DEMAND ▶  push ◀ ...  ENDED ◀      (DATA, DATA_END ▶ for demuxers)
//! transport:        open ▶ HEAD ◀  write ◀ ...  WRITABLE ▶  ENDED ◀
//! output:           open ▶ OUTPUT ◀  write(INIT) ◀ write ◀ ...  JOIN ▶ write(HISTORY) ◀
//! server:           open ▶ LISTENING ◀   CONSUME ◀ BOUND ▶ (read ◀) DETACH ◀   PUBLISH ◀ ACCEPTED ▶ TRACKS, push ◀
//! talk:             a server: TALK ◀ ACCEPTED ▶ push ◀ ... DETACH ◀   the camera's source: TALK ▶ (read ◀) TALK_END ▶
//! service:          open ▶ ANSWER ◀  CALL ▶ ...     caller: CALL ◀ ANSWER ▶ CALL ◀ ... DETACH ◀ or REFUSED ▶
//! routes (raw):     open ▶ RAW ▶ ... ENDED ◀
//! routes:           open ▶ RESPONSE ◀ + write, BLOBS ◀ + ENDED ◀   or   SERVE ◀   or   MESSAGE ◀ ... ENDED ◀
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod service;

pub use service::{
    Answer, CALL_WINDOW, Call, DELEGATED, HOST_SERVICE, MAX_CALL, MAX_CALLS, ServiceOpen, split_bytes,
    with_bytes,
};

/// Set in ids that a plugin chooses.
pub const PLUGIN_ID: u64 = 1 << 63;

/// Roles a plugin may have: the `role` of `open`.
pub mod role {
    /// URL to tracks and units.
    pub const SOURCE: u32 = 1;
    /// Bytes to tracks and units.
    pub const DEMUXER: u32 = 2;
    /// URL to bytes.
    pub const TRANSPORT: u32 = 3;
    /// Tracks to a byte stream that the host fans out.
    pub const OUTPUT: u32 = 4;
    /// Its own listeners.
    pub const SERVER: u32 = 5;
    /// HTTP requests and WebSocket messages.
    pub const ROUTES: u32 = 6;
    /// A stream to a URL.
    pub const SINK: u32 = 7;
    /// Calls of other plugins.
    pub const SERVICE: u32 = 8;
}

/// Commands: host to plugin.
pub mod command {
    /// [`super::Demand`] to a source, demuxer or publisher; empty tracks: stop sending.
    pub const DEMAND: u32 = 1;
    /// A key unit is wanted now (no payload); at most once a second.
    pub const KEYFRAME: u32 = 2;
    /// [`super::Credit`]: so many bytes of `write`, or behind calls or answers, were taken.
    pub const WRITABLE: u32 = 4;
    /// [`super::Seek`] to a transport that said it can: drop what is under way, go on from there.
    pub const SEEK: u32 = 5;
    /// Bytes for a demuxer (after a seek: the first bytes at the new offset, see [`DATA_AT`]).
    pub const DATA: u32 = 6;
    /// No more bytes for a demuxer: [`super::Ended`] of the transport.
    pub const DATA_END: u32 = 7;
    /// [`super::Join`] to an output: a viewer arrives.
    pub const JOIN: u32 = 8;
    /// [`super::Bound`] to a consumer: what it may read, again whenever that changes.
    pub const BOUND: u32 = 9;
    /// [`super::Ended`] to a consumer, publisher, talker or caller: refused, or over.
    pub const REFUSED: u32 = 10;
    /// Bytes of a request body.
    pub const BODY: u32 = 11;
    /// The request body is complete (no payload).
    pub const BODY_END: u32 = 12;
    /// A publisher was taken (no payload): send tracks and units. A talker was: send units.
    pub const ACCEPTED: u32 = 13;
    /// [`super::Seek`]: the next [`DATA`] starts at this offset.
    pub const DATA_AT: u32 = 14;
    /// Answer with [`super::event::PONG`] and the same payload, from the plugin's own runtime.
    pub const PING: u32 = 15;
    /// To session 0: the highest log level wanted from now on, as JSON number.
    pub const LOG_LEVEL: u32 = 16;
    /// To a server (no payload): another instance takes over. Stop listening, say so with
    /// [`super::event::DRAINING`], and end when the last client has left.
    pub const DRAIN: u32 = 17;
    /// [`super::TalkOpen`] to a source: somebody speaks to its camera. One at a time; a new one replaces the one before.
    pub const TALK: u32 = 18;
    /// [`super::TalkEnd`] to a source: that talk is over.
    pub const TALK_END: u32 = 19;
    /// [`super::Call`] to a service: a further one of its conversation; with bytes as [`super::with_bytes`] says.
    pub const CALL: u32 = 20;
    /// [`super::Answer`] to whoever called a service; with bytes as [`super::with_bytes`] says.
    pub const ANSWER: u32 = 21;
    /// [`super::Raw`] to a route that was opened with [`super::RouteOpen::raw`], once and before anything else: the client's
    /// connection, from its first byte on. The descriptor is the host's and is closed when the call has returned: take a
    /// duplicate within it (`dup`; [`crate::host::duplicate`]).
    pub const RAW: u32 = 22;
}

/// Events: plugin to host.
pub mod event {
    /// [`super::Tracks`] of a source, demuxer or publisher; may come again with more tracks. Of a transport: with `send` alone, it
    /// brings no bytes but takes what players say.
    pub const TRACKS: u32 = 1;
    /// [`super::TrackChanged`]: a new configuration epoch of one track; comes before the first unit that names it.
    pub const TRACK: u32 = 2;
    /// [`super::Clock`]: wall time of a track.
    pub const CLOCK: u32 = 3;
    /// [`super::Ended`]: the session is over; nothing follows.
    pub const ENDED: u32 = 4;
    /// [`super::Head`] of a transport, before its first bytes.
    pub const HEAD: u32 = 6;
    /// [`super::Seek`]: a demuxer wants its bytes from another offset; a transport goes on from there with its next write.
    pub const SEEK: u32 = 7;
    /// [`super::Credit`]: a demuxer or request took so many bytes of [`super::command::DATA`] or `BODY`, a service or its
    /// caller of those behind calls or answers.
    pub const CONSUMED: u32 = 8;
    /// [`super::OutputInfo`] of an output, before its init chunk and again when it changes.
    pub const OUTPUT: u32 = 9;
    /// [`super::Response`] head of a route; `write` and `ENDED` follow.
    pub const RESPONSE: u32 = 10;
    /// [`super::Serve`]: put this client on an output of the host's hub.
    pub const SERVE: u32 = 11;
    /// [`super::Consume`] under a new plugin-chosen id; answered by `BOUND` or `REFUSED`.
    pub const CONSUME: u32 = 12;
    /// [`super::ConsumerCounters`] of a consumer.
    pub const CONSUMER: u32 = 13;
    /// [`super::Publish`] under a new plugin-chosen id; answered by `ACCEPTED` or `REFUSED`.
    pub const PUBLISH: u32 = 14;
    /// A consumer, publisher, talker or caller has left (no payload, or [`super::Ended`]).
    pub const DETACH: u32 = 15;
    /// [`super::Listening`]: a listener of a server is bound.
    pub const LISTENING: u32 = 16;
    /// The payload of a ping.
    pub const PONG: u32 = 17;
    /// [`super::Counters`] of the plugin for `/metrics`.
    pub const METRICS: u32 = 18;
    /// [`super::Blobs`] after the [`RESPONSE`] of a route: its body goes on with these blobs, in this order. The client may ask for
    /// ranges of it. When one is not there (any more) the client gets 404.
    pub const BLOBS: u32 = 19;
    /// [`super::Blobs`] to session 0: the host forgets them once what is being sent is sent.
    pub const DROP_BLOBS: u32 = 20;
    /// A server no longer listens (no payload); its clients go on.
    pub const DRAINING: u32 = 21;
    /// [`super::SocketMessage`] of a route to its client on `/api/ws`; as many as it likes, then `ENDED`.
    pub const MESSAGE: u32 = 22;
    /// [`super::Connection`] of a consumer, when more is known of it than before; empty fields change nothing.
    pub const CONNECTION: u32 = 23;
    /// [`super::Talk`] under a new plugin-chosen id; answered by `ACCEPTED` (then units may be pushed) or `REFUSED`, which also
    /// ends it.
    pub const TALK: u32 = 24;
    /// [`super::Call`] under a plugin-chosen id: the first one is answered by `ANSWER` or `REFUSED`.
    pub const CALL: u32 = 25;
    /// [`super::Answer`] of a service.
    pub const ANSWER: u32 = 26;
    /// A consumer cannot go on without a key unit (no payload): its sources are asked for one, at most once a second.
    pub const KEYFRAME: u32 = 27;
}

/// Class of an error: decides what the host does next. One that the reader does not know is `protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Class {
    /// The login was refused.
    Auth,
    /// No such camera, path or stream.
    NotFound,
    /// The other side has too many sessions: the back-off starts at 10 s.
    Busy,
    /// What was asked is not possible here.
    Unsupported,
    /// Nothing came in time.
    Timeout,
    /// The stream came to its end.
    Eof,
    /// The camera sleeps and was not woken for a `record`, `still` or `background` demand.
    Asleep,
    /// The other side broke its protocol.
    #[default]
    #[serde(other)]
    Protocol,
}

/// `open` of a source.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceOpen {
    /// The URL with its `#options`, as configured.
    pub url: String,
    /// What it is dialled for: a class of [`Demand`]. A camera that sleeps to save its battery may end with
    /// [`Class::Asleep`] instead of waking up, unless it is `live` or `talk`.
    pub class: String,
}

/// `open` of a sink: it consumes the stream by itself ([`event::CONSUME`]) and sends it to the URL until it is closed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkOpen {
    /// Where to, with `#options`.
    pub url: String,
    /// The stream.
    pub stream: String,
}

/// `open` of a demuxer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DemuxerOpen {
    /// Format of the plugin's manifest that matched.
    pub format: String,
    /// The source's URL with its `#options`.
    pub url: String,
    /// The transport's head.
    pub head: Head,
}

/// `open` of a transport.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TransportOpen {
    /// The URL with its `#options`, as configured.
    pub url: String,
    /// Listeners of other plugins, as configured, with the port that was bound: protocol to address.
    pub endpoints: BTreeMap<String, String>,
}

/// `open` of an output.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OutputOpen {
    /// Format of the plugin's manifest.
    pub format: String,
    /// The tracks, in the order of the mux; the index is the `track` of patches and starts.
    pub tracks: Vec<BoundTrack>,
    /// Mux options, part of what makes two viewers share one run.
    pub options: BTreeMap<String, String>,
}

/// `open` of a server: nothing; its settings came with `start`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerOpen {}

/// `open` of a route: one HTTP request, or one message on `/api/ws`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteOpen {
    /// The route's `path` (or `ws` type) in the manifest.
    pub route: String,
    /// Method; empty for a WebSocket message.
    pub method: String,
    /// Path below the base path.
    pub path: String,
    /// Raw query string without `?`.
    pub query: String,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// `ip:port` of the client.
    pub remote: String,
    /// Value of the WebSocket message, when it had one.
    pub value: Option<serde_json::Value>,
    /// Tells messages of one WebSocket connection from those of others; 0 for a request.
    pub socket: u64,
    /// A connection of another protocol on the host's port ([`crate::manifest::Raw`]): [`command::RAW`] brings it, the host
    /// reads and writes nothing, and `ENDED` says that the plugin is done with it. `route` is what it matched.
    pub raw: bool,
    /// `ip:port` of the host's end, of a raw connection; empty over a Unix socket, as `remote` is.
    pub local: String,
    /// The raw connection came over TLS, which the host has taken off.
    pub tls: bool,
    /// The host would have asked this client for its login: the plugin has to ask for its own, or refuse.
    pub login: bool,
}

/// A connection that is handed over.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Raw {
    /// Number of a connected stream socket in the plugin's process: TCP or Unix, non-blocking or not.
    pub fd: i32,
}

/// A text message to the client of a route on `/api/ws`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SocketMessage {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its value.
    pub value: serde_json::Value,
}

/// One track of a source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrackInfo {
    /// Id within the source, below 64.
    pub id: u32,
    /// `video`, `audio` or `data`.
    pub kind: String,
    /// FFmpeg's name of the codec; empty: not known yet.
    pub codec: String,
    /// Ticks per second of `pts`, `dts`, `duration`.
    pub clock_rate: u32,
    /// FFmpeg's extradata in base64: avcC, hvcC, AudioSpecificConfig, OpusHead; empty when none or not known yet.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub extradata: String,
    /// Pixels, 0 unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub width: u32,
    /// Pixels, 0 unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub height: u32,
    /// Samples per second of decoded audio, 0 for video.
    #[serde(skip_serializing_if = "is_zero")]
    pub sample_rate: u32,
    /// Channels of decoded audio, 0 for video.
    #[serde(skip_serializing_if = "is_zero")]
    pub channels: u32,
    /// For people: the lens, the language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// A track that the camera accepts (two-way audio).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SendTrack {
    /// FFmpeg's name of the codec.
    pub codec: String,
    /// Samples per second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
    /// Wanted length of a packet.
    pub packet_ms: u32,
}

/// Sound of a player for the camera of a stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Talk {
    /// Name of the stream.
    pub stream: String,
    /// Id of the consumer of the same player, for `/api/streams`; 0: it only talks.
    pub consumer: u64,
    /// What will be pushed, as track 0: codec, clock rate, sample rate and channels are known.
    pub track: TrackInfo,
    /// It is refused where it would have to be transcoded: there is something else to offer.
    pub exact: bool,
    /// For `/api/streams`, when there is no consumer.
    pub connection: Connection,
}

/// A talk that a source is to pass on to its camera.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TalkOpen {
    /// Source id for `read`, `locate`, `track_config`.
    pub source: u64,
    /// Index in the `send` of the source's last [`Tracks`].
    pub send: u32,
    /// What is read; its id is that of the track in the source, which may have others.
    pub track: TrackInfo,
}

/// The end of a talk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TalkEnd {
    /// The `source` of its [`TalkOpen`].
    pub source: u64,
}

/// Tracks of a source, and what its connection looks like.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tracks {
    /// What it sends.
    pub receive: Vec<TrackInfo>,
    /// What it accepts.
    pub send: Vec<SendTrack>,
    /// No more tracks will come.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// For `/api/streams`.
    pub connection: Connection,
    /// Units are known to come as fast as they are read (a file): nothing is lost by waiting.
    pub paced: bool,
    /// Times are on the host's clock: those of units that were read from rings, passed on. They are kept as they are.
    pub placed: bool,
}

/// What `/api/streams` says of a connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// `rtsp`, `mpegts`, `mp4` ...
    #[serde(skip_serializing_if = "String::is_empty")]
    pub format_name: String,
    /// `rtsp+tcp`, `http`, `file` ...
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// `ip:port`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_addr: String,
    /// Resolved source.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Session description.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sdp: String,
    /// The peer's name of itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
}

/// A new configuration of one track.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TrackChanged {
    /// The session's next epoch of this track: 1, 2, ...
    pub epoch: u32,
    /// The whole new description.
    pub track: TrackInfo,
}

/// Which tracks somebody wants.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Demand {
    /// Track ids; empty: nobody wants anything for now.
    pub tracks: Vec<u32>,
    /// The most urgent of its consumers: `live`, `talk`, `record`, `still` or `background`.
    pub class: String,
}

/// Wall time of a track (from RTCP sender reports).
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Clock {
    /// Track id.
    pub track: u32,
    /// Presentation time in the session's ticks.
    pub pts: i64,
    /// The same instant, ns since 1970 UTC.
    pub unix_ns: i64,
}

/// Why something is over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ended {
    /// What kind of end.
    pub class: Class,
    /// For people: what was done, to whom, what to try.
    pub message: String,
    /// Do not dial again sooner, ms.
    pub retry_after_ms: u64,
}

/// What a transport knows of its bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Head {
    /// MIME type, empty unknown.
    pub mime: String,
    /// Format name that is known without looking (`mpegts`), empty unknown.
    pub hint: String,
    /// Size in bytes, when it is known.
    pub size: Option<u64>,
    /// `SEEK` works.
    pub seekable: bool,
    /// Bytes come as they are made, not as fast as they are read: the demuxer must not pace them.
    pub live: bool,
    /// No bytes will be written: a publisher of a stream of this name, which need not be one, brings the tracks. `ACCEPTED`
    /// follows when it has come.
    pub expect: String,
    /// For `/api/streams`.
    pub connection: Connection,
}

/// A position in a transport's bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Seek {
    /// Bytes from the start.
    pub offset: u64,
}

/// Bytes taken from a window.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Credit {
    /// How many.
    pub bytes: u64,
}

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
    /// What the cameras behind the stream accept, as far as they are connected: what [`event::TALK`] may offer. Behind it, with a
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_later_versions_are_understood_as_the_usual_ones() {
        let ended: Ended = serde_json::from_str(r#"{"class":"tired","message":"zzz","since":4}"#).unwrap();
        assert_eq!((ended.class, ended.message.as_str()), (Class::Protocol, "zzz"));
        let join: Join = serde_json::from_str(r#"{"join":3,"history":"backwards"}"#).unwrap();
        assert_eq!((join.join, join.history), (3, History::Live));
        for class in ["auth", "not_found", "busy", "unsupported", "protocol", "timeout", "eof", "asleep"] {
            let read: Class = serde_json::from_value(class.into()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), class);
        }
        for history in ["live", "raw", "none", "keyframe"] {
            let read: History = serde_json::from_value(history.into()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), history);
        }
    }
}
