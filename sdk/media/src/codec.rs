//! Names and parameters of codecs.

use bytes::Bytes;

/// What a track is for the viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// Anything else, such as ONVIF metadata.
    Data,
}

/// A codec, by FFmpeg's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // the names are FFmpeg's
pub enum Codec {
    H264,
    Hevc,
    Av1,
    Vp8,
    Vp9,
    Mjpeg,
    Rawvideo,
    Mpeg4,
    Aac,
    Opus,
    Mp2,
    Mp3,
    Flac,
    PcmAlaw,
    PcmMulaw,
    PcmS16be,
    PcmS16le,
    PcmS24be,
    PcmU8,
    AdpcmG722,
    AdpcmG726,
}

const NAMES: [(Codec, &str); 21] = [
    (Codec::H264, "h264"),
    (Codec::Hevc, "hevc"),
    (Codec::Av1, "av1"),
    (Codec::Vp8, "vp8"),
    (Codec::Vp9, "vp9"),
    (Codec::Mjpeg, "mjpeg"),
    (Codec::Rawvideo, "rawvideo"),
    (Codec::Mpeg4, "mpeg4"),
    (Codec::Aac, "aac"),
    (Codec::Opus, "opus"),
    (Codec::Mp2, "mp2"),
    (Codec::Mp3, "mp3"),
    (Codec::Flac, "flac"),
    (Codec::PcmAlaw, "pcm_alaw"),
    (Codec::PcmMulaw, "pcm_mulaw"),
    (Codec::PcmS16be, "pcm_s16be"),
    (Codec::PcmS16le, "pcm_s16le"),
    (Codec::PcmS24be, "pcm_s24be"),
    (Codec::PcmU8, "pcm_u8"),
    (Codec::AdpcmG722, "adpcm_g722"),
    (Codec::AdpcmG726, "adpcm_g726"),
];

impl Codec {
    /// FFmpeg's name, as used across the plugin ABI.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(codec, _)| *codec == self).map_or("", |(_, name)| name)
    }

    /// The codec with FFmpeg's name `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, n)| *n == name).map(|(codec, _)| *codec)
    }

    /// Video or audio.
    pub fn kind(self) -> Kind {
        match self {
            Self::H264
            | Self::Hevc
            | Self::Av1
            | Self::Vp8
            | Self::Vp9
            | Self::Mjpeg
            | Self::Rawvideo
            | Self::Mpeg4 => Kind::Video,
            _ => Kind::Audio,
        }
    }
}

/// What a decoder must know before the first unit of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The codec.
    pub codec: Codec,
    /// Ticks per second of `pts`, `dts` and `duration`; never 0.
    pub clock_rate: u32,
    /// FFmpeg's extradata: `AVCDecoderConfigurationRecord` (H.264), `HEVCDecoderConfigurationRecord` (H.265),
    /// `AV1CodecConfigurationRecord` (AV1), the headers of MPEG-4 Visual, `AudioSpecificConfig` (AAC), `OpusHead` (Opus), the Y4M header's parameters (raw video); else empty.
    /// Empty for H.264, H.265 and AAC means "not known yet".
    pub extradata: Bytes,
    /// Width in pixels after cropping, 0 unknown.
    pub width: u32,
    /// Height in pixels after cropping, 0 unknown.
    pub height: u32,
    /// Samples per second of the decoded audio, 0 for video.
    pub sample_rate: u32,
    /// Channels of the decoded audio, 0 for video.
    pub channels: u8,
}

impl Parameters {
    /// Video at `clock_rate` whose size and extradata are not known yet.
    pub fn video(codec: Codec, clock_rate: u32) -> Self {
        Self { codec, clock_rate, extradata: Bytes::new(), width: 0, height: 0, sample_rate: 0, channels: 0 }
    }

    /// Audio whose clock is its sample rate.
    pub fn audio(codec: Codec, sample_rate: u32, channels: u8) -> Self {
        Self {
            codec,
            clock_rate: sample_rate,
            extradata: Bytes::new(),
            width: 0,
            height: 0,
            sample_rate,
            channels,
        }
    }
}
