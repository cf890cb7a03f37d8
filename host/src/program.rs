//! A plugin that is a program, as a table: `plugins check` tries the rules on it as on a library.

use std::collections::HashMap;
use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use patchbay_plugin_api::entry::{Entry, plugin_table};
use patchbay_plugin_api::host::duplicate;
use patchbay_plugin_api::message::command;
use patchbay_plugin_api::{Chunk, Code, Host, Manifest, Plugin};

use crate::child::Child;
use crate::log::LogHandle;
use crate::sandbox::Grants;
use crate::wire::{self, Hello, Message, VERSION, kind};

/// How long the program has to answer an `open`: the caller's limit for a call is 1 s.
const ANSWER_LIMIT: Duration = Duration::from_millis(900);

/// How long it has to end all sessions.
const STOP_LIMIT: Duration = Duration::from_millis(700);

/// What is to be run.
struct Asked {
    path: PathBuf,
    manifest: Manifest,
    log: LogHandle,
}

/// The program that runs.
struct Running {
    child: Arc<Child>,
    host: Host,
    heard: Mutex<Heard>,
    news: Condvar,
}

/// What came back from it.
#[derive(Default)]
struct Heard {
    refused: HashMap<u64, Code>,
    pong: u64,
    over: bool,
}

static ASKED: OnceLock<Asked> = OnceLock::new();
static RUNNING: OnceLock<Running> = OnceLock::new();

/// The program at `path` as a plugin; one per process. It is run when the plugin is started.
pub fn plugin(path: &Path, manifest: &Manifest, log: LogHandle) -> Plugin {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let _ = ASKED.set(Asked { path, manifest: manifest.clone(), log });
    Plugin::from_table(plugin_table::<Program>())
}

/// The table's functions as frames.
enum Program {}

impl Program {
    fn send(message: Message) -> Code {
        match RUNNING.get().map(|running| running.child.send(&message)) {
            Some(Ok(())) => Code::Ok,
            _ => Code::Closed,
        }
    }
}

impl Entry for Program {
    fn start(host: Host, config: String) -> Code {
        let Some(asked) = ASKED.get() else { return Code::Closed };
        let hello = Hello {
            wire: VERSION,
            abi: patchbay_plugin_api::version::ABI.to_owned(),
            path: asked.path.display().to_string(),
            name: asked.manifest.name.clone(),
            threads: host.threads(),
            log_level: host.log_level(),
            settings: config,
            grants: Grants::of(&asked.manifest, false, None),
            ..Hello::default()
        };
        let (child, reader) = match Child::start(hello, &asked.log) {
            Ok(started) => started,
            Err(reason) => {
                asked.log.write(crate::log::Level::Error, "", &reason, &[]);
                return Code::Invalid;
            }
        };
        let heard = Mutex::default();
        let running = RUNNING.get_or_init(|| Running { child, host, heard, news: Condvar::new() });
        match thread::Builder::new().name("hear".to_owned()).spawn(|| running.hear(reader)) {
            Ok(_) => Code::Ok,
            Err(_) => Code::OverLimit,
        }
    }

    fn open(session: u64, role: u32, request: &[u8]) -> Code {
        let Some(running) = RUNNING.get() else { return Code::Closed };
        let (id, x, payload) = (session, role.into(), request.to_vec());
        let sent = Self::send(Message { kind: kind::OPEN, id, x, payload, ..Message::default() });
        if sent != Code::Ok {
            return sent;
        }
        // Frames are answered in their order: what it refuses is refused before this ping is answered.
        let sent = Self::send(Message { kind: kind::PING, id, ..Message::default() });
        if sent != Code::Ok {
            return sent;
        }
        let end = Instant::now() + ANSWER_LIMIT;
        let mut heard = running.heard.lock();
        while heard.pong != session && !heard.over {
            if running.news.wait_until(&mut heard, end).timed_out() {
                return Code::Busy;
            }
        }
        let refused = heard.refused.remove(&session);
        refused.unwrap_or(if heard.over { Code::Closed } else { Code::Ok })
    }

    fn command(session: u64, kind_of: u32, payload: &[u8]) -> Code {
        if kind_of == command::RAW {
            let raw = serde_json::from_slice(payload).unwrap_or_default();
            let Ok(descriptor) = duplicate(raw) else { return Code::Invalid };
            let message = Message { kind: kind::RAW, id: session, ..Message::default() };
            let sent = RUNNING.get().map(|running| running.child.send_with(&message, &descriptor));
            return if matches!(sent, Some(Ok(()))) { Code::Ok } else { Code::Closed };
        }
        let (x, payload) = (kind_of.into(), payload.to_vec());
        Self::send(Message { kind: kind::COMMAND, id: session, x, payload, ..Message::default() })
    }

    fn close(session: u64) -> Code {
        Self::send(Message { kind: kind::CLOSE, id: session, ..Message::default() })
    }

    fn stop() -> Code {
        if let Some(running) = RUNNING.get() {
            running.child.stop(STOP_LIMIT);
        }
        Code::Ok
    }

    fn panicked(_: u64, call: &'static str, message: &str) {
        tracing::error!("panic in {call}: {message}");
    }
}

impl Running {
    /// Hands on what the program says, until it says no more.
    fn hear(&self, mut reader: wire::Reader<BufReader<UnixStream>>) {
        while let Ok(message) = reader.message() {
            self.take(message);
        }
        self.heard.lock().over = true;
        self.news.notify_all();
    }

    fn take(&self, message: Message) {
        let Message { kind, id, x, y, payload } = message;
        // What the host says of it is the rules' business: it has written down what is wrong.
        match kind {
            kind::EMIT => drop(self.host.emit_bytes(id, x as u32, &payload)),
            kind::PUSH => {
                if let Some((unit, data)) = wire::unit::decode(&payload) {
                    let _ = self.host.push(id, unit, data);
                }
            }
            kind::WRITE => {
                let chunk = wire::chunk::decode(&payload, |chunk| Chunk {
                    data: Bytes::copy_from_slice(chunk.data),
                    flags: chunk.flags,
                    patches: chunk.patches.into_iter().flatten().collect(),
                    join: chunk.join,
                    starts: chunk.starts.to_vec(),
                });
                if let Some(chunk) = chunk {
                    let _ = self.host.write(id, &chunk);
                }
            }
            kind::LOG => {
                let at = (y as usize).min(payload.len());
                let (target, event) = payload.split_at_checked(at).unwrap_or_default();
                let event = serde_json::from_slice(event).unwrap_or_default();
                self.host.log(x as u32, &String::from_utf8_lossy(target), &event);
            }
            kind::STATE_PUT => {
                let at = (y as usize).min(payload.len());
                let (key, value) = payload.split_at_checked(at).unwrap_or_default();
                let _ = self.host.state_put(&String::from_utf8_lossy(key), value);
            }
            kind::FAILED => {
                let code = Code::from_raw((x as u32).cast_signed());
                self.heard.lock().refused.insert(id, code);
            }
            kind::PONG => {
                self.heard.lock().pong = id;
                self.news.notify_all();
            }
            other => tracing::error!(kind = other, "the program sent a frame that a host does not take"),
        }
    }
}
