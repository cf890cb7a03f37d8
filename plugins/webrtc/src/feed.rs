//! Sources on their way to peers: each unit is read once and packetized once, then handed to every peer that watches.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use patchbay_media::{Codec, Kind, Parameters, Unit};
use patchbay_rtp::clock::{Now, WallClock};
use patchbay_rtp::packetize::{History, Packetizer, Packets, Times};
use patchbay_sdk::Error;
use patchbay_sdk::api::Host;
use patchbay_sdk::clock::{host_ns, unix_ns};
use patchbay_sdk::reader::{self, Item, Reader};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::peer::Peer;

mod leading;
mod regroup;

use regroup::Regroup;
pub(crate) use regroup::sent_as;

/// Largest RTP payload, in bytes: 1200 with the header, which passes every network that WebRTC is used in.
pub const MAX_PAYLOAD: usize = 1188;

/// A history larger than this is not sent; the peer starts at the next key unit.
const MAX_HISTORY: usize = 8 << 20;

/// Bytes of an RTP header without extensions.
const RTP_HEADER: usize = 12;

/// Totals for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Units packetized.
    pub units: AtomicU64,
    /// Units that were overwritten before they were read.
    pub lost: AtomicU64,
    /// Histories packetized.
    pub histories: AtomicU64,
    /// Peers that joined.
    pub joins: AtomicU64,
}

/// A unit, or a whole history, as packets that all peers share.
#[derive(Debug)]
pub struct Frame {
    bytes: Bytes,
    /// Its packets.
    pub pieces: Vec<Piece>,
    /// Decoding can start with it.
    pub is_key: bool,
    /// It is what comes before live.
    pub is_history: bool,
    /// It refers to pictures before the key unit that it follows: a decoder that starts at that one cannot show it.
    pub is_leading: bool,
    /// Frames of another line count from elsewhere.
    pub line: u64,
    /// Number of its unit in the source; a history ends before this one.
    pub sequence: u64,
    /// RTP time of its newest unit, without what a peer adds.
    pub timestamp: u32,
    /// Wall time of its newest unit, ns since 1970.
    pub unix_ns: i64,
}

/// One packet of a frame.
#[derive(Debug, Clone)]
pub struct Piece {
    range: Range<usize>,
    /// RTP time, without what a peer adds.
    pub timestamp: u32,
    /// The marker bit.
    pub is_marked: bool,
}

impl Piece {
    /// Bytes of its payload.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether it has no payload.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }
}

impl Frame {
    /// A frame of packets as they were written, with the wall time of its newest unit.
    pub fn new(packets: &mut Packets, line: u64, timestamp: u32, unix_ns: i64) -> Self {
        let ranges = packets.ranges().to_vec();
        let bytes = packets.take();
        let piece = |range: &Range<usize>| {
            let head = bytes.get(range.clone())?.first_chunk::<RTP_HEADER>()?;
            let [_, marker, _, _, t0, t1, t2, t3, ..] = *head;
            Some(Piece {
                range: range.start + RTP_HEADER..range.end,
                timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
                is_marked: marker & 0x80 != 0,
            })
        };
        let pieces = ranges.iter().filter_map(piece).collect();
        Self {
            bytes,
            pieces,
            is_key: false,
            is_history: false,
            is_leading: false,
            line,
            sequence: 0,
            timestamp,
            unix_ns,
        }
    }

    /// The payload of a packet; no copy.
    pub fn payload(&self, piece: &Piece) -> Bytes {
        if piece.range.end > self.bytes.len() { Bytes::new() } else { self.bytes.slice(piece.range.clone()) }
    }

    /// The same, borrowed.
    pub fn bytes_of(&self, piece: &Piece) -> &[u8] {
        self.bytes.get(piece.range.clone()).unwrap_or_default()
    }

    /// Bytes of all packets.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// All feeds.
pub struct Feeds {
    feeds: Mutex<HashMap<u64, Weak<Feed>>>,
    counters: Arc<Counters>,
    wall: WallClock,
}

impl Feeds {
    /// None yet.
    pub fn new() -> Self {
        Self { feeds: Mutex::default(), counters: Arc::default(), wall: WallClock::default() }
    }

    /// Totals.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Feeds that are read, for tests of leaks.
    pub fn len(&self) -> usize {
        self.feeds.lock().values().filter(|feed| feed.strong_count() > 0).count()
    }

    /// Whether no feed is read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The feed of a source, shared by all who watch it.
    pub fn feed(&self, host: Host, source: u64) -> Arc<Feed> {
        static LINES: AtomicU64 = AtomicU64::new(0);
        let mut feeds = self.feeds.lock();
        if let Some(feed) = feeds.get(&source).and_then(Weak::upgrade).filter(|feed| !feed.is_over()) {
            return feed;
        }
        feeds.retain(|_, feed| feed.strong_count() > 0);
        let feed = Arc::new(Feed {
            host,
            source,
            line: LINES.fetch_add(1, Relaxed),
            counters: Arc::clone(&self.counters),
            state: Mutex::new(State { wall: self.wall.clone(), ..State::default() }),
            changed: Arc::default(),
            task: OnceLock::new(),
            over: OnceLock::new(),
        });
        feeds.insert(source, Arc::downgrade(&feed));
        feed
    }
}

impl Default for Feeds {
    fn default() -> Self {
        Self::new()
    }
}

/// One source that is read for all peers.
pub struct Feed {
    host: Host,
    source: u64,
    line: u64,
    counters: Arc<Counters>,
    state: Mutex<State>,
    /// Tracks were added.
    changed: Arc<Notify>,
    task: OnceLock<AbortHandle>,
    over: OnceLock<String>,
}

#[derive(Default)]
struct State {
    runs: BTreeMap<u32, Run>,
    wall: WallClock,
    /// Sequence number of the first unit that was not packetized yet.
    position: u64,
    watchers: Vec<Watcher>,
    history: Option<((u32, u64), SharedHistory)>,
}

/// Made by the first peer that needs it.
type SharedHistory = Arc<OnceLock<Option<Arc<Frame>>>>;

/// One track of one peer.
struct Watcher {
    track: u32,
    peer: Weak<Peer>,
    /// The peer's index of the track.
    index: usize,
}

/// A track that is packetized.
struct Run {
    parameters: Parameters,
    epoch: u32,
    packetizer: Packetizer,
    regroup: Option<Regroup>,
    packets: Packets,
}

impl Run {
    fn new(parameters: Parameters, epoch: u32) -> Result<Self, Error> {
        let (regroup, sent) = match Regroup::new(&parameters) {
            Some((regroup, sent)) => (Some(regroup), sent),
            None => (None, parameters.clone()),
        };
        let packetizer = Packetizer::new(&sent, 0, 0, 0, 0, MAX_PAYLOAD)
            .map_err(|error| Error::unsupported(error.to_string()))?;
        Ok(Self { parameters, epoch, packetizer, regroup, packets: Packets::new(0) })
    }

    fn is_keyed(&self) -> bool {
        self.parameters.codec.kind() == Kind::Video
    }

    /// The frames of a unit.
    fn frames(&mut self, unit: &Unit, line: u64, wall: &WallClock, now: Now) -> Vec<Frame> {
        let Self { parameters, packetizer, regroup, packets, .. } = self;
        let mut frames = Vec::new();
        let clock_rate = if regroup.is_some() { 8000 } else { parameters.clock_rate };
        let is_hevc = parameters.codec == Codec::Hevc;
        let mut write = |unit: &Unit| {
            let sets = Some(&*parameters).filter(|_| unit.key);
            if packetizer.packetize(unit, sets, packets) == 0 {
                return;
            }
            let unix_ns = wall.unix_ns(unit.pts, clock_rate, now);
            let mut frame = Frame::new(packets, line, packetizer.timestamp(unit.pts), unix_ns);
            frame.is_key = unit.key;
            frame.is_leading = is_hevc && leading::is_leading(unit);
            frames.push(frame);
        };
        match regroup {
            None => write(unit),
            Some(regroup) => {
                regroup.push(unit);
                while let Some(unit) = regroup.pop() {
                    write(&unit);
                }
            }
        }
        frames
    }
}

impl Feed {
    /// Whether the source has ended: a new feed is needed.
    pub fn is_over(&self) -> bool {
        self.over.get().is_some()
    }

    /// Lets a track of a peer in: what is before live is read and packetized, once for all who join at the same moment.
    pub fn join(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        index: usize,
        track: u32,
        epoch: u32,
        parameters: &Parameters,
    ) -> Result<(), Error> {
        peer.hold(index);
        let history = {
            let mut state = self.state.lock();
            if let Entry::Vacant(entry) = state.runs.entry(track) {
                entry.insert(Run::new(parameters.clone(), epoch)?);
                if self.task.get().is_some() {
                    self.changed.notify_one();
                }
            }
            self.start(&mut state)?;
            state.watchers.retain(|watcher| watcher.peer.strong_count() > 0);
            state.watchers.push(Watcher { track, peer: Arc::downgrade(peer), index });
            self.plan(&mut state, track)
        };
        self.counters.joins.fetch_add(1, Relaxed);
        self.finish(peer, index, track, history);
        Ok(())
    }

    /// Gives a peer that lost its way what it needs to decode again.
    pub fn restart(&self, peer: &Arc<Peer>, index: usize, track: u32) {
        let history = {
            let mut state = self.state.lock();
            // While the feed stands still: no frame is missed between what was sent and what waits.
            peer.hold(index);
            self.plan(&mut state, track)
        };
        self.finish(peer, index, track, history);
    }

    /// A peer's track is no longer wanted from here.
    pub fn leave(&self, peer: &Arc<Peer>, index: usize) {
        let peer = Arc::downgrade(peer);
        self.state.lock().watchers.retain(|w| !(w.index == index && Weak::ptr_eq(&w.peer, &peer)));
    }

    /// The history of a track at this moment, not made yet; `None` for sound, which has none.
    fn plan(&self, state: &mut State, track: u32) -> Option<(u64, SharedHistory)> {
        if !state.runs.get(&track)?.is_keyed() {
            return None;
        }
        let key = (track, state.position);
        let cell = match &state.history {
            Some((known, cell)) if *known == key => Arc::clone(cell),
            _ => Arc::default(),
        };
        state.history = Some((key, Arc::clone(&cell)));
        Some((state.position, cell))
    }

    fn finish(&self, peer: &Arc<Peer>, index: usize, track: u32, planned: Option<(u64, SharedHistory)>) {
        match planned {
            // Sound starts as it comes.
            None => peer.start(index, None),
            Some((position, cell)) => {
                let history = cell.get_or_init(|| self.history(track, position)).clone();
                peer.start(index, history);
            }
        }
    }

    fn history(&self, track: u32, position: u64) -> Option<Arc<Frame>> {
        let units = reader::history(self.host, self.source, track, position).ok()?;
        let newest = units.iter().map(|unit| unit.pts).max()?;
        if units.iter().map(|unit| unit.data.len()).sum::<usize>() > MAX_HISTORY {
            return None;
        }
        let (packetizer, parameters, unix_ns) = {
            let mut state = self.state.lock();
            let State { runs, wall, .. } = &mut *state;
            let run = runs.get(&track)?;
            let unix_ns = wall.unix_ns(newest, run.parameters.clock_rate, now());
            (run.packetizer.clone(), run.parameters.clone(), unix_ns)
        };
        let units = if parameters.codec == Codec::Hevc { leading::closed(units) } else { units };
        let mut packets = Packets::new(0);
        let history = History { units: &units, parameters: Some(&parameters), times: Times::BeforeNext };
        packetizer.packetize_history(&history, &mut packets);
        self.counters.histories.fetch_add(1, Relaxed);
        let mut frame = Frame::new(&mut packets, self.line, packetizer.timestamp(newest), unix_ns);
        (frame.is_key, frame.is_history, frame.sequence) = (true, true, position);
        Some(Arc::new(frame))
    }

    /// Starts to read, if that was not done.
    fn start(self: &Arc<Self>, state: &mut State) -> Result<(), Error> {
        if self.task.get().is_some() {
            return Ok(());
        }
        let reader = Reader::live(self.host, self.source, &tracks(state), key_track(state))?;
        state.position = reader.position();
        let task = tokio::spawn(read(Arc::downgrade(self), Arc::clone(&self.changed), reader));
        let _ = self.task.set(task.abort_handle());
        Ok(())
    }

    /// Takes an item of the reader; frames go out to the peers outside of the lock, in order.
    fn take(&self, item: Item, position: u64) {
        let mut out: Vec<(Arc<Peer>, usize)> = Vec::new();
        let mut frames = Vec::new();
        {
            let mut guard = self.state.lock();
            let State { runs, wall, watchers, .. } = &mut *guard;
            match item {
                Item::Unit { track, unit, sequence, .. } => {
                    if let Some(run) = runs.get_mut(&track) {
                        self.counters.units.fetch_add(1, Relaxed);
                        let made = run.frames(&unit, self.line, wall, now());
                        frames.extend(made.into_iter().map(|frame| Arc::new(Frame { sequence, ..frame })));
                    }
                    let of_track = watchers.iter().filter(|watcher| watcher.track == track);
                    out.extend(of_track.filter_map(|w| Some((w.peer.upgrade()?, w.index))));
                }
                Item::Parameters { track, parameters } => {
                    if let Some(run) = runs.get_mut(&track) {
                        if run.parameters.codec != parameters.codec {
                            let _ = self.over.set("the stream has changed its codec".to_owned());
                        }
                        if let Some((regroup, _)) = Regroup::new(&parameters) {
                            run.regroup = Some(regroup);
                        }
                        run.parameters = parameters;
                    }
                }
                Item::Gap { lost } => drop(self.counters.lost.fetch_add(lost, Relaxed)),
            }
            guard.position = position;
        }
        let sent_at = Instant::now();
        for (peer, index) in out {
            for frame in &frames {
                peer.send(index, frame, sent_at);
            }
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

fn tracks(state: &State) -> Vec<(u32, u32)> {
    state.runs.iter().map(|(id, run)| (*id, run.epoch)).collect()
}

fn key_track(state: &State) -> Option<u32> {
    state.runs.iter().find(|(_, run)| run.is_keyed()).map(|(id, _)| *id)
}

fn now() -> Now {
    Now { host_ns: host_ns(), unix_ns: unix_ns() }
}

/// The reading task: one wake for all peers. It holds the feed only while it works: the last peer ends it.
async fn read(feed: Weak<Feed>, changed: Arc<Notify>, mut reader: Reader) {
    loop {
        let next = tokio::select! {
            item = reader.next() => Some(item),
            () = changed.notified() => None,
        };
        let Some(this) = feed.upgrade() else { return };
        match next {
            Some(Ok(item)) => this.take(item, reader.position()),
            Some(Err(error)) => {
                let _ = this.over.set(error.message);
                return;
            }
            None => {
                let state = this.state.lock();
                reader =
                    Reader::at(this.host, this.source, &tracks(&state), key_track(&state), reader.position());
            }
        }
    }
}
