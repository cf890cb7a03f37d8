//! A started plugin: the one thread that calls it, its wakes, its state. It runs in this process or in one of its own.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use patchbay_plugin_api::abi::HostTableRef;
use patchbay_plugin_api::{Code, Manifest};
use patchbay_ring::{RingHandle, Subscription, Wake};
use rustix::event::{EventfdFlags, eventfd};
use serde::Serialize;

use crate::catalogue::Entry;
use crate::child::Child;
use crate::loader::LoadError;
use crate::log::LogHandle;
use crate::sandbox::{Grants, InForce};
use crate::source::Source;
use crate::wire::{Hello, VERSION};

mod calls;

use calls::{Call, Library};

/// A call that takes longer has failed the plugin.
pub const CALL_LIMIT: Duration = Duration::from_secs(1);

/// A library that has not been loaded for so long, its constructors included, has failed; so has one whose `start` takes
/// longer: its code may come from a slow disk.
pub const LOAD_LIMIT: Duration = Duration::from_secs(5);

/// Its library is being loaded, or its process started.
const LOADING: u8 = 0;
/// Its `start` is being called.
const STARTING: u8 = 1;
/// It takes calls.
const RUNNING: u8 = 2;

/// What makes a plugin run in a process of its own.
pub struct Isolated {
    /// Bytes of memory that it may have.
    pub memory: u64,
    /// What it has kept.
    pub state: BTreeMap<String, Vec<u8>>,
    /// What it may do.
    pub grants: Grants,
    /// Where its output goes.
    pub log: LogHandle,
}

/// A plugin that runs.
pub struct Instance {
    /// First argument of its host calls.
    pub ctx: u64,
    /// Its manifest.
    pub manifest: Manifest,
    calls: mpsc::Sender<Call>,
    wake: OwnedFd,
    pending: Mutex<Vec<u64>>,
    signalled: AtomicBool,
    subscriptions: Mutex<HashMap<(u64, u64), Subscription>>,
    isolated: bool,
    /// [`LOADING`], [`STARTING`] or [`RUNNING`].
    phase: AtomicU8,
    /// ms since [`Instance::started`] when the call under way began, 0: none.
    calling: AtomicU64,
    started: Instant,
    failed: Mutex<Option<String>>,
    /// Counters it has sent for `/metrics`.
    pub counters: Mutex<BTreeMap<String, u64>>,
    /// Wakes that were signalled.
    pub wakes: AtomicU64,
    child: std::sync::OnceLock<Arc<Child>>,
    failure: OnFailure,
}

/// Why a plugin does not start; one line, without its name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its library is not loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It does not load in a process for nothing else either.
    #[error("its library is not loaded: {0}")]
    Trial(String),
    /// The system refused a descriptor or thread.
    #[error("the system refuses what it needs: {0}")]
    System(#[from] std::io::Error),
    /// Its process could not be started.
    #[error("{0}")]
    Process(String),
    /// `start` failed.
    #[error("it refuses to start ({0}): see its lines in the log")]
    Start(Code),
}

/// What a caller is told when an open or command failed inside the plugin.
pub type OnFailure = Arc<dyn Fn(u64, Code) + Send + Sync>;

impl Instance {
    #[allow(clippy::too_many_arguments)] // what a start takes
    /// Starts the plugin of `entry` on a thread of its own, which loads it: returns before that. What is opened meanwhile
    /// waits; the app hears how it went. `failure` hears of sessions whose `open` failed.
    ///
    /// # Errors
    /// The system refuses a descriptor or thread.
    pub fn start(
        entry: &Entry,
        ctx: u64,
        host: HostTableRef,
        settings: String,
        threads: u32,
        log_level: u32,
        copies: &Path,
        failure: OnFailure,
        isolated: Option<Isolated>,
    ) -> Result<Arc<Self>, StartError> {
        let name = &entry.manifest.name;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| StartError::System(error.into()))?;
        let (calls, queue) = mpsc::channel();
        let instance = Arc::new(Self {
            ctx,
            manifest: entry.manifest.clone(),
            isolated: isolated.is_some(),
            calls,
            wake,
            pending: Mutex::default(),
            signalled: AtomicBool::new(false),
            subscriptions: Mutex::default(),
            phase: AtomicU8::new(LOADING),
            calling: AtomicU64::new(0),
            started: Instant::now(),
            failed: Mutex::new(None),
            counters: Mutex::default(),
            wakes: AtomicU64::new(0),
            child: std::sync::OnceLock::new(),
            failure,
        });
        let thread = thread::Builder::new().name(format!("call {name}"));
        crate::bridge::register(&instance);
        let weak = Arc::downgrade(&instance);
        let spawned = if let Some(isolated) = isolated {
            let hello = Hello {
                wire: VERSION,
                abi: patchbay_plugin_api::version::ABI.to_owned(),
                path: entry.path.display().to_string(),
                copies: copies.display().to_string(),
                name: name.clone(),
                threads,
                log_level,
                settings,
                state: isolated.state,
                memory: isolated.memory,
                grants: isolated.grants,
            };
            let log = isolated.log;
            thread.spawn(move || calls::run_process(&weak, hello, &log, &queue))
        } else {
            let library = Library {
                path: entry.path.clone(),
                trusted: entry.shipped,
                manifest: entry.manifest.clone(),
                copies: copies.to_owned(),
                wake_fd: instance.wake.as_raw_fd(),
                ctx,
                threads,
                log_level,
                host,
                settings,
            };
            thread.spawn(move || calls::run_here(&weak, &library, &queue))
        };
        if let Err(error) = spawned {
            crate::bridge::forget(ctx);
            return Err(error.into());
        }
        Ok(instance)
    }

    /// Whether it has not started yet.
    pub fn is_starting(&self) -> bool {
        self.phase.load(Ordering::Relaxed) != RUNNING
    }

    /// Bytes that went to its process over the socket, and that came from it; none when it has no process.
    pub fn socket_bytes(&self) -> Option<[(&'static str, u64); 2]> {
        let (sent, received) = self.child.get()?.socket_bytes();
        Some([("to", sent), ("from", received)])
    }

    /// Its process, when it has one of its own.
    pub fn pid(&self) -> Option<u32> {
        self.child.get().map(|child| child.pid)
    }

    /// How long its process had been of no use when it ended.
    pub fn silence(&self) -> Duration {
        self.child.get().map(|child| child.silence()).unwrap_or_default()
    }

    /// What holds its process.
    pub fn in_force(&self) -> Option<&InForce> {
        self.child.get().and_then(|child| child.in_force())
    }

    /// Whether it runs in a process of its own.
    pub fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// It is of no more use.
    pub(crate) fn set_failed(&self, why: String) {
        self.failed.lock().get_or_insert(why);
    }

    /// Its `open` or a command failed inside it.
    pub(crate) fn open_failed(&self, session: u64, code: Code) {
        (self.failure)(session, code);
    }

    /// It may read `source` from what is sent to it next on; nothing to do in this process.
    pub(crate) fn show(&self, source: &Arc<Source>) {
        if self.is_isolated() {
            let _ = self.calls.send(Call::Show(Arc::clone(source)));
        }
    }

    /// Its process lacks a description.
    pub(crate) fn describe(&self, source: u64) {
        let _ = self.calls.send(Call::Describe(source));
    }

    /// Arms a wake for its process, or wakes it at once.
    pub(crate) fn arm_child(self: &Arc<Self>, source: u64, mask: u64, cursor: u64) {
        match crate::bridge::app().and_then(|app| app.source(source)) {
            Some(found) if self.arm(source, mask, cursor, &found.handle) => {}
            Some(_) => self.signal(source),
            None => drop(self.calls.send(Call::Gone(source))),
        }
    }

    /// Looks whether its process lives, and asks it with `ping`. `late`: the host itself was.
    pub(crate) fn supervise(&self, late: bool, ping: bool) {
        if let Some(child) = self.child.get()
            && self.failure().is_none()
        {
            child.check(late);
            if ping {
                let _ = self.calls.send(Call::Ping);
            }
        }
    }

    /// Opens a session of `role`.
    pub fn open(&self, session: u64, role: u32, request: &impl Serialize) {
        let request = serde_json::to_vec(request).unwrap_or_default();
        let _ = self.calls.send(Call::Open { session, role, request });
    }

    /// Sends a command with a JSON payload.
    pub fn command(&self, session: u64, kind: u32, payload: &impl Serialize) {
        let payload = Bytes::from(serde_json::to_vec(payload).unwrap_or_default());
        self.command_bytes(session, kind, payload);
    }

    /// Sends a command with a payload of bytes.
    pub fn command_bytes(&self, session: u64, kind: u32, payload: Bytes) {
        let _ = self.calls.send(Call::Command { session, kind, payload });
    }

    /// Hands a client's connection over to a route's session.
    pub fn hand_over(&self, session: u64, descriptor: OwnedFd) {
        let _ = self.calls.send(Call::Raw { session, descriptor });
    }

    /// Ends a session.
    pub fn close(&self, session: u64) {
        let _ = self.calls.send(Call::Close { session });
    }

    /// Ends the plugin; waits up to [`CALL_LIMIT`].
    pub fn stop(&self) {
        let (done, wait) = mpsc::channel();
        if self.calls.send(Call::Stop { done }).is_ok() {
            let _ = wait.recv_timeout(CALL_LIMIT);
        }
    }

    /// Why it is of no more use.
    pub fn failure(&self) -> Option<String> {
        self.failed.lock().clone()
    }

    /// Marks it failed when a call has not returned in time; true the first time. `late`: the host itself was, and cannot
    /// tell. A process is watched by its answers.
    pub fn check(&self, late: bool) -> bool {
        if self.is_isolated() {
            return false;
        }
        let now = self.started.elapsed().as_millis() as u64 + 1;
        if late {
            let anew = |began| (began > 0).then_some(now);
            self.calling.fetch_update(Ordering::Relaxed, Ordering::Relaxed, anew).ok();
        }
        let (began, phase) = (self.calling.load(Ordering::Relaxed), self.phase.load(Ordering::Relaxed));
        let limit = if phase == RUNNING { CALL_LIMIT } else { LOAD_LIMIT };
        if began == 0 || now.saturating_sub(began) < limit.as_millis() as u64 {
            return false;
        }
        let mut failed = self.failed.lock();
        if failed.is_some() {
            return false;
        }
        let what = match phase {
            LOADING => "its library has not loaded for 5 s",
            STARTING => "it refuses to start: it has not returned for 5 s",
            _ => "a call into it has not returned for 1 s",
        };
        *failed = Some(format!("{what}: restart Patchbay, or switch the plugin off"));
        true
    }

    /// Arms a wake for units of `mask` at or after `cursor`; false: there are some already.
    pub(crate) fn arm(
        self: &Arc<Self>,
        source: u64,
        mask: u64,
        cursor: u64,
        handle: &Arc<RingHandle>,
    ) -> bool {
        let mut subscriptions = self.subscriptions.lock();
        let subscription = subscriptions.entry((source, mask)).or_insert_with(|| {
            handle.subscribe(Arc::new(SourceWake { instance: Arc::downgrade(self), source }))
        });
        subscription.arm(mask, cursor)
    }

    /// A source is gone: wake whoever waits for it, so that the next read says so.
    pub(crate) fn source_gone(&self, source: u64) {
        self.subscriptions.lock().retain(|(id, _), _| *id != source);
        if self.is_isolated() {
            let _ = self.calls.send(Call::Gone(source));
            return;
        }
        self.signal(source);
    }

    fn signal(&self, source: u64) {
        {
            let mut pending = self.pending.lock();
            if !pending.contains(&source) {
                pending.push(source);
            }
        }
        if self.signalled.swap(true, Ordering::AcqRel) {
            return;
        }
        self.wakes.fetch_add(1, Ordering::Relaxed);
        if self.is_isolated() {
            let _ = self.calls.send(Call::Wake);
        } else {
            // Full (impossible with one unread signal) or not: it is readable.
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    /// Takes sources with something new.
    pub(crate) fn take_pending(&self, out: &mut [u64]) -> usize {
        let mut pending = self.pending.lock();
        let n = pending.len().min(out.len());
        for (slot, source) in out.iter_mut().zip(pending.drain(..n)) {
            *slot = source;
        }
        if pending.is_empty() {
            self.signalled.store(false, Ordering::Release);
        }
        n
    }
}

struct SourceWake {
    instance: Weak<Instance>,
    source: u64,
}

impl Wake for SourceWake {
    fn wake(&self) {
        if let Some(instance) = self.instance.upgrade() {
            instance.signal(self.source);
        }
    }
}
