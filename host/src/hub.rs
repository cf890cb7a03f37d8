//! Fans outputs out: one mux run per (tracks, format, options) whatever the number of viewers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use patchbay_plugin_api::Code;
use patchbay_plugin_api::abi::chunk_flags;
use patchbay_plugin_api::entry::ChunkRef;
use patchbay_plugin_api::message::{BoundTrack, Class, Ended, History, Join, command};
use tokio::sync::{Notify, oneshot, watch};

use crate::instance::Instance;

mod chunk;
mod viewer;

use chunk::LogChunk;
pub use chunk::Piece;
pub use viewer::Viewer;

/// Bytes of recent chunks that a run keeps for slow viewers.
const LOG_BYTES: usize = 16 << 20;

/// Chunks that a run keeps for slow viewers.
const LOG_CHUNKS: usize = 1024;

/// Largest chunk of an output, in bytes.
pub const MAX_CHUNK: usize = 64 << 20;

/// What makes two viewers share a run.
pub type Key = String;

/// The key of a run.
pub fn key(format: &str, tracks: &[BoundTrack], options: &BTreeMap<String, String>) -> Key {
    let tracks: Vec<String> =
        tracks.iter().map(|t| format!("{}/{}/{}", t.source, t.info.id, t.info.codec)).collect();
    let options: Vec<String> = options.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
    format!("{format}|{}|{}", tracks.join(","), options.join(","))
}

/// One mux run.
pub struct Run {
    /// Its key.
    pub key: Key,
    /// The plugin that muxes.
    pub instance: Arc<Instance>,
    /// The plugin's session.
    pub session: u64,
    state: Mutex<State>,
    news: Notify,
    mime: watch::Sender<String>,
    ended: watch::Sender<Option<Ended>>,
    viewers: AtomicU64,
    next_join: AtomicU64,
    /// Viewers that fell behind and were moved to a later key chunk.
    pub skips: AtomicU64,
}

#[derive(Default)]
struct State {
    log: VecDeque<Arc<LogChunk>>,
    /// Number of the first chunk in `log`.
    first: u64,
    bytes: usize,
    init: Option<Bytes>,
    /// Starts that the plugin makes now.
    joins: HashMap<u64, Joining>,
    /// The newest start, for all who join before the next chunk: in a crowd they are as many as chunks, not as viewers.
    newest: Option<(History, Arc<Admitted>)>,
}

struct Joining {
    history: History,
    waiting: Vec<oneshot::Sender<Arc<Admitted>>>,
}

/// What a viewer starts with.
struct Admitted {
    init: Bytes,
    data: Bytes,
    starts: Vec<i64>,
    position: u64,
    last: bool,
}

/// How a viewer comes in.
enum Start {
    /// With what was made for another one.
    Known(Arc<Admitted>),
    /// With what the plugin makes now.
    Wait(oneshot::Receiver<Arc<Admitted>>),
    /// The plugin has to be asked.
    Ask(oneshot::Receiver<Arc<Admitted>>),
}

impl State {
    /// How a viewer with that history comes in; `join` names the question when the plugin has to be asked.
    fn start(&mut self, join: u64, history: History) -> Start {
        if let Some((known, admitted)) = &self.newest
            && *known == history
        {
            return Start::Known(Arc::clone(admitted));
        }
        let (sender, made) = oneshot::channel();
        if let Some(joining) = self.joins.values_mut().find(|joining| joining.history == history) {
            joining.waiting.push(sender);
            return Start::Wait(made);
        }
        self.joins.insert(join, Joining { history, waiting: vec![sender] });
        Start::Ask(made)
    }
}

impl Run {
    /// A run whose session `instance` is about to open.
    pub fn new(key: Key, instance: Arc<Instance>, session: u64) -> Arc<Self> {
        Arc::new(Self {
            key,
            instance,
            session,
            state: Mutex::default(),
            news: Notify::new(),
            mime: watch::channel(String::new()).0,
            ended: watch::channel(None).0,
            viewers: AtomicU64::new(0),
            next_join: AtomicU64::new(1),
            skips: AtomicU64::new(0),
        })
    }

    /// The plugin says what it makes.
    pub fn set_mime(&self, mime: String) {
        self.mime.send_replace(mime);
    }

    /// The run is over: viewers are told after what is left.
    pub fn end(&self, ended: Ended) {
        self.ended.send_replace(Some(ended));
        self.state.lock().joins.clear();
        self.news.notify_waiters();
    }

    /// Whether it is over.
    pub fn is_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Whether it is over because its source is: another one may come.
    pub fn source_is_gone(&self) -> bool {
        self.ended.borrow().as_ref().is_some_and(|ended| ended.class == Class::Eof)
    }

    /// Viewers now.
    pub fn viewers(&self) -> u64 {
        self.viewers.load(Ordering::Relaxed)
    }

    /// A chunk of the plugin.
    pub fn write(&self, chunk: ChunkRef<'_>) -> Code {
        if chunk.data.len() > MAX_CHUNK {
            return Code::OverLimit;
        }
        let data = Bytes::copy_from_slice(chunk.data);
        let mut state = self.state.lock();
        if chunk.flags & chunk_flags::HISTORY != 0 {
            let Some(joining) = state.joins.remove(&chunk.join) else { return Code::Ok };
            let admitted = Arc::new(Admitted {
                init: state.init.clone().unwrap_or_default(),
                data,
                starts: chunk.starts.to_vec(),
                position: state.first + state.log.len() as u64,
                last: chunk.flags & chunk_flags::FINAL != 0,
            });
            // A still is of the moment it was asked for.
            if joining.history != History::Keyframe && !admitted.last {
                state.newest = Some((joining.history, Arc::clone(&admitted)));
            }
            for waiting in joining.waiting {
                let _ = waiting.send(Arc::clone(&admitted));
            }
            return Code::Ok;
        }
        let again = chunk.flags & chunk_flags::INIT != 0 && state.init.is_none();
        state.newest = None;
        if chunk.flags & chunk_flags::INIT != 0 {
            state.init = Some(data.clone());
        }
        if again {
            return Code::Ok;
        }
        state.bytes += data.len();
        state.log.push_back(Arc::new(LogChunk { data, flags: chunk.flags, patches: chunk.patches }));
        while state.log.len() > LOG_CHUNKS || (state.bytes > LOG_BYTES && state.log.len() > 1) {
            if let Some(old) = state.log.pop_front() {
                state.bytes -= old.data.len();
                state.first += 1;
            }
        }
        drop(state);
        self.news.notify_waiters();
        Code::Ok
    }

    /// Adds a viewer. Waits until the plugin has made its start.
    pub async fn join(self: &Arc<Self>, history: History) -> Result<Viewer, Ended> {
        let join = self.next_join.fetch_add(1, Ordering::Relaxed);
        if let Some(ended) = self.ended.borrow().clone() {
            return Err(ended);
        }
        let start = self.state.lock().start(join, history);
        let guard = Guard(Arc::clone(self));
        self.viewers.fetch_add(1, Ordering::Relaxed);
        if matches!(start, Start::Ask(_)) {
            self.instance.command(self.session, command::JOIN, &Join { join, history });
        }
        let admitted = match start {
            Start::Known(admitted) => Ok(admitted),
            Start::Wait(made) | Start::Ask(made) => made.await,
        };
        let Ok(admitted) = admitted else {
            return Err(self.ended.borrow().clone().unwrap_or_default());
        };
        let mut mime = self.mime.subscribe();
        let mime = mime.wait_for(|mime| !mime.is_empty()).await.map(|mime| mime.clone()).unwrap_or_default();
        let still = history == History::Keyframe;
        Ok(Viewer::new(Arc::clone(self), guard, mime, &admitted, still))
    }
}

/// Counts a viewer for as long as it is there.
struct Guard(Arc<Run>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

    use super::*;

    #[test]
    fn who_joins_before_the_next_chunk_shares_a_start() {
        let mut state = State::default();
        let asked = |start: &Start| match start {
            Start::Ask(_) => "ask",
            Start::Wait(_) => "wait",
            Start::Known(_) => "known",
        };
        let (first, second, other) =
            (state.start(1, History::Live), state.start(2, History::Live), state.start(3, History::Raw));
        assert_eq!((asked(&first), asked(&second), asked(&other)), ("ask", "wait", "ask"));
        let admitted = || Admitted {
            init: Bytes::new(),
            data: Bytes::new(),
            starts: Vec::new(),
            position: 4,
            last: false,
        };
        let joining = state.joins.remove(&1).unwrap();
        assert_eq!((joining.waiting.len(), state.joins.len()), (2, 1));
        state.newest = Some((joining.history, Arc::new(admitted())));
        assert_eq!(
            (asked(&state.start(4, History::Live)), asked(&state.start(5, History::Raw))),
            ("known", "wait")
        );
    }
}
