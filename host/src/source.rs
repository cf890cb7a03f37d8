//! The data plane of one source: its ring, its tracks' configuration epochs, its place in time.

mod feeders;
mod placement;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use patchbay_plugin_api::Code;
use patchbay_plugin_api::abi::RawUnit;
use patchbay_plugin_api::message::{Clock, Demand, TrackChanged, TrackInfo, Tracks};
use patchbay_ring::{BackingKind, Budget, Limits, PushError, Ring, RingError, RingHandle, UnitHeader, flags};

use self::feeders::Feeders;
use self::placement::Placement;
use crate::router::Told;

/// Largest unit of compressed media, in bytes.
pub const MAX_UNIT: usize = 8 << 20;

/// Largest raw frame, in bytes.
pub const MAX_RAW_UNIT: usize = 32 << 20;

/// Most tracks of one source.
pub const MAX_TRACKS: usize = 64;

/// ns of CLOCK_MONOTONIC.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// One source: a ring that lives over all its sessions.
pub struct Source {
    /// Its id, as plugins read it.
    pub id: u64,
    /// What readers use.
    pub handle: Arc<RingHandle>,
    inner: Mutex<Inner>,
}

struct Inner {
    ring: Ring,
    tracks: Vec<Track>,
    feeders: Feeders,
    placement: Placement,
    last_media: Duration,
}

#[derive(Default)]
struct Track {
    info: TrackInfo,
    epoch: u32,
    /// Host's epoch to description, as long as a unit in the ring names it.
    epochs: BTreeMap<u32, TrackInfo>,
    /// The session's epoch to the host's.
    session_epochs: BTreeMap<u32, u32>,
    config: bool,
    bytes: u64,
    units: u64,
    refused: u64,
}

/// Counters of one track.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrackCounters {
    /// There is, or was, a track of this id.
    pub is_known: bool,
    /// Payload bytes that came in.
    pub bytes: u64,
    /// Units that came in.
    pub units: u64,
    /// Units that were refused.
    pub refused: u64,
}

impl Source {
    /// A source with an empty ring in shared memory.
    pub fn new(id: u64, budget: &Arc<Budget>) -> Result<Self, RingError> {
        let limits = Limits { budget: Arc::clone(budget), ..Limits::default() };
        let ring = Ring::new(BackingKind::Memfd, limits)?;
        let handle = ring.handle();
        let inner = Inner {
            ring,
            tracks: Vec::new(),
            feeders: Feeders::default(),
            placement: Placement::default(),
            last_media: Duration::ZERO,
        };
        Ok(Self { id, handle, inner: Mutex::new(inner) })
    }

    /// A new session feeds this source from now on; what an older one pushes is refused.
    pub fn begin(&self, session: u64) {
        let mut inner = self.inner.lock();
        inner.feeders.begin(session);
        inner.placement.begin();
        for track in &mut inner.tracks {
            track.session_epochs.clear();
        }
    }

    /// A service that the session `of` has called feeds this source too; false when it may not.
    pub fn join(&self, of: u64, session: u64) -> bool {
        self.inner.lock().feeders.join(of, session)
    }

    /// A service feeds this source no longer. Its tracks that are left, as [`Self::tracks`] gives them; none when it did not.
    pub fn leave(&self, session: u64) -> Option<(Vec<(u32, TrackInfo)>, Told)> {
        let mut inner = self.inner.lock();
        let gone = inner.feeders.leave(session)?;
        for track in inner.tracks.iter_mut().take(gone.end).skip(gone.start) {
            track.session_epochs.clear();
        }
        Some((inner.known(), inner.feeders.told()))
    }

    /// Takes the tracks of a session. Gives back those of all that feed this source, with the host's epochs: `(epoch, info)`
    /// by id.
    pub fn tracks(&self, session: u64, tracks: &Tracks) -> Option<(Vec<(u32, TrackInfo)>, Told)> {
        let mut inner = self.inner.lock();
        if tracks.receive.len() > MAX_TRACKS {
            return None;
        }
        let place =
            |info: &TrackInfo| Some(TrackInfo { id: inner.feeders.track(session, info.id)?, ..info.clone() });
        let placed: Option<Vec<TrackInfo>> = tracks.receive.iter().map(place).collect();
        inner.feeders.track(session, 0)?;
        if tracks.placed {
            inner.placement.keep_times();
        }
        for info in placed? {
            inner.configure(&info, 0)?;
        }
        inner.feeders.tell(session, tracks);
        Some((inner.known(), inner.feeders.told()))
    }

    /// Takes a session's new configuration of a track: the host's epoch and description of it.
    pub fn track_changed(&self, session: u64, changed: &TrackChanged) -> Option<(u32, TrackInfo)> {
        let mut inner = self.inner.lock();
        let id = inner.feeders.track(session, changed.track.id)?;
        let info = TrackInfo { id, ..changed.track.clone() };
        Some((inner.configure(&info, changed.epoch)?, info))
    }

    /// What of a demand is for a service that feeds this source, by its own ids.
    pub fn demand_of(&self, session: u64, demand: &Demand) -> Option<Demand> {
        self.inner.lock().feeders.demand(session, demand)
    }

    /// Whether services feed this source.
    pub fn is_delegated(&self) -> bool {
        self.inner.lock().feeders.are_many()
    }

    /// Who takes talk by the send track `index` of this source: its session, and the index there.
    pub fn sender(&self, index: usize) -> Option<(u64, usize)> {
        self.inner.lock().feeders.sender(index)
    }

    /// Copies a unit into the ring. True with the code when the stream core wants to hear of media: at most twice a second.
    pub fn push(&self, session: u64, unit: &RawUnit, data: &[u8]) -> (Code, bool) {
        let Some(mut inner) = self.inner.try_lock_for(Duration::from_millis(100)) else {
            return (Code::Busy, false);
        };
        let Some(track) = inner.feeders.track(session, unit.track) else { return (Code::Unknown, false) };
        let code = inner.push(track, unit, data);
        let now = Duration::from_nanos(monotonic_ns());
        let tell = code == Code::Ok && now.saturating_sub(inner.last_media) >= Duration::from_millis(500);
        if tell {
            inner.last_media = now;
        }
        (code, tell)
    }

    /// Takes a sender report of a session.
    pub fn clock(&self, session: u64, clock: &Clock) {
        let mut inner = self.inner.lock();
        if let Some(track) = inner.feeders.track(session, clock.track) {
            inner.placement.clock(track as usize, clock.pts, clock.unix_ns);
        }
    }

    /// The description of a track in an epoch.
    pub fn track_config(&self, track: u32, epoch: u32) -> Option<TrackInfo> {
        self.inner.lock().tracks.get(track as usize)?.epochs.get(&epoch).cloned()
    }

    /// Every description that a unit in the ring, or the next one, may name: `(track, epoch, info)`.
    pub fn configs(&self) -> Vec<(u32, u32, TrackInfo)> {
        let inner = self.inner.lock();
        let tracks = (0_u32..).zip(&inner.tracks);
        tracks.flat_map(|(id, t)| t.epochs.iter().map(move |(e, info)| (id, *e, info.clone()))).collect()
    }

    /// Codec of a session's track.
    pub fn codec(&self, session: u64, track: u32) -> Option<String> {
        let inner = self.inner.lock();
        let track = inner.feeders.track(session, track)?;
        inner.tracks.get(track as usize).map(|track| track.info.codec.clone())
    }

    /// Keeps at least `ms` of history.
    pub fn retain(&self, ms: u64) {
        self.inner.lock().ring.retain(ms);
    }

    /// Counters by track id.
    pub fn counters(&self) -> Vec<TrackCounters> {
        let inner = self.inner.lock();
        let counters = inner.tracks.iter();
        counters
            .map(|t| TrackCounters {
                is_known: !t.epochs.is_empty(),
                bytes: t.bytes,
                units: t.units,
                refused: t.refused,
            })
            .collect()
    }

    /// Figures of the ring.
    pub fn ring_stats(&self) -> patchbay_ring::RingStats {
        self.inner.lock().ring.stats()
    }

    /// No more units will come: readers are told after what is left.
    pub fn close(&self) {
        self.inner.lock().ring.close(1);
    }
}

impl Inner {
    /// The tracks of the sessions that feed this source now; not those that only an earlier one had.
    fn known(&self) -> Vec<(u32, TrackInfo)> {
        let told = self.tracks.iter().filter(|track| !track.session_epochs.is_empty());
        told.map(|track| (track.epoch, track.info.clone())).collect()
    }

    /// Gives the session's `epoch` of a track a host's epoch; equal descriptions keep theirs.
    fn configure(&mut self, info: &TrackInfo, epoch: u32) -> Option<u32> {
        let id = info.id as usize;
        if id >= MAX_TRACKS {
            return None;
        }
        if self.tracks.len() <= id {
            self.tracks.resize_with(id + 1, Track::default);
        }
        let oldest = self.ring.oldest_epoch(info.id as u16);
        let track = self.tracks.get_mut(id)?;
        let changed = !track.epochs.is_empty() && track.info != *info;
        if track.epochs.is_empty() {
            track.epoch = 0;
            track.epochs.insert(0, info.clone());
        } else if changed {
            track.epoch += 1;
            track.config = true;
            track.epochs.insert(track.epoch, info.clone());
        }
        track.info = info.clone();
        let newest = track.epoch;
        track.session_epochs.insert(epoch, newest);
        track.epochs.retain(|e, _| *e == newest || oldest.is_some_and(|oldest| *e >= oldest));
        if changed {
            self.ring.forget_key(info.id as u16);
        }
        self.placement.set_track(id, info.clock_rate, info.kind == "video");
        let has_keys = info.kind == "video" && !matches!(info.codec.as_str(), "mjpeg" | "rawvideo");
        self.ring.set_track(info.id as u16, info.clock_rate.max(1), has_keys);
        Some(newest)
    }

    fn push(&mut self, id: u32, unit: &RawUnit, data: &[u8]) -> Code {
        let now = monotonic_ns();
        let Some(track) = self.tracks.get_mut(id as usize).filter(|track| !track.epochs.is_empty()) else {
            return Code::Unknown;
        };
        let limit = if track.info.codec == "rawvideo" { MAX_RAW_UNIT } else { MAX_UNIT };
        let Some(&epoch) = track.session_epochs.get(&unit.epoch) else { return Code::Invalid };
        if data.is_empty() || data.len() > limit {
            track.refused += 1;
            return Code::OverLimit;
        }
        let Some(placed) = self.placement.place(id as usize, unit.pts, unit.dts, i128::from(now)) else {
            return Code::Unknown;
        };
        let known = flags::KEY | flags::DISCONTINUITY | flags::INCOMPLETE | flags::END;
        let mut bits = unit.flags as u16 & known;
        if placed.is_break {
            bits |= flags::DISCONTINUITY;
        }
        if std::mem::take(&mut track.config) {
            bits |= flags::CONFIG;
        }
        let header = UnitHeader {
            track: id as u16,
            flags: bits,
            epoch,
            pts: placed.pts,
            dts: placed.dts,
            duration: unit.duration,
            arrival_ns: if unit.arrival_ns == 0 { now } else { unit.arrival_ns },
            ..UnitHeader::default()
        };
        track.bytes += data.len() as u64;
        track.units += 1;
        match self.ring.push(&header, data) {
            Ok(_) => Code::Ok,
            Err(PushError::TooLong { .. }) => Code::OverLimit,
            Err(_) => Code::OverLimit,
        }
    }
}

#[cfg(test)]
mod tests {
    use patchbay_plugin_api::abi::Slice;

    use super::*;

    const NS: i128 = 1_000_000_000;

    fn unit(track: u32, dts: i64) -> RawUnit {
        RawUnit {
            size: 0,
            track,
            flags: 1,
            epoch: 0,
            pts: dts,
            dts,
            arrival_ns: 0,
            duration: 0,
            reserved: 0,
            data: Slice::new(&[]),
        }
    }

    fn info(id: u32, kind: &str, clock_rate: u32) -> TrackInfo {
        TrackInfo { id, kind: kind.to_owned(), codec: "opus".to_owned(), clock_rate, ..TrackInfo::default() }
    }

    fn times(source: &Source) -> Vec<(u16, i64, i64)> {
        let mut buf = vec![0_u8; 4096];
        let read = source.handle.read(1, u64::MAX, buf.as_mut_slice());
        let records =
            patchbay_plugin_api::records::records(bytes::Bytes::from(buf[..read.written as usize].to_vec()));
        records
            .map(|(header, _)| (header.track, header.pts, i64::from(header.flags & flags::DISCONTINUITY)))
            .collect()
    }

    #[test]
    fn a_track_that_the_new_session_lacks_is_gone() {
        let source = Source::new(1, &Budget::new(1 << 30)).unwrap();
        let both =
            Tracks { receive: vec![info(0, "video", 90_000), info(1, "audio", 8_000)], ..Tracks::default() };
        source.begin(1);
        assert_eq!(source.tracks(1, &both).unwrap().0.len(), 2);
        source.begin(2);
        let one = Tracks { receive: vec![info(0, "video", 90_000)], ..Tracks::default() };
        assert_eq!(source.tracks(2, &one).unwrap().0.len(), 1);
        assert_eq!(source.tracks(2, &both).unwrap().0.len(), 2, "a late track");
    }

    #[test]
    fn a_service_feeds_the_source_of_its_caller() {
        let source = Source::new(1, &Budget::new(1 << 30)).unwrap();
        source.begin(1);
        let one = Tracks { receive: vec![info(0, "audio", 8_000)], is_final: true, ..Tracks::default() };
        source.tracks(1, &one).unwrap();
        assert!(source.tracks(2, &one).is_none(), "not called yet");
        assert!(source.join(1, 2));
        let ids =
            |(tracks, _): (Vec<(u32, TrackInfo)>, Told)| tracks.iter().map(|t| t.1.id).collect::<Vec<_>>();
        assert_eq!(ids(source.tracks(2, &one).unwrap()), [0, 32]);
        assert_eq!(source.push(1, &unit(0, 0), &[1]).0, Code::Ok);
        assert_eq!(source.push(2, &unit(0, 0), &[2]).0, Code::Ok);
        assert_eq!(source.push(2, &unit(1, 0), &[2]).0, Code::Unknown);
        let changed = TrackChanged { epoch: 1, track: info(0, "audio", 16_000) };
        assert_eq!(source.track_changed(2, &changed).unwrap().1.id, 32);
        assert_eq!(times(&source).iter().map(|unit| unit.0).collect::<Vec<_>>(), [0, 32]);
        assert_eq!(ids(source.leave(2).unwrap()), [0]);
        assert_eq!(source.push(2, &unit(0, 0), &[2]).0, Code::Unknown);
    }

    #[test]
    fn tracks_with_zeros_of_their_own_lie_together_and_go_on_after_a_reconnect() {
        let source = Source::new(1, &Budget::new(1 << 30)).unwrap();
        let tracks =
            Tracks { receive: vec![info(0, "audio", 90_000), info(1, "audio", 8_000)], ..Tracks::default() };
        for (session, zeros) in [(1, [4_000_000_000_i64, 17]), (2, [5, 3_000_000_000])] {
            source.begin(session);
            source.tracks(session, &tracks).unwrap();
            for step in 0..3 {
                assert_eq!(source.push(session, &unit(0, zeros[0] + step * 900), &[1]).0, Code::Ok);
                assert_eq!(source.push(session, &unit(1, zeros[1] + step * 80), &[1]).0, Code::Ok);
            }
        }
        let found = times(&source);
        let ns = |track: u16, pts: i64| i128::from(pts) * NS / if track == 0 { 90_000 } else { 8_000 };
        let first = ns(found[0].0, found[0].1);
        assert!(found.iter().all(|(track, pts, _)| (ns(*track, *pts) - first).abs() < NS), "{found:?}");
        for track in 0..2 {
            let own: Vec<(i64, i64)> = found.iter().filter(|f| f.0 == track).map(|f| (f.1, f.2)).collect();
            assert!(own.windows(2).all(|pair| pair[1].0 > pair[0].0), "{own:?}");
            assert_eq!(
                own.iter().map(|o| o.1).collect::<Vec<_>>(),
                [0, 0, 0, 2, 0, 0],
                "marked where it was broken"
            );
        }
    }
}
