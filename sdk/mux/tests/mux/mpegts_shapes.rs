//! Transport streams of odd shapes, and bytes that are none.

use bytes::Bytes;
use patchbay_media::{Codec, Parameters, Unit, h264};
use patchbay_mux::mpegts::{Demuxer, Event, MuxOptions, Muxer, Options};
use proptest::prelude::*;

const SPS: [u8; 21] = [
    0x67, 0x42, 0xc0, 0x0d, 0xd9, 0x01, 0x41, 0x96, 0x9b, 0x80, 0x88, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00,
    0x00, 0x03, 0x01, 0x90,
];

fn tracks() -> Vec<Parameters> {
    let extradata = h264::avcc(&[&SPS], &[&[0x68, 0xcb, 0x83, 0xcb, 0x20]]);
    let mut opus = Parameters::audio(Codec::Opus, 48_000, 2);
    opus.extradata = patchbay_media::opus::Head::new(2, 0).build();
    vec![
        Parameters { extradata, ..Parameters::video(Codec::H264, 90_000) },
        opus,
        Parameters::audio(Codec::PcmAlaw, 8_000, 1),
        Parameters::audio(Codec::PcmMulaw, 8_000, 1),
    ]
}

fn picture(pts: i64, key: bool) -> Unit {
    let nal: &[u8] =
        if key { &[0, 0, 0, 4, 0x65, 0x88, 0x84, 0x11] } else { &[0, 0, 0, 4, 0x41, 0x9a, 0x22, 0x11] };
    Unit::new(pts, key, Bytes::copy_from_slice(nal))
}

fn demux(ts: &[u8], options: Options) -> (Vec<Parameters>, Vec<(usize, Unit)>) {
    let mut demuxer = Demuxer::new(options);
    let (mut tracks, mut units, mut pieces) = (Vec::new(), Vec::new(), ts.chunks(100));
    loop {
        match demuxer.poll() {
            Event::NeedData => match pieces.next() {
                Some(piece) => demuxer.push(&Bytes::copy_from_slice(piece)),
                None => demuxer.end(),
            },
            Event::Tracks(list) => tracks = list,
            Event::TrackChanged { .. } => {}
            Event::Unit { track, unit } => units.push((track, unit)),
            Event::Error(_) | Event::End => return (tracks, units),
        }
    }
}

fn stream(start: i64) -> Vec<u8> {
    let mut muxer = Muxer::new(&tracks(), MuxOptions { private_pcm: true }).unwrap();
    let mut out = Vec::new();
    for index in 0..50 {
        let at = start + index * 3_600;
        let chunk = muxer.push(0, &picture(at, index % 10 == 0)).unwrap();
        assert_eq!((chunk.key, chunk.init), (index % 10 == 0, false));
        out.extend_from_slice(&chunk.data);
        // 20 ms packets of 40 bytes; 40 ms of PCM.
        for half in 0..2 {
            let unit = Unit::new((at + half * 1_800) * 8 / 15, true, Bytes::from(vec![0xf8 | 4; 300]));
            out.extend_from_slice(&muxer.push(1, &unit).unwrap().data);
        }
        for track in 2..4 {
            let unit = Unit::new(at * 8 / 90, true, Bytes::from(vec![0xd5; 320]));
            out.extend_from_slice(&muxer.push(track, &unit).unwrap().data);
        }
    }
    out
}

#[test]
fn four_codecs_there_and_back() {
    let (found, units) = demux(&stream(0), Options { private_pcm: true });
    assert_eq!(
        found.iter().map(|t| t.codec).collect::<Vec<_>>(),
        tracks().iter().map(|t| t.codec).collect::<Vec<_>>()
    );
    assert_eq!((found[1].channels, found[2].sample_rate), (2, 8_000));
    for (track, count, step, bytes) in
        [(0, 50, 3_600, 8), (1, 100, 1_800, 300), (2, 50, 3_600, 320), (3, 50, 3_600, 320)]
    {
        let of: Vec<&Unit> = units.iter().filter(|(t, _)| *t == track).map(|(_, u)| u).collect();
        assert_eq!(of.len(), count, "track {track}");
        assert!(of.iter().all(|unit| unit.data.len() == bytes && !unit.discontinuity), "track {track}");
        assert!(of.windows(2).all(|w| w[1].pts - w[0].pts == step), "track {track}");
    }
    // Those stream types mean something else elsewhere.
    let (found, _) = demux(&stream(0), Options::default());
    assert_eq!(found.iter().map(|t| t.codec).collect::<Vec<_>>(), [Codec::H264, Codec::Opus]);
}

#[test]
fn t4_without_a_program_clock_the_same_units() {
    let whole = stream(0);
    let mut bare = whole.clone();
    let mut clocks = 0;
    for packet in bare.chunks_mut(188) {
        // An adaptation field with a program clock: the flag goes, its bytes stay as stuffing.
        if packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x10 != 0 {
            packet[5] &= !0x10;
            packet[6..12].fill(0xff);
            clocks += 1;
        }
    }
    assert!(clocks >= 50, "{clocks}");
    let options = || Options { private_pcm: true };
    assert_eq!(demux(&bare, options()), demux(&whole, options()));
}

/// 33 bits end after 26 hours.
#[test]
fn times_go_on_over_the_wrap() {
    // The muxer adds 10 s.
    let start = (1 << 33) - 900_000 - 20 * 3_600;
    let (_, units) = demux(&stream(start), Options::default());
    let video: Vec<&Unit> = units.iter().filter(|(t, _)| *t == 0).map(|(_, u)| u).collect();
    assert_eq!(video.len(), 50);
    assert!(video.windows(2).all(|w| w[1].pts - w[0].pts == 3_600 && !w[1].discontinuity));
    assert!(video[0].pts < 1 << 33 && video[49].pts > 1 << 33);
}

#[test]
fn what_does_not_fit_is_said() {
    let error = Muxer::new(&tracks(), MuxOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "mpegts: unsupported codec: pcm_alaw");
    assert!(Muxer::new(&[Parameters::video(Codec::H264, 90_000)], MuxOptions::default()).is_err());
}

/// A stream whose second picture comes seconds later still gives the sound at once, and the picture when it can.
#[test]
fn a_track_that_begins_late() {
    let mut muxer = Muxer::new(&tracks()[1..2], MuxOptions::default()).unwrap();
    let mut both = Muxer::new(&tracks()[..2], MuxOptions::default()).unwrap();
    let sound = |at: i64| Unit::new(at, true, Bytes::from(vec![0xfc; 40]));
    // Sound alone, in a program that promises pictures: the tables of one muxer, the sound of another.
    let tables = both.push(0, &picture(0, true)).unwrap().data;
    let mut ts = tables[..2 * 188].to_vec();
    let move_pid = |packets: &[u8]| -> Vec<u8> {
        packets
            .chunks(188)
            .filter(|p| p[1] & 0x1f == 1)
            .flat_map(|p| {
                let mut p = p.to_vec();
                p[2] = 1;
                p
            })
            .collect()
    };
    for index in 0..400 {
        ts.extend(move_pid(&muxer.push(0, &sound(index * 960)).unwrap().data));
    }
    let picture_at = 400 * 1_800;
    ts.extend_from_slice(&both.push(0, &picture(picture_at, true)).unwrap().data);
    let mut demuxer = Demuxer::new(Options::default());
    let (mut lists, mut units, mut sent) = (Vec::new(), Vec::new(), 0);
    let mut pieces = ts.chunks(188);
    loop {
        match demuxer.poll() {
            Event::NeedData => match pieces.next() {
                Some(piece) => {
                    sent += 1;
                    demuxer.push(&Bytes::copy_from_slice(piece));
                }
                None => demuxer.end(),
            },
            Event::Tracks(list) => lists.push((sent, list.iter().map(|t| t.codec).collect::<Vec<_>>())),
            Event::Unit { track, .. } => units.push(track),
            Event::End => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        lists.iter().map(|(_, list)| list.clone()).collect::<Vec<_>>(),
        [vec![Codec::Opus], vec![Codec::Opus, Codec::H264]]
    );
    assert!(lists[0].0 < 300, "sound waited for {} packets", lists[0].0);
    assert_eq!(units.iter().filter(|t| **t == 0).count(), 400);
    assert_eq!(units.iter().filter(|t| **t == 1).count(), 1);
}

/// A program that is without sound for a while: the sound that comes back is the same track.
#[test]
fn sound_that_comes_back_goes_on_in_its_track() {
    let part = |count: usize, from: i64| -> Vec<u8> {
        let mut muxer = Muxer::new(&tracks()[..count], MuxOptions::default()).unwrap();
        let mut out = Vec::new();
        for index in 0..10 {
            let at = from + index * 3_600;
            out.extend_from_slice(&muxer.push(0, &picture(at, index == 0)).unwrap().data);
            for half in 0..2 {
                let unit = Unit::new((at + half * 1_800) * 8 / 15, true, Bytes::from(vec![0xfc; 300]));
                if count > 1 {
                    out.extend_from_slice(&muxer.push(1, &unit).unwrap().data);
                }
            }
        }
        out
    };
    let ts = [part(2, 0), part(1, 36_000), part(2, 72_000)].concat();
    let (found, units) = demux(&ts, Options::default());
    assert_eq!(found.iter().map(|t| t.codec).collect::<Vec<_>>(), [Codec::H264, Codec::Opus]);
    let sound: Vec<i64> = units.iter().filter(|(t, _)| *t == 1).map(|(_, u)| u.pts).collect();
    assert_eq!(sound.len(), 40);
    assert_eq!(sound[20] - sound[19], 36_000 + 1_800);
    assert_eq!(units.iter().filter(|(t, _)| *t == 0).count(), 30);
}

proptest! {
    #[test]
    fn any_bytes_never_panic(data: Vec<u8>) {
        patchbay_mux::fuzz::ts(&data);
    }

    #[test]
    fn hurt_streams_never_panic(hits in proptest::collection::vec((0_usize..100_000, any::<u8>()), 1..40), piece: u8) {
        let mut bytes = vec![piece];
        bytes.extend(stream(0));
        for (at, value) in hits {
            let at = 1 + at % (bytes.len() - 1);
            bytes[at] = value;
        }
        patchbay_mux::fuzz::ts(&bytes);
    }
}
