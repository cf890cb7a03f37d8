//! Boxes of the header, new parameters, and units of any kind.

use bytes::Bytes;
use patchbay_media::{Codec, Parameters, Unit, h264, h265, opus};
use patchbay_mux::fmp4::{Error, Muxer, Options, Reconfigured, Rotation};
use patchbay_mux::{Mode, PatchKind};
use proptest::prelude::*;

/// 320x180, High, as x264 writes it.
const SPS: &str = "6764000cacd94141 9f9f016c80000003 0080000019078a14cb";
/// The same picture size by another encoder, Baseline.
const SPS_BASELINE: &str = "6742c00dd90141969b80880000030008000003019078";
const PPS: &str = "68ebe3cb22c0";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn avc(sps: &str, pps: &str) -> Parameters {
    let extradata = h264::avcc(&[&hex(sps)], &[&hex(pps)]);
    Parameters { extradata, width: 320, height: 180, ..Parameters::video(Codec::H264, 90_000) }
}

fn init(tracks: &[Parameters]) -> Vec<u8> {
    Muxer::new(tracks, Options::default()).unwrap().init().to_vec()
}

fn holds(init: &[u8], bytes: &str) -> bool {
    let bytes = hex(bytes);
    init.windows(bytes.len()).any(|window| window == bytes)
}

/// Opus in ISOBMFF 4.3.2, FLAC in ISOBMFF 3.3.2: the same fields as `OpusHead` and `STREAMINFO`.
#[test]
fn known_boxes() {
    let mut sound = Parameters::audio(Codec::Opus, 48_000, 1);
    sound.extradata = opus::Head::new(1, 312).build();
    assert!(holds(&init(&[sound]), "00000013 644f7073 00 01 0138 0000bb80 0000 00"));
    let mut flac = Parameters::audio(Codec::Flac, 48_000, 1);
    flac.extradata = hex("1000 1000 000000 000000 0bb800f0 00000000 00000000000000000000000000000000").into();
    let dfla = "00000032 64664c61 00000000 80000022 1000 1000 000000 000000 0bb800f0 00000000 00000000000000000000000000000000";
    assert!(holds(&init(&[flac.clone()]), dfla));
    flac.extradata = [&hex("664c6143 80000022")[..], &flac.extradata].concat().into();
    assert!(holds(&init(&[flac]), dfla));
    let pcm = init(&[Parameters::audio(Codec::PcmAlaw, 8_000, 1)]);
    assert!(holds(
        &pcm,
        "64664c61 00000000 80000022 8000 8000 000000 000000 01f400f0 00000000 00000000000000000000000000000000"
    ));
    // AAC without a configuration: LC at the track's rate.
    assert!(holds(&init(&[Parameters::audio(Codec::Aac, 16_000, 1)]), "05 02 1408"));
}

#[test]
fn hevc_has_its_sets_in_order_in_the_header() {
    let (vps, sps, pps) =
        (hex("40010c01"), hex("4201010160000003009000000300000300 3ca00a080c1f9659"), hex("4401c172"));
    let extradata = h265::hvcc(&[&vps], &[&sps], &[&pps]);
    let init = init(&[Parameters { extradata: extradata.clone(), ..Parameters::video(Codec::Hevc, 90_000) }]);
    assert!(init.windows(4).any(|w| w == b"hvc1"));
    assert!(init.windows(extradata.len()).any(|w| w == extradata), "hvcC as it was");
    assert!(holds(&init, "a0 0001 0004 40010c01 a1 0001"), "complete arrays, VPS first");
}

#[test]
fn what_does_not_fit_is_said() {
    let codec = Codec::Mjpeg;
    let error = Muxer::new(&[Parameters::video(codec, 90_000)], Options::default()).unwrap_err();
    assert_eq!(error, Error::Unsupported { codec });
    let codec = Codec::H264;
    let error = Muxer::new(&[Parameters::video(codec, 90_000)], Options::default()).unwrap_err();
    assert_eq!(error, Error::NoParameters { codec });
    let options = Options { pcm_as_flac: false, ..Options::default() };
    assert!(Muxer::new(&[Parameters::audio(Codec::PcmMulaw, 8_000, 1)], options).is_err());
}

#[test]
fn rotation_and_pixel_aspect_are_in_the_header() {
    let options =
        Options { rotation: Rotation::Clockwise90, pixel_aspect: Some((4, 3)), ..Options::default() };
    let init = Muxer::new(&[avc(SPS, PPS)], options).unwrap().init();
    assert!(holds(&init, "00000010 70617370 00000004 00000003"));
    assert!(holds(&init, "00000000 00010000 00000000 ffff0000 00000000 00000000 00b40000 00000000 40000000"));
}

#[test]
fn sets_that_come_later_go_before_key_pictures_too() {
    let mut muxer = Muxer::new(&[avc(SPS, PPS)], Options::default()).unwrap();
    let push = |muxer: &mut Muxer, pts, key| {
        let chunk = muxer.push(0, &Unit::new(pts, key, Bytes::from_static(&[0, 0, 0, 1, 0x65]))).unwrap();
        chunk.data.to_vec()
    };
    assert!(!holds(&push(&mut muxer, 0, true), SPS), "the header has them");
    muxer.reconfigure(0, avc(SPS_BASELINE, PPS)).unwrap();
    // ffmpeg and a browser's <video> read no header in the middle of a file.
    let whole = format!("00000016{SPS_BASELINE} 00000006{PPS} 0000000165");
    let key = push(&mut muxer, 3_600, true);
    assert!(holds(&key, &whole) && holds(&key, &format!("6d646174 {whole}")), "{key:02x?}");
    assert!(!holds(&push(&mut muxer, 7_200, false), SPS_BASELINE), "once per key picture is enough");
}

#[test]
fn new_parameters_make_a_new_header_when_they_matter() {
    let audio = Parameters::audio(Codec::Aac, 48_000, 2);
    let mut muxer = Muxer::new(&[avc(SPS, PPS), audio.clone()], Options::default()).unwrap();
    let before = muxer.init();
    assert_eq!(muxer.reconfigure(0, avc(SPS, PPS)).unwrap(), Reconfigured::Unchanged);
    muxer.push(0, &Unit::new(0, true, Bytes::from_static(&[0, 0, 0, 1, 0x65]))).unwrap();
    assert!(muxer.push(1, &Unit::new(0, true, Bytes::from_static(&[1]))).is_none());
    let Reconfigured::Init { chunk, mime_changed } = muxer.reconfigure(0, avc(SPS_BASELINE, PPS)).unwrap()
    else {
        panic!("another profile needs a header")
    };
    assert!(chunk.is_some(), "the sound that waited");
    assert!(mime_changed && muxer.init() != before);
    // Times go on.
    let chunk = muxer.push(0, &Unit::new(3_600, true, Bytes::from_static(&[0, 0, 0, 1, 0x65]))).unwrap();
    assert_eq!(time(&chunk), 0);
    // A codec that does not fit changes nothing.
    let before = muxer.init();
    assert!(muxer.reconfigure(1, Parameters::audio(Codec::AdpcmG722, 16_000, 1)).is_err());
    assert_eq!(muxer.init(), before);
    // Another clock is brought to that of the header.
    let slow = Parameters { clock_rate: 45_000, ..avc(SPS, PPS) };
    assert!(matches!(muxer.reconfigure(0, slow).unwrap(), Reconfigured::Init { .. }));
    let chunk = muxer.push(0, &Unit::new(3_600, true, Bytes::from_static(&[0, 0, 0, 1, 0x65]))).unwrap();
    // The sound goes on at 1024 samples, the picture at 7200 ticks.
    assert_eq!((time(&chunk), muxer.starts(None)), (3_600, vec![1_920, 1_024]));
}

fn time(chunk: &patchbay_mux::Chunk) -> i64 {
    let patch = chunk.patches.iter().find(|p| p.kind == PatchKind::TimeU64).unwrap();
    let at = usize::from(patch.offset);
    i64::from_be_bytes(chunk.data[at..at + 8].try_into().unwrap())
}

/// Sound that comes later than the picture moves the viewer's start, so that no time is below 0.
#[test]
fn lagging_sound_moves_the_start() {
    let audio = Parameters::audio(Codec::Aac, 48_000, 2);
    let options = Options { audio_group_ms: 0, ..Options::default() };
    let mut muxer = Muxer::new(&[avc(SPS, PPS), audio], options).unwrap();
    let mut gop = Vec::new();
    for index in 0..50 {
        let unit = Unit::new(90_000 + index * 3_600, index == 0, Bytes::from_static(&[0, 0, 0, 1, 0x65]));
        muxer.push(0, &unit);
        gop.push(unit);
        if index >= 15 {
            // 0.6 s behind.
            muxer.push(1, &Unit::new(48_000 + (index - 15) * 1_920, true, Bytes::from_static(&[1])));
        }
    }
    let history = muxer.history(&gop, 0, Mode::Squeezed);
    let next = 48_000 + 34 * 1_920 + 1_024;
    assert_eq!(history.starts[1], next, "sound begins at 0");
    assert_eq!(history.starts[0], next * 90 / 48);
}

proptest! {
    #[test]
    fn any_units_give_growing_times(
        units in proptest::collection::vec((0_usize..3, any::<i32>(), 0_i64..100_000, any::<bool>(), any::<bool>()), 0..60),
    ) {
        let tracks = [avc(SPS, PPS), Parameters::audio(Codec::Aac, 48_000, 2), Parameters::audio(Codec::PcmAlaw, 8_000, 1)];
        let mut muxer = Muxer::new(&tracks, Options::default()).unwrap();
        let mut last = [i64::MIN; 3];
        let mut gop = Vec::new();
        for (track, dts, ahead, key, discontinuity) in units {
            let dts = i64::from(dts);
            let data = Bytes::from_static(&[0, 0, 0, 1, 0x65]);
            let unit = Unit { dts, key, discontinuity, ..Unit::new(dts + ahead, key, data) };
            if track == 0 {
                gop.push(unit.clone());
            }
            let starts = muxer.starts(Some((track, &unit)));
            let Some(chunk) = muxer.push(track, &unit) else { continue };
            prop_assert!(chunk.patches.len() >= 2);
            for patch in chunk.patches.iter().filter(|p| p.kind == PatchKind::TimeU64) {
                let (at, track) = (usize::from(patch.offset), usize::from(patch.track));
                let time = i64::from_be_bytes(chunk.data[at..at + 8].try_into().unwrap());
                prop_assert!(time >= last[track], "track {track}: {time} after {}", last[track]);
                if last[track] > i64::MIN && track == 0 {
                    prop_assert!(time >= starts[track]);
                }
                last[track] = time;
            }
            for mode in [Mode::Squeezed, Mode::Raw] {
                prop_assert_eq!(muxer.history(&gop, 0, mode).starts.len(), 3);
            }
        }
    }
}
