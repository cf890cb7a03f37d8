//! What is played to a camera: a source that speaks.

use patchbay_plugin_api::message::Consume;

use super::super::{
    Class, Connection, Core, Duration, Ended, LookupError, Phase, READY_LIMIT, Time, TrackInfo,
};
use super::{Talker, codecs, ended};

/// How long there may be nothing to hear at the start: clients give up after 9 s.
const START: Duration = Duration::from_secs(8);

/// Behind its end, and behind the last that was made of it: what is on its way is still heard.
pub(super) const REST: Duration = Duration::from_secs(1);

/// A source that speaks.
#[derive(Debug)]
pub(in crate::router) struct Played {
    /// What was asked for, for `/api/streams`.
    pub(in crate::router) url: String,
    /// It has ended: when its last sound was heard.
    pub(super) over: Option<Time>,
}

impl Core {
    /// Plays the sound of `url`, which is shown as `asked`, to the camera of a stream, in place of what is played there. Answered as
    /// [`Core::talk`].
    pub fn play(&mut self, now: Time, stream: &str, url: &str, asked: &str) -> Result<u64, LookupError> {
        let stream = self.resolve(stream).ok_or(LookupError::NotFound)?;
        self.stop_play(now, &stream);
        // Never shared: it begins at its beginning.
        let ring = self.new_source(now, url.to_owned(), false);
        self.last_id += 1;
        let id = self.last_id;
        let talker = Talker {
            stream,
            consumer: None,
            track: TrackInfo::default(),
            epoch: 0,
            connection: Connection::default(),
            ring,
            to: None,
            via: None,
            exact: false,
            passed: false,
            played: Some(Played { url: asked.to_owned(), over: None }),
            pending: None,
            deadline: now + START,
            last_unit: now,
        };
        self.talkers.insert(id, talker);
        self.dial(now, ring);
        self.settle(now);
        Ok(id)
    }

    /// Ends what is played to the camera of a stream.
    pub fn stop_play(&mut self, now: Time, stream: &str) {
        let Some(stream) = self.resolve(stream) else { return };
        let played = self.talkers.iter().filter(|(_, t)| t.played.is_some() && t.stream == stream);
        for id in played.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.refuse_talker(id, ended(Class::Eof, "it was stopped"));
        }
        self.settle(now);
    }

    /// Whether it is known what a talker is to play.
    pub(super) fn is_loaded(&mut self, now: Time, id: u64) -> bool {
        let Some(talker) = self.talkers.get_mut(&id) else { return false };
        let Some(source) = self.sources.get(&talker.ring).filter(|source| source.phase == Phase::Live) else {
            return false;
        };
        let mut sound = source.tracks.iter().filter(|(_, track)| track.kind == "audio");
        if let Some((epoch, track)) = sound.clone().find(|(_, track)| codecs::is_ready(track)) {
            (talker.epoch, talker.track) = (*epoch, track.clone());
            return true;
        }
        let waits = now.saturating_sub(source.told_at) < READY_LIMIT;
        if !waits || (source.is_final && sound.next().is_none()) {
            self.refuse_talker(id, ended(Class::Unsupported, "play: the source has no sound"));
        }
        false
    }

    /// Whether a source is played to a camera.
    pub fn is_played(&self, source: u64) -> bool {
        self.talkers.values().any(|talker| talker.played.is_some() && talker.ring == source)
    }

    /// Whether a claim is that of a source that is played.
    pub(in crate::router) fn reads_to_play(&self, consume: &Consume) -> bool {
        let played = self.talkers.values().filter(|talker| talker.played.is_some());
        let mut urls = played.filter_map(|talker| Some(self.sources.get(&talker.ring)?.url.as_str()));
        !consume.source.is_empty() && urls.any(|url| url == consume.source)
    }

    /// A source has ended; true when it was played, and is not dialled again.
    pub(in crate::router) fn play_ended(&mut self, now: Time, source: u64, ended: &Ended) -> bool {
        let found =
            self.talkers.iter_mut().find(|(_, talker)| talker.ring == source && talker.played.is_some());
        let Some((id, talker)) = found else { return false };
        let id = *id;
        match &mut talker.played {
            Some(played) if talker.passed => {
                played.over.get_or_insert(now + REST);
            }
            _ => self.refuse_talker(id, ended.clone()),
        }
        if let Some(source) = self.sources.get_mut(&source) {
            source.phase = Phase::Idle;
        }
        self.settle(now);
        true
    }

    /// What is played to the cameras of a stream: sources, and what was asked for.
    pub(in crate::router) fn players_of<'a>(
        &'a self,
        stream: &'a str,
    ) -> impl Iterator<Item = (u64, &'a str)> {
        let played = self.talkers.values().filter(move |talker| talker.stream == stream);
        played.filter_map(|talker| Some((talker.ring, talker.played.as_ref()?.url.as_str())))
    }
}
