//! What is wanted of each source, for what, and how long it lingers.

use super::*;

/// A source that sleeps is asked again after so long, as long as somebody waits who does not wake it.
const ASLEEP: Duration = Duration::from_secs(30);

/// Between two wishes for a key unit of one source.
const KEY_EVERY: Duration = Duration::from_secs(1);

/// What a consumer is for, the most urgent one last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Purpose {
    Background,
    Still,
    Record,
    Talk,
    #[default]
    Live,
}

impl Purpose {
    pub(super) fn of(class: &str) -> Self {
        match class {
            "background" => Self::Background,
            "still" => Self::Still,
            "record" => Self::Record,
            _ => Self::Live,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::Still => "still",
            Self::Record => "record",
            Self::Talk => "talk",
            Self::Live => "live",
        }
    }
}

impl Core {
    /// The most urgent of those that want a source.
    pub(super) fn purpose_of(&self, id: u64) -> Purpose {
        let wants = |c: &&Consumer| c.pending == Some(id) || c.bound.iter().any(|b| b.source == id);
        let most = self.consumers.values().filter(wants).map(|consumer| consumer.purpose).max();
        let talks = self.talkers.values().flat_map(talk::Talker::needs).any(|(source, _)| source == id);
        most.max(talks.then_some(Purpose::Talk)).unwrap_or_default()
    }

    /// The class of demand that a source is dialled for.
    pub fn class_of(&self, id: u64) -> &'static str {
        self.purpose_of(id).class()
    }

    /// A camera sleeps on, and nobody is there for whom it would wake up: that is no failure.
    pub(super) fn sleeps(&mut self, now: Time, id: u64, ended: Ended) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        let after = ASLEEP.max(Duration::from_millis(ended.retry_after_ms));
        source.phase = Phase::Waiting { until: now + after };
        source.error = Some(ended);
        self.refuse_hopeless();
        self.settle(now);
    }

    /// A consumer comes: sources of its stream that sleep are dialled at once when it is one to wake up for.
    pub(super) fn wake_for(&mut self, now: Time, consumer: u64) {
        let Some(consumer) = self.consumers.get(&consumer).filter(|c| c.purpose >= Purpose::Talk) else {
            return;
        };
        let slots = self.streams.get(&consumer.stream).map(|stream| stream.slots.as_slice());
        for slot in slots.unwrap_or_default() {
            let Some(source) = slot.source.and_then(|id| self.sources.get_mut(&id)) else { continue };
            let sleeps = source.error.as_ref().is_some_and(|ended| ended.class == Class::Asleep);
            if let Phase::Waiting { until } = &mut source.phase
                && sleeps
            {
                *until = now;
            }
        }
    }

    /// A consumer cannot go on, or begin, without a key unit: the sources of its pictures are asked for one.
    pub fn want_key(&mut self, now: Time, consumer: u64) {
        let Some(consumer) = self.consumers.get(&consumer) else { return };
        let pictures = consumer.bound.iter().filter(|track| track.info.kind == "video");
        for id in pictures.map(|track| track.source) {
            let Some(source) = self.sources.get_mut(&id).filter(|s| s.phase == Phase::Live) else { continue };
            if source.key_asked.is_none_or(|at| now.saturating_sub(at) >= KEY_EVERY) {
                source.key_asked = Some(now);
                self.actions.push_back(Action::Keyframe { source: id });
            }
        }
    }

    /// Demands and lingers follow from who reads what.
    pub(super) fn settle(&mut self, now: Time) {
        let mut wanted: HashMap<u64, (Vec<u32>, Purpose)> = HashMap::new();
        let mut want = |source: u64, track: Option<u32>, purpose: Purpose| {
            let (tracks, most) = wanted.entry(source).or_insert((Vec::new(), purpose));
            *most = purpose.max(*most);
            if let Some(track) = track.filter(|track| !tracks.contains(track)) {
                tracks.push(track);
            }
        };
        for consumer in self.consumers.values() {
            if let Some(pending) = consumer.pending {
                want(pending, None, consumer.purpose);
                for track in self
                    .sources
                    .get(&pending)
                    .map(|source| told_in_units(source, consumer))
                    .unwrap_or_default()
                {
                    want(pending, Some(track), consumer.purpose);
                }
            }
            for track in &consumer.bound {
                want(track.source, Some(track.info.id), consumer.purpose);
            }
        }
        for (source, track) in self.talkers.values().flat_map(talk::Talker::needs) {
            want(source, track, Purpose::Talk);
        }
        let mut over = Vec::new();
        for (id, source) in &mut self.sources {
            let mut wanted = wanted.remove(id);
            if let Some((tracks, _)) = &mut wanted {
                tracks.sort_unstable();
                source.idle_since = None;
            } else if !source.external && source.phase != Phase::Idle {
                let since = *source.idle_since.get_or_insert(now);
                if now.saturating_sub(since) >= LINGER {
                    over.push(*id);
                }
            } else {
                source.idle_since = None;
            }
            // While it lingers a source goes on as it was; publishers send everything.
            let (tracks, purpose) = match wanted {
                _ if source.external => (source.tracks.iter().map(|(_, t)| t.id).collect(), Purpose::Live),
                Some(wanted) => wanted,
                None => continue,
            };
            let class = purpose.class();
            let is_new = source.demand.tracks != tracks || source.demand.class != class;
            if source.phase == Phase::Live
                && is_new
                && !(tracks.is_empty() && source.demand.tracks.is_empty())
            {
                source.demand = Demand { tracks, class: class.to_owned() };
                source.last_media = now;
                let demand = source.demand.clone();
                self.actions.push_back(Action::Demand { source: *id, demand });
            }
        }
        for id in over {
            self.actions.push_back(Action::Close { source: id });
            self.forget(id);
        }
    }
}

/// The tracks that a consumer waits for when one of them can say only by its units what it is, as the picture of a camera that describes no
/// parameter sets. All of them: a session that begins with some of its tracks may have to begin anew for the others.
fn told_in_units(source: &Source, consumer: &Consumer) -> Vec<u32> {
    let mut tracks = Vec::new();
    let mut is_unready = false;
    for media in &consumer.medias {
        let accepted =
            source.tracks.iter().filter(|(_, t)| t.kind == media.kind && codecs::accepts(media, t));
        let all = media.codecs.iter().any(|codec| codec == "all");
        for (_, track) in accepted.take(if all { usize::MAX } else { 1 }) {
            is_unready |= !codecs::is_ready(track);
            tracks.push(track.id);
        }
    }
    if is_unready { tracks } else { Vec::new() }
}
