//! The thread that writes lines to the output, so that nobody else waits for it.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes that may wait for the output. When they are used up new lines are dropped and counted.
pub(super) const QUEUE: usize = 1 << 20;

pub(crate) struct Writer {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Lines came or the end did.
    filled: Condvar,
    /// The queue is empty and written.
    drained: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<String>,
    bytes: usize,
    /// Lines dropped since the last one that was taken.
    lost: u64,
    busy: bool,
    ended: bool,
}

impl Writer {
    pub(crate) fn start(sink: Box<dyn Write + Send>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = Arc::clone(&shared);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || thread.run(sink))?;
        Ok(Self { shared })
    }

    pub(crate) fn put(&self, line: String) {
        let mut queue = self.shared.queue.lock();
        if queue.bytes + line.len() > QUEUE {
            queue.lost += 1;
            // Relaxed: a counter, nothing else is read by it.
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        self.shared.filled.notify_one();
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut queue = self.shared.queue.lock();
        while queue.busy || !queue.lines.is_empty() {
            if self.shared.drained.wait_until(&mut queue, until).timed_out() {
                return !queue.busy && queue.lines.is_empty();
            }
        }
        true
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.lock().ended = true;
        self.shared.filled.notify_one();
    }
}

impl Shared {
    fn run(&self, mut sink: Box<dyn Write + Send>) {
        loop {
            let mut queue = self.queue.lock();
            queue.busy = false;
            while queue.lines.is_empty() {
                self.drained.notify_all();
                if queue.ended {
                    return;
                }
                self.filled.wait(&mut queue);
            }
            queue.busy = true;
            let lines = std::mem::take(&mut queue.lines);
            let lost = std::mem::take(&mut queue.lost);
            drop(queue);
            let mut bytes = 0;
            for line in lines {
                bytes += line.len();
                // A closed pipe or a full disk: the memory still has the lines.
                let _ = sink.write_all(line.as_bytes());
            }
            if lost > 0 {
                let line = super::format::lost_line(lost);
                let _ = sink.write_all(line.as_bytes());
            }
            let _ = sink.flush();
            self.queue.lock().bytes -= bytes;
        }
    }
}
