//! Units out of rings.
//!
//! The host signals one descriptor per plugin; a task of the plugin's runtime turns that into notifications per source.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use patchbay_media::{Parameters, Unit};
use patchbay_plugin_api::records::records;
use patchbay_plugin_api::{Code, Host, UnitHeader, flags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::error::Error;
use crate::track;

/// Room given to each read; a larger unit gets what it needs.
const ROOM: usize = 64 << 10;

/// Room for reading history.
const HISTORY_ROOM: usize = 1 << 20;

/// Units read by this library, for `/metrics`: live readers and joins apart.
#[derive(Debug, Default)]
pub struct ReadCounters {
    /// Units copied out by shared live readers.
    pub live_units: AtomicU64,
    /// Units copied out for joining viewers.
    pub history_units: AtomicU64,
    /// Histories read.
    pub histories: AtomicU64,
}

static COUNTERS: ReadCounters = ReadCounters {
    live_units: AtomicU64::new(0),
    history_units: AtomicU64::new(0),
    histories: AtomicU64::new(0),
};

impl ReadCounters {
    /// Their names in `/metrics` and values.
    pub fn named(&self) -> [(&'static str, u64); 3] {
        [
            ("units_copied", &self.live_units),
            ("history_units_copied", &self.history_units),
            ("histories_read", &self.histories),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

/// Counters of all readers of this library.
pub fn counters() -> &'static ReadCounters {
    &COUNTERS
}

static WAKES: OnceLock<Mutex<HashMap<u64, Weak<Notify>>>> = OnceLock::new();
static STARTED: AtomicBool = AtomicBool::new(false);

fn wakes() -> &'static Mutex<HashMap<u64, Weak<Notify>>> {
    WAKES.get_or_init(Mutex::default)
}

/// Starts the task that turns wakes into notifications.
pub(crate) fn start(host: Host, handle: &tokio::runtime::Handle) {
    let Some(wake) = host.wake_fd() else { return };
    if STARTED.swap(true, Ordering::SeqCst) {
        return;
    }
    handle.spawn(async move {
        // Deprecated for types that do not own their descriptor; this one is borrowed for the life of the process.
        #[allow(deprecated)]
        let fd = match AsyncFd::with_interest(wake, Interest::READABLE) {
            Ok(fd) => fd,
            Err(error) => {
                tracing::error!("the wake descriptor cannot be watched: {error}");
                return;
            }
        };
        let mut sources = Vec::new();
        loop {
            let Ok(mut guard) = fd.readable().await else { return };
            drain(wake);
            guard.clear_ready();
            sources.clear();
            if host.pending(&mut sources).is_err() {
                return;
            }
            let map = wakes().lock();
            for source in &sources {
                if let Some(notify) = map.get(source).and_then(Weak::upgrade) {
                    notify.notify_waiters();
                }
            }
        }
    });
}

fn drain(fd: BorrowedFd<'_>) {
    let mut buf = [0_u8; 64];
    while matches!(rustix::io::read(fd, &mut buf), Ok(n) if n == buf.len()) {}
}

fn notify_of(source: u64) -> Arc<Notify> {
    let mut map = wakes().lock();
    if let Some(notify) = map.get(&source).and_then(Weak::upgrade) {
        return notify;
    }
    map.retain(|_, notify| notify.strong_count() > 0);
    let notify = Arc::new(Notify::new());
    map.insert(source, Arc::downgrade(&notify));
    notify
}

/// What a reader brings.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A unit of a track, with its sequence number in the source.
    Unit {
        /// Track id.
        track: u32,
        /// Sequence number.
        sequence: u64,
        /// Monotonic time of arrival, ns.
        arrival_ns: u64,
        /// The unit.
        unit: Unit,
    },
    /// New parameters of a track; units from here on need them.
    Parameters {
        /// Track id.
        track: u32,
        /// The parameters.
        parameters: Parameters,
    },
    /// Units were overwritten before they could be read; reading goes on at the newest key unit.
    Gap {
        /// How many.
        lost: u64,
    },
}

/// A live reader of some tracks of one source: one per plugin and source, shared by its viewers.
pub struct Reader {
    host: Host,
    source: u64,
    mask: u64,
    key_track: Option<u32>,
    cursor: u64,
    notify: Arc<Notify>,
    buf: BytesMut,
    ready: std::collections::VecDeque<Item>,
    epochs: HashMap<u32, u32>,
    /// After a gap: units of the key track are dropped until a key unit comes.
    wait_key: bool,
    live: bool,
}

impl Reader {
    /// Reads `tracks` (ids) of `source` from now on. `key_track` is the video track that decides where reading may go on
    /// after a gap. `epochs` are those whose parameters the caller knows already.
    pub fn live(
        host: Host,
        source: u64,
        tracks: &[(u32, u32)],
        key_track: Option<u32>,
    ) -> Result<Self, Error> {
        let cursor = host.locate_head(source)?;
        Ok(Self::at(host, source, tracks, key_track, cursor))
    }

    /// Like [`Reader::live`] from `cursor` on.
    pub fn at(host: Host, source: u64, tracks: &[(u32, u32)], key_track: Option<u32>, cursor: u64) -> Self {
        Self {
            host,
            source,
            mask: mask_of(tracks.iter().map(|(id, _)| *id)),
            key_track,
            cursor,
            notify: notify_of(source),
            buf: BytesMut::new(),
            ready: std::collections::VecDeque::new(),
            epochs: tracks.iter().copied().collect(),
            wait_key: false,
            live: true,
        }
    }

    /// Whether it reads exactly these tracks (ids with the epochs that were known when it was bound).
    pub fn reads(&self, tracks: &[(u32, u32)]) -> bool {
        self.mask == mask_of(tracks.iter().map(|(id, _)| *id))
    }

    /// Sequence number of the next unit that [`Reader::next`] will bring: what a history must end before.
    pub fn position(&self) -> u64 {
        self.ready
            .iter()
            .find_map(|item| if let Item::Unit { sequence, .. } = item { Some(*sequence) } else { None })
            .unwrap_or(self.cursor)
    }

    /// The next item, waiting for it.
    pub async fn next(&mut self) -> Result<Item, Error> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            let notify = Arc::clone(&self.notify);
            let notified = notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.fill()? && self.ready.is_empty() {
                notified.await;
            }
        }
    }

    /// The next item if there is one now.
    pub fn try_next(&mut self) -> Result<Option<Item>, Error> {
        if self.ready.is_empty() {
            self.fill()?;
        }
        Ok(self.ready.pop_front())
    }

    /// Reads once; true when the newest unit was met (a wake is armed then).
    fn fill(&mut self) -> Result<bool, Error> {
        let read = self.host.read(self.source, self.cursor, self.mask, &mut self.buf, ROOM)?;
        if read.lost > 0 {
            self.buf.clear();
            self.ready.push_back(Item::Gap { lost: read.lost });
            // Jump to the newest key unit, or wait for the next one.
            let key = self.key_track.and_then(|track| self.host.locate_newest_key(self.source, track).ok());
            self.cursor = key.unwrap_or(read.next).max(self.cursor);
            self.wait_key = self.key_track.is_some();
            return Ok(false);
        }
        self.cursor = read.next;
        let bytes = self.buf.split().freeze();
        for (header, data) in records(bytes) {
            self.take(&header, data)?;
        }
        Ok(read.end)
    }

    fn take(&mut self, header: &UnitHeader, data: Bytes) -> Result<(), Error> {
        let id = u32::from(header.track);
        let key = header.flags & flags::KEY != 0;
        if self.wait_key {
            if Some(id) == self.key_track && key {
                self.wait_key = false;
            } else {
                return Ok(());
            }
        }
        if self.epochs.get(&id) != Some(&header.epoch) {
            let info = self.host.track_config(self.source, id, header.epoch)?;
            self.epochs.insert(id, header.epoch);
            if let Some(parameters) = track::parameters(&info) {
                self.ready.push_back(Item::Parameters { track: id, parameters });
            }
        }
        if self.live {
            COUNTERS.live_units.fetch_add(1, Ordering::Relaxed);
        }
        let unit = unit_of(header, data);
        self.ready.push_back(Item::Unit {
            track: id,
            sequence: header.sequence,
            arrival_ns: header.arrival_ns,
            unit,
        });
        Ok(())
    }
}

/// What a joining viewer gets before live: units of one track from the newest key unit (before `end`) up to `end`.
///
/// Empty when the ring holds no such key unit. Units of another configuration epoch than the newest are left out.
pub fn history(host: Host, source: u64, track: u32, end: u64) -> Result<Vec<Unit>, Error> {
    let Ok(start) = host.locate_newest_key(source, track) else { return Ok(Vec::new()) };
    let mut units = Vec::new();
    if start >= end {
        // The newest key unit is not delivered live yet: the viewer starts with it.
        return Ok(units);
    }
    COUNTERS.histories.fetch_add(1, Ordering::Relaxed);
    let mut cursor = start;
    let mut epoch = None;
    let mut buf = BytesMut::new();
    while cursor < end {
        let read = match host.read(source, cursor, 1 << track, &mut buf, HISTORY_ROOM) {
            Ok(read) => read,
            Err(Code::Closed) => break,
            Err(code) => return Err(code.into()),
        };
        if read.lost > 0 {
            // Overtaken while reading: the caller's viewer waits for the next key unit.
            return Ok(Vec::new());
        }
        for (header, data) in records(buf.split().freeze()) {
            if header.sequence >= end {
                break;
            }
            if *epoch.get_or_insert(header.epoch) != header.epoch {
                return Ok(Vec::new());
            }
            units.push(unit_of(&header, data));
        }
        if read.next <= cursor || read.end {
            break;
        }
        cursor = read.next;
    }
    COUNTERS.history_units.fetch_add(units.len() as u64, Ordering::Relaxed);
    Ok(units)
}

/// One unit of a ring, with what the ring says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// Sequence number in the source.
    pub sequence: u64,
    /// Monotonic time of arrival, ns.
    pub arrival_ns: u64,
    /// Configuration epoch of its track.
    pub epoch: u32,
    /// The unit.
    pub unit: Unit,
}

/// The newest key unit of a track, alone; `None` when the ring holds none.
pub fn newest_key(host: Host, source: u64, track: u32) -> Result<Option<Placed>, Error> {
    // It may be overwritten while it is read: then there is a newer one.
    for _ in 0..3 {
        let Ok(cursor) = host.locate_newest_key(source, track) else { return Ok(None) };
        let mut buf = BytesMut::new();
        let read = host.read(source, cursor, mask_of(std::iter::once(track)), &mut buf, ROOM)?;
        let first = records(buf.freeze()).next();
        if let Some((header, data)) = first.filter(|(header, _)| read.lost == 0 && header.sequence == cursor)
        {
            COUNTERS.history_units.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(Placed {
                sequence: header.sequence,
                arrival_ns: header.arrival_ns,
                epoch: header.epoch,
                unit: unit_of(&header, data),
            }));
        }
    }
    Ok(None)
}

/// Bit mask of track ids.
pub fn mask_of(ids: impl Iterator<Item = u32>) -> u64 {
    ids.filter(|id| *id < 64).fold(0, |mask, id| mask | 1 << id)
}

fn unit_of(header: &UnitHeader, data: Bytes) -> Unit {
    Unit {
        pts: header.pts,
        dts: header.dts,
        duration: header.duration,
        key: header.flags & flags::KEY != 0,
        discontinuity: header.flags & flags::DISCONTINUITY != 0,
        incomplete: header.flags & flags::INCOMPLETE != 0,
        data,
    }
}
