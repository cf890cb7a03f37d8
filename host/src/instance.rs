//! A started plugin: the one thread that calls it, its wakes, its state. It runs in this process or in one of its own.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use patchbay_plugin_api::abi::{HostTableRef, Slice, StartInfo};
use patchbay_plugin_api::{Code, Manifest, Plugin};
use patchbay_ring::{RingHandle, Subscription, Wake};
use rustix::event::{EventfdFlags, eventfd};
use serde::Serialize;

use crate::catalogue::Entry;
use crate::child::{self, Child, Shown};
use crate::loader::{self, LoadError};
use crate::log::LogHandle;
use crate::sandbox::{Grants, InForce};
use crate::source::Source;
use crate::wire::{Hello, Message, VERSION, kind};

/// A call that takes longer has failed the plugin.
pub const CALL_LIMIT: Duration = Duration::from_secs(1);

/// What the host's thread does for a plugin.
enum Call {
    Open {
        session: u64,
        role: u32,
        request: Vec<u8>,
    },
    Command {
        session: u64,
        kind: u32,
        payload: Bytes,
    },
    Close {
        session: u64,
    },
    Stop {
        done: mpsc::Sender<()>,
    },
    /// For a process: it may read this source from now on.
    Show(Arc<Source>),
    /// For a process: there is something new of this source.
    Wake(u64),
    /// For a process: it lacks a description of this source.
    Describe(u64),
    /// For a process: this source is over.
    Gone(u64),
    /// Is it there?
    Ping,
}

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

/// Why a plugin does not start; one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its library is not loaded.
    #[error("plugin {name}: {source}")]
    Load {
        /// Its name.
        name: String,
        /// Why.
        source: LoadError,
    },
    /// The system refused a descriptor or thread.
    #[error("plugin {name}: {source}")]
    System {
        /// Its name.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// `start` has not returned in time.
    #[error(
        "plugin {name} refuses to start: it has not returned for 1 s: restart Patchbay, or switch the plugin off"
    )]
    Hangs {
        /// Its name.
        name: String,
    },
    /// Its process could not be started.
    #[error("{0}")]
    Process(String),
    /// `start` failed.
    #[error("plugin {name} refuses to start ({code}): see its lines in the log")]
    Start {
        /// Its name.
        name: String,
        /// What it returned.
        code: Code,
    },
}

/// What `start` is told.
struct Start {
    wake_fd: i32,
    ctx: u64,
    threads: u32,
    log_level: u32,
    host: HostTableRef,
    settings: String,
}

impl Start {
    fn call(&self, plugin: &Plugin) -> Code {
        let info = StartInfo {
            size: size_of::<StartInfo>() as u32,
            wake_fd: self.wake_fd,
            ctx: self.ctx,
            threads: self.threads,
            log_level: self.log_level,
            config: Slice::new(self.settings.as_bytes()),
        };
        plugin.start(self.host, &info)
    }
}

/// What a caller is told when an open or command failed inside the plugin.
pub type OnFailure = Arc<dyn Fn(u64, Code) + Send + Sync>;

impl Instance {
    #[allow(clippy::too_many_arguments)] // what a start takes
    /// Loads and starts the plugin of `entry`. `failure` hears of sessions whose `open` failed.
    pub fn start(
        entry: &Entry,
        ctx: u64,
        host: HostTableRef,
        settings: &str,
        threads: u32,
        log_level: u32,
        copies: &Path,
        failure: OnFailure,
        isolated: Option<Isolated>,
    ) -> Result<Arc<Self>, StartError> {
        let name = entry.manifest.name.clone();
        let system = |source: std::io::Error| StartError::System { name: name.clone(), source };
        let wake =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| system(e.into()))?;
        let (calls, queue) = mpsc::channel();
        let instance = Arc::new(Self {
            ctx,
            manifest: entry.manifest.clone(),
            calls,
            wake,
            pending: Mutex::default(),
            signalled: AtomicBool::new(false),
            subscriptions: Mutex::default(),
            calling: AtomicU64::new(0),
            started: Instant::now(),
            failed: Mutex::new(None),
            counters: Mutex::default(),
            wakes: AtomicU64::new(0),
            child: std::sync::OnceLock::new(),
            failure,
        });
        let path = entry.path.display().to_string();
        let thread = thread::Builder::new().name(format!("call {name}"));
        let (answer, started) = mpsc::channel();
        if let Some(isolated) = isolated {
            let hello = Hello {
                wire: VERSION,
                path,
                copies: copies.display().to_string(),
                name: name.clone(),
                threads,
                log_level,
                settings: settings.to_owned(),
                state: isolated.state,
                memory: isolated.memory,
                grants: isolated.grants,
            };
            crate::bridge::register(&instance);
            let weak = Arc::downgrade(&instance);
            let hears = format!("hear {name}");
            // The child dies with this thread, which ends with the instance.
            thread
                .spawn(move || match Child::start(hello, &isolated.log) {
                    Ok((child, reader)) => {
                        if let Some(instance) = weak.upgrade() {
                            let _ = instance.child.set(Arc::clone(&child));
                        }
                        let listener = (weak.clone(), Arc::clone(&child));
                        let heard = thread::Builder::new()
                            .name(hears)
                            .spawn(move || child::listen(&listener.0, &listener.1, reader));
                        let _ = answer.send(heard.map(drop).map_err(|error| error.to_string()));
                        serve_child(&weak, &child, &queue);
                    }
                    Err(reason) => drop(answer.send(Err(reason))),
                })
                .map_err(system)?;
            let outcome = started.recv().unwrap_or_else(|_| Err(format!("plugin {name}: its thread ended")));
            return match outcome {
                Ok(()) => Ok(instance),
                Err(reason) => {
                    crate::bridge::forget(ctx);
                    Err(StartError::Process(reason))
                }
            };
        }
        let plugin = loader::load(&entry.path, &entry.manifest, copies)
            .map_err(|source| StartError::Load { name: name.clone(), source })?;
        let start = Start {
            wake_fd: instance.wake.as_raw_fd(),
            ctx,
            threads,
            log_level,
            host,
            settings: settings.to_owned(),
        };
        crate::bridge::register(&instance);
        let (answer, code) = mpsc::channel();
        let weak = Arc::downgrade(&instance);
        thread
            .spawn(move || {
                let code = start.call(&plugin);
                if answer.send(code).is_ok() && code == Code::Ok {
                    serve(&weak, &plugin, &queue);
                }
            })
            .map_err(system)?;
        // On the plugin's own thread, so that one that blocks here holds nobody.
        match code.recv_timeout(CALL_LIMIT) {
            Ok(Code::Ok) => {}
            Ok(code) => return Err(StartError::Start { name, code }),
            Err(_) => return Err(StartError::Hangs { name }),
        }
        Ok(instance)
    }

    /// Its process, when it has one of its own.
    pub fn pid(&self) -> Option<u32> {
        self.child.get().map(|child| child.pid)
    }

    /// What holds its process.
    pub fn in_force(&self) -> Option<&InForce> {
        self.child.get().and_then(|child| child.in_force())
    }

    /// Whether it runs in a process of its own.
    pub fn is_isolated(&self) -> bool {
        self.child.get().is_some()
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

    /// Looks whether its process lives, every half second. `late`: the host itself was.
    pub(crate) fn supervise(&self, late: bool) {
        if let Some(child) = self.child.get()
            && self.failure().is_none()
        {
            child.check(late);
            let _ = self.calls.send(Call::Ping);
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

    /// Marks it failed when a call has not returned in time; true the first time. A process is watched by its answers.
    pub fn check(&self) -> bool {
        if self.is_isolated() {
            return false;
        }
        let began = self.calling.load(Ordering::Relaxed);
        let now = self.started.elapsed().as_millis() as u64 + 1;
        if began == 0 || now.saturating_sub(began) < CALL_LIMIT.as_millis() as u64 {
            return false;
        }
        let mut failed = self.failed.lock();
        if failed.is_some() {
            return false;
        }
        *failed = Some(
            "a call into it has not returned for 1 s: restart Patchbay, or switch the plugin off".to_owned(),
        );
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
            if pending.contains(&source) {
                if self.is_isolated() {
                    return;
                }
            } else {
                pending.push(source);
            }
        }
        if self.is_isolated() {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            let _ = self.calls.send(Call::Wake(source));
            return;
        }
        if !self.signalled.swap(true, Ordering::AcqRel) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
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

fn serve(instance: &Weak<Instance>, plugin: &Plugin, queue: &mpsc::Receiver<Call>) {
    while let Ok(call) = queue.recv() {
        let Some(instance) = instance.upgrade() else { return };
        let now = instance.started.elapsed().as_millis() as u64 + 1;
        instance.calling.store(now, Ordering::Relaxed);
        match call {
            Call::Open { session, role, request } => {
                let code = plugin.open(session, role, &request);
                if code != Code::Ok {
                    instance.open_failed(session, code);
                }
            }
            Call::Command { session, kind, payload } => {
                if plugin.command(session, kind, &payload) == Code::Panicked {
                    instance.open_failed(session, Code::Panicked);
                }
            }
            Call::Close { session } => {
                plugin.close(session);
            }
            Call::Stop { done } => {
                plugin.stop();
                let _ = done.send(());
                return;
            }
            Call::Show(_) | Call::Wake(_) | Call::Describe(_) | Call::Gone(_) | Call::Ping => {}
        }
        instance.calling.store(0, Ordering::Relaxed);
    }
}

/// [`serve`] for a process: calls become frames. A write that blocks ends when the child is killed for its silence.
fn serve_child(instance: &Weak<Instance>, child: &Child, queue: &mpsc::Receiver<Call>) {
    let mut shown = Shown::default();
    // Its first answer tells that later silence means something.
    let _ = child.ping();
    while let Ok(call) = queue.recv() {
        let sent = match call {
            Call::Open { session, role, request } => child.send(&Message {
                kind: kind::OPEN,
                id: session,
                x: role.into(),
                payload: request,
                ..Message::default()
            }),
            Call::Command { session, kind, payload } => child.send(&Message {
                kind: crate::wire::kind::COMMAND,
                id: session,
                x: kind.into(),
                payload: payload.to_vec(),
                ..Message::default()
            }),
            Call::Close { session } => {
                child.send(&Message { kind: kind::CLOSE, id: session, ..Message::default() })
            }
            Call::Stop { done } => {
                child.stop(CALL_LIMIT);
                let _ = done.send(());
                return;
            }
            Call::Show(source) => shown.show(child, &source),
            Call::Wake(source) => {
                if let Some(instance) = instance.upgrade() {
                    instance.pending.lock().retain(|id| *id != source);
                }
                shown.refresh(child, source).and_then(|()| {
                    child.send(&Message { kind: kind::WAKE, id: source, ..Message::default() })
                })
            }
            Call::Describe(source) => shown.refresh(child, source),
            Call::Gone(source) => shown.gone(child, source),
            Call::Ping => child.ping(),
        };
        if sent.is_err() {
            // It has ended; who hears it tells how.
            return;
        }
    }
}
