//! Sample entries to parameters. ISO/IEC 14496-12 8.5.2, 14496-14, 14496-15, QuickTime.

use bytes::Bytes;
use patchbay_media::aac::AudioSpecificConfig;
use patchbay_media::{Codec, Parameters, h264, h265, opus};

use super::boxes::{Fields, child, children};

/// How a track's samples become units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packing {
    /// NAL units behind lengths of so many bytes, 1 to 4.
    Nal { length_size: u8 },
    /// Constant bytes per sample: many samples go into one unit.
    Pcm { bytes: u32 },
    /// A sample is a unit.
    Whole,
}

/// What a sample entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub parameters: Parameters,
    pub packing: Packing,
}

/// Fields of a visual sample entry before its boxes.
const VISUAL_BYTES: usize = 78;

/// The entry of a codec that this server knows, with `timescale` as its clock.
pub(super) fn parse(kind: [u8; 4], body: &Bytes, timescale: u32) -> Option<Entry> {
    let video = |codec| visual(codec, body, timescale);
    let sound = |codec| audio(codec, body, timescale);
    match &kind {
        b"avc1" | b"avc3" => {
            let (mut parameters, boxes) = video(Codec::H264)?;
            let record = child(&boxes, b"avcC").unwrap_or_default();
            let mut length_size = 4;
            if let Ok(sets) = h264::parse_avcc(&record) {
                length_size = sets.length_size;
                if !sets.sps.is_empty() {
                    parameters.extradata = if length_size == 4 {
                        record
                    } else {
                        h264::avcc(&refs(&sets.sps), &refs(&sets.pps))
                    };
                }
            }
            Some(Entry { parameters, packing: Packing::Nal { length_size } })
        }
        b"hvc1" | b"hev1" => {
            let (mut parameters, boxes) = video(Codec::Hevc)?;
            let record = child(&boxes, b"hvcC").unwrap_or_default();
            let mut length_size = 4;
            if let Ok(sets) = h265::parse_hvcc(&record) {
                length_size = sets.length_size;
                if !sets.sps.is_empty() {
                    parameters.extradata = if length_size == 4 {
                        record
                    } else {
                        h265::hvcc(&refs(&sets.vps), &refs(&sets.sps), &refs(&sets.pps))
                    };
                }
            }
            Some(Entry { parameters, packing: Packing::Nal { length_size } })
        }
        b"av01" => {
            let (mut parameters, boxes) = video(Codec::Av1)?;
            parameters.extradata = child(&boxes, b"av1C").unwrap_or_default();
            whole(parameters)
        }
        b"vp08" => whole(video(Codec::Vp8)?.0),
        b"vp09" => whole(video(Codec::Vp9)?.0),
        b"jpeg" | b"mjpa" => whole(video(Codec::Mjpeg)?.0),
        b"mp4v" => {
            let (mut parameters, boxes) = video(Codec::Mpeg4)?;
            let (object_type, config) = esds(&child(&boxes, b"esds")?)?;
            match object_type {
                0x20 => parameters.extradata = config,
                0x6c => parameters.codec = Codec::Mjpeg,
                _ => return None,
            }
            whole(parameters)
        }
        b"mp4a" => {
            let (mut parameters, boxes, _) = sound(Codec::Aac)?;
            // QuickTime wraps it once more.
            let wave = child(&boxes, b"wave");
            let esds_box = child(&boxes, b"esds").or_else(|| child(&wave?, b"esds"))?;
            let (object_type, config) = esds(&esds_box)?;
            match object_type {
                0x40 | 0x66..=0x68 => {
                    if let Ok(parsed) = AudioSpecificConfig::parse(&config) {
                        parameters.sample_rate = parsed.output_sample_rate();
                        if parsed.output_channels() > 0 {
                            parameters.channels = parsed.output_channels();
                        }
                    }
                    parameters.extradata = config;
                }
                0x69 | 0x6b => parameters.codec = Codec::Mp3,
                _ => return None,
            }
            whole(parameters)
        }
        b".mp3" => whole(sound(Codec::Mp3)?.0),
        b"Opus" => {
            let (mut parameters, boxes, _) = sound(Codec::Opus)?;
            let head = opus_head(child(&boxes, b"dOps")?)?;
            parameters.channels = head.channels;
            parameters.sample_rate = opus::CLOCK_RATE;
            parameters.extradata = head.build();
            whole(parameters)
        }
        b"fLaC" => {
            let (mut parameters, boxes, _) = sound(Codec::Flac)?;
            // Full box, then the block header, then STREAMINFO as FFmpeg keeps it.
            parameters.extradata = child(&boxes, b"dfLa")?.get(8..42).map(Bytes::copy_from_slice)?;
            if let Some([r0, r1, r2]) = parameters.extradata.get(10..13) {
                parameters.sample_rate = u32::from(*r0) << 12 | u32::from(*r1) << 4 | u32::from(*r2) >> 4;
            }
            whole(parameters)
        }
        b"alaw" => pcm(sound(Codec::PcmAlaw)?, Some(8)),
        b"ulaw" => pcm(sound(Codec::PcmMulaw)?, Some(8)),
        b"sowt" => pcm(sound(Codec::PcmS16le)?, None),
        b"twos" => pcm(sound(Codec::PcmS16be)?, None),
        b"ipcm" => {
            let (mut parameters, boxes, _) = sound(Codec::PcmS16be)?;
            let mut fields = Fields(child(&boxes, b"pcmC")?);
            fields.full()?;
            let (flags, bits) = (fields.u8()?, fields.u8()?);
            if flags & 1 != 0 {
                parameters.codec = Codec::PcmS16le;
            }
            pcm((parameters, boxes, u16::from(bits)), None)
        }
        _ => None,
    }
}

fn refs(sets: &[Bytes]) -> Vec<&[u8]> {
    sets.iter().map(AsRef::as_ref).collect()
}

fn whole(parameters: Parameters) -> Option<Entry> {
    Some(Entry { parameters, packing: Packing::Whole })
}

fn pcm((parameters, _, stated_bits): (Parameters, Bytes, u16), bits: Option<u16>) -> Option<Entry> {
    let bits = bits.unwrap_or(stated_bits);
    if bits != 8 && bits != 16 || (bits == 8) != matches!(parameters.codec, Codec::PcmAlaw | Codec::PcmMulaw)
    {
        return None;
    }
    let bytes = u32::from(parameters.channels.max(1)) * u32::from(bits / 8);
    Some(Entry { parameters, packing: Packing::Pcm { bytes } })
}

/// Size and the boxes behind the fields.
fn visual(codec: Codec, body: &Bytes, timescale: u32) -> Option<(Parameters, Bytes)> {
    let mut fields = Fields(body.clone());
    fields.skip(24)?;
    let (width, height) = (fields.u16()?, fields.u16()?);
    fields.skip(VISUAL_BYTES - 28)?;
    let mut parameters = Parameters::video(codec, timescale);
    parameters.width = u32::from(width);
    parameters.height = u32::from(height);
    Some((parameters, fields.0))
}

/// Rate, channels, bits per sample and the boxes behind the fields.
fn audio(codec: Codec, body: &Bytes, timescale: u32) -> Option<(Parameters, Bytes, u16)> {
    let mut fields = Fields(body.clone());
    fields.skip(8)?;
    let version = fields.u16()?;
    fields.skip(6)?;
    let (mut channels, mut bits) = (fields.u16()?, fields.u16()?);
    fields.skip(4)?;
    let mut rate = u32::from(fields.u16()?);
    fields.skip(2)?;
    match version {
        // QuickTime sound description 1, unless the boxes begin here already.
        1 if children(&fields.0).next().is_none_or(|(kind, _)| !kind.is_ascii()) => fields.skip(16)?,
        1 if child(&fields.0, b"esds").is_none() && child(&fields.0, b"wave").is_none() => {
            fields.skip(16.min(fields.0.len()))?;
        }
        2 => {
            fields.skip(4)?;
            let float = f64::from_bits(fields.u64()?);
            // A float out of range saturates.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            {
                rate = float as u32;
            }
            channels = u16::try_from(fields.u32()?).ok()?;
            fields.skip(4)?;
            bits = u16::try_from(fields.u32()?).ok()?;
            fields.skip(12)?;
        }
        _ => {}
    }
    let channels = u8::try_from(channels).ok()?;
    let mut parameters = Parameters::audio(codec, if rate == 0 { timescale } else { rate }, channels);
    parameters.clock_rate = timescale;
    Some((parameters, fields.0, bits))
}

/// `objectTypeIndication` and decoder specific information of an ES descriptor. ISO/IEC 14496-1 7.2.6.
fn esds(body: &Bytes) -> Option<(u8, Bytes)> {
    let mut fields = Fields(body.clone());
    fields.full()?;
    let mut es = descriptor(&mut fields, 3)?;
    es.skip(2)?;
    let flags = es.u8()?;
    if flags & 0x80 != 0 {
        es.skip(2)?;
    }
    if flags & 0x40 != 0 {
        let length = es.u8()?;
        es.skip(usize::from(length))?;
    }
    if flags & 0x20 != 0 {
        es.skip(2)?;
    }
    let mut config = descriptor(&mut es, 4)?;
    let object_type = config.u8()?;
    config.skip(12)?;
    let specific = descriptor(&mut config, 5).map(|fields| fields.0).unwrap_or_default();
    Some((object_type, Bytes::copy_from_slice(&specific)))
}

/// The body of the next descriptor with `tag`, over others. A length beyond the end is cut.
fn descriptor(fields: &mut Fields, tag: u8) -> Option<Fields> {
    loop {
        let found = fields.u8()?;
        let mut length = 0_usize;
        for _ in 0..4 {
            let byte = fields.u8()?;
            length = length << 7 | usize::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let body = fields.take(length.min(fields.0.len()))?;
        if found == tag {
            return Some(Fields(body));
        }
    }
}

/// `dOps` holds what `OpusHead` does, big-endian.
fn opus_head(dops: Bytes) -> Option<opus::Head> {
    let mut fields = Fields(dops);
    fields.u8()?;
    let channels = fields.u8().filter(|channels| *channels > 0)?;
    let (pre_skip, input_sample_rate) = (fields.u16()?, fields.u32()?);
    let (gain, mapping_family) = (fields.u16()?, fields.u8()?);
    let output_gain = i16::from_be_bytes(gain.to_be_bytes());
    Some(opus::Head { channels, pre_skip, input_sample_rate, output_gain, mapping_family })
}

/// A sample with length prefixes of `length_size` bytes as NAL units; ends at the first bad length.
pub(crate) fn nals(sample: &[u8], length_size: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = sample;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_at_checked(usize::from(length_size))?;
        let length = length.iter().fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
        let (nal, after) = after.split_at_checked(length)?;
        rest = after;
        Some(nal)
    })
}
