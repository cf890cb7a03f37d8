//! What plugins call, and what becomes of their sessions.

use patchbay_plugin_api::abi::chunk_flags;

use super::*;

impl App {
    /// The source that a session feeds.
    pub(crate) fn source_of(&self, ctx: u64, session: u64) -> Option<Arc<Source>> {
        match self.sessions.read().get(&(ctx, session)) {
            Some(Target::Feed(id) | Target::Talk(id)) => self.source(*id),
            Some(Target::Service(delegation)) => self.source(delegation.source()?),
            _ => None,
        }
    }

    /// Units arrive on a source.
    pub(crate) fn media(&self, source: u64) {
        let now = self.now();
        self.core.lock().media(now, source);
    }

    /// `write` of a plugin.
    pub(crate) fn write(&self, ctx: u64, session: u64, chunk: ChunkRef<'_>) -> Code {
        if session == 0 && chunk.flags & chunk_flags::BLOB != 0 {
            return self.blobs.put(ctx, chunk.join, chunk.data);
        }
        let target = self.sessions.read().get(&(ctx, session)).cloned();
        match target {
            Some(Target::Output(run)) => run.write(chunk),
            Some(Target::Transport(chain)) => chain.data(self, chunk.data),
            Some(Target::Route(events)) => {
                let sent = events.send(RouteEvent::Data(Bytes::copy_from_slice(chunk.data)));
                if sent.is_ok() { Code::Ok } else { Code::Closed }
            }
            Some(_) => Code::Unsupported,
            None => Code::Unknown,
        }
    }

    /// `emit` of a plugin.
    pub(crate) fn event(
        self: &Arc<Self>,
        instance: &Arc<Instance>,
        session: u64,
        kind: u32,
        payload: &[u8],
    ) -> Code {
        match kind {
            event::CONSUME => return self.consume_event(instance, session, json(payload)),
            event::PUBLISH => return self.publish_event(instance, session, &json(payload)),
            event::TALK => return self.talk_event(instance, session, &json(payload)),
            event::CALL => return self.call_event(instance, session, payload),
            event::METRICS => {
                *instance.counters.lock() = json::<message::Counters>(payload).counters;
                return Code::Ok;
            }
            event::PONG => return Code::Ok,
            event::DROP_BLOBS => {
                self.blobs.forget(instance.ctx, &json::<message::Blobs>(payload).ids);
                return Code::Ok;
            }
            event::ENDED | event::DETACH => {
                self.end(instance, session, &json(payload));
                return Code::Ok;
            }
            _ => {}
        }
        let Some(target) = self.sessions.read().get(&(instance.ctx, session)).cloned() else {
            return Code::Unknown;
        };
        match (target, kind) {
            (Target::Feed(id), event::TRACKS | event::TRACK | event::CLOCK) => {
                return self.feed_event(session, id, kind, payload);
            }
            (Target::Service(delegation), _) => {
                return self.service_event(&delegation, kind, payload);
            }
            (Target::Call(delegation), event::CONSUMED) => delegation.caller_took(&json(payload)),
            (Target::Feed(id), event::SEEK) => {
                if let Some(Feed::Chain(chain)) = self.feeds.lock().get(&id) {
                    chain.seek(json::<message::Seek>(payload).offset);
                }
            }
            (Target::Feed(id), event::CONSUMED) => {
                if let Some(Feed::Chain(chain)) = self.feeds.lock().get(&id) {
                    chain.consumed(json::<message::Credit>(payload).bytes);
                }
            }
            (Target::Transport(chain), event::HEAD) => {
                let mut head: message::Head = json(payload);
                // What is played comes at its own pace, also what has no end yet.
                head.live &= !self.core.lock().is_played(chain.source);
                if !head.expect.is_empty() {
                    self.expect(&head.expect, &chain);
                }
                chain.head(head);
            }
            (Target::Transport(chain), event::TRACKS) => self.hearing_event(&chain, json(payload)),
            (Target::Transport(chain), event::SEEK) => chain.sought(json::<message::Seek>(payload).offset),
            (Target::Output(run), event::OUTPUT) => run.set_mime(json::<message::OutputInfo>(payload).mime),
            (Target::Consumer(id), event::CONSUMER) => {
                let c: message::ConsumerCounters = json(payload);
                self.core.lock().count(id, c.bytes, c.packets, c.drops);
            }
            (Target::Consumer(id), event::KEYFRAME) => self.streams(|core, now| core.want_key(now, id)),
            (Target::Consumer(id), event::CONNECTION) => self.core.lock().connected(id, json(payload)),
            (Target::Server, event::LISTENING) => {
                let listening: message::Listening = json(payload);
                self.log.write(Level::Info, &listening.protocol, "listen", &[("addr", &listening.addr)]);
                self.listeners.lock().push(Bound { server: (instance.ctx, session), listening });
                self.settled.lock().insert(instance.manifest.name.clone());
            }
            (Target::Server, event::DRAINING) => {
                self.sessions.write().insert((instance.ctx, session), Target::Drained);
                self.unlisten(instance.ctx, session);
            }
            (Target::Route(events), event::RESPONSE) => {
                drop(events.send(RouteEvent::Response(json(payload))))
            }
            (Target::Route(events), event::BLOBS) => {
                let ids = json::<message::Blobs>(payload).ids;
                drop(match self.blobs.get(instance.ctx, &ids) {
                    Some(blobs) => events.send(RouteEvent::Blobs(blobs)),
                    None => events.send(RouteEvent::Ended(Ended {
                        class: Class::NotFound,
                        message: "404 page not found".to_owned(),
                        retry_after_ms: 0,
                    })),
                });
            }
            (Target::Route(events), event::SERVE) => {
                drop(events.send(RouteEvent::Serve(Box::new(json(payload)))))
            }
            (Target::Route(events), event::MESSAGE) => drop(events.send(RouteEvent::Message(json(payload)))),
            (Target::Route(_), event::CONSUMED) => {}
            _ => return Code::Unsupported,
        }
        Code::Ok
    }

    /// A log line of a plugin.
    pub(crate) fn plugin_log(&self, plugin: &str, level: u32, _target: &str, event: &LogEvent) {
        let level = match level {
            1 => Level::Error,
            2 => Level::Warn,
            3 => Level::Info,
            4 => Level::Debug,
            _ => Level::Trace,
        };
        let text =
            |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let fields: Vec<(String, String)> = event.fields.iter().map(|(k, v)| (k.clone(), text(v))).collect();
        let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        self.log.write(level, plugin, &event.message, &fields);
    }

    /// What a session that feeds a source says of it.
    pub(super) fn feed_event(self: &Arc<Self>, session: u64, id: u64, kind: u32, payload: &[u8]) -> Code {
        let Some(source) = self.source(id) else { return Code::Unknown };
        match kind {
            event::TRACKS => self.tracks_event(session, id, json(payload)),
            event::TRACK => {
                let Some((epoch, track)) = source.track_changed(session, &json(payload)) else {
                    return Code::Unknown;
                };
                self.streams(|core, now| core.track_changed(now, id, epoch, track));
            }
            _ => source.clock(session, &json(payload)),
        }
        Code::Ok
    }

    pub(super) fn tracks_event(self: &Arc<Self>, session: u64, id: u64, tracks: message::Tracks) {
        let Some(source) = self.source(id) else { return };
        let Some((known, mut told)) = source.tracks(session, &tracks) else { return };
        if let Some(Feed::Chain(chain)) = self.feeds.lock().get(&id) {
            chain.describe(&mut told.connection);
        }
        self.streams(|core, now| core.tracks(now, id, known, told));
    }

    pub(super) fn consume_event(
        self: &Arc<Self>,
        instance: &Arc<Instance>,
        session: u64,
        consume: Consume,
    ) -> Code {
        let attached = {
            let now = self.now();
            let mut core = self.core.lock();
            let attached = core.attach(now, &consume, "video&audio");
            if let Ok(id) = attached {
                let taker = Taker::Plugin { instance: Arc::clone(instance), session };
                self.consumers.lock().insert(id, taker);
                self.sessions.write().insert((instance.ctx, session), Target::Consumer(id));
            }
            attached
        };
        if let Err(error) = attached {
            instance.command(session, command::REFUSED, &not_found(&error));
        }
        self.drive();
        self.news.notify_one();
        Code::Ok
    }

    pub(super) fn publish_event(
        self: &Arc<Self>,
        instance: &Arc<Instance>,
        session: u64,
        publish: &message::Publish,
    ) -> Code {
        if let Some(chain) = self.expected(&publish.stream) {
            self.sessions.write().insert((instance.ctx, session), Target::Feed(chain.source));
            if let Some(source) = self.source(chain.source) {
                source.begin(session);
            }
            chain.published(instance, session);
            return Code::Ok;
        }
        let published =
            self.streams(|core, now| core.publish(now, &publish.stream, publish.connection.clone()));
        match published {
            Ok(id) => {
                let feed = Feed::Publisher { instance: Arc::clone(instance), session };
                self.feeds.lock().insert(id, feed);
                self.sessions.write().insert((instance.ctx, session), Target::Feed(id));
                if let Some(source) = self.source(id) {
                    source.begin(session);
                }
                instance.command_bytes(session, command::ACCEPTED, Bytes::from_static(b"{}"));
            }
            Err(error) => instance.command(session, command::REFUSED, &not_found(&error)),
        }
        Code::Ok
    }

    /// A session is over.
    pub(super) fn end(&self, instance: &Arc<Instance>, session: u64, ended: &Ended) {
        let Some(target) = self.sessions.write().remove(&(instance.ctx, session)) else { return };
        let now = self.now();
        match target {
            Target::Service(delegation) => self.service_ended(&delegation, ended),
            Target::Call(delegation) => self.caller_left(&delegation),
            Target::Feed(id) => {
                self.end_calls_of(instance.ctx, session);
                let current = {
                    let mut feeds = self.feeds.lock();
                    let current = feeds.get(&id).is_some_and(|feed| feed.is(instance.ctx, session));
                    if current && let Some(Feed::Chain(chain)) = feeds.remove(&id) {
                        chain.finish(ended);
                        chain.close();
                    }
                    current
                };
                if current {
                    self.source_ended(now, id, ended);
                }
            }
            Target::Transport(chain) => {
                if !chain.transport_ended(ended) {
                    self.feeds.lock().remove(&chain.source);
                    chain.close();
                    self.source_ended(now, chain.source, ended);
                }
            }
            Target::Output(run) => {
                self.runs.lock().retain(|_, other| !Arc::ptr_eq(other, &run));
                run.end(ended.clone());
            }
            Target::Server => {
                self.unlisten(instance.ctx, session);
                self.settled.lock().insert(instance.manifest.name.clone());
                if !ended.message.is_empty() {
                    self.log.write(Level::Error, &instance.manifest.name, &ended.message, &[]);
                }
            }
            Target::Drained => {}
            Target::Sink(over) => {
                if let Some(over) = over.lock().take() {
                    let _ = over.send(ended.clone());
                }
            }
            Target::Route(events) => drop(events.send(RouteEvent::Ended(ended.clone()))),
            Target::Consumer(id) => {
                self.consumers.lock().remove(&id);
                self.core.lock().detach(now, id);
            }
            Target::Talk(id) => {
                self.consumers.lock().remove(&id);
                self.core.lock().talk_over(now, id);
            }
        }
        self.news.notify_one();
    }

    /// Tells the stream core, and the user, that a source is down.
    pub(super) fn source_ended(&self, now: Time, id: u64, ended: &Ended) {
        let mut core = self.core.lock();
        let (url, failures) =
            core.source(id).map(|(url, failures)| (url.to_owned(), failures)).unwrap_or_default();
        core.ended(now, id, ended.clone());
        drop(core);
        // The first failure is news, the ones behind it are not. A file ends as it should.
        let level = match (failures, ended.class) {
            (0, Class::Asleep) => Level::Info,
            // What has come to its end begins again at once, a short file every few seconds.
            (0, Class::Eof) => Level::Debug,
            (0, _) => Level::Warn,
            _ => Level::Debug,
        };
        if !url.is_empty() && !ended.message.is_empty() {
            self.log.write(level, "streams", "source is down", &[("error", &ended.message), ("url", &url)]);
        }
    }
}
