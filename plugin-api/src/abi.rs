//! The two function tables and what they carry. Every struct starts with its size or is fixed for ever: [`Slice`],
//! [`RawPatch`] and [`crate::UnitHeader`] stand in rows or are passed by value.
//!
//! A struct or table that starts with its size may get fields at its end in a later 1.y: whoever reads it takes what is there and
//! zeros for the rest ([`sized`]). abi_stable would refuse a struct that has grown, so it does not look behind [`UnitPtr`],
//! [`ChunkPtr`], [`ReadOutPtr`] and [`StartPtr`]: to the other side they are plain pointers.
//!
//! Pointers are borrowed for the duration of the call. Functions may be called from any thread. The host calls a plugin
//! from one thread of its own per plugin, never from inside a call of that plugin, never with a lock held.
#![allow(unsafe_code)]
#![allow(non_local_definitions)] // what abi_stable's derive emits

use std::mem::MaybeUninit;

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;

/// Bytes borrowed for one call.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct Slice {
    /// First byte; may dangle when `len` is 0.
    pub ptr: *const u8,
    /// Length in bytes.
    pub len: u64,
}

impl Slice {
    /// Borrows `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        Self { ptr: bytes.as_ptr(), len: bytes.len() as u64 }
    }

    /// The bytes.
    ///
    /// # Safety
    /// `ptr` must be valid for `len` bytes for `'a`, as the ABI promises for the duration of a call.
    pub unsafe fn as_bytes<'a>(self) -> &'a [u8] {
        if self.len == 0 || self.ptr.is_null() {
            return &[];
        }
        // SAFETY: the caller upholds the ABI's promise.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len as usize) }
    }
}

impl Default for Slice {
    fn default() -> Self {
        Self::new(&[])
    }
}

/// One unit on its way into a ring (`push`).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct RawUnit {
    /// Size of this struct in bytes.
    pub size: u32,
    /// Track id from the session's `Tracks`.
    pub track: u32,
    /// Bits of [`crate::flags`].
    pub flags: u32,
    /// The session's configuration epoch of this track: 0 as in `Tracks`, then as in the last `Track` event.
    pub epoch: u32,
    /// Presentation time, ticks of the track's clock.
    pub pts: i64,
    /// Decoding time, ticks of the track's clock.
    pub dts: i64,
    /// When the first byte arrived, ns of CLOCK_MONOTONIC; 0: now.
    pub arrival_ns: u64,
    /// Duration in ticks, 0 unknown.
    pub duration: u32,
    /// 0.
    pub reserved: u32,
    /// The payload, at most 8 MiB (raw video 32 MiB).
    pub data: Slice,
    /// Only in the fixture that stands for the next minor version: a field that older sides do not know.
    #[cfg(patchbay_abi_next)]
    pub next: u64,
}

/// A place in a chunk whose time the host moves per viewer. Fixed for ever.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawPatch {
    /// Offset in the chunk, below 512.
    pub offset: u32,
    /// Index of the track in the output's track list; picks the viewer's start.
    pub track: u32,
    /// A [`crate::PatchKind`].
    pub kind: u32,
    /// 0.
    pub reserved: u32,
}

/// Bytes on their way out of a transport, output or route (`write`).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RawChunk {
    /// Size of this struct in bytes.
    pub size: u32,
    /// Bits of [`chunk_flags`].
    pub flags: u32,
    /// At most 1 MiB for transports and routes, a whole chunk (64 MiB) for outputs.
    pub data: Slice,
    /// At most 4 patches.
    pub patches: *const RawPatch,
    /// Number of patches.
    pub patch_count: u64,
    /// The join that a history chunk answers, else 0.
    pub join: u64,
    /// With a history chunk: per track of the output what the host subtracts from this viewer's live times.
    pub starts: *const i64,
    /// Number of starts.
    pub start_count: u64,
    /// Only in the fixture that stands for the next minor version.
    #[cfg(patchbay_abi_next)]
    pub next: u64,
}

/// Bits of [`RawChunk::flags`].
pub mod chunk_flags {
    /// What a player needs first (fMP4's ftyp + moov); kept by the host for later viewers.
    pub const INIT: u32 = 1;
    /// A viewer may start here.
    pub const KEY: u32 = 2;
    /// Made for the one viewer named by `join`.
    pub const HISTORY: u32 = 4;
    /// The whole answer for that viewer (a still): it ends after this chunk.
    pub const FINAL: u32 = 8;
    /// To session 0: bytes that are kept under the id in `join`, chosen by the plugin, until [`crate::message::event::DROP_BLOBS`];
    /// answers of routes name them ([`crate::message::event::BLOBS`]). Nothing goes out.
    pub const BLOB: u32 = 16;
    /// A picture that needs no other, with `KEY`: a viewer that is late gets the newest one next.
    pub const ALONE: u32 = 32;
}

/// What `read` found.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOut {
    /// Size of this struct in bytes, set by the caller.
    pub size: u32,
    /// 1 when the reader has met the newest unit: a wake is armed for what comes next.
    pub end: u32,
    /// Cursor for the next call.
    pub next: u64,
    /// Units written.
    pub units: u64,
    /// Bytes written.
    pub written: u64,
    /// Units of the mask between the cursor and the first one delivered that are gone.
    pub lost: u64,
    /// Bytes that the next unit needs when it did not fit into an empty buffer.
    pub needed: u64,
    /// Only in the fixture that stands for the next minor version.
    #[cfg(patchbay_abi_next)]
    pub next_field: u64,
}

/// What `start` gets.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct StartInfo {
    /// Size of this struct in bytes.
    pub size: u32,
    /// An eventfd (or, in a child, a socket end) that becomes readable when `pending` has something.
    pub wake_fd: i32,
    /// First argument of every host call.
    pub ctx: u64,
    /// Worker threads for the plugin's runtime.
    pub threads: u32,
    /// Highest log level that the host wants: 1 (error) to 5 (trace).
    pub log_level: u32,
    /// The plugin's settings as YAML text; empty when there are none.
    pub config: Slice,
    /// The host's version of the ABI: what it knows beyond the plugin's own.
    pub abi_major: u32,
    /// Its minor version.
    pub abi_minor: u32,
    /// Only in the fixture that stands for the next minor version.
    #[cfg(patchbay_abi_next)]
    pub next: u64,
}

macro_rules! pointers {
    ($($(#[$doc:meta])* $name:ident($ty:ty);)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(StableAbi, Debug, Clone, Copy)]
        #[sabi(unsafe_opaque_fields)]
        pub struct $name(pub $ty);
    )*};
}

pointers! {
    /// A [`RawUnit`] of whatever size it says.
    UnitPtr(*const RawUnit);
    /// A [`RawChunk`] of whatever size it says.
    ChunkPtr(*const RawChunk);
    /// A [`ReadOut`] of whatever size it says, to write to.
    ReadOutPtr(*mut ReadOut);
    /// A [`StartInfo`] of whatever size it says.
    StartPtr(*const StartInfo);
}

/// What starts with its size and may grow at its end.
///
/// # Safety
/// The struct is `repr(C)`, starts with its size as `u32`, and all zeros are a value of it.
pub unsafe trait Grows: Copy {
    /// Its bytes in 1.0: the least that it may have.
    const FIRST: usize;
}

// SAFETY: integers and pointers behind the size.
unsafe impl Grows for RawUnit {
    const FIRST: usize = 64;
}
// SAFETY: as above.
unsafe impl Grows for RawChunk {
    const FIRST: usize = 64;
}
// SAFETY: as above.
unsafe impl Grows for ReadOut {
    const FIRST: usize = 48;
}
// SAFETY: as above.
unsafe impl Grows for StartInfo {
    const FIRST: usize = 48;
}

/// What the other side gave: its fields as far as they are there, zeros for those that it does not know. `None` when it is
/// less than the first version's.
///
/// # Safety
/// `ptr` must be null, or valid for as many bytes as its first field says.
pub unsafe fn sized<T: Grows>(ptr: *const T) -> Option<T> {
    if ptr.is_null() {
        return None;
    }
    // SAFETY: the caller promises a size at the least.
    let size = unsafe { ptr.cast::<u32>().read() } as usize;
    if size < T::FIRST {
        return None;
    }
    let mut whole = MaybeUninit::<T>::zeroed();
    // SAFETY: not more than is there, and not more than fits; all zeros are a value of it.
    unsafe {
        std::ptr::copy_nonoverlapping(ptr.cast::<u8>(), whole.as_mut_ptr().cast(), size.min(size_of::<T>()));
        Some(whole.assume_init())
    }
}

/// Gives back what [`sized`] took, changed: as much of it as the other side has room for. Its size stays.
///
/// # Safety
/// `ptr` must be valid for writes of as many bytes as the size of `value` says, and `value` from [`sized`] of it.
pub unsafe fn give_back<T: Grows>(ptr: *mut T, value: &T, size: u32) {
    let len = (size as usize).min(size_of::<T>());
    // SAFETY: the caller promises room for `size` bytes.
    unsafe { std::ptr::copy_nonoverlapping(std::ptr::from_ref(value).cast::<u8>(), ptr.cast(), len) };
}

/// What `locate` looks for.
pub mod target {
    /// The newest key unit of the track `arg`.
    pub const NEWEST_KEY: u32 = 0;
    /// The newest key unit of the track in the high 32 bits of `arg` that is at least the low 32 bits of ms old.
    pub const KEY_BEFORE: u32 = 1;
    /// The oldest unit.
    pub const OLDEST: u32 = 2;
    /// One past the newest unit.
    pub const HEAD: u32 = 3;
}

/// What the host offers to a plugin.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostTableRef)))]
pub struct HostTable {
    /// Size of this table in bytes.
    pub size: u64,
    /// An event of a session: a kind of [`crate::message::event`] and its payload.
    pub emit: extern "C" fn(ctx: u64, session: u64, kind: u32, payload: Slice) -> i32,
    /// Copies one unit into the session's ring. One writer per session.
    pub push: extern "C" fn(ctx: u64, session: u64, unit: UnitPtr) -> i32,
    /// Bytes of a transport, output or route. 256 KiB may be outstanding, one whole chunk is always taken.
    pub write: extern "C" fn(ctx: u64, session: u64, chunk: ChunkPtr) -> i32,
    /// Copies whole units of the tracks in `mask` from `cursor` on into `buf`: [`crate::records`].
    pub read: extern "C" fn(
        ctx: u64,
        source: u64,
        cursor: u64,
        mask: u64,
        buf: *mut u8,
        cap: u64,
        out: ReadOutPtr,
    ) -> i32,
    /// Finds a cursor: [`target`].
    pub locate: extern "C" fn(ctx: u64, source: u64, what: u32, arg: u64, out: *mut u64) -> i32,
    /// The JSON of [`crate::message::TrackInfo`] of a track in a configuration epoch.
    pub track_config: extern "C" fn(
        ctx: u64,
        source: u64,
        track: u32,
        epoch: u32,
        buf: *mut u8,
        cap: u64,
        len: *mut u64,
    ) -> i32,
    /// Takes the sources whose armed reads have something new; clears the wake.
    pub pending: extern "C" fn(ctx: u64, buf: *mut u64, cap: u64, len: *mut u64) -> i32,
    /// Asks for at least `ms` of history in the ring; 0 takes the wish back.
    pub retain: extern "C" fn(ctx: u64, source: u64, ms: u64) -> i32,
    /// A log event: level 1 (error) to 5 (trace), target, JSON of [`crate::message::LogEvent`].
    pub log: extern "C" fn(ctx: u64, level: u32, target: Slice, event: Slice) -> i32,
    /// Reads a small value that this plugin has kept.
    pub state_get: extern "C" fn(ctx: u64, key: Slice, buf: *mut u8, cap: u64, len: *mut u64) -> i32,
    /// Keeps a small value (at most 64 KiB) for this plugin; an empty one removes it.
    #[sabi(last_prefix_field)]
    pub state_put: extern "C" fn(ctx: u64, key: Slice, value: Slice) -> i32,
    /// Only in the fixture that stands for the next minor version: a tail field that older plugins do not know.
    #[cfg(patchbay_abi_next)]
    #[sabi(missing_field(option))]
    pub next: extern "C" fn(ctx: u64) -> i32,
}

/// What a plugin offers to the host.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginTableRef)))]
pub struct PluginTable {
    /// Size of this table in bytes.
    pub size: u64,
    /// Called once, before anything else. Must not block.
    pub start: extern "C" fn(host: HostTableRef, info: StartPtr) -> i32,
    /// Opens a session of a role of [`crate::message::role`]; the request is that role's JSON.
    pub open: extern "C" fn(session: u64, role: u32, request: Slice) -> i32,
    /// A command to a session: a kind of [`crate::message::command`] and its payload.
    pub command: extern "C" fn(session: u64, kind: u32, payload: Slice) -> i32,
    /// Ends a session; the plugin answers with an `Ended` event.
    pub close: extern "C" fn(session: u64) -> i32,
    /// Ends all sessions; called once, before the process ends.
    #[sabi(last_prefix_field)]
    pub stop: extern "C" fn() -> i32,
    /// Only in the fixture that stands for the next minor version.
    #[cfg(patchbay_abi_next)]
    #[sabi(missing_field(option))]
    pub next: extern "C" fn() -> i32,
}

impl RootModule for PluginTableRef {
    abi_stable::declare_root_module_statics! {PluginTableRef}
    const BASE_NAME: &'static str = "patchbay_plugin";
    const NAME: &'static str = "patchbay_plugin";
    const VERSION_STRINGS: VersionStrings = VersionStrings::new(crate::version::LAYOUT);
}

/// The symbol by which abi_stable finds [`PluginTable`] in a library.
pub const ROOT_SYMBOL: &str = "_1as_0lib_1header_0root_bmodule_bloader";

#[cfg(test)]
mod tests {
    #[test]
    fn root_symbol_is_abi_stables() {
        assert_eq!(super::ROOT_SYMBOL, abi_stable::library::ROOT_MODULE_LOADER_NAME);
    }
}
