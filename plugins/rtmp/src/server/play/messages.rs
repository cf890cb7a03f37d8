//! Tags as messages: written once, timed per viewer.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use patchbay_fanout::{Buffer, Rewrite};
use patchbay_mux::flv::{Placed, TagKind};

use crate::session::server::STREAM_ID;
use crate::wire::chunk::{self, EXTENDED, HEADER_BYTES, OUR_CHUNK_BYTES};

/// What a buffer of the fan-out says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Milliseconds, of the run.
    pub time: i64,
    /// More than one message.
    pub is_many: bool,
}

/// Writes a tag as a message at `time`.
pub(super) fn put(kind: TagKind, time: u32, parts: &[&[u8]], out: &mut BytesMut) {
    let id = match kind {
        TagKind::Audio => 4,
        TagKind::Video => 6,
        TagKind::Script => 5,
    };
    chunk::write(id, (kind as u8, time, STREAM_ID), parts, OUR_CHUNK_BYTES, out);
}

/// The message of a unit, with `configs` before it. Its time is set per viewer.
pub(super) fn of_unit(placed: &Placed, data: &[u8], configs: &[(TagKind, Bytes)]) -> (Bytes, Meta) {
    let mut out = BytesMut::new();
    for (kind, body) in configs {
        put(*kind, 0, &[body], &mut out);
    }
    put(placed.kind, 0, &[placed.head.as_slice(), data], &mut out);
    (out.freeze(), Meta { time: placed.time, is_many: !configs.is_empty() })
}

/// One viewer's times: they begin at 0 and go on when it comes to another run.
#[derive(Debug)]
pub struct Timed {
    /// The run's time that is `base`; of the first message that comes when it is not known.
    pub start: Option<i64>,
    /// The viewer's time at which it joined.
    pub base: i64,
    /// The viewer's newest time.
    pub newest: Arc<AtomicI64>,
}

impl Rewrite<Meta> for Timed {
    fn rewrite(&mut self, buffer: &Buffer<Meta>, head: &mut BytesMut) -> usize {
        let start = *self.start.get_or_insert(buffer.meta.time);
        if buffer.meta.time < start && !buffer.meta.is_many {
            // Sound that is a little older than the first picture has no time in this viewer's clock.
            return buffer.bytes.len();
        }
        let time = buffer.meta.time.saturating_sub(start).max(0).saturating_add(self.base);
        // Relaxed: read by the connection when it follows no run.
        self.newest.fetch_max(time, Relaxed);
        let time = time as u32;
        if buffer.meta.is_many || time >= EXTENDED {
            chunk::retime(&buffer.bytes, time, OUR_CHUNK_BYTES, head);
            return buffer.bytes.len();
        }
        match chunk::retimed_header(&buffer.bytes, time) {
            Some(header) => {
                head.extend_from_slice(&header);
                HEADER_BYTES
            }
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::chunk::Reader;

    fn times(timed: &mut Timed, time: i64, size: usize, is_many: bool) -> Vec<(u32, usize)> {
        let mut bytes = BytesMut::new();
        if is_many {
            put(TagKind::Audio, 0, &[&[1; 4]], &mut bytes);
        }
        put(TagKind::Video, 0, &[&vec![2; size]], &mut bytes);
        let meta = Meta { time, is_many };
        let buffer = Buffer { bytes: bytes.freeze(), tracks: 1, key: true, at: Duration::ZERO, meta };
        let mut head = BytesMut::new();
        let skip = timed.rewrite(&buffer, &mut head);
        head.extend_from_slice(&buffer.bytes[skip..]);
        let mut reader = Reader::new();
        reader.allow_media();
        let mut size = BytesMut::new();
        chunk::write(2, (1, 0, 0), &[&(OUR_CHUNK_BYTES as u32).to_be_bytes()], 128, &mut size);
        reader.push(&size);
        reader.push(&head);
        std::iter::from_fn(|| reader.poll().unwrap()).map(|m| (m.timestamp, m.payload.len())).collect()
    }

    #[test]
    fn times_begin_at_the_viewers_start_and_outgrow_24_bits() {
        let mut timed = Timed { start: None, base: 0, newest: Arc::default() };
        assert_eq!(times(&mut timed, 5_000, 200_000, false), [(0, 200_000)]);
        assert_eq!(times(&mut timed, 4_980, 10, false), []);
        assert_eq!(times(&mut timed, 5_040, 10, true), [(40, 4), (40, 10)]);
        assert_eq!(timed.newest.load(Relaxed), 40);
        let mut again = Timed { start: Some(70), base: 80, newest: Arc::clone(&timed.newest) };
        assert_eq!(times(&mut again, 110, 10, false), [(120, 10)]);
        assert_eq!(timed.newest.load(Relaxed), 120);
        let hours = i64::from(EXTENDED) + 5_000;
        assert_eq!(times(&mut timed, hours - 1, 70_000, false), [(EXTENDED - 1, 70_000)]);
        assert_eq!(times(&mut timed, hours, 70_000, false), [(EXTENDED, 70_000)]);
        assert_eq!(
            times(&mut timed, hours + 40, 140_000, true),
            [(EXTENDED + 40, 4), (EXTENDED + 40, 140_000)]
        );
    }
}
