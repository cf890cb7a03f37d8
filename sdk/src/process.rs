//! Programs that a plugin runs: started, signalled and reaped by one thread, in process groups of their own.
//!
//! Whatever happens, none is left behind: a group is killed when its first process ends, when its [`Program`] is dropped and
//! when the [`Programs`] are; the first process dies with the server even when that is killed (the parent-death signal,
//! which the kernel sends when the *thread* that started it ends).

mod keeper;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub use rustix::process::Signal;
use tokio::sync::oneshot;

use keeper::{Keeper, Order, Wake};

/// A program that does not end at its signal is killed after so long, unless it is told otherwise.
pub const KILL_AFTER: Duration = Duration::from_secs(5);

/// How a program is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Sent to its whole group.
    pub signal: Signal,
    /// `SIGKILL` follows after so long.
    pub kill_after: Duration,
}

impl Default for Ending {
    /// `SIGKILL` at once.
    fn default() -> Self {
        Self { signal: Signal::KILL, kill_after: Duration::ZERO }
    }
}

/// The thread that keeps programs. Cheap to clone; the last clone that is dropped kills what runs.
#[derive(Clone)]
pub struct Programs(Arc<Handle>);

struct Handle {
    orders: Sender<Order>,
    wake: Wake,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Programs {
    /// Starts the thread.
    pub fn new() -> io::Result<Self> {
        let wake = Wake::new()?;
        let (orders, received) = channel();
        let keeper = Keeper::new(received, wake.clone());
        let thread = std::thread::Builder::new().name("programs".to_owned()).spawn(move || keeper.run())?;
        Ok(Self(Arc::new(Handle { orders, wake, thread: Mutex::new(Some(thread)) })))
    }

    /// Starts a program with the server's environment and working directory, and nothing on its standard input.
    pub async fn start(&self, words: &[OsString], ending: Ending) -> io::Result<Program> {
        self.start_with(words, ending, false).await
    }

    /// [`Programs::start`] with a pipe on the program's standard input.
    pub async fn start_with_input(&self, words: &[OsString], ending: Ending) -> io::Result<Program> {
        self.start_with(words, ending, true).await
    }

    async fn start_with(&self, words: &[OsString], ending: Ending, speaks: bool) -> io::Result<Program> {
        let (answer, started) = oneshot::channel();
        self.0.order(Order::Start { words: words.to_vec(), ending, speaks, answer });
        let gone = || io::Error::other("the thread that starts programs is gone");
        let started = started.await.map_err(|_| gone())??;
        Ok(Program {
            id: started.id,
            keeper: Arc::clone(&self.0),
            stdin: started.stdin,
            stdout: Some(started.stdout),
            stderr: Some(started.stderr),
            exit: Some(started.exit),
        })
    }
}

impl Handle {
    fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            self.wake.wake();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::End);
        self.wake.wake();
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// A running program. Dropped, it is ended as it was told to be.
pub struct Program {
    id: u32,
    keeper: Arc<Handle>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    exit: Option<oneshot::Receiver<ExitStatus>>,
}

impl Program {
    /// Its process and group.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The pipe of its standard input, when it was started with one; once. Dropped, it is closed.
    pub fn take_stdin(&mut self) -> Option<OwnedFd> {
        self.stdin.take()
    }

    /// The pipe of its standard output; once.
    pub fn take_stdout(&mut self) -> Option<OwnedFd> {
        self.stdout.take()
    }

    /// The pipe of its standard error; once.
    pub fn take_stderr(&mut self) -> Option<OwnedFd> {
        self.stderr.take()
    }

    /// Begins to end it.
    pub fn stop(&self) {
        self.keeper.order(Order::Stop { id: self.id });
    }

    /// Waits until it has ended and is reaped; `None` when it was waited for before, or the thread is gone.
    pub async fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.exit.as_mut()?.await.ok();
        self.exit = None;
        status
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.exit.is_some() {
            self.stop();
        }
    }
}
