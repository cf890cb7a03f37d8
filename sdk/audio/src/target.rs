//! What to encode to, in the words of `ffmpeg:` URLs.

use std::time::Duration;

use patchbay_media::{Codec, Parameters};

/// What to encode to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The codec.
    pub codec: Codec,
    /// Samples per second; `None`: as they come, the nearest rate that the codec has.
    pub sample_rate: Option<u32>,
    /// Channels; `None`: as they come, at most 2.
    pub channels: Option<u8>,
    /// Length of a packet; AAC has its own.
    pub packet: Duration,
}

/// Why a text names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// No codec has this name, or it is not encoded here.
    #[error("audio={text} is not encoded here: opus, aac, pcma, pcmu, pcm and pcml are")]
    Codec {
        /// What was written.
        text: String,
    },
    /// The codec has no such rate.
    #[error("{} has no sample rate of {text}", codec.name())]
    SampleRate {
        /// The codec.
        codec: Codec,
        /// What was written.
        text: String,
    },
    /// Neither one nor two.
    #[error("{} has no {text} channels here: 1 and 2 are possible", codec.name())]
    Channels {
        /// The codec.
        codec: Codec,
        /// What was written.
        text: String,
    },
    /// The codec has no packets of this length.
    #[error("{} has no packets of {} ms", codec.name(), packet.as_millis())]
    Packet {
        /// The codec.
        codec: Codec,
        /// What was asked for.
        packet: Duration,
    },
}

/// Usual length of a packet.
pub const PACKET: Duration = Duration::from_millis(20);

/// Sample rates of Opus encoders. RFC 6716 2.
const OPUS_RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];
/// Sample rates of AAC-LC. ISO/IEC 14496-3 table 1.18, without 7350.
const AAC_RATES: [u32; 12] =
    [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000];

impl Target {
    /// A target at the codec's usual rate and packet length.
    pub fn new(codec: Codec) -> Self {
        let (sample_rate, channels) = match codec {
            Codec::Opus => (Some(48_000), None),
            Codec::Aac => (None, None),
            _ => (Some(8_000), Some(1)),
        };
        Self { codec, sample_rate, channels, packet: PACKET }
    }

    /// `opus`, `opus/16000`, `aac/44100/2`, `pcma`, `pcmu/16000`, `pcm/48000/2` (big endian), `pcml` (little endian), and
    /// FFmpeg's names of these codecs. What is left out is what `ffmpeg:` makes of it: G.711 and PCM have 8000 Hz and one
    /// channel, Opus 48000 Hz and AAC the rate of the source; a rate alone means one channel.
    pub fn parse(text: &str, packet: Duration) -> Result<Self, TargetError> {
        let mut parts = text.split('/');
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let codec = match name.as_str() {
            "opus" | "libopus" => Codec::Opus,
            "aac" | "mpeg4-generic" => Codec::Aac,
            "pcma" | "alaw" | "g711a" | "pcm_alaw" => Codec::PcmAlaw,
            "pcmu" | "mulaw" | "g711u" | "pcm_mulaw" => Codec::PcmMulaw,
            "pcm" | "l16" | "s16be" | "pcm_s16be" => Codec::PcmS16be,
            "pcml" | "s16le" | "pcm_s16le" => Codec::PcmS16le,
            _ => return Err(TargetError::Codec { text: text.to_owned() }),
        };
        let mut target = Self { packet, ..Self::new(codec) };
        if let Some(text) = parts.next() {
            let wrong = || TargetError::SampleRate { codec, text: text.to_owned() };
            let rate = text.parse().map_err(|_| wrong())?;
            let fits = match codec {
                Codec::Opus => OPUS_RATES.contains(&rate),
                Codec::Aac => AAC_RATES.contains(&rate),
                _ => (crate::MIN_SAMPLE_RATE..=crate::MAX_SAMPLE_RATE).contains(&rate),
            };
            (target.sample_rate, target.channels) =
                (Some(if fits { rate } else { return Err(wrong()) }), Some(1));
        }
        if let Some(text) = parts.next() {
            let wrong = || TargetError::Channels { codec, text: text.to_owned() };
            let channels =
                text.parse().ok().filter(|channels| matches!(channels, 1 | 2)).ok_or_else(wrong)?;
            target.channels = Some(channels);
        }
        let ms = u32::try_from(packet.as_millis()).unwrap_or(0);
        let fits = match codec {
            Codec::Opus => matches!(ms, 5 | 10 | 20 | 40 | 60 | 80 | 100 | 120),
            Codec::Aac => true,
            _ => (1..=200).contains(&ms),
        };
        if fits { Ok(target) } else { Err(TargetError::Packet { codec, packet }) }
    }

    /// Samples per second that sound of `sample_rate` is encoded with.
    pub fn rate_for(&self, sample_rate: u32) -> u32 {
        match (self.sample_rate, self.codec) {
            (Some(rate), _) => rate,
            (None, Codec::Aac) => {
                // None higher than what comes, where there is one.
                let fits = AAC_RATES.iter().rev().find(|rate| **rate <= sample_rate.max(8_000));
                fits.copied().unwrap_or(48_000)
            }
            (None, _) => sample_rate.clamp(crate::MIN_SAMPLE_RATE, crate::MAX_SAMPLE_RATE),
        }
    }

    /// Channels that sound of `channels` is encoded with.
    pub fn channels_for(&self, channels: u8) -> u8 {
        self.channels.unwrap_or(channels).clamp(1, 2)
    }

    /// Whether a track is this already.
    pub fn is(&self, track: &Parameters) -> bool {
        track.codec == self.codec
            && (self.codec == Codec::Opus || self.sample_rate.is_none_or(|rate| rate == track.sample_rate))
            && (self.codec == Codec::Opus || self.channels.is_none_or(|channels| channels == track.channels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_they_mean_to_ffmpeg() {
        for (text, codec, rate, channels) in [
            ("opus", Codec::Opus, Some(48_000), None),
            ("opus/16000", Codec::Opus, Some(16_000), Some(1)),
            ("opus/48000/2", Codec::Opus, Some(48_000), Some(2)),
            ("pcmu", Codec::PcmMulaw, Some(8_000), Some(1)),
            ("PCMA/16000", Codec::PcmAlaw, Some(16_000), Some(1)),
            ("pcm", Codec::PcmS16be, Some(8_000), Some(1)),
            ("pcm/48000", Codec::PcmS16be, Some(48_000), Some(1)),
            ("pcml/44100", Codec::PcmS16le, Some(44_100), Some(1)),
            ("aac", Codec::Aac, None, None),
            ("aac/16000", Codec::Aac, Some(16_000), Some(1)),
            ("pcm_alaw/8000", Codec::PcmAlaw, Some(8_000), Some(1)),
        ] {
            let target = Target::parse(text, PACKET).unwrap();
            assert_eq!(
                (target.codec, target.sample_rate, target.channels),
                (codec, rate, channels),
                "{text}"
            );
        }
        for text in ["", "mp3", "opus/44100", "aac/7350", "pcma/1", "pcm/8000/3", "opus/x", "aac/48000/0"] {
            assert!(Target::parse(text, PACKET).is_err(), "{text}");
        }
        assert!(Target::parse("opus", Duration::from_millis(30)).is_err());
        assert!(Target::parse("pcma", Duration::from_millis(30)).is_ok());
    }

    #[test]
    fn what_is_left_open_comes_from_the_source() {
        let aac = Target::new(Codec::Aac);
        for (given, wanted) in
            [(44_100, 44_100), (8_000, 8_000), (7_000, 8_000), (192_000, 96_000), (50_000, 48_000)]
        {
            assert_eq!(aac.rate_for(given), wanted);
        }
        assert_eq!((aac.channels_for(6), aac.channels_for(0), aac.channels_for(1)), (2, 1, 1));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,40}") {
            let _ = Target::parse(&text, PACKET);
        }
    }
}
