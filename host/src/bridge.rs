//! The host's side of the ABI: calls of plugins, by the number they were started with.

use std::mem::MaybeUninit;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use patchbay_plugin_api::Code;
use patchbay_plugin_api::abi::{HostTableRef, RawUnit, ReadOut};
use patchbay_plugin_api::entry::{ChunkRef, HostEntry, host_table};
use patchbay_plugin_api::message::LogEvent;

use crate::app::App;
use crate::instance::Instance;
use crate::reading;

/// Most small values that one plugin keeps.
const MAX_VALUES: usize = 1024;

static APP: OnceLock<Arc<App>> = OnceLock::new();
static INSTANCES: RwLock<Vec<Arc<Instance>>> = RwLock::new(Vec::new());

/// Makes `app` the one that plugins of this process call. Once.
pub fn install(app: &Arc<App>) {
    let _ = APP.set(Arc::clone(app));
}

/// The app that plugins of this process call.
pub(crate) fn app() -> Option<Arc<App>> {
    APP.get().cloned()
}

/// The host's table, one for all plugins.
pub fn table() -> HostTableRef {
    static TABLE: OnceLock<HostTableRef> = OnceLock::new();
    *TABLE.get_or_init(host_table::<Bridge>)
}

pub(crate) fn register(instance: &Arc<Instance>) {
    INSTANCES.write().push(Arc::clone(instance));
}

/// A process that died makes no more calls.
pub(crate) fn forget(ctx: u64) {
    INSTANCES.write().retain(|instance| instance.ctx != ctx);
}

fn instance(ctx: u64) -> Option<Arc<Instance>> {
    INSTANCES.read().iter().find(|instance| instance.ctx == ctx).cloned()
}

/// The host's functions, for plugins here and in processes of their own.
pub(crate) struct Bridge;

impl HostEntry for Bridge {
    fn emit(ctx: u64, session: u64, kind: u32, payload: &[u8]) -> Code {
        let (Some(app), Some(instance)) = (APP.get(), instance(ctx)) else { return Code::Closed };
        app.event(&instance, session, kind, payload)
    }

    fn push(ctx: u64, session: u64, unit: &RawUnit, data: &[u8]) -> Code {
        let Some(app) = APP.get() else { return Code::Closed };
        match app.source_of(ctx, session) {
            Some(source) => {
                let (code, first) = source.push(session, unit, data);
                if first {
                    app.media(source.id);
                }
                code
            }
            None => Code::Unknown,
        }
    }

    fn write(ctx: u64, session: u64, chunk: ChunkRef<'_>) -> Code {
        APP.get().map_or(Code::Closed, |app| app.write(ctx, session, chunk))
    }

    fn read(
        ctx: u64,
        id: u64,
        cursor: u64,
        mask: u64,
        buf: &mut [MaybeUninit<u8>],
        out: &mut ReadOut,
    ) -> Code {
        let (Some(app), Some(instance)) = (APP.get(), instance(ctx)) else { return Code::Closed };
        let Some(source) = app.source(id) else { return Code::Closed };
        let read = source.handle.read(cursor, mask, buf);
        let code = reading::report(&read, false, out);
        if code == Code::Ok && read.end {
            out.end = u32::from(instance.arm(id, mask, read.next, &source.handle));
        }
        code
    }

    fn locate(_: u64, id: u64, what: u32, arg: u64) -> Result<u64, Code> {
        let source = APP.get().and_then(|app| app.source(id)).ok_or(Code::Closed)?;
        source.handle.locate(reading::place(what, arg)?).ok_or(Code::Unknown)
    }

    fn track_config(_: u64, id: u64, track: u32, epoch: u32) -> Result<Vec<u8>, Code> {
        let source = APP.get().and_then(|app| app.source(id)).ok_or(Code::Closed)?;
        let info = source.track_config(track, epoch).ok_or(Code::Unknown)?;
        serde_json::to_vec(&info).map_err(|_| Code::Invalid)
    }

    fn pending(ctx: u64, out: &mut [u64]) -> usize {
        instance(ctx).map_or(0, |instance| instance.take_pending(out))
    }

    fn retain(_: u64, id: u64, ms: u64) -> Code {
        match APP.get().and_then(|app| app.source(id)) {
            Some(source) => {
                source.retain(ms);
                Code::Ok
            }
            None => Code::Unknown,
        }
    }

    fn log(ctx: u64, level: u32, target: &str, event: &[u8]) {
        if let (Some(app), Some(instance)) = (APP.get(), instance(ctx)) {
            let event: LogEvent = serde_json::from_slice(event).unwrap_or_default();
            app.plugin_log(&instance.manifest.name, level, target, &event);
        }
    }

    fn state_get(ctx: u64, key: &str) -> Result<Vec<u8>, Code> {
        let (Some(app), Some(instance)) = (APP.get(), instance(ctx)) else { return Err(Code::Closed) };
        app.state.lock().get(&(instance.manifest.name.clone(), key.to_owned())).cloned().ok_or(Code::Unknown)
    }

    fn state_put(ctx: u64, key: &str, value: &[u8]) -> Code {
        let (Some(app), Some(instance)) = (APP.get(), instance(ctx)) else { return Code::Closed };
        if value.len() > 64 << 10 || key.len() > 256 {
            return Code::OverLimit;
        }
        let key = (instance.manifest.name.clone(), key.to_owned());
        let mut state = app.state.lock();
        let own = state.keys().filter(|(plugin, _)| *plugin == key.0).count();
        if value.is_empty() {
            state.remove(&key);
        } else if state.contains_key(&key) || own < MAX_VALUES {
            state.insert(key, value.to_vec());
        } else {
            return Code::OverLimit;
        }
        Code::Ok
    }

    fn panicked(ctx: u64, call: &'static str, message: &str) {
        let name = instance(ctx).map(|instance| instance.manifest.name.clone()).unwrap_or_default();
        tracing::error!(plugin = name, "panic of the host in {call}: {message}");
    }
}
