use proptest::prelude::*;

use super::*;

/// 2026-01-01T00:00:00Z.
const NEW_YEAR_NS: i64 = 1_767_225_600_000_000_000;
const VIDEO: usize = 0;
const AUDIO: usize = 1;

/// A camera with a picture track of 25 frames a second and a sound track of 50 packets a second. Each counts from anywhere
/// on a clock of its own; what is seen and heard at one instant of the camera is known exactly.
#[derive(Debug, Clone)]
struct Camera {
    zeros: [i64; 2],
    rates: [i64; 2],
    /// Error of the sound's clock, parts per million.
    drift_ppm: i64,
    /// Longest way of a unit beyond the shortest, ms.
    jitter_ms: u64,
    /// When the tracks begin, ms.
    starts_ms: [i64; 2],
    /// Between reports, ms; the first ones come after the first of these.
    report_every_ms: i64,
    /// The camera's clock minus the truth.
    clock_error_ns: i64,
    /// Reports are off by up to this, ms.
    report_jitter_ms: i64,
    seconds: i64,
}

/// One unit as it was placed: the camera's instant and the host's time, ms and ns.
type Heard = (i64, i128);

impl Camera {
    fn pts(&self, track: usize, at_ms: i64) -> i64 {
        let ppm = if track == AUDIO { self.drift_ppm } else { 0 };
        let passed = i128::from(at_ms) * i128::from(self.rates[track]) * i128::from(1_000_000 + ppm);
        self.zeros[track].wrapping_add((passed / 1_000_000_000) as i64)
    }

    fn noise(seed: i64) -> u64 {
        let mut z = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)) >> 33
    }

    /// Plays it to a placement. `lie` changes what reports say: track, time and wall time, ms and ns.
    fn play(&self, placement: &mut Placement, lie: impl Fn(usize, i64, i64) -> i64) -> [Vec<Heard>; 2] {
        for track in [VIDEO, AUDIO] {
            placement.set_track(track, self.rates[track] as u32, track == VIDEO);
        }
        let mut heard = [Vec::new(), Vec::new()];
        for at_ms in (0..self.seconds * 1000).step_by(20) {
            for track in [VIDEO, AUDIO] {
                let since = at_ms - self.starts_ms[track];
                if since < 0 || (track == VIDEO && since % 40 != 0) {
                    continue;
                }
                // The sound's reports come a little later.
                if since > 0 && (since - 20 * track as i64) % self.report_every_ms == 0 {
                    let off = match self.report_jitter_ms {
                        0 => 0,
                        most => Self::noise(at_ms + track as i64) as i64 % (2 * most + 1) - most,
                    };
                    let unix = NEW_YEAR_NS + self.clock_error_ns + (at_ms + off) * 1_000_000;
                    placement.clock(track, self.pts(track, at_ms), lie(track, at_ms, unix));
                }
                let late_ms = Self::noise(at_ms * 7 + track as i64) % (self.jitter_ms + 1);
                let arrival = (i128::from(at_ms) + i128::from(late_ms) + 5_000_000) * MS;
                let pts = self.pts(track, at_ms);
                let placed = placement.place(track, pts, pts, arrival).unwrap();
                heard[track].push((at_ms, ns(placed.pts, i128::from(self.rates[track]))));
            }
        }
        heard
    }
}

/// The largest distance from the truth between sound and picture from an instant on, ns.
fn apart(heard: &[Vec<Heard>; 2], from_ms: i64) -> i128 {
    let mut worst = 0;
    let mut audio = heard[AUDIO].iter().peekable();
    for (at, video_ns) in heard[VIDEO].iter().filter(|h| h.0 >= from_ms) {
        while audio.next_if(|a| a.0 < *at).is_some() {}
        if let Some((_, audio_ns)) = audio.peek().filter(|a| a.0 == *at) {
            worst = worst.max((audio_ns - video_ns).abs());
        }
    }
    worst
}

fn camera() -> Camera {
    Camera {
        zeros: [3_999_999_999, 77],
        rates: [90_000, 8_000],
        drift_ppm: 0,
        jitter_ms: 0,
        starts_ms: [0, 0],
        report_every_ms: 5_000,
        clock_error_ns: 0,
        report_jitter_ms: 0,
        seconds: 60,
    }
}

fn honest(_: usize, _: i64, unix: i64) -> i64 {
    unix
}

#[test]
fn tracks_lie_by_their_arrival_until_reports_come() {
    let late = Camera { zeros: [5, 3_000_000_000], starts_ms: [0, 400], ..camera() };
    let mut placement = Placement::default();
    let heard = late.play(&mut placement, honest);
    assert!(apart(&heard, 0) < 2 * MS, "{}", apart(&heard, 0));
}

#[test]
fn a_burst_of_old_pictures_is_set_right_by_the_first_reports() {
    let mut placement = Placement::default();
    let camera = Camera { seconds: 40, ..camera() };
    placement.set_track(VIDEO, 90_000, true);
    placement.set_track(AUDIO, 8_000, false);
    // Two seconds of pictures at once, as a server sends them that keeps them for who joins; then live.
    for at_ms in (-2000..0).step_by(40) {
        placement.place(VIDEO, camera.pts(VIDEO, at_ms), camera.pts(VIDEO, at_ms), 5_000_000 * MS).unwrap();
    }
    let heard = camera.play(&mut placement, honest);
    assert!(apart(&heard, 0) > 1900 * MS, "the arrival was misleading");
    // 2 s at a quarter of the time that passes.
    assert!(apart(&heard, 13_200) < 2 * MS, "{}", apart(&heard, 13_200));
}

#[test]
fn a_report_before_the_first_unit_places_it() {
    let mut placement = Placement::default();
    let c = camera();
    placement.set_track(VIDEO, 90_000, true);
    placement.set_track(AUDIO, 8_000, false);
    for track in [VIDEO, AUDIO] {
        placement.clock(track, c.pts(track, 0), NEW_YEAR_NS);
    }
    let video = placement.place(VIDEO, c.pts(VIDEO, 0), c.pts(VIDEO, 0), 9_000 * MS).unwrap();
    let audio = placement.place(AUDIO, c.pts(AUDIO, 640), c.pts(AUDIO, 640), 9_900 * MS).unwrap();
    assert!(!video.is_break && !audio.is_break);
    let apart = ns(audio.pts, 8_000) - ns(video.pts, 90_000) - 640 * MS;
    assert!(apart.abs() <= 125_000, "{apart} ns: more than a tick");
}

/// Where the distance of two units' times is not theirs at the camera by more than a tick, ms, and by how much in all.
fn steps(heard: &[Heard], tick_ns: i128) -> (Vec<i64>, i128) {
    let off = |pair: &[Heard]| (pair[1].0, pair[1].1 - pair[0].1 - i128::from(pair[1].0 - pair[0].0) * MS);
    let steps: Vec<(i64, i128)> = heard.windows(2).map(off).filter(|step| step.1.abs() > tick_ns).collect();
    (steps.iter().map(|step| step.0).collect(), steps.iter().map(|step| step.1).sum())
}

#[test]
fn the_first_reports_move_the_sound_once_and_the_next_ones_not() {
    // Jitter of the first pair is in what it is moved by, and in whether it is.
    for (late_ms, moved_ms, jitters_ms) in
        [(10, 0, [0, 2]), (-14, 0, [0, 0]), (28, 28, [0, 6]), (-28, -28, [0, 6]), (400, 400, [0, 6])]
    {
        for report_jitter_ms in jitters_ms {
            let c = Camera { report_jitter_ms, seconds: 600, ..camera() };
            let late = |track: usize, _: i64, unix: i64| {
                if track == AUDIO { unix + late_ms * 1_000_000 } else { unix }
            };
            let heard = c.play(&mut Placement::default(), late);
            let (times, by) = steps(&heard[AUDIO], 125_000);
            assert_eq!(steps(&heard[VIDEO], 12_000).0, [0; 0], "{late_ms}");
            let jitter = i128::from(2 * report_jitter_ms) * MS;
            assert!((by - i128::from(moved_ms) * MS).abs() <= jitter + 125_000, "{late_ms}: {by}");
            // Together, in the fourfold of what it is moved by.
            let took = times.last().zip(times.first()).map_or(0, |(last, first)| last - first);
            assert!(took <= 4 * (late_ms.abs() + 2 * report_jitter_ms) + 40, "{late_ms}: {times:?}");
            assert!(
                heard[AUDIO].windows(2).all(|pair| (14 * MS..26 * MS).contains(&(pair[1].1 - pair[0].1)))
            );
        }
    }
}

#[test]
fn tracks_that_reports_have_placed_stay_exact_whatever_jitter_comes() {
    // Whichever track comes first, and whichever report.
    for (first, second) in [(VIDEO, AUDIO), (AUDIO, VIDEO)] {
        let c = Camera { report_jitter_ms: 8, seconds: 600, ..camera() };
        let mut placement = Placement::default();
        for track in [VIDEO, AUDIO] {
            placement.set_track(track, c.rates[track] as u32, track == VIDEO);
        }
        for (track, at_ms) in [(first, 0), (second, 300)] {
            let pts = c.pts(track, at_ms);
            placement.clock(track, pts, NEW_YEAR_NS + at_ms * 1_000_000);
            // The second one is late on its way.
            placement.place(track, pts, pts, i128::from(at_ms * 2 + 1_000) * MS).unwrap();
        }
        let c = Camera { starts_ms: [400, 400], ..c };
        let heard = c.play(&mut placement, honest);
        assert!(apart(&heard, 0) < 150_000, "{}", apart(&heard, 0));
        assert_eq!(steps(&heard[VIDEO], 12_000).0, [0; 0]);
        assert_eq!(steps(&heard[AUDIO], 125_000).0, [0; 0]);
    }
}

#[test]
fn tracks_that_run_apart_are_brought_together_slowly() {
    let c = Camera { drift_ppm: 200, seconds: 600, ..camera() };
    let heard = c.play(&mut Placement::default(), honest);
    assert!(apart(&heard, 0) < 40 * MS, "{}", apart(&heard, 0));
    // 200 parts in a million are 4 us in 20 ms; it is moved by at most 5 ms a second.
    for pair in heard[AUDIO].windows(2) {
        assert!((pair[1].1 - pair[0].1 - 20 * MS).abs() <= 250_000);
    }
}

#[test]
fn times_are_exact_to_the_tick_while_reports_agree() {
    let c = Camera { report_jitter_ms: 7, clock_error_ns: -NEW_YEAR_NS, ..camera() };
    let mut placement = Placement::default();
    let heard = c.play(&mut placement, honest);
    for (track, heard) in heard.iter().enumerate() {
        let rate = i128::from(c.rates[track]);
        let offset = |h: &Heard| ticks(h.1, rate) - c.pts(track, h.0);
        let first = offset(&heard[0]);
        assert!(heard.iter().all(|h| (offset(h) - first).abs() <= 1));
    }
}

/// A camera that stamps its reports with the picture before them: at 15 pictures a second they are up to 66 ms off, late
/// only.
#[test]
fn reports_that_are_off_by_a_frame_break_nothing() {
    let frame = |track: usize, at: i64, unix: i64| {
        if track == VIDEO { unix + (Camera::noise(at) % 66) as i64 * 1_000_000 } else { unix }
    };
    let mut placement = Placement::default();
    let c = Camera { seconds: 1200, ..camera() };
    let heard = c.play(&mut placement, frame);
    assert!(apart(&heard, 5_500) < 66 * MS, "{}", apart(&heard, 5_500));
    for pair in heard[AUDIO].windows(2).filter(|pair| pair[0].0 > 5_500) {
        assert!((pair[1].1 - pair[0].1 - 20 * MS).abs() <= 250_000, "moved fast again");
    }
}

#[test]
fn lies_move_nothing() {
    let wild = |_: usize, at: i64, unix: i64| unix + (Camera::noise(at) as i64 % 7 - 3) * 300_000_000;
    let far = |track: usize, _: i64, unix: i64| if track == AUDIO { unix + 3_600_000_000_000 } else { unix };
    let once = |track: usize, at: i64, unix: i64| {
        if track == AUDIO && at == 30_020 { unix + 300_000_000 } else { unix }
    };
    let set = |_: usize, at: i64, unix: i64| if at >= 27_500 { unix + 7_200_000_000_000 } else { unix };
    let mut worst = [0; 4];
    worst[0] = apart(&camera().play(&mut Placement::default(), far), 0);
    worst[1] = apart(&camera().play(&mut Placement::default(), once), 0);
    worst[2] = apart(&camera().play(&mut Placement::default(), set), 0);
    assert!(worst.iter().all(|worst| *worst < 2 * MS), "{worst:?}");
    let heard = camera().play(&mut Placement::default(), wild);
    assert!(apart(&heard, 0) < MAX_DISAGREEMENT_NS, "{}", apart(&heard, 0));
}

#[test]
fn a_jump_moves_sound_and_picture_together() {
    // The last three: times of 24 and 32 bits of milliseconds and of 33 bits of 90 kHz that begin again at 0.
    for jump in [-3_600_i64, 40_000, -2, -16_777, -4_294_967, -95_443] {
        let mut placement = Placement::default();
        placement.set_track(VIDEO, 90_000, true);
        placement.set_track(AUDIO, 48_000, false);
        let mut last = [0_i128; 2];
        let mut breaks = [0; 2];
        for at_ms in (0..20_000_i64).step_by(20) {
            let now = (i128::from(at_ms) + 100_000) * MS;
            let shown = at_ms + 50_000_000 + if at_ms >= 10_000 { jump * 1000 } else { 0 };
            for (track, rate) in [(VIDEO, 90), (AUDIO, 48)] {
                let placed = placement.place(track, shown * rate, shown * rate, now).unwrap();
                let at = ns(placed.pts, i128::from(rate) * 1000);
                breaks[track] += usize::from(placed.is_break);
                if at_ms > 0 {
                    assert!(
                        (19 * MS..=22 * MS).contains(&(at - last[track])),
                        "{jump} {at_ms} {}",
                        at - last[track]
                    );
                }
                last[track] = at;
            }
            assert!((last[0] - last[1]).abs() < MS, "{jump} {at_ms}");
        }
        assert_eq!(breaks, [1, 1], "{jump}");
    }
}

#[test]
fn a_gap_that_took_its_time_stays() {
    let mut placement = Placement::default();
    placement.set_track(VIDEO, 1000, true);
    placement.place(VIDEO, 0, 0, 0).unwrap();
    let after = placement.place(VIDEO, 60_000, 60_000, 60_000 * MS).unwrap();
    assert!(!after.is_break);
    assert_eq!(after.pts, 60_001);
}

fn arb_camera() -> impl Strategy<Value = Camera> {
    (
        (any::<u32>(), any::<u32>(), prop::sample::select(vec![8_000_i64, 16_000, 44_100, 48_000])),
        (-200_i64..=200, 0_u64..60, 0_i64..300, 1_i64..4),
        (prop::sample::select(vec![-1, 0, 1]), 0_i64..5, any::<bool>()),
    )
        .prop_map(
            |(
                (video, audio, rate),
                (drift_ppm, jitter_ms, start, every),
                (years, report_jitter_ms, first),
            )| {
                let start = start / 20 * 20;
                Camera {
                    zeros: [i64::from(video), i64::from(audio)],
                    rates: [90_000, rate],
                    drift_ppm,
                    jitter_ms,
                    starts_ms: if first { [start / 40 * 40, 0] } else { [0, start] },
                    report_every_ms: every * 2_000,
                    clock_error_ns: years * 50 * 365 * 86_400 * 1_000_000_000,
                    report_jitter_ms,
                    seconds: 120,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sound_and_picture_stay_within_40_ms_of_the_truth(camera in arb_camera()) {
        let mut placement = Placement::default();
        let heard = camera.play(&mut placement, honest);
        // Up to 400 ms off by the arrivals, and the fourfold of that to mend it.
        let worst = apart(&heard, 400 + camera.report_every_ms + 1_600);
        prop_assert!(worst < 40 * MS, "{worst} ns");
        for track in &heard {
            prop_assert!(track.windows(2).all(|pair| pair[1].1 > pair[0].1));
        }
    }

    #[test]
    fn whatever_comes_breaks_are_marked(
        steps in prop::collection::vec((0_usize..3, any::<i64>(), 0_u8..64, any::<bool>(), any::<i64>()), 0..80),
    ) {
        let mut placement = Placement::default();
        for (track, rate) in [(0, 90_000), (1, 8_000), (2, u32::MAX)] {
            placement.set_track(track, rate, track == 0);
        }
        let mut last = [None::<i64>; 3];
        let mut now = 0;
        for (track, time, shift, is_clock, unix) in steps {
            now += i128::from(time.unsigned_abs() >> 32);
            if is_clock {
                placement.clock(track, time >> shift, unix >> shift);
                continue;
            }
            let time = time >> shift;
            let placed = placement.place(track, time, time, now).unwrap();
            prop_assert!(placed.is_break || last[track].is_none_or(|last| placed.dts >= last));
            last[track] = Some(placed.dts);
        }
    }
}

/// A transcoder passes on times that it read: they stay to the tick, also where it begins again and what it does lags behind.
#[test]
fn times_on_the_hosts_clock_stay_as_they_are() {
    let mut placement = Placement::default();
    placement.set_track(0, 48_000, false);
    let start_ns = 1_000 * NS;
    for session in 0..2 {
        placement.begin();
        placement.keep_times();
        for n in 0..100_i64 {
            let pts = ticks(start_ns, 48_000) + (session * 100 + n) * 960;
            let now_ns = ns(pts, 48_000) + 70 * MS + i128::from(n % 7) * 10 * MS;
            let placed = placement.place(0, pts, pts, now_ns).unwrap();
            assert_eq!((placed.pts, placed.dts), (pts, pts), "session {session}, unit {n}");
            assert_eq!(placed.is_break, session == 1 && n == 0);
        }
    }
    // What claims to lie far away is placed at its arrival.
    placement.begin();
    placement.keep_times();
    let placed = placement.place(0, 17, 17, start_ns + 100 * NS).unwrap();
    assert_eq!(placed.pts, ticks(start_ns + 100 * NS, 48_000));
}
