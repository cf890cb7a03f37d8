//! Real time: when a unit of a file is due, and how long a live sender that hurries has to wait.

use std::time::Duration;

use patchbay_media::{Kind, Parameters, Unit};

/// A jump of more than this in decoding time starts the clock anew.
const JUMP: Duration = Duration::from_secs(5);

/// Says how long to wait before each unit of a file, so that it comes as from a camera. Reads no clock itself.
#[derive(Debug, Default)]
pub struct Pacer {
    start: Option<(Duration, i128)>,
    last: i128,
}

impl Pacer {
    /// When the unit at `dts` (ticks of `clock_rate`) is due, on the clock that `now` is of.
    pub fn due(&mut self, now: Duration, dts: i64, clock_rate: u32) -> Duration {
        let time = i128::from(dts) * 1_000_000_000 / i128::from(clock_rate.max(1));
        let jumped = (time - self.last).unsigned_abs() > JUMP.as_nanos();
        self.last = time;
        let (start, first) = match self.start {
            Some(start) if !jumped => start,
            _ => *self.start.insert((now, time)),
        };
        let since = u64::try_from((time - first).max(0)).unwrap_or(u64::MAX);
        start + Duration::from_nanos(since)
    }
}

/// Media of a live sender may run ahead of its arrival by so much, ns.
const LEAD_NS: i64 = 1_000_000_000;
/// So much of what came late may be made good at once, ns: a network that was away and comes back.
const DEBT_NS: i64 = 10_000_000_000;
/// A greater step between two units of a track is a jump of its clock or a pause, ns.
const STEP_NS: i64 = 2_000_000_000;
/// A unit of video lasts at least so long, ns: 300 pictures a second. Some formats carry no times.
const PICTURE_NS: i64 = 1_000_000_000 / 300;
/// Any other unit lasts at least so long, ns.
const UNIT_NS: i64 = 1_000_000;
/// A sender's clock may be fast by one in so many.
const DRIFT: i64 = 100;
/// Most of a first group that comes at once, ns.
const GROUP_NS: i64 = 10_000_000_000;

/// Says how long to leave a live sender waiting whose media comes faster than real time: a recording sent at full speed.
/// Reads no clock itself.
///
/// A camera is not held up: its media may be a second ahead of its arrival (jitter, buffers), up to 10 s of what an outage
/// kept back may come at once, and so may its first group of pictures; its clock may be fast by 1 % and may jump. Each track
/// counts for itself, since tracks may begin at different times.
#[derive(Debug, Default)]
pub struct Brake {
    tracks: Vec<Meter>,
    opening: Opening,
}

#[derive(Debug, Clone, Copy)]
struct Meter {
    clock_rate: u32,
    is_video: bool,
    last: Option<Newest>,
}

/// The newest unit of a track.
#[derive(Debug, Clone, Copy)]
struct Newest {
    /// Its decoding time, ns.
    time_ns: i64,
    /// When it came, ns.
    at_ns: i64,
    /// How far media is ahead of its arrival, ns; less than 0: behind.
    lead_ns: i64,
}

/// The first group of pictures, which who has kept it sends at once.
#[derive(Debug, Default, Clone, Copy)]
enum Opening {
    /// No picture yet.
    #[default]
    Before,
    /// In it, with so much of it seen, ns.
    Group(i64),
    After,
}

impl Brake {
    /// The tracks are known, or more of them, or one has changed.
    pub fn set_tracks<'a>(&mut self, tracks: impl IntoIterator<Item = &'a Parameters>) {
        for (index, track) in tracks.into_iter().enumerate() {
            self.set_track(index, track);
        }
    }

    /// A track has changed, or is the next one.
    pub fn set_track(&mut self, index: usize, track: &Parameters) {
        let (clock_rate, is_video) = (track.clock_rate.max(1), track.codec.kind() == Kind::Video);
        match self.tracks.get_mut(index) {
            Some(meter) => *meter = Meter { clock_rate, is_video, ..*meter },
            None => self.tracks.push(Meter { clock_rate, is_video, last: None }),
        }
    }

    /// When `unit` of `track`, which came at `now`, may go on, on the clock that `now` is of: at once or later. Who cannot
    /// hold it back reads nothing more until then.
    pub fn due(&mut self, now: Duration, track: usize, unit: &Unit) -> Duration {
        let Some(meter) = self.tracks.get_mut(track) else { return now };
        let is_video = meter.is_video;
        let at_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX / 4);
        let time_ns = i128::from(unit.dts) * 1_000_000_000 / i128::from(meter.clock_rate);
        let time_ns = i64::try_from(time_ns).unwrap_or(0);
        let least = if is_video { PICTURE_NS } else { UNIT_NS };
        let (mut lead_ns, step) = match meter.last {
            None => (0, 0),
            Some(last) => {
                let step = time_ns.saturating_sub(last.time_ns);
                let step = if unit.discontinuity || step > STEP_NS { least } else { step.max(least) };
                let elapsed = at_ns.saturating_sub(last.at_ns).max(0);
                let gone = elapsed.saturating_add(elapsed / DRIFT);
                (last.lead_ns.saturating_sub(gone).max(-DEBT_NS).saturating_add(step), step)
            }
        };
        self.opening = match self.opening {
            Opening::Before if is_video => Opening::Group(0),
            Opening::Group(_) if is_video && unit.key => Opening::After,
            Opening::Group(seen) if is_video => match seen.saturating_add(step) {
                seen @ ..=GROUP_NS => Opening::Group(seen),
                _ => Opening::After,
            },
            other => other,
        };
        if matches!(self.opening, Opening::Group(_)) {
            lead_ns = lead_ns.min(LEAD_NS);
        }
        meter.last = Some(Newest { time_ns, at_ns, lead_ns });
        now + Duration::from_nanos(u64::try_from(lead_ns.saturating_sub(LEAD_NS)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use patchbay_media::Codec;
    use proptest::prelude::*;

    #[test]
    fn units_come_in_real_time_and_jumps_restart() {
        let mut pacer = Pacer::default();
        let second = Duration::from_secs(1);
        assert_eq!(pacer.due(second, 90_000, 90_000), second);
        assert_eq!(pacer.due(second, 180_000, 90_000), 2 * second);
        assert_eq!(pacer.due(3 * second, 90_000 * 3600, 90_000), 3 * second);
        assert_eq!(pacer.due(3 * second, 90_000 * 3601, 90_000), 4 * second);
    }

    const MS: u64 = 1_000_000;

    /// A track of pictures and one of sound, both with a clock of a millisecond.
    fn brake() -> Brake {
        let mut brake = Brake::default();
        brake.set_tracks(&[Parameters::video(Codec::H264, 1000), Parameters::audio(Codec::Aac, 1000, 1)]);
        brake
    }

    fn unit(ms: i64, key: bool) -> Unit {
        Unit::new(ms, key, Bytes::from_static(b"x"))
    }

    /// Units of a track that are all there at `start`: the times at which they go on.
    fn hurried(
        brake: &mut Brake,
        start: Duration,
        track: usize,
        units: impl Iterator<Item = Unit>,
    ) -> Vec<Duration> {
        let mut now = start;
        let due = units.map(|unit| {
            now = brake.due(now, track, &unit);
            now
        });
        due.collect()
    }

    #[test]
    fn a_recording_comes_in_real_time_after_its_first_group() {
        let units = (0..500).map(|n| unit(n * 40, n % 50 == 0));
        let due = hurried(&mut brake(), Duration::ZERO, 0, units);
        assert_eq!(due[49], Duration::ZERO, "the first group, as a server sends it that has kept it");
        let (second, last) = (due[51].as_secs_f64(), due[499].as_secs_f64());
        assert!(second < 0.2 && (17.5..=18.1).contains(&last), "{second} {last}");
    }

    #[test]
    fn samples_without_pictures_come_in_real_time_after_a_second() {
        let due = hurried(&mut brake(), Duration::ZERO, 1, (0..500).map(|n| unit(n * 20, true)));
        assert_eq!(due[50], Duration::ZERO);
        assert!((8.7..=9.0).contains(&due[499].as_secs_f64()), "{:?}", due[499]);
    }

    #[test]
    fn pictures_without_times_are_held_to_300_a_second() {
        let due = hurried(&mut brake(), Duration::ZERO, 0, (0..1500).map(|n| unit(n, true)));
        assert!((3.9..=4.1).contains(&due[1499].as_secs_f64()), "{:?}", due[1499]);
    }

    #[test]
    fn an_outage_is_made_good_at_once() {
        let mut brake = brake();
        hurried(&mut brake, Duration::ZERO, 0, (0..2).map(|n| unit(n * 40, n == 0)));
        let later = Duration::from_secs(8);
        let due = hurried(&mut brake, later, 0, (2..200).map(|n| unit(n * 40, n % 50 == 0)));
        assert_eq!(due[197], later);
    }

    proptest! {
        /// A camera with a fast clock, jitter below a second, a track of sound that began long before, and jumps of its clock.
        #[test]
        fn a_camera_never_waits(
            ppm in 0_u64..5000,
            jitter in proptest::collection::vec(0_u64..900, 400),
            jump in proptest::option::of((0_usize..400, any::<i32>())),
            gop in 1_i64..100,
        ) {
            let (mut brake, mut moved) = (brake(), 0_i64);
            let mut last = Duration::ZERO;
            for (n, jitter) in jitter.into_iter().enumerate() {
                // A jump forward of up to two seconds is taken for media.
                moved += jump.filter(|(at, by)| *at == n && !(0..=2000).contains(by)).map_or(0, |(_, by)| i64::from(by));
                let media = n as u64 * 40;
                let now = Duration::from_nanos(media * MS * 1_000_000 / (1_000_000 + ppm) + jitter * MS).max(last);
                last = now;
                let time = media as i64 + moved;
                prop_assert_eq!(brake.due(now, 0, &unit(time, n as i64 % gop == 0)), now);
                prop_assert_eq!(brake.due(now, 1, &unit(time + 1_000_000, true)), now);
            }
        }

        /// However it is stamped and cut into tracks, a hurried sender is held, and no unit is held for long.
        #[test]
        fn nobody_floods_and_nobody_stops(
            units in proptest::collection::vec((0_usize..2, any::<bool>(), any::<bool>(), prop_oneof![any::<i64>(), 0_i64..100_000]), 0..3000),
        ) {
            let mut brake = brake();
            let (mut now, count) = (Duration::ZERO, units.len());
            for (track, key, discontinuity, dts) in units {
                let unit = Unit { discontinuity, ..unit(dts, key) };
                let due = brake.due(now, track, &unit);
                prop_assert!(due >= now && due - now <= Duration::from_nanos(STEP_NS as u64));
                now = due;
            }
            // The first group and a second of each track are free; then a unit lasts a millisecond at least.
            let free = (GROUP_NS / PICTURE_NS + 2 * LEAD_NS / UNIT_NS) as usize;
            let held = count.saturating_sub(free) as u32 * Duration::from_millis(1) / 2;
            prop_assert!(now + Duration::from_millis(20) >= held, "{now:?} for {count}");
        }
    }
}
