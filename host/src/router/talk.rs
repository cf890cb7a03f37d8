//! Talk: the sound of players on its way to cameras. One talker per source; the first that comes keeps it.

mod play;
mod relay;

use patchbay_plugin_api::message::Talk;

use self::play::{Played, REST};
use self::relay::Way;
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
    /// What it says.
    pub(super) track: TrackInfo,
    /// Its epoch in [`Self::ring`].
    epoch: u32,
    pub(super) connection: Connection,
    /// The ring with what it says: its own, or that of the source that is played.
    pub(super) ring: u64,
    /// Whom it speaks to: source, and index in what that accepts.
    pub(super) to: Option<(u64, u32)>,
    /// The source that makes of its sound what the camera takes.
    pub(super) via: Option<u64>,
    /// Nothing may be made of it.
    exact: bool,
    /// The camera was told of it.
    passed: bool,
    /// It is no player but a source.
    pub(super) played: Option<Played>,
    /// The source whose tracks it waits for.
    pending: Option<u64>,
    deadline: Time,
    last_unit: Time,
}

impl Talker {
    /// The sources that must run for it, with the track that is read.
    pub(super) fn needs(&self) -> impl Iterator<Item = (u64, Option<u32>)> {
        let camera = self.to.map(|(source, _)| source).or(self.pending).map(|source| (source, None));
        let between = self.via.map(|source| (source, Some(0)));
        // What is played begins when it is heard.
        let played = self.played.as_ref().map(|_| (self.ring, self.passed.then_some(self.track.id)));
        [camera, between, played].into_iter().flatten()
    }

    /// The ring that the camera reads.
    pub(super) fn heard(&self) -> u64 {
        self.via.unwrap_or(self.ring)
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
            epoch: 0,
            connection: talk.connection.clone(),
            ring: id,
            to: None,
            via: None,
            exact: talk.exact,
            passed: false,
            played: None,
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
        if let Some((source, _)) = talker.to.filter(|_| talker.passed) {
            self.actions.push_back(Action::TalkEnd { talk: talker.heard(), source });
        }
        if let Some(via) = talker.via {
            self.end_relay(id, via);
        }
        match talker.played {
            Some(_) if self.sources.contains_key(&talker.ring) => {
                self.actions.push_back(Action::Close { source: talker.ring });
                self.forget(talker.ring);
            }
            None if talker.to.is_some() => self.actions.push_back(Action::Drop { source: id }),
            _ => {}
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
        if talker.played.is_some() && !self.is_loaded(now, id) {
            return;
        }
        let Some(talker) = self.talkers.get(&id) else { return };
        let (name, track) = (talker.stream.clone(), talker.track.clone());
        let (exact, is_played) = (talker.exact, talker.played.is_some());
        let Some(stream) = self.streams.get(&name) else { return };
        let slots = stream.slots.len();
        let mut candidates: Vec<Result<u64, usize>> = stream.publishers.iter().map(|id| Ok(*id)).collect();
        candidates.extend((0..slots).map(Err));
        let mut taken: Vec<String> = Vec::new();
        let mut down = None;
        // The first that takes it as it is, else the first that takes something that can be made of it.
        let mut found = None;
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
            match self.way(id, &source.send, &track) {
                Some(way @ Way::Direct(_)) => {
                    found = Some((source_id, way));
                    break;
                }
                Some(way) if !exact => found = found.or(Some((source_id, way))),
                _ => taken.extend(source.send.iter().map(|send| text(&send.codec, send.sample_rate))),
            }
        }
        if let Some((source, way)) = found {
            return self.accept_talker(now, id, source, way);
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
                let none = if is_played { "can't find consumer: " } else { "talk: " };
                ended(Class::Unsupported, format!("{none}no source of {name} takes sound to a camera"))
            }
        };
        self.refuse_talker(id, refusal);
    }

    /// A talker has its camera, unless somebody else has it.
    fn accept_talker(&mut self, now: Time, id: u64, source: u64, way: Way) {
        if self.talkers.values().any(|other| other.to.is_some_and(|(to, _)| to == source)) {
            let message = "talk: somebody else is speaking to this camera";
            return self.refuse_talker(id, ended(Class::Busy, message));
        }
        let Some(talker) = self.talkers.get_mut(&id) else { return };
        talker.last_unit = now;
        if talker.played.is_none() {
            self.actions.push_back(Action::Create { source: id });
        }
        let track = talker.track.clone();
        self.actions.push_back(Action::TalkAccepted { talk: id, track });
        self.take_way(now, id, source, way);
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
    pub(super) fn talk_again(&mut self, now: Time, source: u64) {
        if let Some((id, _)) = self.talkers.iter().find(|(_, talker)| talker.via == Some(source)) {
            return self.pass_talk(*id);
        }
        let found = self.talkers.iter().find(|(_, t)| t.to.is_some_and(|(to, _)| to == source));
        let Some((id, track, exact)) = found.map(|(id, t)| (*id, t.track.clone(), t.exact)) else { return };
        let accepted = self.sources.get(&source).map(|source| source.send.as_slice()).unwrap_or_default();
        match self.way(id, accepted, &track).filter(|way| !exact || matches!(way, Way::Direct(_))) {
            Some(way) => self.take_way(now, id, source, way),
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

    /// Units of a talker arrive; false when it is nothing else.
    pub(super) fn talk_media(&mut self, now: Time, id: u64) -> bool {
        for talker in self.talkers.values_mut().filter(|talker| talker.ring == id) {
            talker.last_unit = now;
        }
        self.talkers.contains_key(&id)
    }

    /// Ends those who have waited, or been silent, for too long, and those who have said everything.
    pub(super) fn talk_tick(&mut self, now: Time) {
        let late: Vec<u64> =
            self.talkers.iter().filter(|(_, t)| self.talk_over_at(t) <= now).map(|(id, _)| *id).collect();
        for id in late {
            let Some(talker) = self.talkers.get(&id) else { continue };
            let ended = match (&talker.played, talker.to) {
                (Some(Played { over: Some(_), .. }), _) => ended(Class::Eof, "it was played to its end"),
                (Some(_), None) if talker.track.codec.is_empty() => {
                    ended(Class::Timeout, "play: nothing was heard of the source in time")
                }
                (_, None) => ended(Class::Timeout, "talk: the camera did not answer in time"),
                _ => ended(Class::Timeout, "talk: no sound for 60 s"),
            };
            self.refuse_talker(id, ended);
        }
    }

    /// When [`Core::talk_tick`] is due.
    pub(super) fn talk_wakes(&self) -> impl Iterator<Item = Time> {
        self.talkers.values().map(|talker| self.talk_over_at(talker))
    }

    /// When a talker has waited, or been silent, for too long, or is over.
    fn talk_over_at(&self, talker: &Talker) -> Time {
        match (&talker.played, talker.to) {
            (Some(Played { over: Some(over), .. }), _) => {
                // What a transcoder still makes of it is heard.
                let made =
                    talker.via.and_then(|via| self.sources.get(&via)).map(|made| made.last_media + REST);
                made.map_or(*over, |made| made.max(*over))
            }
            (_, None) => talker.deadline,
            (_, Some(_)) => talker.last_unit + TALK_SILENCE,
        }
    }

    /// What the cameras of a stream accept, as far as they are connected, and behind it, without a rate, of what that can be made.
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
        let made =
            self.transcoders.iter().filter(|t| accepted.iter().any(|send| t.to.contains_key(&send.codec)));
        let read: Vec<String> = made
            .filter(|t| t.kind == "audio")
            .flat_map(|transcoder| transcoder.from.iter().cloned())
            .collect();
        for codec in read {
            if !accepted.iter().any(|send| send.codec == codec && send.sample_rate == 0) {
                accepted.push(SendTrack { codec, ..SendTrack::default() });
            }
        }
        accepted
    }
}
