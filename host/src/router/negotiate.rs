//! Which tracks a consumer gets, and when it is refused.

use super::*;

/// Where a track may come from.
#[derive(Clone, Copy)]
enum Candidate {
    Publisher(u64),
    /// A configured source, by its index.
    Slot(usize),
    /// Nothing else has what is wanted.
    Transcoder,
}

/// What a consumer asks for.
struct Wish {
    stream: String,
    medias: Vec<Media>,
    /// The source that asks, when a source does: it gets nothing of itself.
    guard: String,
    /// What it has now.
    old: Vec<BoundTrack>,
}

/// What there is for a consumer.
#[derive(Default)]
struct Found {
    bound: Vec<BoundTrack>,
    /// A source that may have more in a moment.
    pending: Option<u64>,
    /// A transcoder is about to say what it gives: a player that starts without its track may never take it.
    starting: bool,
}

/// What a source gave for a media.
enum Taken {
    Nothing,
    /// Its tracks are not all known.
    Unready,
    /// The media has what it wants.
    Enough,
    /// The source was just dialled: nothing is bound before it tells what it has.
    Wait,
}

impl Core {
    /// Tells those at once for whom waiting changes nothing: every source of their stream has no plugin that could dial
    /// it, or a login that was refused, or a camera that sleeps and is not woken for them.
    pub(super) fn refuse_hopeless(&mut self) {
        let hopeless = |slot: &Slot, consumer: &Consumer| {
            let source = slot.source.and_then(|id| self.sources.get(&id));
            source.is_some_and(|source| {
                let class = source.error.as_ref().map(|ended| ended.class);
                matches!(source.phase, Phase::Waiting { .. })
                    && match class {
                        Some(Class::Unsupported | Class::Auth) => true,
                        Some(Class::Asleep) => consumer.purpose < Purpose::Talk,
                        _ => false,
                    }
            })
        };
        let waiting = self.consumers.iter().filter(|(_, c)| c.deadline.is_some() && c.bound.is_empty());
        let ids: Vec<u64> = waiting
            .filter(|(_, consumer)| {
                self.streams.get(&consumer.stream).is_some_and(|stream| {
                    stream.publishers.is_empty()
                        && !stream.slots.is_empty()
                        && stream.slots.iter().all(|slot| hopeless(slot, consumer))
                })
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.give_up(id);
        }
    }

    pub(super) fn negotiate_all(&mut self, now: Time, source: u64) {
        let streams: Vec<&String> = self
            .streams
            .iter()
            .filter(|(_, s)| {
                s.publishers.contains(&source) || s.slots.iter().any(|slot| slot.source == Some(source))
            })
            .map(|(name, _)| name)
            .collect();
        let ids: Vec<u64> = self
            .consumers
            .iter()
            .filter(|(_, c)| {
                streams.contains(&&c.stream)
                    || c.pending == Some(source)
                    || c.bound.iter().any(|b| b.source == source)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.negotiate(now, id);
        }
        self.talk_news(now);
        self.settle(now);
    }

    pub(super) fn negotiate_waiting(&mut self, now: Time) {
        let ids: Vec<u64> =
            self.consumers.iter().filter(|(_, c)| c.deadline.is_some()).map(|(id, _)| *id).collect();
        for id in ids {
            self.negotiate(now, id);
        }
        self.talk_news(now);
    }

    /// Matches a consumer's medias with the sources of its stream, in order; dials only what it needs.
    pub(super) fn negotiate(&mut self, now: Time, id: u64) {
        let Some(consumer) =
            self.consumers.get(&id).filter(|consumer| consumer.talk.is_none() && !consumer.stays)
        else {
            return;
        };
        let wish = Wish {
            stream: consumer.stream.clone(),
            medias: consumer.medias.clone(),
            guard: consumer.guard.clone(),
            old: consumer.bound.clone(),
        };
        let found = self.find(now, &wish);
        self.settle_for(now, id, &wish, found);
    }

    /// What there is for a consumer, now and soon.
    fn find(&mut self, now: Time, wish: &Wish) -> Found {
        let stream = self.streams.get(&wish.stream);
        // A publisher's tracks come first: whoever pushes is there now.
        let publishers = stream.map(|stream| stream.publishers.clone()).unwrap_or_default();
        let mut candidates: Vec<Candidate> = publishers.into_iter().map(Candidate::Publisher).collect();
        candidates.extend((0..stream.map_or(0, |stream| stream.slots.len())).map(Candidate::Slot));
        candidates.push(Candidate::Transcoder);
        let mut found = Found::default();
        for media in &wish.medias {
            let mut is_unready = false;
            for candidate in &candidates {
                let Some(source) = self.source_for(now, wish, media, *candidate, is_unready, &mut found)
                else {
                    continue;
                };
                match self.take_from(now, wish, media, source, &mut found) {
                    Taken::Nothing => {}
                    Taken::Unready => is_unready = true,
                    Taken::Enough => break,
                    Taken::Wait => return found,
                }
            }
        }
        found
    }

    /// The source behind a candidate, when it is one for this media.
    fn source_for(
        &mut self,
        now: Time,
        wish: &Wish,
        media: &Media,
        candidate: Candidate,
        is_unready: bool,
        found: &mut Found,
    ) -> Option<u64> {
        match candidate {
            Candidate::Publisher(id) => Some(id),
            Candidate::Slot(index) => {
                let stream = self.streams.get(&wish.stream);
                let url = stream.and_then(|stream| stream.slots.get(index)).map(|slot| slot.url.as_str());
                let is_own = |url: &str| url == wish.guard || self.are_transcoders(url, &wish.guard);
                if !wish.guard.is_empty() && url.is_some_and(is_own) {
                    return None;
                }
                self.source_of(now, &wish.stream, index)
            }
            // What the stream has is not known yet, or who asks for its picture could not take that.
            Candidate::Transcoder
                if is_unready || self.lacks(&wish.stream, &wish.medias, media, &found.bound) =>
            {
                None
            }
            Candidate::Transcoder => {
                let id = self.transcoder(now, &wish.stream, media, &wish.guard, &wish.old)?;
                found.starting |= self.is_starting(now, id);
                Some(id)
            }
        }
    }

    /// Binds what a source has for a media; dials the source when nobody has yet.
    fn take_from(&mut self, now: Time, wish: &Wish, media: &Media, id: u64, found: &mut Found) -> Taken {
        let Some(source) = self.sources.get(&id) else { return Taken::Nothing };
        match source.phase {
            Phase::Live => return take_live(now, source, media, id, found),
            Phase::Idle => {
                self.dial(now, id);
                found.pending = Some(id);
                if wish.old.is_empty() {
                    return Taken::Wait;
                }
            }
            Phase::Connecting { .. } if wish.old.is_empty() => {
                found.pending = Some(id);
                return if source.failures == 0 { Taken::Wait } else { Taken::Nothing };
            }
            _ => {}
        }
        match self.sources.get(&id) {
            Some(source) if source.phase == Phase::Live => take_live(now, source, media, id, found),
            Some(source) => keep_bound(source, wish, media, id, found),
            None => Taken::Nothing,
        }
    }

    /// Binds a consumer to what was found, lets it wait, or gives it up.
    fn settle_for(&mut self, now: Time, id: u64, wish: &Wish, found: Found) {
        let send = self.accepted(&wish.stream);
        let Found { bound, pending, starting } = found;
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        consumer.pending = pending;
        let first = consumer.deadline.is_some();
        if first && pending.is_some() && !bound.iter().any(|b| b.info.kind == "video") {
            return;
        }
        if first && pending.is_some_and(|p| self.sources.get(&p).is_some_and(|s| s.phase == Phase::Live)) {
            // A live source is about to tell more; its limit is short.
            return;
        }
        let is_new =
            |source: &Source| matches!(source.phase, Phase::Connecting { .. }) && source.failures == 0;
        let is_new = now.saturating_sub(consumer.since) < FIRST_DIAL
            && pending.and_then(|p| self.sources.get(&p)).is_some_and(is_new);
        if first && (starting || is_new) {
            // A player that starts without a track may never take it.
            return;
        }
        if bound.is_empty() {
            if first && pending.is_none() {
                if !consumer.kept {
                    self.give_up(id);
                }
            } else if !first && !wish.old.is_empty() && pending.is_none() {
                let message = self.mismatch(id);
                self.refuse(id, Ended { class: Class::Unsupported, message, retry_after_ms: 0 });
            }
            return;
        }
        let same = bound.len() == wish.old.len()
            && bound
                .iter()
                .zip(&wish.old)
                .all(|(a, b)| a.source == b.source && a.info.id == b.info.id && a.info.codec == b.info.codec);
        // A camera that is away for a moment accepts what it did.
        let same = same && (send.is_empty() || consumer.send == send);
        consumer.bound.clone_from(&bound);
        if !send.is_empty() {
            consumer.send.clone_from(&send);
        }
        let send = consumer.send.clone();
        if first || !same {
            consumer.deadline = None;
            self.actions.push_back(Action::Bound { consumer: id, bound: Bound { tracks: bound, send } });
        }
    }

    /// Refuses a consumer with the reason that the reference would give.
    pub(super) fn give_up(&mut self, id: u64) {
        let Some(consumer) = self.consumers.get(&id) else { return };
        let errors: Vec<&Ended> = self.streams.get(&consumer.stream).map_or(Vec::new(), |stream| {
            stream.slots.iter().filter_map(|slot| self.sources.get(&slot.source?)?.error.as_ref()).collect()
        });
        let mut texts: Vec<&str> = errors.iter().map(|ended| ended.message.as_str()).collect();
        texts.dedup();
        let class = errors.first().map_or(Class::NotFound, |ended| ended.class);
        let message =
            if texts.is_empty() { self.mismatch(id) } else { format!("streams: {}", texts.join(", ")) };
        self.refuse(id, Ended { class, message, retry_after_ms: 0 });
    }

    pub(super) fn refuse(&mut self, id: u64, ended: Ended) {
        self.consumers.remove(&id);
        self.actions.push_back(Action::Refused { consumer: id, ended });
    }

    pub(super) fn mismatch(&self, id: u64) -> String {
        let Some(consumer) = self.consumers.get(&id) else { return "streams: unknown error".to_owned() };
        let stream = self.streams.get(&consumer.stream);
        let ids = stream
            .into_iter()
            .flat_map(|s| s.publishers.iter().copied().chain(s.slots.iter().filter_map(|slot| slot.source)));
        let sources: Vec<&Source> = ids.filter_map(|id| self.sources.get(&id)).collect();
        if sources.iter().all(|source| source.tracks.is_empty()) {
            return if sources.iter().any(|s| matches!(s.phase, Phase::Connecting { .. })) {
                "streams: the source did not answer in time".to_owned()
            } else {
                "streams: unknown error".to_owned()
            };
        }
        let left = codecs::list(sources.iter().flat_map(|source| {
            source.tracks.iter().map(|(_, t)| (t.kind.as_str(), reference_name(&t.codec)))
        }));
        let right =
            codecs::list(consumer.medias.iter().flat_map(|media| {
                media.codecs.iter().map(|codec| (media.kind.as_str(), reference_name(codec)))
            }));
        format!("streams: codecs not matched: {left} => {right}")
    }
}

/// Whether a media takes every track that fits, not the first one.
fn takes_all(media: &Media) -> bool {
    media.codecs.iter().any(|codec| codec == "all")
}

/// Binds what a live source has for a media.
fn take_live(now: Time, source: &Source, media: &Media, id: u64, found: &mut Found) -> Taken {
    let waits = now.saturating_sub(source.told_at) < READY_LIMIT;
    let mut unready = false;
    for (epoch, track) in source.tracks.iter().filter(|(_, track)| track.kind == media.kind) {
        let is_taken = found.bound.iter().any(|b| b.source == id && b.info.id == track.id);
        if is_taken || !codecs::accepts(media, track) {
            continue;
        }
        if !codecs::is_ready(track) {
            unready |= waits;
            continue;
        }
        found.bound.push(BoundTrack { source: id, epoch: *epoch, info: track.clone() });
        if !takes_all(media) {
            return Taken::Enough;
        }
    }
    if unready || (!source.is_final && waits && !source.tracks.iter().any(|(_, t)| t.kind == media.kind)) {
        found.pending = Some(id);
    }
    if unready { Taken::Unready } else { Taken::Nothing }
}

/// A source that is down: what was bound stays bound.
fn keep_bound(source: &Source, wish: &Wish, media: &Media, id: u64, found: &mut Found) -> Taken {
    let fits = |b: &&BoundTrack| b.source == id && b.info.kind == media.kind && !found.bound.contains(b);
    let most = if takes_all(media) { usize::MAX } else { 1 };
    let kept: Vec<BoundTrack> = wish.old.iter().filter(fits).take(most).cloned().collect();
    if kept.is_empty() {
        if matches!(source.phase, Phase::Waiting { .. }) {
            found.pending = found.pending.or(Some(id));
        }
        return Taken::Nothing;
    }
    found.bound.extend(kept);
    if takes_all(media) { Taken::Nothing } else { Taken::Enough }
}
