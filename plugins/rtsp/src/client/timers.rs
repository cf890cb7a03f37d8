//! What happens because time passes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::session::{After, BODY_SILENCE, IDLE_CONNECTION, Session, Step};
use super::{Error, Output, Reconnect, Timeouts, Wait};
use crate::wire::{Item, Lower};

/// UDP that brings no packet for so long after PLAY is given up (C60).
const UDP_PATIENCE: Duration = Duration::from_secs(3);
/// Time between datagrams that keep a NAT's ports open (C65).
const PUNCH_INTERVAL: Duration = Duration::from_secs(5);
/// Silence of all media although requests are answered, after which the session is ended.
const MEDIA_SILENCE: Duration = Duration::from_secs(30);

/// The clocks of a session that plays.
#[derive(Debug)]
pub(super) struct Playing {
    since: Duration,
    keepalive_interval: Duration,
    next_keepalive: Duration,
    keepalive_is_options: bool,
    report_interval: Duration,
    next_report: Duration,
    next_punch: Duration,
    /// Newest RTP packet of each media.
    media: BTreeMap<usize, Option<Duration>>,
    last_media: Duration,
    /// All medias have come, or it no longer matters.
    complete: bool,
    udp: bool,
}

impl Playing {
    pub(super) fn new(
        now: Duration,
        keepalive_interval: Duration,
        lower: Lower,
        medias: impl Iterator<Item = usize>,
    ) -> Self {
        let udp = lower != Lower::Tcp;
        let media: BTreeMap<usize, Option<Duration>> = medias.map(|index| (index, None)).collect();
        let report_interval = Duration::from_secs(if udp { 5 } else { 10 });
        Self {
            since: now,
            keepalive_interval,
            next_keepalive: now + keepalive_interval,
            keepalive_is_options: false,
            report_interval,
            next_report: now + report_interval,
            next_punch: if lower == Lower::Udp { now + PUNCH_INTERVAL } else { Duration::MAX },
            complete: media.is_empty(),
            media,
            last_media: now,
            udp,
        }
    }

    /// UDP may still bring something; what only hears brings nothing.
    fn nothing_came(&self) -> bool {
        !self.only_hears() && self.media.values().all(Option::is_none)
    }

    /// Only the backchannel is set up: the camera has nothing to say but answers to keepalives (C89).
    fn only_hears(&self) -> bool {
        self.media.is_empty()
    }

    /// When a camera that says nothing is given up.
    fn silent_at(&self, last_received: Duration, timeouts: &Timeouts) -> Duration {
        let last = last_received.max(self.since);
        if self.only_hears() {
            return last + self.keepalive_interval * 2 + timeouts.reply;
        }
        (last + timeouts.silence).min(self.last_media + MEDIA_SILENCE.max(timeouts.silence))
    }
}

impl Session {
    /// A packet of a media came.
    pub(super) fn note_media(&mut self, index: usize, is_rtcp: bool) {
        let Some(playing) = &mut self.playing else { return };
        playing.last_media = self.now;
        if let Some(last) = playing.media.get_mut(&index).filter(|_| !is_rtcp) {
            *last = Some(self.now);
        }
        playing.complete |= !is_rtcp && playing.media.values().all(Option::is_some);
    }

    pub(super) fn keepalive_answered(&mut self, ok: bool) {
        if let Some(playing) = self.playing.as_mut().filter(|_| !ok) {
            playing.keepalive_is_options = true;
        }
    }

    /// When [`Session::overdue`] has something to do.
    pub(super) fn wake_at(&self) -> Duration {
        match &self.step {
            Step::Leaving { deadline, .. } => return *deadline,
            Step::Idle { since } => return *since + IDLE_CONNECTION,
            Step::Pausing { until, .. } => return *until,
            _ => {}
        }
        let mut wake = Duration::MAX;
        if let Some(sent) = self.exchange.awaited() {
            wake = wake.min(sent.deadline);
            if self.exchange.parser.is_in_open_body() {
                wake = wake.min(self.last_received + BODY_SILENCE);
            }
        }
        if let Some(playing) = &self.playing {
            wake = wake
                .min(playing.next_keepalive)
                .min(playing.next_report)
                .min(playing.next_punch)
                .min(playing.silent_at(self.last_received, &self.config.timeouts));
            if !playing.complete {
                wake = wake.min(playing.since + self.config.timeouts.first_media);
            }
            if playing.udp && playing.nothing_came() {
                wake = wake.min(playing.since + UDP_PATIENCE);
            }
        }
        wake
    }

    /// Does what was due by now.
    pub(super) fn overdue(&mut self) {
        match &self.step {
            Step::Leaving { .. } => return self.left(),
            Step::Idle { .. } => return self.finish(After::Park),
            Step::Pausing { why, .. } => return self.connect(Some(*why)),
            _ => {}
        }
        if let Some(sent) = self.exchange.awaited().cloned() {
            let silent =
                self.exchange.parser.is_in_open_body() && self.last_received + BODY_SILENCE <= self.now;
            if silent || sent.deadline <= self.now {
                // A body that stays shorter than it was announced is taken as it is (C10)
                match self.exchange.parser.end_body() {
                    Some(Item::Response(response)) => self.response(&response),
                    _ => self.reply_overdue(&sent),
                }
                return;
            }
        }
        self.playing_overdue();
    }

    fn playing_overdue(&mut self) {
        let (now, timeouts) = (self.now, self.config.timeouts);
        let Some(playing) = &mut self.playing else { return };
        if playing.udp && playing.nothing_came() && playing.since + UDP_PATIENCE <= now {
            return self.udp_silent();
        }
        if playing.silent_at(self.last_received, &timeouts) <= now {
            return self.leave(After::Close(Err(Error::Timeout(Wait::Silence))));
        }
        if !playing.complete && playing.since + timeouts.first_media <= now {
            return self.media_missing();
        }
        if playing.next_punch <= now {
            playing.next_punch = now + PUNCH_INTERVAL;
            return self.punch();
        }
        if playing.next_report <= now {
            playing.next_report = now + playing.report_interval;
            return self.out.push_back(Output::ReportsDue);
        }
        if playing.next_keepalive <= now {
            playing.next_keepalive = now + playing.keepalive_interval;
            let by_parameter =
                !playing.keepalive_is_options && self.public.iter().any(|m| m == "GET_PARAMETER");
            let method = if by_parameter { "GET_PARAMETER" } else { "OPTIONS" };
            let url = self.described.as_ref().map_or(&self.request_url, |d| &d.control).clone();
            let bytes = self.exchange.send_keepalive(method, &url);
            self.out.push_back(Output::Send(bytes));
        }
    }

    /// Not every media has come in time (C105). Once the session is begun anew; then audio that never comes is done
    /// without (X4: some cameras only announce it), but not video.
    fn media_missing(&mut self) {
        let Some(playing) = &mut self.playing else { return };
        let medias = self.described.as_ref().map(|d| d.session.medias.as_slice()).unwrap_or_default();
        let missing_video = playing.media.iter().any(|(index, last)| {
            last.is_none() && medias.get(*index).is_some_and(|m| m.kind == patchbay_media::Kind::Video)
        });
        if playing.nothing_came() || (self.redone && missing_video) {
            self.leave(After::Close(Err(Error::Timeout(Wait::FirstMedia))));
        } else if self.redone {
            playing.complete = true;
        } else {
            self.redone = true;
            self.leave(After::Reconnect(Reconnect::MediaMissing));
        }
    }
}
