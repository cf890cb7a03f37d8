//! Between a talker and a camera that takes nothing of what it says: a transcoder, which reads the stream `talk:ID` and nothing else.

use patchbay_plugin_api::message::{Bound, BoundTrack, Consume};

use super::super::{Action, Class, Consumer, Core, Ended, Phase, Purpose, SendTrack, Time, TrackInfo};
use super::fits;

/// How what a talker says gets to a camera: as it is, or through a transcoder's URL. With the index in what the camera accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    Direct(u32),
    Through(u32, String),
}

impl Core {
    /// The way of `track`, which the talker `id` says, to a camera that accepts `send`.
    pub(super) fn way(&self, id: u64, send: &[SendTrack], track: &TrackInfo) -> Option<Way> {
        let numbered = || (0_u32..).zip(send);
        if let Some((index, _)) = numbered().find(|(_, send)| fits(send, track)) {
            return Some(Way::Direct(index));
        }
        numbered().find_map(|(index, send)| {
            let able = |t: &&_| is_able(t, track);
            let found = self.transcoders.iter().filter(able).find_map(|t| Some((t, t.to.get(&send.codec)?)));
            let (transcoder, to) = found?;
            let url = format!("{}:talk:{id}#{}={}", transcoder.scheme, transcoder.kind, wanted(to, send));
            Some(Way::Through(index, url))
        })
    }

    /// A talker goes this way from now on.
    pub(super) fn take_way(&mut self, now: Time, id: u64, source: u64, way: Way) {
        let (send, url) = match way {
            Way::Direct(send) => (send, None),
            Way::Through(send, url) => (send, Some(url)),
        };
        let before = self.talkers.get(&id).and_then(|talker| talker.via);
        let is_same = |via: u64| self.sources.get(&via).map(|source| &source.url) == url.as_ref();
        let kept = before.filter(|via| is_same(*via));
        if let Some(before) = before.filter(|_| kept.is_none()) {
            self.end_relay(id, before);
        }
        let via = kept.or_else(|| Some(self.run_of(now, url?)));
        if let Some(talker) = self.talkers.get_mut(&id) {
            talker.to = Some((source, send));
            talker.via = via;
        }
        if let Some(via) = via
            && self.sources.get(&via).is_some_and(|source| source.phase == Phase::Idle)
        {
            self.dial(now, via);
        }
        self.pass_talk(id);
    }

    /// Tells the camera's session what it is to read: what the talker says, or what is made of that once it is known.
    pub(super) fn pass_talk(&mut self, id: u64) {
        let Some(talker) = self.talkers.get_mut(&id) else { return };
        let Some((source, send)) = talker.to else { return };
        let track = match talker.via.map(|via| self.sources.get(&via)) {
            None => Some(talker.track.clone()),
            Some(made) => made
                .filter(|made| made.phase == Phase::Live)
                .and_then(|made| made.tracks.first())
                .map(|(_, track)| track.clone()),
        };
        let Some(track) = track else { return };
        talker.passed = true;
        self.actions.push_back(Action::Talk { talk: talker.heard(), source, send, track });
    }

    /// A talker needs its transcoder no more.
    pub(super) fn end_relay(&mut self, id: u64, via: u64) {
        let readers: Vec<u64> =
            self.consumers.iter().filter(|(_, c)| c.talk == Some(id)).map(|(id, _)| *id).collect();
        self.actions.push_back(Action::Close { source: via });
        self.forget(via);
        for reader in readers {
            let message = "talk: it is over".to_owned();
            self.refuse(reader, Ended { class: Class::Eof, message, retry_after_ms: 0 });
        }
    }

    /// Whether a source is between a talker and a camera: it is silent when the talker is.
    pub(in crate::router) fn is_relay(&self, id: u64) -> bool {
        self.talkers.values().any(|talker| talker.via == Some(id))
    }

    /// The talker that a source is to read: the one that it was dialled for.
    pub(in crate::router) fn talk_for(&self, consume: &Consume) -> Option<u64> {
        let id = consume.stream.strip_prefix("talk:")?.parse().ok()?;
        let via = self.sources.get(&self.talkers.get(&id)?.via?)?;
        (via.url == consume.source).then_some(id)
    }

    /// A transcoder reads what a talker says.
    pub(in crate::router) fn read_talk(&mut self, now: Time, consume: &Consume, talk: u64) -> Option<u64> {
        let talker = self.talkers.get(&talk)?;
        let track = BoundTrack { source: talker.ring, epoch: talker.epoch, info: talker.track.clone() };
        self.last_id += 1;
        let consumer = Consumer {
            stream: String::new(),
            talk: Some(talk),
            medias: consume.medias.clone(),
            guard: consume.source.clone(),
            connection: consume.connection.clone(),
            purpose: Purpose::Talk,
            since: now,
            deadline: None,
            kept: false,
            stays: false,
            bound: vec![track.clone()],
            pending: None,
            counters: (0, 0, 0),
            send: Vec::new(),
        };
        self.consumers.insert(self.last_id, consumer);
        let bound = Bound { tracks: vec![track], send: Vec::new() };
        self.actions.push_back(Action::Bound { consumer: self.last_id, bound });
        Some(self.last_id)
    }

    /// A transcoder has ended; one that cannot do what is asked of it will not do it the next time.
    pub(in crate::router) fn relay_ended(&mut self, now: Time, source: u64, ended: &Ended) {
        let talker = self.talkers.iter().find(|(_, talker)| talker.via == Some(source));
        if let Some((id, _)) = talker.filter(|_| ended.class == Class::Unsupported) {
            let message = format!("talk: {}", ended.message);
            self.refuse_talker(*id, Ended { message, ..ended.clone() });
            self.settle(now);
        }
    }
}

fn is_able(transcoder: &patchbay_plugin_api::manifest::Transcodes, track: &TrackInfo) -> bool {
    transcoder.kind == track.kind && transcoder.from.contains(&track.codec)
}

/// What a transcoder is asked for: its word for the codec, with the camera's rate and channels.
fn wanted(to: &str, send: &SendTrack) -> String {
    let word = to.split('/').next().unwrap_or(to);
    match (send.sample_rate, send.channels) {
        (0, _) => to.to_owned(),
        (rate, 0) => format!("{word}/{rate}"),
        (rate, channels) => format!("{word}/{rate}/{channels}"),
    }
}
