//! One source for one packet size: reads its units once and packetizes each once, for all rooms.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use patchbay_media::Parameters;
use patchbay_rtp::clock::WallClock;
use patchbay_sdk::Error;
use patchbay_sdk::reader::Item;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::frames::with_channel;
use super::run::{Run, Seed, Start};
use super::{Counters, Room};
use crate::server::rings::{RingReader, Rings};

/// How a viewer starts (`?history=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum History {
    /// From the newest key unit, squeezed in time to end at now.
    #[default]
    Squeezed,
    /// The same with true times (`raw`).
    Raw,
    /// At the next key unit (`0`).
    None,
}

/// Which viewers share a history: those who join between the same two units.
type HistoryKey = (u32, u64, History);

/// A source that is read for one packet size.
pub struct Feed<R: Rings> {
    rings: R,
    /// The host's id of the source.
    pub source: u64,
    max_payload: usize,
    counters: Arc<Counters>,
    state: Mutex<State<R>>,
    /// Tracks were added.
    changed: Arc<Notify>,
    task: OnceLock<AbortHandle>,
    is_over: AtomicBool,
    clock: super::Clock,
}

pub(super) struct State<R: Rings> {
    runs: BTreeMap<u32, Run>,
    epochs: BTreeMap<u32, u32>,
    wall: WallClock,
    /// Sequence number of the first unit that was not packetized yet.
    position: u64,
    rooms: Vec<Link<R>>,
    history: Option<(HistoryKey, SharedStart)>,
}

/// Made by the first viewer that needs it.
type SharedStart = Arc<OnceLock<Option<Start>>>;

struct Link<R: Rings> {
    room: Weak<Room<R>>,
    tracks: Vec<LinkedTrack>,
}

/// A track in a room.
pub(super) struct LinkedTrack {
    /// Id within the source.
    pub(super) id: u32,
    /// The room's bit.
    pub(super) bit: u32,
    /// The room's RTP channel.
    pub(super) channel: u8,
}

impl<R: Rings> Feed<R> {
    pub(super) fn new(
        rings: R,
        source: u64,
        max_payload: usize,
        counters: Arc<Counters>,
        clock: super::Clock,
        wall: WallClock,
    ) -> Arc<Self> {
        Arc::new(Self {
            rings,
            source,
            max_payload,
            counters,
            state: Mutex::new(State {
                runs: BTreeMap::new(),
                epochs: BTreeMap::new(),
                wall,
                position: 0,
                rooms: Vec::new(),
                history: None,
            }),
            changed: Arc::default(),
            task: OnceLock::new(),
            is_over: AtomicBool::new(false),
            clock,
        })
    }

    /// Whether the source has ended: a new feed is needed.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Payload type, channel and SSRC of a track's run, which is made if it does not exist.
    pub(super) fn run(&self, track: u32, epoch: u32, parameters: &Parameters) -> Run {
        let mut state = self.state.lock();
        if let Some(run) = state.runs.get(&track) {
            return run.clone();
        }
        let seed = Seed { ssrc: rand::random(), sequence: rand::random(), timestamp: rand::random() };
        let run = Run::new(track, parameters.clone(), seed, self.max_payload);
        state.runs.insert(track, run.clone());
        state.epochs.insert(track, epoch);
        self.counters.runs.fetch_add(1, Relaxed);
        if self.task.get().is_some() {
            self.changed.notify_one();
        }
        run
    }

    /// From now on `room` gets these tracks.
    pub(super) fn link(&self, room: &Arc<Room<R>>, tracks: Vec<LinkedTrack>) {
        let mut state = self.state.lock();
        state
            .rooms
            .retain(|link| link.room.strong_count() > 0 && !Weak::ptr_eq(&link.room, &Arc::downgrade(room)));
        state.rooms.push(Link { room: Arc::downgrade(room), tracks });
    }

    /// Starts to read, if that was not done.
    pub(super) fn start(self: &Arc<Self>) -> Result<(), Error> {
        let mut state = self.state.lock();
        if self.task.get().is_some() {
            return Ok(());
        }
        let reader = self.reader(&state, None)?;
        state.position = reader.position();
        let task = tokio::spawn(read(Arc::downgrade(self), Arc::clone(&self.changed), reader));
        let _ = self.task.set(task.abort_handle());
        Ok(())
    }

    fn reader(&self, state: &State<R>, cursor: Option<u64>) -> Result<R::Reader, Error> {
        let tracks: Vec<(u32, u32)> = state.epochs.iter().map(|(id, epoch)| (*id, *epoch)).collect();
        let key = state.runs.iter().find(|(_, run)| run.is_keyed()).map(|(id, _)| *id);
        self.rings.read(self.source, &tracks, key, cursor)
    }

    /// Holds the feed still while a viewer joins.
    pub(super) fn lock(&self) -> parking_lot::MutexGuard<'_, State<R>> {
        self.state.lock()
    }

    fn take(&self, item: Item, position: u64) {
        let now = self.clock.now();
        let mut guard = self.state.lock();
        let State { runs, wall, rooms, .. } = &mut *guard;
        match item {
            Item::Unit { track, unit, .. } => {
                if let Some(run) = runs.get_mut(&track) {
                    match run.packetize(&unit, wall, now) {
                        Some(frames) => {
                            self.counters.units.fetch_add(1, Relaxed);
                            for link in rooms.iter() {
                                let linked = link.tracks.iter().find(|linked| linked.id == track);
                                if let (Some(linked), Some(room)) = (linked, link.room.upgrade()) {
                                    let frames = with_channel(&frames, run.channel, linked.channel);
                                    room.push(frames, linked.bit, unit.key, now.at);
                                }
                            }
                        }
                        None => {
                            if let Some(refused) = run.refused() {
                                self.over(rooms, &refused.to_string());
                            }
                        }
                    }
                }
            }
            Item::Parameters { track, parameters } => {
                if let Some(run) = runs.get_mut(&track)
                    && !run.set_parameters(parameters)
                {
                    self.over(rooms, "the stream has changed its codec");
                }
            }
            Item::Gap { lost } => {
                self.counters.lost.fetch_add(lost, Relaxed);
            }
        }
        guard.position = position;
    }

    fn end(&self, error: &Error) {
        let guard = self.state.lock();
        self.over(&guard.rooms, &error.message);
    }

    /// Nothing follows for anybody.
    fn over(&self, rooms: &[Link<R>], reason: &str) {
        self.is_over.store(true, Relaxed);
        for room in rooms.iter().filter_map(|link| link.room.upgrade()) {
            room.end(reason);
        }
    }
}

/// Where a viewer of one track starts; made while the feed is held still, finished by [`Plan::finish`] after that.
pub(super) struct Plan {
    run: Run,
    source: u64,
    track: u32,
    position: u64,
    history: History,
    cached: Option<SharedStart>,
    ready: Option<Start>,
}

/// What comes of a [`Plan`].
pub(super) struct Planned {
    /// Its sender report as a frame, when there is one.
    pub(super) report: Option<bytes::Bytes>,
    /// The first packets.
    pub(super) start: Option<Start>,
    /// Nothing may be sent before the next key unit.
    pub(super) await_key: bool,
}

impl<R: Rings> Feed<R> {
    pub(super) fn plan(
        &self,
        state: &mut State<R>,
        track: u32,
        history: History,
        at: Duration,
    ) -> Result<Option<Plan>, Error> {
        let position = state.position;
        let Some(run) = state.runs.get_mut(&track) else { return Ok(None) };
        let mut plan = Plan {
            run: run.clone(),
            source: self.source,
            track,
            position,
            history,
            cached: None,
            ready: None,
        };
        if !run.is_keyed() {
            plan.ready = run.start_now(at);
        } else if !run.is_started() {
            // The first viewer: the run starts with what the ring holds, else with the first key unit that comes.
            let units = match history {
                History::None => Vec::new(),
                _ => self.rings.history(self.source, track, position)?,
            };
            if let Some(first) = units.first() {
                run.start(first.pts);
                run.set_clock(units.last().map_or(first.pts, |unit| unit.pts), &state.wall, self.clock.now());
                self.counters.histories.fetch_add(1, Relaxed);
                plan.ready = run.start_with(&units, history == History::Raw);
            } else {
                plan.ready = run.start_now(at);
            }
            plan.run = run.clone();
        } else if history != History::None {
            let key = (track, position, history);
            let cell = match &state.history {
                Some((known, cell)) if *known == key => Arc::clone(cell),
                _ => Arc::default(),
            };
            state.history = Some((key, Arc::clone(&cell)));
            plan.cached = Some(cell);
        }
        Ok(Some(plan))
    }

    /// Reads and packetizes the history; joins between the same two units share it.
    pub(super) fn finish(&self, plan: Plan) -> Planned {
        let Plan { run, source, track, position, history, cached, ready } = plan;
        let is_keyed = run.is_keyed();
        let start = match cached {
            None => ready,
            Some(cell) => cell
                .get_or_init(|| {
                    let units = self.rings.history(source, track, position).ok()?;
                    self.counters.histories.fetch_add(1, Relaxed);
                    run.start_with(&units, history == History::Raw)
                })
                .clone(),
        };
        Planned { report: run.report(), await_key: is_keyed && start.is_none(), start }
    }
}

impl<R: Rings> Drop for Feed<R> {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// The reading task: one wake for all viewers. It holds the feed only while it works: the last viewer ends it.
async fn read<R: Rings>(feed: Weak<Feed<R>>, changed: Arc<Notify>, mut reader: R::Reader) {
    loop {
        let next = tokio::select! {
            item = reader.next() => Some(item),
            () = changed.notified() => None,
        };
        let Some(this) = feed.upgrade() else { return };
        match next {
            Some(Ok(item)) => this.take(item, reader.position()),
            Some(Err(error)) => return this.end(&error),
            None => {
                let again = {
                    let state = this.state.lock();
                    this.reader(&state, Some(reader.position()))
                };
                match again {
                    Ok(again) => reader = again,
                    Err(error) => return this.end(&error),
                }
            }
        }
    }
}
