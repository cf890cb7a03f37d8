//! Streams of real encoders from the byte stream to units. What is expected was read with ffprobe 5.1.9.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use patchbay_media::access_unit::{AccessUnit, AccessUnitSplitter, Role, role};
use patchbay_media::assembler::{Assembler, Flags};
use patchbay_media::order::{PictureOrder, Reorder};
use patchbay_media::{Codec, Parameters, Unit, aac, annexb, codec_string, h264, h265, nal};

struct Stream {
    codec: Codec,
    data: &'static [u8],
    size: (u32, u32),
    codec_string: &'static str,
    reorder_depth: u8,
    keys: &'static [usize],
    /// Presentation times in decoding order, in frames; empty for decoding order.
    pts: &'static [i64],
}

const STREAMS: [Stream; 9] = [
    Stream {
        codec: Codec::H264,
        data: include_bytes!("data/x264_main_pyramid.h264"),
        size: (64, 48),
        codec_string: "avc1.4D400A",
        reorder_depth: 2,
        keys: &[0, 10],
        pts: &[0, 4, 2, 1, 3, 8, 6, 5, 7, 9, 10, 14, 12, 11, 13, 18, 16, 15, 17, 19],
    },
    Stream {
        codec: Codec::H264,
        data: include_bytes!("data/x264_open_gop.h264"),
        size: (64, 48),
        codec_string: "avc1.64000A",
        reorder_depth: 2,
        keys: &[0, 7, 15],
        pts: &[0, 3, 1, 2, 6, 4, 5, 8, 7, 11, 9, 10, 14, 12, 13, 16, 15, 19, 17, 18],
    },
    Stream {
        codec: Codec::H264,
        data: include_bytes!("data/x264_high_multislice_aud.h264"),
        size: (130, 66),
        codec_string: "avc1.64000A",
        reorder_depth: 0,
        keys: &[0, 8, 16],
        pts: &[],
    },
    Stream {
        codec: Codec::H264,
        data: include_bytes!("data/x264_high_interlaced.h264"),
        size: (64, 64),
        codec_string: "avc1.640015",
        reorder_depth: 2,
        keys: &[0, 8, 16],
        pts: &[],
    },
    Stream {
        codec: Codec::H264,
        data: include_bytes!("data/x264_high422_10.h264"),
        size: (64, 48),
        codec_string: "avc1.7A000A",
        reorder_depth: 1,
        keys: &[0, 8, 16],
        pts: &[],
    },
    Stream {
        codec: Codec::H264,
        data: include_bytes!("data/x264_intra_refresh.h264"),
        size: (64, 48),
        codec_string: "avc1.42C00A",
        reorder_depth: 0,
        keys: &[0],
        pts: &[],
    },
    Stream {
        codec: Codec::Hevc,
        data: include_bytes!("data/x265_main.h265"),
        size: (130, 66),
        codec_string: "hvc1.1.6.L30.90",
        reorder_depth: 2,
        keys: &[0, 5, 13],
        pts: &[0, 4, 2, 1, 3, 8, 6, 5, 7, 12, 10, 9, 11, 16, 14, 13, 15, 19, 18, 17],
    },
    Stream {
        codec: Codec::Hevc,
        data: include_bytes!("data/x265_main10_open_gop.h265"),
        size: (128, 64),
        codec_string: "hvc1.2.4.L60.90",
        reorder_depth: 2,
        keys: &[0, 7, 16],
        pts: &[0, 3, 2, 1, 6, 5, 4, 8, 7, 11, 10, 9, 13, 12, 15, 14, 16, 18, 17, 19],
    },
    Stream {
        codec: Codec::Hevc,
        data: include_bytes!("data/x265_temporal_layers.h265"),
        size: (128, 64),
        codec_string: "hvc1.1.6.L30.90",
        reorder_depth: 2,
        keys: &[0, 5, 13],
        pts: &[],
    },
];

const TICKS: i64 = 3600;

/// Bytes of the ADTS frames.
const AAC_FRAMES: [usize; 9] = [274, 284, 195, 213, 193, 199, 193, 219, 193];

fn access_units(stream: &Stream, chunk: usize) -> Vec<AccessUnit> {
    let mut bytes = annexb::Splitter::new();
    let mut splitter = AccessUnitSplitter::new(stream.codec);
    let mut units = Vec::new();
    for piece in stream.data.chunks(chunk) {
        bytes.push(piece, |nal| units.extend(splitter.push(nal)));
    }
    bytes.flush(|nal| units.extend(splitter.push(nal)));
    units.extend(splitter.flush());
    units
}

fn assemble(stream: &Stream) -> (Vec<Parameters>, Vec<Unit>) {
    let mut assembler = Assembler::new(stream.codec, 90_000, &[]);
    let (mut parameters, mut units) = (Vec::new(), Vec::new());
    for (index, access_unit) in access_units(stream, 1000).iter().enumerate() {
        let frame = stream.pts.get(index).copied().unwrap_or(i64::try_from(index).unwrap());
        let nals = access_unit.nals.iter().map(Bytes::as_ref);
        let assembled = assembler.push_access_unit(frame * TICKS, None, nals, Flags::default());
        assert_eq!(assembled.oversize, None);
        parameters.extend(assembled.new_parameters);
        units.extend(assembled.unit);
    }
    (parameters, units)
}

#[test]
fn every_frame_is_one_unit() {
    for stream in &STREAMS {
        let (_, units) = assemble(stream);
        assert_eq!(units.len(), 20, "{}", stream.codec_string);
        let keys: Vec<_> = (0..20).filter(|index| units[*index].key).collect();
        assert_eq!(keys, stream.keys, "{}", stream.codec_string);
        assert!(units.iter().all(|unit| !unit.discontinuity && !unit.incomplete));
    }
}

#[test]
fn chunks_change_nothing() {
    for stream in &STREAMS {
        let whole = access_units(stream, usize::MAX);
        for chunk in [1, 7, 188, 4096] {
            assert_eq!(access_units(stream, chunk), whole);
        }
    }
}

#[test]
fn sei_and_slices_are_kept_byte_for_byte() {
    for stream in &STREAMS {
        let (_, units) = assemble(stream);
        let units = units.iter().flat_map(|unit| nal::units(&unit.data));
        let sent = annexb::split(stream.data).filter(|nal| {
            !matches!(role(stream.codec, nal), Some(Role::Set(_) | Role::Delimiter | Role::Filler))
        });
        assert!(units.eq(sent), "{}", stream.codec_string);
    }
}

#[test]
fn one_configuration_with_the_right_size() {
    for stream in &STREAMS {
        let (parameters, _) = assemble(stream);
        let [parameters] = &parameters[..] else { panic!("{} configurations", parameters.len()) };
        assert_eq!((parameters.width, parameters.height), stream.size, "{}", stream.codec_string);
        assert_eq!(codec_string::of(parameters).as_deref(), Some(stream.codec_string));
        let again = Assembler::new(stream.codec, 90_000, &parameters.extradata);
        assert_eq!(again.parameters(), parameters, "the record holds it all");
    }
}

#[test]
fn pictures_tell_their_order() {
    for stream in &STREAMS {
        let mut order = PictureOrder::new(stream.codec);
        let mut reorder = Reorder::new(0);
        let mut shown = Vec::new();
        for (index, access_unit) in (0..).zip(&access_units(stream, 1000)) {
            let place = order.push(access_unit.nals.iter().map(Bytes::as_ref)).unwrap();
            reorder.configure(order.timing().reorder_depth);
            reorder.push((), place, index);
            shown.extend(std::iter::from_fn(|| reorder.pop()).map(|((), pts)| pts));
            assert!(reorder.len() <= 1 + 2 * usize::from(stream.reorder_depth));
        }
        reorder.flush();
        shown.extend(std::iter::from_fn(|| reorder.pop()).map(|((), pts)| pts));
        let expected: Vec<i64> = if stream.pts.is_empty() { shown.clone() } else { stream.pts.to_vec() };
        assert_eq!(shown, expected, "{}", stream.codec_string);
        assert_eq!(shown.iter().max(), Some(&19));
        let in_order = shown.is_sorted();
        assert_eq!(in_order, stream.reorder_depth == 0, "{}", stream.codec_string);
    }
}

#[test]
fn depth_and_frame_rate_are_read() {
    for stream in &STREAMS {
        let (parameters, _) = assemble(stream);
        let (depth, rate) = match stream.codec {
            Codec::H264 => {
                let sps =
                    h264::parse_sps(&h264::parse_avcc(&parameters[0].extradata).unwrap().sps[0]).unwrap();
                (sps.num_reorder_frames, sps.frame_rate)
            }
            _ => {
                let sps =
                    h265::parse_sps(&h265::parse_hvcc(&parameters[0].extradata).unwrap().sps[0]).unwrap();
                (sps.num_reorder_frames, sps.frame_rate)
            }
        };
        assert_eq!(depth, Some(stream.reorder_depth), "{}", stream.codec_string);
        assert_eq!(rate, Some((25, 1)), "{}", stream.codec_string);
    }
}

/// With the depth and the rate of the SPS every decoding time is exact from the first frame on.
#[test]
fn decoding_times_are_regular() {
    for stream in STREAMS.iter().filter(|stream| !stream.pts.is_empty()) {
        let (_, units) = assemble(stream);
        let dts: Vec<_> = units.iter().map(|unit| unit.dts).collect();
        let first = -i64::from(stream.reorder_depth);
        let expected: Vec<_> = (first..first + 20).map(|frame| frame * TICKS).collect();
        assert_eq!(dts, expected, "{}", stream.codec_string);
        assert!(units.iter().all(|unit| unit.dts <= unit.pts));
    }
}

#[test]
fn rasl_pictures_follow_the_cra() {
    let stream = &STREAMS[7];
    let (_, units) = assemble(stream);
    let rasl: Vec<_> = (0..20).filter(|index| h265::is_rasl(nal::units(&units[*index].data))).collect();
    assert_eq!(rasl, [8], "frame 7 is shown before the CRA picture 8");
}

#[test]
fn chroma_format_and_depth_reach_the_record() {
    let (parameters, _) = assemble(&STREAMS[4]);
    assert!(parameters[0].extradata.ends_with(&[0xfe, 0xfa, 0xfa, 0]), "4:2:2, 10 bits");
    let (parameters, _) = assemble(&STREAMS[7]);
    assert_eq!(parameters[0].extradata[16..19], [0xfd, 0xfa, 0xfa], "4:2:0, 10 bits");
    let (parameters, _) = assemble(&STREAMS[8]);
    assert_eq!(parameters[0].extradata[21] >> 3 & 7, 2, "two temporal layers");
}

/// The strict reader agrees wherever it can read.
#[test]
fn h265_sizes_match_another_reader() {
    for stream in STREAMS.iter().filter(|stream| stream.codec == Codec::Hevc) {
        let sps = annexb::split(stream.data).find(|nal| h265::nal_type(nal) == Some(33)).unwrap();
        let ours = h265::parse_sps(sps).unwrap();
        let theirs = scuffle_h265::SpsNALUnit::parse(sps).unwrap().rbsp;
        assert_eq!(
            (u64::from(ours.width), u64::from(ours.height)),
            (theirs.cropped_width(), theirs.cropped_height())
        );
        assert_eq!(ours.bit_depth_luma, theirs.bit_depth_y());
        let timing = theirs.vui_parameters.and_then(|vui| vui.vui_timing_info).unwrap();
        let theirs = (timing.time_scale.get(), timing.num_units_in_tick.get());
        assert_eq!(ours.frame_rate, Some(theirs));
    }
}

/// The same frames in both framings, cut as ffprobe counts them.
#[test]
fn adts_and_loas_hold_the_same_frames() {
    let adts = include_bytes!("data/ffmpeg_aac_16k.aac");
    let frames: Vec<_> = aac::adts::split(adts).collect();
    let sizes: Vec<_> = frames.iter().map(|(header, _)| header.frame_len).collect();
    assert_eq!(sizes, AAC_FRAMES);
    assert!(frames.iter().all(|(header, _)| header.config == aac::AudioSpecificConfig::lc(16_000, 1)));

    let loas = include_bytes!("data/ffmpeg_aac_16k.loas");
    let (elements, used) = aac::latm::split_loas(loas);
    assert_eq!(used, loas.len());
    let mut demuxer = aac::latm::Demuxer::new();
    let payloads: Vec<_> = elements.iter().flat_map(|element| demuxer.push(element).unwrap()).collect();
    assert_eq!(payloads, frames.iter().map(|(_, payload)| *payload).collect::<Vec<_>>());
    assert_eq!(demuxer.config().unwrap().config.sample_rate, 16_000);
}
