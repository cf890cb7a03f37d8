//! Tracks: those that a source sends, and those that a camera accepts.

use serde::{Deserialize, Serialize};

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
