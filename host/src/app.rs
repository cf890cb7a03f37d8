//! The running host: what connects plugins, streams, rings and viewers.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use patchbay_plugin_api::Code;
use patchbay_plugin_api::entry::ChunkRef;
use patchbay_plugin_api::message::{self, Class, Consume, Ended, LogEvent, command, event, role};
use patchbay_ring::Budget;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc, watch};

use crate::bridge;
use crate::catalogue::{Catalogue, Entry};
use crate::chain::Chain;
use crate::config::{Config, ConfigFile, Isolation};
use crate::hub::Run;
use crate::instance::{Instance, Isolated};
use crate::log::{Level, LogHandle};
use crate::restart::{Deaths, Policy};
use crate::router::{Action, Core, LookupError, Time, Told};
use crate::source::Source;

/// Between two looks at plugins and idle runs.
const BEAT: Duration = Duration::from_millis(500);

/// Everything that runs.
pub struct App {
    /// The settings in force.
    pub config: Config,
    /// The file that is written to.
    pub file: Option<ConfigFile>,
    /// The log.
    pub log: LogHandle,
    /// What plugins there are.
    pub catalogue: Catalogue,
    /// Small values that plugins keep, by plugin and key.
    pub state: Mutex<HashMap<(String, String), Vec<u8>>>,
    /// Listeners of plugins, for `GET /api`.
    pub listening: Mutex<BTreeMap<String, serde_json::Map<String, serde_json::Value>>>,
    /// Memory of all rings.
    pub budget: Arc<Budget>,
    exit: watch::Sender<Option<End>>,
    copies: PathBuf,
    instances: Mutex<HashMap<String, Result<Arc<Instance>, String>>>,
    /// Ends of plugins' own processes.
    deaths: Mutex<HashMap<String, Deaths>>,
    next_instance: AtomicU64,
    sessions: RwLock<HashMap<(u64, u64), Target>>,
    sources: RwLock<HashMap<u64, Arc<Source>>>,
    feeds: Mutex<HashMap<u64, Feed>>,
    core: Mutex<Core>,
    driving: Mutex<()>,
    news: Notify,
    consumers: Mutex<HashMap<u64, Taker>>,
    runs: Mutex<HashMap<String, Arc<Run>>>,
    next_session: AtomicU64,
    /// Servers that are bound, or over.
    settled: AtomicU64,
    started: Instant,
}

/// What a session of a plugin is.
#[derive(Clone)]
enum Target {
    /// A source, demuxer or publisher that feeds a source.
    Feed(u64),
    Transport(Arc<Chain>),
    Output(Arc<Run>),
    Server,
    Route(mpsc::UnboundedSender<RouteEvent>),
    Consumer(u64),
}

/// Which session feeds a source now.
enum Feed {
    Source { instance: Arc<Instance>, session: u64 },
    Chain(Arc<Chain>),
    Publisher { instance: Arc<Instance>, session: u64 },
}

/// Who hears what became of a consumer.
enum Taker {
    Plugin { instance: Arc<Instance>, session: u64 },
    Host(mpsc::UnboundedSender<ConsumerNews>),
}

/// What a consumer of the host itself is told.
#[derive(Debug)]
pub enum ConsumerNews {
    /// It may read.
    Bound(message::Bound),
    /// It gets nothing (any more).
    Refused(Ended),
}

/// What a route's session says.
#[derive(Debug)]
pub enum RouteEvent {
    /// The head of an answer.
    Response(message::Response),
    /// A part of its body.
    Data(Bytes),
    /// The client goes on an output.
    Serve(Box<message::Serve>),
    /// The session is over.
    Ended(Ended),
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With this code.
    Exit(u8),
    /// By starting itself anew.
    Restart,
}

/// What a plugin is doing, for the API and the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginState {
    /// Switched off.
    Off,
    /// Not needed yet.
    Ready,
    /// Started.
    Running,
    /// Of no more use; see the reason.
    Failed,
}

impl App {
    /// Builds the host. Plugins of this process call it from now on.
    pub fn new(
        config: Config,
        file: Option<ConfigFile>,
        log: LogHandle,
        catalogue: Catalogue,
        copies: PathBuf,
    ) -> Arc<Self> {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64);
        let mut core = Core::new(seed);
        for stream in &config.streams {
            core.set_stream(&stream.name, &stream.sources);
        }
        let app = Arc::new(Self {
            config,
            file,
            log,
            catalogue,
            state: Mutex::default(),
            listening: Mutex::default(),
            budget: Budget::new(memory_limit() / 4),
            exit: watch::channel(None).0,
            copies,
            instances: Mutex::default(),
            deaths: Mutex::default(),
            next_instance: AtomicU64::new(1),
            sessions: RwLock::default(),
            sources: RwLock::default(),
            feeds: Mutex::default(),
            core: Mutex::new(core),
            driving: Mutex::default(),
            news: Notify::new(),
            consumers: Mutex::default(),
            runs: Mutex::default(),
            next_session: AtomicU64::new(1),
            settled: AtomicU64::new(0),
            started: Instant::now(),
        });
        bridge::install(&app);
        app
    }

    /// Monotonic time of the stream core.
    pub fn now(&self) -> Time {
        self.started.elapsed()
    }

    /// Runs timers until the process ends.
    pub async fn run(self: Arc<Self>) {
        let mut beat = tokio::time::interval(BEAT);
        let mut last = Instant::now();
        loop {
            let now = self.now();
            let wait = {
                let mut core = self.core.lock();
                core.set_clock(now, unix_ms());
                core.next_wake()
            };
            let wait = wait.map_or(Duration::from_secs(60), |at| at.saturating_sub(now));
            tokio::select! {
                () = tokio::time::sleep(wait.max(Duration::from_millis(5))) => {}
                () = self.news.notified() => {}
                _ = beat.tick() => {
                    // A host that was late itself cannot tell who was silent.
                    let late = last.elapsed() > 2 * BEAT;
                    last = Instant::now();
                    self.housekeeping(late);
                }
            }
            let now = self.now();
            self.core.lock().tick(now);
            self.drive();
        }
    }

    fn housekeeping(self: &Arc<Self>, late: bool) {
        let idle: Vec<Arc<Run>> = {
            let mut runs = self.runs.lock();
            let idle: Vec<String> =
                runs.iter().filter(|(_, run)| run.viewers() == 0).map(|(key, _)| key.clone()).collect();
            idle.iter().filter_map(|key| runs.remove(key)).collect()
        };
        for run in idle {
            run.instance.close(run.session);
        }
        let instances: Vec<Arc<Instance>> =
            self.instances.lock().values().filter_map(|i| i.clone().ok()).collect();
        for instance in &instances {
            instance.supervise(late);
            if instance.check() {
                self.fail(instance);
            }
        }
        for instance in instances.iter().filter(|i| i.is_isolated() && i.failure().is_some()) {
            self.revive(&instance.manifest.name);
        }
    }

    /// A server whose process died listens again as soon as it may.
    fn revive(self: &Arc<Self>, name: &str) {
        let policy = self.policy(name);
        let due = self.deaths.lock().get(name).is_none_or(|d| d.may_start(self.now(), &policy).is_ok());
        if due && let Some(entry) = self.catalogue.by_name(name).filter(|entry| entry.enabled) {
            self.open_server(entry);
        }
    }

    /// How a plugin's process is started again.
    fn policy(&self, name: &str) -> Policy {
        let restart = self.config.plugin(name).restart;
        let policy = Policy::parse(restart.backoff.as_deref(), restart.breaker.as_deref());
        policy.unwrap_or_else(|error| {
            self.log.write(Level::Warn, name, &format!("restart: {error}"), &[]);
            Policy::default()
        })
    }

    /// A plugin's own process has ended: whatever it ran is over, and it may be started again.
    pub(crate) fn died(&self, instance: &Arc<Instance>) {
        let name = &instance.manifest.name;
        let policy = self.policy(name);
        let wait = {
            let mut deaths = self.deaths.lock();
            let deaths = deaths.entry(name.clone()).or_default();
            deaths.died(self.now(), &policy);
            deaths.may_start(self.now(), &policy).err().flatten()
        };
        bridge::forget(instance.ctx);
        let fed: Vec<u64> = {
            let sessions = self.sessions.read();
            let own = sessions.iter().filter(|((ctx, _), _)| *ctx == instance.ctx);
            let source = |target: &Target| match target {
                Target::Feed(source) => Some(*source),
                Target::Transport(chain) => Some(chain.source),
                _ => None,
            };
            own.filter_map(|(_, target)| source(target)).collect()
        };
        self.fail(instance);
        if let Some(wait) = wait {
            let now = self.now();
            let mut core = self.core.lock();
            for source in fed {
                core.again(now, source, wait);
            }
        }
        self.news.notify_one();
    }

    /// How often a plugin's process has died.
    pub fn deaths(&self, name: &str) -> u64 {
        self.deaths.lock().get(name).map_or(0, |deaths| deaths.total)
    }

    /// A plugin hangs: whatever it ran is over.
    fn fail(&self, instance: &Arc<Instance>) {
        let name = &instance.manifest.name;
        let why = instance.failure().unwrap_or_default();
        self.log.write(Level::Error, name, &why, &[]);
        let ids: Vec<u64> =
            self.sessions.read().keys().filter(|(ctx, _)| *ctx == instance.ctx).map(|(_, id)| *id).collect();
        let ended =
            Ended { class: Class::Timeout, message: format!("plugin {name}: {why}"), retry_after_ms: 0 };
        for id in ids {
            self.end(instance, id, &ended);
        }
    }

    /// Ends the process.
    pub fn end_with(&self, end: End) {
        self.exit.send_replace(Some(end));
    }

    /// Completes when the process is to end.
    pub async fn ended(&self) -> End {
        let mut exit = self.exit.subscribe();
        let end = exit.wait_for(Option::is_some).await.ok().and_then(|end| *end);
        end.unwrap_or(End::Exit(0))
    }

    /// Streams, sources and consumers there are.
    pub fn stream_counts(&self) -> (usize, usize, usize) {
        self.core.lock().counts()
    }

    /// Starts servers whose `listen` is set, and waits a little until each is bound or has said why not.
    pub async fn start_servers(self: &Arc<Self>) {
        let expected = self.open_servers();
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end && self.settled.load(Ordering::Relaxed) < expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn open_servers(self: &Arc<Self>) -> u64 {
        let servers = self.catalogue.entries.iter().filter(|entry| entry.enabled);
        servers.filter(|entry| self.open_server(entry)).count() as u64
    }

    /// Opens a plugin's server role when its `listen` is set.
    fn open_server(self: &Arc<Self>, entry: &Entry) -> bool {
        let Some(listen) = &entry.manifest.listen else { return false };
        let name = &entry.manifest.name;
        if !self.config.allows_module(listen.module.as_deref()) {
            return false;
        }
        let section = self.config.section(name).and_then(|section| section.get("listen"));
        let address =
            section.map_or_else(|| listen.default.clone(), |node| node.text().unwrap_or_default().to_owned());
        if address.is_empty() {
            return false;
        }
        match self.instance(name) {
            Ok(instance) => {
                let session = self.session(&instance, Target::Server);
                instance.open(session, role::SERVER, &message::ServerOpen {});
                true
            }
            Err(reason) => {
                self.log.write(Level::Error, name, &reason, &[]);
                false
            }
        }
    }

    /// Ends all plugins.
    pub fn stop(&self) {
        let instances: Vec<Arc<Instance>> =
            self.instances.lock().values().filter_map(|i| i.clone().ok()).collect();
        let threads: Vec<_> =
            instances.into_iter().map(|instance| std::thread::spawn(move || instance.stop())).collect();
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// The running plugin of a name; starts it on first use, and again when its own process died.
    pub fn instance(self: &Arc<Self>, name: &str) -> Result<Arc<Instance>, String> {
        let entry = self.catalogue.by_name(name).ok_or_else(|| format!("there is no plugin {name}"))?;
        let settings = self.config.plugin(name);
        let isolated = self.is_isolated(entry);
        let mut instances = self.instances.lock();
        if let Some(known) = instances.get(name) {
            let failure = match known {
                Ok(instance) => match instance.failure() {
                    None => return Ok(Arc::clone(instance)),
                    Some(failure) => failure,
                },
                Err(reason) => reason.clone(),
            };
            let failure =
                format!("plugin {name}: {}", failure.trim_start_matches(&format!("plugin {name}: ")));
            if !isolated {
                return Err(failure);
            }
            let deaths = self.deaths.lock();
            match deaths.get(name).map_or(Ok(()), |d| d.may_start(self.now(), &self.policy(name))) {
                Ok(()) => {}
                Err(Some(wait)) => {
                    return Err(format!("{failure}; it is started again in {:.1} s", wait.as_secs_f64()));
                }
                Err(None) => {
                    return Err(format!(
                        "{failure}; it has died too often and stays down until Patchbay is restarted"
                    ));
                }
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u32;
        let wanted = settings.threads.map_or(entry.manifest.threads.max(1).min(cores), u32::from);
        let ctx = self.next_instance.fetch_add(1, Ordering::Relaxed);
        let weak = Arc::downgrade(self);
        let failure = Arc::new(move |session: u64, code: Code| {
            if let Some(app) = weak.upgrade() {
                app.open_failed(ctx, session, code);
            }
        });
        let level = number(self.log.level(name));
        let yaml = self.config.plugin_yaml(name);
        let isolation = isolated.then(|| {
            let state = self.state.lock();
            let own = state.iter().filter(|((plugin, _), _)| plugin == name);
            let state = own.map(|((_, key), value)| (key.clone(), value.clone())).collect();
            let memory = settings.limits.memory_bytes();
            self.deaths.lock().entry(name.to_owned()).or_default().started(self.now());
            Isolated { memory, state, log: self.log.clone() }
        });
        let started = Instance::start(
            entry,
            ctx,
            bridge::table(),
            &yaml,
            wanted,
            level,
            &self.copies,
            failure,
            isolation,
        )
        .map_err(|error| error.to_string());
        if isolated && started.is_err() {
            self.deaths.lock().entry(name.to_owned()).or_default().died(self.now(), &self.policy(name));
        }
        match &started {
            Ok(_) => {
                let process = started.as_ref().ok().and_then(|instance| instance.pid());
                let process = process.map_or_else(String::new, |pid| pid.to_string());
                let fields = [("version", entry.manifest.version.as_str()), ("pid", &process)];
                let fields = if process.is_empty() { fields.get(..1) } else { Some(&fields[..]) };
                self.log.write(Level::Debug, name, "plugin started", fields.unwrap_or_default());
            }
            Err(reason) => self.log.write(Level::Error, name, reason, &[]),
        }
        instances.insert(name.to_owned(), started.clone());
        started
    }

    /// Whether a plugin is to run in a process of its own.
    pub fn is_isolated(&self, entry: &Entry) -> bool {
        let by_origin = if entry.shipped { Isolation::InProcess } else { Isolation::Process };
        self.config.plugin(&entry.manifest.name).isolation.unwrap_or(by_origin) == Isolation::Process
    }

    /// State of a plugin and why.
    pub fn plugin_state(&self, name: &str) -> (PluginState, Option<String>) {
        if self.catalogue.by_name(name).is_some_and(|entry| !entry.enabled) {
            return (PluginState::Off, None);
        }
        match self.instances.lock().get(name) {
            None => (PluginState::Ready, None),
            Some(Err(reason)) => (PluginState::Failed, Some(reason.clone())),
            Some(Ok(instance)) => match instance.failure() {
                Some(reason) => (PluginState::Failed, Some(reason)),
                None => (PluginState::Running, None),
            },
        }
    }

    /// Started plugins.
    pub fn running(&self) -> Vec<Arc<Instance>> {
        self.instances.lock().values().filter_map(|instance| instance.clone().ok()).collect()
    }

    /// Mux runs there are.
    pub fn runs(&self) -> Vec<Arc<Run>> {
        self.runs.lock().values().cloned().collect()
    }

    /// Sources there are.
    pub fn sources(&self) -> Vec<Arc<Source>> {
        self.sources.read().values().cloned().collect()
    }

    /// Sessions that are open.
    pub fn session_count(&self) -> usize {
        self.sessions.read().len()
    }

    fn session(&self, instance: &Arc<Instance>, target: Target) -> u64 {
        let id = self.next_session.fetch_add(1, Ordering::Relaxed);
        self.sessions.write().insert((instance.ctx, id), target);
        id
    }

    /// Works with the stream core, then does what it asks for.
    pub fn streams<T>(self: &Arc<Self>, work: impl FnOnce(&mut Core, Time) -> T) -> T {
        let now = self.now();
        let result = work(&mut self.core.lock(), now);
        self.drive();
        self.news.notify_one();
        result
    }

    /// A ring by its source's id.
    pub(crate) fn source(&self, id: u64) -> Option<Arc<Source>> {
        self.sources.read().get(&id).cloned()
    }

    /// The source that a session feeds.
    pub(crate) fn source_of(&self, ctx: u64, session: u64) -> Option<Arc<Source>> {
        match self.sessions.read().get(&(ctx, session)) {
            Some(Target::Feed(id)) => self.source(*id),
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
            event::METRICS => {
                *instance.counters.lock() = json::<message::Counters>(payload).counters;
                return Code::Ok;
            }
            event::PONG => return Code::Ok,
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
            (Target::Feed(id), event::TRACKS) => self.tracks_event(session, id, json(payload)),
            (Target::Feed(id), event::TRACK) => {
                let changed: message::TrackChanged = json(payload);
                let Some(epoch) = self.source(id).and_then(|source| source.track_changed(session, &changed))
                else {
                    return Code::Unknown;
                };
                self.streams(|core, now| core.track_changed(now, id, epoch, changed.track));
            }
            (Target::Feed(_), event::CLOCK) => {}
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
            (Target::Transport(chain), event::HEAD) => chain.head(json(payload)),
            (Target::Transport(chain), event::SEEK) => chain.sought(json::<message::Seek>(payload).offset),
            (Target::Output(run), event::OUTPUT) => run.set_mime(json::<message::OutputInfo>(payload).mime),
            (Target::Consumer(id), event::CONSUMER) => {
                let c: message::ConsumerCounters = json(payload);
                self.core.lock().count(id, c.bytes, c.packets, c.drops);
            }
            (Target::Server, event::LISTENING) => {
                let listening: message::Listening = json(payload);
                self.log.write(Level::Info, &listening.protocol, "listen", &[("addr", &listening.addr)]);
                self.listening.lock().insert(listening.protocol, listening.info);
                self.settled.fetch_add(1, Ordering::Relaxed);
            }
            (Target::Route(events), event::RESPONSE) => {
                drop(events.send(RouteEvent::Response(json(payload))))
            }
            (Target::Route(events), event::SERVE) => {
                drop(events.send(RouteEvent::Serve(Box::new(json(payload)))))
            }
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

    fn tracks_event(self: &Arc<Self>, session: u64, id: u64, tracks: message::Tracks) {
        let Some(source) = self.source(id) else { return };
        let Some(known) = source.tracks(session, &tracks) else { return };
        let mut connection = tracks.connection;
        if let Some(Feed::Chain(chain)) = self.feeds.lock().get(&id) {
            chain.describe(&mut connection);
        }
        let told = Told { send: tracks.send, is_final: tracks.is_final, connection };
        self.streams(|core, now| core.tracks(now, id, known, told));
    }

    fn consume_event(self: &Arc<Self>, instance: &Arc<Instance>, session: u64, consume: Consume) -> Code {
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

    fn publish_event(
        self: &Arc<Self>,
        instance: &Arc<Instance>,
        session: u64,
        publish: &message::Publish,
    ) -> Code {
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
    fn end(&self, instance: &Arc<Instance>, session: u64, ended: &Ended) {
        let Some(target) = self.sessions.write().remove(&(instance.ctx, session)) else { return };
        let now = self.now();
        match target {
            Target::Feed(id) => {
                let current = {
                    let mut feeds = self.feeds.lock();
                    let current = feeds.get(&id).is_some_and(|feed| feed.is(instance.ctx, session));
                    if current && let Some(Feed::Chain(chain)) = feeds.remove(&id) {
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
                    self.source_ended(now, chain.source, ended);
                }
            }
            Target::Output(run) => {
                self.runs.lock().retain(|_, other| !Arc::ptr_eq(other, &run));
                run.end(ended.clone());
            }
            Target::Server => {
                self.settled.fetch_add(1, Ordering::Relaxed);
                if !ended.message.is_empty() {
                    self.log.write(Level::Error, &instance.manifest.name, &ended.message, &[]);
                }
            }
            Target::Route(events) => drop(events.send(RouteEvent::Ended(ended.clone()))),
            Target::Consumer(id) => {
                self.consumers.lock().remove(&id);
                self.core.lock().detach(now, id);
            }
        }
        self.news.notify_one();
    }

    /// Tells the stream core, and the user, that a source is down.
    fn source_ended(&self, now: Time, id: u64, ended: &Ended) {
        let mut core = self.core.lock();
        let (url, failures) =
            core.source(id).map(|(url, failures)| (url.to_owned(), failures)).unwrap_or_default();
        core.ended(now, id, ended.clone());
        drop(core);
        // The first failure is news, the ones behind it are not.
        let level = if failures == 0 && ended.class != Class::Eof { Level::Warn } else { Level::Debug };
        if !url.is_empty() && !ended.message.is_empty() {
            self.log.write(level, "streams", "source is down", &[("error", &ended.message), ("url", &url)]);
        }
    }

    fn open_failed(self: &Arc<Self>, ctx: u64, session: u64, code: Code) {
        let instance = self.running().into_iter().find(|instance| instance.ctx == ctx);
        let Some(instance) = instance else { return };
        let message = format!("plugin {}: {code}", instance.manifest.name);
        let ended = Ended { class: Class::Unsupported, message, retry_after_ms: 0 };
        self.end(&instance, session, &ended);
    }

    /// Does what the stream core asks for, in order.
    fn drive(self: &Arc<Self>) {
        let _one_at_a_time = self.driving.lock();
        loop {
            let Some(action) = self.core.lock().poll() else { return };
            self.act(action);
        }
    }

    fn act(self: &Arc<Self>, action: Action) {
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
                }
                Some(Feed::Chain(chain)) => chain.demand(&demand),
                None => {}
            },
            Action::Bound { consumer, bound } => match self.consumers.lock().get(&consumer) {
                Some(Taker::Plugin { instance, session }) => {
                    self.show(instance, &bound.tracks);
                    instance.command(*session, command::BOUND, &bound)
                }
                Some(Taker::Host(news)) => drop(news.send(ConsumerNews::Bound(bound))),
                None => {}
            },
            Action::Refused { consumer, ended } => match self.consumers.lock().remove(&consumer) {
                Some(Taker::Plugin { instance, session }) => {
                    self.sessions.write().remove(&(instance.ctx, session));
                    instance.command(session, command::REFUSED, &ended);
                }
                Some(Taker::Host(news)) => drop(news.send(ConsumerNews::Refused(ended))),
                None => {}
            },
            Action::Unpublished { source, ended } => {
                if let Some(Feed::Publisher { instance, session }) = self.feeds.lock().remove(&source) {
                    self.sessions.write().remove(&(instance.ctx, session));
                    instance.command(session, command::REFUSED, &ended);
                }
            }
        }
    }

    fn dial(self: &Arc<Self>, id: u64, url: &str) -> Result<(), Ended> {
        let failed = |class, message: String| Ended { class, message, retry_after_ms: 0 };
        let name = url.split(':').next().unwrap_or(url);
        let found =
            self.catalogue.scheme(name).filter(|(_, s)| self.config.allows_module(s.module.as_deref()));
        let Some((entry, scheme)) = found else {
            let message = format!("streams: unsupported scheme: {name}");
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
            instance.open(session, role::TRANSPORT, &message::TransportOpen { url: url.to_owned() });
        } else {
            let session = self.session(&instance, Target::Feed(id));
            ring.begin(session);
            self.feeds.lock().insert(id, Feed::Source { instance: Arc::clone(&instance), session });
            instance.open(session, role::SOURCE, &message::SourceOpen { url: url.to_owned() });
        }
        Ok(())
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
        chain.close();
        let now = self.now();
        self.core.lock().ended(now, chain.source, ended);
        self.news.notify_one();
    }

    fn close_feed(&self, source: u64) {
        match self.feeds.lock().remove(&source) {
            Some(Feed::Source { instance, session } | Feed::Publisher { instance, session }) => {
                instance.close(session);
            }
            Some(Feed::Chain(chain)) => chain.close(),
            None => {}
        }
    }

    /// A consumer of the host itself.
    pub fn attach(
        self: &Arc<Self>,
        consume: &Consume,
    ) -> Result<(u64, mpsc::UnboundedReceiver<ConsumerNews>), LookupError> {
        let (sender, news) = mpsc::unbounded_channel();
        let id = {
            let now = self.now();
            let mut core = self.core.lock();
            let id = core.attach(now, consume, "video&audio")?;
            self.consumers.lock().insert(id, Taker::Host(sender));
            id
        };
        self.drive();
        self.news.notify_one();
        Ok((id, news))
    }

    /// A consumer of the host itself leaves.
    pub fn detach(&self, consumer: u64) {
        self.consumers.lock().remove(&consumer);
        let now = self.now();
        self.core.lock().detach(now, consumer);
        self.news.notify_one();
    }

    /// Counters of a consumer of the host itself.
    pub fn count(&self, consumer: u64, bytes: u64, units: u64, drops: u64) {
        self.core.lock().count(consumer, bytes, units, drops);
    }

    /// The mux run for these tracks; started when there is none.
    pub fn mux(
        self: &Arc<Self>,
        format: &str,
        tracks: &[message::BoundTrack],
        options: &BTreeMap<String, String>,
    ) -> Result<Arc<Run>, Ended> {
        let failed = |message: String| Ended { class: Class::Unsupported, message, retry_after_ms: 0 };
        let entry =
            self.catalogue.output(format).ok_or_else(|| failed(format!("no plugin makes {format}")))?;
        let instance = self.instance(&entry.manifest.name).map_err(failed)?;
        let key = crate::hub::key(format, tracks, options);
        let mut runs = self.runs.lock();
        if let Some(run) = runs.get(&key).filter(|run| !run.is_ended()) {
            return Ok(Arc::clone(run));
        }
        let session = self.next_session.fetch_add(1, Ordering::Relaxed);
        let run = Run::new(key.clone(), Arc::clone(&instance), session);
        self.sessions.write().insert((instance.ctx, session), Target::Output(Arc::clone(&run)));
        let open = message::OutputOpen {
            format: format.to_owned(),
            tracks: tracks.to_vec(),
            options: options.clone(),
        };
        self.show(&instance, tracks);
        instance.open(session, role::OUTPUT, &open);
        runs.insert(key, Arc::clone(&run));
        Ok(run)
    }

    /// Lets a plugin in a process of its own read the sources of these tracks.
    fn show(&self, instance: &Instance, tracks: &[message::BoundTrack]) {
        for track in tracks {
            if let Some(source) = self.source(track.source) {
                instance.show(&source);
            }
        }
    }

    /// Asks a plugin's route.
    pub fn route(
        self: &Arc<Self>,
        plugin: &str,
        open: &message::RouteOpen,
    ) -> Result<(Arc<Instance>, u64, mpsc::UnboundedReceiver<RouteEvent>), String> {
        let instance = self.instance(plugin)?;
        let (sender, events) = mpsc::unbounded_channel();
        let session = self.session(&instance, Target::Route(sender));
        instance.open(session, role::ROUTES, open);
        Ok((instance, session, events))
    }

    /// What `/api/streams` says; `name` picks one.
    pub fn info(&self, name: Option<&str>) -> Option<serde_json::Value> {
        let counts = |id: u64| {
            let source = self.source(id);
            source.map(|s| s.counters().iter().map(|c| (c.bytes, c.units)).collect()).unwrap_or_default()
        };
        let core = self.core.lock();
        match name {
            Some(name) => core.info(name, &counts),
            None => Some(core.info_all(&counts)),
        }
    }
}

impl Feed {
    fn is(&self, ctx: u64, session: u64) -> bool {
        match self {
            Self::Source { instance, session: s } | Self::Publisher { instance, session: s } => {
                instance.ctx == ctx && *s == session
            }
            Self::Chain(chain) => chain.is_demuxer(ctx, session),
        }
    }
}

fn not_found(error: &LookupError) -> Ended {
    Ended { class: Class::NotFound, message: error.to_string(), retry_after_ms: 0 }
}

fn json<T: DeserializeOwned + Default>(payload: &[u8]) -> T {
    serde_json::from_slice(payload).unwrap_or_default()
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64)
}

/// The ABI's number of a log level.
pub fn number(level: Level) -> u32 {
    match level {
        Level::Trace => 5,
        Level::Debug => 4,
        Level::Info => 3,
        Level::Warn => 2,
        Level::Disabled => 0,
        _ => 1,
    }
}

/// Bytes of memory this process may use: the machine's, or less in a cgroup.
fn memory_limit() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    });
    let cgroup =
        std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    machine.unwrap_or(1 << 30).min(cgroup.unwrap_or(u64::MAX))
}
