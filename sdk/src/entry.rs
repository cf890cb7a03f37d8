//! What the [`crate::plugin!`] macro builds on.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use patchbay_plugin_api::message::command;
use patchbay_plugin_api::panic;
use patchbay_plugin_api::{Code, Host};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::session::{self, Command, Link};
use crate::{Config, Plugin, log, reader, runtime};

/// How long sessions have to end after `close` before they are dropped.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// How long all sessions have to end in `stop`, within the host's limit of 1 s per call.
const STOP_GRACE: Duration = Duration::from_millis(700);

/// What the macro writes: the plugin's type and its roles.
pub trait Definition: 'static {
    /// The plugin.
    type Plugin: Plugin;
    /// Opens a session of `role`.
    fn open(plugin: Arc<Self::Plugin>, role: u32, request: &[u8], session: Opening) -> Result<(), Code>;
}

/// A session that is being opened.
pub struct Opening {
    host: Host,
    id: u64,
}

impl Opening {
    /// Runs `body` as the session's task. Its end ends the session.
    pub(crate) fn run<F>(
        self,
        body: impl FnOnce(Link, mpsc::UnboundedReceiver<Command>) -> F + Send + 'static,
    ) -> Result<(), Code>
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let handle = runtime::handle(self.host.threads()).map_err(|_| Code::OverLimit)?;
        reader::start(self.host, &handle);
        let (link, commands) = session::register(self.host, Some(self.id));
        let task = {
            let link = link.clone();
            async move { body(link, commands).await }
        };
        handle.spawn(supervise(link, task));
        Ok(())
    }
}

/// Runs a session's task to its end: a panic is one failed session, `close` gives it a little time.
pub(crate) async fn supervise(link: Link, task: impl Future<Output = Result<(), Error>> + Send) {
    let closed: CancellationToken = link.closed.clone();
    let guarded = std::panic::AssertUnwindSafe(task).catch_unwind();
    tokio::pin!(guarded);
    let result = tokio::select! {
        result = &mut guarded => Some(result),
        () = async { closed.cancelled().await; tokio::time::sleep(CLOSE_GRACE).await } => None,
    };
    let result = match result {
        Some(Ok(result)) => result,
        Some(Err(panic)) => {
            // The hook of `panic::report` has logged it.
            let message = panic::text(&*panic);
            std::mem::forget(panic);
            Err(Error::protocol(format!("the plugin panicked: {message}")))
        }
        None => Ok(()),
    };
    session::finish(&link, result);
}

struct Running<P> {
    host: Host,
    plugin: Arc<P>,
}

/// The library's entry points around a [`Definition`].
pub struct Entry<D>(PhantomData<D>);

/// One library holds one plugin: its parts are found by type.
static RUNNING: OnceLock<Mutex<Option<Arc<dyn std::any::Any + Send + Sync>>>> = OnceLock::new();

fn running<P: Plugin>() -> Option<Arc<Running<P>>> {
    let any = RUNNING.get()?.lock().clone()?;
    any.downcast().ok()
}

impl<D: Definition> patchbay_plugin_api::entry::Entry for Entry<D> {
    fn start(host: Host, config: String) -> Code {
        log::forward(host);
        let plugin = match D::Plugin::start(Config { yaml: config }) {
            Ok(plugin) => Arc::new(plugin),
            Err(error) => {
                tracing::error!("cannot start: {error}");
                return Code::Invalid;
            }
        };
        let slot = RUNNING.get_or_init(|| Mutex::new(None));
        *slot.lock() = Some(Arc::new(Running { host, plugin }));
        Code::Ok
    }

    fn open(session: u64, role: u32, request: &[u8]) -> Code {
        let Some(running) = running::<D::Plugin>() else { return Code::Closed };
        let opening = Opening { host: running.host, id: session };
        match D::open(Arc::clone(&running.plugin), role, request, opening) {
            Ok(()) => Code::Ok,
            Err(code) => code,
        }
    }

    fn command(id: u64, kind: u32, payload: &[u8]) -> Code {
        match (id, kind) {
            (0, command::LOG_LEVEL) => {
                log::set_level(serde_json::from_slice(payload).unwrap_or(3));
                Code::Ok
            }
            (0, command::PING) => {
                let Some(running) = running::<D::Plugin>() else { return Code::Closed };
                let Ok(handle) = runtime::handle(running.host.threads()) else { return Code::OverLimit };
                let (host, payload) = (running.host, payload.to_vec());
                handle.spawn(async move {
                    let _ = host.emit_bytes(0, patchbay_plugin_api::message::event::PONG, &payload);
                });
                Code::Ok
            }
            _ => session::dispatch(id, kind, payload),
        }
    }

    fn close(id: u64) -> Code {
        session::close(id)
    }

    fn stop() -> Code {
        session::close_all();
        let end = std::time::Instant::now() + STOP_GRACE;
        while session::count() > 0 && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        runtime::shut_down(Duration::from_millis(100));
        Code::Ok
    }

    fn panicked(id: u64, call: &'static str, message: &str) {
        tracing::error!(session = id, "panic in {call}: {message}");
        if id != 0 {
            session::close(id);
        }
    }
}
