//! The thread: starts programs, waits for their ends and for orders.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, kill_process_group, pidfd_open, set_parent_process_death_signal,
};
use tokio::sync::oneshot;

use super::Ending;

/// How long the end of all programs may take.
const END_LIMIT: Duration = Duration::from_secs(1);

/// What the thread is told.
pub(super) enum Order {
    Start {
        words: Vec<OsString>,
        ending: Ending,
        /// With a pipe on its standard input.
        speaks: bool,
        answer: oneshot::Sender<io::Result<Started>>,
    },
    Stop {
        id: u32,
    },
    End,
}

/// A program that was started.
pub(super) struct Started {
    pub(super) id: u32,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) exit: oneshot::Receiver<ExitStatus>,
}

/// Wakes the thread.
#[derive(Clone)]
pub(super) struct Wake(Arc<OwnedFd>);

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    pub(super) fn wake(&self) {
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    fn clear(&self) {
        let _ = rustix::io::read(&*self.0, &mut [0; 8]);
    }
}

pub(super) struct Keeper {
    orders: Receiver<Order>,
    wake: Wake,
    kept: HashMap<u32, Kept>,
}

struct Kept {
    child: Child,
    /// Readable when the process has ended.
    pidfd: OwnedFd,
    ending: Ending,
    /// When it is killed.
    deadline: Option<Instant>,
    exit: Option<oneshot::Sender<ExitStatus>>,
}

impl Keeper {
    pub(super) fn new(orders: Receiver<Order>, wake: Wake) -> Self {
        Self { orders, wake, kept: HashMap::new() }
    }

    pub(super) fn run(mut self) {
        loop {
            self.wait();
            self.reap();
            while let Ok(order) = self.orders.try_recv() {
                match order {
                    Order::Start { words, ending, speaks, answer } => {
                        // Nobody waits for it any more: it ends at once.
                        if let Err(Ok(started)) = answer.send(self.start(&words, ending, speaks)) {
                            self.stop(started.id);
                        }
                    }
                    Order::Stop { id } => self.stop(id),
                    Order::End => return self.end(),
                }
            }
            let now = Instant::now();
            for kept in self.kept.values_mut().filter(|kept| kept.deadline.is_some_and(|at| at <= now)) {
                kept.signal(Signal::KILL);
                kept.deadline = None;
            }
        }
    }

    /// Until an order comes, a program ends or one must be killed.
    fn wait(&self) {
        let now = Instant::now();
        let next = self.kept.values().filter_map(|kept| kept.deadline).min();
        let timeout = next.map(|at| {
            let left = at.saturating_duration_since(now);
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let fds: Vec<BorrowedFd<'_>> = self.kept.values().map(|kept| kept.pidfd.as_fd()).collect();
        let mut polled = vec![PollFd::new(&*self.wake.0, PollFlags::IN)];
        polled.extend(fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let _ = poll(&mut polled, timeout.as_ref());
        self.wake.clear();
    }

    fn start(&mut self, words: &[OsString], ending: Ending, speaks: bool) -> io::Result<Started> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| io::Error::other("no program is named"))?;
        let mut command = Command::new(program);
        command.args(arguments).process_group(0);
        command
            .stdin(if speaks { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        die_with_parent(&mut command);
        let mut child = command.spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let stdin = child.stdin.take().map(OwnedFd::from);
        let pipes = child.stdout.take().zip(child.stderr.take());
        let (Some((stdout, stderr)), Some(pidfd)) = (pipes, pidfd) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(io::Error::other("no descriptor for the program"));
        };
        let id = child.id();
        let (exit, ended) = oneshot::channel();
        self.kept.insert(id, Kept { child, pidfd, ending, deadline: None, exit: Some(exit) });
        Ok(Started { id, stdin, stdout: stdout.into(), stderr: stderr.into(), exit: ended })
    }

    fn stop(&mut self, id: u32) {
        let Some(kept) = self.kept.get_mut(&id).filter(|kept| kept.deadline.is_none()) else { return };
        let Ending { signal, kill_after } = kept.ending;
        kept.signal(signal);
        if signal != Signal::KILL {
            kept.deadline = Some(Instant::now() + kill_after);
        }
    }

    /// Programs that have ended: the rest of their groups is killed before their ids can be used again.
    fn reap(&mut self) {
        self.kept.retain(|_, kept| {
            let mut polled = [PollFd::new(&kept.pidfd, PollFlags::IN)];
            if poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(1) {
                return true;
            }
            kept.signal(Signal::KILL);
            match kept.child.try_wait() {
                Ok(Some(status)) => {
                    if let Some(exit) = kept.exit.take() {
                        let _ = exit.send(status);
                    }
                    false
                }
                Ok(None) => true,
                // Somebody else reaped it.
                Err(_) => false,
            }
        });
    }

    /// Kills and reaps all; what the kernel holds longer than [`END_LIMIT`] (a device that hangs) dies without us.
    fn end(mut self) {
        self.kept.values().for_each(|kept| kept.signal(Signal::KILL));
        let limit = Instant::now() + END_LIMIT;
        self.reap();
        while !self.kept.is_empty() && Instant::now() < limit {
            self.kept.values_mut().for_each(|kept| kept.deadline = Some(limit));
            self.wait();
            self.reap();
        }
    }
}

impl Kept {
    fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, signal);
        }
    }
}

/// The kernel kills the program when this thread ends, so also when the server is killed.
#[allow(unsafe_code)] // docs/adr/0010-parent-death-signal.md
fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let between = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Killed before the line above: nobody is left to send the signal.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. `between` makes two system calls through
    // rustix and allocates nothing: an error is a code or a kind, never a boxed one.
    unsafe {
        command.pre_exec(between);
    }
}
