//! The host table, safe to call: what the sdk builds on.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use crate::abi::{
    ChunkPtr, HostTableRef, RawChunk, RawPatch, RawUnit, ReadOut, ReadOutPtr, Slice, StartPtr, UnitPtr,
    sized, target,
};
use crate::code::Code;
use crate::message::{LogEvent, TrackInfo};

/// Largest `state` value and largest track description that is read, in bytes.
const MAX_VALUE: usize = 64 << 10;

/// A duplicate of the descriptor that [`crate::message::command::RAW`] brings. Within that call: it is the host's, and closed
/// when the call has returned.
pub fn duplicate(raw: crate::message::Raw) -> io::Result<OwnedFd> {
    if raw.fd < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is not -1, and the host keeps the descriptor open for the time of the call; of one that is not
    // open the system says so.
    unsafe { BorrowedFd::borrow_raw(raw.fd) }.try_clone_to_owned()
}

/// A plugin's handle on its host. Cheap to copy; every call is short and from any thread.
#[derive(Clone, Copy)]
pub struct Host {
    table: HostTableRef,
    ctx: u64,
    wake_fd: RawFd,
    threads: u32,
    log_level: u32,
    abi: (u32, u32),
}

/// What a `read` brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Cursor for the next call.
    pub next: u64,
    /// Units appended to the buffer.
    pub units: u64,
    /// Units that were overwritten before they could be read.
    pub lost: u64,
    /// The newest unit was met; a wake is armed.
    pub end: bool,
}

/// How the host moves a time in a chunk for one viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum PatchKind {
    /// Big-endian `u64` time: the viewer's start of the track is subtracted.
    TimeU64 = 0,
    /// Big-endian `u32` time, likewise.
    TimeU32 = 1,
    /// Big-endian `u32` sequence: numbered from 1 per viewer.
    SequenceU32 = 2,
    /// FLV's 24 + 8 bit milliseconds, likewise.
    FlvMs = 3,
}

impl PatchKind {
    /// The kind behind its number.
    pub fn from_raw(raw: u32) -> Option<Self> {
        [Self::TimeU64, Self::TimeU32, Self::SequenceU32, Self::FlvMs]
            .into_iter()
            .find(|kind| *kind as u32 == raw)
    }

    /// Bytes that it covers.
    pub fn len(self) -> usize {
        if self == Self::TimeU64 { 8 } else { 4 }
    }

    /// Never.
    pub fn is_empty(self) -> bool {
        false
    }
}

/// A place in a chunk whose time the host moves per viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// Offset in the chunk; the field must end within the first [`Patch::WINDOW`] bytes.
    pub offset: u32,
    /// Index of the output's track.
    pub track: u32,
    /// What stands there.
    pub kind: PatchKind,
}

impl Patch {
    /// Bytes of a chunk that the host copies per viewer.
    pub const WINDOW: usize = 512;
    /// Most patches of one chunk.
    pub const MAX: usize = 4;
}

/// Bytes to `write`.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// The bytes.
    pub data: Bytes,
    /// Bits of [`crate::abi::chunk_flags`].
    pub flags: u32,
    /// At most [`Patch::MAX`].
    pub patches: Vec<Patch>,
    /// The join that a history chunk answers.
    pub join: u64,
    /// Per track: what the host subtracts from this viewer's live times.
    pub starts: Vec<i64>,
}

impl Host {
    /// Wraps what `start` was given.
    ///
    /// # Safety
    /// `info` must be valid as the ABI promises for `start`.
    pub unsafe fn new(table: HostTableRef, info: StartPtr) -> Option<(Self, String)> {
        // SAFETY: the caller upholds the ABI's promise.
        let info = unsafe { sized(info.0) }?;
        // SAFETY: the slice is borrowed for the call.
        let config = String::from_utf8_lossy(unsafe { info.config.as_bytes() }).into_owned();
        Some((
            Self {
                table,
                ctx: info.ctx,
                wake_fd: info.wake_fd,
                threads: info.threads,
                log_level: info.log_level,
                abi: (info.abi_major, info.abi_minor),
            },
            config,
        ))
    }

    /// The descriptor that becomes readable when [`Host::pending`] has something. Non-blocking.
    pub fn wake_fd(&self) -> Option<BorrowedFd<'static>> {
        // SAFETY: the ABI promises that the descriptor stays open for the life of the process.
        (self.wake_fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(self.wake_fd) })
    }

    /// Major and minor version of the host's ABI: which events and calls it knows beyond those of the plugin's `min_host`.
    pub fn abi(&self) -> (u32, u32) {
        self.abi
    }

    /// Worker threads that the host allows.
    pub fn threads(&self) -> u32 {
        self.threads
    }

    /// Highest log level that the host wants: 1 (error) to 5 (trace).
    pub fn log_level(&self) -> u32 {
        self.log_level
    }

    /// Sends an event with a JSON payload.
    pub fn emit(&self, session: u64, kind: u32, payload: &impl Serialize) -> Result<(), Code> {
        let json = serde_json::to_vec(payload).map_err(|_| Code::Invalid)?;
        self.emit_bytes(session, kind, &json)
    }

    /// Sends an event with a payload of bytes.
    pub fn emit_bytes(&self, session: u64, kind: u32, payload: &[u8]) -> Result<(), Code> {
        Code::from_raw((self.table.emit())(self.ctx, session, kind, Slice::new(payload))).result()
    }

    /// Copies a unit into the session's ring. `unit.data` is replaced by `data`.
    pub fn push(&self, session: u64, mut unit: RawUnit, data: &[u8]) -> Result<(), Code> {
        unit.size = size_of::<RawUnit>() as u32;
        unit.data = Slice::new(data);
        Code::from_raw((self.table.push())(self.ctx, session, UnitPtr(&unit))).result()
    }

    /// Writes a chunk.
    pub fn write(&self, session: u64, chunk: &Chunk) -> Result<(), Code> {
        let patches: Vec<RawPatch> = chunk
            .patches
            .iter()
            .map(|p| RawPatch { offset: p.offset, track: p.track, kind: p.kind as u32, reserved: 0 })
            .collect();
        let raw = RawChunk {
            size: size_of::<RawChunk>() as u32,
            flags: chunk.flags,
            data: Slice::new(&chunk.data),
            patches: patches.as_ptr(),
            patch_count: patches.len() as u64,
            join: chunk.join,
            starts: chunk.starts.as_ptr(),
            start_count: chunk.starts.len() as u64,
            #[cfg(patchbay_abi_next)]
            next: 0,
        };
        Code::from_raw((self.table.write())(self.ctx, session, ChunkPtr(&raw))).result()
    }

    /// Appends whole units of the tracks in `mask` from `cursor` on to `buf`, in the form of [`crate::records`].
    /// `buf` is given at least `room` bytes of space, more when one unit needs it.
    pub fn read(
        &self,
        source: u64,
        cursor: u64,
        mask: u64,
        buf: &mut BytesMut,
        room: usize,
    ) -> Result<Read, Code> {
        let mut room = room;
        for _ in 0..4 {
            buf.reserve(room);
            let spare = buf.spare_capacity_mut();
            let (ptr, cap) = (spare.as_mut_ptr().cast::<u8>(), spare.len());
            let mut out = ReadOut { size: size_of::<ReadOut>() as u32, ..ReadOut::default() };
            let given = ReadOutPtr(&raw mut out);
            let raw = (self.table.read())(self.ctx, source, cursor, mask, ptr, cap as u64, given);
            match Code::from_raw(raw) {
                Code::Ok => {
                    let written = usize::try_from(out.written).map_err(|_| Code::Invalid)?.min(cap);
                    // SAFETY: the host has written `written` bytes from `ptr` on, within the spare capacity.
                    unsafe { buf.set_len(buf.len() + written) };
                    return Ok(Read { next: out.next, units: out.units, lost: out.lost, end: out.end != 0 });
                }
                Code::TooSmall => room = usize::try_from(out.needed).map_err(|_| Code::Invalid)?,
                other => return Err(other),
            }
        }
        Err(Code::TooSmall)
    }

    /// The newest key unit of `track`.
    pub fn locate_newest_key(&self, source: u64, track: u32) -> Result<u64, Code> {
        self.locate(source, target::NEWEST_KEY, u64::from(track))
    }

    /// The newest key unit of `track` that is at least `ms` old.
    pub fn locate_key_before(&self, source: u64, track: u32, ms: u32) -> Result<u64, Code> {
        self.locate(source, target::KEY_BEFORE, u64::from(track) << 32 | u64::from(ms))
    }

    /// The oldest unit.
    pub fn locate_oldest(&self, source: u64) -> Result<u64, Code> {
        self.locate(source, target::OLDEST, 0)
    }

    /// One past the newest unit.
    pub fn locate_head(&self, source: u64) -> Result<u64, Code> {
        self.locate(source, target::HEAD, 0)
    }

    fn locate(&self, source: u64, what: u32, arg: u64) -> Result<u64, Code> {
        let mut cursor = 0;
        Code::from_raw((self.table.locate())(self.ctx, source, what, arg, &mut cursor)).result()?;
        Ok(cursor)
    }

    /// The description of a track in an epoch that a unit names.
    pub fn track_config(&self, source: u64, track: u32, epoch: u32) -> Result<TrackInfo, Code> {
        let json = value(|buf, cap, len| {
            (self.table.track_config())(self.ctx, source, track, epoch, buf, cap, len)
        })?;
        serde_json::from_slice(&json).map_err(|_| Code::Invalid)
    }

    /// Takes the sources with something new since their last short read.
    pub fn pending(&self, sources: &mut Vec<u64>) -> Result<(), Code> {
        let mut buf = [0_u64; 64];
        loop {
            let mut len = 0;
            let raw = (self.table.pending())(self.ctx, buf.as_mut_ptr(), buf.len() as u64, &mut len);
            Code::from_raw(raw).result()?;
            let len = (len as usize).min(buf.len());
            sources.extend(buf.iter().take(len));
            if len < buf.len() {
                return Ok(());
            }
        }
    }

    /// Asks for at least `ms` of history in a source's ring.
    pub fn retain(&self, source: u64, ms: u64) -> Result<(), Code> {
        Code::from_raw((self.table.retain())(self.ctx, source, ms)).result()
    }

    /// A log event; `level` is 1 (error) to 5 (trace).
    pub fn log(&self, level: u32, target: &str, event: &LogEvent) {
        if let Ok(json) = serde_json::to_vec(event) {
            (self.table.log())(self.ctx, level, Slice::new(target.as_bytes()), Slice::new(&json));
        }
    }

    /// A value that this plugin has kept.
    pub fn state_get(&self, key: &str) -> Result<Vec<u8>, Code> {
        value(|buf, cap, len| (self.table.state_get())(self.ctx, Slice::new(key.as_bytes()), buf, cap, len))
    }

    /// Keeps a value, at most 64 KiB; an empty one removes it.
    pub fn state_put(&self, key: &str, value: &[u8]) -> Result<(), Code> {
        let (key, value) = (Slice::new(key.as_bytes()), Slice::new(value));
        Code::from_raw((self.table.state_put())(self.ctx, key, value)).result()
    }
}

fn value(call: impl Fn(*mut u8, u64, *mut u64) -> i32) -> Result<Vec<u8>, Code> {
    let mut buf = vec![0_u8; 1 << 10];
    loop {
        let mut len = 0;
        match Code::from_raw(call(buf.as_mut_ptr(), buf.len() as u64, &mut len)) {
            Code::Ok => {
                buf.truncate(len as usize);
                return Ok(buf);
            }
            Code::TooSmall if buf.len() < MAX_VALUE => buf.resize(MAX_VALUE, 0),
            other => return Err(other),
        }
    }
}
