//! One track's parts to parameters and units.

use bytes::Bytes;
use patchbay_media::aac::AudioSpecificConfig;
use patchbay_media::assembler::Flags;
use patchbay_media::{Assembler, Codec, Kind, MAX_UNIT_BYTES, Parameters, Unit, h264, h265, mpa, opus};

use super::CLOCK_RATE;
use super::body::{Content, Part, Stated};
use crate::lineup::Output;
use crate::mp4;

/// A track as it comes.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) kind: Kind,
    /// Number among the tracks of its kind.
    pub(super) number: u8,
    codec: Codec,
    /// Empty: no configuration came.
    config: Option<Bytes>,
    pictures: Option<Pictures>,
    parameters: Option<Parameters>,
}

/// H.264 and H.265.
#[derive(Debug)]
struct Pictures {
    assembler: Assembler,
    length_size: u8,
}

impl Pictures {
    fn new(codec: Codec, record: &[u8]) -> Self {
        let length_size = match codec {
            Codec::Hevc => h265::parse_hvcc(record).map(|sets| sets.length_size),
            _ => h264::parse_avcc(record).map(|sets| sets.length_size),
        };
        Self { assembler: Assembler::new(codec, CLOCK_RATE, record), length_size: length_size.unwrap_or(4) }
    }
}

impl Stream {
    pub(super) fn new(part: &Part) -> Self {
        Self {
            kind: part.codec.kind(),
            number: part.track,
            codec: part.codec,
            config: None,
            pictures: None,
            parameters: None,
        }
    }

    /// Takes a part due at `dts`, in milliseconds.
    pub(super) fn push(&mut self, part: Part, stated: Stated, dts: i64, out: &mut Vec<Output>) {
        if part.codec != self.codec {
            // Another codec from here on.
            *self = Self::new(&part);
        }
        match part.content {
            // Not known yet, or the same again.
            Content::Config(config) if config.is_empty() || self.config.as_ref() == Some(&config) => {}
            Content::Config(config) => {
                match self.codec {
                    Codec::H264 | Codec::Hevc => {
                        let pictures = Pictures::new(self.codec, &config);
                        let parameters = pictures.assembler.parameters().clone();
                        self.pictures = Some(pictures);
                        if !parameters.extradata.is_empty() {
                            self.set(parameters, out);
                        }
                    }
                    codec => {
                        if let Some(parameters) = configured(codec, &config) {
                            self.set(parameters, out);
                        }
                    }
                }
                self.config = Some(config);
            }
            Content::Frame { data, .. } if data.is_empty() || data.len() > MAX_UNIT_BYTES => {}
            Content::Frame { offset, key, data } => {
                self.frame(dts, dts.saturating_add(i64::from(offset)), key, data, stated, out);
            }
        }
    }

    fn frame(&mut self, dts: i64, pts: i64, key: bool, data: Bytes, stated: Stated, out: &mut Vec<Output>) {
        if matches!(self.codec, Codec::H264 | Codec::Hevc) {
            // Without a configuration the parameter sets may be in the stream.
            let pictures = self.pictures.get_or_insert_with(|| Pictures::new(self.codec, &[]));
            let nals = mp4::nals(&data, pictures.length_size);
            let assembled = pictures.assembler.push_access_unit(pts, Some(dts), nals, Flags::default());
            if let Some(parameters) = assembled.new_parameters {
                self.set(parameters, out);
            }
            if self.parameters.is_some() {
                out.extend(assembled.unit.map(Output::Unit));
            }
            return;
        }
        if let Some(parameters) = self.unconfigured(&data, stated) {
            self.set(parameters, out);
        }
        if self.parameters.is_some() {
            out.push(Output::Unit(Unit { dts: dts.min(pts), ..Unit::new(pts, key, data) }));
        }
    }

    fn set(&mut self, parameters: Parameters, out: &mut Vec<Output>) {
        if self.parameters.as_ref() != Some(&parameters) {
            self.parameters = Some(parameters.clone());
            out.push(Output::Parameters(parameters));
        }
    }

    /// Parameters of codecs whose frames say enough.
    fn unconfigured(&self, frame: &[u8], stated: Stated) -> Option<Parameters> {
        let (rate, channels) = match self.codec {
            Codec::Mp3 => match mpa::Header::parse(frame) {
                Some(header) => (header.sample_rate, header.channels),
                None if self.parameters.is_none() => (stated.sample_rate, stated.channels),
                None => return None,
            },
            Codec::PcmAlaw | Codec::PcmMulaw | Codec::PcmS16le => (stated.sample_rate, stated.channels),
            Codec::Opus if self.parameters.is_none() => {
                let channels = opus::packet_channels(frame)?;
                return Some(Parameters {
                    extradata: opus::Head::new(channels, 0).build(),
                    ..audio(Codec::Opus, opus::CLOCK_RATE, channels)
                });
            }
            Codec::Av1 | Codec::Vp8 | Codec::Vp9 if self.parameters.is_none() => {
                return Some(Parameters::video(self.codec, CLOCK_RATE));
            }
            _ => return None,
        };
        (rate > 0 && channels > 0).then(|| audio(self.codec, rate, channels))
    }
}

fn audio(codec: Codec, sample_rate: u32, channels: u8) -> Parameters {
    Parameters { clock_rate: CLOCK_RATE, ..Parameters::audio(codec, sample_rate, channels) }
}

/// The parameters that a configuration means; `None` when it cannot be read.
fn configured(codec: Codec, config: &Bytes) -> Option<Parameters> {
    let (rate, channels) = match codec {
        Codec::Aac => {
            let parsed = AudioSpecificConfig::parse(config).ok()?;
            (parsed.output_sample_rate(), parsed.output_channels())
        }
        Codec::Opus => (opus::CLOCK_RATE, opus::Head::parse(config).ok()?.channels),
        Codec::Flac => {
            let info = config.strip_prefix(b"fLaC").map_or(Some(config.as_ref()), |rest| rest.get(4..))?;
            let [r0, r1, r2] = *info.get(10..)?.first_chunk::<3>()?;
            let rate = u32::from(r0) << 12 | u32::from(r1) << 4 | u32::from(r2) >> 4;
            let extradata = Bytes::copy_from_slice(info.get(..34)?);
            return (rate > 0).then(|| Parameters { extradata, ..audio(codec, rate, (r2 >> 1 & 7) + 1) });
        }
        Codec::Av1 | Codec::Vp8 | Codec::Vp9 => {
            return Some(Parameters { extradata: config.clone(), ..Parameters::video(codec, CLOCK_RATE) });
        }
        _ => return None,
    };
    Some(Parameters { extradata: config.clone(), ..audio(codec, rate, channels) })
}
