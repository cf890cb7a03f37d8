//! Does what the stream core asks for: rings, dials, sessions.

use super::*;

impl App {
    /// Does what the stream core asks for, in order.
    pub(super) fn drive(self: &Arc<Self>) {
        let _one_at_a_time = self.driving.lock();
        loop {
            let Some(action) = self.core.lock().poll() else { return };
            self.act(action);
        }
    }

    pub(super) fn act(self: &Arc<Self>, action: Action) {
        match action {
            Action::Create { source } => match Source::new(source, &self.budget) {
                Ok(ring) => drop(self.sources.write().insert(source, Arc::new(ring))),
                Err(error) => {
                    self.log.write(Level::Error, "streams", "no ring", &[("error", &error.to_string())])
                }
            },
            Action::Open { source, url } => {
                if let Err(ended) = self.dial(source, &url) {
                    let now = self.now();
                    self.source_ended(now, source, &ended);
                }
            }
            Action::Close { source } => self.close_feed(source),
            Action::Drop { source } => {
                self.close_feed(source);
                if let Some(ring) = self.sources.write().remove(&source) {
                    ring.close();
                    for instance in self.running() {
                        instance.source_gone(source);
                    }
                }
            }
            Action::Demand { source, demand } => match self.feeds.lock().get(&source) {
                Some(Feed::Source { instance, session } | Feed::Publisher { instance, session }) => {
                    instance.command(*session, command::DEMAND, &demand);
                    self.tell_services(source, &demand);
                }
                Some(Feed::Chain(chain)) => chain.demand(&demand),
                None => {}
            },
            Action::Keyframe { source } => {
                let feeds = self.feeds.lock();
                if let Some(Feed::Source { instance, session } | Feed::Publisher { instance, session }) =
                    feeds.get(&source)
                {
                    instance.command_bytes(*session, command::KEYFRAME, Bytes::new());
                }
                drop(feeds);
                for (provider, session) in self.services_of(source) {
                    provider.command_bytes(session, command::KEYFRAME, Bytes::new());
                }
            }
            Action::TalkAccepted { talk, track } => self.talk_accepted(talk, track),
            Action::Talk { talk, source, send, track } => self.pass_talk(source, talk, send, track),
            Action::TalkEnd { talk, source } => self.end_talk(source, talk),
            Action::Bound { consumer, bound } => {
                let lacks_key = bound.tracks.iter().any(|track| self.lacks_key(track));
                match self.consumers.lock().get(&consumer) {
                    Some(Taker::Plugin { instance, session }) => {
                        self.show(instance, &bound.tracks);
                        instance.command(*session, command::BOUND, &bound)
                    }
                    Some(Taker::Host(news)) => drop(news.send(ConsumerNews::Bound(bound))),
                    Some(Taker::Play(_)) | None => {}
                }
                if lacks_key {
                    let now = self.now();
                    self.core.lock().want_key(now, consumer);
                }
            }
            Action::Refused { consumer, ended } => match self.consumers.lock().remove(&consumer) {
                Some(Taker::Plugin { instance, session }) => {
                    self.sessions.write().remove(&(instance.ctx, session));
                    instance.command(session, command::REFUSED, &ended);
                }
                Some(Taker::Host(news)) => drop(news.send(ConsumerNews::Refused(ended))),
                Some(Taker::Play(news)) => drop(news.send(Err(ended))),
                None => {}
            },
            Action::Unpublished { source, ended } => {
                let feed = self.feeds.lock().remove(&source);
                match feed {
                    Some(Feed::Publisher { instance, session }) => {
                        self.end_calls_of(instance.ctx, session);
                        self.sessions.write().remove(&(instance.ctx, session));
                        instance.command(session, command::REFUSED, &ended);
                    }
                    Some(Feed::Chain(chain)) => {
                        chain.finish(&ended);
                        chain.close();
                    }
                    _ => {}
                }
            }
        }
    }

    /// Whether whoever begins with this track has to wait for a picture that can be begun with.
    fn lacks_key(&self, track: &message::BoundTrack) -> bool {
        let number = u16::try_from(track.info.id).ok().filter(|_| track.info.kind == "video");
        number.zip(self.source(track.source)).is_some_and(|(track, source)| {
            source.handle.locate(patchbay_ring::Target::NewestKey { track }).is_none()
        })
    }

    pub(super) fn dial(self: &Arc<Self>, id: u64, url: &str) -> Result<(), Ended> {
        let failed = |class, message: String| Ended { class, message, retry_after_ms: 0 };
        let name = url.split(':').next().unwrap_or(url);
        let (catalogue, config) = (self.catalogue(), self.config());
        let found = catalogue.scheme(name).filter(|(_, s)| config.allows_module(s.module.as_deref()));
        let Some((entry, scheme)) = found else {
            let message = format!("unsupported scheme: {name}");
            return Err(failed(Class::Unsupported, message));
        };
        // A process of its own is started again, what failed in this one stays failed.
        let class = if self.is_isolated(entry) { Class::Timeout } else { Class::Unsupported };
        let instance = self.instance(&entry.manifest.name).map_err(|reason| failed(class, reason))?;
        let ring =
            self.source(id).ok_or_else(|| failed(Class::Unsupported, "no memory for a ring".to_owned()))?;
        if scheme.role == "transport" {
            let session = self.next_session.fetch_add(1, Ordering::Relaxed);
            let chain = Arc::new(Chain::new(id, url, Arc::clone(&instance), session));
            self.sessions.write().insert((instance.ctx, session), Target::Transport(Arc::clone(&chain)));
            self.feeds.lock().insert(id, Feed::Chain(chain));
            let endpoints = self.endpoints();
            let open = message::TransportOpen { url: url.to_owned(), endpoints };
            instance.open(session, role::TRANSPORT, &open);
        } else {
            let session = self.session(&instance, Target::Feed(id));
            ring.begin(session);
            self.feeds.lock().insert(id, Feed::Source { instance: Arc::clone(&instance), session });
            let class = self.core.lock().class_of(id).to_owned();
            instance.open(session, role::SOURCE, &message::SourceOpen { url: url.to_owned(), class });
        }
        Ok(())
    }

    /// A publisher of `name` will bring the tracks of this chain, as long as that lives.
    pub(super) fn expect(&self, name: &str, chain: &Arc<Chain>) {
        let mut expected = self.expected.lock();
        expected.retain(|_, chain| chain.strong_count() > 0);
        expected.insert(name.to_owned(), Arc::downgrade(chain));
    }

    /// The chain that expects a publisher of `name`, which no other will be.
    pub(super) fn expected(&self, name: &str) -> Option<Arc<Chain>> {
        let chain = self.expected.lock().remove(name)?.upgrade()?;
        chain.is_open().then_some(chain)
    }

    /// The body of a request publishes to `stream`.
    pub(crate) fn ingest(self: &Arc<Self>, stream: &str, head: Head) -> Result<Arc<Chain>, LookupError> {
        let id = self.streams(|core, now| core.publish(now, stream, head.connection.clone()))?;
        let chain = Arc::new(Chain::of_body(id, head));
        self.feeds.lock().insert(id, Feed::Chain(Arc::clone(&chain)));
        Ok(chain)
    }

    /// A body has broken off, or whoever read it is gone: the demuxer gives what it has and ends.
    pub(crate) fn ingest_broken(&self, chain: &Chain, ended: Ended) {
        if !chain.transport_ended(&ended) {
            self.chain_failed(chain, ended);
        }
    }

    /// Looks at bytes whose format is not known yet.
    pub(super) fn hurry_chains(&self) {
        let chains: Vec<Arc<Chain>> = {
            let feeds = self.feeds.lock();
            let chain = |feed: &Feed| match feed {
                Feed::Chain(chain) => Some(Arc::clone(chain)),
                _ => None,
            };
            feeds.values().filter_map(chain).collect()
        };
        for chain in chains {
            chain.hurry(self);
        }
    }

    /// Opens the demuxer of a chain once it is known.
    pub(crate) fn open_demuxer(
        &self,
        chain: &Arc<Chain>,
        plugin: &str,
        open: &message::DemuxerOpen,
    ) -> Option<(Arc<Instance>, u64)> {
        let app = bridge::app()?;
        let instance = app.instance(plugin).ok()?;
        let session = self.session(&instance, Target::Feed(chain.source));
        self.source(chain.source)?.begin(session);
        instance.open(session, role::DEMUXER, open);
        Some((instance, session))
    }

    /// A chain cannot go on.
    pub(crate) fn chain_failed(&self, chain: &Chain, ended: Ended) {
        self.feeds.lock().remove(&chain.source);
        chain.finish(&ended);
        chain.close();
        let now = self.now();
        self.core.lock().ended(now, chain.source, ended);
        self.news.notify_one();
    }

    pub(super) fn close_feed(&self, source: u64) {
        match self.feeds.lock().remove(&source) {
            Some(Feed::Source { instance, session } | Feed::Publisher { instance, session }) => {
                self.end_calls_of(instance.ctx, session);
                instance.close(session);
            }
            Some(Feed::Chain(chain)) => {
                let message = "no tracks or no media came for too long".to_owned();
                chain.finish(&Ended { class: Class::Timeout, message, retry_after_ms: 0 });
                chain.close();
            }
            None => {}
        }
    }
}
