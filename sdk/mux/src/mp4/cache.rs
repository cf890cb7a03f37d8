//! The bytes of a file that were read and are still needed, in a few places.

use bytes::{Buf, Bytes, BytesMut};

/// Most bytes kept. When a file needs more between two tracks, one of them is read again later.
pub(super) const MAX_CACHE: usize = 32 << 20;
/// Bytes that are read rather than sought over.
pub(super) const READ_OVER: u64 = 1 << 20;
/// Bytes to read at a place that was sought before going on.
const PREFETCH: usize = 1 << 20;
/// Most places.
const MAX_SEGMENTS: usize = 34;

/// What is missing for a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup {
    /// The bytes.
    Here(Bytes),
    /// They come next.
    Soon,
    /// They must be sought.
    Seek,
    /// The file ends before.
    Never,
}

#[derive(Debug)]
struct Segment {
    start: u64,
    data: BytesMut,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.data.len() as u64
    }
}

/// The last segment is the one being read.
#[derive(Debug)]
pub(super) struct Cache {
    segments: Vec<Segment>,
    /// Bytes before this place of the segment being read are not asked for.
    prefetch_until: u64,
    /// The source ends where the last segment does.
    ended: bool,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { segments: vec![Segment { start: 0, data: BytesMut::new() }], prefetch_until: 0, ended: false }
    }

    /// Adds bytes at `offset`. Elsewhere than where reading stands, reading goes on there.
    pub(super) fn push(&mut self, offset: u64, data: &Bytes) {
        if offset.checked_add(data.len() as u64).is_none() {
            return;
        }
        match self.segments.last_mut() {
            Some(last) if last.end() == offset => last.data.extend_from_slice(data),
            _ => {
                self.start_at(offset);
                if let Some(last) = self.segments.last_mut() {
                    last.data.extend_from_slice(data);
                }
            }
        }
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Reading goes on at `offset`; enough to be worth the way.
    pub(super) fn seek(&mut self, offset: u64) {
        self.ended = false;
        self.start_at(offset);
        self.prefetch_until = offset.saturating_add(PREFETCH as u64);
    }

    fn start_at(&mut self, offset: u64) {
        self.prefetch_until = 0;
        self.segments.retain(|segment| !segment.data.is_empty());
        if self.segments.len() >= MAX_SEGMENTS {
            self.segments.remove(0);
        }
        self.segments.push(Segment { start: offset, data: BytesMut::new() });
    }

    /// Whether bytes should come before more is asked for.
    pub(super) fn is_prefetching(&self) -> bool {
        !self.ended && self.segments.last().is_some_and(|last| last.end() < self.prefetch_until)
    }

    /// `size` bytes at `offset`.
    pub(super) fn get(&self, offset: u64, size: usize) -> Lookup {
        let Some(end) = offset.checked_add(size as u64) else { return Lookup::Never };
        let found = self.segments.iter().rev().find_map(|segment| {
            let from = usize::try_from(offset.checked_sub(segment.start)?).ok()?;
            segment.data.get(from..from.checked_add(size)?)
        });
        if let Some(bytes) = found {
            return Lookup::Here(Bytes::copy_from_slice(bytes));
        }
        let Some(last) = self.segments.last() else { return Lookup::Seek };
        let reachable = last.start <= offset && offset <= last.end().saturating_add(READ_OVER);
        match (reachable, self.ended) {
            (true, true) => Lookup::Never,
            (true, false) if end - last.start <= MAX_CACHE as u64 => Lookup::Soon,
            (true, false) | (false, _) => Lookup::Seek,
        }
    }

    /// Forgets what is before all of `needed`, places in any order that will be asked for again.
    pub(super) fn keep(&mut self, needed: &[u64]) {
        let last = self.segments.len().saturating_sub(1);
        for (index, segment) in self.segments.iter_mut().enumerate() {
            let within = needed.iter().filter(|at| segment.start <= **at && **at < segment.end());
            let keep_from = within.min().copied().unwrap_or(segment.end());
            let drop = usize::try_from(keep_from - segment.start).unwrap_or(0).min(segment.data.len());
            segment.data.advance(drop);
            segment.start += drop as u64;
            // The one being read may grow around a place that is far behind: give that up.
            if index == last && segment.data.len() > MAX_CACHE {
                let over = segment.data.len() - MAX_CACHE / 2;
                segment.data.advance(over);
                segment.start += over as u64;
            }
        }
        let mut index = 0;
        self.segments.retain(|segment| {
            index += 1;
            index > last || !segment.data.is_empty()
        });
        let mut total: usize = self.segments.iter().map(|segment| segment.data.len()).sum();
        while total > MAX_CACHE && self.segments.len() > 1 {
            total -= self.segments.remove(0).data.len();
        }
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.data.len()).sum()
    }
}
