//! Byte streams of real encoders (`sdk/media/tests/data`, made with ffmpeg 5.1.9) through the demuxer. The times that are
//! expected are those that ffmpeg gave the pictures before it wrote the byte stream.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use patchbay_sdk::demuxer::fuzz::{Outcome, annexb, drive};
use patchbay_sdk::demuxer::{AnnexB, Container, Event, Piece};
use patchbay_sdk::media::access_unit::{Role, role};
use patchbay_sdk::media::{self, Codec, nal};
use proptest::prelude::*;

const PYRAMID: &[u8] = include_bytes!("../media/tests/data/x264_main_pyramid.h264");
const SLICES: &[u8] = include_bytes!("../media/tests/data/x264_high_multislice_aud.h264");
const OPEN_GOP: &[u8] = include_bytes!("../media/tests/data/x264_open_gop.h264");
const HEVC: &[u8] = include_bytes!("../media/tests/data/x265_main.h265");
const CRA: &[u8] = include_bytes!("../media/tests/data/x265_main10_open_gop.h265");

/// Ticks of a frame: 25 a second.
const TICKS: i64 = 3600;

fn read(codec: Codec, data: &[u8]) -> Outcome {
    drive(&mut AnnexB::new(codec, false), data, 1000)
}

fn pts(outcome: &Outcome) -> Vec<i64> {
    outcome.units.iter().map(|(_, unit)| unit.pts / TICKS).collect()
}

#[test]
fn pictures_are_whole_and_have_the_encoder_s_times() {
    let cases: [(Codec, &[u8], &[i64]); 5] = [
        (Codec::H264, PYRAMID, &[0, 4, 2, 1, 3, 8, 6, 5, 7, 9, 10, 14, 12, 11, 13, 18, 16, 15, 17, 19]),
        (Codec::H264, OPEN_GOP, &[0, 3, 1, 2, 6, 4, 5, 8, 7, 11, 9, 10, 14, 12, 13, 16, 15, 19, 17, 18]),
        (Codec::H264, SLICES, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]),
        (Codec::Hevc, HEVC, &[0, 4, 2, 1, 3, 8, 6, 5, 7, 12, 10, 9, 11, 16, 14, 13, 15, 19, 18, 17]),
        (Codec::Hevc, CRA, &[0, 3, 2, 1, 6, 5, 4, 8, 7, 11, 10, 9, 13, 12, 15, 14, 16, 18, 17, 19]),
    ];
    for (codec, data, expected) in cases {
        let outcome = read(codec, data);
        assert_eq!(outcome.error, None);
        assert_eq!(outcome.tracks.len(), 1);
        assert_eq!((outcome.tracks[0].codec, outcome.tracks[0].clock_rate), (codec, 90_000));
        assert_eq!(pts(&outcome), expected);
        assert!(outcome.units.iter().all(|(_, unit)| unit.pts % TICKS == 0 && unit.dts % TICKS == 0));
        assert!(outcome.units[0].1.key && !outcome.units[1].1.key);
        let sent = media::annexb::split(data)
            .filter(|nal| !matches!(role(codec, nal), Some(Role::Set(_) | Role::Delimiter | Role::Filler)));
        let came = outcome.units.iter().flat_map(|(_, unit)| nal::units(&unit.data));
        assert!(came.eq(sent), "slices and SEI are kept byte for byte");
    }
}

#[test]
fn parameters_change_in_the_middle() {
    let outcome = read(Codec::H264, &[PYRAMID, SLICES, PYRAMID].concat());
    assert_eq!((outcome.tracks[0].width, outcome.tracks[0].height), (64, 48));
    let sizes: Vec<_> = outcome.changes.iter().map(|(_, p)| (p.width, p.height)).collect();
    assert_eq!(sizes, [(130, 66), (64, 48)]);
    assert_eq!(outcome.units.len(), 60);
    let mut times = pts(&outcome);
    times.sort_unstable();
    assert_eq!(times, (0..60).collect::<Vec<_>>());
}

#[test]
fn a_stream_that_is_joined_in_the_middle_waits_for_its_parameters() {
    let middle = &PYRAMID[PYRAMID.len() / 3..];
    let outcome = read(Codec::H264, middle);
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.units.len(), 10, "from the second key picture on");
    assert!(outcome.units[0].1.key);
}

#[test]
fn cut_bytes_give_what_is_whole() {
    for (codec, data) in [(Codec::H264, PYRAMID), (Codec::Hevc, HEVC)] {
        for cut in (0..data.len()).step_by(41) {
            let outcome = read(codec, &data[..cut]);
            assert_eq!(outcome.error.is_some(), outcome.units.is_empty(), "{cut}");
            if let Some(error) = outcome.error {
                assert!(error.message.contains("the bytes end before"), "{error}");
            }
        }
    }
}

#[test]
fn bytes_that_never_become_a_picture_are_given_up() {
    let mut reader = AnnexB::new(Codec::H264, true);
    // A NAL unit of 60 bytes again and again: slices whose sets never come.
    let junk: Vec<u8> = [&[0, 0, 1, 0x65, 0x88][..], &[0x55; 60]].concat().repeat(1000);
    let mut pushed = 0_u64;
    let error = loop {
        match reader.poll() {
            Event::NeedData => {
                let data = junk.clone().into();
                reader.push(Piece { offset: pushed, at: std::time::Duration::ZERO, data });
                pushed += junk.len() as u64;
            }
            Event::Error(error) => break error,
            event => panic!("{event:?}"),
        }
        assert!(pushed < 8 << 20, "it goes on for ever");
    };
    assert_eq!(error.message, "h264: no parameter sets in the first 5 MiB");
}

#[test]
fn live_pictures_have_the_time_of_their_arrival() {
    // Each picture of the stream without B-frames comes 50 ms after the one before; its SPS says 40.
    let mut reader = AnnexB::new(Codec::H264, true);
    let mut times = Vec::new();
    let starts: Vec<usize> =
        SLICES.windows(6).enumerate().filter(|(_, w)| w[..5] == [0, 0, 0, 1, 9]).map(|(at, _)| at).collect();
    assert_eq!(starts.len(), 20);
    for (n, start) in (0_u32..).zip(&starts) {
        let end = starts.get(n as usize + 1).copied().unwrap_or(SLICES.len());
        let data = bytes::Bytes::copy_from_slice(&SLICES[*start..end]);
        reader.push(Piece { offset: *start as u64, at: std::time::Duration::from_millis(50) * n, data });
        loop {
            match reader.poll() {
                Event::NeedData => break,
                Event::Unit { unit, .. } => times.push((n, unit.pts)),
                Event::Tracks(_) => {}
                event => panic!("{event:?}"),
            }
        }
    }
    let whole: Vec<u32> = times.iter().map(|(n, _)| *n).collect();
    assert_eq!(whole, (1..20).collect::<Vec<_>>(), "a picture is whole when the next begins");
    let late = times[18].1 - times[0].1;
    assert!((late - 18 * 4500).abs() < 90 * 80, "{late}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_pieces_give_the_same(piece in 1_usize..3000, hevc: bool) {
        let (codec, data) = if hevc { (Codec::Hevc, HEVC) } else { (Codec::H264, PYRAMID) };
        let whole = drive(&mut AnnexB::new(codec, false), data, usize::MAX);
        prop_assert_eq!(drive(&mut AnnexB::new(codec, false), data, piece), whole);
    }

    #[test]
    fn any_damage_keeps_the_rules(choice: u8, at in 0_usize..3000, damage in proptest::collection::vec(any::<u8>(), 1..40)) {
        let data = if choice & 1 == 0 { PYRAMID } else { HEVC };
        let mut broken = [&[choice][..], data].concat();
        let at = at % (broken.len() - damage.len() - 1) + 1;
        broken[at..at + damage.len()].copy_from_slice(&damage);
        annexb(&broken);
    }

    #[test]
    fn any_bytes_keep_the_rules(data in proptest::collection::vec(prop_oneof![0_u8..4, any::<u8>()], 0..400)) {
        annexb(&data);
    }
}
