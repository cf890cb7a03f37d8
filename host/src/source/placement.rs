//! Where a source's units lie on the host's clock. Reads no clock: arrivals go in.
//!
//! A session may count from anywhere. Its first unit lies at its arrival, and so does every track that does not count from
//! the same instant, unless sender reports are there before its first unit: they place it. Differences of times within a
//! track stay exact to the tick, but for three repairs:
//!
//! | what came | what is done |
//! |---|---|
//! | times that jump (more than 1 s back, 10 s ahead of the arrivals) | the track goes on at its arrival, the others move with it |
//! | the first sender reports, and they set tracks apart by more than 15 ms | the track is moved once: a quarter of the time that passes |
//! | six reports in a row that are more than 22 ms off: the tracks run apart | moved by at most 5 ms per second |
//!
//! Reports are about the tracks of one session: they say how these lie to each other and how fast the sender's clock runs.
//! What time of day a sender believes in is not used, so a camera that lives in 1970 is as good as any. Reports that come
//! once and are not repeated, or that set tracks further apart than their arrivals allow, are lies.

use std::collections::VecDeque;

const NS: i128 = 1_000_000_000;
const MS: i128 = 1_000_000;

/// Tracks of one session that begin further apart than this do not share their zero.
const MAX_APART_NS: i128 = 10 * NS;
/// A step back of more than this is a new count.
const NEW_COUNT_NS: i128 = NS;
/// A step that is so much longer than the time it took is a new count.
const FARTHEST_STEP_NS: i128 = 10 * NS;
/// Reports may move a track against its arrivals, compared with those of the leading track, to within this.
const MAX_DISAGREEMENT_NS: i128 = 2 * NS;
/// Sound and picture that are 40 ms apart are seen to be; an error of less than this is left, as reports jitter and each move
/// is heard.
const SEEN_NS: i128 = 15 * MS;
/// Tracks that run apart are moved when they are this far from the truth: what was left at first and the jitter of reports
/// together do not reach it.
const DRIFTED_NS: i128 = 22 * MS;
/// The same for the lead, which moves against other sources only.
const LEAD_DRIFTED_NS: i128 = 50 * MS;
/// Reports have placed a track once: only an error that is larger than this moves it so fast again. Some senders' reports
/// are off by a frame, never the same.
const FAR_NS: i128 = 200 * MS;
/// Reports in a row that must show an error before it is closed.
const DRIFTING: usize = 6;
/// Reports in a row that must agree in an error's size, to within [`SEEN_NS`], before a track is moved fast again.
const AGREEING: usize = 3;
/// A report further from the one before is of a clock that was set, or of a new count.
const SET_NS: i128 = NS / 2;
/// One part in so many of the time that passes may be used to move a track: 5 ms per second.
const SLOWNESS: i128 = 200;
/// The same where the truth was not known before: sound that is late is put right in the fourfold of that. A step would be a
/// hole, at which players that buffer stop (Chromium's Media Source Extensions do), or an overlap.
const HASTE: i128 = 4;
/// Over how long the quickest arrival is looked for.
const WINDOW_NS: i128 = 10 * NS;

/// The tracks of a source on the host's clock.
#[derive(Debug, Default)]
pub(super) struct Placement {
    tracks: Vec<Track>,
    /// Host's time of the session's time 0, by the unit that counted anew last.
    zero_ns: Option<i128>,
    /// Decoding time of the newest unit of any track.
    newest_ns: i128,
    /// The track that the others are moved against: the first picture that has reports, else the first track that has.
    lead: Option<usize>,
    /// Host's time minus the sender's, by the lead's first report.
    baseline_ns: Option<i128>,
    /// The session's times are on the host's clock already.
    is_placed: bool,
}

#[derive(Debug, Default)]
struct Track {
    rate: i128,
    is_video: bool,
    /// Added to the session's times, in ticks.
    offset: Option<i64>,
    last: Option<Last>,
    /// Units of the running session have come.
    is_running: bool,
    /// The next unit does not continue the one before.
    is_broken: bool,
    quickest: Quickest,
    /// The sender's time at the session's time 0, by its newest report.
    report_ns: Option<i128>,
    /// Reports have placed it beside the lead: from now on it is moved fast by what is far off only.
    is_settled: bool,
    /// The newest errors that reports showed.
    errors_ns: VecDeque<i128>,
    /// Still to be moved.
    move_ns: i128,
    /// It is moved fast, and reports that come meanwhile change nothing.
    is_hasty: bool,
    /// How far it may be moved with the next unit: a tick may be more than what one unit's time allows.
    leeway_ns: i128,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    dts: i64,
    arrival_ns: i128,
}

/// Where a track begins.
struct First {
    /// Host's time of the session's time 0.
    offset_ns: i128,
    /// By its report and that of another track, beside which it lies.
    reported_with: Option<usize>,
}

/// A unit's times on the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) pts: i64,
    pub(super) dts: i64,
    /// It does not continue the unit before.
    pub(super) is_break: bool,
}

impl Placement {
    /// A new session begins: it may count from elsewhere.
    pub(super) fn begin(&mut self) {
        self.zero_ns = None;
        self.is_placed = false;
        self.lead = None;
        self.baseline_ns = None;
        for track in &mut self.tracks {
            let Track { rate, is_video, last, .. } = *track;
            *track = Track { rate, is_video, last, ..Track::default() };
        }
    }

    /// Describes a track; tracks may be described again.
    pub(super) fn set_track(&mut self, index: usize, clock_rate: u32, is_video: bool) {
        if self.tracks.len() <= index {
            self.tracks.resize_with(index + 1, Track::default);
        }
        let Some(track) = self.tracks.get_mut(index) else { return };
        let rate = i128::from(clock_rate.max(1));
        if track.rate != 0 && track.rate != rate {
            let last = track.last.map(|last| Last { dts: ticks(ns(last.dts, track.rate), rate), ..last });
            *track = Track { last, ..Track::default() };
        }
        (track.rate, track.is_video) = (rate, is_video);
    }

    /// The session's times are on the host's clock already. One that lies far from its arrival is not believed.
    pub(super) fn keep_times(&mut self) {
        self.is_placed = true;
    }

    /// The host's times of a unit that arrives at `now_ns`. `None`: no such track.
    pub(super) fn place(&mut self, index: usize, pts: i64, dts: i64, now_ns: i128) -> Option<Placed> {
        let rate = self.tracks.get(index).filter(|track| track.rate > 0)?.rate;
        let dts_ns = ns(dts, rate);
        let is_placed = self.is_placed && (dts_ns - now_ns).abs() <= MAX_APART_NS;
        if is_placed {
            self.zero_ns = Some(0);
            self.tracks.get_mut(index)?.offset = Some(0);
        }
        if self.zero_ns.is_none() {
            self.zero_ns = Some(now_ns.max(self.newest_ns + MS) - dts_ns);
        }
        if self.tracks.get(index)?.offset.is_none() {
            let first = self.first_offset(index, dts_ns, now_ns)?;
            if let Some(other) = first.reported_with {
                self.tracks.get_mut(other)?.is_settled = true;
            }
            let track = self.tracks.get_mut(index)?;
            track.is_settled |= first.reported_with.is_some();
            track.offset = Some(ticks(first.offset_ns, rate));
        } else if !is_placed && self.counts_anew(index, dts, now_ns)? {
            self.count_anew(index, dts_ns, now_ns)?;
        }
        let track = self.tracks.get_mut(index)?;
        track.slew(dts);
        let offset = track.offset?;
        let (mut pts, mut dts) = (pts.saturating_add(offset), dts.saturating_add(offset));
        let mut is_break = std::mem::take(&mut track.is_broken);
        if let Some(last) = track.last {
            if !track.is_running && dts <= last.dts {
                // Its first unit lies before what the last session sent.
                let shift = last.dts.saturating_add(1).saturating_sub(dts);
                pts = pts.saturating_add(shift);
                dts = dts.saturating_add(shift);
                track.offset = Some(offset.saturating_add(shift));
            }
            is_break |= !track.is_running || dts < last.dts;
        }
        track.is_running = true;
        track.last = Some(Last { dts, arrival_ns: now_ns });
        let placed_ns = ns(dts, rate);
        track.quickest.note(now_ns - placed_ns, now_ns);
        self.newest_ns = self.newest_ns.max(placed_ns);
        Some(Placed { pts, dts, is_break })
    }

    /// A sender report: `pts` of the session was at `unix_ns` on the sender's clock.
    pub(super) fn clock(&mut self, index: usize, pts: i64, unix_ns: i64) {
        let Some(track) = self.tracks.get_mut(index).filter(|track| track.rate > 0) else { return };
        let report_ns = i128::from(unix_ns) - ns(pts, track.rate);
        let was_set = track.report_ns.is_some_and(|before| (report_ns - before).abs() > SET_NS);
        track.report_ns = Some(report_ns);
        if was_set {
            // What the others reported is of another time.
            for (other, track) in self.tracks.iter_mut().enumerate() {
                track.errors_ns.clear();
                track.rest();
                if other != index {
                    track.report_ns = None;
                }
            }
            self.baseline_ns = None;
        }
        self.choose_lead(index);
        if self.lead == Some(index) {
            self.follow_sender(index);
            let unsettled = |t: &Track| t.report_ns.is_some() && !t.is_settled;
            let others = self.tracks.iter().enumerate();
            let waiting: Vec<usize> =
                others.filter(|(i, t)| *i != index && unsettled(t)).map(|o| o.0).collect();
            for other in waiting {
                self.align(other);
            }
        } else {
            self.align(index);
        }
    }

    fn choose_lead(&mut self, index: usize) {
        let is_video = |i: usize| self.tracks.get(i).is_some_and(|track| track.is_video);
        let better = match self.lead {
            None => true,
            Some(lead) => is_video(index) && !is_video(lead),
        };
        if better {
            let before = self.lead.replace(index);
            self.baseline_ns = None;
            for (changed, is_settled) in [(before, false), (Some(index), true)] {
                if let Some(track) = changed.and_then(|index| self.tracks.get_mut(index)) {
                    track.is_settled = is_settled;
                    track.errors_ns.clear();
                    track.rest();
                }
            }
        }
    }

    /// The lead keeps pace with the sender's clock.
    fn follow_sender(&mut self, index: usize) {
        let Some(track) = self.tracks.get_mut(index) else { return };
        let (Some(offset_ns), Some(report_ns)) = (track.offset_ns(), track.report_ns) else { return };
        let baseline = *self.baseline_ns.get_or_insert(offset_ns - report_ns);
        track.note_error(report_ns + baseline - offset_ns, LEAD_DRIFTED_NS);
    }

    /// Moves a track to where the reports put it beside the lead.
    fn align(&mut self, index: usize) {
        let Some(lead) = self.lead.and_then(|lead| self.tracks.get(lead)) else { return };
        let (Some(lead_ns), Some(lead_report)) = (lead.offset_ns(), lead.report_ns) else { return };
        let lead_quickest = lead.quickest.get();
        let Some(track) = self.tracks.get_mut(index).filter(|track| !track.is_hasty) else { return };
        let (Some(offset_ns), Some(report_ns)) = (track.offset_ns(), track.report_ns) else { return };
        let error = (report_ns - lead_report) - (offset_ns - lead_ns);
        let apart = track.quickest.get().zip(lead_quickest).map(|(own, lead)| (own - error - lead).abs());
        if apart.is_none_or(|apart| apart > MAX_DISAGREEMENT_NS) {
            return;
        }
        let is_first = !std::mem::replace(&mut track.is_settled, true);
        track.note_error(error, DRIFTED_NS);
        let agrees = |e: &&i128| (**e - error).abs() <= SEEN_NS;
        let is_sure = track.errors_ns.iter().rev().take_while(agrees).count() >= AGREEING;
        if (is_first && error.abs() > SEEN_NS) || (is_sure && error.abs() > FAR_NS) {
            (track.move_ns, track.is_hasty) = (error, true);
            track.errors_ns.clear();
        }
    }

    /// Where a track lies whose first unit comes now.
    fn first_offset(&self, index: usize, dts_ns: i128, now_ns: i128) -> Option<First> {
        let track = self.tracks.get(index)?;
        let is_near = |offset_ns: i128| (dts_ns + offset_ns - now_ns).abs() <= MAX_APART_NS;
        let reported = |other: usize| {
            let track = self.tracks.get(other).filter(|_| other != index)?;
            Some((other, track.offset_ns()? - track.report_ns?))
        };
        let beside = self.lead.and_then(reported).or_else(|| (0..self.tracks.len()).find_map(reported));
        if let Some((report_ns, (other, others_ns))) = track.report_ns.zip(beside)
            && is_near(report_ns + others_ns)
        {
            return Some(First { offset_ns: report_ns + others_ns, reported_with: Some(other) });
        }
        let by_arrival = || {
            let last_ns = track.last.map_or(i128::MIN, |last| ns(last.dts, track.rate));
            now_ns.max(last_ns) - dts_ns
        };
        let offset_ns = self.zero_ns.filter(|zero_ns| is_near(*zero_ns)).unwrap_or_else(by_arrival);
        Some(First { offset_ns, reported_with: None })
    }

    /// Whether a unit's time cannot belong to the count of the one before.
    fn counts_anew(&self, index: usize, dts: i64, now_ns: i128) -> Option<bool> {
        let track = self.tracks.get(index)?;
        let Some(last) = track.last.filter(|_| track.is_running) else { return Some(false) };
        let step_ns = ns(dts.saturating_add(track.offset?).saturating_sub(last.dts), track.rate);
        let elapsed_ns = (now_ns - last.arrival_ns).max(0);
        Some(step_ns < -NEW_COUNT_NS || step_ns - elapsed_ns > FARTHEST_STEP_NS)
    }

    /// A track goes on at its arrival; where another one already went, when that fits.
    fn count_anew(&mut self, index: usize, dts_ns: i128, now_ns: i128) -> Option<()> {
        let rate = self.tracks.get(index)?.rate;
        let last_ns = self.tracks.get(index)?.last.map_or(i128::MIN, |last| ns(last.dts, rate));
        let fits = |zero: &i128| {
            let at = dts_ns + zero;
            at > last_ns - NEW_COUNT_NS && (at - now_ns.max(last_ns)).abs() <= MAX_APART_NS
        };
        let zero_ns = match self.zero_ns.filter(fits) {
            Some(zero_ns) => zero_ns,
            None => now_ns.max(self.newest_ns + MS) - dts_ns,
        };
        self.zero_ns = Some(zero_ns);
        let track = self.tracks.get_mut(index)?;
        track.offset = Some(ticks(zero_ns, rate));
        (track.report_ns, track.is_broken) = (None, true);
        track.rest();
        track.errors_ns.clear();
        track.quickest = Quickest::default();
        if self.lead == Some(index) {
            self.baseline_ns = None;
        }
        Some(())
    }
}

impl Track {
    fn offset_ns(&self) -> Option<i128> {
        Some(ns(self.offset?, self.rate))
    }

    /// Errors in a row that point the same way are closed, as far as the smallest one, when that is beyond a limit.
    fn note_error(&mut self, error: i128, limit: i128) {
        if self.errors_ns.len() == DRIFTING {
            self.errors_ns.pop_front();
        }
        self.errors_ns.push_back(error);
        let is_sure = self.errors_ns.len() == DRIFTING
            && self.errors_ns.iter().all(|other| other.signum() == error.signum());
        let smallest = self.errors_ns.iter().copied().min_by_key(|error| error.abs()).filter(|_| is_sure);
        self.move_ns = smallest.filter(|error| error.abs() > limit).unwrap_or(0);
    }

    /// Stops moving, whatever is left.
    fn rest(&mut self) {
        (self.move_ns, self.is_hasty) = (0, false);
    }

    /// Moves towards what the reports say; `dts` is the next unit's in the session's time.
    fn slew(&mut self, dts: i64) {
        let (Some(offset), Some(last)) = (self.offset, self.last) else { return };
        // Less than a tick cannot be moved.
        if ticks(self.move_ns, self.rate) == 0 {
            self.leeway_ns = 0;
            return self.rest();
        }
        let passed = ns(dts.saturating_add(offset).saturating_sub(last.dts), self.rate).clamp(0, NS);
        self.leeway_ns += passed / if self.is_hasty { HASTE } else { SLOWNESS };
        let moved = ticks(self.move_ns.clamp(-self.leeway_ns, self.leeway_ns), self.rate);
        if moved == 0 {
            return;
        }
        let moved_ns = ns(moved, self.rate);
        self.leeway_ns -= moved_ns.abs();
        self.offset = Some(offset.saturating_add(moved));
        self.move_ns -= moved_ns;
        self.quickest.shift(moved_ns);
        // What the next report shows is compared with what this one would show now.
        for error in &mut self.errors_ns {
            *error -= moved_ns;
        }
    }
}

/// The shortest way that a track's units took lately, up to a constant: arrivals minus times. Bursts and jitter only make it
/// longer.
#[derive(Debug, Default)]
struct Quickest {
    before: Option<i128>,
    now: Option<i128>,
    since_ns: i128,
}

impl Quickest {
    fn note(&mut self, way_ns: i128, now_ns: i128) {
        if self.now.is_none() || now_ns - self.since_ns > WINDOW_NS {
            self.before = self.now.take();
            self.since_ns = now_ns;
        }
        self.now = Some(self.now.map_or(way_ns, |quickest| quickest.min(way_ns)));
    }

    /// The track was moved: its times are later by this.
    fn shift(&mut self, by_ns: i128) {
        for way in [&mut self.before, &mut self.now].into_iter().flatten() {
            *way -= by_ns;
        }
    }

    fn get(&self) -> Option<i128> {
        [self.before, self.now].into_iter().flatten().min()
    }
}

fn ns(ticks: i64, rate: i128) -> i128 {
    i128::from(ticks) * NS / rate.max(1)
}

fn ticks(ns: i128, rate: i128) -> i64 {
    let ticks = ns.saturating_mul(rate) / NS;
    i64::try_from(ticks).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests;
