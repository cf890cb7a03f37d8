//! Known answers: small streams written out by hand from the RFCs and ISO/IEC 14496, some measured with ffmpeg.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use patchbay_media::aac::{AudioSpecificConfig, Sbr, Signalling, adts, latm};
use patchbay_media::access_unit::AccessUnitSplitter;
use patchbay_media::assembler::{Assembler, Flags};
use patchbay_media::{Codec, Parameters, annexb, codec_string, h264, h265, nal};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

const H264_SPS: &str = "6742e01f";
const H264_PPS: &str = "68ce3c80";
const H264_IDR: &str = "65010203040506070809";

/// Several NAL units glued by start codes into one RTP packet.
#[test]
fn glued_h264_is_one_access_unit() {
    let glued = hex("6742e01f0000000168ce3c800000000165010203040506070809");
    let nals: Vec<_> = annexb::split_glued(&glued).collect();
    assert_eq!(nals, [hex(H264_SPS), hex(H264_PPS), hex(H264_IDR)]);
    let expected = hex("000000046742e01f0000000468ce3c800000000a65010203040506070809");
    assert_eq!(nal::to_length_prefixed(nals.into_iter()), expected);
}

#[test]
fn h264_sets_make_a_configuration_even_when_cut_short() {
    let (sps, pps, idr) = (hex(H264_SPS), hex(H264_PPS), hex(H264_IDR));
    let mut assembler = Assembler::new(Codec::H264, 90_000, &[]);
    let nals = [&sps[..], &pps, &idr];
    let assembled = assembler.push_access_unit(0, None, nals, Flags::default());
    let parameters = assembled.new_parameters.unwrap();
    assert_eq!(parameters.extradata, hex("0142e01fffe100046742e01f01000468ce3c80"));
    assert_eq!((parameters.width, parameters.height), (0, 0), "no size can be read");
    assert_eq!(assembled.unit.unwrap().data, hex("0000000a65010203040506070809"));
}

#[test]
fn h265_nal_units_have_their_types() {
    let [vps, sps, pps, idr] = ["40010c01", "42010101", "4401c172", "2601010203040506070809"].map(hex);
    assert_eq!(
        [&vps, &sps, &pps, &idr].map(|nal| h265::nal_type(nal)),
        [Some(32), Some(33), Some(34), Some(19)]
    );
    assert!(h265::is_key([&idr[..]]));
    assert!(!h265::starts_picture(&idr), "the first bit behind the header is 0");
    assert!(h265::starts_picture(&hex("260181")));
}

#[test]
fn codec_strings() {
    let video = |codec, extradata| Parameters { extradata, ..Parameters::video(codec, 90_000) };
    let avcc = h264::avcc(&[&hex("6742e095da01")], &[&hex(H264_PPS)]);
    assert_eq!(codec_string::of(&video(Codec::H264, avcc)).as_deref(), Some("avc1.42E095"));
    let sets = [
        // A Dahua camera: the level stands behind emulation prevention bytes.
        ("420101016000000300b0000003000003005aa0", "hvc1.1.6.L90.B0"),
        ("420101022000000300900000030000030099a0", "hvc1.2.4.L153.90"),
        ("42010121600000030000030000030000030096a0", "hvc1.1.6.H150"),
    ];
    for (sps, name) in sets {
        let hvcc = h265::hvcc(&[&hex("40010c01")], &[&hex(sps)], &[&hex("4401c172")]);
        assert_eq!(codec_string::of(&video(Codec::Hevc, hvcc)).as_deref(), Some(name));
    }
    assert_eq!(
        codec_string::of(&video(Codec::Av1, hex("8105 0c00").into())).as_deref(),
        Some("av01.0.05M.08")
    );
    assert_eq!(codec_string::of(&video(Codec::H264, Bytes::new())), None);
    let audio = |codec, extradata: &str| Parameters {
        extradata: hex(extradata).into(),
        ..Parameters::audio(codec, 48_000, 2)
    };
    let names = [
        (Codec::Aac, "1190", Some("mp4a.40.2")),
        (Codec::Aac, "2b920800", Some("mp4a.40.5")),
        (Codec::Aac, "eb098800", Some("mp4a.40.29")),
        (Codec::Opus, "", Some("opus")),
        (Codec::Flac, "", Some("flac")),
        (Codec::PcmAlaw, "", None),
        (Codec::Aac, "", None),
    ];
    for (codec, extradata, name) in names {
        assert_eq!(codec_string::of(&audio(codec, extradata)).as_deref(), name, "{codec:?} {extradata}");
    }
}

#[test]
fn hvcc_has_complete_arrays_in_order() {
    let [vps, sps, pps] = ["40010c01", "420101016000000300b0000003000003005aa0", "4401c172"].map(hex);
    let record = h265::hvcc(&[&vps], &[&sps], &[&pps]);
    let head = "01 01 60000000 b00000000000 5a f000 fc fd f8 f8 0000 0f 03";
    let arrays =
        "a0 0001 0004 40010c01 a1 0001 0013 420101016000000300b0000003000003005aa0 a2 0001 0004 4401c172";
    assert_eq!(record, hex(&format!("{head}{arrays}")));
}

#[test]
fn audio_specific_configs() {
    // config, object type, core rate, core channels
    let plain = [
        ("1408", 2, 16_000, 1),
        ("1588", 2, 8_000, 1),
        ("1490", 2, 12_000, 2),
        ("1188", 2, 48_000, 1),
        ("1190", 2, 48_000, 2),
        ("1210", 2, 44_100, 2),
    ];
    for (config, object_type, sample_rate, channels) in plain {
        let parsed = AudioSpecificConfig::parse(&hex(config)).unwrap();
        let expected = AudioSpecificConfig::lc(sample_rate, channels);
        assert_eq!((parsed, parsed.signalled_object_type()), (expected, object_type), "{config}");
        assert_eq!(parsed.build().unwrap(), hex(config));
    }
    let absent = AudioSpecificConfig::parse(&hex("119056e500")).unwrap();
    assert_eq!(absent, AudioSpecificConfig::lc(48_000, 2), "SBR is signalled as absent");

    let he = AudioSpecificConfig::parse(&hex("2b920800")).unwrap();
    assert_eq!((he.signalled_object_type(), he.object_type, he.sample_rate, he.channels), (5, 2, 22_050, 2));
    assert_eq!((he.output_sample_rate(), he.output_frame_length()), (44_100, 2048));
    let v2 = AudioSpecificConfig::parse(&hex("eb098800")).unwrap();
    assert_eq!((v2.signalled_object_type(), v2.object_type, v2.sample_rate, v2.channels), (29, 2, 24_000, 1));
    assert_eq!((v2.output_sample_rate(), v2.output_channels()), (48_000, 2));
    assert_eq!([he.build().unwrap(), v2.build().unwrap()], ["2b920800", "eb098800"].map(hex));
}

#[test]
fn backward_compatible_sbr_and_ps_round_trip() {
    let sbr = Some(Sbr { sample_rate: 48_000, signalling: Signalling::BackwardCompatible });
    let config = AudioSpecificConfig { sbr, ps: true, ..AudioSpecificConfig::lc(24_000, 1) };
    let built = config.build().unwrap();
    assert_eq!(built, hex("130856e59d4880"));
    assert_eq!(AudioSpecificConfig::parse(&built), Ok(config));
    assert_eq!(config.signalled_object_type(), 2);
}

#[test]
fn frames_of_960_samples() {
    assert_eq!(AudioSpecificConfig::parse(&hex("1194")).unwrap().frame_length, 960);
    assert_eq!(AudioSpecificConfig::parse(&hex("f8e62000")).unwrap().frame_length, 512, "ELD");
}

#[test]
fn adts_headers() {
    for (rate, channels, payload, header) in [
        (8_000, 1, 341, "fff16c402b9ffc"),
        (48_000, 2, 512, "fff14c8040fffc"),
        (16_000, 1, 8184, "fff16043fffffc"),
    ] {
        let config = AudioSpecificConfig::lc(rate, channels);
        assert_eq!(adts::build(&config, payload).unwrap(), hex(header)[..]);
        let parsed = adts::parse(&hex(header)).unwrap().unwrap();
        assert_eq!((parsed.config, parsed.payload_len(), parsed.header_len), (config, payload, 7));
    }
    assert_eq!(adts::build(&AudioSpecificConfig::lc(16_000, 1), 8185), None);
    assert_eq!(adts::parse(&hex("fff16c")), Ok(None));
    assert!(adts::parse(&hex("fff36c402b9ffc")).is_err(), "layer is always 0");
}

#[test]
fn adts_is_found_behind_noise_and_false_headers() {
    let frame = |fill: u8| {
        let mut frame = adts::build(&AudioSpecificConfig::lc(8_000, 1), 20).unwrap().to_vec();
        frame.resize(27, fill);
        frame
    };
    let mut data = hex("00ff fff16c402b9ffc 01");
    data.extend([frame(1), frame(2), frame(3)].concat());
    data.extend(&frame(4)[..20]);
    let payloads: Vec<_> = adts::split(&data).map(|(_, payload)| payload[0]).collect();
    assert_eq!(payloads, [1, 2, 3]);
    assert_eq!(adts::strip(&frame(5)), [5; 20]);
    assert_eq!(adts::strip(&[1, 2, 3]), [1, 2, 3]);
}

#[test]
fn latm_configurations() {
    let config = latm::StreamMuxConfig::parse(&hex("400026203fc0")).unwrap();
    assert_eq!(config.config, AudioSpecificConfig::lc(24_000, 2));
    assert_eq!((config.sub_frames, config.other_data_bits), (1, 0));
    assert_eq!(config.extradata, hex("1310"));
    let config = latm::StreamMuxConfig::parse(&hex("400028103fc0")).unwrap();
    assert_eq!(config.config, AudioSpecificConfig::lc(16_000, 1), "measured with ffmpeg");
}

#[test]
fn latm_payload_lengths() {
    for (length, bytes) in
        [(0, "00"), (254, "fe"), (255, "ff00"), (300, "ff2d"), (510, "ffff00"), (512, "ffff02")]
    {
        let bytes = hex(bytes);
        assert_eq!(latm::payload_length(&bytes), Some((length, &[][..])));
        let mut out = Vec::new();
        latm::put_payload_length(length, &mut out);
        assert_eq!(out, bytes);
    }
    assert_eq!(latm::payload_length(&[0xff]), None);
    let packet = hex("02 aabb 01 cc 05 dd");
    assert_eq!(latm::payloads(&packet).collect::<Vec<_>>(), [&[0xaa, 0xbb][..], &[0xcc]]);
}

/// An element with its configuration in front: the payload is not aligned to a byte.
#[test]
fn latm_with_its_configuration_inside() {
    // useSameStreamMux 0, then the 46 bits of 400026203fc0 up to the CRC flag, then length 2 and aa bb.
    let config = hex("400026203fc0");
    let mut bits = vec![false];
    let push = |bits: &mut Vec<bool>, bytes: &[u8], count: usize| {
        bits.extend((0..count).map(|bit| bytes[bit / 8] >> (7 - bit % 8) & 1 == 1));
    };
    push(&mut bits, &config, 44);
    push(&mut bits, &[2, 0xaa, 0xbb], 24);
    let element: Vec<u8> = bits
        .chunks(8)
        .map(|byte| {
            byte.iter().enumerate().fold(0, |value, (index, bit)| value | u8::from(*bit) << (7 - index))
        })
        .collect();
    let mut demuxer = latm::Demuxer::new();
    assert_eq!(demuxer.push(&hex("80")), Ok(Vec::new()), "nothing before the configuration");
    assert_eq!(demuxer.push(&element).unwrap(), [&[0xaa, 0xbb][..]]);
    assert_eq!(demuxer.config().unwrap().config.sample_rate, 24_000);

    let mut loas = vec![1, 2, 0x56, 0xe0, u8::try_from(element.len()).unwrap()];
    loas.extend(&element);
    loas.extend([0x56, 0xe0, 9, 1]);
    let (elements, used) = latm::split_loas(&loas);
    assert_eq!((elements, used), (vec![&element[..]], 5 + element.len()));
}

fn cut(codec: Codec, nals: &[&str]) -> Vec<Vec<String>> {
    let mut splitter = AccessUnitSplitter::new(codec);
    let mut units: Vec<_> = nals.iter().filter_map(|nal| splitter.push(hex(nal).into())).collect();
    units.extend(splitter.flush());
    let text = |nal: &Bytes| nal.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    units.iter().map(|unit| unit.nals.iter().map(text).collect()).collect()
}

/// Orders seen from cameras: 9, 7, 8, 6, 28 (Amcrest); several slices; sets and SEI between pictures.
#[test]
fn h264_access_units_end_where_the_next_begins() {
    let units = cut(
        Codec::H264,
        &[
            "0910", "6742", "68ce", "06aa", "6588", "6502", "4188", "06bb", "4199", "0b", "4188", "0c",
            "6742", "6588",
        ],
    );
    let expected: [&[&str]; 5] = [
        &["0910", "6742", "68ce", "06aa", "6588", "6502"],
        &["4188"],
        &["06bb", "4199", "0b"],
        &["4188", "0c"],
        &["6742", "6588"],
    ];
    assert_eq!(units, expected);
}

#[test]
fn a_lost_first_slice_does_not_join_two_pictures() {
    assert_eq!(cut(Codec::H264, &["6588", "6502", "4102"]).len(), 2, "IDR and non-IDR");
    assert_eq!(cut(Codec::H264, &["4188", "0102"]).len(), 2, "reference and non-reference");
    assert_eq!(cut(Codec::Hevc, &["260180", "020140"]).len(), 2, "IDR and trailing");
}

#[test]
fn h265_access_units_keep_their_suffix_sei() {
    let units = cut(
        Codec::Hevc,
        &[
            "460150", "40010c", "420101", "4401c1", "4e01aa", "260181", "260101", "5001bb", "4e01cc",
            "0201c0", "0201c1",
        ],
    );
    let expected: [&[&str]; 3] = [
        &["460150", "40010c", "420101", "4401c1", "4e01aa", "260181", "260101", "5001bb"],
        &["4e01cc", "0201c0"],
        &["0201c1"],
    ];
    assert_eq!(units, expected);
}
