//! Playlists of synthetic streams against the rules of RFC 8216 and draft-pantos-hls-rfc8216bis.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use std::collections::HashMap;

use bytes::Bytes;
use patchbay_media::{Codec, Parameters, Unit, h264};
use patchbay_plugin_hls::server::segmenter::{Container, Out, Plan, SECOND, Segmenter};
use patchbay_plugin_hls::server::window::{Found, Position, Window};
use proptest::prelude::*;

/// 320x180, x264.
const SPS: [u8; 10] = [0x67, 0x64, 0x00, 0x0c, 0xac, 0xd9, 0x41, 0x41, 0x9f, 0x9e];

fn video() -> Parameters {
    let extradata = h264::avcc(&[&SPS], &[&[0x68, 0xcb, 0x83, 0xcb, 0x20]]);
    Parameters { extradata, width: 320, height: 180, ..Parameters::video(Codec::H264, 90_000) }
}

fn audio() -> Parameters {
    Parameters { extradata: Bytes::from_static(&[0x11, 0x88]), ..Parameters::audio(Codec::Aac, 48_000, 1) }
}

/// A unit of `ticks` of the track's clock.
fn unit(ticks: i64, key: bool, size: usize) -> Unit {
    let mut data = u32::try_from(size).unwrap().to_be_bytes().to_vec();
    data.push(if key { 0x65 } else { 0x41 });
    data.resize(4 + size, 0x55);
    Unit::new(ticks, key, data.into())
}

/// A run: what a server does, without I/O.
struct Run {
    segmenter: Segmenter,
    window: Window<Bytes>,
    out: Vec<Out>,
    parts: Vec<Out>,
}

impl Run {
    fn new(container: Container, tracks: &[Parameters], plan: Plan) -> Self {
        let mut out = Vec::new();
        let segmenter = Segmenter::new(container, tracks, plan, &mut out).unwrap();
        Self { segmenter, window: Window::new("run", container, plan), out, parts: Vec::new() }
    }

    fn push(&mut self, track: usize, unit: &Unit, wall_ms: i64) {
        self.segmenter.push(track, unit, wall_ms, &mut self.out);
        self.publish();
    }

    fn publish(&mut self) {
        for out in self.out.drain(..) {
            match &out {
                Out::Init(data) => self.window.init(data.clone()),
                Out::Part(part) => self.window.part(part, part.data.clone()),
                Out::SegmentEnd => self.window.segment_end(),
                Out::Discontinuity => self.window.discontinuity(),
            }
            self.parts.push(out);
        }
    }
}

/// What a client makes of a playlist.
#[derive(Debug, Default, Clone)]
struct Read {
    target: i64,
    part_target: f64,
    sequence: u64,
    discontinuity_sequence: u64,
    /// Per segment: URI, duration, sum of its parts (when listed), preceded by a discontinuity, map. Not those without media.
    segments: Vec<(String, f64, Option<f64>, bool, String)>,
    /// Parts: URI, duration, independent, last of its segment.
    parts: Vec<(String, f64, bool, bool)>,
    gaps: usize,
    hint: String,
}

fn attribute(line: &str, name: &str) -> Option<String> {
    let rest = line.split_once(':')?.1;
    rest.split(',')
        .find_map(|part| Some(part.strip_prefix(name)?.strip_prefix('=')?.trim_matches('"').to_owned()))
}

/// Reads a playlist and asserts the rules that one playlist alone can break.
fn read(text: &str) -> Read {
    let mut read = Read::default();
    let (mut open, mut extinf, mut discontinuity, mut map) = (Vec::new(), None, false, String::new());
    let mut gap = false;
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("#EXTM3U"));
    for line in lines {
        if let Some(value) = line.strip_prefix("#EXT-X-TARGETDURATION:") {
            read.target = value.parse().unwrap();
        } else if line.starts_with("#EXT-X-PART-INF:") {
            read.part_target = attribute(line, "PART-TARGET").unwrap().parse().unwrap();
        } else if line.starts_with("#EXT-X-SERVER-CONTROL:") {
            assert_eq!(attribute(line, "CAN-BLOCK-RELOAD").unwrap(), "YES");
        } else if let Some(value) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            read.sequence = value.parse().unwrap();
        } else if let Some(value) = line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:") {
            read.discontinuity_sequence = value.parse().unwrap();
        } else if line == "#EXT-X-DISCONTINUITY" {
            assert!(open.is_empty(), "a discontinuity inside of a segment");
            discontinuity = true;
        } else if line.starts_with("#EXT-X-MAP:") {
            assert!(open.is_empty(), "a map inside of a segment");
            map = attribute(line, "URI").unwrap();
        } else if line.starts_with("#EXT-X-PART:") {
            let duration: f64 = attribute(line, "DURATION").unwrap().parse().unwrap();
            open.push((attribute(line, "URI").unwrap(), duration, line.contains("INDEPENDENT=YES")));
        } else if let Some(value) = line.strip_prefix("#EXTINF:") {
            extinf = Some(value.strip_suffix(',').unwrap().parse::<f64>().unwrap());
        } else if line == "#EXT-X-GAP" {
            gap = true;
        } else if line.starts_with("#EXT-X-PRELOAD-HINT:") {
            read.hint = attribute(line, "URI").unwrap();
        } else if !line.starts_with('#') {
            let duration = extinf.take().expect("a segment without EXTINF");
            if std::mem::take(&mut gap) {
                assert!(read.segments.is_empty() && open.is_empty(), "a gap in the middle: {text}");
                read.gaps += 1;
                continue;
            }
            assert!(duration.round() as i64 <= read.target, "{duration} of {}: {text}", read.target);
            let sum = (!open.is_empty()).then(|| open.iter().map(|(_, duration, _)| duration).sum::<f64>());
            if let Some(sum) = sum {
                assert!((sum - duration).abs() < 0.001, "parts of {sum} s in {duration} s");
            }
            read.segments.push((
                line.to_owned(),
                duration,
                sum,
                std::mem::take(&mut discontinuity),
                map.clone(),
            ));
            let count = open.len();
            read.parts.extend(open.drain(..).enumerate().map(|(i, (u, d, k))| (u, d, k, i + 1 == count)));
        }
    }
    read.parts.extend(open.into_iter().map(|(uri, duration, key)| (uri, duration, key, false)));
    for (uri, duration, _, last) in &read.parts {
        assert!(*duration <= read.part_target + 0.0005, "{uri}: {duration} > {}", read.part_target);
        assert!(
            *last || *duration >= read.part_target * 0.85 - 0.0005,
            "{uri}: {duration} of {}",
            read.part_target
        );
    }
    read
}

/// Asserts what must hold from one playlist to the next.
fn follows(old: &Read, new: &Read) {
    assert_eq!((old.target, old.part_target), (new.target, new.part_target), "the targets changed");
    assert!(new.sequence >= old.sequence && new.discontinuity_sequence >= old.discontinuity_sequence);
    let gone = usize::try_from(new.sequence - old.sequence).unwrap();
    assert_eq!(new.gaps, old.gaps.saturating_sub(gone));
    let gone = gone.saturating_sub(old.gaps);
    let tags = old.segments.iter().take(gone + 1).skip(1).filter(|segment| segment.3).count();
    assert_eq!(new.discontinuity_sequence - old.discontinuity_sequence, tags as u64, "{old:?}\n{new:?}");
    for (before, after) in old.segments.iter().skip(gone).zip(&new.segments) {
        assert_eq!((&before.0, before.1, &before.4), (&after.0, after.1, &after.4), "a segment changed");
    }
    let known: HashMap<&str, f64> =
        old.parts.iter().map(|(uri, duration, ..)| (uri.as_str(), *duration)).collect();
    for (uri, duration, ..) in &new.parts {
        assert!(known.get(uri.as_str()).is_none_or(|before| before == duration), "{uri} changed");
    }
}

fn plan(frame_ms: i64, group: i64) -> Plan {
    let units: Vec<(i64, bool)> =
        (0..3 * group).map(|i| (i * frame_ms * 1_000_000, i % group == 0)).collect();
    Plan::of(&units, true, 0)
}

#[test]
fn a_camera_of_25_pictures_a_second() {
    let plan = plan(40, 25);
    assert_eq!((plan.target_duration, plan.frame), (2, 40_000_000));
    let mut run = Run::new(Container::Fmp4, &[video(), audio()], plan);
    let mut last: Option<Read> = None;
    let mut sounds = 0;
    for i in 0..25 * 30_i64 {
        run.push(0, &unit(i * 3_600, i % 25 == 0, 1_000), i * 40);
        while sounds * 1_024 < i * 40 * 48 {
            run.push(1, &unit(sounds * 1_024, true, 100), i * 40);
            sounds += 1;
        }
        if run.window.is_ready() {
            let read = read(&run.window.text());
            // The hint names the part that comes next.
            if let Some(last) = &last {
                follows(last, &read);
                if let Some((uri, ..)) =
                    read.parts.last().filter(|part| last.parts.last().is_none_or(|l| l.0 != part.0))
                {
                    assert_eq!(&last.hint, uri);
                }
            }
            last = Some(read);
        }
    }
    let read = last.unwrap();
    // 5 pictures a part, 5 parts a segment, each of which begins with a key picture.
    assert!(read.segments.iter().all(|segment| segment.1 == 1.0), "{read:?}");
    assert!(read.parts.iter().all(|part| part.1 == 0.2), "{:?}", read.parts);
    assert_eq!(read.parts.iter().filter(|part| part.2).count(), 3, "{:?}", read.parts);
    assert!(read.segments.len() >= 7 && read.sequence >= 20);
}

#[test]
fn what_playlists_name_can_be_fetched_and_what_is_gone_cannot() {
    let mut run = Run::new(Container::Fmp4, &[video()], plan(40, 25));
    for i in 0..25 * 60_i64 {
        run.push(0, &unit(i * 3_600, i % 25 == 0, 1_000), i * 40);
    }
    let number = |uri: &str| uri.rsplit_once('=').unwrap().1.parse::<u64>().unwrap();
    let read = read(&run.window.text());
    for (uri, ..) in &read.segments {
        assert!(matches!(run.window.segment(number(uri)), Found::Here(parts) if parts.len() == 5), "{uri}");
    }
    for (uri, ..) in &read.parts {
        assert!(matches!(run.window.part_data(number(uri)), Found::Here(_)), "{uri}");
    }
    // Kept a while behind the playlist, then gone.
    assert!(matches!(run.window.segment(read.sequence - 1), Found::Here(_)));
    assert_eq!(run.window.segment(0), Found::Never);
    assert_eq!(run.window.part_data(number(&read.hint)), Found::Soon);
    assert_eq!(run.window.part_data(number(&read.hint) + 1), Found::Never);
    assert_eq!(run.window.part_data(0), Found::Never);
    assert_eq!(run.window.segment(1_000), Found::Never);
    let (peak, average) = run.window.bandwidth().unwrap();
    assert!((200_000..260_000).contains(&average) && peak >= average, "{peak} {average}");
}

#[test]
fn waiting_reloads_are_the_drafts() {
    let mut run = Run::new(Container::MpegTs, &[video()], plan(40, 25));
    for i in 0..=25 * 10_i64 + 7 {
        run.push(0, &unit(i * 3_600, i % 25 == 0, 1_000), i * 40);
    }
    // 7 without media, 7 to 16 are complete, 17 has one part.
    let has = |msn, part| run.window.has(Position { msn, part });
    assert_eq!(has(3, None), Found::Here(()));
    assert_eq!(has(16, None), Found::Here(()));
    assert_eq!(has(17, None), Found::Soon);
    assert_eq!(has(17, Some(0)), Found::Here(()));
    assert_eq!(has(17, Some(1)), Found::Soon);
    assert_eq!(has(18, Some(0)), Found::Soon);
    assert_eq!(has(19, Some(0)), Found::Never, "two segments ahead");
    // Behind the last part of a segment is the first of the next.
    assert_eq!(has(16, Some(5)), Found::Here(()));
    assert_eq!(has(16, Some(4)), Found::Here(()));
}

#[test]
fn the_first_playlist_comes_with_the_first_part() {
    let mut run = Run::new(Container::Fmp4, &[video()], plan(40, 25));
    for i in 0..5_i64 {
        run.push(0, &unit(i * 3_600, i % 25 == 0, 1_000), i * 40);
    }
    assert!(run.window.is_ready());
    let read = read(&run.window.text());
    assert_eq!((read.gaps, read.segments.len(), read.parts.len()), (7, 0, 1));
    assert_eq!(run.window.segment(6), Found::Here(Vec::new()));
    assert_eq!(run.window.segment(7), Found::Soon);
}

#[test]
fn lengths_are_planned_for_the_camera() {
    let target = |frame, group| plan(frame, group).target_duration;
    assert_eq!((target(40, 25), target(40, 50), target(40, 100), target(33, 300)), (2, 3, 5, 13));
    let one_key: Vec<(i64, bool)> = (0..50).map(|i| (i * SECOND / 25, i == 0)).collect();
    assert_eq!(Plan::of(&one_key, true, 0).target_duration, 4);
    // 7 s before the only key, none.
    assert_eq!(Plan::of(&one_key, true, 7 * SECOND).target_duration, 14);
    let slow: Vec<(i64, bool)> = (0..5).map(|i| (i * SECOND, i == 0)).collect();
    assert_eq!(Plan::of(&slow, true, 0).part_target, SECOND * 100 / 93 / 1_000_000 * 1_000_000 + 1_000_000);
}

#[test]
fn a_hole_and_new_parameters_are_discontinuities() {
    let mut run = Run::new(Container::Fmp4, &[video()], plan(40, 25));
    for i in 0..100_i64 {
        run.push(0, &unit(i * 3_600, i % 25 == 0, 1_000), i * 40);
    }
    // 20 s later.
    for i in 0..100_i64 {
        run.push(0, &unit((500 + i) * 3_600, i % 25 == 0, 1_000), 20_000 + i * 40);
    }
    let larger = Parameters { width: 640, ..video() };
    run.segmenter.configure(0, &larger, &mut run.out).unwrap();
    for i in 0..30_i64 {
        run.push(0, &unit((600 + i) * 3_600, i % 25 == 0, 1_000), 24_000 + i * 40);
    }
    let text = run.window.text();
    let read = read(&text);
    assert_eq!(read.segments.iter().filter(|segment| segment.3).count(), 2, "{text}");
    let maps: Vec<&str> = read.segments.iter().map(|segment| segment.4.as_str()).collect();
    assert!(maps.contains(&"init.mp4?id=run&n=0") && maps.ends_with(&["init.mp4?id=run&n=1"]), "{maps:?}");
    assert_ne!(run.window.map(0), run.window.map(1));
    let times: Vec<&str> =
        text.lines().filter_map(|l| l.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:")).collect();
    assert!(times.contains(&"20.000Z"), "{times:?}");
}

#[test]
fn groups_of_ten_seconds_stay_whole_and_longer_ones_are_cut() {
    for (group, longest) in [(250, 10.0), (2_500, 20.0)] {
        let mut run = Run::new(Container::MpegTs, &[video()], plan(40, group));
        for i in 0..=3 * group {
            run.push(0, &unit(i * 3_600, i % group == 0, 200), i * 40);
        }
        let read = read(&run.window.text());
        assert!(!run.segmenter.is_unfit(), "no other plan would do better");
        let most = read.segments.iter().map(|segment| segment.1).fold(0.0, f64::max);
        assert!((most - longest).abs() < 1.0, "{most}");
    }
}

#[test]
fn a_plan_that_did_not_fit_is_seen() {
    let mut run = Run::new(Container::Fmp4, &[video()], plan(40, 25));
    for i in 0..100_i64 {
        assert!(!run.segmenter.is_unfit() || i > 25, "{i}");
        run.push(0, &unit(i * 3_600, i == 0, 200), i * 40);
    }
    assert!(run.segmenter.is_unfit());
}

#[test]
fn sound_alone_has_segments_of_two_seconds() {
    let units: Vec<(i64, bool)> = (0..10).map(|i| (i * 1_024 * SECOND / 48_000, true)).collect();
    let plan = Plan::of(&units, false, 0);
    let mut run = Run::new(Container::Fmp4, &[audio()], plan);
    for i in 0..1_000 {
        run.push(0, &unit(i * 1_024, true, 100), i * 21);
        if run.window.is_ready() {
            read(&run.window.text());
        }
    }
    let read = read(&run.window.text());
    assert!(read.segments.iter().skip(1).all(|segment| (1.9..=2.2).contains(&segment.1)), "{read:?}");
    assert!(read.parts.iter().all(|part| part.2), "sound can begin anywhere");
}

#[test]
fn segments_of_transport_streams_begin_with_their_tables_and_a_key() {
    let mut run = Run::new(Container::MpegTs, &[video(), audio()], plan(40, 25));
    for i in 0..200_i64 {
        run.push(0, &unit(i * 3_600, i % 25 == 0, 1_000), i * 40);
        run.push(1, &unit(i * 1_920, true, 100), i * 40);
    }
    for out in &run.parts {
        if let Out::Part(part) = out {
            assert_eq!(part.data.len() % 188, 0);
            let pids: Vec<u16> = part
                .data
                .chunks(188)
                .take(2)
                .map(|p| u16::from(p[1] & 0x1f) << 8 | u16::from(p[2]))
                .collect();
            assert_eq!(pids, [0, 0x1000], "no tables in front");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Unrest of up to a tenth of a frame, any frame rate and group of pictures: never a broken rule.
    #[test]
    fn rules_hold_for_restless_cameras(
        frame_ms in 15_i64..130,
        group in 10_i64..120,
        unrest in prop::collection::vec(-3_i64..=3, 400),
        ts: bool,
    ) {
        let container = if ts { Container::MpegTs } else { Container::Fmp4 };
        let mut run = Run::new(container, &[video()], plan(frame_ms, group));
        let mut last: Option<Read> = None;
        for (i, by) in unrest.iter().enumerate() {
            let i = i as i64;
            let ticks = i * frame_ms * 90 + by * frame_ms * 90 / 100;
            run.push(0, &unit(ticks, i % group == 0, 100), i * frame_ms);
            if run.window.is_ready() {
                let read = read(&run.window.text());
                if let Some(last) = &last {
                    follows(last, &read);
                }
                last = Some(read);
            }
        }
    }

    /// Whatever comes: no panic, lengths stay positive, the playlist can be read.
    #[test]
    fn any_units_make_a_playlist(units in prop::collection::vec((0_usize..2, any::<i32>(), any::<bool>(), any::<bool>()), 0..200)) {
        let mut run = Run::new(Container::Fmp4, &[video(), audio()], plan(40, 25));
        for (track, time, key, discontinuity) in units {
            let unit = Unit { discontinuity, ..unit(i64::from(time), key, 50) };
            run.push(track, &unit, i64::from(time));
            prop_assert!(run.window.text().starts_with("#EXTM3U\n"));
        }
        for out in &run.parts {
            if let Out::Part(part) = out {
                prop_assert!(part.duration > 0 && !part.data.is_empty());
            }
        }
    }
}
