//! Talk: the sound of players on its way to cameras. One talker per source; the first that comes keeps it.

use patchbay_plugin_api::message::Talk;

use super::{
    Action, Class, Connection, Core, DEFAULT_WAIT, Duration, Ended, LookupError, Phase, SendTrack, Time,
    TrackInfo, codecs,
};

/// A talker that has pushed nothing for so long leaves the camera to others.
pub const TALK_SILENCE: Duration = Duration::from_secs(60);

/// One that speaks, or wants to.
#[derive(Debug)]
pub(super) struct Talker {
    pub(super) stream: String,
    /// The consumer of the same player.
    pub(super) consumer: Option<u64>,
    pub(super) track: TrackInfo,
    pub(super) connection: Connection,
    /// Whom it speaks to: source, and index in what that accepts.
    pub(super) to: Option<(u64, u32)>,
    /// The source whose tracks it waits for.
    pending: Option<u64>,
    deadline: Time,
    last_unit: Time,
}

impl Talker {
    /// The source that must run for it.
    pub(super) fn needs(&self) -> Option<u64> {
        self.to.map(|(source, _)| source).or(self.pending)
    }
}

/// Whether a camera takes sound as it is.
fn fits(send: &SendTrack, track: &TrackInfo) -> bool {
    let rate = if track.sample_rate == 0 { track.clock_rate } else { track.sample_rate };
    let same = |a: u32, b: u32| a == b || a == 0 || b == 0;
    // RTP's rate and channels of Opus say nothing of the sound (RFC 7587, 4.1).
    let sound = send.codec == "opus" || (same(send.sample_rate, rate) && same(send.channels, track.channels));
    send.codec == track.codec && sound
}

fn text(codec: &str, rate: u32) -> String {
    let name = codecs::reference_name(codec);
    if rate == 0 { name } else { format!("{name}/{rate}") }
}

fn ended(class: Class, message: impl Into<String>) -> Ended {
    Ended { class, message: message.into(), retry_after_ms: 0 }
}

impl Core {
    /// Somebody wants to speak: its id, which is also that of its ring. Its answer is an action: `TalkAccepted`, or `Refused`.
    pub fn talk(&mut self, now: Time, talk: &Talk, consumer: Option<u64>) -> Result<u64, LookupError> {
        let stream = self.resolve(&talk.stream).ok_or(LookupError::NotFound)?;
        self.last_id += 1;
        let id = self.last_id;
        let talker = Talker {
            stream,
            consumer,
            track: TrackInfo { id: 0, ..talk.track.clone() },
            connection: talk.connection.clone(),
            to: None,
            pending: None,
            deadline: now + DEFAULT_WAIT,
            last_unit: now,
        };
        self.talkers.insert(id, talker);
        self.place_talker(now, id);
        self.settle(now);
        Ok(id)
    }

    /// A talker leaves.
    pub fn talk_over(&mut self, now: Time, id: u64) {
        self.forget_talker(id);
        self.settle(now);
    }

    fn forget_talker(&mut self, id: u64) {
        let Some(talker) = self.talkers.remove(&id) else { return };
        if let Some((source, _)) = talker.to {
            self.actions.push_back(Action::TalkEnd { talk: id, source });
            self.actions.push_back(Action::Drop { source: id });
        }
    }

    fn refuse_talker(&mut self, id: u64, ended: Ended) {
        self.forget_talker(id);
        self.actions.push_back(Action::Refused { consumer: id, ended });
    }

    /// Finds the camera for a talker that has none yet: the first source of its stream that takes what it says.
    fn place_talker(&mut self, now: Time, id: u64) {
        let Some(talker) = self.talkers.get_mut(&id).filter(|talker| talker.to.is_none()) else { return };
        talker.pending = None;
        let (name, track) = (talker.stream.clone(), talker.track.clone());
        let Some(stream) = self.streams.get(&name) else { return };
        let slots = stream.slots.len();
        let mut candidates: Vec<Result<u64, usize>> = stream.publishers.iter().map(|id| Ok(*id)).collect();
        candidates.extend((0..slots).map(Err));
        let mut taken: Vec<String> = Vec::new();
        let mut down = None;
        for candidate in candidates {
            let source_id = match candidate {
                Ok(id) => Some(id),
                Err(index) => self.source_of(now, &name, index),
            };
            let Some((source_id, source)) = source_id.and_then(|id| Some((id, self.sources.get(&id)?)))
            else {
                continue;
            };
            match source.phase {
                Phase::Live => {}
                Phase::Idle | Phase::Connecting { .. } => {
                    if source.phase == Phase::Idle {
                        self.dial(now, source_id);
                    }
                    if let Some(talker) = self.talkers.get_mut(&id) {
                        talker.pending = Some(source_id);
                    }
                    return;
                }
                Phase::Waiting { .. } => {
                    down = down.or_else(|| source.error.clone());
                    continue;
                }
            }
            let Some(send) = source.send.iter().position(|send| fits(send, &track)) else {
                taken.extend(source.send.iter().map(|send| text(&send.codec, send.sample_rate)));
                continue;
            };
            if self.talkers.values().any(|other| other.to.is_some_and(|(source, _)| source == source_id)) {
                let message = "talk: somebody else is speaking to this camera";
                return self.refuse_talker(id, ended(Class::Busy, message));
            }
            let send = u32::try_from(send).unwrap_or(0);
            if let Some(talker) = self.talkers.get_mut(&id) {
                talker.to = Some((source_id, send));
                talker.last_unit = now;
            }
            self.actions.push_back(Action::Create { source: id });
            self.actions.push_back(Action::TalkAccepted { talk: id, track: track.clone() });
            self.actions.push_back(Action::Talk { talk: id, source: source_id, send, track });
            return;
        }
        taken.dedup();
        let rate = if track.sample_rate == 0 { track.clock_rate } else { track.sample_rate };
        let refusal = match (taken.is_empty(), down) {
            (false, _) => {
                let (camera, player) = (taken.join(", "), text(&track.codec, rate));
                let message = format!("talk: codecs not matched: the camera takes {camera}, not {player}");
                ended(Class::Unsupported, message)
            }
            (true, Some(down)) => ended(down.class, format!("talk: the camera is offline: {}", down.message)),
            (true, None) => {
                ended(Class::Unsupported, format!("talk: no source of {name} takes sound to a camera"))
            }
        };
        self.refuse_talker(id, refusal);
    }

    /// A source told its tracks, or is down: who waits for it, or speaks to it, goes on.
    pub(super) fn talk_news(&mut self, now: Time) {
        let waiting: Vec<u64> =
            self.talkers.iter().filter(|(_, t)| t.to.is_none()).map(|(id, _)| *id).collect();
        for id in waiting {
            self.place_talker(now, id);
        }
    }

    /// A new session of a source: whoever speaks to it is told to it.
    pub(super) fn talk_again(&mut self, source: u64) {
        let found = self.talkers.iter().find(|(_, t)| t.to.is_some_and(|(to, _)| to == source));
        let Some((id, track)) = found.map(|(id, talker)| (*id, talker.track.clone())) else { return };
        let accepted = self.sources.get(&source).map(|source| source.send.as_slice()).unwrap_or_default();
        match accepted.iter().position(|send| fits(send, &track)) {
            Some(send) => {
                let send = u32::try_from(send).unwrap_or(0);
                if let Some(talker) = self.talkers.get_mut(&id) {
                    talker.to = Some((source, send));
                }
                self.actions.push_back(Action::Talk { talk: id, source, send, track });
            }
            None => {
                let message = "talk: the camera takes no such sound any more";
                self.refuse_talker(id, ended(Class::Unsupported, message));
            }
        }
    }

    /// A source is no more: nobody speaks to it.
    pub(super) fn talk_gone(&mut self, source: u64) {
        let to = |talker: &Talker| talker.to.is_some_and(|(to, _)| to == source);
        let ids: Vec<u64> = self.talkers.iter().filter(|(_, t)| to(t)).map(|(id, _)| *id).collect();
        for id in ids {
            self.refuse_talker(id, ended(Class::Eof, "talk: the camera is gone"));
        }
        for talker in self.talkers.values_mut().filter(|talker| talker.pending == Some(source)) {
            talker.pending = None;
        }
    }

    /// A stream has other sources now, `kept` among them.
    pub(super) fn talk_renewed(&mut self, name: &str, kept: &[u64]) {
        let gone = !self.streams.contains_key(name);
        let lost = |talker: &Talker| {
            talker.stream == name && (gone || talker.to.is_some_and(|(to, _)| !kept.contains(&to)))
        };
        let ids: Vec<u64> = self.talkers.iter().filter(|(_, t)| lost(t)).map(|(id, _)| *id).collect();
        for id in ids {
            self.refuse_talker(id, ended(Class::NotFound, "talk: the stream was changed"));
        }
    }

    /// Units of a talker arrive; false when there is no such talker.
    pub(super) fn talk_media(&mut self, now: Time, id: u64) -> bool {
        let Some(talker) = self.talkers.get_mut(&id) else { return false };
        talker.last_unit = now;
        true
    }

    /// Ends those who have waited, or been silent, for too long.
    pub(super) fn talk_tick(&mut self, now: Time) {
        let over = |talker: &Talker| match talker.to {
            None => talker.deadline <= now,
            Some(_) => now.saturating_sub(talker.last_unit) >= TALK_SILENCE,
        };
        let late: Vec<(u64, bool)> =
            self.talkers.iter().filter(|(_, t)| over(t)).map(|(id, t)| (*id, t.to.is_some())).collect();
        for (id, spoke) in late {
            let message =
                if spoke { "talk: no sound for 60 s" } else { "talk: the camera did not answer in time" };
            self.refuse_talker(id, ended(Class::Timeout, message));
        }
    }

    /// When [`Core::talk_tick`] is due.
    pub(super) fn talk_wakes(&self) -> impl Iterator<Item = Time> {
        self.talkers.values().map(|talker| match talker.to {
            None => talker.deadline,
            Some(_) => talker.last_unit + TALK_SILENCE,
        })
    }

    /// What the cameras of a stream accept, as far as they are connected.
    pub(super) fn accepted(&self, name: &str) -> Vec<SendTrack> {
        let Some(stream) = self.streams.get(name) else { return Vec::new() };
        let slots = stream.slots.iter().filter_map(|slot| slot.source);
        let sources = stream.publishers.iter().copied().chain(slots).filter_map(|id| self.sources.get(&id));
        let mut accepted: Vec<SendTrack> = Vec::new();
        for send in sources.filter(|source| source.phase == Phase::Live).flat_map(|source| &source.send) {
            if !accepted.contains(send) {
                accepted.push(send.clone());
            }
        }
        accepted
    }
}
