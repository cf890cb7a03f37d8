//! Sample entries: what `stsd` says of a codec. ISO/IEC 14496-12 8.5.2, 14496-15, 14496-14, Opus and FLAC in ISOBMFF.

use bytes::Bytes;
use mp4_atom::{
    Atom, Audio, Av01, Av1c, Avc1, Avcc, Codec as Entry, Dfla, Dops, Esds, Flac, FlacMetadataBlock, Hvc1,
    Hvcc, Mp4a, Opus, Pasp, Visual, esds,
};
use patchbay_media::aac::AudioSpecificConfig;
use patchbay_media::{Codec, Parameters, flac, h264, h265, nal, opus};

use super::{Error, Options};

/// `objectTypeIndication` of AAC.
const OTI_AAC: u8 = 0x40;
/// `objectTypeIndication` of MPEG-1 audio, which covers MP3.
const OTI_MP3: u8 = 0x6b;

/// The parameter sets of a video track, length-prefixed as its units are; empty when it has none.
pub(super) fn sets(parameters: &Parameters) -> Bytes {
    let record = &parameters.extradata;
    let sets = match parameters.codec {
        Codec::H264 => h264::parse_avcc(record).map(|sets| [sets.sps, sets.pps].concat()),
        Codec::Hevc => h265::parse_hvcc(record).map(|sets| [sets.vps, sets.sps, sets.pps].concat()),
        _ => return Bytes::new(),
    };
    nal::to_length_prefixed(sets.unwrap_or_default().iter().map(AsRef::as_ref))
}

/// The sample entry of a track.
pub(super) fn build(parameters: &Parameters, options: &Options) -> Result<Entry, Error> {
    let codec = parameters.codec;
    let unknown = || Error::NoParameters { codec };
    let record = parameters.extradata.as_ref();
    let visual = Visual {
        data_reference_index: 1,
        width: u16::try_from(parameters.width).unwrap_or(u16::MAX),
        height: u16::try_from(parameters.height).unwrap_or(u16::MAX),
        horizresolution: 0x48.into(),
        vertresolution: 0x48.into(),
        frame_count: 1,
        compressor: "".into(),
        depth: 24,
    };
    let pasp = options.pixel_aspect.map(|(h_spacing, v_spacing)| Pasp { h_spacing, v_spacing });
    Ok(match codec {
        Codec::H264 => {
            let sets = h264::parse_avcc(record).map_err(|_| unknown())?;
            let record = if sets.length_size == 4 {
                parameters.extradata.clone()
            } else {
                h264::avcc(&slices(&sets.sps), &slices(&sets.pps))
            };
            let avcc = Avcc::decode_body(&mut record.as_ref()).map_err(|_| unknown())?;
            Entry::Avc1(Avc1 { visual, avcc, pasp, ..Avc1::default() })
        }
        Codec::Hevc => {
            // Safari wants complete arrays in the order VPS, SPS, PPS.
            let sets = h265::parse_hvcc(record).map_err(|_| unknown())?;
            let record = h265::hvcc(&slices(&sets.vps), &slices(&sets.sps), &slices(&sets.pps));
            let hvcc = Hvcc::decode_body(&mut record.as_ref()).map_err(|_| unknown())?;
            Entry::Hvc1(Hvc1 { visual, hvcc, pasp, ..Hvc1::default() })
        }
        Codec::Av1 => {
            let av1c = Av1c::decode_body(&mut &*record).map_err(|_| unknown())?;
            Entry::Av01(Av01 { visual, av1c, pasp, ..Av01::default() })
        }
        Codec::Aac => {
            let config = match AudioSpecificConfig::parse(record) {
                Ok(_) => record.to_vec(),
                Err(_) => AudioSpecificConfig::lc(parameters.sample_rate, parameters.channels)
                    .build()
                    .ok_or_else(unknown)?
                    .to_vec(),
            };
            mp4a(parameters, OTI_AAC, config)
        }
        Codec::Mp3 => mp4a(parameters, OTI_MP3, Vec::new()),
        Codec::Opus => {
            let channels = parameters.channels.max(1);
            let head = opus::Head::parse(record).unwrap_or_else(|_| opus::Head::new(channels, 0));
            Entry::Opus(Opus {
                audio: Audio {
                    channel_count: u16::from(head.channels),
                    ..audio(parameters, opus::CLOCK_RATE)
                },
                dops: Dops {
                    output_channel_count: head.channels,
                    pre_skip: head.pre_skip,
                    input_sample_rate: head.input_sample_rate,
                    output_gain: head.output_gain,
                    channel_mapping: None,
                },
                btrt: None,
            })
        }
        Codec::Flac => {
            flac_entry(parameters, stream_info(record).unwrap_or_else(|| any_stream_info(parameters)))
        }
        pcm if flac::is_pcm(pcm) && options.pcm_as_flac => {
            flac_entry(parameters, any_stream_info(parameters))
        }
        codec => return Err(Error::Unsupported { codec }),
    })
}

fn slices(sets: &[bytes::Bytes]) -> Vec<&[u8]> {
    sets.iter().map(AsRef::as_ref).collect()
}

fn audio(parameters: &Parameters, sample_rate: u32) -> Audio {
    Audio {
        data_reference_index: 1,
        channel_count: u16::from(parameters.channels.max(1)),
        sample_size: 16,
        // Has 16 bits; decoders take the rate from the codec's own configuration.
        sample_rate: u16::try_from(sample_rate).unwrap_or(0).into(),
    }
}

fn mp4a(parameters: &Parameters, object_type_indication: u8, config: Vec<u8>) -> Entry {
    let dec_specific = (!config.is_empty())
        .then(|| esds::DecoderSpecific { raw: config, ..esds::DecoderSpecific::default() });
    let dec_config = esds::DecoderConfig {
        object_type_indication,
        stream_type: 5,
        dec_specific,
        ..esds::DecoderConfig::default()
    };
    Entry::Mp4a(Mp4a {
        audio: audio(parameters, parameters.sample_rate),
        esds: Esds { es_desc: esds::EsDescriptor { dec_config, ..esds::EsDescriptor::default() } },
        btrt: None,
        taic: None,
    })
}

fn flac_entry(parameters: &Parameters, info: FlacMetadataBlock) -> Entry {
    Entry::Flac(Flac { audio: audio(parameters, parameters.sample_rate), dfla: Dfla { blocks: vec![info] } })
}

/// Of PCM in FLAC frames, whose sizes are not known before.
fn any_stream_info(parameters: &Parameters) -> FlacMetadataBlock {
    FlacMetadataBlock::StreamInfo {
        minimum_block_size: flac::MAX_BLOCK,
        maximum_block_size: flac::MAX_BLOCK,
        minimum_frame_size: 0.try_into().unwrap_or_default(),
        maximum_frame_size: 0.try_into().unwrap_or_default(),
        sample_rate: parameters.sample_rate,
        num_channels_minus_one: parameters.channels.max(1) - 1,
        bits_per_sample_minus_one: 15,
        number_of_interchannel_samples: 0,
        md5_checksum: vec![0; 16],
    }
}

/// Reads a `STREAMINFO` block: the bare 34 bytes, or behind `fLaC` and its block header. RFC 9639 8.2.
fn stream_info(extradata: &[u8]) -> Option<FlacMetadataBlock> {
    let info = extradata.strip_prefix(b"fLaC").map_or(Some(extradata), |rest| rest.get(4..))?;
    let mut dfla = vec![0, 0, 0, 0, 0x80, 0, 0, 34];
    dfla.extend_from_slice(info.get(..34)?);
    // The box is a full box: decode it as one.
    let mut full = u32::try_from(dfla.len() + 8).ok()?.to_be_bytes().to_vec();
    full.extend_from_slice(b"dfLa");
    full.extend_from_slice(&dfla);
    let dfla = <Dfla as mp4_atom::Decode>::decode(&mut full.as_slice()).ok()?;
    dfla.blocks.into_iter().next()
}
