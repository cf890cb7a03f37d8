//! Sessions of this library: commands in, events out.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use bytes::Bytes;
use parking_lot::Mutex;
use patchbay_plugin_api::host::duplicate;
use patchbay_plugin_api::message::{Ended, PLUGIN_ID, Raw, command, event};
use patchbay_plugin_api::{Code, Host};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// A command of the host.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) kind: u32,
    pub(crate) payload: Bytes,
    /// What [`command::RAW`] brought.
    pub(crate) descriptor: Option<OwnedFd>,
}

impl Command {
    pub(crate) fn json<T: DeserializeOwned + Default>(&self) -> T {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }
}

/// One session: its id and the way to the host. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) host: Host,
    pub(crate) id: u64,
    pub(crate) closed: CancellationToken,
}

impl Link {
    pub(crate) fn emit(&self, kind: u32, payload: &impl Serialize) -> Result<(), Error> {
        Ok(self.host.emit(self.id, kind, payload)?)
    }
}

struct Entry {
    commands: mpsc::UnboundedSender<Command>,
    closed: CancellationToken,
}

static SESSIONS: OnceLock<Mutex<Sessions>> = OnceLock::new();

#[derive(Default)]
struct Sessions {
    open: HashMap<u64, Entry>,
    next_id: u64,
}

fn sessions() -> &'static Mutex<Sessions> {
    SESSIONS.get_or_init(Mutex::default)
}

/// Registers a session that the host opened (`id`) or a new one of the plugin's own.
///
/// The command queue has no limit of its own: what is many (`DATA`, `BODY`) is limited by the window of 256 KiB.
pub(crate) fn register(host: Host, id: Option<u64>) -> (Link, mpsc::UnboundedReceiver<Command>) {
    let (commands, receiver) = mpsc::unbounded_channel();
    let closed = CancellationToken::new();
    let mut sessions = sessions().lock();
    let id = id.unwrap_or_else(|| {
        sessions.next_id += 1;
        sessions.next_id | PLUGIN_ID
    });
    sessions.open.insert(id, Entry { commands, closed: closed.clone() });
    (Link { host, id, closed }, receiver)
}

/// Hands a command to its session.
pub(crate) fn dispatch(id: u64, kind: u32, payload: &[u8]) -> Code {
    let sessions = sessions().lock();
    let Some(entry) = sessions.open.get(&id) else { return Code::Unknown };
    let descriptor = match kind {
        command::RAW => {
            let raw = serde_json::from_slice::<Raw>(payload).map_err(io::Error::from);
            match raw.and_then(duplicate) {
                Ok(descriptor) => Some(descriptor),
                Err(error) => {
                    tracing::warn!("a connection could not be taken over: {error}");
                    return Code::Invalid;
                }
            }
        }
        _ => None,
    };
    let command = Command { kind, payload: Bytes::copy_from_slice(payload), descriptor };
    if entry.commands.send(command).is_ok() { Code::Ok } else { Code::Unknown }
}

/// Tells a session to end.
pub(crate) fn close(id: u64) -> Code {
    match sessions().lock().open.get(&id) {
        Some(entry) => {
            entry.closed.cancel();
            Code::Ok
        }
        None => Code::Unknown,
    }
}

/// Tells all sessions to end.
pub(crate) fn close_all() {
    for entry in sessions().lock().open.values() {
        entry.closed.cancel();
    }
}

/// Forgets a session and tells the host why it is over.
pub(crate) fn finish(link: &Link, result: Result<(), Error>) {
    if sessions().lock().open.remove(&link.id).is_none() {
        return;
    }
    let ended: Ended = match result {
        Ok(()) => Error::eof("").into(),
        Err(error) => error.into(),
    };
    let _ = link.host.emit(link.id, event::ENDED, &ended);
}

/// Forgets a session without a word (the host knows).
pub(crate) fn forget(id: u64) {
    sessions().lock().open.remove(&id);
}

/// Sessions that are open, for tests of leaks.
pub(crate) fn count() -> usize {
    sessions().lock().open.len()
}
