//! FLV of odd shapes: late tracks, wraps, changed parameters, codecs that no program here writes.

use std::time::Duration;

use bytes::Bytes;
use patchbay_media::{Codec, Event as TagEvent, Parameters, Unit, h264, h265, opus};
use patchbay_mux::Mode;
use patchbay_mux::flv::{Demuxer, Error, Event, Muxer, TagDemuxer, TagKind, TagMuxer};
use proptest::prelude::*;

use crate::peers::{Demuxed, demux_flv, demux_mp4};

const SPS: [u8; 21] = [
    0x67, 0x42, 0xc0, 0x0d, 0xd9, 0x01, 0x41, 0x96, 0x9b, 0x80, 0x88, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00,
    0x00, 0x03, 0x01, 0x90,
];
/// Of an encoder with other quantizers.
const PPS: [[u8; 5]; 2] = [[0x68, 0xcb, 0x83, 0xcb, 0x20], [0x68, 0xca, 0x83, 0xcb, 0x20]];

fn avcc(pps: usize) -> Bytes {
    h264::avcc(&[&SPS], &[&PPS[pps]])
}

fn video() -> Parameters {
    Parameters { extradata: avcc(0), ..Parameters::video(Codec::H264, 90_000) }
}

fn aac() -> Parameters {
    Parameters { extradata: Bytes::from_static(&[0x11, 0x90]), ..Parameters::audio(Codec::Aac, 48_000, 2) }
}

fn picture(pts: i64, key: bool) -> Unit {
    let nal: &[u8] =
        if key { &[0, 0, 0, 4, 0x65, 0x88, 0x84, 0x11] } else { &[0, 0, 0, 4, 0x41, 0x9a, 0x22, 0x11] };
    Unit::new(pts, key, Bytes::copy_from_slice(nal))
}

const CONFIG: TagKind = TagKind::Video;
const H264_KEY: &[u8] = &[0x17, 1, 0, 0, 0, 0, 0, 0, 4, 0x65, 0x88, 0x84, 0x11];
const AAC_CONFIG: &[u8] = &[0xaf, 0, 0x11, 0x90];
const AAC_FRAME: &[u8] = &[0xaf, 1, 0x21, 0x10];

fn h264_config(pps: usize) -> Bytes {
    [&[0x17, 0, 0, 0, 0][..], &avcc(pps)].concat().into()
}

/// Items of tags that arrive at their own time.
fn items<'a>(tags: impl IntoIterator<Item = (TagKind, u32, &'a [u8])>) -> Vec<TagEvent> {
    let mut demuxer = TagDemuxer::new();
    let mut items = Vec::new();
    let next = |demuxer: &mut TagDemuxer| Some(demuxer.poll()).filter(|event| *event != TagEvent::NeedData);
    for (kind, time, body) in tags {
        demuxer.push(kind, time, &Bytes::copy_from_slice(body), Duration::from_millis(time.into()));
        items.extend(std::iter::from_fn(|| next(&mut demuxer)));
    }
    demuxer.end();
    items.extend(std::iter::from_fn(|| next(&mut demuxer)));
    items
}

fn dts_of(items: &[TagEvent], of: usize) -> Vec<i64> {
    items
        .iter()
        .filter_map(|i| match i {
            TagEvent::Unit { track, unit } if *track == of => Some(unit.dts),
            _ => None,
        })
        .collect()
}

#[test]
fn sound_and_picture_wait_for_each_other() {
    let config = h264_config(0);
    let found = items([
        (CONFIG, 0, &config[..]),
        (TagKind::Video, 0, H264_KEY),
        (TagKind::Video, 40, H264_KEY),
        // Behind the first picture.
        (TagKind::Audio, 50, AAC_CONFIG),
        (TagKind::Audio, 50, AAC_FRAME),
    ]);
    let TagEvent::Tracks(tracks) = &found[0] else { panic!("{found:?}") };
    assert_eq!(tracks.iter().map(|t| t.codec).collect::<Vec<_>>(), [Codec::H264, Codec::Aac]);
    assert_eq!((dts_of(&found, 0), dts_of(&found, 1)), (vec![0, 40], vec![50]));
}

#[test]
fn late_tracks_are_added() {
    let config = h264_config(0);
    let mut tags = vec![(TagKind::Audio, 0, AAC_CONFIG)];
    // OpenIPC: the picture begins 3 s late.
    tags.extend((0..150).map(|i| (TagKind::Audio, i * 21, AAC_FRAME)));
    tags.extend([(CONFIG, 3_000, &config[..]), (TagKind::Video, 3_100, H264_KEY)]);
    let found = items(tags);
    let announced: Vec<usize> = found
        .iter()
        .filter_map(|item| if let TagEvent::Tracks(tracks) = item { Some(tracks.len()) } else { None })
        .collect();
    assert_eq!(announced, [1, 2]);
    assert_eq!((dts_of(&found, 0).len(), dts_of(&found, 1)), (150, vec![3_100]));
}

#[test]
fn a_hint_of_metadata_shortens_the_wait() {
    let mut muxer = TagMuxer::new(&[video()]).unwrap();
    let metadata = muxer.metadata();
    assert!(muxer.place(0, &picture(0, true)).is_some());
    let config = h264_config(0);
    let until_tracks = |metadata: &[u8]| {
        let mut demuxer = TagDemuxer::new();
        let push = |demuxer: &mut TagDemuxer, kind, time, body: &[u8]| {
            demuxer.push(kind, time, &Bytes::copy_from_slice(body), Duration::ZERO);
        };
        push(&mut demuxer, TagKind::Script, 0, metadata);
        push(&mut demuxer, CONFIG, 0, &config);
        (0..).map(|i| i * 40).find(|time| {
            push(&mut demuxer, TagKind::Video, *time, H264_KEY);
            demuxer.is_announced()
        })
    };
    assert_eq!(until_tracks(&metadata), Some(520));
    assert_eq!(until_tracks(b""), Some(2_000));
}

#[test]
fn times_wrap() {
    let config = h264_config(0);
    let times = |start: u32, end: u32, modulo: u32| -> Vec<i64> {
        let tags = (0..6).map(|i| start.wrapping_add(i * 40) & modulo);
        let tags: Vec<_> = tags.map(|time| (TagKind::Video, time, H264_KEY)).collect();
        assert!(tags.iter().any(|(_, time, _)| *time < end), "a wrap");
        dts_of(&items([(CONFIG, start, &config[..])].into_iter().chain(tags)), 0)
    };
    let steps = |times: Vec<i64>| times.windows(2).map(|w| w[1] - w[0]).collect::<Vec<_>>();
    assert_eq!(steps(times(u32::MAX - 100, 200, u32::MAX)), [40; 5], "2^32");
    assert_eq!(steps(times(0xff_ffff - 100, 200, 0xff_ffff)), [40; 5], "2^24 without an upper byte");
    assert_eq!(steps(times(0xff_ffff - 100, u32::MAX, u32::MAX)), [40; 5], "2^24 with one");
    // Sound and picture wrap a little apart.
    let apart = items([
        (CONFIG, 0, &config[..]),
        (TagKind::Audio, 0, AAC_CONFIG),
        (TagKind::Video, 0xff_fff0, H264_KEY),
        (TagKind::Audio, 0xff_ff00, AAC_FRAME),
        (TagKind::Video, 0x18, H264_KEY),
        (TagKind::Audio, 0xff_ff20, AAC_FRAME),
        (TagKind::Audio, 0x10, AAC_FRAME),
        (TagKind::Video, 0x40, H264_KEY),
    ]);
    assert_eq!(steps(dts_of(&apart, 0)), [40, 40]);
    assert_eq!(steps(dts_of(&apart, 1)), [32, 240]);
}

#[test]
fn a_source_that_counts_anew_goes_on() {
    let config = h264_config(0);
    let found = items([
        (CONFIG, 500_000, &config[..]),
        (TagKind::Video, 500_000, H264_KEY),
        (TagKind::Video, 500_040, H264_KEY),
        (TagKind::Video, 0, H264_KEY),
        (TagKind::Video, 40, H264_KEY),
    ]);
    assert_eq!(dts_of(&found, 0), [500_000, 500_040, 500_080, 500_120]);
    let marked =
        found.iter().filter(|i| matches!(i, TagEvent::Unit { unit, .. } if unit.discontinuity)).count();
    assert_eq!(marked, 1);
}

#[test]
fn equal_configurations_are_no_change() {
    let (a, b) = (h264_config(0), h264_config(1));
    let found = items([
        (CONFIG, 0, &a[..]),
        (TagKind::Video, 0, H264_KEY),
        (CONFIG, 40, &a[..]),
        (TagKind::Video, 2_040, H264_KEY),
        (CONFIG, 2_080, &b[..]),
        (TagKind::Video, 2_080, H264_KEY),
    ]);
    let changes: Vec<_> = found
        .iter()
        .filter_map(
            |i| if let TagEvent::TrackChanged { parameters, .. } = i { Some(parameters) } else { None },
        )
        .collect();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].extradata, avcc(1));
}

#[test]
fn a_file_without_media_is_an_error() {
    let empty = b"FLV\x01\0\0\0\0\x09\0\0\0\0";
    assert_eq!(demux_flv(empty, 1), Err(Error::NoTracks));
    assert_eq!(demux_flv(b"RIFF", 1), Err(Error::NotFlv));
    let mut demuxer = Demuxer::new();
    demuxer.push(empty, Duration::ZERO);
    assert_eq!(demuxer.poll(), Event::NeedData);
}

/// Tracks of every codec that goes out, one picture and one sound each time.
fn pairs() -> Vec<Vec<Parameters>> {
    // VPS and PPS as short as they are read, SPS of a Dahua camera.
    let sps = b"\x42\x01\x01\x01\x60\0\0\x03\0\xb0\0\0\x03\0\0\x03\0\x5a\xa0";
    let hevc = Parameters {
        extradata: h265::hvcc(&[b"\x40\x01\x0c\x01"], &[sps], &[b"\x44\x01\xc1\x72"]),
        ..Parameters::video(Codec::Hevc, 90_000)
    };
    let with = |p: Parameters, extradata: &'static [u8]| Parameters {
        extradata: Bytes::from_static(extradata),
        ..p
    };
    let opus = Parameters {
        extradata: opus::Head::new(2, 312).build(),
        ..Parameters::audio(Codec::Opus, 48_000, 2)
    };
    let mut flac = vec![0_u8; 34];
    flac[10..14].copy_from_slice(&[0x0b, 0xb8, 0x02, 0xf0]);
    let flac = Parameters { extradata: flac.into(), ..Parameters::audio(Codec::Flac, 48_000, 2) };
    vec![
        vec![video(), aac()],
        vec![hevc, opus],
        vec![
            Parameters {
                width: 320,
                height: 180,
                ..with(Parameters::video(Codec::Av1, 90_000), b"\x81\0\x0c\0")
            },
            flac,
        ],
        vec![Parameters::video(Codec::Vp9, 1_000), Parameters::audio(Codec::PcmAlaw, 8_000, 1)],
        vec![Parameters::video(Codec::Vp8, 1_000), Parameters::audio(Codec::PcmMulaw, 8_000, 1)],
        vec![Parameters::audio(Codec::PcmS16le, 22_050, 2)],
    ]
}

#[test]
fn every_codec_there_and_back() {
    for tracks in pairs() {
        let mut muxer = Muxer::new(&tracks).unwrap();
        let mut chunks = Vec::new();
        // VCL NAL units of the right type for a key picture of either codec.
        let pictures: &[u8] = if tracks[0].codec == Codec::Hevc {
            &[0, 0, 0, 4, 0x26, 0x01, 0xaf, 0x11]
        } else {
            &[0, 0, 0, 4, 0x65, 0x88, 0x84, 0x11]
        };
        let mut out = muxer.init().to_vec();
        out.extend_from_slice(&muxer.history(&[], 0, Mode::Squeezed).data);
        for index in 0..80 {
            for (track, p) in tracks.iter().enumerate() {
                let at = index * 40 * i64::from(p.clock_rate) / 1_000;
                muxer.push(track, &Unit::new(at, true, Bytes::copy_from_slice(pictures)), &mut chunks);
            }
        }
        chunks.iter().for_each(|chunk| out.extend_from_slice(&chunk.data));
        let demuxed = demux_flv(&out, 100).unwrap();
        let list = |tracks: &[Parameters]| -> Vec<_> {
            tracks.iter().map(|t| (t.codec, t.sample_rate, t.channels)).collect()
        };
        assert_eq!(list(&demuxed.tracks), list(&tracks));
        for (found, told) in demuxed.tracks.iter().zip(&tracks) {
            assert_eq!(found.extradata, told.extradata, "{:?}", told.codec);
            assert!(told.width == 0 || (found.width, found.height) == (told.width, told.height));
        }
        for (track, told) in tracks.iter().enumerate() {
            let units = demuxed.units.iter().filter(|(t, _)| *t == track);
            let times: Vec<i64> = units.clone().map(|(_, unit)| unit.dts).collect();
            assert_eq!(times, (0..80).map(|i| i * 40).collect::<Vec<_>>(), "{:?}", told.codec);
            assert!(units.clone().all(|(_, unit)| unit.data == pictures && unit.key));
        }
    }
}

#[test]
fn what_has_no_place_is_refused() {
    for parameters in [
        Parameters::video(Codec::H264, 90_000),
        Parameters::video(Codec::Mjpeg, 90_000),
        Parameters::audio(Codec::PcmAlaw, 16_000, 1),
        Parameters::audio(Codec::PcmS16le, 48_000, 2),
    ] {
        assert!(Muxer::new(std::slice::from_ref(&parameters)).is_err(), "{parameters:?}");
    }
}

#[test]
fn new_parameters_stand_before_every_key_unit() {
    let mut muxer = Muxer::new(&[video(), aac()]).unwrap();
    let mut chunks = Vec::new();
    muxer.push(0, &picture(0, true), &mut chunks);
    assert_eq!(chunks.len(), 1);
    muxer.reconfigure(0, Parameters { extradata: avcc(1), ..video() }).unwrap();
    muxer.push(0, &picture(3_600, false), &mut chunks);
    assert_eq!(chunks.len(), 2);
    for at in [7_200, 10_800] {
        chunks.clear();
        muxer.push(0, &picture(at, true), &mut chunks);
        assert_eq!(chunks.len(), 2);
        assert!(chunks.iter().all(|chunk| chunk.key));
        assert_eq!((chunks[0].patches.len(), chunks[1].patches.len()), (2, 1));
    }
    // A player that was there from the start sees one change.
    let init = muxer.init();
    assert_eq!(&init[..], b"FLV\x01\x05\0\0\0\x09\0\0\0\0");
}

/// The kept clip as FLV.
fn kept() -> (Demuxed, Vec<u8>) {
    let clip = demux_mp4(include_bytes!("../data/h264-aac.mp4"), 1_000).unwrap();
    let mut muxer = Muxer::new(&clip.tracks).unwrap();
    let mut out = [muxer.init(), muxer.history(&[], 0, Mode::Squeezed).data].concat();
    let mut chunks = Vec::new();
    clip.units.iter().for_each(|(track, unit)| muxer.push(*track, unit, &mut chunks));
    chunks.iter().for_each(|chunk| out.extend_from_slice(&chunk.data));
    (clip, out)
}

#[test]
fn a_kept_clip_there_and_back() {
    let (clip, flv) = kept();
    let again = demux_flv(&flv, 333).unwrap();
    for track in 0..2 {
        let of = |d: &Demuxed| -> Vec<Unit> {
            d.units.iter().filter(|(t, _)| *t == track).map(|(_, unit)| unit.clone()).collect()
        };
        let (a, b) = (of(&clip), of(&again));
        // Sound before the first picture does not go out.
        let b_first = &b[0];
        let skipped = a.len() - b.len();
        assert!(skipped <= 2);
        let a = &a[skipped..];
        let rate = i64::from(clip.tracks[track].clock_rate);
        for (x, y) in a.iter().zip(&b) {
            assert_eq!(x.data, y.data);
            let ms = |ticks: i64| ticks * 1_000 / rate;
            assert!((ms(x.pts - a[0].pts) - (y.pts - b_first.pts)).abs() <= 1);
        }
    }
}

proptest! {
    #[test]
    fn hurt_clips_never_panic(hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12), piece: u8) {
        let (_, mut flv) = kept();
        for (at, byte) in hits {
            let at = at.index(flv.len());
            flv[at] = byte;
        }
        flv.insert(0, piece);
        patchbay_mux::fuzz::flv(&flv);
    }

    #[test]
    fn any_bytes_never_panic(data: Vec<u8>) {
        patchbay_mux::fuzz::flv(&data);
        patchbay_mux::fuzz::flv(&[&[3][..], b"FLV\x01\x05\0\0\0\x09\0\0\0\0", &data].concat());
    }
}
