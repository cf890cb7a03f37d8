//! `raw:` announces one track and sends one picture. Never changed.

use std::sync::OnceLock;

use patchbay_plugin_api::abi_stable::library::{
    __call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult,
};
use patchbay_plugin_api::abi_stable::prefix_type::PrefixTypeTrait as _;
use patchbay_plugin_api::{HostTableRef, PluginTable, PluginTableRef, RawUnit, Slice, StartPtr, UnitPtr};

const OK: i32 = 0;
const CLOSED: i32 = -5;
const UNSUPPORTED: i32 = -4;

static HOST: OnceLock<(HostTableRef, u64)> = OnceLock::new();

fn slice(bytes: &[u8]) -> Slice {
    Slice { ptr: bytes.as_ptr(), len: bytes.len() as u64 }
}

fn emit(session: u64, kind: u32, json: &str) -> i32 {
    HOST.get().map_or(CLOSED, |(host, ctx)| (host.emit())(*ctx, session, kind, slice(json.as_bytes())))
}

extern "C" fn start(host: HostTableRef, info: StartPtr) -> i32 {
    // SAFETY: the host passes a StartInfo that is valid for the call; its first field is its size.
    let info = unsafe { &*info.0 };
    if (info.size as usize) < size_of_val(info) || info.abi_major != 1 {
        return UNSUPPORTED;
    }
    let _ = HOST.set((host, info.ctx));
    OK
}

extern "C" fn open(session: u64, role: u32, _: Slice) -> i32 {
    if role != 1 {
        return UNSUPPORTED;
    }
    emit(session, 1, r#"{"receive":[{"id":0,"kind":"video","codec":"mjpeg","clock_rate":90000}],"final":true}"#)
}

extern "C" fn command(session: u64, kind: u32, _: Slice) -> i32 {
    let Some((host, ctx)) = HOST.get().filter(|_| session != 0 && kind == 1) else { return UNSUPPORTED };
    let unit = RawUnit {
        size: size_of::<RawUnit>() as u32,
        track: 0,
        flags: 1,
        epoch: 0,
        pts: 0,
        dts: 0,
        arrival_ns: 0,
        duration: 0,
        reserved: 0,
        data: slice(b"\xff\xd8\xff\xd9"),
    };
    (host.push())(*ctx, session, UnitPtr(&unit))
}

extern "C" fn close(session: u64) -> i32 {
    emit(session, 4, r#"{"class":"eof"}"#)
}

extern "C" fn stop() -> i32 {
    OK
}

fn table() -> PluginTableRef {
    PluginTable { size: size_of::<PluginTable>() as u64, start, open, command, close, stop }.leak_into_prefix()
}

extern "C" fn erased() -> RootModuleResult {
    __call_root_module_loader(table)
}

// SAFETY: `erased` returns the PluginTableRef that `table` made.
#[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
#[used]
static HEADER: LibHeader =
    unsafe { LibHeader::from_constructor::<PluginTableRef>(erased, CheckTypeLayout::Yes) };

const JSON: &str = r#"{"name":"old","version":"1.0.0","abi":"1.0.0","licence":"MIT OR Apache-2.0","roles":["source"],"schemes":[{"name":"raw","role":"source"}]}"#;

// SAFETY: a section of this name is read by nothing but Patchbay.
#[unsafe(link_section = ".patchbay")]
#[used]
static MANIFEST: [u8; JSON.len()] = {
    let mut bytes = [0_u8; JSON.len()];
    bytes.copy_from_slice(JSON.as_bytes());
    bytes
};
