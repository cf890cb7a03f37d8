//! What time alone brings about.

use patchbay_plugin_api::message::{Class, Ended};

use super::{Action, Core, DIAL_LIMIT, LINGER, Phase, READY_LIMIT, SILENCE, Time, codecs};

impl Core {
    /// Does what is due.
    pub fn tick(&mut self, now: Time) {
        let late: Vec<u64> = self
            .consumers
            .iter()
            .filter(|(_, c)| c.deadline.is_some_and(|deadline| deadline <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.give_up(id);
        }
        self.talk_tick(now);
        let mut due = Vec::new();
        let mut silent = Vec::new();
        for (id, source) in &self.sources {
            match source.phase {
                Phase::Waiting { until } if until <= now => due.push(*id),
                Phase::Connecting { since } if now.saturating_sub(since) >= DIAL_LIMIT => {
                    silent.push((*id, "the camera has not told its tracks for 20 s"));
                }
                Phase::Live
                    if !source.demand.tracks.is_empty()
                        && now.saturating_sub(source.last_media) >= SILENCE
                        && !self.is_relay(*id) =>
                {
                    silent.push((*id, "no media for 10 s"));
                }
                _ => {}
            }
        }
        for (id, message) in silent {
            self.actions.push_back(Action::Close { source: id });
            let ended = Ended { class: Class::Timeout, message: message.to_owned(), retry_after_ms: 0 };
            self.ended(now, id, ended);
        }
        for id in due {
            if self.is_wanted(id) {
                self.dial(now, id);
            } else {
                self.forget(id);
            }
        }
        self.negotiate_waiting(now);
        self.settle(now);
    }

    /// When [`Core::tick`] is due.
    pub fn next_wake(&self) -> Option<Time> {
        let consumers = self.consumers.values().filter_map(|c| c.deadline);
        let sources = self.sources.iter().flat_map(|(id, source)| {
            let phase = match source.phase {
                Phase::Waiting { until } => Some(until),
                Phase::Connecting { since } if self.is_transcoder(&source.url) => Some(since + READY_LIMIT),
                Phase::Connecting { since } => Some(since + DIAL_LIMIT),
                Phase::Live if !source.demand.tracks.is_empty() && !self.is_relay(*id) => {
                    Some(source.last_media + SILENCE)
                }
                _ => None,
            };
            let ready = (source.phase == Phase::Live
                && source.tracks.iter().any(|(_, t)| !codecs::is_ready(t)))
            .then(|| source.told_at + READY_LIMIT);
            [phase, ready, source.idle_since.map(|since| since + LINGER)].into_iter().flatten()
        });
        consumers.chain(sources).chain(self.talk_wakes()).min()
    }
}
