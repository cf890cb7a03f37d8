//! Which source feeds which consumer, and when each is dialled. Reads no clock and does no I/O: time goes in, actions
//! come out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use patchbay_plugin_api::manifest::Transcodes;
use patchbay_plugin_api::message::{
    Bound, BoundTrack, Class, Connection, Consume, Demand, Ended, Media, SendTrack, TrackInfo,
};

mod action;
mod codecs;
mod demand;
mod info;
mod negotiate;
mod publish;
mod streams;
mod talk;
mod timers;
mod transcode;

use demand::Purpose;

pub use action::Action;
pub use codecs::{media_text, parse_filters, reference_name};
pub use streams::MAX_TEMPORARY;
pub use talk::TALK_SILENCE;

/// Monotonic time.
pub type Time = Duration;

/// How long a source goes on after its last reader.
pub const LINGER: Duration = Duration::from_secs(5);

/// Back-off after failed dials.
pub const BACKOFF: [u64; 6] = [1, 2, 4, 8, 16, 30];

/// Media for so long resets the back-off.
pub const STABLE: Duration = Duration::from_secs(10);

/// A source whose wanted tracks are silent for so long is dialled anew.
pub const SILENCE: Duration = Duration::from_secs(10);

/// A dial that has told no tracks for so long has failed.
pub const DIAL_LIMIT: Duration = Duration::from_secs(20);

/// How long after it came a player with a picture waits for another source that is dialled for the first time. Less than
/// the 3 s that browsers and Home Assistant wait.
pub const FIRST_DIAL: Duration = Duration::from_secs(2);

/// A source that has come for so long and then comes to its end is dialled again at once: it is no failure.
pub const PLAYED: Duration = Duration::from_secs(1);

/// How long a track may lack its codec or parameters before it is passed over.
pub const READY_LIMIT: Duration = Duration::from_secs(5);

/// Limit of a consumer that states none.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(10);

/// Why a stream cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// No stream has this name.
    #[error("stream not found")]
    NotFound,
}

#[derive(Debug, Default)]
struct Stream {
    slots: Vec<Slot>,
    publishers: Vec<u64>,
    had_consumer: bool,
    /// Made for a request: which one it was.
    temporary: Option<u64>,
}

#[derive(Debug)]
struct Slot {
    url: String,
    /// The source as configured, when it has `{input}` in it.
    template: Option<String>,
    source: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Idle,
    Connecting { since: Time },
    Live,
    Waiting { until: Time },
}

#[derive(Debug)]
struct Source {
    url: String,
    external: bool,
    phase: Phase,
    tracks: Vec<(u32, TrackInfo)>,
    send: Vec<SendTrack>,
    is_final: bool,
    connection: Connection,
    told_at: Time,
    failures: usize,
    error: Option<Ended>,
    live_since: Option<Time>,
    /// The first failure since it was live.
    down_since: Option<Time>,
    last_media: Time,
    idle_since: Option<Time>,
    demand: Demand,
    /// When a key unit was asked for last.
    key_asked: Option<Time>,
}

#[derive(Debug)]
struct Consumer {
    stream: String,
    /// It is a transcoder that reads this talker, and no stream.
    talk: Option<u64>,
    medias: Vec<Media>,
    guard: String,
    connection: Connection,
    purpose: Purpose,
    since: Time,
    deadline: Option<Time>,
    /// Its publisher has left: it waits for the next one as long as it likes.
    kept: bool,
    /// It stays with the sources that it has, whatever its stream has now.
    stays: bool,
    bound: Vec<BoundTrack>,
    pending: Option<u64>,
    counters: (u64, u64, u64),
    /// What it was told that the cameras accept.
    send: Vec<SendTrack>,
}

/// The state of all streams.
#[derive(Debug, Default)]
pub struct Core {
    streams: BTreeMap<String, Stream>,
    aliases: BTreeMap<String, String>,
    sources: HashMap<u64, Source>,
    consumers: BTreeMap<u64, Consumer>,
    talkers: BTreeMap<u64, talk::Talker>,
    transcoders: Vec<Transcodes>,
    actions: VecDeque<Action>,
    last_id: u64,
    jitter: u64,
    now_unix: Option<(Time, u64)>,
}

impl Core {
    /// No streams. `seed` decides the jitter of back-offs.
    pub fn new(seed: u64) -> Self {
        Self { jitter: seed | 1, ..Self::default() }
    }

    /// What time of day (ms since 1970) `now` is, for `retry_at`.
    pub fn set_clock(&mut self, now: Time, unix_ms: u64) {
        self.now_unix = Some((now, unix_ms));
    }

    /// Dials again at once what no plugin could dial: there are other plugins now.
    pub fn retry_unsupported(&mut self, now: Time) {
        for source in self.sources.values_mut() {
            let unsupported = source.error.as_ref().is_some_and(|ended| ended.class == Class::Unsupported);
            if let Phase::Waiting { until } = &mut source.phase
                && unsupported
            {
                *until = now;
                source.failures = 0;
            }
        }
    }

    /// What a source dials, and how often that has failed in a row.
    pub fn source(&self, id: u64) -> Option<(&str, usize)> {
        self.sources.get(&id).map(|source| (source.url.as_str(), source.failures))
    }

    /// A consumer arrives. Its answer is an action: `Bound`, or `Refused` within its own limit.
    pub fn attach(&mut self, now: Time, consume: &Consume, default_query: &str) -> Result<u64, LookupError> {
        if let Some(talk) = self.talk_for(consume) {
            return self.read_talk(now, consume, talk).ok_or(LookupError::NotFound);
        }
        let name = self.resolve(&consume.stream).ok_or(LookupError::NotFound)?;
        let medias = if consume.medias.is_empty() {
            let filters = parse_filters(&consume.query);
            if filters.is_empty() { parse_filters(default_query) } else { filters }
        } else {
            consume.medias.clone()
        };
        let wait =
            if consume.timeout_ms == 0 { DEFAULT_WAIT } else { Duration::from_millis(consume.timeout_ms) };
        if let Some(stream) = self.streams.get_mut(&name) {
            stream.had_consumer = true;
        }
        // What is played is no source of any stream: it may read one that is a transcoder's.
        let guard = if self.reads_to_play(consume) { String::new() } else { consume.source.clone() };
        self.last_id += 1;
        let id = self.last_id;
        self.consumers.insert(
            id,
            Consumer {
                stream: name,
                talk: None,
                medias,
                guard,
                connection: consume.connection.clone(),
                purpose: Purpose::of(&consume.class),
                since: now,
                deadline: Some(now + wait),
                kept: false,
                stays: false,
                bound: Vec::new(),
                pending: None,
                counters: (0, 0, 0),
                send: Vec::new(),
            },
        );
        self.wake_for(now, id);
        self.negotiate(now, id);
        self.settle(now);
        Ok(id)
    }

    /// A consumer leaves.
    pub fn detach(&mut self, now: Time, consumer: u64) {
        if self.consumers.remove(&consumer).is_some() {
            self.settle(now);
        }
    }

    /// More is known of a consumer's connection.
    pub fn connected(&mut self, id: u64, told: Connection) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let known = &mut consumer.connection;
        for (known, told) in [
            (&mut known.format_name, told.format_name),
            (&mut known.protocol, told.protocol),
            (&mut known.remote_addr, told.remote_addr),
            (&mut known.source, told.source),
            (&mut known.sdp, told.sdp),
            (&mut known.user_agent, told.user_agent),
        ] {
            if !told.is_empty() {
                *known = told;
            }
        }
    }

    /// What a consumer has sent: bytes, units, drops.
    pub fn count(&mut self, consumer: u64, bytes: u64, units: u64, drops: u64) {
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.counters = (bytes, units, drops);
        }
    }

    /// A session told its tracks (host's epoch and description).
    pub fn tracks(&mut self, now: Time, id: u64, tracks: Vec<(u32, TrackInfo)>, told: Told) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        source.phase = Phase::Live;
        source.tracks = tracks;
        source.send = told.send;
        source.is_final = told.is_final;
        if told.connection != Connection::default() {
            source.connection = told.connection;
        }
        source.told_at = now;
        source.last_media = now;
        source.live_since.get_or_insert(now);
        source.down_since = None;
        if source.external {
            self.replace_publishers(id);
        }
        // A new session knows nothing of what is wanted.
        if let Some(source) = self.sources.get_mut(&id) {
            source.demand = Demand::default();
        }
        self.talk_again(now, id);
        self.hurry_transcoders(now, id);
        self.negotiate_all(now, id);
    }

    /// One track has a new configuration.
    pub fn track_changed(&mut self, now: Time, id: u64, epoch: u32, info: TrackInfo) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        if let Some(track) = source.tracks.iter_mut().find(|(_, track)| track.id == info.id) {
            *track = (epoch, info);
        }
        self.negotiate_all(now, id);
    }

    /// Units arrive.
    pub fn media(&mut self, now: Time, id: u64) {
        if self.talk_media(now, id) {
            return;
        }
        if let Some(source) = self.sources.get_mut(&id) {
            source.last_media = now;
            source.error = None;
            if source.live_since.is_some_and(|since| now.saturating_sub(since) >= STABLE) {
                source.failures = 0;
            }
        }
    }

    /// A session is over.
    pub fn ended(&mut self, now: Time, id: u64, ended: Ended) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        let played = source.live_since.take().is_some_and(|since| now.saturating_sub(since) >= PLAYED);
        source.down_since.get_or_insert(now);
        source.demand = Demand::default();
        if source.external {
            self.forget(id);
            self.negotiate_waiting(now);
            self.settle(now);
            return;
        }
        if self.play_ended(now, id, &ended) {
            return;
        }
        self.relay_ended(now, id, &ended);
        if ended.class == Class::Asleep && self.purpose_of(id) < Purpose::Talk {
            self.sleeps(now, id, ended);
            return;
        }
        let Some(source) = self.sources.get_mut(&id) else { return };
        let busy = ended.class == Class::Busy;
        let steps = BACKOFF.len() - 1;
        let step = if busy { source.failures.max(3) } else { source.failures }.min(steps);
        let base = BACKOFF.get(step).copied().unwrap_or(30) * 1000;
        let base = if busy { base.max(10_000) } else { base };
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let jittered = base * (80 + self.jitter % 41) / 100;
        let is_over = played && ended.class == Class::Eof;
        source.failures += usize::from(!is_over);
        let wait = if is_over { 100 } else { jittered };
        source.phase = Phase::Waiting { until: now + Duration::from_millis(wait.max(ended.retry_after_ms)) };
        source.error = Some(ended);
        self.renew_stayed(now, id);
        self.negotiate_waiting(now);
        self.refuse_hopeless();
        self.settle(now);
    }

    /// That end was the plugin's and not the camera's: it does not count, and is over in `after`.
    pub fn again(&mut self, now: Time, id: u64, after: Duration) {
        if let Some(source) = self.sources.get_mut(&id)
            && let Phase::Waiting { until } = &mut source.phase
        {
            *until = now + after;
            source.failures = source.failures.saturating_sub(1);
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn new_source(&mut self, now: Time, url: String, external: bool) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.sources.insert(
            id,
            Source {
                url,
                external,
                phase: Phase::Idle,
                tracks: Vec::new(),
                send: Vec::new(),
                is_final: false,
                connection: Connection::default(),
                told_at: now,
                failures: 0,
                error: None,
                live_since: None,
                down_since: None,
                last_media: now,
                idle_since: None,
                demand: Demand::default(),
                key_asked: None,
            },
        );
        self.actions.push_back(Action::Create { source: id });
        id
    }

    fn dial(&mut self, now: Time, id: u64) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.phase = Phase::Connecting { since: now };
            self.actions.push_back(Action::Open { source: id, url: source.url.clone() });
        }
    }

    /// The source of a slot; sources of equal text are one.
    fn source_of(&mut self, now: Time, name: &str, index: usize) -> Option<u64> {
        let url = {
            let slot = self.streams.get(name)?.slots.get(index)?;
            if let Some(id) = slot.source.filter(|id| self.sources.contains_key(id)) {
                return Some(id);
            }
            slot.url.clone()
        };
        let id = self.run_of(now, url);
        self.streams.get_mut(name)?.slots.get_mut(index)?.source = Some(id);
        Some(id)
    }

    /// The source that runs a URL; there is one for equal texts.
    fn run_of(&mut self, now: Time, url: String) -> u64 {
        let key = run_key(&url);
        let is_same = |(id, source): &(&u64, &Source)| {
            !source.external && run_key(&source.url) == key && !self.is_played(**id)
        };
        let same = self.sources.iter().find(is_same);
        let id = same.map(|(id, _)| *id);
        id.unwrap_or_else(|| self.new_source(now, url, false))
    }

    fn is_wanted(&self, id: u64) -> bool {
        self.consumers.values().any(|c| c.pending == Some(id) || c.bound.iter().any(|b| b.source == id))
            || self.talkers.values().flat_map(talk::Talker::needs).any(|(source, _)| source == id)
    }

    fn forget(&mut self, id: u64) {
        self.sources.remove(&id);
        self.talk_gone(id);
        for stream in self.streams.values_mut() {
            stream.publishers.retain(|publisher| *publisher != id);
            for slot in &mut stream.slots {
                if slot.source == Some(id) {
                    slot.source = None;
                }
            }
        }
        for consumer in self.consumers.values_mut() {
            consumer.bound.retain(|b| b.source != id);
            if consumer.bound.is_empty() && consumer.deadline.is_none() {
                // A viewer of a publisher that left: another may come.
                consumer.kept = true;
                consumer.deadline = Some(consumer.since.max(Duration::ZERO) + DEFAULT_WAIT * 100_000);
            }
        }
        self.actions.push_back(Action::Drop { source: id });
    }
}

/// What a session says beside its tracks.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// What the camera accepts.
    pub send: Vec<SendTrack>,
    /// No more tracks will come.
    pub is_final: bool,
    /// For `/api/streams`.
    pub connection: Connection,
}

/// Sources whose text is equal but for the host's options are one run.
fn run_key(url: &str) -> String {
    let mut parts = url.split('#');
    let base = parts.next().unwrap_or(url).to_owned();
    let host_option = |part: &&str| {
        let key = part.split('=').next().unwrap_or(part);
        !matches!(key, "track" | "linger" | "history")
    };
    parts.filter(host_option).fold(base, |key, part| key + "#" + part)
}
