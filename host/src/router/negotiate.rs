//! Which tracks a consumer gets, and when it is refused.

use super::*;

/// Where a track may come from.
enum Candidate {
    Publisher(u64),
    /// A configured source, by its index.
    Slot(usize),
    /// Nothing else has what is wanted.
    Transcoder,
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
        let (name, medias, guard) =
            (consumer.stream.clone(), consumer.medias.clone(), consumer.guard.clone());
        let (old, since) = (consumer.bound.clone(), consumer.since);
        let slots = self.streams.get(&name).map_or(0, |stream| stream.slots.len());
        let publishers = self.streams.get(&name).map(|stream| stream.publishers.clone()).unwrap_or_default();
        let mut bound: Vec<BoundTrack> = Vec::new();
        let mut pending = None;
        // A transcoder that is about to say what it gives: a player that starts without its track may never take it.
        let mut starting = false;
        'medias: for media in &medias {
            let all = media.codecs.iter().any(|codec| codec == "all");
            // A publisher's tracks come first: whoever pushes is there now.
            let mut candidates: Vec<Candidate> =
                publishers.iter().copied().map(Candidate::Publisher).collect();
            candidates.extend((0..slots).map(Candidate::Slot));
            candidates.push(Candidate::Transcoder);
            let mut is_unready = false;
            for candidate in candidates {
                let source_id = match candidate {
                    Candidate::Publisher(id) => id,
                    // What the stream has is not known yet, or who asks for its picture could not take that.
                    Candidate::Transcoder if is_unready || self.lacks(&name, &medias, media, &bound) => {
                        continue;
                    }
                    Candidate::Transcoder => {
                        let Some(id) = self.transcoder(now, &name, media, &guard, &old) else { continue };
                        if self.is_starting(now, id) {
                            starting = true;
                        }
                        id
                    }
                    Candidate::Slot(index) => {
                        let url = self
                            .streams
                            .get(&name)
                            .and_then(|s| s.slots.get(index))
                            .map(|slot| slot.url.clone());
                        let is_own = |url: &str| url == guard || self.are_transcoders(url, &guard);
                        if !guard.is_empty() && url.as_deref().is_some_and(is_own) {
                            continue;
                        }
                        let Some(id) = self.source_of(now, &name, index) else { continue };
                        id
                    }
                };
                let Some(source) = self.sources.get(&source_id) else { continue };
                match source.phase {
                    Phase::Live => {}
                    Phase::Idle => {
                        self.dial(now, source_id);
                        pending = Some(source_id);
                        if old.is_empty() {
                            break 'medias;
                        }
                    }
                    Phase::Connecting { .. } if old.is_empty() => {
                        pending = Some(source_id);
                        if self.sources.get(&source_id).is_some_and(|s| s.failures == 0) {
                            break 'medias;
                        }
                        continue;
                    }
                    _ => {}
                }
                let Some(source) = self.sources.get(&source_id) else { continue };
                if source.phase != Phase::Live {
                    // Down: what was bound stays bound.
                    let kept: Vec<BoundTrack> = old
                        .iter()
                        .filter(|b| b.source == source_id && b.info.kind == media.kind && !bound.contains(b))
                        .cloned()
                        .collect();
                    let found = !kept.is_empty();
                    bound.extend(kept.into_iter().take(if all { usize::MAX } else { 1 }));
                    if found && !all {
                        continue 'medias;
                    }
                    if !found && matches!(source.phase, Phase::Waiting { .. }) {
                        pending = pending.or(Some(source_id));
                    }
                    continue;
                }
                let taken = |bound: &[BoundTrack], id: u32| {
                    bound.iter().any(|b| b.source == source_id && b.info.id == id)
                };
                let waits = now.saturating_sub(source.told_at) < READY_LIMIT;
                let mut unready = false;
                for (epoch, track) in source.tracks.iter().filter(|(_, track)| track.kind == media.kind) {
                    if taken(&bound, track.id) || !codecs::accepts(media, track) {
                        continue;
                    }
                    if !codecs::is_ready(track) {
                        unready |= waits;
                        continue;
                    }
                    bound.push(BoundTrack { source: source_id, epoch: *epoch, info: track.clone() });
                    if !all {
                        continue 'medias;
                    }
                }
                is_unready |= unready;
                if unready
                    || (!source.is_final && waits && !source.tracks.iter().any(|(_, t)| t.kind == media.kind))
                {
                    pending = Some(source_id);
                }
            }
        }
        let send = self.accepted(&name);
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
        let is_new = now.saturating_sub(since) < FIRST_DIAL
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
            } else if !first && !old.is_empty() && pending.is_none() {
                let message = self.mismatch(id);
                self.refuse(id, Ended { class: Class::Unsupported, message, retry_after_ms: 0 });
            }
            return;
        }
        let same = bound.len() == old.len()
            && bound
                .iter()
                .zip(&old)
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
