//! Fans outputs out: one mux run per (tracks, format, options) whatever the number of viewers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use patchbay_plugin_api::abi::chunk_flags;
use patchbay_plugin_api::entry::ChunkRef;
use patchbay_plugin_api::message::{BoundTrack, Class, Ended, History, Join, command};
use patchbay_plugin_api::{Code, Patch, PatchKind};
use tokio::sync::{Notify, oneshot, watch};

use crate::instance::Instance;

/// Bytes of recent chunks that a run keeps for slow viewers.
const LOG_BYTES: usize = 16 << 20;

/// Chunks that a run keeps for slow viewers.
const LOG_CHUNKS: usize = 1024;

/// Pictures that need no other ([`chunk_flags::ALONE`]) which a viewer may be late by: half a second at 25 a second.
const MAX_LATE: usize = 12;

/// How far before a viewer's start an FLV tag may be, in milliseconds (10 minutes).
const FLV_BEFORE_MS: u32 = 600_000;

/// Largest chunk of an output, in bytes.
pub const MAX_CHUNK: usize = 64 << 20;

/// A chunk up to this size is copied whole for a viewer with a clock of its own: a second piece would cost more.
const COPY_WHOLE: usize = 1024;

/// A chunk as one viewer gets it: its own head, and what it shares with all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Comes first; the whole chunk when it has no patches.
    pub head: Bytes,
    /// The rest, often empty.
    pub rest: Bytes,
}

impl Piece {
    /// Bytes of both.
    #[allow(clippy::len_without_is_empty)] // a chunk has bytes
    pub fn len(&self) -> usize {
        self.head.len() + self.rest.len()
    }

    /// Both in one buffer: a copy unless there is no rest.
    pub fn joined(self) -> Bytes {
        if self.rest.is_empty() {
            return self.head;
        }
        let mut all = BytesMut::with_capacity(self.len());
        all.extend_from_slice(&self.head);
        all.extend_from_slice(&self.rest);
        all.freeze()
    }
}

impl From<Bytes> for Piece {
    fn from(head: Bytes) -> Self {
        Self { head, rest: Bytes::new() }
    }
}

/// What makes two viewers share a run.
pub type Key = String;

/// The key of a run.
pub fn key(format: &str, tracks: &[BoundTrack], options: &BTreeMap<String, String>) -> Key {
    let tracks: Vec<String> =
        tracks.iter().map(|t| format!("{}/{}/{}", t.source, t.info.id, t.info.codec)).collect();
    let options: Vec<String> = options.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
    format!("{format}|{}|{}", tracks.join(","), options.join(","))
}

/// One chunk in a run's log.
struct LogChunk {
    data: Bytes,
    flags: u32,
    patches: [Option<Patch>; Patch::MAX],
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
        let mut ready = VecDeque::new();
        let still = history == History::Keyframe;
        if !admitted.init.is_empty() && !still {
            ready.push_back(admitted.init.clone().into());
        }
        if !admitted.data.is_empty() {
            ready.push_back(admitted.data.clone().into());
        }
        Ok(Viewer {
            run: Arc::clone(self),
            _guard: guard,
            mime,
            ready,
            starts: admitted.starts.clone(),
            position: admitted.position,
            sequence: 0,
            last: admitted.last,
            wait_key: false,
            bytes: 0,
            chunks: 0,
            drops: 0,
        })
    }
}

struct Guard(Arc<Run>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One client of a run: a position in its log.
pub struct Viewer {
    run: Arc<Run>,
    _guard: Guard,
    /// Content type with codecs.
    pub mime: String,
    ready: VecDeque<Piece>,
    starts: Vec<i64>,
    position: u64,
    sequence: u32,
    last: bool,
    wait_key: bool,
    /// Bytes given out.
    pub bytes: u64,
    /// Chunks given out.
    pub chunks: u64,
    /// Chunks skipped because it was slow.
    pub drops: u64,
}

impl Viewer {
    /// Whether the run ended because its source did: another one may come.
    pub fn source_is_gone(&self) -> bool {
        !self.last && self.run.source_is_gone()
    }

    /// Whether the run ended because the plugin's process died: another one may come.
    pub fn plugin_died(&self) -> bool {
        let died = |ended: &Ended| ended.class == Class::Timeout;
        !self.last && self.run.instance.is_isolated() && self.run.ended.borrow().as_ref().is_some_and(died)
    }

    /// The next bytes; `None` at the end of the run.
    pub async fn next(&mut self) -> Option<Piece> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.bytes += piece.len() as u64;
                self.chunks += 1;
                return Some(piece);
            }
            if self.last {
                return None;
            }
            let run = Arc::clone(&self.run);
            let news = run.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if let Some(chunk) = self.take() {
                if is_before(&chunk, &self.starts) {
                    continue;
                }
                let piece = patched(&chunk, &self.starts, &mut self.sequence);
                self.ready.push_back(piece);
                continue;
            }
            if run.is_ended() {
                return None;
            }
            news.await;
        }
    }

    /// The next chunk of the log that this viewer may have.
    fn take(&mut self) -> Option<Arc<LogChunk>> {
        let state = self.run.state.lock();
        if self.position < state.first {
            self.drops += state.first - self.position;
            self.position = state.first;
            self.wait_key = true;
            self.run.skips.fetch_add(1, Ordering::Relaxed);
        }
        loop {
            let index = usize::try_from(self.position - state.first).ok()?;
            let mut chunk = state.log.get(index)?;
            let skipped = late_by(&state.log, index);
            if skipped > 0 {
                chunk = state.log.get(index + skipped)?;
                self.position += skipped as u64;
                self.drops += skipped as u64;
                self.run.skips.fetch_add(1, Ordering::Relaxed);
            }
            self.position += 1;
            let wanted = chunk.flags & (chunk_flags::KEY | chunk_flags::INIT) != 0;
            if self.wait_key && !wanted {
                self.drops += 1;
                continue;
            }
            if chunk.flags & chunk_flags::KEY != 0 {
                self.wait_key = false;
            }
            return Some(Arc::clone(chunk));
        }
    }
}

/// How many pictures to pass over at `index` to show the newest one; 0 when that is near, or something else lies between.
fn late_by(log: &VecDeque<Arc<LogChunk>>, index: usize) -> usize {
    let late = log.len().saturating_sub(index + 1);
    let is_alone = |chunk: &Arc<LogChunk>| chunk.flags & chunk_flags::ALONE != 0;
    if late > MAX_LATE && log.iter().skip(index).all(is_alone) { late } else { 0 }
}

/// The chunk with the clock of a viewer that began at `starts`: only its head is copied.
fn patched(chunk: &LogChunk, starts: &[i64], sequence: &mut u32) -> Piece {
    let ends =
        chunk.patches.iter().flatten().map(|patch| (patch.offset as usize).saturating_add(patch.kind.len()));
    let Some(end) = ends.max() else { return chunk.data.clone().into() };
    let end = if chunk.data.len() <= COPY_WHOLE { chunk.data.len() } else { end.min(chunk.data.len()) };
    let mut rest = chunk.data.clone();
    let mut head = BytesMut::from(rest.split_to(end).as_ref());
    for patch in chunk.patches.iter().flatten() {
        let start = starts.get(patch.track as usize).copied().unwrap_or(0);
        apply(patch, start, sequence, &mut head);
    }
    Piece { head: head.freeze(), rest }
}

/// Whether everything in a chunk is older than a viewer's start: sound that waited for the pictures beside it. Its times
/// would be below 0.
fn is_before(chunk: &LogChunk, starts: &[i64]) -> bool {
    if chunk.flags & (chunk_flags::INIT | chunk_flags::KEY) != 0 {
        return false;
    }
    let mut times = chunk.patches.iter().flatten().filter_map(|patch| {
        let start = starts.get(patch.track as usize).copied().unwrap_or(0);
        let field = chunk.data.get(patch.offset as usize..)?;
        match patch.kind {
            PatchKind::TimeU64 => {
                let value = u64::from_be_bytes(*field.first_chunk()?);
                Some(value.cast_signed() < start)
            }
            PatchKind::FlvMs => {
                let [a, b, c, d] = *field.first_chunk()?;
                let moved = u32::from_be_bytes([d, a, b, c]).wrapping_sub(start as u32);
                Some(moved > u32::MAX - FLV_BEFORE_MS)
            }
            PatchKind::TimeU32 | PatchKind::SequenceU32 => None,
        }
    });
    let first = times.next();
    first == Some(true) && times.all(|before| before)
}

/// Writes one patch of a viewer that began at `start` into a chunk's head.
fn apply(patch: &Patch, start: i64, sequence: &mut u32, head: &mut [u8]) {
    let at = patch.offset as usize;
    let Some(field) = head.get_mut(at..at.saturating_add(patch.kind.len())) else { return };
    match patch.kind {
        PatchKind::TimeU64 => {
            if let Some(value) = field.first_chunk::<8>().map(|b| u64::from_be_bytes(*b)) {
                // Before the viewer's 0 (sound that waited): at 0.
                let moved = value.cast_signed().saturating_sub(start).max(0);
                field.copy_from_slice(&moved.to_be_bytes());
            }
        }
        PatchKind::TimeU32 => {
            if let Some(value) = field.first_chunk::<4>().map(|b| u32::from_be_bytes(*b)) {
                field.copy_from_slice(&value.wrapping_sub(start as u32).to_be_bytes());
            }
        }
        PatchKind::SequenceU32 => {
            *sequence += 1;
            field.copy_from_slice(&sequence.to_be_bytes());
        }
        PatchKind::FlvMs => {
            if let Some([a, b, c, d]) = field.first_chunk::<4>().copied() {
                let moved = u32::from_be_bytes([d, a, b, c]).wrapping_sub(start as u32);
                // A little before the viewer's 0 (sound that waited): at 0. Days after it the sign means nothing.
                let moved = if moved > u32::MAX - FLV_BEFORE_MS { 0 } else { moved };
                let [d, a, b, c] = moved.to_be_bytes();
                field.copy_from_slice(&[a, b, c, d]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

    use super::*;

    fn chunk(len: usize, patches: &[Patch]) -> LogChunk {
        let mut all = [None; Patch::MAX];
        for (slot, patch) in all.iter_mut().zip(patches) {
            *slot = Some(*patch);
        }
        LogChunk { data: (0..len).map(|i| i as u8).collect(), flags: 0, patches: all }
    }

    #[test]
    fn a_late_viewer_is_shown_the_newest_picture() {
        let log = |flags: &[u32]| -> VecDeque<Arc<LogChunk>> {
            flags.iter().map(|flags| Arc::new(LogChunk { flags: *flags, ..chunk(1, &[]) })).collect()
        };
        let alone = chunk_flags::KEY | chunk_flags::ALONE;
        let pictures = log(&[alone; 20]);
        assert_eq!((late_by(&pictures, 0), late_by(&pictures, 6), late_by(&pictures, 7)), (19, 13, 0));
        assert_eq!(late_by(&log(&[chunk_flags::KEY; 20]), 0), 0);
        let other = log(&[&[alone; 2][..], &[chunk_flags::INIT], &[alone; 18]].concat());
        assert_eq!((late_by(&other, 0), late_by(&other, 3)), (0, 17));
    }

    const TIME: Patch = Patch { offset: 40, track: 1, kind: PatchKind::TimeU64 };
    const SEQUENCE: Patch = Patch { offset: 20, track: 0, kind: PatchKind::SequenceU32 };

    #[test]
    fn only_the_head_of_a_large_chunk_is_copied() {
        let mut chunk = chunk(20_000, &[SEQUENCE, TIME]);
        let mut data = chunk.data.to_vec();
        data[40..48].copy_from_slice(&1000_u64.to_be_bytes());
        chunk.data = data.clone().into();
        let mut sequence = 6;
        let piece = patched(&chunk, &[7, 400], &mut sequence);
        assert_eq!((piece.head.len(), sequence), (48, 7));
        assert_eq!(piece.rest.as_ptr(), chunk.data[48..].as_ptr());
        data[20..24].copy_from_slice(&7_u32.to_be_bytes());
        data[40..48].copy_from_slice(&600_u64.to_be_bytes());
        assert_eq!(piece.joined(), data);
    }

    #[test]
    fn a_chunk_without_patches_is_shared_whole() {
        let chunk = chunk(20_000, &[]);
        let piece = patched(&chunk, &[], &mut 0);
        assert_eq!((piece.head.as_ptr(), piece.rest.len()), (chunk.data.as_ptr(), 0));
    }

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

    #[test]
    fn what_is_older_than_a_viewers_start_is_not_for_it() {
        let mut chunk = chunk(100, &[SEQUENCE, TIME]);
        let mut data = chunk.data.to_vec();
        data[40..48].copy_from_slice(&1000_u64.to_be_bytes());
        data[60..64].copy_from_slice(&[0, 3, 232, 0]);
        chunk.data = data.into();
        assert!(is_before(&chunk, &[0, 1001]) && !is_before(&chunk, &[0, 1000]));
        chunk.flags = chunk_flags::KEY;
        assert!(!is_before(&chunk, &[0, 1001]));
        let flv = Patch { offset: 60, track: 0, kind: PatchKind::FlvMs };
        let chunk = LogChunk { flags: 0, patches: [Some(flv), None, None, None], data: chunk.data };
        assert!(
            is_before(&chunk, &[1001]) && !is_before(&chunk, &[1000]) && !is_before(&chunk, &[2_000_000])
        );
    }

    #[test]
    fn small_chunks_and_patches_outside_of_them() {
        let chunk = chunk(50, &[SEQUENCE, Patch { offset: 45, ..TIME }, Patch { offset: u32::MAX, ..TIME }]);
        let piece = patched(&chunk, &[], &mut 0);
        assert_eq!((piece.head.len(), piece.rest.len()), (50, 0));
        assert_eq!((&piece.head[20..24], &piece.head[45..]), (&[0, 0, 0, 1][..], &chunk.data[45..]));
        let past = self::chunk(5_000, &[Patch { offset: 6_000, ..TIME }]);
        assert_eq!(patched(&past, &[], &mut 0).joined(), past.data);
    }
}
