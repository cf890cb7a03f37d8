//! Sources that the host adds by itself: a plugin makes from a stream's track the one that a consumer takes.

use patchbay_plugin_api::manifest::Transcodes;
use patchbay_plugin_api::message::{BoundTrack, Media};

use super::{Core, Phase, READY_LIMIT, Source, Time, codecs};

impl Core {
    /// What plugins make from tracks of streams; nothing is transcoded unasked without any. Consumers that are bound keep
    /// what they have.
    pub fn set_transcoders(&mut self, transcoders: Vec<Transcodes>) {
        self.transcoders = transcoders;
    }

    /// Whether a source transcodes.
    pub(super) fn is_transcoder(&self, url: &str) -> bool {
        let scheme = url.split_once(':').map(|(scheme, _)| scheme);
        self.transcoders.iter().any(|transcoder| Some(transcoder.scheme.as_str()) == scheme)
    }

    /// A transcoder reads no other one: two of one stream would wait for each other.
    pub(super) fn are_transcoders(&self, url: &str, guard: &str) -> bool {
        self.is_transcoder(url) && self.is_transcoder(guard)
    }

    /// Whether a transcoder was asked a moment ago what it gives.
    pub(super) fn is_starting(&self, now: Time, id: u64) -> bool {
        self.sources.get(&id).is_some_and(|source| match source.phase {
            Phase::Idle => true,
            Phase::Connecting { since } => now.saturating_sub(since) < READY_LIMIT,
            _ => false,
        })
    }

    /// The source that makes for `media` what nothing else of the stream has; it is shared by all who want the same.
    pub(super) fn transcoder(
        &mut self,
        now: Time,
        name: &str,
        media: &Media,
        guard: &str,
        old: &[BoundTrack],
    ) -> Option<u64> {
        if self.is_transcoder(guard) || name.contains('#') {
            return None;
        }
        let makes = |transcoder: &Transcodes| {
            let to = media.codecs.iter().find_map(|codec| transcoder.to.get(codec))?;
            let url = format!("{}:{name}#{}={to}", transcoder.scheme, transcoder.kind);
            (transcoder.kind == media.kind && self.has(name, transcoder)).then_some(url)
        };
        if let Some(url) = self.transcoders.iter().find_map(makes) {
            return Some(self.run_of(now, url));
        }
        // What it reads is away for a moment.
        let of_transcoder = |track: &&BoundTrack| {
            let source = self.sources.get(&track.source);
            track.info.kind == media.kind && source.is_some_and(|s| self.transcodes_unasked(s, name))
        };
        old.iter().find(of_transcoder).map(|track| track.source)
    }

    /// Whether a consumer asks for a kind, before `media`, that a stream has and that it gets nothing of: sound alone is not
    /// made for who wants to see.
    pub(super) fn lacks(&self, name: &str, medias: &[Media], media: &Media, bound: &[BoundTrack]) -> bool {
        let has = |kind: &str| {
            self.live(name).any(|source| source.tracks.iter().any(|(_, track)| track.kind == kind))
        };
        let mut others = medias.iter().filter(|other| other.kind != media.kind);
        others.any(|other| has(&other.kind) && !bound.iter().any(|track| track.info.kind == other.kind))
    }

    /// What a stream has now, without transcoders.
    fn live(&self, name: &str) -> impl Iterator<Item = &Source> {
        let stream = self.streams.get(name).into_iter();
        let ids = stream.flat_map(|stream| {
            stream.publishers.iter().copied().chain(stream.slots.iter().filter_map(|slot| slot.source))
        });
        let sources = ids.filter_map(|id| self.sources.get(&id));
        sources.filter(|source| source.phase == Phase::Live && !self.is_transcoder(&source.url))
    }

    /// Whether a stream has a track now that a transcoder reads.
    fn has(&self, name: &str, transcoder: &Transcodes) -> bool {
        self.live(name).any(|source| {
            let mut tracks = source.tracks.iter().map(|(_, track)| track);
            tracks.any(|track| {
                track.kind == transcoder.kind
                    && transcoder.from.contains(&track.codec)
                    && codecs::is_ready(track)
            })
        })
    }

    /// Whether the host added a source to a stream by itself.
    fn transcodes_unasked(&self, source: &Source, name: &str) -> bool {
        let of_stream =
            source.url.split('#').next().and_then(|url| url.split_once(':')).map(|(_, rest)| rest);
        let is_configured = || {
            let stream = self.streams.get(name);
            stream.is_some_and(|stream| stream.slots.iter().any(|slot| slot.url == source.url))
        };
        !source.external && of_stream == Some(name) && self.is_transcoder(&source.url) && !is_configured()
    }

    /// Sources that the host added to a stream by itself.
    pub(super) fn unasked(&self, name: &str) -> impl Iterator<Item = (u64, &Source)> {
        let mut found: Vec<(u64, &Source)> = self
            .sources
            .iter()
            .filter(|(id, source)| !self.is_played(**id) && self.transcodes_unasked(source, name))
            .map(|(id, source)| (*id, source))
            .collect();
        found.sort_unstable_by_key(|(id, _)| *id);
        found.into_iter()
    }

    /// A source is there again: transcoders that had nothing to read are dialled at once.
    pub(super) fn hurry_transcoders(&mut self, now: Time, id: u64) {
        if self.sources.get(&id).is_none_or(|source| self.is_transcoder(&source.url)) {
            return;
        }
        let schemes: Vec<String> = self.transcoders.iter().map(|t| format!("{}:", t.scheme)).collect();
        for source in self.sources.values_mut() {
            if let Phase::Waiting { until } = &mut source.phase
                && schemes.iter().any(|scheme| source.url.starts_with(scheme))
            {
                *until = now;
                source.failures = 0;
            }
        }
    }
}
