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

use serde::{Deserialize, Serialize};

mod open;
mod player;
mod service;
mod session;
mod talk;
mod track;

pub use open::{
    DemuxerOpen, OutputOpen, Raw, RouteOpen, ServerOpen, SinkOpen, SocketMessage, SourceOpen, TransportOpen,
};
pub use player::{
    Blobs, Bound, BoundTrack, Consume, ConsumerCounters, Counters, History, Join, Listening, LogEvent, Media,
    OutputInfo, Publish, Response, Serve,
};
pub use session::{Clock, Connection, Credit, Demand, Ended, Head, Seek, TrackChanged, Tracks};
pub use talk::{Talk, TalkEnd, TalkOpen};
pub use track::{SendTrack, TrackInfo};

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
