//! A peer that watches: a consumer of the host, its tracks' feeds, and the connection between them.

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
use super::{Answer, Ask, Connected, Engine, Open, connected};
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
    codec: Codec,
    source: Option<Source>,
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
    peer: Arc<Peer>,
    tracks: Vec<Track>,
    bound: Bound,
    is_connected: bool,
    /// Its microphone, while that speaks to the camera.
    speaker: Option<Speaker>,
    /// `http` or `ws`.
    signalling: String,
}

/// Starts a session that watches.
pub(super) async fn open(
    engine: &Arc<Engine>,
    context: &Context,
    hub: &Arc<Hub>,
    ask: &Ask,
    offer: &Description,
) -> Result<Answer, Error> {
    let wanted: Vec<usize> = (0..offer.sections.len())
        .filter(|index| {
            let section = offer.sections.get(*index);
            section.is_some_and(|section| section.receives && section.kind != Kind::Data)
        })
        .collect();
    let mut medias = Vec::new();
    for kind in [Kind::Video, Kind::Audio] {
        let of_kind = wanted.iter().filter_map(|index| offer.sections.get(*index));
        medias.extend(
            of_kind
                .filter(|section| section.kind == kind)
                .map(|section| Media { kind: track::kind_name(kind).to_owned(), codecs: takes(section) }),
        );
    }
    medias.retain(|media| !media.codecs.is_empty());
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
    let (mut uses, tracks) = plan(offer, &bound);
    if tracks.is_empty() {
        return Err(Error::unsupported("the stream has nothing that the offer takes"));
    }
    let mut speaker = None;
    let mut mute = None;
    if let Some(wish) = Wish::of(offer, &uses, &bound.send) {
        match talk::begin(context, &consumer, &ask.stream, offer, &mut uses, &wish).await {
            Ok(speaks) => speaker = Some(speaks),
            Err(error) => {
                tracing::debug!("the microphone is not used: {}", error.message);
                mute = Some((wish.section, error.message));
            }
        }
    }
    let Connected { peer, events, mut answer, close } = engine.connect(hub, offer, &uses).await?;
    if let Some((section, why)) = mute {
        answer.sdp = titled(&answer.sdp, section, &why);
        answer.bare = titled(&answer.bare, section, &why);
    }
    let open = Open { engine: Arc::clone(engine), peer: Arc::clone(&peer), id: answer.id.clone() };
    let view = View {
        engine: Arc::clone(engine),
        context: context.clone(),
        consumer,
        peer: Arc::clone(&peer),
        tracks,
        bound,
        is_connected: false,
        speaker,
        signalling: ask.connection.protocol.clone(),
    };
    patchbay_sdk::spawn(async move {
        let open = open;
        tokio::join!(peer.drive(), async {
            view.run(events, close).await;
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

/// Which section gets which of the bound tracks: each the next one of its kind that it has a format for.
fn plan(offer: &Description, bound: &Bound) -> (Vec<Use>, Vec<Track>) {
    let mut rest: Vec<&BoundTrack> = bound.tracks.iter().collect();
    let mut tracks = Vec::new();
    let uses = offer.sections.iter().map(|section| {
        if !section.receives || section.kind == Kind::Data {
            return Use::Nothing;
        }
        let format_of = |bound: &&BoundTrack| {
            let codec = sent_as(Codec::from_name(&bound.info.codec)?);
            if codec.kind() == section.kind { section.format(codec) } else { None }
        };
        let Some(at) = rest.iter().position(|bound| format_of(bound).is_some()) else { return Use::Nothing };
        let bound = rest.remove(at);
        match (format_of(&bound), Codec::from_name(&bound.info.codec)) {
            (Some(format), Some(codec)) => {
                tracks.push(Track { codec, source: None });
                Use::Send(format.clone())
            }
            _ => Use::Nothing,
        }
    });
    (uses.collect(), tracks)
}

async fn wait(speaker: &mut Option<Speaker>) -> Result<(), Error> {
    match speaker {
        Some(speaker) => speaker.wait().await,
        None => std::future::pending().await,
    }
}

impl View {
    async fn run(mut self, mut events: mpsc::Receiver<Event>, close: CancellationToken) {
        let mut counters = tokio::time::interval(COUNTERS_EVERY);
        let peer = Arc::clone(&self.peer);
        let reason = loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Connected) => {
                        self.is_connected = true;
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
                        let heard = self.speaker.as_mut().map(|speaker| speaker.packet(&packet));
                        if let Some(Err(error)) = heard {
                            self.mute(&error);
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
                heard = wait(&mut self.speaker) => if let Err(error) = heard {
                    self.mute(&error);
                },
                _ = counters.tick() => self.report(),
                () = close.cancelled() => break "closed by request".to_owned(),
            }
        };
        self.report();
        tracing::debug!("player is gone: {reason}");
    }

    /// Follows the tracks that are bound now: those that are new, or come from another source than before.
    fn join(&mut self) -> Result<(), Error> {
        if !self.is_connected {
            return Ok(());
        }
        let mut rest: Vec<&BoundTrack> = self.bound.tracks.iter().collect();
        for (index, own) in self.tracks.iter_mut().enumerate() {
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

    /// What the peer says is no longer heard.
    fn mute(&mut self, why: &Error) {
        tracing::debug!("the microphone is no longer used: {}", why.message);
        self.speaker = None;
    }

    /// The peer cannot decode: it gets the newest key unit and what follows, at once.
    fn restart(&mut self, index: usize) {
        if !self.peer.may_restart(index, Instant::now()) {
            return;
        }
        if let Some(source) = self.tracks.get(index).and_then(|track| track.source.as_ref()) {
            source.feed.restart(&self.peer, index, source.track);
        }
    }

    fn report(&self) {
        let counts = self.peer.counts();
        self.consumer.counters(&ConsumerCounters {
            bytes: counts.bytes,
            packets: counts.packets,
            drops: counts.drops,
        });
    }
}
