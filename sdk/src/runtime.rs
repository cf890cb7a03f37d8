//! The plugin's own tokio runtime, started at the first `open`.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::error::Error;

/// Threads for [`blocking`] calls; more wait.
const MAX_BLOCKING_THREADS: usize = 16;

static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);
static HANDLE: OnceLock<Handle> = OnceLock::new();

/// The runtime's handle; starts it with `threads` workers when there is none.
pub(crate) fn handle(threads: u32) -> Result<Handle, Error> {
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let mut slot = RUNTIME.lock();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads.max(1) as usize)
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_name(patchbay_plugin_api::panic::PLUGIN_THREAD)
        .enable_all()
        .build()
        .map_err(|error| Error::unsupported(format!("the plugin's runtime cannot start: {error}")))?;
    let handle = runtime.handle().clone();
    *slot = Some(runtime);
    let _ = HANDLE.set(handle.clone());
    Ok(handle)
}

/// Ends the runtime; tasks get `grace` to finish.
pub(crate) fn shut_down(grace: Duration) {
    if let Some(runtime) = RUNTIME.lock().take() {
        runtime.shutdown_timeout(grace);
    }
}

/// Spawns a task on the plugin's runtime. Call it from a session, never before the first `open`.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match HANDLE.get() {
        Some(handle) => handle.spawn(future),
        None => tokio::spawn(future),
    }
}

/// Runs a heavy or blocking step off the workers.
pub async fn blocking<T: Send + 'static>(step: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(step)
        .await
        .map_err(|error| Error::protocol(format!("a blocking step failed: {error}")))
}

/// What `future` gives; never completes without one. For branches of `select!` that are not always there.
pub async fn or_pending<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
