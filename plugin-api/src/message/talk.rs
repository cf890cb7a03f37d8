//! Two-way audio: from a player to the host, and from the host to the camera's source.

use serde::{Deserialize, Serialize};

use super::{Connection, TrackInfo};

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
    /// Index in the `send` of the source's last [`super::Tracks`].
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
