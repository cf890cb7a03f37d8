//! The host's side of a plugin's own process: starts it, talks to it, believes nothing it says.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use patchbay_plugin_api::Code;
use patchbay_plugin_api::entry::HostEntry as _;
use patchbay_plugin_api::message::{command, event};

use crate::bridge::{self, Bridge};
use crate::instance::Instance;
use crate::log::{Level, LogHandle};
use crate::sandbox::{InForce, cgroup};
use crate::wire::{self, Hello, Message, kind};

mod shown;

pub use shown::Shown;

/// How long a process may take to load its library and start the plugin.
pub const START_LIMIT: Duration = Duration::from_secs(5);

/// Silence after which a process is killed.
pub const SILENCE: Duration = Duration::from_secs(2);

/// Lines of output per second that reach the log.
const MAX_LINES: u32 = 50;

/// What a process may send in a second before it is killed: units, their bytes, events.
const MAX_UNITS: u32 = 20_000;
const MAX_BYTES: u64 = 512 << 20;
const MAX_EVENTS: u32 = 5_000;

/// Things against the protocol after which a process is killed.
const MAX_FAULTS: u32 = 20;

/// Plugins whose runtime has answered a ping once: silence of theirs means something from the start. One written
/// without the sdk need not answer.
static ANSWER: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Environment variables that a child gets; others may hold secrets.
const ENVIRONMENT: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// A running process.
pub struct Child {
    /// Its process id.
    pub pid: u32,
    socket: UnixStream,
    process: Mutex<std::process::Child>,
    started: Instant,
    /// Bytes of payload that went to it, and that came.
    sent: AtomicU64,
    received: AtomicU64,
    /// ms since `started` of the last answer to a ping: of the process, and of the plugin's own runtime (0: it never
    /// gave one).
    pong: AtomicU64,
    plugin_pong: AtomicU64,
    silent: AtomicU64,
    faults: AtomicU32,
    /// What holds it, as its runner said before the plugin was loaded.
    in_force: OnceLock<InForce>,
    group: Option<cgroup::Group>,
    /// Why it was killed, or how it ended.
    end: Mutex<Option<String>>,
    stopping: AtomicBool,
}

impl Child {
    /// Starts a process and waits until its plugin has started. On the thread that will write to it: the child dies with
    /// that thread.
    pub fn start(
        mut hello: Hello,
        log: &LogHandle,
    ) -> Result<(Arc<Self>, wire::Reader<BufReader<UnixStream>>), String> {
        let failed = |error: io::Error| format!("its process cannot be started: {error}");
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(shown_name(&hello.name)).arg("runner").env_clear();
        let kept = std::env::vars_os()
            .filter(|(name, _)| name.to_str().is_some_and(|name| ENVIRONMENT.contains(&name)));
        command.envs(kept);
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().map_err(failed)?;
        // The command holds the child's end: without this the end of the child would not be seen.
        drop(command);
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            process.stdout.take().map(|out| Box::new(out) as _),
            process.stderr.take().map(|out| Box::new(out) as _),
        ];
        for (output, level) in outputs.into_iter().zip([Level::Info, Level::Warn]) {
            let (name, log) = (hello.name.clone(), log.clone());
            if let Some(output) = output {
                let lines = move || forward(output, level, &name, &log);
                thread::Builder::new().name(format!("output {}", hello.name)).spawn(lines).map_err(failed)?;
            }
        }
        let group = cgroup::base().and_then(|base| base.group(&hello.name, process.id(), hello.memory).ok());
        let memory = hello.memory;
        if group.is_some() {
            hello.memory = 0;
        }
        let child = Arc::new(Self {
            pid: process.id(),
            in_force: OnceLock::new(),
            group,
            socket: ours.try_clone().map_err(failed)?,
            process: Mutex::new(process),
            started: Instant::now(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            pong: AtomicU64::new(0),
            plugin_pong: AtomicU64::new(ANSWER.lock().contains(&hello.name).into()),
            silent: AtomicU64::new(0),
            faults: AtomicU32::new(0),
            end: Mutex::new(None),
            stopping: AtomicBool::new(false),
        });
        let payload = serde_json::to_vec(&hello).unwrap_or_default();
        let greeting = Message { kind: kind::HELLO, payload, ..Message::default() };
        ours.set_read_timeout(Some(START_LIMIT)).map_err(failed)?;
        // One that has ended reads it no more, but may have said why.
        let _ = child.send(&greeting);
        let mut greetings = 1;
        let mut reader = wire::Reader::new(BufReader::with_capacity(256 << 10, ours));
        let refused = loop {
            let message = match reader.message() {
                Ok(message) => message,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    break "it has not started within 5 s".to_owned();
                }
                Err(_) => break child.how_it_ended(),
            };
            match message.kind {
                kind::READY if message.x == 0 => {
                    let _ = child.socket.set_read_timeout(None);
                    return Ok((child, reader));
                }
                kind::READY if message.payload.is_empty() => {
                    let code = Code::from_raw((message.x as u32).cast_signed());
                    break format!("it refuses to start ({code}): see its lines in the log");
                }
                kind::READY => break String::from_utf8_lossy(&message.payload).chars().take(300).collect(),
                kind::LOG => log_line(log, &hello.name, &message),
                kind::SANDBOX => child.set_in_force(&message.payload, memory),
                kind::AGAIN if greetings == 1 => {
                    greetings += 1;
                    let _ = child.send(&greeting);
                }
                _ => {}
            }
        };
        child.kill("");
        child.reap();
        Err(refused)
    }

    fn set_in_force(&self, payload: &[u8], memory: u64) {
        let mut in_force: InForce = serde_json::from_slice(payload).unwrap_or_default();
        let (by, processes) = match self.group {
            Some(_) => ("cgroup", cgroup::MAX_PROCESSES),
            None => ("rlimit", 0),
        };
        (in_force.memory, in_force.memory_by, in_force.processes) = (memory, by.to_owned(), processes);
        // Only the first: it was sent before the plugin's code ran.
        let _ = self.in_force.set(in_force);
    }

    /// What holds it.
    pub fn in_force(&self) -> Option<&InForce> {
        self.in_force.get()
    }

    /// Writes a message; blocks while the child does not read, which its silence ends.
    pub fn send(&self, message: &Message) -> io::Result<()> {
        self.sent.fetch_add(message.payload.len() as u64, Ordering::Relaxed);
        wire::send(&self.socket, message)
    }

    /// Bytes of payload that went to it over the socket, and that came from it.
    pub fn socket_bytes(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    /// Tells of sources with something new, in one write.
    pub fn send_wakes(&self, sources: &[u64]) -> io::Result<()> {
        wire::send_all(
            &self.socket,
            sources.iter().map(|id| Message { kind: kind::WAKE, id: *id, ..Message::default() }),
        )
    }

    /// Writes a message with a descriptor.
    pub fn send_with(&self, message: &Message, descriptor: &OwnedFd) -> io::Result<()> {
        wire::send_with(&self.socket, message, descriptor)
    }

    /// Asks the process, and the plugin's own runtime, whether they live.
    pub fn ping(&self) -> io::Result<()> {
        self.send(&Message { kind: kind::PING, id: self.now(), ..Message::default() })?;
        self.send(&Message { kind: kind::COMMAND, x: command::PING.into(), ..Message::default() })
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }

    /// Kills it when it has been silent for too long. `late`: the host itself was, and cannot tell.
    pub fn check(&self, late: bool) {
        let now = self.now();
        if late {
            self.pong.store(now, Ordering::Relaxed);
            self.plugin_pong
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| (at > 0).then_some(now))
                .ok();
        }
        let silence = |pong: &AtomicU64| now.saturating_sub(pong.load(Ordering::Relaxed));
        let limit = SILENCE.as_millis() as u64;
        let (process, plugin) = (silence(&self.pong), silence(&self.plugin_pong));
        if process > limit {
            self.silent.store(process, Ordering::Relaxed);
            self.kill("it has not answered for 2 s");
        } else if self.plugin_pong.load(Ordering::Relaxed) > 0 && plugin > limit {
            self.silent.store(plugin, Ordering::Relaxed);
            self.kill("its runtime has not answered for 2 s");
        }
    }

    /// How long it had been silent when it was killed for that.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.silent.load(Ordering::Relaxed))
    }

    /// Ends it at once: SIGTERM does not end a stopped process.
    pub fn kill(&self, why: &str) {
        let mut end = self.end.lock();
        if end.is_none() && !why.is_empty() {
            *end = Some(format!("{why} and was killed"));
        }
        drop(end);
        let _ = self.process.lock().kill();
        if let Some(group) = &self.group {
            group.kill();
        }
    }

    /// The end is wanted: it is no failure.
    pub fn stop(&self, limit: Duration) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = self.socket.set_write_timeout(Some(limit));
        let _ = self.send(&Message { kind: kind::STOP, ..Message::default() });
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if self.process.lock().try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.kill("");
        self.reap();
    }

    fn reap(&self) {
        let _ = self.process.lock().wait();
    }

    /// Waits for its end, which is near: the socket is closed.
    fn how_it_ended(&self) -> String {
        let mut process = self.process.lock();
        for _ in 0..100 {
            match process.try_wait() {
                Ok(Some(status)) => {
                    let known = self.end.lock().clone();
                    return known.unwrap_or_else(|| format!("its process ended ({status})"));
                }
                Ok(None) => thread::sleep(Duration::from_millis(5)),
                Err(_) => break,
            }
        }
        let _ = process.kill();
        let _ = process.wait();
        let known = self.end.lock().clone();
        known.unwrap_or_else(|| "it closed its socket and was killed".to_owned())
    }

    /// Something against the protocol; too many of them and it is over.
    fn fault(&self, what: &str) {
        if self.faults.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_FAULTS {
            self.kill(&format!("it breaks the protocol ({what})"));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let mut process = self.process.lock();
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// What a plugin's process is called in `ps` and `top`; of the name that `top` shows the kernel keeps 15 bytes.
pub(crate) fn shown_name(plugin: &str) -> String {
    format!("pb-{plugin}")
}

/// A child's output into the log.
fn forward(output: impl Read, level: Level, name: &str, log: &LogHandle) {
    let mut input = BufReader::new(output);
    let (mut window, mut lines, mut dropped) = (Instant::now(), 0, 0_u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut input).take(4096).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if window.elapsed() >= Duration::from_secs(1) {
            if dropped > 0 {
                log.write(
                    Level::Warn,
                    name,
                    "lines of its output were dropped",
                    &[("count", &dropped.to_string())],
                );
            }
            (window, lines, dropped) = (Instant::now(), 0, 0);
        }
        lines += 1;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if lines > MAX_LINES {
            dropped += 1;
        } else if !text.is_empty() {
            log.write(level, name, text, &[]);
        }
    }
}

fn log_line(log: &LogHandle, name: &str, message: &Message) {
    let at = (message.y as usize).min(message.payload.len());
    let event = message.payload.get(at..).unwrap_or_default();
    let event: patchbay_plugin_api::message::LogEvent = serde_json::from_slice(event).unwrap_or_default();
    let level = match message.x {
        1 => Level::Error,
        2 => Level::Warn,
        3 => Level::Info,
        _ => Level::Debug,
    };
    log.write(level, name, &event.message, &[]);
}

/// What a child sends in a second.
struct Rate {
    window: Instant,
    units: u32,
    bytes: u64,
    events: u32,
}

/// Hears the child until its end.
pub fn listen(
    instance: &Weak<Instance>,
    child: &Arc<Child>,
    mut reader: wire::Reader<BufReader<UnixStream>>,
) {
    let mut rate = Rate { window: Instant::now(), units: 0, bytes: 0, events: 0 };
    let broken = loop {
        match reader.message() {
            Ok(message) => {
                let Some(instance) = instance.upgrade() else { break None };
                take(&instance, child, &message, &mut rate);
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => break Some(error),
            Err(_) => break None,
        }
    };
    if let Some(error) = broken {
        child.kill(&format!("it sent {error}"));
    }
    let how = child.how_it_ended();
    if child.stopping.load(Ordering::Relaxed) {
        return;
    }
    if let (Some(instance), Some(app)) = (instance.upgrade(), bridge::app()) {
        instance.set_failed(how);
        app.died(&instance);
    }
}

fn take(instance: &Arc<Instance>, child: &Child, message: &Message, rate: &mut Rate) {
    if rate.window.elapsed() >= Duration::from_secs(1) {
        *rate = Rate { window: Instant::now(), units: 0, bytes: 0, events: 0 };
    }
    child.received.fetch_add(message.payload.len() as u64, Ordering::Relaxed);
    let (ctx, id) = (instance.ctx, message.id);
    match message.kind {
        kind::EMIT => {
            rate.events += 1;
            if rate.events > MAX_EVENTS {
                return child.kill("it floods the host with events");
            }
            match u32::try_from(message.x) {
                Ok(event::PONG) => {
                    if child.plugin_pong.swap(child.now(), Ordering::Relaxed) == 0 {
                        ANSWER.lock().insert(instance.manifest.name.clone());
                    }
                }
                Ok(kind) => drop(Bridge::emit(ctx, id, kind, &message.payload)),
                Err(_) => child.fault("an event of no kind"),
            }
        }
        kind::PUSH => {
            rate.units += 1;
            rate.bytes += message.payload.len() as u64;
            if rate.units > MAX_UNITS || rate.bytes > MAX_BYTES {
                return child.kill("it floods the host with units");
            }
            let Some((unit, data)) = wire::unit::decode(&message.payload) else {
                return child.fault("a unit without its header");
            };
            let source = bridge::app().and_then(|app| app.source_of(ctx, id));
            let codec = source.and_then(|source| source.codec(id, unit.track));
            if codec.is_some_and(|codec| matches!(codec.as_str(), "h264" | "hevc")) && !is_whole(data) {
                return child.fault("NAL units that do not add up to their unit");
            }
            match Bridge::push(ctx, id, &unit, data) {
                // The session may have ended meanwhile.
                Code::Ok | Code::Busy | Code::Unknown | Code::Closed | Code::OverLimit => {}
                _ => child.fault("a unit that was not announced"),
            }
        }
        kind::WRITE => {
            if wire::chunk::decode(&message.payload, |chunk| Bridge::write(ctx, id, chunk)).is_none() {
                child.fault("a chunk that breaks its limits");
            }
        }
        kind::LOG => {
            let at = (message.y as usize).min(message.payload.len());
            let (target, event) = message.payload.split_at_checked(at).unwrap_or_default();
            Bridge::log(ctx, message.x as u32, &String::from_utf8_lossy(target), event);
        }
        kind::RETAIN => drop(Bridge::retain(ctx, id, message.x)),
        kind::STATE_PUT => {
            let at = (message.y as usize).min(message.payload.len());
            let (key, value) = message.payload.split_at_checked(at).unwrap_or_default();
            Bridge::state_put(ctx, &String::from_utf8_lossy(key), value);
        }
        kind::ARM => instance.arm_child(id, message.y, message.x),
        kind::WANT_CONFIG => instance.describe(id),
        kind::FAILED => instance.open_failed(id, Code::from_raw((message.x as u32).cast_signed())),
        kind::PONG => child.pong.store(child.now(), Ordering::Relaxed),
        kind::READY | kind::SANDBOX => {}
        _ => child.fault("a frame of no kind"),
    }
}

/// Whether length-prefixed NAL units add up to `data`.
fn is_whole(mut data: &[u8]) -> bool {
    while !data.is_empty() {
        let Some((len, rest)) = data.split_first_chunk::<4>() else { return false };
        let Some(rest) = rest.get(u32::from_be_bytes(*len) as usize..) else { return false };
        data = rest;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_whole;

    #[test]
    fn nal_units_must_add_up() {
        assert!(is_whole(&[0, 0, 0, 1, 9, 0, 0, 0, 2, 1, 2]));
        assert!(!is_whole(&[0, 0, 0, 2, 9]));
        assert!(!is_whole(&[0, 0, 0]));
        assert!(!is_whole(&[0xff, 0xff, 0xff, 0xff, 1]));
    }
}
