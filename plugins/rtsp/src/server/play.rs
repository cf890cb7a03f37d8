//! Playing: each track is packetized once per packet size and fanned out to all its viewers.
//!
//! ```text
//! ring ─▶ Feed (source, packet size) ─▶ Run per track: one SSRC, numbering, channel pair
//!            └─▶ Room (set of tracks) ─▶ Fanout: one write per unit and viewer over TCP
//!                                    └─▶ datagrams for viewers over UDP, and once for a group
//! ```

mod feed;
mod frames;
mod multicast;
mod run;
mod udp;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use patchbay_fanout::{Buffer, Fanout, Join, Limits, Tracks, Writer};
use patchbay_rtp::clock::{self, WallClock};
use patchbay_sdk::Error;
use patchbay_sdk::clock::{host_ns, unix_ns};
pub use patchbay_sdk::server::Wanted;
use tokio::sync::watch;

use feed::LinkedTrack;
pub use feed::{Feed, History};
use frames::with_channel;
pub use multicast::{Group, NoPool, Pool};
pub use run::{Now, Run, Seed, Start};
pub use udp::{Datagrams, UdpTrack};

use crate::server::link::Link;
use crate::server::rings::Rings;
use crate::server::session::{Offer, RtpInfo};

/// Tracks of one room; a stream with more offers the first ones.
pub const MAX_TRACKS: usize = 32;

/// Totals for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Packetizing runs made: one per track and packet size while somebody watches.
    pub runs: AtomicU64,
    /// Units packetized.
    pub units: AtomicU64,
    /// Units that were overwritten before they were read.
    pub lost: AtomicU64,
    /// Histories read and packetized for joining viewers.
    pub histories: AtomicU64,
    /// Viewers that joined.
    pub joins: AtomicU64,
    /// Datagrams that a socket did not take.
    pub datagrams_dropped: AtomicU64,
}

/// The server's clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since its start.
    pub fn at(self) -> Duration {
        self.start.elapsed()
    }

    /// The same with the wall time.
    pub fn now(self) -> Now {
        Now { at: self.at(), wall: clock::Now { host_ns: host_ns(), unix_ns: unix_ns() } }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// All feeds and rooms of the server.
pub struct Hub<R: Rings> {
    rings: R,
    clock: Clock,
    limits: Limits,
    counters: Arc<Counters>,
    feeds: Mutex<HashMap<FeedKey, Weak<Feed<R>>>>,
    wall: WallClock,
    rooms: Mutex<HashMap<RoomKey, Weak<Room<R>>>>,
}

/// Source and packet size.
type FeedKey = (u64, usize);

/// Tracks (source and id) in the order of the description, and the packet size.
type RoomKey = (Vec<(u64, u32)>, usize);

impl<R: Rings> Hub<R> {
    /// A hub without viewers.
    pub fn new(rings: R, clock: Clock, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            rings,
            clock,
            limits,
            counters: Arc::default(),
            feeds: Mutex::default(),
            wall: WallClock::default(),
            rooms: Mutex::default(),
        })
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the fan-outs of all rooms counted.
    pub fn fanouts(&self) -> Vec<Fanout<Link>> {
        self.rooms.lock().values().filter_map(Weak::upgrade).map(|room| room.fanout.clone()).collect()
    }

    /// Whether nobody is served and nothing is packetized.
    pub fn is_empty(&self) -> bool {
        self.rooms.lock().values().all(|room| room.strong_count() == 0)
            && self.feeds.lock().values().all(|feed| feed.strong_count() == 0)
    }

    /// The room for these tracks, shared by all who want the same of them at the same packet size.
    pub fn room(&self, wanted: &[Wanted], max_payload: usize) -> Arc<Room<R>> {
        let wanted = wanted.get(..MAX_TRACKS).unwrap_or(wanted);
        let key: RoomKey = (wanted.iter().map(|w| (w.source, w.track)).collect(), max_payload);
        let mut rooms = self.rooms.lock();
        if let Some(room) = rooms.get(&key).and_then(Weak::upgrade).filter(|room| !room.is_over()) {
            return room;
        }
        rooms.retain(|_, room| room.strong_count() > 0);
        let room = Arc::new(self.make_room(wanted, max_payload));
        for feed in &room.feeds {
            let of_feed = room.tracks.iter().filter(|track| track.feed.source == feed.source);
            let linked = of_feed.map(|t| LinkedTrack { id: t.id, bit: t.bit, channel: t.offer.channel });
            feed.link(&room, linked.collect());
        }
        rooms.insert(key, Arc::downgrade(&room));
        room
    }

    fn make_room(&self, wanted: &[Wanted], max_payload: usize) -> Room<R> {
        let mut feeds: Vec<Arc<Feed<R>>> = Vec::new();
        let mut tracks = Vec::new();
        for (index, wanted) in wanted.iter().enumerate() {
            let feed = match feeds.iter().find(|feed| feed.source == wanted.source) {
                Some(feed) => Arc::clone(feed),
                None => {
                    let feed = self.feed(wanted.source, max_payload);
                    feeds.push(Arc::clone(&feed));
                    feed
                }
            };
            let run = feed.run(wanted.track, wanted.epoch, &wanted.parameters);
            let is_free = |channel: u8| tracks.iter().all(|t: &Track<R>| t.offer.channel != channel);
            let channel = match run.channel {
                own if is_free(own) => own,
                _ => (0..=u8::MAX - 1).step_by(2).find(|channel| is_free(*channel)).unwrap_or(run.channel),
            };
            tracks.push(Track {
                feed,
                id: wanted.track,
                bit: 1 << index,
                is_keyed: run.is_keyed(),
                run_channel: run.channel,
                offer: Offer {
                    parameters: wanted.parameters.clone(),
                    payload_type: run.payload_type,
                    channel,
                    ssrc: run.seed.ssrc,
                },
            });
        }
        // Always locked in this order.
        feeds.sort_by_key(|feed| feed.source);
        Room {
            tracks,
            feeds,
            fanout: Fanout::new(self.limits),
            datagrams: Mutex::default(),
            has_datagrams: AtomicU64::new(0),
            groups: multicast::Groups::default(),
            over: watch::Sender::new(None),
            clock: self.clock,
            counters: Arc::clone(&self.counters),
        }
    }

    fn feed(&self, source: u64, max_payload: usize) -> Arc<Feed<R>> {
        let mut feeds = self.feeds.lock();
        let key = (source, max_payload);
        if let Some(feed) = feeds.get(&key).and_then(Weak::upgrade).filter(|feed| !feed.is_over()) {
            return feed;
        }
        feeds.retain(|_, feed| feed.strong_count() > 0);
        let wall = self.wall.clone();
        let feed =
            Feed::new(self.rings.clone(), source, max_payload, Arc::clone(&self.counters), self.clock, wall);
        feeds.insert(key, Arc::downgrade(&feed));
        feed
    }
}

/// The viewers of a set of tracks.
pub struct Room<R: Rings> {
    tracks: Vec<Track<R>>,
    feeds: Vec<Arc<Feed<R>>>,
    fanout: Fanout<Link>,
    datagrams: Mutex<Vec<Arc<Datagrams>>>,
    has_datagrams: AtomicU64,
    groups: multicast::Groups,
    over: watch::Sender<Option<String>>,
    clock: Clock,
    counters: Arc<Counters>,
}

struct Track<R: Rings> {
    feed: Arc<Feed<R>>,
    /// Id within the source.
    id: u32,
    bit: Tracks,
    is_keyed: bool,
    /// The run's own channel; the room's is in `offer`.
    run_channel: u8,
    offer: Offer,
}

/// What a viewer gets first, and from where on it follows.
struct Entry {
    infos: Vec<RtpInfo>,
    frames: Vec<Bytes>,
    position: patchbay_fanout::Position,
    tracks: Tracks,
    keyed: Tracks,
    await_key: Tracks,
}

impl<R: Rings> Room<R> {
    /// The tracks as medias of a description.
    pub fn offers(&self) -> Vec<Offer> {
        self.tracks.iter().map(|track| track.offer.clone()).collect()
    }

    /// Ends with the reason when the source has ended or changed its codec.
    pub fn over(&self) -> watch::Receiver<Option<String>> {
        self.over.subscribe()
    }

    /// Whether it ended.
    pub fn is_over(&self) -> bool {
        self.over.borrow().is_some()
    }

    /// The room's fan-out, for its counters.
    pub fn fanout(&self) -> &Fanout<Link> {
        &self.fanout
    }

    /// Lets a viewer over TCP in. `reply` makes the answer to PLAY, which goes out before the first packet (S11).
    pub fn join(
        &self,
        tracks: &[usize],
        history: History,
        writer: &Writer<Link>,
        reply: impl FnOnce(&[RtpInfo]) -> Bytes,
    ) -> Result<(), Error> {
        let entry = self.enter(tracks, history)?;
        let mut head = vec![reply(&entry.infos)];
        head.extend(entry.frames);
        self.counters.joins.fetch_add(1, Relaxed);
        self.fanout.join(
            writer,
            Join {
                tracks: entry.tracks,
                keyed: entry.keyed,
                await_key: entry.await_key,
                position: entry.position,
                head,
                rewrite: None,
            },
        );
        Ok(())
    }

    /// Lets a viewer over UDP in; it leaves when its handle is dropped. Packets go out after [`Datagrams::start`], which
    /// is called when the answer to PLAY was written.
    pub fn join_udp(
        &self,
        tracks: Vec<UdpTrack>,
        history: History,
        reply: impl FnOnce(&[RtpInfo]) -> Bytes,
    ) -> Result<(Bytes, Arc<Datagrams>), Error> {
        let indexes: Vec<usize> = tracks.iter().map(|track| track.track).collect();
        let channels = tracks
            .into_iter()
            .filter_map(|track| Some((self.tracks.get(track.track)?.offer.channel, track)))
            .collect();
        // Listed before the position is taken, so that nothing is missed; what is older than that is dropped.
        let viewer = Arc::new(Datagrams::new(channels));
        let mut list = self.datagrams.lock();
        list.retain(|viewer| Arc::strong_count(viewer) > 1);
        list.push(Arc::clone(&viewer));
        self.has_datagrams.store(list.len() as u64, Relaxed);
        drop(list);
        let entry = self.enter(&indexes, history)?;
        self.counters.joins.fetch_add(1, Relaxed);
        viewer.set(entry.frames, entry.position, entry.tracks, entry.keyed, entry.await_key);
        Ok((reply(&entry.infos), viewer))
    }

    fn enter(&self, wanted: &[usize], history: History) -> Result<Entry, Error> {
        for feed in &self.feeds {
            feed.start()?;
        }
        let at = self.clock.at();
        let mut plans = Vec::new();
        let position = {
            let mut states: Vec<_> = self.feeds.iter().map(|feed| (feed.source, feed.lock())).collect();
            for index in wanted {
                let Some(track) = self.tracks.get(*index) else { continue };
                let Some((_, state)) = states.iter_mut().find(|(source, _)| *source == track.feed.source)
                else {
                    continue;
                };
                if let Some(plan) = track.feed.plan(state, track.id, history, at)? {
                    plans.push((*index, track, plan));
                }
            }
            self.fanout.end()
        };
        let mut entry =
            Entry { infos: Vec::new(), frames: Vec::new(), position, tracks: 0, keyed: 0, await_key: 0 };
        let (mut reports, mut starts) = (Vec::new(), Vec::new());
        for (index, track, plan) in plans {
            let planned = track.feed.finish(plan);
            let moved = |frames: &Bytes| with_channel(frames, track.run_channel, track.offer.channel);
            reports.extend(planned.report.as_ref().map(moved));
            entry.tracks |= track.bit;
            if track.is_keyed {
                entry.keyed |= track.bit;
            }
            if planned.await_key {
                entry.await_key |= track.bit;
            }
            entry.infos.push(RtpInfo {
                track: index,
                sequence: planned.start.as_ref().map(|start| start.sequence),
                timestamp: planned.start.as_ref().map(|start| start.timestamp),
            });
            starts.extend(planned.start.map(|start| moved(&start.frames)));
        }
        entry.frames = reports.into_iter().chain(starts).filter(|frames| !frames.is_empty()).collect();
        Ok(entry)
    }

    /// The feed's part: `frames` of the track `bit` to all viewers.
    fn push(&self, frames: Bytes, bit: Tracks, key: bool, at: Duration) {
        let buffer = Buffer { bytes: frames, tracks: bit, key, at, meta: () };
        let datagrams = (self.has_datagrams.load(Relaxed) > 0).then(|| buffer.clone());
        let position = self.fanout.push(buffer);
        if let Some(buffer) = datagrams {
            let mut list = self.datagrams.lock();
            // The only other handle is the viewer's own.
            list.retain(|viewer| Arc::strong_count(viewer) > 1);
            self.has_datagrams.store(list.len() as u64, Relaxed);
            let dropped: u64 = list.iter().map(|viewer| viewer.push(position, &buffer)).sum();
            self.counters.datagrams_dropped.fetch_add(dropped, Relaxed);
        }
    }

    fn end(&self, reason: &str) {
        self.over.send_replace(Some(reason.to_owned()));
    }
}
