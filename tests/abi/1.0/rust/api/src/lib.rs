//! The tables of ABI 1.0, and what they carry, as they were when it was declared. Never changed.
#![allow(non_local_definitions)] // what abi_stable's derive emits
#![allow(missing_docs)]

pub use abi_stable;
use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;

#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Slice {
    pub ptr: *const u8,
    pub len: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct RawUnit {
    pub size: u32,
    pub track: u32,
    pub flags: u32,
    pub epoch: u32,
    pub pts: i64,
    pub dts: i64,
    pub arrival_ns: u64,
    pub duration: u32,
    pub reserved: u32,
    pub data: Slice,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct StartInfo {
    pub size: u32,
    pub wake_fd: i32,
    pub ctx: u64,
    pub threads: u32,
    pub log_level: u32,
    pub config: Slice,
    pub abi_major: u32,
    pub abi_minor: u32,
}

#[repr(transparent)]
#[derive(StableAbi, Clone, Copy)]
#[sabi(unsafe_opaque_fields)]
pub struct UnitPtr(pub *const RawUnit);

#[repr(transparent)]
#[derive(StableAbi, Clone, Copy)]
#[sabi(unsafe_opaque_fields)]
pub struct ChunkPtr(pub *const u8);

#[repr(transparent)]
#[derive(StableAbi, Clone, Copy)]
#[sabi(unsafe_opaque_fields)]
pub struct ReadOutPtr(pub *mut u8);

#[repr(transparent)]
#[derive(StableAbi, Clone, Copy)]
#[sabi(unsafe_opaque_fields)]
pub struct StartPtr(pub *const StartInfo);

#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostTableRef)))]
pub struct HostTable {
    pub size: u64,
    pub emit: extern "C" fn(ctx: u64, session: u64, kind: u32, payload: Slice) -> i32,
    pub push: extern "C" fn(ctx: u64, session: u64, unit: UnitPtr) -> i32,
    pub write: extern "C" fn(ctx: u64, session: u64, chunk: ChunkPtr) -> i32,
    pub read: extern "C" fn(
        ctx: u64,
        source: u64,
        cursor: u64,
        mask: u64,
        buf: *mut u8,
        cap: u64,
        out: ReadOutPtr,
    ) -> i32,
    pub locate: extern "C" fn(ctx: u64, source: u64, what: u32, arg: u64, out: *mut u64) -> i32,
    pub track_config: extern "C" fn(
        ctx: u64,
        source: u64,
        track: u32,
        epoch: u32,
        buf: *mut u8,
        cap: u64,
        len: *mut u64,
    ) -> i32,
    pub pending: extern "C" fn(ctx: u64, buf: *mut u64, cap: u64, len: *mut u64) -> i32,
    pub retain: extern "C" fn(ctx: u64, source: u64, ms: u64) -> i32,
    pub log: extern "C" fn(ctx: u64, level: u32, target: Slice, event: Slice) -> i32,
    pub state_get: extern "C" fn(ctx: u64, key: Slice, buf: *mut u8, cap: u64, len: *mut u64) -> i32,
    #[sabi(last_prefix_field)]
    pub state_put: extern "C" fn(ctx: u64, key: Slice, value: Slice) -> i32,
}

#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginTableRef)))]
pub struct PluginTable {
    pub size: u64,
    pub start: extern "C" fn(host: HostTableRef, info: StartPtr) -> i32,
    pub open: extern "C" fn(session: u64, role: u32, request: Slice) -> i32,
    pub command: extern "C" fn(session: u64, kind: u32, payload: Slice) -> i32,
    pub close: extern "C" fn(session: u64) -> i32,
    #[sabi(last_prefix_field)]
    pub stop: extern "C" fn() -> i32,
}

impl RootModule for PluginTableRef {
    abi_stable::declare_root_module_statics! {PluginTableRef}
    const BASE_NAME: &'static str = "patchbay_plugin";
    const NAME: &'static str = "patchbay_plugin";
    const VERSION_STRINGS: VersionStrings = VersionStrings::new("1.0.0");
}
