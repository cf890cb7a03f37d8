//! Which streams there are, and by what names.

use super::*;

/// Temporary streams at once. A further one takes the place of the oldest that nobody uses.
pub const MAX_TEMPORARY: usize = 64;

/// In a configured source: where a URL goes that the API gives.
const INPUT: &str = "{input}";

impl Slot {
    fn new(url: &str) -> Self {
        let template = url.contains(INPUT).then(|| url.to_owned());
        Self { url: url.to_owned(), template, source: None }
    }
}

impl Core {
    /// Creates or replaces a stream. Present consumers keep what they have; equal sources are no change.
    pub fn set_stream(&mut self, name: &str, urls: &[String]) {
        self.aliases.remove(name);
        let stream = self.streams.entry(name.to_owned()).or_default();
        stream.temporary = None;
        if stream.slots.iter().map(|slot| &slot.url).eq(urls) {
            return;
        }
        let mut old = std::mem::take(&mut stream.slots);
        stream.slots = urls
            .iter()
            .map(|url| {
                let kept = old.iter().position(|slot| slot.url == *url).map(|at| old.swap_remove(at));
                kept.unwrap_or_else(|| Slot::new(url))
            })
            .collect();
    }

    /// Makes `name` another name of the stream `of`.
    pub fn set_alias(&mut self, name: &str, of: &str) {
        if name != of {
            self.streams.remove(name);
            self.aliases.insert(name.to_owned(), of.to_owned());
        }
    }

    /// Consumers of a stream whose sources were replaced by a client stay with those that they have while these are live:
    /// players cannot change in the middle. The others go on with the stream's own.
    pub fn renew_waiting(&mut self, now: Time, name: &str) {
        for (_, consumer) in self.consumers.iter_mut().filter(|(_, c)| c.stream == name) {
            let is_live = |id: u64| self.sources.get(&id).is_some_and(|source| source.phase == Phase::Live);
            consumer.stays =
                !consumer.bound.is_empty() && consumer.bound.iter().all(|track| is_live(track.source));
        }
        self.renew_others(now, name);
    }

    /// Consumers of a stream whose sources were changed go on with those that it has now, or end with it.
    pub fn renew(&mut self, now: Time, name: &str) {
        for (_, consumer) in self.consumers.iter_mut().filter(|(_, c)| c.stream == name) {
            consumer.stays = false;
        }
        self.renew_others(now, name);
    }

    /// A source is not live any more: who stayed with it goes on with what its stream has.
    pub(super) fn renew_stayed(&mut self, now: Time, source: u64) {
        let mut names = Vec::new();
        for (_, consumer) in self.consumers.iter_mut().filter(|(_, c)| c.stays) {
            if consumer.bound.iter().any(|track| track.source == source) {
                consumer.stays = false;
                names.push(consumer.stream.clone());
            }
        }
        for name in names {
            self.renew_others(now, &name);
        }
    }

    fn renew_others(&mut self, now: Time, name: &str) {
        let kept: Vec<u64> = self.streams.get(name).map_or(Vec::new(), |stream| {
            stream
                .publishers
                .iter()
                .copied()
                .chain(stream.slots.iter().filter_map(|slot| slot.source))
                .collect()
        });
        self.talk_renewed(name, &kept);
        let ids: Vec<u64> =
            self.consumers.iter().filter(|(_, c)| c.stream == name && !c.stays).map(|(id, _)| *id).collect();
        for id in ids {
            if !self.streams.contains_key(name) {
                let message = format!("the stream {name} was removed");
                self.refuse(id, Ended { class: Class::NotFound, message, retry_after_ms: 0 });
                continue;
            }
            let Some(consumer) = self.consumers.get_mut(&id) else { continue };
            consumer.bound.retain(|track| kept.contains(&track.source));
            if consumer.bound.is_empty() {
                consumer.deadline = Some(consumer.deadline.unwrap_or(now + DEFAULT_WAIT));
            }
            self.negotiate(now, id);
        }
        self.settle(now);
    }

    /// Forgets a stream. Consumers keep running.
    pub fn remove_stream(&mut self, name: &str) {
        self.aliases.remove(name);
        self.streams.remove(name);
    }

    /// The sources of a stream, as configured.
    pub fn urls(&self, name: &str) -> Option<Vec<String>> {
        let name = self.resolve(name)?;
        Some(self.streams.get(&name)?.slots.iter().map(|slot| slot.url.clone()).collect())
    }

    /// The stream that `text` names: a name, an alias, or `rtsp://any-host/NAME`; a trailing slash is forgiven.
    pub fn resolve(&self, text: &str) -> Option<String> {
        let known = |name: &str| {
            let name = self.aliases.get(name).map_or(name, String::as_str);
            self.streams.contains_key(name).then(|| name.to_owned())
        };
        let path = || {
            let rest = text.strip_prefix("rtsp://")?;
            let (_, path) = rest.split_once('/')?;
            known(path.split(['?', '#']).next().unwrap_or(path))
        };
        known(text).or_else(|| known(text.strip_suffix('/')?)).or_else(path)
    }

    /// Gives every source of a stream another URL, or puts it into those that have a place for one (`{input}`). A stream
    /// that is not there gets one source. What runs goes on until it is dialled anew.
    pub fn redirect(&mut self, name: &str, url: &str) {
        let name = self.resolve(name).unwrap_or_else(|| name.to_owned());
        let Some(stream) = self.streams.get_mut(&name).filter(|stream| !stream.slots.is_empty()) else {
            return self.set_stream(&name, &[url.to_owned()]);
        };
        for slot in &mut stream.slots {
            let url =
                slot.template.as_ref().map_or_else(|| url.to_owned(), |text| text.replacen(INPUT, url, 1));
            if slot.url != url {
                slot.url = url;
                slot.source = None;
            }
        }
    }

    /// Makes a stream for a request, gone when its place is needed by another one. False: there is no place.
    pub fn set_temporary(&mut self, name: &str, url: &str) -> bool {
        let mut temporary: Vec<(u64, &String)> =
            self.streams.iter().filter_map(|(name, stream)| Some((stream.temporary?, name))).collect();
        temporary.sort_unstable();
        if temporary.len() >= MAX_TEMPORARY {
            let used = |name: &str| {
                self.consumers.values().any(|c| c.stream == name)
                    || self.streams.get(name).is_some_and(|stream| !stream.publishers.is_empty())
            };
            let Some(free) = temporary.iter().map(|(_, name)| (*name).clone()).find(|name| !used(name))
            else {
                return false;
            };
            self.aliases.retain(|_, of| *of != free);
            self.remove_stream(&free);
        }
        self.set_stream(name, &[url.to_owned()]);
        self.last_id += 1;
        if let Some(stream) = self.streams.get_mut(name) {
            stream.temporary = Some(self.last_id);
        }
        true
    }

    /// Names of all streams and aliases.
    pub fn names(&self) -> Vec<String> {
        self.streams.keys().chain(self.aliases.keys()).cloned().collect()
    }
}
