//! Units to samples.

use patchbay_media::{Codec, Parameters, aac, opus, pcm};
use symphonia_core::codecs::audio::well_known::{CODEC_ID_MP2, CODEC_ID_MP3};
use symphonia_core::codecs::audio::{AudioCodecParameters, AudioDecoder as _, AudioDecoderOptions};
use symphonia_core::packet::PacketRef;
use symphonia_core::units::{Duration, Timestamp};

use crate::error::Error;
use crate::{MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE};

/// Largest unit of sound that is looked at, in bytes.
const MAX_UNIT_BYTES: usize = 1 << 20;

/// Decoded sound.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sound {
    /// Samples per second.
    pub sample_rate: u32,
    /// Channels, interleaved in `samples`.
    pub channels: usize,
    /// Samples, usually from -1 to 1.
    pub samples: Vec<f32>,
}

/// Decodes one track.
pub struct Decoder {
    parameters: Parameters,
    inner: Inner,
}

enum Inner {
    Samples(fn(u8, u8) -> i16, usize),
    Opus { decoder: Box<ropus::Decoder>, channels: usize, room: Vec<f32> },
    Aac(Box<syom::Decoder>),
    Mpeg(Box<symphonia_bundle_mp3::MpaDecoder>),
}

impl Decoder {
    /// FFmpeg's names of what can be decoded.
    pub const CODECS: [Codec; 8] = [
        Codec::Aac,
        Codec::Opus,
        Codec::PcmAlaw,
        Codec::PcmMulaw,
        Codec::PcmS16be,
        Codec::PcmS16le,
        Codec::Mp3,
        Codec::Mp2,
    ];

    /// A decoder of a track with these parameters. AAC needs its `AudioSpecificConfig`; PCM its rate.
    pub fn new(parameters: &Parameters) -> Result<Self, Error> {
        let codec = parameters.codec;
        let inner = match codec {
            Codec::PcmAlaw => Inner::Samples(|byte, _| pcm::alaw_to_s16(byte), 1),
            Codec::PcmMulaw => Inner::Samples(|byte, _| pcm::mulaw_to_s16(byte), 1),
            Codec::PcmS16be => Inner::Samples(|high, low| i16::from_be_bytes([high, low]), 2),
            Codec::PcmS16le => Inner::Samples(|low, high| i16::from_le_bytes([low, high]), 2),
            Codec::Opus => {
                // Its packets are of one or two channels from one to the next; the header says what was meant.
                let head = opus::Head::parse(&parameters.extradata).ok();
                if head.is_some_and(|head| head.mapping_family != 0) {
                    let channels = head.map_or(0, |head| usize::from(head.channels));
                    return Err(Error::Channels { codec, channels });
                }
                let channels = head.map_or(parameters.channels, |head| head.channels);
                let (channels, layout) =
                    if channels == 1 { (1, ropus::Channels::Mono) } else { (2, ropus::Channels::Stereo) };
                let decoder = ropus::Decoder::new(opus::CLOCK_RATE, layout)
                    .map_err(|_| Error::Configuration { codec })?;
                let room = vec![0.0; opus::MAX_PACKET_SAMPLES as usize * channels];
                Inner::Opus { decoder: Box::new(decoder), channels, room }
            }
            Codec::Aac => Inner::Aac(Box::new(aac_decoder(&parameters.extradata)?)),
            Codec::Mp2 | Codec::Mp3 => {
                let mut own = AudioCodecParameters::new();
                own.for_codec(if codec == Codec::Mp2 { CODEC_ID_MP2 } else { CODEC_ID_MP3 });
                let decoder =
                    symphonia_bundle_mp3::MpaDecoder::try_new(&own, &AudioDecoderOptions::default());
                Inner::Mpeg(Box::new(decoder.map_err(|_| Error::Configuration { codec })?))
            }
            _ => return Err(Error::NotDecoded { codec }),
        };
        if matches!(inner, Inner::Samples(..)) {
            check(codec, parameters.sample_rate, usize::from(parameters.channels.max(1)))?;
        }
        Ok(Self { parameters: parameters.clone(), inner })
    }

    /// What is decoded.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Decodes a unit into `sound`, whose samples are replaced. After an error the next unit may be decoded; `sound` is empty
    /// then.
    pub fn decode(&mut self, unit: &[u8], sound: &mut Sound) -> Result<(), Error> {
        sound.samples.clear();
        let codec = self.parameters.codec;
        if unit.is_empty() || unit.len() > MAX_UNIT_BYTES {
            return Err(Error::Damaged { codec });
        }
        let decoded = self.fill(unit, sound);
        let checked = decoded.and_then(|()| check(codec, sound.sample_rate, sound.channels));
        if checked.is_err() {
            sound.samples.clear();
        }
        checked
    }

    fn fill(&mut self, unit: &[u8], sound: &mut Sound) -> Result<(), Error> {
        let codec = self.parameters.codec;
        let damaged = Error::Damaged { codec };
        match &mut self.inner {
            Inner::Samples(sample, bytes) => {
                sound.sample_rate = self.parameters.sample_rate;
                sound.channels = usize::from(self.parameters.channels.max(1));
                let samples = unit.chunks_exact(*bytes).map(|chunk| {
                    let [first, last] = [chunk.first(), chunk.last()].map(|b| b.copied().unwrap_or(0));
                    f32::from(sample(first, last)) / 32_768.0
                });
                sound.samples.extend(samples);
            }
            Inner::Opus { decoder, channels, room } => {
                opus::packet_samples(unit).ok_or(damaged)?;
                let len = decoder.decode_float(unit, room, ropus::DecodeMode::Normal).map_err(|_| damaged)?;
                (sound.sample_rate, sound.channels) = (opus::CLOCK_RATE, *channels);
                sound.samples.extend_from_slice(room.get(..len * *channels).ok_or(damaged)?);
            }
            Inner::Aac(decoder) => {
                let decoded = decoder.decode_au(unit, |frame| {
                    sound.sample_rate = frame.sample_rate;
                    sound.channels = frame.planar.len();
                    for at in 0..frame.samples {
                        let of_plane = |plane: &&[f32]| plane.get(at).copied().unwrap_or(0.0);
                        sound.samples.extend(frame.planar.iter().map(of_plane));
                    }
                    Ok(())
                });
                if decoded.is_err() {
                    // It takes nothing more.
                    **decoder = aac_decoder(&self.parameters.extradata)?;
                    return Err(damaged);
                }
            }
            Inner::Mpeg(decoder) => {
                let packet = PacketRef::new(0, Timestamp::new(0), Duration::ZERO, unit);
                let decoded = decoder.decode_ref(&packet).map_err(|_| damaged)?;
                sound.sample_rate = decoded.spec().rate();
                sound.channels = decoded.spec().channels().count();
                decoded.copy_to_vec_interleaved(&mut sound.samples);
            }
        }
        Ok(())
    }
}

fn aac_decoder(config: &[u8]) -> Result<syom::Decoder, Error> {
    let codec = Codec::Aac;
    aac::AudioSpecificConfig::parse(config).map_err(|_| Error::Configuration { codec })?;
    syom::Decoder::from_asc(config, syom::DecodeOptions::unbounded())
        .map_err(|_| Error::Configuration { codec })
}

fn check(codec: Codec, sample_rate: u32, channels: usize) -> Result<(), Error> {
    if !(MIN_SAMPLE_RATE..=MAX_SAMPLE_RATE).contains(&sample_rate) {
        return Err(Error::SampleRate { codec, sample_rate });
    }
    if !(1..=MAX_CHANNELS).contains(&channels) {
        return Err(Error::Channels { codec, channels });
    }
    Ok(())
}
