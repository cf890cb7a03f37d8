//! A peer that watches: a consumer of the host, its tracks' feeds, and the connection between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use patchbay_media::{Codec, Kind};
use patchbay_sdk::Error;
use patchbay_sdk::api::message::{Bound, BoundTrack, Consume, ConsumerCounters, Media};
use patchbay_sdk::server::{Consumer, Context};
use patchbay_sdk::track;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::talk::{self, Speaker, Wish};
use super::{Again, Answer, Ask, Connected, Engine, Open, connected};
use crate::config::Transport;
use crate::feed::{Feed, sent_as};
use crate::mux::Hub;
use crate::peer::setup::Use;
use crate::peer::{Event, Peer};
use crate::sdp::{Description, Section, titled};

/// How long a stream has to say what it is.
const BOUND_LIMIT_MS: u64 = 10_000;

/// How often it is reported what was sent.
const COUNTERS_EVERY: Duration = Duration::from_secs(5);

/// A track on its way to the peer.
struct Track {
    /// The peer's index of it.
    index: usize,
    codec: Codec,
    source: Option<Source>,
}

impl Track {
    /// The tracks of sections that have one, and a codec.
    fn all(indexes: &[Option<usize>], codecs: &[Option<Codec>]) -> Vec<Self> {
        let both = indexes.iter().zip(codecs).filter_map(|(index, codec)| index.zip(*codec));
        both.map(|(index, codec)| Self { index, codec, source: None }).collect()
    }
}

/// A section whose microphone is not used, and why.
struct Mute {
    section: usize,
    why: String,
}

impl Mute {
    fn new(section: usize, error: Error) -> Self {
        tracing::debug!("the microphone is not used: {}", error.message);
        Self { section, why: error.message }
    }

    /// An answer that says so.
    fn told(answer: String, mute: Option<&Self>) -> String {
        mute.map_or_else(|| answer.clone(), |mute| titled(&answer, mute.section, &mute.why))
    }
}

struct Source {
    id: u64,
    track: u32,
    feed: Arc<Feed>,
}

struct View {
    engine: Arc<Engine>,
    context: Context,
    consumer: Consumer,
    /// What it consumes.
    consume: Consume,
    peer: Arc<Peer>,
    tracks: Vec<Track>,
    bound: Bound,
    is_connected: bool,
    /// Its microphone, while that speaks to the camera.
    speaker: Option<Speaker>,
    /// `http` or `ws`.
    signalling: String,
    /// What is told of the way of its packets.
    remote: Option<(SocketAddr, Transport)>,
}

/// Starts a session that watches.
pub(super) async fn open(
    engine: &Arc<Engine>,
    context: &Context,
    hub: &Arc<Hub>,
    ask: &Ask,
    offer: &Description,
) -> Result<Answer, Error> {
    let medias = medias(offer);
    if medias.is_empty() {
        return Err(Error::unsupported("sdp: no codec of the offer is known here"));
    }
    let consume = Consume {
        stream: ask.stream.clone(),
        query: ask.query.clone(),
        medias,
        connection: ask.connection.clone(),
        timeout_ms: BOUND_LIMIT_MS,
        ..Consume::default()
    };
    let mut consumer = context.consume(&consume)?;
    let bound = consumer.next().await?;
    let (mut uses, codecs) = plan(offer, &bound);
    if codecs.iter().all(Option::is_none) {
        return Err(Error::unsupported("the stream has nothing that the offer takes"));
    }
    let (speaker, mute) = match Wish::of(offer, &uses, &bound.send) {
        None => (None, None),
        Some(wish) => match talk::begin(context, &consumer, &ask.stream, offer, &mut uses, &wish).await {
            Ok(speaker) => (Some(speaker), None),
            Err(error) => (None, Some(Mute::new(wish.section, error))),
        },
    };
    let Connected { peer, events, offers, tracks, mut answer, close } =
        engine.connect(hub, offer, &uses).await?;
    answer.sdp = Mute::told(answer.sdp, mute.as_ref());
    answer.bare = Mute::told(answer.bare, mute.as_ref());
    let open = Open { engine: Arc::clone(engine), peer: Arc::clone(&peer), id: answer.id.clone() };
    let view = View {
        engine: Arc::clone(engine),
        context: context.clone(),
        consumer,
        consume,
        peer: Arc::clone(&peer),
        tracks: Track::all(&tracks, &codecs),
        bound,
        is_connected: false,
        speaker,
        signalling: ask.connection.protocol.clone(),
        remote: None,
    };
    patchbay_sdk::spawn(async move {
        let open = open;
        tokio::join!(peer.drive(), async {
            view.run(events, offers, close).await;
            peer.close();
        });
        drop(open);
    });
    Ok(answer)
}

/// FFmpeg's names of the codecs that can be sent to a section, in the peer's order; samples after the A-law that they become.
fn takes(section: &Section) -> Vec<String> {
    let mut names = Vec::new();
    for codec in section.codecs() {
        names.push(codec.name().to_owned());
        if codec == Codec::PcmAlaw {
            names.extend([Codec::PcmS16be, Codec::PcmS16le].map(|codec| codec.name().to_owned()));
        }
    }
    names
}

/// What an offer takes: the videos first.
fn medias(offer: &Description) -> Vec<Media> {
    let of_kind = |kind: Kind| offer.sections.iter().filter(move |section| section.kind == kind);
    let sections = of_kind(Kind::Video).chain(of_kind(Kind::Audio)).filter(|section| section.receives);
    let media =
        |section: &Section| Media { kind: track::kind_name(section.kind).to_owned(), codecs: takes(section) };
    sections.map(media).filter(|media| !media.codecs.is_empty()).collect()
}

/// Which section gets which of the bound tracks: each the next one of its kind that it has a format for. The codec is the source's.
fn plan(offer: &Description, bound: &Bound) -> (Vec<Use>, Vec<Option<Codec>>) {
    let mut rest: Vec<&BoundTrack> = bound.tracks.iter().collect();
    let uses = offer.sections.iter().map(|section| {
        if !section.receives || section.kind == Kind::Data {
            return (Use::Nothing, None);
        }
        let format_of = |bound: &&BoundTrack| {
            let codec = Codec::from_name(&bound.info.codec)?;
            let sent = sent_as(codec);
            let format = if sent.kind() == section.kind { section.format(sent) } else { None };
            format.map(|format| (Use::Send(format.clone()), Some(codec)))
        };
        let found = rest.iter().enumerate().find_map(|(at, bound)| Some((at, format_of(bound)?)));
        let Some((at, sent)) = found else { return (Use::Nothing, None) };
        rest.remove(at);
        sent
    });
    uses.unzip()
}

async fn wait(speaker: &mut Option<Speaker>) {
    match speaker {
        Some(speaker) => speaker.wait().await,
        None => std::future::pending().await,
    }
}

impl View {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut offers: mpsc::Receiver<Again>,
        close: CancellationToken,
    ) {
        let mut counters = tokio::time::interval(COUNTERS_EVERY);
        let peer = Arc::clone(&self.peer);
        let reason = loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Connected) => {
                        (self.is_connected, self.remote) = (true, peer.remote());
                        self.engine.totals.lock().connected += 1;
                        let connection = connected(&self.signalling, &self.peer);
                        tracing::debug!(remote = connection.remote_addr, protocol = connection.protocol, "connected");
                        self.consumer.connection(&connection);
                        if let Err(error) = self.join() {
                            break error.message;
                        }
                    }
                    Some(Event::KeyframeWanted(index)) => {
                        self.consumer.want_keyframe();
                        self.restart(index);
                    }
                    Some(Event::Packet(packet)) => {
                        if let Some(speaker) = &mut self.speaker {
                            speaker.packet(&packet);
                        }
                    }
                    Some(Event::SenderReport { .. }) => {}
                    None => break "closed".to_owned(),
                },
                why = peer.ended() => break why.to_owned(),
                bound = self.consumer.next() => match bound {
                    Ok(bound) => {
                        self.bound = bound;
                        if let Err(error) = self.join() {
                            break error.message;
                        }
                    }
                    Err(error) => break error.message,
                },
                () = wait(&mut self.speaker) => {}
                Some(again) = offers.recv() => {
                    let answer = self.renegotiate(&again.offer, &again.told).await;
                    let _ = again.reply.send(answer);
                    let before = self.followed();
                    if let Err(error) = self.join() {
                        break error.message;
                    }
                    // What begins now may be on its way before the answer has arrived.
                    for index in self.followed().into_iter().filter(|index| !before.contains(index)) {
                        self.peer.allow_restart(index);
                    }
                }
                _ = counters.tick() => self.report(),
                () = close.cancelled() => break "closed by request".to_owned(),
            }
        };
        self.report();
        tracing::debug!("player is gone: {reason}");
    }

    /// Answers a later offer: the player takes more or less than before, or speaks. What it goes on to take is not interrupted.
    async fn renegotiate(&mut self, offer: &Description, told: &[String]) -> Result<String, Error> {
        let medias = medias(offer);
        if !medias.is_empty() && medias != self.consume.medias {
            let consume = Consume { medias, ..self.consume.clone() };
            let mut consumer = self.context.consume(&consume)?;
            self.bound = consumer.next().await?;
            consumer.connection(&connected(&self.signalling, &self.peer));
            (self.consumer, self.consume) = (consumer, consume);
        }
        let (mut uses, codecs) = plan(offer, &self.bound);
        let mute = self.listen(offer, &mut uses).await;
        let agreed = self
            .peer
            .renegotiate(offer, &uses, told)
            .inspect_err(|_| self.speaker = None)
            .map_err(super::refused)?;
        let mut before = std::mem::replace(&mut self.tracks, Track::all(&agreed.tracks, &codecs));
        for track in &mut self.tracks {
            let same = |old: &&mut Track| old.index == track.index && old.codec == track.codec;
            track.source = before.iter_mut().find(same).and_then(|old| old.source.take());
        }
        for gone in before {
            if let Some(source) = gone.source {
                source.feed.leave(&self.peer, gone.index);
            }
        }
        tracing::debug!(tracks = self.tracks.len(), speaks = self.speaker.is_some(), "negotiated again");
        Ok(Mute::told(agreed.sdp, mute.as_ref()))
    }

    /// Hears the microphone of a later offer, or no longer; who speaks already goes on.
    async fn listen(&mut self, offer: &Description, uses: &mut [Use]) -> Option<Mute> {
        let Some(wish) = Wish::of(offer, uses, &self.bound.send) else {
            self.speaker = None;
            return None;
        };
        if self.speaker.as_ref().is_some_and(|speaker| speaker.goes_on(offer, uses, &wish)) {
            return None;
        }
        self.speaker = None;
        let stream = &self.consume.stream;
        match talk::begin(&self.context, &self.consumer, stream, offer, uses, &wish).await {
            Ok(speaker) => self.speaker = Some(speaker),
            Err(error) => return Some(Mute::new(wish.section, error)),
        }
        None
    }

    /// Follows the tracks that are bound now: those that are new, or come from another source than before.
    fn join(&mut self) -> Result<(), Error> {
        if !self.is_connected {
            return Ok(());
        }
        let mut rest: Vec<&BoundTrack> = self.bound.tracks.iter().collect();
        for own in &mut self.tracks {
            let index = own.index;
            let same = |bound: &&BoundTrack| bound.info.codec == own.codec.name();
            let Some(at) = rest.iter().position(same) else {
                if rest
                    .iter()
                    .any(|b| Codec::from_name(&b.info.codec).map(Codec::kind) == Some(own.codec.kind()))
                {
                    // A connection has one codec: its player connects anew.
                    return Err(Error::eof("the stream has other codecs now"));
                }
                continue;
            };
            let bound = rest.remove(at);
            let is_same = own.source.as_ref().is_some_and(|source| {
                source.id == bound.source && source.track == bound.info.id && !source.feed.is_over()
            });
            if is_same {
                continue;
            }
            let Some(parameters) = track::parameters(&bound.info) else { continue };
            if let Some(before) = own.source.take() {
                before.feed.leave(&self.peer, index);
            }
            let feed = self.engine.feeds.feed(self.context.host(), bound.source);
            match feed.join(&self.peer, index, bound.info.id, bound.epoch, &parameters) {
                Ok(()) => own.source = Some(Source { id: bound.source, track: bound.info.id, feed }),
                // The source is over already: the host says what comes next.
                Err(error) => tracing::debug!("cannot follow a source: {}", error.message),
            }
        }
        Ok(())
    }

    /// Tracks that have a source.
    fn followed(&self) -> Vec<usize> {
        self.tracks.iter().filter(|track| track.source.is_some()).map(|track| track.index).collect()
    }

    /// The peer cannot decode: it gets the newest key unit and what follows, at once.
    fn restart(&mut self, index: usize) {
        if !self.peer.may_restart(index, Instant::now()) {
            return;
        }
        let track = self.tracks.iter().find(|track| track.index == index);
        if let Some(source) = track.and_then(|track| track.source.as_ref()) {
            source.feed.restart(&self.peer, index, source.track);
        }
    }

    fn report(&mut self) {
        let remote = self.peer.remote();
        if self.is_connected && remote != self.remote {
            self.remote = remote;
            self.consumer.connection(&connected(&self.signalling, &self.peer));
        }
        let counts = self.peer.counts();
        self.consumer.counters(&ConsumerCounters {
            bytes: counts.bytes,
            packets: counts.packets,
            drops: counts.drops,
        });
    }
}
