//! The one thread that calls a plugin: it loads it, or starts its process, and then does what is queued.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use patchbay_plugin_api::abi::{HostTableRef, Slice, StartInfo};
use patchbay_plugin_api::{Code, Manifest, Plugin};

use super::{CALL_LIMIT, Instance, LOAD_LIMIT, LOADING, RUNNING, STARTING, StartError};
use crate::bridge;
use crate::child::{self, Child, Shown};
use crate::loader;
use crate::log::LogHandle;
use crate::runner;
use crate::source::Source;
use crate::wire::{Hello, Message, kind};

/// What the host's thread does for a plugin.
pub(super) enum Call {
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
    /// A client's connection for a route.
    Raw {
        session: u64,
        descriptor: OwnedFd,
    },
    Close {
        session: u64,
    },
    Stop {
        done: mpsc::Sender<()>,
    },
    /// For a process: it may read this source from now on.
    Show(Arc<Source>),
    /// For a process: there is something new of the sources that are pending.
    Wake,
    /// For a process: it lacks a description of this source.
    Describe(u64),
    /// For a process: this source is over.
    Gone(u64),
    /// Is it there?
    Ping,
}

/// Between two looks at a trial.
const TRIAL_BEAT: Duration = Duration::from_millis(5);

/// Bytes that are read of what a trial says.
const MAX_SAID: u64 = 4096;

/// What is loaded into this process, and what its `start` is told.
pub(super) struct Library {
    pub(super) path: PathBuf,
    /// Shipped with the server: loaded without a trial.
    pub(super) trusted: bool,
    pub(super) manifest: Manifest,
    pub(super) copies: PathBuf,
    pub(super) wake_fd: i32,
    pub(super) ctx: u64,
    pub(super) threads: u32,
    pub(super) log_level: u32,
    pub(super) host: HostTableRef,
    pub(super) settings: String,
}

impl Library {
    fn start(&self, plugin: &Plugin) -> Code {
        let (abi_major, abi_minor) = patchbay_plugin_api::version::numbers();
        let info = StartInfo {
            size: size_of::<StartInfo>() as u32,
            wake_fd: self.wake_fd,
            ctx: self.ctx,
            threads: self.threads,
            log_level: self.log_level,
            config: Slice::new(self.settings.as_bytes()),
            abi_major,
            abi_minor,
        };
        plugin.start(self.host, &info)
    }
}

/// Loads, starts and calls a plugin in this process.
pub(super) fn run_here(instance: &Weak<Instance>, library: &Library, queue: &mpsc::Receiver<Call>) {
    let tried = if library.trusted { Ok(()) } else { try_elsewhere(library) };
    begin(instance, LOADING);
    let started = tried
        .and_then(|()| Ok(loader::load(&library.path, &library.manifest, &library.copies)?))
        .and_then(|plugin| {
            begin(instance, STARTING);
            match library.start(&plugin) {
                Code::Ok => Ok(plugin),
                code => Err(StartError::Start(code)),
            }
        });
    match started {
        // One that took too long has failed by now, and stays so.
        Ok(plugin) if tell(instance, Ok(())) => serve(instance, &plugin, queue),
        Ok(_) => refuse(instance, queue),
        Err(error) => {
            tell(instance, Err(&error));
            refuse(instance, queue);
        }
    }
}

/// Loads a library in a process for nothing else, which shows whether its constructors return: one that blocks here
/// holds the dynamic linker's lock, and with it every thread that needs the linker.
fn try_elsewhere(library: &Library) -> Result<(), StartError> {
    let mut trial = std::process::Command::new("/proc/self/exe")
        .args(["runner", runner::TRIAL])
        .arg(&library.path)
        .arg(&library.copies)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let end = Instant::now() + LOAD_LIMIT;
    let status = loop {
        match trial.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() > end => break None,
            None => thread::sleep(TRIAL_BEAT),
        }
    };
    let Some(status) = status else {
        let _ = trial.kill();
        let _ = trial.wait();
        return Err(StartError::Trial(format!("it has not loaded within {} s", LOAD_LIMIT.as_secs())));
    };
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    if let Some(errors) = trial.stderr.take() {
        let _ = errors.take(MAX_SAID).read_to_end(&mut said);
    }
    let said = String::from_utf8_lossy(&said);
    let why = said.lines().next_back().unwrap_or_default().trim().to_owned();
    Err(StartError::Trial(if why.is_empty() { format!("it ended the process ({status})") } else { why }))
}

/// Starts a plugin's process and writes to it. The process dies with this thread, which ends with the instance.
pub(super) fn run_process(
    instance: &Weak<Instance>,
    hello: Hello,
    log: &LogHandle,
    queue: &mpsc::Receiver<Call>,
) {
    let name = hello.name.clone();
    let started = Child::start(hello, log).map_err(StartError::Process).and_then(|(child, reader)| {
        if let Some(instance) = instance.upgrade() {
            let _ = instance.child.set(Arc::clone(&child));
        }
        let listener = (instance.clone(), Arc::clone(&child));
        let hears = thread::Builder::new().name(format!("hear {name}"));
        hears.spawn(move || child::listen(&listener.0, &listener.1, reader))?;
        Ok(child)
    });
    match started {
        Ok(child) => {
            tell(instance, Ok(()));
            serve_child(instance, &child, queue);
        }
        Err(error) => {
            tell(instance, Err(&error));
            refuse(instance, queue);
        }
    }
}

/// Another phase begins, and with it another limit.
fn begin(instance: &Weak<Instance>, phase: u8) {
    if let Some(instance) = instance.upgrade() {
        instance.calling.store(instance.started.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
        instance.phase.store(phase, Ordering::Relaxed);
    }
}

/// Tells the app how the start went; whether the plugin is of use.
fn tell(instance: &Weak<Instance>, outcome: Result<(), &StartError>) -> bool {
    let (Some(instance), Some(app)) = (instance.upgrade(), bridge::app()) else { return false };
    if instance.failure().is_some() {
        return false;
    }
    instance.phase.store(RUNNING, Ordering::Relaxed);
    instance.calling.store(0, Ordering::Relaxed);
    match outcome {
        Ok(()) => app.plugin_started(&instance),
        Err(error) => {
            instance.set_failed(error.to_string());
            app.died(&instance);
        }
    }
    outcome.is_ok()
}

/// Ends what is opened on a plugin that is of no use, until nobody holds it.
fn refuse(instance: &Weak<Instance>, queue: &mpsc::Receiver<Call>) {
    while let Ok(call) = queue.recv() {
        match call {
            Call::Open { session, .. } => {
                if let (Some(instance), Some(app)) = (instance.upgrade(), bridge::app()) {
                    app.refuse(&instance, session);
                }
            }
            Call::Stop { done } => {
                let _ = done.send(());
                return;
            }
            _ => {}
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
            Call::Raw { session, descriptor } => {
                let code = runner::hand_over(plugin, session, &descriptor);
                if code != Code::Ok {
                    instance.open_failed(session, code);
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
            Call::Show(_) | Call::Wake | Call::Describe(_) | Call::Gone(_) | Call::Ping => {}
        }
        instance.calling.store(0, Ordering::Relaxed);
    }
}

/// A process is woken at once so often in a second; beyond that [`WAKE_EVERY`] lies before each wake.
const WAKES_AT_ONCE: u32 = 200;

/// Between two wakes of a process for whom there is much.
const WAKE_EVERY: Duration = Duration::from_micros(500);

/// Sources that one write tells of.
const WAKES: usize = 512;

/// How often a process was woken in this second.
struct Pace {
    since: Instant,
    wakes: u32,
}

impl Pace {
    fn is_often(&mut self) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            *self = Self { since: Instant::now(), wakes: 0 };
        }
        self.wakes += 1;
        self.wakes > WAKES_AT_ONCE
    }
}

/// Tells a process of all sources with something new, in one write.
fn wake(instance: &Weak<Instance>, child: &Child, shown: &mut Shown) -> std::io::Result<()> {
    let Some(instance) = instance.upgrade() else { return Ok(()) };
    loop {
        let mut sources = [0; WAKES];
        let told = instance.take_pending(&mut sources);
        let sources = sources.get(..told).unwrap_or_default();
        for source in sources {
            shown.refresh(child, *source)?;
        }
        child.send_wakes(sources)?;
        if told < WAKES {
            return Ok(());
        }
    }
}

/// [`serve`] for a process: calls become frames. A write that blocks ends when the child is killed for its silence.
fn serve_child(instance: &Weak<Instance>, child: &Child, queue: &mpsc::Receiver<Call>) {
    let mut shown = Shown::default();
    let mut pace = Pace { since: Instant::now(), wakes: 0 };
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
            Call::Raw { session, descriptor } => {
                child.send_with(&Message { kind: kind::RAW, id: session, ..Message::default() }, &descriptor)
            }
            Call::Close { session } => {
                child.send(&Message { kind: kind::CLOSE, id: session, ..Message::default() })
            }
            Call::Stop { done } => {
                child.stop(CALL_LIMIT);
                let _ = done.send(());
                return;
            }
            Call::Show(source) => shown.show(child, &source),
            Call::Wake => {
                // Those that come meanwhile are told with this one.
                if pace.is_often() {
                    thread::sleep(WAKE_EVERY);
                }
                wake(instance, child, &mut shown)
            }
            Call::Describe(source) => shown.refresh(child, source),
            Call::Gone(source) => shown.gone(child, source),
            Call::Ping => child.ping(),
        };
        if sent.is_err() {
            // It has ended; who hears it tells how.
            return refuse(instance, queue);
        }
    }
}
