//! The running host: what connects plugins, streams, rings and viewers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use patchbay_plugin_api::Code;
use patchbay_plugin_api::entry::ChunkRef;
use patchbay_plugin_api::manifest::Transcodes;
use patchbay_plugin_api::message::{self, Class, Consume, Ended, Head, LogEvent, command, event, role};
use patchbay_ring::Budget;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc, watch};

use crate::answers::Answers;
use crate::blobs::Blobs;
use crate::bridge;
use crate::catalogue::{Catalogue, Entry};
use crate::chain::Chain;
use crate::config::{Config, ConfigFile, Sources};
use crate::hub::Run;
use crate::instance::{Instance, Isolated};
use crate::log::{Level, LogHandle};
use crate::restart::{Deaths, Policy};
use crate::router::{Action, Core, LookupError, Time};
use crate::source::Source;
use services::Delegation;

mod calls;
mod feeds;
mod keep;
mod outputs;
mod plugins;
mod reload;
mod services;
mod talk;

/// Between two looks at idle runs.
const BEAT: Duration = Duration::from_millis(500);

/// So many consumers leave memory behind that is worth giving back.
const MANY: usize = 32;

/// Everything that runs.
pub struct App {
    /// The file that is written to.
    pub file: Option<ConfigFile>,
    /// The log.
    pub log: LogHandle,
    /// Small values that plugins keep, by plugin and key.
    pub state: Mutex<HashMap<(String, String), Vec<u8>>>,
    /// Listeners of plugins.
    listeners: Mutex<Vec<Bound>>,
    /// Bytes that plugins send to many.
    pub blobs: Blobs,
    /// Answers of routes that many wait for.
    pub(crate) answers: Answers,
    /// Sources whose tracks a publisher of this name is to bring.
    expected: Mutex<HashMap<String, Weak<Chain>>>,
    /// Memory of all rings.
    pub budget: Arc<Budget>,
    config: ArcSwap<Config>,
    catalogue: ArcSwap<Catalogue>,
    exit: watch::Sender<Option<End>>,
    copies: PathBuf,
    /// Where the configuration is read from.
    sources_of_config: Sources,
    /// Its files, and hashes of what they held.
    files: Mutex<Vec<(PathBuf, Option<u64>)>>,
    config_error: Mutex<Option<String>>,
    kept: Mutex<keep::Kept>,
    runtime: std::sync::OnceLock<tokio::runtime::Handle>,
    /// Changes of configuration and plugins come one after the other.
    changing: Mutex<()>,
    instances: Mutex<HashMap<String, Result<Arc<Instance>, String>>>,
    /// Replaced or removed plugins that still have something to do.
    draining: Mutex<Vec<Arc<Instance>>>,
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
    /// The most consumers since memory was given back.
    most_consumers: AtomicUsize,
    /// Plugins whose server is bound, or over.
    settled: Mutex<BTreeSet<String>>,
    started: Instant,
}

/// A listener of a server, as long as that listens.
struct Bound {
    /// The plugin's number, and its session.
    server: (u64, u64),
    listening: message::Listening,
}

/// What a session of a plugin is.
#[derive(Clone)]
enum Target {
    /// A source, demuxer or publisher that feeds a source.
    Feed(u64),
    Transport(Arc<Chain>),
    Output(Arc<Run>),
    Server,
    /// A stream that is pushed to a URL.
    Sink(Arc<Mutex<Option<tokio::sync::oneshot::Sender<Ended>>>>),
    /// A server that leaves its listeners to another one.
    Drained,
    Route(mpsc::UnboundedSender<RouteEvent>),
    Consumer(u64),
    /// A talker and its ring.
    Talk(u64),
    /// A service that another plugin has called.
    Service(Arc<Delegation>),
    /// Who has called it.
    Call(Arc<Delegation>),
}

/// Which session feeds a source now.
enum Feed {
    Source { instance: Arc<Instance>, session: u64 },
    Chain(Arc<Chain>),
    Publisher { instance: Arc<Instance>, session: u64 },
}

/// Who hears what became of a consumer or talker.
#[derive(Clone)]
enum Taker {
    Plugin {
        instance: Arc<Instance>,
        session: u64,
    },
    Host(mpsc::UnboundedSender<ConsumerNews>),
    /// Who has something played: whether it is heard, and why no more.
    Play(mpsc::UnboundedSender<Result<(), Ended>>),
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
    /// Parts of its body that many share.
    Blobs(Vec<Bytes>),
    /// The client goes on an output.
    Serve(Box<message::Serve>),
    /// A message to the client on `/api/ws`.
    Message(message::SocketMessage),
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
    /// Being loaded.
    Starting,
    /// Started.
    Running,
    /// Of no more use; see the reason.
    Failed,
}

impl App {
    /// Builds the host. Plugins of this process call it from now on.
    pub fn new(
        config: Config,
        sources: Sources,
        log: LogHandle,
        catalogue: Catalogue,
        copies: PathBuf,
    ) -> Arc<Self> {
        let file = config.target.clone().map(ConfigFile::new);
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64);
        let mut core = Core::new(seed);
        for stream in &config.streams {
            core.set_stream(&stream.name, &stream.sources);
        }
        let app = Arc::new(Self {
            config: ArcSwap::from_pointee(config),
            file,
            log,
            catalogue: ArcSwap::from_pointee(catalogue),
            state: Mutex::default(),
            listeners: Mutex::default(),
            expected: Mutex::default(),
            // An eighth of the memory.
            blobs: Blobs::new(usize::try_from(memory_limit() / 8).unwrap_or(usize::MAX)),
            answers: Answers::default(),
            budget: Budget::new(memory_limit() / 4),
            exit: watch::channel(None).0,
            copies,
            sources_of_config: sources,
            files: Mutex::default(),
            config_error: Mutex::default(),
            kept: Mutex::default(),
            runtime: std::sync::OnceLock::new(),
            changing: Mutex::default(),
            instances: Mutex::default(),
            draining: Mutex::default(),
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
            most_consumers: AtomicUsize::new(0),
            settled: Mutex::default(),
            started: Instant::now(),
        });
        app.core.lock().set_transcoders(transcoders(&app.catalogue(), &app.config()));
        app.remember_files();
        bridge::install(&app);
        app
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// What plugins there are.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.load_full()
    }

    /// What plugins listen on now, the newest of a protocol: what `GET /api` says of it.
    pub fn listening(&self) -> BTreeMap<String, serde_json::Map<String, serde_json::Value>> {
        let listeners = self.listeners.lock();
        listeners.iter().map(|l| (l.listening.protocol.clone(), l.listening.info.clone())).collect()
    }

    /// Their addresses, by protocol.
    pub fn endpoints(&self) -> BTreeMap<String, String> {
        let listeners = self.listeners.lock();
        listeners.iter().map(|l| (l.listening.protocol.clone(), l.listening.addr.clone())).collect()
    }

    /// A server listens no more.
    fn unlisten(&self, ctx: u64, session: u64) {
        self.listeners.lock().retain(|listener| listener.server != (ctx, session));
    }

    /// Monotonic time of the stream core.
    pub fn now(&self) -> Time {
        self.started.elapsed()
    }

    /// Runs timers until the process ends.
    pub async fn run(self: Arc<Self>) {
        let _ = self.runtime.set(tokio::runtime::Handle::current());
        let mut beat = tokio::time::interval(BEAT);
        tokio::spawn(Self::watch(Arc::downgrade(&self)));
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
                _ = beat.tick() => self.housekeeping(),
            }
            let now = self.now();
            self.core.lock().tick(now);
            self.drive();
        }
    }

    fn housekeeping(self: &Arc<Self>) {
        self.hurry_chains();
        self.answers.clean();
        let idle: Vec<Arc<Run>> = {
            let mut runs = self.runs.lock();
            let idle: Vec<String> =
                runs.iter().filter(|(_, run)| run.viewers() == 0).map(|(key, _)| key.clone()).collect();
            idle.iter().filter_map(|key| runs.remove(key)).collect()
        };
        for run in idle {
            run.instance.close(run.session);
        }
        self.end_drained();
        // Many have left since the last look: their memory goes back to the system.
        let now = self.core.lock().counts().2;
        let most = self.most_consumers.fetch_max(now, Ordering::Relaxed).max(now);
        if most >= MANY && now * 2 < most {
            self.most_consumers.store(now, Ordering::Relaxed);
            drop(tokio::task::spawn_blocking(crate::loader::give_back_memory));
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
    /// The session that takes what players say.
    fn hears(&self) -> Option<(&Arc<Instance>, u64)> {
        match self {
            Self::Source { instance, session } | Self::Publisher { instance, session } => {
                Some((instance, *session))
            }
            Self::Chain(chain) => chain.transport(),
        }
    }

    fn is(&self, ctx: u64, session: u64) -> bool {
        match self {
            Self::Source { instance, session: s } | Self::Publisher { instance, session: s } => {
                instance.ctx == ctx && *s == session
            }
            Self::Chain(chain) => chain.is_demuxer(ctx, session),
        }
    }
}

/// What plugins that are on make from tracks of streams.
fn transcoders(catalogue: &Catalogue, config: &Config) -> Vec<Transcodes> {
    let entries = catalogue.entries.iter().filter(|entry| entry.enabled);
    let allowed = |entry: &&Entry| {
        let scheme = entry.manifest.transcodes.as_ref().map(|transcodes| &transcodes.scheme);
        let mut schemes = entry.manifest.schemes.iter().filter(|own| Some(&own.name) == scheme);
        schemes.any(|own| config.allows_module(own.module.as_deref()))
    };
    entries.filter(allowed).filter_map(|entry| entry.manifest.transcodes.clone()).collect()
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
