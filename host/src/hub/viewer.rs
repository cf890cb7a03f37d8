//! A viewer of a run.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use patchbay_plugin_api::abi::chunk_flags;
use patchbay_plugin_api::message::{Class, Ended};

use super::chunk::{LogChunk, Piece, is_before, patched};
use super::{Admitted, Guard, Run};

/// Pictures that need no other ([`chunk_flags::ALONE`]) which a viewer may be late by: half a second at 25 a second.
const MAX_LATE: usize = 12;

/// One client of a run: a position in its log.
pub struct Viewer {
    run: Arc<Run>,
    _guard: Guard,
    /// Content type with codecs.
    pub mime: String,
    ready: VecDeque<Piece>,
    starts: Vec<i64>,
    position: u64,
    sequence: u32,
    last: bool,
    wait_key: bool,
    /// Bytes given out.
    pub bytes: u64,
    /// Chunks given out.
    pub chunks: u64,
    /// Chunks skipped because it was slow.
    pub drops: u64,
}

impl Viewer {
    /// One that begins with what it was admitted with; a still needs no description.
    pub(super) fn new(run: Arc<Run>, guard: Guard, mime: String, admitted: &Admitted, still: bool) -> Self {
        let mut ready = VecDeque::new();
        if !admitted.init.is_empty() && !still {
            ready.push_back(admitted.init.clone().into());
        }
        if !admitted.data.is_empty() {
            ready.push_back(admitted.data.clone().into());
        }
        Self {
            run,
            _guard: guard,
            mime,
            ready,
            starts: admitted.starts.clone(),
            position: admitted.position,
            sequence: 0,
            last: admitted.last,
            wait_key: false,
            bytes: 0,
            chunks: 0,
            drops: 0,
        }
    }

    /// Whether the run ended because its source did: another one may come.
    pub fn source_is_gone(&self) -> bool {
        !self.last && self.run.source_is_gone()
    }

    /// Whether the run ended because the plugin's process died: another one may come.
    pub fn plugin_died(&self) -> bool {
        let died = |ended: &Ended| ended.class == Class::Timeout;
        !self.last && self.run.instance.is_isolated() && self.run.ended.borrow().as_ref().is_some_and(died)
    }

    /// The next bytes; `None` at the end of the run.
    pub async fn next(&mut self) -> Option<Piece> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.bytes += piece.len() as u64;
                self.chunks += 1;
                return Some(piece);
            }
            if self.last {
                return None;
            }
            let run = Arc::clone(&self.run);
            let news = run.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if let Some(chunk) = self.take() {
                if is_before(&chunk, &self.starts) {
                    continue;
                }
                let piece = patched(&chunk, &self.starts, &mut self.sequence);
                self.ready.push_back(piece);
                continue;
            }
            if run.is_ended() {
                return None;
            }
            news.await;
        }
    }

    /// The next chunk of the log that this viewer may have.
    fn take(&mut self) -> Option<Arc<LogChunk>> {
        let state = self.run.state.lock();
        if self.position < state.first {
            self.drops += state.first - self.position;
            self.position = state.first;
            self.wait_key = true;
            self.run.skips.fetch_add(1, Ordering::Relaxed);
        }
        loop {
            let index = usize::try_from(self.position - state.first).ok()?;
            let mut chunk = state.log.get(index)?;
            let skipped = late_by(&state.log, index);
            if skipped > 0 {
                chunk = state.log.get(index + skipped)?;
                self.position += skipped as u64;
                self.drops += skipped as u64;
                self.run.skips.fetch_add(1, Ordering::Relaxed);
            }
            self.position += 1;
            let wanted = chunk.flags & (chunk_flags::KEY | chunk_flags::INIT) != 0;
            if self.wait_key && !wanted {
                self.drops += 1;
                continue;
            }
            if chunk.flags & chunk_flags::KEY != 0 {
                self.wait_key = false;
            }
            return Some(Arc::clone(chunk));
        }
    }
}

/// How many pictures to pass over at `index` to show the newest one; 0 when that is near, or something else lies between.
fn late_by(log: &VecDeque<Arc<LogChunk>>, index: usize) -> usize {
    let late = log.len().saturating_sub(index + 1);
    let is_alone = |chunk: &Arc<LogChunk>| chunk.flags & chunk_flags::ALONE != 0;
    if late > MAX_LATE && log.iter().skip(index).all(is_alone) { late } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(flags: &[u32]) -> VecDeque<Arc<LogChunk>> {
        flags.iter().map(|flags| Arc::new(LogChunk { flags: *flags, ..LogChunk::default() })).collect()
    }

    #[test]
    fn a_late_viewer_is_shown_the_newest_picture() {
        let alone = chunk_flags::KEY | chunk_flags::ALONE;
        let pictures = log(&[alone; 20]);
        assert_eq!((late_by(&pictures, 0), late_by(&pictures, 6), late_by(&pictures, 7)), (19, 13, 0));
        assert_eq!(late_by(&log(&[chunk_flags::KEY; 20]), 0), 0);
        let other = log(&[&[alone; 2][..], &[chunk_flags::INIT], &[alone; 18]].concat());
        assert_eq!((late_by(&other, 0), late_by(&other, 3)), (0, 17));
    }
}
