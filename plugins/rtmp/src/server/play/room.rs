//! The viewers of a set of tracks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use patchbay_fanout::{Buffer, Fanout, Join, Limits, Tracks, Writer};
use patchbay_media::{Kind, Unit};
use patchbay_mux::Mode;
use patchbay_mux::flv::{TagKind, TagMuxer};
use patchbay_sdk::Error;
use patchbay_sdk::api::Host;
use patchbay_sdk::api::message::History;
use patchbay_sdk::reader::{self, Item, Reader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::messages::{self, Meta, Timed};
use super::{Counters, Wanted};

/// The bit of pictures in the fan-out; sound has the next.
const VIDEO: Tracks = 1;
const AUDIO: Tracks = 2;
/// From the last message of a run to the first of the next, in milliseconds.
const NEXT_RUN_MS: i64 = 40;

/// A muxing run and its viewers.
pub struct Room {
    host: Host,
    wanted: Vec<Wanted>,
    /// Index of the pictures.
    video: Option<usize>,
    fanout: Fanout<TcpStream, Meta>,
    state: Mutex<State>,
    over: watch::Sender<Option<String>>,
    tasks: Mutex<Vec<AbortHandle>>,
    start: Instant,
    counters: Arc<Counters>,
}

struct State {
    mux: TagMuxer,
    /// Per source: sequence number of the first unit that was not muxed yet.
    positions: BTreeMap<u64, u64>,
    /// The newest history: where it ends, whether its times are true and where they begin, and what it is.
    history: Option<((u64, bool, i64), Start)>,
}

/// What a viewer gets before live.
#[derive(Debug, Clone)]
struct Start {
    messages: Bytes,
    /// The run's time that is the viewer's at its join.
    start: i64,
    /// The viewer's time of the last message.
    newest: i64,
}

impl Room {
    /// A room that reads its tracks from now on.
    pub fn open(
        host: Host,
        wanted: &[Wanted],
        limits: Limits,
        start: Instant,
        counters: Arc<Counters>,
    ) -> Result<Arc<Self>, Error> {
        let parameters: Vec<_> = wanted.iter().map(|w| w.parameters.clone()).collect();
        let mut mux = TagMuxer::new(&parameters).map_err(|error| Error::unsupported(error.to_string()))?;
        let video = wanted.iter().position(|w| w.parameters.codec.kind() == Kind::Video);
        let mut readers: BTreeMap<u64, Reader> = BTreeMap::new();
        for source in wanted.iter().map(|w| w.source) {
            if readers.contains_key(&source) {
                continue;
            }
            let of_source = wanted.iter().enumerate().filter(|(_, w)| w.source == source);
            let key = of_source.clone().find(|(index, _)| Some(*index) == video).map(|(_, w)| w.track);
            let tracks: Vec<(u32, u32)> = of_source.map(|(_, w)| (w.track, w.epoch)).collect();
            readers.insert(source, Reader::live(host, source, &tracks, key)?);
        }
        let positions: BTreeMap<u64, u64> = readers.iter().map(|(id, r)| (*id, r.position())).collect();
        // The muxer has seen the pictures that are there: it can go on in the middle of them.
        if let Some((index, lead)) = video.and_then(|index| Some((index, wanted.get(index)?))) {
            let end = positions.get(&lead.source).copied().unwrap_or(0);
            for unit in reader::history(host, lead.source, lead.track, end)? {
                mux.place(index, &unit);
            }
        }
        counters.runs.fetch_add(1, Relaxed);
        let room = Arc::new(Self {
            host,
            wanted: wanted.to_vec(),
            video,
            fanout: Fanout::new(limits),
            state: Mutex::new(State { mux, positions, history: None }),
            over: watch::Sender::new(None),
            tasks: Mutex::default(),
            start,
            counters,
        });
        let mut tasks = room.tasks.lock();
        for (source, reader) in readers {
            tasks.push(tokio::spawn(read(Arc::downgrade(&room), source, reader)).abort_handle());
        }
        drop(tasks);
        Ok(room)
    }

    /// Ends with the reason when the source has ended or changed its codec.
    pub fn over(&self) -> watch::Receiver<Option<String>> {
        self.over.subscribe()
    }

    /// Whether it ended.
    pub fn is_over(&self) -> bool {
        self.over.borrow().is_some()
    }

    /// Lets a viewer in. `reply` is the answer to its `play`, which goes out first. A viewer that comes from another run
    /// goes on a little behind `newest`, its newest time so far.
    pub fn join(
        &self,
        reply: Bytes,
        history: History,
        writer: &Writer<TcpStream, Meta>,
        newest: Arc<AtomicI64>,
    ) -> Result<(), Error> {
        let base = match newest.load(Relaxed) {
            0 => 0,
            time => time.saturating_add(NEXT_RUN_MS),
        };
        let mut head = vec![reply];
        let (made, position) = {
            let mut state = self.state.lock();
            let mut first = BytesMut::new();
            messages::put(TagKind::Script, base as u32, &[&state.mux.metadata()], &mut first);
            for (kind, body) in state.mux.configs() {
                messages::put(kind, base as u32, &[&body], &mut first);
            }
            head.push(first.freeze());
            let made = match history {
                History::None => None,
                _ => self.history(&mut state, history == History::Raw, base)?,
            };
            (made, self.fanout.end())
        };
        let has_video = self.video.is_some();
        let await_key = if has_video && made.is_none() { VIDEO } else { 0 };
        if let Some(made) = &made {
            newest.fetch_max(made.newest, Relaxed);
        }
        let timed = Timed { start: made.as_ref().map(|made| made.start), base, newest };
        head.extend(made.map(|made| made.messages));
        self.counters.joins.fetch_add(1, Relaxed);
        self.fanout.join(
            writer,
            Join {
                tracks: VIDEO | AUDIO,
                keyed: if has_video { VIDEO } else { 0 },
                await_key,
                position,
                head,
                rewrite: Some(Box::new(timed)),
            },
        );
        Ok(())
    }

    /// The pictures up to now; those who join between the same two units share them.
    fn history(&self, state: &mut State, is_raw: bool, base: i64) -> Result<Option<Start>, Error> {
        let Some((index, lead)) = self.video.and_then(|index| Some((index, self.wanted.get(index)?))) else {
            return Ok(None);
        };
        let end = state.positions.get(&lead.source).copied().unwrap_or(0);
        if let Some((_, known)) = state.history.as_ref().filter(|(key, _)| *key == (end, is_raw, base)) {
            return Ok(Some(known.clone()));
        }
        let units = reader::history(self.host, lead.source, lead.track, end)?;
        let Some(made) = make_history(&state.mux, index, &units, is_raw, base) else { return Ok(None) };
        self.counters.histories.fetch_add(1, Relaxed);
        state.history = Some(((end, is_raw, base), made.clone()));
        Ok(Some(made))
    }

    fn take(&self, source: u64, item: Item, position: u64) {
        let mut state = self.state.lock();
        let index_of = |track: u32| self.wanted.iter().position(|w| (w.source, w.track) == (source, track));
        match item {
            Item::Unit { track, unit, .. } => {
                if let Some(index) = index_of(track) {
                    self.push(&mut state.mux, index, &unit);
                }
            }
            Item::Parameters { track, parameters } => {
                if let Some(index) = index_of(track)
                    && let Err(error) = state.mux.reconfigure(index, parameters)
                {
                    self.end_with(&error.to_string());
                }
            }
            Item::Gap { lost } => {
                self.counters.lost.fetch_add(lost, Relaxed);
            }
        }
        state.positions.insert(source, position);
    }

    fn push(&self, mux: &mut TagMuxer, index: usize, unit: &Unit) {
        let Some(placed) = mux.place(index, unit) else { return };
        // Behind a change they stand before every key unit: a slow viewer may have missed them.
        let configs = if placed.key && mux.is_changed() { mux.configs() } else { Vec::new() };
        let (bytes, meta) = messages::of_unit(&placed, &unit.data, &configs);
        let tracks = if placed.kind == TagKind::Video { VIDEO } else { AUDIO };
        self.counters.units.fetch_add(1, Relaxed);
        self.fanout.push(Buffer { bytes, tracks, key: unit.key, at: self.start.elapsed(), meta });
    }

    fn end_with(&self, reason: &str) {
        self.over.send_replace(Some(reason.to_owned()));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.tasks.lock().iter().for_each(AbortHandle::abort);
    }
}

/// The units from the newest key unit to the newest that was muxed, from time `base` on.
fn make_history(mux: &TagMuxer, index: usize, units: &[Unit], is_raw: bool, base: i64) -> Option<Start> {
    let mode = if is_raw { Mode::Raw } else { Mode::Squeezed };
    let (places, start) = mux.history(index, units, mode)?;
    let mut out = BytesMut::with_capacity(units.iter().map(|unit| unit.data.len() + 32).sum());
    let mut newest = base;
    for (unit, placed) in units.iter().zip(places) {
        newest = placed.time.saturating_add(base);
        messages::put(placed.kind, newest as u32, &[placed.head.as_slice(), &unit.data], &mut out);
    }
    Some(Start { messages: out.freeze(), start, newest })
}

/// The reading task of one source. It holds the room only while it works: the last viewer ends it.
async fn read(room: Weak<Room>, source: u64, mut reader: Reader) {
    loop {
        let item = reader.next().await;
        let Some(room) = room.upgrade() else { return };
        match item {
            Ok(item) => room.take(source, item, reader.position()),
            Err(error) => return room.end_with(&error.message),
        }
    }
}
