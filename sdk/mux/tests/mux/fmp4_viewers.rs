//! What a viewer of fragmented MP4 gets from its first fragment on, whenever it joins and however sound and picture come.

use bytes::Bytes;
use mp4_atom::Decode;
use patchbay_media::{Codec, Parameters, Unit, h264};
use patchbay_mux::fmp4::{Muxer, Options};
use patchbay_mux::{Chunk, Mode, PatchKind};
use proptest::prelude::*;

const VIDEO_RATE: i64 = 90_000;
const AUDIO_RATE: i64 = 48_000;
const PICTURES: i64 = 70;

/// A source: a key picture every 10th, with two B-frames between the others or none, and AAC.
#[derive(Debug, Clone)]
struct Camera {
    has_b_frames: bool,
    /// When the first sound is, beside the first picture.
    sound_ms: i64,
    /// How much later sound comes than pictures of its time.
    behind_ms: i64,
    group_ms: u32,
}

impl Camera {
    /// Units by track, in the order of their arrival. The first byte behind a NAL unit's length counts a track's units.
    fn units(&self) -> Vec<(usize, Unit)> {
        let mut units = Vec::new();
        for n in 0..PICTURES {
            let shown = match (self.has_b_frames, n % 10 % 3) {
                (false, _) => n,
                _ if n % 10 == 0 => n + 1,
                (_, 1) => n + 3,
                _ => n,
            };
            let data = Bytes::copy_from_slice(&[0, 0, 0, 2, 0x65, n as u8]);
            let unit = Unit { dts: n * 3_600, ..Unit::new(shown * 3_600, n % 10 == 0, data) };
            units.push((n * 40, 0, unit));
        }
        for n in 0..PICTURES * 40 * 48 / 1_024 {
            let unit = Unit::new(self.sound_ms * 48 + n * 1_024, true, Bytes::copy_from_slice(&[n as u8]));
            units.push((self.sound_ms + n * 1_024 / 48 + self.behind_ms, 1, unit));
        }
        units.sort_by_key(|(arrival, track, _)| (*arrival, *track));
        let zero = |rate: i64| 1_000 * rate;
        let moved = |(_, track, unit): (i64, usize, Unit)| {
            let zero = zero(if track == 0 { VIDEO_RATE } else { AUDIO_RATE });
            (track, Unit { pts: unit.pts + zero, dts: unit.dts + zero, ..unit })
        };
        units.into_iter().map(moved).collect()
    }
}

fn tracks() -> Vec<Parameters> {
    let sps = [
        0x67, 0x42, 0xc0, 0x0d, 0xd9, 0x01, 0x41, 0x96, 0x9b, 0x80, 0x88, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00,
        0x00, 0x03, 0x01, 0x90, 0x78,
    ];
    let extradata = h264::avcc(&[&sps], &[&[0x68, 0xcb, 0x83, 0xcb, 0x20]]);
    let video = Parameters { extradata, width: 320, height: 180, ..Parameters::video(Codec::H264, 90_000) };
    let mut audio = Parameters::audio(Codec::Aac, 48_000, 2);
    audio.extradata = Bytes::from_static(&[0x11, 0x90]);
    vec![video, audio]
}

/// A sample as a viewer has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    number: u8,
    dts: i64,
    pts: i64,
    duration: i64,
}

/// Live chunks by the rules of [`patchbay_mux::Patch`], for a viewer that began with `starts`.
fn for_viewer(chunk: &Chunk, starts: &[i64]) -> Option<Vec<u8>> {
    let mut data = chunk.data.to_vec();
    let mut is_before = !chunk.key;
    for patch in chunk.patches.iter().filter(|patch| patch.kind == PatchKind::TimeU64) {
        let at = usize::from(patch.offset);
        let time =
            i64::from_be_bytes(data[at..at + 8].try_into().unwrap()) - starts[usize::from(patch.track)];
        is_before &= time < 0;
        data[at..at + 8].copy_from_slice(&time.max(0).to_be_bytes());
    }
    (!is_before).then_some(data)
}

fn read(fragment: &[u8], seen: &mut [Vec<Seen>; 2]) {
    let moof = mp4_atom::Moof::decode(&mut &fragment[..]).unwrap();
    for traf in &moof.traf {
        let track = traf.tfhd.track_id as usize - 1;
        let mut dts = traf.tfdt.as_ref().unwrap().base_media_decode_time as i64;
        let run = &traf.trun[0];
        let mut at = run.data_offset.unwrap() as usize;
        for index in 0..run.samples.len() {
            let sample = run.samples.get(index).unwrap();
            let size = sample.size.unwrap() as usize;
            let duration = i64::from(sample.duration.unwrap());
            let pts = dts + sample.cts.unwrap_or(0);
            seen[track].push(Seen { number: fragment[at + size - 1], dts, pts, duration });
            (dts, at) = (dts + duration, at + size);
        }
    }
}

/// What a viewer sees that joins when `join` units have come, of a run that begins with the unit `first`; and how many of the
/// pictures are history.
fn watch(camera: &Camera, first: usize, join: usize, mode: Option<Mode>) -> ([Vec<Seen>; 2], usize) {
    let options = Options { audio_group_ms: camera.group_ms, ..Options::default() };
    let mut muxer = Muxer::new(&tracks(), options).unwrap();
    let (mut seen, mut starts, mut history) = ([Vec::new(), Vec::new()], None, 0);
    let mut group: Vec<Unit> = Vec::new();
    for (index, (track, unit)) in camera.units().iter().enumerate().skip(first) {
        // Without a group there is no history, and the viewer waits for the next key picture.
        if index >= join && starts.is_none() {
            let made = mode.filter(|_| !group.is_empty()).map(|mode| muxer.history(&group, 0, mode));
            if let Some(made) = made {
                read(&made.data, &mut seen);
                (starts, history) = (Some(made.starts), seen[0].len());
            } else if *track == 0 && unit.key {
                starts = Some(muxer.starts(Some((0, unit))));
            }
        }
        if let Some(chunk) = muxer.push(*track, unit)
            && let Some(starts) = &starts
            && let Some(fragment) = for_viewer(&chunk, starts)
        {
            read(&fragment, &mut seen);
        }
        if *track == 0 && (unit.key || !group.is_empty()) {
            if unit.key {
                group.clear();
            }
            group.push(unit.clone());
        }
    }
    (seen, history)
}

fn arb_camera() -> impl Strategy<Value = Camera> {
    (any::<bool>(), -100_i64..100, -300_i64..600, prop_oneof![Just(0), Just(60)]).prop_map(
        |(has_b_frames, sound_ms, behind_ms, group_ms)| Camera {
            has_b_frames,
            sound_ms,
            behind_ms,
            group_ms,
        },
    )
}

/// What is wrong with what a viewer sees.
fn judge(camera: &Camera, [video, audio]: &[Vec<Seen>; 2], history: usize) -> Result<(), String> {
    let units = camera.units();
    let source = |track: usize, number: u8| {
        let same = |(of, unit): &&(usize, Unit)| *of == track && unit.data.last() == Some(&number);
        units.iter().find(same).map_or(0, |(_, unit)| unit.pts)
    };
    for (name, samples) in [("picture", video), ("sound", audio)] {
        for pair in samples.windows(2) {
            if pair[1].dts <= pair[0].dts
                || (name == "sound" && pair[1].dts < pair[0].dts + pair[0].duration - 1)
            {
                return Err(format!("a {name} lies over the one before: {pair:?}"));
            }
        }
    }
    let mut shown: Vec<&Seen> = video.iter().collect();
    shown.sort_by_key(|seen| source(0, seen.number));
    if let Some(pair) = shown.windows(2).find(|pair| pair[1].pts <= pair[0].pts) {
        return Err(format!("a picture is shown before its time: {pair:?}"));
    }
    // Live pictures and all sound lie as in the source, beside each other.
    let us = |ticks: i64, rate: i64| ticks * 1_000_000 / rate;
    let lies =
        |track: usize, rate: i64, seen: &Seen| us(source(track, seen.number), rate) - us(seen.pts, rate);
    let mut all = video.iter().skip(history).map(|s| (0, s, lies(0, VIDEO_RATE, s)));
    let Some((_, _, place)) = all.next() else { return Ok(()) };
    let apart = |l: i64| (l - place).abs() > 50;
    match all.chain(audio.iter().map(|s| (1, s, lies(1, AUDIO_RATE, s)))).find(|(_, _, l)| apart(*l)) {
        Some((track, seen, lies)) => Err(format!("track {track}: {} us off: {seen:?}", lies - place)),
        None => Ok(()),
    }
}

#[test]
fn sound_that_begins_before_the_first_picture_lies_over_nothing() {
    for behind_ms in [0, 33, 45, 60, 120] {
        let camera = Camera { has_b_frames: false, sound_ms: -33, behind_ms, group_ms: 60 };
        for first in 0..6 {
            let (seen, history) = watch(&camera, first, first, None);
            assert!(seen[1].len() > 40, "{}", seen[1].len());
            assert_eq!(judge(&camera, &seen, history), Ok(()), "{behind_ms} ms behind, from unit {first}");
        }
    }
}

/// A group that is sent again, as over WebRTC, lies behind pictures that are shown after those that follow it. A picture that
/// is shown before it is decoded makes FFmpeg move all pictures of the track against the sound.
#[test]
fn no_picture_is_shown_before_it_is_decoded() {
    let mut muxer = Muxer::new(&tracks(), Options::default()).unwrap();
    let (mut seen, mut starts) = ([Vec::new(), Vec::new()], None);
    let mut before = Vec::new();
    for (number, (dts, pts, key)) in [
        (0, 7_200, true),
        (3_600, 14_400, false),
        (14_401, 14_401, true),
        (9_000, 10_800, false),
        (14_400, 18_000, false),
    ]
    .into_iter()
    .enumerate()
    {
        let data = Bytes::copy_from_slice(&[0, 0, 0, 2, 0x65, number as u8]);
        let unit = Unit { dts: 900_000 + dts, ..Unit::new(900_000 + pts, key, data) };
        let starts = starts.get_or_insert_with(|| muxer.starts(Some((0, &unit)))).clone();
        let chunk = muxer.push(0, &unit).unwrap();
        read(&for_viewer(&chunk, &starts).unwrap(), &mut seen);
        before.push(unit);
        for mode in [Mode::Squeezed, Mode::Raw] {
            read(&muxer.history(&before, 0, mode).data, &mut seen);
        }
    }
    assert!(seen[0].iter().all(|seen| seen.pts >= seen.dts), "{:?}", seen[0]);
}

proptest! {
    #[test]
    fn whoever_joins_sees_pictures_in_order_with_their_sound(
        camera in arb_camera(), first in 0_usize..30, join in 0_usize..60,
        mode in prop_oneof![Just(None), Just(Some(Mode::Squeezed)), Just(Some(Mode::Raw))],
    ) {
        let (seen, history) = watch(&camera, first, first + join, mode);
        prop_assert!(!seen[0].is_empty() && seen[1].len() > 10);
        prop_assert_eq!(judge(&camera, &seen, history), Ok(()));
    }
}
