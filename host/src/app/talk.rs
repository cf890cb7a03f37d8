//! Talk between the stream core and plugins: a ring per talker, which the session of the camera's source reads.

use patchbay_plugin_api::message::{Talk, TalkEnd, TalkOpen, TrackInfo, Tracks};

use super::*;
use crate::router::Told;

impl App {
    /// A plugin's client wants to speak.
    pub(super) fn talk_event(self: &Arc<Self>, instance: &Arc<Instance>, session: u64, talk: &Talk) -> Code {
        if talk.track.kind != "audio" || talk.track.codec.is_empty() || talk.track.clock_rate == 0 {
            let message = "talk: the track has no codec or no clock rate".to_owned();
            let ended = Ended { class: Class::Unsupported, message, retry_after_ms: 0 };
            instance.command(session, command::REFUSED, &ended);
            return Code::Invalid;
        }
        let consumer = match self.sessions.read().get(&(instance.ctx, talk.consumer)) {
            Some(Target::Consumer(id)) => Some(*id),
            _ => None,
        };
        let talking = {
            let now = self.now();
            let mut core = self.core.lock();
            let talking = core.talk(now, talk, consumer);
            if let Ok(id) = talking {
                let taker = Taker::Plugin { instance: Arc::clone(instance), session };
                self.consumers.lock().insert(id, taker);
                self.sessions.write().insert((instance.ctx, session), Target::Talk(id));
            }
            talking
        };
        if let Err(error) = talking {
            instance.command(session, command::REFUSED, &not_found(&error));
        }
        self.drive();
        self.news.notify_one();
        Code::Ok
    }

    /// Its ring takes what the talker pushes from now on.
    pub(super) fn talk_accepted(&self, talk: u64, track: TrackInfo) {
        let taker = self.consumers.lock().get(&talk).cloned();
        let (instance, session) = match taker {
            Some(Taker::Plugin { instance, session }) => (instance, session),
            Some(Taker::Play(news)) => return drop(news.send(Ok(()))),
            _ => return,
        };
        let Some(ring) = self.source(talk) else { return };
        ring.begin(session);
        let _ = ring.tracks(session, &Tracks { receive: vec![track], is_final: true, ..Tracks::default() });
        instance.command_bytes(session, command::ACCEPTED, Bytes::from_static(b"{}"));
    }

    /// The session of a source is to read a talk's ring.
    pub(super) fn pass_talk(&self, source: u64, talk: u64, send: u32, track: TrackInfo) {
        let Some(ring) = self.source(talk) else { return };
        // It may be a service that has the way to the camera.
        let sender = self.source(source).and_then(|source| source.sender(send as usize));
        if let Some((session, index)) = sender
            && let Some((provider, session)) = self.service_of(source, session)
        {
            let send = u32::try_from(index).unwrap_or(u32::MAX);
            provider.show(&ring);
            return provider.command(session, command::TALK, &TalkOpen { source: talk, send, track });
        }
        let feeds = self.feeds.lock();
        if let Some((instance, session)) = feeds.get(&source).and_then(Feed::hears) {
            instance.show(&ring);
            instance.command(session, command::TALK, &TalkOpen { source: talk, send, track });
        }
    }

    /// Plays the sound of a URL, which `/api/streams` shows as `asked`, to the camera of a stream; waits until that hears it. An empty
    /// one stops what is played.
    ///
    /// # Errors
    /// Why it is not heard.
    pub async fn play(self: &Arc<Self>, stream: &str, url: &str, asked: &str) -> Result<(), String> {
        if url.is_empty() {
            self.streams(|core, now| core.stop_play(now, stream));
            return Ok(());
        }
        let (sender, mut news) = mpsc::unbounded_channel();
        let started = {
            let now = self.now();
            let mut core = self.core.lock();
            let started = core.play(now, stream, url, asked);
            if let Ok(id) = started {
                self.consumers.lock().insert(id, Taker::Play(sender));
            }
            started
        };
        started.map_err(|error| error.to_string())?;
        self.drive();
        self.news.notify_one();
        news.recv().await.unwrap_or(Ok(())).map_err(|ended| ended.message)
    }

    /// A transport takes what players say instead of bringing bytes.
    pub(super) fn hearing_event(self: &Arc<Self>, chain: &Arc<Chain>, tracks: Tracks) {
        let mut connection = tracks.connection;
        chain.describe(&mut connection);
        let told = Told { send: tracks.send, is_final: true, connection };
        self.streams(|core, now| core.tracks(now, chain.source, Vec::new(), told));
    }

    /// A talk is over.
    pub(super) fn end_talk(&self, source: u64, talk: u64) {
        if let Some((instance, session)) = self.feeds.lock().get(&source).and_then(Feed::hears) {
            instance.command(session, command::TALK_END, &TalkEnd { source: talk });
        }
        for (provider, session) in self.services_of(source) {
            provider.command(session, command::TALK_END, &TalkEnd { source: talk });
        }
    }
}
