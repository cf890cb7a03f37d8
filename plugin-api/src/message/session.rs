//! What sessions of sources, demuxers and transports say, and what is said to them.

use serde::{Deserialize, Serialize};

use super::{Class, SendTrack, TrackInfo};

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
