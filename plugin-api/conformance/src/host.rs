//! A host that writes down what a plugin does, and what of it is against the rules.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::{Condvar, Mutex};
use patchbay_plugin_api::abi::{RawUnit, ReadOut, Slice, StartInfo, target};
use patchbay_plugin_api::entry::{ChunkRef, HostEntry, host_table};
use patchbay_plugin_api::message::{Consume, TrackChanged, TrackInfo, Tracks, event};
use patchbay_plugin_api::{Code, Plugin, UnitHeader, flags};
use patchbay_ring::{BackingKind, Limits, Ring, Target};
use rustix::event::{EventfdFlags, eventfd};

/// Bytes of a transport that may be outstanding.
pub(crate) const WINDOW: u64 = 256 << 10;

/// How often [`until`] asks.
const BEAT: Duration = Duration::from_millis(100);

/// The one source that outputs, servers and talks read.
pub(crate) const SOURCE: u64 = 1;

/// An event of a session.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) kind: u32,
    pub(crate) payload: Vec<u8>,
}

/// A chunk of a session.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) flags: u32,
    pub(crate) join: u64,
    pub(crate) data: Vec<u8>,
}

/// What a session did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) events: Vec<Event>,
    pub(crate) units: u64,
    pub(crate) written: Vec<Written>,
    /// Bytes written and not yet granted back.
    pub(crate) outstanding: u64,
    /// Things against the rules.
    pub(crate) faults: Vec<String>,
    tracks: HashMap<u32, (TrackInfo, u32, Option<i64>)>,
    ended: bool,
}

impl Seen {
    pub(crate) fn has(&self, kind: u32) -> bool {
        self.events.iter().any(|event| event.kind == kind)
    }

    pub(crate) fn last(&self, kind: u32) -> Option<&Event> {
        self.events.iter().rev().find(|event| event.kind == kind)
    }

    fn fault(&mut self, text: String) {
        if self.faults.len() < 8 && !self.faults.contains(&text) {
            self.faults.push(text);
        }
    }
}

struct Recorder {
    sessions: Mutex<HashMap<u64, Seen>>,
    news: Condvar,
    late: Mutex<Vec<String>>,
    ring: Mutex<Ring>,
    tracks: Mutex<Vec<TrackInfo>>,
    wake: OwnedFd,
    pending: Mutex<bool>,
    state: Mutex<HashMap<String, Vec<u8>>>,
    panics: Mutex<Vec<String>>,
    /// Units that were read of the one source.
    read: AtomicU64,
    /// Claims on streams, by the ids that the plugin chose; nothing: whoever wants a stream is sent away.
    claims: Mutex<Option<Vec<(u64, Consume)>>>,
}

static RECORDER: OnceLock<Recorder> = OnceLock::new();

fn recorder() -> Option<&'static Recorder> {
    RECORDER.get()
}

/// Starts the plugin.
pub(crate) fn start(plugin: &Plugin, threads: u32, settings: &str) -> Code {
    let made = Ring::new(BackingKind::Heap, Limits::default()).ok();
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
    let (Some(ring), Some(wake)) = (made, wake) else { return Code::OverLimit };
    let fd = wake.as_raw_fd();
    let recorder = Recorder {
        sessions: Mutex::default(),
        news: Condvar::new(),
        late: Mutex::default(),
        ring: Mutex::new(ring),
        tracks: Mutex::default(),
        wake,
        pending: Mutex::new(false),
        state: Mutex::default(),
        panics: Mutex::default(),
        read: AtomicU64::new(0),
        claims: Mutex::default(),
    };
    if RECORDER.set(recorder).is_err() {
        return Code::Busy;
    }
    let (abi_major, abi_minor) = patchbay_plugin_api::version::numbers();
    let info = StartInfo {
        size: size_of::<StartInfo>() as u32,
        wake_fd: fd,
        ctx: 1,
        threads,
        log_level: 3,
        config: Slice::new(settings.as_bytes()),
        abi_major,
        abi_minor,
    };
    plugin.start(host_table::<Recorder>(), &info)
}

/// A session is about to be opened.
pub(crate) fn opened(session: u64) {
    if let Some(recorder) = recorder() {
        recorder.sessions.lock().insert(session, Seen::default());
    }
}

/// Waits until `found` is true of a session. What there is then, or at the limit.
pub(crate) fn wait(session: u64, limit: Duration, found: impl Fn(&Seen) -> bool) -> (Seen, bool) {
    let Some(recorder) = recorder() else { return (Seen::default(), false) };
    let end = Instant::now() + limit;
    let mut sessions = recorder.sessions.lock();
    loop {
        let seen = sessions.entry(session).or_default();
        if found(seen) {
            return (seen.clone(), true);
        }
        if recorder.news.wait_until(&mut sessions, end).timed_out() {
            return (sessions.get(&session).cloned().unwrap_or_default(), false);
        }
    }
}

/// Units of the one source that the plugin has read so far.
pub(crate) fn units_read() -> u64 {
    recorder().map_or(0, |recorder| recorder.read.load(Ordering::Relaxed))
}

/// Asks again and again until it is so, or the limit is over.
pub(crate) fn until(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(BEAT);
    }
}

/// Takes what was written so far; gives credit for it when `grant`.
pub(crate) fn take_written(session: u64, grant: bool) -> u64 {
    let Some(recorder) = recorder() else { return 0 };
    let mut sessions = recorder.sessions.lock();
    let seen = sessions.entry(session).or_default();
    let bytes = seen.outstanding;
    seen.written.clear();
    if grant {
        seen.outstanding = 0;
    }
    bytes
}

/// What plugins said after the end of a session.
pub(crate) fn after_end() -> Vec<String> {
    recorder().map(|recorder| recorder.late.lock().clone()).unwrap_or_default()
}

/// Panics that the plugin's guards have reported.
pub(crate) fn panics() -> Vec<String> {
    recorder().map(|recorder| std::mem::take(&mut *recorder.panics.lock())).unwrap_or_default()
}

/// From now on claims on streams are taken down, or sent away.
pub(crate) fn take_claims(taken: bool) {
    if let Some(recorder) = recorder() {
        *recorder.claims.lock() = taken.then(Vec::new);
    }
}

/// The newest claim on a stream: the id that the plugin chose, and what it wants.
pub(crate) fn claim() -> Option<(u64, Consume)> {
    recorder()?.claims.lock().as_ref()?.last().cloned()
}

/// The tracks of the source that outputs read.
pub(crate) fn set_tracks(tracks: &[TrackInfo]) {
    let Some(recorder) = recorder() else { return };
    let mut ring = recorder.ring.lock();
    if let Ok(fresh) = Ring::new(BackingKind::Heap, Limits::default()) {
        *ring = fresh;
    }
    for track in tracks {
        ring.set_track(track.id as u16, track.clock_rate, track.codec == "h264");
    }
    *recorder.tracks.lock() = tracks.to_vec();
}

/// Puts a unit into that source and wakes the plugin.
pub(crate) fn push_unit(track: u16, key: bool, time: i64, data: &[u8]) {
    let Some(recorder) = recorder() else { return };
    let header = UnitHeader {
        track,
        flags: if key { flags::KEY } else { 0 },
        pts: time,
        dts: time,
        arrival_ns: time.unsigned_abs() * 11_111,
        ..UnitHeader::default()
    };
    let _ = recorder.ring.lock().push(&header, data);
    *recorder.pending.lock() = true;
    let _ = rustix::io::write(&recorder.wake, &1_u64.to_ne_bytes());
}

/// A description in the form of the ABI.
pub(crate) fn described(id: u32, kind: &str, codec: &str, clock_rate: u32, extradata: &[u8]) -> TrackInfo {
    let video = kind == "video";
    TrackInfo {
        id,
        kind: kind.to_owned(),
        codec: codec.to_owned(),
        clock_rate,
        extradata: STANDARD.encode(extradata),
        width: if video { 640 } else { 0 },
        height: if video { 360 } else { 0 },
        sample_rate: if video { 0 } else { clock_rate },
        channels: u32::from(!video),
        label: None,
    }
}

/// Whether length-prefixed NAL units add up to `data`.
fn is_whole(mut data: &[u8]) -> bool {
    while let Some((len, rest)) = data.split_first_chunk::<4>() {
        match rest.get(u32::from_be_bytes(*len) as usize..) {
            Some(rest) => data = rest,
            None => return false,
        }
    }
    data.is_empty()
}

impl HostEntry for Recorder {
    fn emit(_: u64, session: u64, kind: u32, payload: &[u8]) -> Code {
        let Some(recorder) = recorder() else { return Code::Closed };
        let mut sessions = recorder.sessions.lock();
        let seen = sessions.entry(session).or_default();
        if seen.ended && session != 0 {
            recorder.late.lock().push(format!("event {kind} of session {session}"));
            return Code::Unknown;
        }
        match kind {
            event::TRACKS => {
                let Ok(tracks) = serde_json::from_slice::<Tracks>(payload) else {
                    seen.fault("TRACKS is not its JSON".to_owned());
                    return Code::Invalid;
                };
                for track in tracks.receive {
                    if track.id >= 64 || track.clock_rate == 0 || track.kind.is_empty() {
                        seen.fault(format!(
                            "track {} has no clock rate or kind, or an id above 63",
                            track.id
                        ));
                    }
                    seen.tracks.entry(track.id).or_insert((track, 0, None));
                }
            }
            event::TRACK => {
                let changed: TrackChanged = serde_json::from_slice(payload).unwrap_or_default();
                match seen.tracks.get_mut(&changed.track.id) {
                    Some((info, epoch, _)) if changed.epoch == *epoch + 1 => {
                        (*info, *epoch) = (changed.track, changed.epoch);
                    }
                    _ => seen.fault("TRACK of no track, or with another epoch than the next".to_owned()),
                }
            }
            event::ENDED => seen.ended = true,
            event::CONSUME => {
                let mut claims = recorder.claims.lock();
                let Some(claims) = &mut *claims else { return Code::Unknown };
                claims.push((session, serde_json::from_slice(payload).unwrap_or_default()));
            }
            // The kit has no services and no cameras.
            event::CALL | event::TALK => return Code::Unknown,
            _ => {}
        }
        seen.events.push(Event { kind, payload: payload.to_vec() });
        drop(sessions);
        recorder.news.notify_all();
        Code::Ok
    }

    fn push(_: u64, session: u64, unit: &RawUnit, data: &[u8]) -> Code {
        let Some(recorder) = recorder() else { return Code::Closed };
        let mut sessions = recorder.sessions.lock();
        let seen = sessions.entry(session).or_default();
        if seen.ended {
            recorder.late.lock().push(format!("a unit of session {session}"));
            return Code::Unknown;
        }
        let Some((info, epoch, last)) = seen.tracks.get_mut(&unit.track) else {
            seen.fault(format!("a unit of track {}, which was not announced", unit.track));
            return Code::Unknown;
        };
        let mut faults = Vec::new();
        if unit.epoch != *epoch {
            faults.push(format!("a unit of epoch {} while {epoch} was announced last", unit.epoch));
        }
        if data.is_empty() || data.len() > 32 << 20 {
            faults.push(format!("a unit of {} bytes", data.len()));
        }
        if matches!(info.codec.as_str(), "h264" | "hevc") && !is_whole(data) {
            faults.push("NAL units that do not add up to their unit".to_owned());
        }
        let marked = unit.flags & u32::from(flags::DISCONTINUITY) != 0;
        if last.is_some_and(|last| unit.dts < last) && !marked {
            faults.push("decoding time goes back without the discontinuity flag".to_owned());
        }
        if unit.pts < unit.dts {
            faults.push("a unit is shown before it is decoded".to_owned());
        }
        *last = Some(unit.dts);
        seen.units += 1;
        for fault in faults {
            seen.fault(fault);
        }
        drop(sessions);
        recorder.news.notify_all();
        Code::Ok
    }

    fn write(_: u64, session: u64, chunk: ChunkRef<'_>) -> Code {
        let Some(recorder) = recorder() else { return Code::Closed };
        let mut sessions = recorder.sessions.lock();
        let seen = sessions.entry(session).or_default();
        if seen.ended {
            recorder.late.lock().push(format!("bytes of session {session}"));
            return Code::Unknown;
        }
        seen.outstanding += chunk.data.len() as u64;
        let kept = chunk.data.get(..chunk.data.len().min(4096)).unwrap_or_default();
        seen.written.push(Written { flags: chunk.flags, join: chunk.join, data: kept.to_vec() });
        drop(sessions);
        recorder.news.notify_all();
        Code::Ok
    }

    fn read(_: u64, id: u64, cursor: u64, mask: u64, buf: &mut [MaybeUninit<u8>], out: &mut ReadOut) -> Code {
        let Some(recorder) = recorder().filter(|_| id == SOURCE) else { return Code::Closed };
        let read = recorder.ring.lock().handle().read(cursor, mask, buf);
        recorder.read.fetch_add(u64::from(read.units), Ordering::Relaxed);
        out.next = read.next;
        out.units = u64::from(read.units);
        out.written = read.written;
        out.lost = read.lost;
        out.needed = read.needed;
        out.end = u32::from(read.end);
        if read.units == 0 && read.needed > 0 { Code::TooSmall } else { Code::Ok }
    }

    fn locate(_: u64, id: u64, what: u32, arg: u64) -> Result<u64, Code> {
        let recorder = recorder().filter(|_| id == SOURCE).ok_or(Code::Closed)?;
        let wanted = match what {
            target::NEWEST_KEY => Target::NewestKey { track: arg as u16 },
            target::KEY_BEFORE => Target::KeyBefore { track: (arg >> 32) as u16, ms: arg & 0xffff_ffff },
            target::OLDEST => Target::Oldest,
            target::HEAD => Target::Head,
            _ => return Err(Code::Unsupported),
        };
        recorder.ring.lock().handle().locate(wanted).ok_or(Code::Unknown)
    }

    fn track_config(_: u64, id: u64, track: u32, _: u32) -> Result<Vec<u8>, Code> {
        let recorder = recorder().filter(|_| id == SOURCE).ok_or(Code::Closed)?;
        let tracks = recorder.tracks.lock();
        let info = tracks.iter().find(|info| info.id == track).ok_or(Code::Unknown)?;
        serde_json::to_vec(info).map_err(|_| Code::Invalid)
    }

    fn pending(_: u64, out: &mut [u64]) -> usize {
        let Some(recorder) = recorder() else { return 0 };
        match (std::mem::take(&mut *recorder.pending.lock()), out.first_mut()) {
            (true, Some(first)) => {
                *first = SOURCE;
                1
            }
            _ => 0,
        }
    }

    fn retain(_: u64, _: u64, _: u64) -> Code {
        Code::Ok
    }

    fn log(_: u64, level: u32, _: &str, event: &[u8]) {
        let text = String::from_utf8_lossy(event);
        if level == 1
            && text.contains("panic")
            && let Some(recorder) = recorder()
        {
            recorder.panics.lock().push(text.chars().take(200).collect());
        }
    }

    fn state_get(_: u64, key: &str) -> Result<Vec<u8>, Code> {
        recorder().ok_or(Code::Closed)?.state.lock().get(key).cloned().ok_or(Code::Unknown)
    }

    fn state_put(_: u64, key: &str, value: &[u8]) -> Code {
        let Some(recorder) = recorder() else { return Code::Closed };
        recorder.state.lock().insert(key.to_owned(), value.to_vec());
        Code::Ok
    }

    fn panicked(_: u64, _: &'static str, _: &str) {}
}
