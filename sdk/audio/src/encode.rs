//! Samples to units.

use bytes::{BufMut, Bytes, BytesMut};
use patchbay_media::{Codec, Parameters, opus, pcm};

use crate::error::Error;
use crate::target::Target;

/// Largest Opus packet that is made, in bytes. RFC 6716 3.4 allows 1275 for each of its frames.
const MAX_OPUS_PACKET: usize = 4_000;

/// Encodes one track.
pub struct Encoder {
    parameters: Parameters,
    channels: usize,
    /// Samples per second of the input.
    sample_rate: u32,
    frame: usize,
    delay: usize,
    inner: Inner,
}

enum Inner {
    Samples(fn(f32, &mut BytesMut)),
    Opus { encoder: Box<ropus::Encoder>, room: Vec<u8> },
    Aac { encoder: Box<syom::Encoder>, planes: Vec<Vec<f32>> },
}

impl Encoder {
    /// FFmpeg's names of what can be encoded.
    pub const CODECS: [Codec; 6] =
        [Codec::Opus, Codec::Aac, Codec::PcmAlaw, Codec::PcmMulaw, Codec::PcmS16be, Codec::PcmS16le];

    /// An encoder of `target` for sound of this rate and so many channels, where the target leaves that open.
    pub fn new(target: &Target, sample_rate: u32, channels: u8) -> Result<Self, Error> {
        let codec = target.codec;
        let sample_rate = target.rate_for(sample_rate);
        let channels = target.channels_for(channels);
        let mut parameters = Parameters::audio(codec, sample_rate, channels);
        let mut frame =
            (u64::from(sample_rate) * target.packet.as_micros() as u64 / 1_000_000).max(1) as usize;
        let mut delay = 0;
        let inner = match codec {
            Codec::PcmAlaw => Inner::Samples(|sample, out| out.put_u8(pcm::s16_to_alaw(s16(sample)))),
            Codec::PcmMulaw => Inner::Samples(|sample, out| out.put_u8(pcm::s16_to_mulaw(s16(sample)))),
            Codec::PcmS16be => Inner::Samples(|sample, out| out.put_i16(s16(sample))),
            Codec::PcmS16le => Inner::Samples(|sample, out| out.put_i16_le(s16(sample))),
            Codec::Opus => {
                let encoder = opus_encoder(sample_rate, channels)?;
                delay = encoder.lookahead() as usize;
                let skip =
                    u64::from(encoder.lookahead()) * u64::from(opus::CLOCK_RATE) / u64::from(sample_rate);
                let mut head = opus::Head::new(channels, u16::try_from(skip).unwrap_or(0));
                head.input_sample_rate = sample_rate;
                parameters.extradata = head.build();
                // Its clock and its decoder's rate are always this.
                (parameters.clock_rate, parameters.sample_rate) = (opus::CLOCK_RATE, opus::CLOCK_RATE);
                Inner::Opus { encoder: Box::new(encoder), room: vec![0; MAX_OPUS_PACKET] }
            }
            Codec::Aac => {
                let options = syom::EncodeOptions::raw().with_bitrate_bps(aac_bitrate(sample_rate, channels));
                let encoder = syom::Encoder::new(sample_rate, usize::from(channels), &options)
                    .map_err(|_| Error::SampleRate { codec, sample_rate })?;
                parameters.extradata = Bytes::copy_from_slice(encoder.asc());
                // A frame holds what came before together with what comes now.
                (frame, delay) = (1024, 1024);
                Inner::Aac { encoder: Box::new(encoder), planes: vec![Vec::new(); usize::from(channels)] }
            }
            _ => return Err(Error::NotEncoded { codec }),
        };
        Ok(Self { parameters, channels: usize::from(channels), sample_rate, frame, delay, inner })
    }

    /// What a decoder of the units must know.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Samples per second that [`Encoder::encode`] takes; for Opus not always those that come out.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// Channels that [`Encoder::encode`] takes.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Samples per channel of each unit.
    pub fn frame_samples(&self) -> usize {
        self.frame
    }

    /// By how many samples per channel what a decoder gives lags behind what was encoded.
    pub fn delay_samples(&self) -> usize {
        self.delay
    }

    /// Encodes interleaved samples of exactly one unit. What is beyond -1 and 1 is cut off.
    pub fn encode(&mut self, samples: &[f32]) -> Result<Bytes, Error> {
        let codec = self.parameters.codec;
        let failed = Error::Encoder { codec };
        if samples.len() != self.frame * self.channels {
            return Err(failed);
        }
        match &mut self.inner {
            Inner::Samples(put) => {
                let mut out = BytesMut::with_capacity(samples.len() * 2);
                for sample in samples {
                    put(*sample, &mut out);
                }
                Ok(out.freeze())
            }
            Inner::Opus { encoder, room } => {
                let clipped: Vec<f32> = samples.iter().map(|sample| clip(*sample)).collect();
                let len = encoder.encode_float(&clipped, room).map_err(|_| failed)?;
                room.get(..len).filter(|packet| !packet.is_empty()).map(Bytes::copy_from_slice).ok_or(failed)
            }
            Inner::Aac { encoder, planes } => {
                for (channel, plane) in planes.iter_mut().enumerate() {
                    let own = samples.get(channel..).unwrap_or_default().iter().step_by(self.channels);
                    plane.clear();
                    plane.extend(own.map(|sample| clip(*sample)));
                }
                let planes: Vec<&[f32]> = planes.iter().map(Vec::as_slice).collect();
                let mut frame = None;
                let fed = encoder.feed(&planes, |encoded| {
                    frame = Some(Bytes::copy_from_slice(encoded.payload));
                    Ok(())
                });
                fed.map_err(|_| failed)?;
                frame.ok_or(failed)
            }
        }
    }
}

fn opus_encoder(sample_rate: u32, channels: u8) -> Result<ropus::Encoder, Error> {
    let codec = Codec::Opus;
    let layout = if channels == 1 { ropus::Channels::Mono } else { ropus::Channels::Stereo };
    // 96 kbit/s for music in stereo, 24 kbit/s for speech.
    let bits = (u32::from(channels) * sample_rate).clamp(24_000, 96_000);
    ropus::Encoder::builder(sample_rate, layout, ropus::Application::Audio)
        .bitrate(ropus::Bitrate::Bits(bits))
        .build()
        .map_err(|_| Error::SampleRate { codec, sample_rate })
}

/// 64 kbit/s for each channel at 48 kHz; more for each sample where there are few.
fn aac_bitrate(sample_rate: u32, channels: u8) -> u32 {
    let channel = (sample_rate * 4 / 3).max(32_000).min(sample_rate * 4);
    channel.min(96_000) * u32::from(channels)
}

fn clip(sample: f32) -> f32 {
    // What is no number is silence.
    if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 }
}

fn s16(sample: f32) -> i16 {
    (clip(sample) * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16
}
