//! Builds the two tables from safe traits. All pointers of the ABI are turned into slices here, and nowhere else.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use abi_stable::prefix_type::PrefixTypeTrait as _;

use crate::abi::{
    ChunkPtr, HostTable, HostTableRef, PluginTable, PluginTableRef, RawPatch, RawUnit, ReadOut, ReadOutPtr,
    Slice, StartPtr, UnitPtr, give_back, sized,
};
use crate::c;
use crate::code::Code;
use crate::host::{Host, Patch, PatchKind};
use crate::message::LogEvent;
use crate::panic::{self, Threads};

/// What a library implements; [`crate::export!`] makes its table.
///
/// A panic in any of them is caught, reported by [`Entry::panicked`] and returned as [`Code::Panicked`].
pub trait Entry: 'static {
    /// See [`PluginTable::start`].
    fn start(host: Host, config: String) -> Code;
    /// See [`PluginTable::open`].
    fn open(session: u64, role: u32, request: &[u8]) -> Code;
    /// See [`PluginTable::command`].
    fn command(session: u64, kind: u32, payload: &[u8]) -> Code;
    /// See [`PluginTable::close`].
    fn close(session: u64) -> Code;
    /// See [`PluginTable::stop`].
    fn stop() -> Code;
    /// A call of session `session` (0: none) panicked; the session must be failed.
    fn panicked(session: u64, call: &'static str, message: &str);
}

/// What a host implements; [`host_table`] makes its table. `ctx` is the number given to `start`.
#[allow(missing_docs)] // the functions of HostTable
pub trait HostEntry: 'static {
    fn emit(ctx: u64, session: u64, kind: u32, payload: &[u8]) -> Code;
    fn push(ctx: u64, session: u64, unit: &RawUnit, data: &[u8]) -> Code;
    fn write(ctx: u64, session: u64, chunk: ChunkRef<'_>) -> Code;
    fn read(
        ctx: u64,
        source: u64,
        cursor: u64,
        mask: u64,
        buf: &mut [MaybeUninit<u8>],
        out: &mut ReadOut,
    ) -> Code;
    fn locate(ctx: u64, source: u64, what: u32, arg: u64) -> Result<u64, Code>;
    fn track_config(ctx: u64, source: u64, track: u32, epoch: u32) -> Result<Vec<u8>, Code>;
    fn pending(ctx: u64, out: &mut [u64]) -> usize;
    fn retain(ctx: u64, source: u64, ms: u64) -> Code;
    fn log(ctx: u64, level: u32, target: &str, event: &[u8]);
    fn state_get(ctx: u64, key: &str) -> Result<Vec<u8>, Code>;
    fn state_put(ctx: u64, key: &str, value: &[u8]) -> Code;
    fn panicked(ctx: u64, call: &'static str, message: &str);
}

/// A chunk as the host sees it.
#[derive(Debug, Clone, Copy)]
pub struct ChunkRef<'a> {
    /// The bytes.
    pub data: &'a [u8],
    /// Bits of [`crate::abi::chunk_flags`].
    pub flags: u32,
    /// Checked: at most 4, each within the window and the chunk.
    pub patches: [Option<Patch>; Patch::MAX],
    /// The join that a history chunk answers.
    pub join: u64,
    /// At most 64.
    pub starts: &'a [i64],
}

/// The table of a library whose code is `E`.
pub fn plugin_table<E: Entry>() -> PluginTableRef {
    PluginTable {
        size: size_of::<PluginTable>() as u64,
        start: start::<E>,
        open: open::<E>,
        command: command::<E>,
        close: close::<E>,
        stop: stop::<E>,
        #[cfg(patchbay_abi_next)]
        next: next_plugin,
    }
    .leak_into_prefix()
}

/// The same as a plain C table, for hosts that do without abi_stable.
pub fn c_table<E: Entry>() -> &'static c::PluginTable {
    const {
        &c::PluginTable {
            size: size_of::<c::PluginTable>() as u64,
            start: Some(start_by_c::<E>),
            open: Some(open::<E>),
            command: Some(command::<E>),
            close: Some(close::<E>),
            stop: Some(stop::<E>),
        }
    }
}

/// The table of a host whose code is `H`. Leaked: make it once.
pub fn host_table<H: HostEntry>() -> HostTableRef {
    HostTable {
        size: size_of::<HostTable>() as u64,
        emit: emit::<H>,
        push: push::<H>,
        write: write::<H>,
        read: read::<H>,
        locate: locate::<H>,
        track_config: track_config::<H>,
        pending: pending::<H>,
        retain: retain::<H>,
        log: log::<H>,
        state_get: state_get::<H>,
        state_put: state_put::<H>,
        #[cfg(patchbay_abi_next)]
        next: next_host,
    }
    .leak_into_prefix()
}

/// Exports `$entry` as the library's plugin table: under abi_stable's root symbol, and as [`crate::c::SYMBOL`] for hosts that
/// do without abi_stable.
#[macro_export]
macro_rules! export {
    ($entry:ty) => {
        const _: () = {
            fn table() -> $crate::abi::PluginTableRef {
                $crate::entry::plugin_table::<$entry>()
            }
            extern "C" fn erased() -> $crate::abi_stable::library::RootModuleResult {
                $crate::abi_stable::library::__call_root_module_loader(table)
            }
            // SAFETY: `erased` returns the PluginTableRef that `table` made. The name is abi_stable's own (a test compares).
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            #[used]
            static HEADER: $crate::abi_stable::library::LibHeader = unsafe {
                $crate::abi_stable::library::LibHeader::from_constructor::<$crate::abi::PluginTableRef>(
                    erased,
                    $crate::abi_stable::library::CheckTypeLayout::Yes,
                )
            };
            // SAFETY: it is what the header demands of this name: it gives a table that stays (a test compares the name).
            #[unsafe(export_name = "patchbay_plugin_v1")]
            extern "C" fn c_table() -> *const $crate::c::PluginTable {
                $crate::entry::c_table::<$entry>()
            }
            const _: $crate::c::EntryPoint = c_table;
        };
    };
}

/// Puts `$json` (a literal, `concat!` or `include_str!`) into the library's manifest section.
#[macro_export]
macro_rules! manifest_section {
    ($json:expr) => {
        const _: () = {
            const JSON: &str = $json;
            // SAFETY: a section of this name is read by nothing but Patchbay.
            #[unsafe(link_section = ".patchbay")]
            #[used]
            static MANIFEST: [u8; JSON.len()] = {
                let mut bytes = [0_u8; JSON.len()];
                bytes.copy_from_slice(JSON.as_bytes());
                bytes
            };
        };
    };
}

#[cfg(patchbay_abi_next)]
extern "C" fn next_plugin() -> i32 {
    7
}

#[cfg(patchbay_abi_next)]
pub(crate) extern "C" fn next_host(_ctx: u64) -> i32 {
    7
}

fn guard(report: impl FnOnce(&str), call: impl FnOnce() -> Code) -> i32 {
    match panic::catch(call) {
        Ok(code) => code as i32,
        Err(message) => {
            // Reporting runs foreign code too; if that panics as well there is nothing left to tell.
            let _ = panic::catch(|| report(&message));
            Code::Panicked as i32
        }
    }
}

extern "C" fn start_by_c<E: Entry>(host: *const HostTable, info: StartPtr) -> i32 {
    // SAFETY: the host passes a table that stays, as large as it says.
    match unsafe { c::host_of(host) } {
        Some(host) => start::<E>(host, info),
        None => Code::Unsupported as i32,
    }
}

extern "C" fn start<E: Entry>(host: HostTableRef, info: StartPtr) -> i32 {
    guard(
        |message| E::panicked(0, "start", message),
        // SAFETY: the host passes a valid StartInfo for the call.
        || match unsafe { Host::new(host, info) } {
            Some((host, config)) => {
                panic::report(Threads::Plugin, move |line| {
                    host.log(1, "panic", &LogEvent { message: line.to_owned(), ..LogEvent::default() });
                });
                E::start(host, config)
            }
            None => Code::Invalid,
        },
    )
}

extern "C" fn open<E: Entry>(session: u64, role: u32, request: Slice) -> i32 {
    // SAFETY: slices are valid for the call.
    let request = unsafe { request.as_bytes() };
    guard(|message| E::panicked(session, "open", message), || E::open(session, role, request))
}

extern "C" fn command<E: Entry>(session: u64, kind: u32, payload: Slice) -> i32 {
    // SAFETY: slices are valid for the call.
    let payload = unsafe { payload.as_bytes() };
    guard(|message| E::panicked(session, "command", message), || E::command(session, kind, payload))
}

extern "C" fn close<E: Entry>(session: u64) -> i32 {
    guard(|message| E::panicked(session, "close", message), || E::close(session))
}

extern "C" fn stop<E: Entry>() -> i32 {
    guard(|message| E::panicked(0, "stop", message), E::stop)
}

extern "C" fn emit<H: HostEntry>(ctx: u64, session: u64, kind: u32, payload: Slice) -> i32 {
    // SAFETY: slices are valid for the call.
    let payload = unsafe { payload.as_bytes() };
    guard(|message| H::panicked(ctx, "emit", message), || H::emit(ctx, session, kind, payload))
}

extern "C" fn push<H: HostEntry>(ctx: u64, session: u64, unit: UnitPtr) -> i32 {
    guard(
        |message| H::panicked(ctx, "push", message),
        || {
            // SAFETY: the plugin passes a valid unit for the call.
            let Some(unit) = (unsafe { sized(unit.0) }) else { return Code::Invalid };
            // SAFETY: slices are valid for the call.
            H::push(ctx, session, &unit, unsafe { unit.data.as_bytes() })
        },
    )
}

extern "C" fn write<H: HostEntry>(ctx: u64, session: u64, chunk: ChunkPtr) -> i32 {
    guard(
        |message| H::panicked(ctx, "write", message),
        || {
            // SAFETY: the plugin passes a valid chunk for the call.
            let Some(raw) = (unsafe { sized(chunk.0) }) else { return Code::Invalid };
            if raw.patch_count > Patch::MAX as u64 || raw.start_count > 64 {
                return Code::Invalid;
            }
            // SAFETY: slices are valid for the call; empty ones may have any pointer.
            let (data, raw_patches, starts) = unsafe {
                (
                    raw.data.as_bytes(),
                    array::<RawPatch>(raw.patches, raw.patch_count),
                    array::<i64>(raw.starts, raw.start_count),
                )
            };
            let mut patches = [None; Patch::MAX];
            for (slot, raw) in patches.iter_mut().zip(raw_patches) {
                let Some(kind) = PatchKind::from_raw(raw.kind) else { return Code::Invalid };
                let end = (raw.offset as usize).saturating_add(kind.len());
                if end > data.len().min(Patch::WINDOW) {
                    return Code::Invalid;
                }
                *slot = Some(Patch { offset: raw.offset, track: raw.track, kind });
            }
            H::write(ctx, session, ChunkRef { data, flags: raw.flags, patches, join: raw.join, starts })
        },
    )
}

/// # Safety
/// `ptr` must be valid for `count` values unless that is 0.
unsafe fn array<'a, T>(ptr: *const T, count: u64) -> &'a [T] {
    if count == 0 || ptr.is_null() {
        return &[];
    }
    // SAFETY: the caller upholds it.
    unsafe { std::slice::from_raw_parts(ptr, count as usize) }
}

extern "C" fn read<H: HostEntry>(
    ctx: u64,
    source: u64,
    cursor: u64,
    mask: u64,
    buf: *mut u8,
    cap: u64,
    out: ReadOutPtr,
) -> i32 {
    guard(
        |message| H::panicked(ctx, "read", message),
        || {
            // SAFETY: the plugin passes a valid ReadOut for the call.
            let Some(mut found) = (unsafe { sized(out.0.cast_const()) }) else { return Code::Invalid };
            let size = found.size;
            let buf: &mut [MaybeUninit<u8>] = if cap == 0 || buf.is_null() {
                &mut []
            } else {
                // SAFETY: the plugin lends `cap` bytes for the call; they may be uninitialised.
                unsafe { std::slice::from_raw_parts_mut(buf.cast(), cap as usize) }
            };
            let code = H::read(ctx, source, cursor, mask, buf, &mut found);
            found.size = size;
            // SAFETY: the same struct, which the plugin lends for the call, as large as it said.
            unsafe { give_back(out.0, &found, size) };
            code
        },
    )
}

extern "C" fn locate<H: HostEntry>(ctx: u64, source: u64, what: u32, arg: u64, out: *mut u64) -> i32 {
    guard(
        |message| H::panicked(ctx, "locate", message),
        || match H::locate(ctx, source, what, arg) {
            // SAFETY: `out` is valid for one u64 for the call.
            Ok(cursor) => unsafe { out.as_mut() }.map_or(Code::Invalid, |out| {
                *out = cursor;
                Code::Ok
            }),
            Err(code) => code,
        },
    )
}

extern "C" fn track_config<H: HostEntry>(
    ctx: u64,
    source: u64,
    track: u32,
    epoch: u32,
    buf: *mut u8,
    cap: u64,
    len: *mut u64,
) -> i32 {
    guard(
        |message| H::panicked(ctx, "track_config", message),
        // SAFETY: the buffer and length are the plugin's, valid for the call.
        || unsafe { answer(H::track_config(ctx, source, track, epoch), buf, cap, len) },
    )
}

extern "C" fn pending<H: HostEntry>(ctx: u64, buf: *mut u64, cap: u64, len: *mut u64) -> i32 {
    guard(
        |message| H::panicked(ctx, "pending", message),
        || {
            let cap = cap.min(4096);
            let mut taken = vec![0_u64; cap as usize];
            // SAFETY: `len` is valid for one u64 for the call.
            let Some(len) = (unsafe { len.as_mut() }) else { return Code::Invalid };
            if buf.is_null() {
                return Code::Invalid;
            }
            let n = H::pending(ctx, &mut taken).min(taken.len());
            // SAFETY: `buf` is valid for `cap` values for the call, and n <= cap.
            unsafe { std::ptr::copy_nonoverlapping(taken.as_ptr(), buf, n) };
            *len = n as u64;
            Code::Ok
        },
    )
}

extern "C" fn retain<H: HostEntry>(ctx: u64, source: u64, ms: u64) -> i32 {
    guard(|message| H::panicked(ctx, "retain", message), || H::retain(ctx, source, ms))
}

extern "C" fn log<H: HostEntry>(ctx: u64, level: u32, target: Slice, event: Slice) -> i32 {
    // SAFETY: slices are valid for the call.
    let (target, event) = unsafe { (target.as_bytes(), event.as_bytes()) };
    guard(
        |message| H::panicked(ctx, "log", message),
        || {
            H::log(ctx, level, &String::from_utf8_lossy(target), event);
            Code::Ok
        },
    )
}

extern "C" fn state_get<H: HostEntry>(ctx: u64, key: Slice, buf: *mut u8, cap: u64, len: *mut u64) -> i32 {
    // SAFETY: slices are valid for the call.
    let key = unsafe { key.as_bytes() };
    guard(
        |message| H::panicked(ctx, "state_get", message),
        // SAFETY: the buffer and length are the plugin's, valid for the call.
        || unsafe { answer(H::state_get(ctx, &String::from_utf8_lossy(key)), buf, cap, len) },
    )
}

extern "C" fn state_put<H: HostEntry>(ctx: u64, key: Slice, value: Slice) -> i32 {
    // SAFETY: slices are valid for the call.
    let (key, value) = unsafe { (key.as_bytes(), value.as_bytes()) };
    guard(
        |message| H::panicked(ctx, "state_put", message),
        || H::state_put(ctx, &String::from_utf8_lossy(key), value),
    )
}

/// # Safety
/// `buf` must be valid for `cap` bytes and `len` for one u64.
unsafe fn answer(value: Result<Vec<u8>, Code>, buf: *mut u8, cap: u64, len: *mut u64) -> Code {
    let value = match value {
        Ok(value) => value,
        Err(code) => return code,
    };
    // SAFETY: the caller upholds it.
    let Some(len) = (unsafe { len.as_mut() }) else { return Code::Invalid };
    *len = value.len() as u64;
    if value.len() as u64 > cap || (buf.is_null() && !value.is_empty()) {
        return Code::TooSmall;
    }
    // SAFETY: `buf` is valid for `cap` bytes, and the value is not longer.
    unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), buf, value.len()) };
    Code::Ok
}
