//! The child's side of `isolation: process`: loads one library and speaks for it over the socket that is its standard input.
//!
//! Calls of the plugin become frames; reads are answered from rings that are mapped read-only here. One thread calls the
//! plugin, as in the host; one reads the socket.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsString};
use std::io::{self, BufReader};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use parking_lot::{Condvar, Mutex, RwLock};
use patchbay_plugin_api::abi::{Slice, StartInfo};
use patchbay_plugin_api::entry::host_table;
use patchbay_plugin_api::manifest::program_name;
use patchbay_plugin_api::message::{Raw, command};
use patchbay_plugin_api::panic::{self, Threads};
use patchbay_plugin_api::{Code, Manifest, Plugin};
use patchbay_ring::Mapped;
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, Rlimit, Signal};

use crate::child::shown_name;
use crate::loader::Copy;
use crate::sandbox::{self, Capability, InForce};
use crate::wire::{self, Hello, Message, kind};

mod table;

/// Sources that are over and still mapped for readers that lag behind.
const MAX_GONE: usize = 64;

/// Environment variable with the number of the descriptor by which a program reaches the host.
const SOCKET: &str = "PATCHBAY_SOCKET";

/// Descriptors that a plugin may have open.
const MAX_DESCRIPTORS: u64 = 4096;

static RUNNER: OnceLock<Runner> = OnceLock::new();

/// One ring of the host.
struct Source {
    memory: Arc<Mapped>,
    gone: bool,
}

struct Runner {
    out: Mutex<UnixStream>,
    sources: RwLock<HashMap<u64, Source>>,
    configs: Mutex<HashMap<(u64, u64, u64), Vec<u8>>>,
    news: Condvar,
    state: Mutex<BTreeMap<String, Vec<u8>>>,
    wake: OwnedFd,
    pending: Mutex<Vec<u64>>,
    signalled: AtomicBool,
}

/// First argument of a process that only loads a library, named by the second through a copy in the third, and ends.
pub const TRIAL: &str = "load";

/// Runs until the host closes the socket or says stop; or, told to, loads a library once.
pub fn main(arguments: &[OsString]) -> ExitCode {
    if let [word, library, copies] = arguments
        && word == TRIAL
    {
        return match trial(Path::new(library), Path::new(copies)) {
            // What the library has started is not waited for.
            Ok(()) => std::process::exit(0),
            Err(error) => {
                eprintln_line(&error);
                ExitCode::FAILURE
            }
        };
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => ExitCode::SUCCESS,
        Err(error) => {
            tracing::debug!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn trial(library: &Path, copies: &Path) -> Result<(), String> {
    let ready = rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .and_then(|()| rustix::thread::set_no_new_privs(true));
    ready.map_err(|error| error.to_string())?;
    let manifest = Manifest::read(library).map_err(|error| error.to_string())?;
    let copy = Copy::new(library, &manifest, copies).map_err(|error| error.to_string())?;
    copy.without_name().load().map(drop).map_err(|error| error.to_string())
}

fn run() -> io::Result<()> {
    panic::report(Threads::All, eprintln_line);
    // The socket leaves the place where a plugin may look for a terminal, and no program that a plugin starts inherits it.
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    let socket = UnixStream::from(socket);
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let stream = wire::Stream::new(socket.try_clone()?);
    let descriptors = stream.descriptors();
    let mut reader = wire::Reader::new(BufReader::with_capacity(64 << 10, stream));
    let first = reader.message()?;
    let hello: Hello = serde_json::from_slice(&first.payload)?;
    if first.kind != kind::HELLO || hello.wire != wire::VERSION {
        return Err(io::Error::other("the host speaks another version of the frames"));
    }
    // The program is the host's own, of which `ps` would know no more than the link it was started by.
    if let Ok(name) = CString::new(shown_name(&hello.name)) {
        rustix::thread::set_name(&name)?;
    }
    restrict(&hello)?;
    if program_name(Path::new(&hello.path)).is_some() {
        let payload = become_program(&socket, &hello).into_bytes();
        let refused = Message { kind: kind::READY, x: raw(Code::Invalid), payload, ..Message::default() };
        return wire::send(&socket, &refused);
    }
    let runner = Runner {
        out: Mutex::new(socket),
        sources: RwLock::default(),
        configs: Mutex::default(),
        news: Condvar::new(),
        state: Mutex::new(hello.state.clone()),
        wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        pending: Mutex::default(),
        signalled: AtomicBool::new(false),
    };
    let runner = RUNNER.get_or_init(|| runner);
    let plugin = match prepare(runner, &hello).and_then(|copy| start(runner, &hello, copy)) {
        Ok((plugin, code)) => {
            runner.send(&Message { kind: kind::READY, x: raw(code), ..Message::default() })?;
            if code != Code::Ok {
                return Ok(());
            }
            plugin
        }
        Err(reason) => {
            let payload = reason.into_bytes();
            return runner.send(&Message {
                kind: kind::READY,
                x: raw(Code::Invalid),
                payload,
                ..Message::default()
            });
        }
    };
    let (calls, queue) = mpsc::channel();
    thread::Builder::new().name("socket".to_owned()).spawn(move || {
        while let Ok(message) = reader.message() {
            runner.take(message, &descriptors, &calls);
        }
        // The host has gone, or closed the socket: nothing is left to do, whatever the plugin is at.
        std::process::exit(0);
    })?;
    while let Ok((message, descriptor)) = queue.recv() {
        match message.kind {
            kind::OPEN => {
                let code = plugin.open(message.id, message.x as u32, &message.payload);
                if code != Code::Ok {
                    runner.send(&Message {
                        kind: kind::FAILED,
                        id: message.id,
                        x: raw(code),
                        ..Message::default()
                    })?;
                }
            }
            kind::COMMAND => {
                let code = plugin.command(message.id, message.x as u32, &message.payload);
                let x = raw(code);
                let failed = Message { kind: kind::FAILED, id: message.id, x, ..Message::default() };
                if code == Code::Panicked {
                    runner.send(&failed)?;
                }
            }
            kind::RAW => {
                if let Some(descriptor) = descriptor {
                    hand_over(&plugin, message.id, &descriptor);
                }
            }
            kind::CLOSE => drop(plugin.close(message.id)),
            kind::PING => runner.send(&Message { kind: kind::PONG, id: message.id, ..Message::default() })?,
            kind::STOP => {
                plugin.stop();
                return Ok(());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Gives a plugin a client's connection; it has its own descriptor of it when this returns.
pub(crate) fn hand_over(plugin: &Plugin, session: u64, descriptor: &OwnedFd) -> Code {
    let raw = Raw { fd: descriptor.as_raw_fd() };
    plugin.command(session, command::RAW, &serde_json::to_vec(&raw).unwrap_or_default())
}

/// A code on the wire.
fn raw(code: Code) -> u64 {
    u64::from((code as i32).cast_unsigned())
}

/// What the child may have, before a line of the plugin's code runs.
fn restrict(hello: &Hello) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let limit = |resource, value: u64| {
        let old = rustix::process::getrlimit(resource);
        let value = old.maximum.map_or(value, |most| most.min(value));
        rustix::process::setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
    };
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, MAX_DESCRIPTORS)?;
    if hello.memory > 0 {
        // Not the address space: that counts the rings of others.
        limit(Resource::Data, hello.memory)?;
    }
    Ok(())
}

/// Copies the library, then gives up what the plugin does not get and tells the host what is in force.
fn prepare(runner: &'static Runner, hello: &Hello) -> Result<Copy, String> {
    let path = Path::new(&hello.path);
    let manifest = Manifest::read(path).map_err(|error| error.to_string())?;
    if manifest.name != hello.name {
        return Err(format!("the file is now the plugin {}", manifest.name));
    }
    let copy = Copy::new(path, &manifest, Path::new(&hello.copies)).map_err(|error| error.to_string())?;
    let copy = copy.without_name();
    let grants = &hello.grants;
    let (landlock, why) = match sandbox::landlock::restrict(grants, copy.file()) {
        Ok(version) => (version, String::new()),
        Err(why) => (0, why),
    };
    runner.send(&in_force(hello, landlock, why)).map_err(|error| error.to_string())?;
    Ok(copy)
}

/// Runs the program of a plugin in this process, with the socket. Why it could not be run.
fn become_program(socket: &UnixStream, hello: &Hello) -> String {
    let path = Path::new(&hello.path);
    let (landlock, why) = match sandbox::landlock::restrict_program(&hello.grants, path) {
        Ok(version) => (version, String::new()),
        Err(why) => (0, why),
    };
    let ready = wire::send(socket, &in_force(hello, landlock, why))
        .and_then(|()| wire::send(socket, &Message { kind: kind::AGAIN, ..Message::default() }))
        .and_then(|()| Ok(rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?));
    match ready {
        Ok(()) => {
            let descriptor = socket.as_raw_fd().to_string();
            let mut program = std::process::Command::new(path);
            program.env(SOCKET, descriptor);
            if landlock > 0
                && !hello.grants.has(Capability::Exec)
                && let Some(folders) = std::env::var_os("PATH")
            {
                program.env("PATH", sandbox::landlock::reachable(&folders));
            }
            format!("it cannot be run: {}", program.exec())
        }
        Err(error) => error.to_string(),
    }
}

/// Tells the host what holds this process.
fn in_force(hello: &Hello, landlock: u32, why: String) -> Message {
    let grants = &hello.grants;
    let in_force = InForce {
        landlock,
        why,
        granted: grants.granted.clone(),
        refused: grants.refused.clone(),
        unknown: grants.unknown.clone(),
        unrestricted: grants.unrestricted,
        open: InForce::open(landlock, grants),
        no_new_privs: true,
        descriptors: MAX_DESCRIPTORS,
        memory: hello.memory,
        memory_by: String::new(),
        processes: 0,
    };
    let payload = serde_json::to_vec(&in_force).unwrap_or_default();
    Message { kind: kind::SANDBOX, payload, ..Message::default() }
}

fn start(runner: &'static Runner, hello: &Hello, copy: Copy) -> Result<(Plugin, Code), String> {
    let plugin = copy.load().map_err(|error| error.to_string())?;
    let (abi_major, abi_minor) = patchbay_plugin_api::version::numbers();
    let info = StartInfo {
        size: size_of::<StartInfo>() as u32,
        wake_fd: runner.wake.as_raw_fd(),
        ctx: 1,
        threads: hello.threads,
        log_level: hello.log_level,
        config: Slice::new(hello.settings.as_bytes()),
        abi_major,
        abi_minor,
    };
    let code = plugin.start(host_table::<Runner>(), &info);
    Ok((plugin, code))
}

impl Runner {
    fn send(&self, message: &Message) -> io::Result<()> {
        wire::send(&self.out.lock(), message)
    }

    /// [`Runner::send`] for a plugin's call.
    fn tell(&self, message: &Message) -> Code {
        if self.send(message).is_ok() { Code::Ok } else { Code::Closed }
    }

    /// What the socket brings: what is the runner's own is done here, the rest is for the thread that calls the plugin.
    fn take(
        &self,
        message: Message,
        descriptors: &Mutex<std::collections::VecDeque<OwnedFd>>,
        calls: &mpsc::Sender<(Message, Option<OwnedFd>)>,
    ) {
        match message.kind {
            kind::RING => {
                let Some(Ok(memory)) = descriptors.lock().pop_front().map(Mapped::map) else { return };
                let source = Source { memory: Arc::new(memory), gone: false };
                let mut sources = self.sources.write();
                sources.insert(message.id, source);
                let gone: Vec<u64> = sources.iter().filter(|(_, s)| s.gone).map(|(id, _)| *id).collect();
                for id in gone.iter().take(gone.len().saturating_sub(MAX_GONE)) {
                    sources.remove(id);
                    self.configs.lock().retain(|(source, ..), _| source != id);
                }
                drop(sources);
                self.signal(message.id);
            }
            kind::CONFIG => {
                self.configs.lock().insert((message.id, message.x, message.y), message.payload);
                self.news.notify_all();
            }
            kind::WAKE => self.signal(message.id),
            kind::GONE => {
                if let Some(source) = self.sources.write().get_mut(&message.id) {
                    source.gone = true;
                }
                self.signal(message.id);
            }
            kind::RAW => {
                let descriptor = descriptors.lock().pop_front();
                drop(calls.send((message, descriptor)));
            }
            _ => drop(calls.send((message, None))),
        }
    }

    fn signal(&self, source: u64) {
        {
            let mut pending = self.pending.lock();
            if !pending.contains(&source) {
                pending.push(source);
            }
        }
        if !self.signalled.swap(true, Ordering::AcqRel) {
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    fn memory(&self, source: u64) -> Option<(Arc<Mapped>, bool)> {
        self.sources.read().get(&source).map(|source| (Arc::clone(&source.memory), source.gone))
    }
}

fn runner() -> Option<&'static Runner> {
    RUNNER.get()
}

fn eprintln_line(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(io::stderr(), "{text}");
}
