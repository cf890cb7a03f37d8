//! Times for formats that carry none: counted in a file, by arrival when live.

use std::time::Duration;

/// Frame rate of pictures that do not tell theirs.
const DEFAULT_FRAME_RATE: (u32, u32) = (25, 1);
/// Highest frame rate that is believed.
const MAX_FRAME_RATE: u32 = 300;
/// Lowest frame rate that is believed, as ns of a frame (10 s).
const MAX_PERIOD_NS: i64 = 10_000_000_000;
/// A picture or sound that comes so much later than it should is behind a gap.
const GAP_NS: i64 = 500_000_000;
/// Time may run ahead of arrival so far, for what a sender had kept for us.
const MAX_LEAD_NS: i64 = 1_000_000_000;
const NS: i64 = 1_000_000_000;

/// Times of pictures.
///
/// In a file they are as far apart as the stream says, exactly. Live they follow the arrivals, smoothed (an alpha-beta
/// filter with gains 1/8 and 1/128), since what comes over a pipe or socket jitters.
#[derive(Debug)]
pub struct FrameClock {
    clock_rate: u32,
    live: bool,
    rate: (u32, u32),
    /// Ticks at which `halves` began to count.
    base: i64,
    /// Half frames since then.
    halves: i64,
    last: Option<i64>,
    last_ns: i64,
    period_ns: i64,
}

impl FrameClock {
    /// A clock of `clock_rate` ticks a second that begins at 0 (file) or with the first arrival.
    pub fn new(clock_rate: u32, live: bool) -> Self {
        Self {
            clock_rate: clock_rate.max(1),
            live,
            rate: DEFAULT_FRAME_RATE,
            base: 0,
            halves: 0,
            last: None,
            last_ns: 0,
            period_ns: period_of(DEFAULT_FRAME_RATE),
        }
    }

    /// The frame rate that the stream tells; one that cannot be is 25 a second.
    pub fn configure(&mut self, rate: Option<(u32, u32)>) {
        let believed = |(num, den): &(u32, u32)| {
            *num > 0 && *den > 0 && num / den <= MAX_FRAME_RATE && period_of((*num, *den)) <= MAX_PERIOD_NS
        };
        let rate = rate.filter(believed).unwrap_or(DEFAULT_FRAME_RATE);
        if rate != self.rate {
            self.base = self.counted();
            self.halves = 0;
            self.rate = rate;
            self.period_ns = period_of(rate);
        }
    }

    /// The time of the next picture, which arrived at `at` and is a frame or one field. Times rise.
    pub fn next(&mut self, at: Duration, field: bool) -> i64 {
        let halves = if field { 1 } else { 2 };
        let time = if self.live { self.arrived(at, halves) } else { self.counted() };
        self.halves += halves;
        let time = self.last.map_or(time, |last| time.max(last.saturating_add(1)));
        self.last = Some(time);
        time
    }

    fn counted(&self) -> i64 {
        let (num, den) = self.rate;
        let ticks = i128::from(self.halves) * i128::from(self.clock_rate) * i128::from(den)
            / (2 * i128::from(num.max(1)));
        self.base.saturating_add(i64::try_from(ticks).unwrap_or(i64::MAX))
    }

    fn arrived(&mut self, at: Duration, halves: i64) -> i64 {
        let at = ns(at);
        let time = if self.last.is_none() {
            at
        } else {
            let due = self.last_ns + self.period_ns * halves / 2;
            let late = at - due;
            if late > GAP_NS.max(2 * self.period_ns) {
                at
            } else {
                let shortest = NS / i64::from(MAX_FRAME_RATE);
                self.period_ns = (self.period_ns + late / 128).clamp(shortest, MAX_PERIOD_NS);
                (due + late / 8).min(at + MAX_LEAD_NS)
            }
        };
        self.last_ns = time;
        ticks_of(time, self.clock_rate)
    }
}

/// Times of sound: samples are counted; live, a gap in the arrivals is one in the times.
#[derive(Debug)]
pub struct SampleClock {
    rate: u32,
    live: bool,
    next: i64,
    /// When sample 0 came, ns; moved by every gap.
    start_ns: Option<i64>,
}

impl SampleClock {
    /// A clock of `rate` ticks a second, the sample rate, that begins at 0.
    pub fn new(rate: u32, live: bool) -> Self {
        Self { rate: rate.max(1), live, next: 0, start_ns: None }
    }

    /// The time of the next `samples`, which had all arrived at `at`, and whether a gap is before them.
    pub fn next(&mut self, at: Duration, samples: u32) -> (i64, bool) {
        let mut gap = false;
        if self.live {
            let at = ns(at);
            let due = time_ns(self.next.saturating_add(i64::from(samples)), self.rate);
            let start = *self.start_ns.get_or_insert(at - due);
            let late = at - start - due;
            if late > GAP_NS {
                self.next = self.next.saturating_add(ticks_of(late, self.rate));
                gap = true;
            }
        }
        let time = self.next;
        self.next = self.next.saturating_add(i64::from(samples));
        (time, gap)
    }
}

fn period_of((num, den): (u32, u32)) -> i64 {
    NS * i64::from(den) / i64::from(num.max(1))
}

fn ns(at: Duration) -> i64 {
    i64::try_from(at.as_nanos()).unwrap_or(i64::MAX / 4)
}

fn ticks_of(ns: i64, rate: u32) -> i64 {
    i64::try_from(i128::from(ns) * i128::from(rate) / i128::from(NS)).unwrap_or(0)
}

fn time_ns(ticks: i64, rate: u32) -> i64 {
    i64::try_from(i128::from(ticks) * i128::from(NS) / i128::from(rate)).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn frames_of_a_file_are_counted_exactly() {
        let mut clock = FrameClock::new(90_000, false);
        clock.configure(Some((30_000, 1001)));
        let times: Vec<i64> = (0..4).map(|_| clock.next(Duration::ZERO, false)).collect();
        assert_eq!(times, [0, 3003, 6006, 9009]);
        clock.configure(Some((50, 1)));
        let times: Vec<i64> = (0..4).map(|n| clock.next(Duration::ZERO, n > 1)).collect();
        assert_eq!(times, [12_012, 13_812, 15_612, 16_512], "fields last half as long");
        clock.configure(Some((0, 0)));
        assert_eq!(clock.next(Duration::ZERO, false), 17_412);
        assert_eq!(clock.next(Duration::ZERO, false), 21_012, "25 a second when nothing is told");
    }

    /// A camera that says 25 and sends 15 a second with 20 ms of jitter.
    #[test]
    fn arrivals_are_smoothed_and_a_wrong_rate_is_learned() {
        let mut clock = FrameClock::new(90_000, true);
        clock.configure(Some((25, 1)));
        let arrival = |n: u32| MS * (n * 200 / 3 + n * 7919 % 20);
        let times: Vec<i64> = (0..600).map(|n| clock.next(arrival(n), false)).collect();
        for pair in times[300..].windows(2) {
            assert!((pair[1] - pair[0] - 6000).abs() < 600, "{pair:?}");
        }
        let late = times[599] - i64::try_from(arrival(599).as_millis()).unwrap() * 90;
        assert!(late.abs() < 90 * 50, "{late}");
        let after = clock.next(arrival(599) + Duration::from_secs(20), false);
        assert!(after - times[599] > 19 * 90_000, "an outage is one");
    }

    #[test]
    fn what_a_sender_kept_is_not_all_at_one_time() {
        let mut clock = FrameClock::new(90_000, true);
        let times: Vec<i64> = (0..10).map(|_| clock.next(MS, false)).collect();
        assert!(
            times[9] - times[0] > 9 * 1000 && times.windows(2).all(|pair| pair[1] > pair[0]),
            "{times:?}"
        );
        let last = (0..1000).map(|_| clock.next(MS, false)).last().unwrap();
        assert!(last < 90_000 + 1_200, "but not far ahead either: {last}");
    }

    #[test]
    fn samples_are_counted_until_there_is_a_gap() {
        let mut clock = SampleClock::new(8000, true);
        assert_eq!(clock.next(MS * 20, 160), (0, false));
        assert_eq!(clock.next(MS * 75, 160), (160, false));
        assert_eq!(clock.next(MS * 60, 160), (320, false));
        assert_eq!(clock.next(MS * 1080, 160), (8480, true));
        assert_eq!(clock.next(MS * 1100, 160), (8640, false));
        let mut file = SampleClock::new(8000, false);
        assert_eq!((file.next(MS, 160), file.next(MS * 9000, 160)), ((0, false), (160, false)));
    }

    proptest! {
        #[test]
        fn times_rise(
            live: bool,
            frames in proptest::collection::vec((0_u64..10_u64.pow(12), any::<bool>(), proptest::option::of(any::<(u32, u32)>())), 0..50),
        ) {
            let mut clock = FrameClock::new(90_000, live);
            let mut samples = SampleClock::new(48_000, live);
            let (mut last, mut sounded) = (None, None);
            for (at, field, rate) in frames {
                clock.configure(rate);
                let time = clock.next(Duration::from_nanos(at), field);
                prop_assert!(last.is_none_or(|last| time > last));
                last = Some(time);
                let (time, _) = samples.next(Duration::from_nanos(at), 1024);
                prop_assert!(sounded.is_none_or(|last| time > last));
                sounded = Some(time);
            }
        }
    }
}
