//! Units to a stream for any number of viewers: the tags' times are patched per viewer.

use bytes::{BufMut, Bytes, BytesMut};
use patchbay_media::{Parameters, Unit};

use super::tag::{HEADER_BYTES, TagKind, header};
use super::tag_mux::{TagMuxer, Unsupported};
use crate::chunk::{Chunk, PatchKind, Patches};
use crate::history::{History, Mode};

/// Bytes of a tag's header and of its size behind it.
const OVERHEAD: usize = HEADER_BYTES + 4;
/// Where the time stands in a tag.
const TIME_AT: usize = 4;

/// Muxes the units of an output's tracks: the first with pictures and the first with sound.
#[derive(Debug, Clone)]
pub struct Muxer {
    tags: TagMuxer,
    tracks: usize,
}

impl Muxer {
    /// A muxer for `tracks`, whose times count from the same instant.
    pub fn new(tracks: &[Parameters]) -> Result<Self, Unsupported> {
        Ok(Self { tags: TagMuxer::new(tracks)?, tracks: tracks.len() })
    }

    /// The content type.
    pub fn mime(&self) -> &'static str {
        "video/x-flv"
    }

    /// The file header. It never changes: what decoders need is in each viewer's history.
    pub fn init(&self) -> Bytes {
        let flags = u8::from(self.tags.has_video()) | u8::from(self.tags.has_audio()) << 2;
        Bytes::copy_from_slice(&[b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0])
    }

    /// Takes new parameters of a track; they go out before each key unit from now on.
    pub fn reconfigure(&mut self, track: usize, parameters: Parameters) -> Result<(), Unsupported> {
        self.tags.reconfigure(track, parameters)
    }

    /// Muxes a unit. Before the first key picture nothing comes out.
    pub fn push(&mut self, track: usize, unit: &Unit, chunks: &mut Vec<Chunk>) {
        let Some(placed) = self.tags.place(track, unit) else { return };
        let time = placed.time as u32;
        // A viewer that was too slow may have missed them: behind a change they stand before every key unit.
        if placed.key && self.tags.is_changed() {
            let mut configs = self.tags.configs();
            // The small one of sound first, so that all times stand where the host patches.
            configs.sort_by_key(|(_, body)| body.len());
            let (mut out, mut patches) = (BytesMut::new(), Patches::default());
            for (kind, body) in configs {
                if patches.push(out.len() + TIME_AT, track, PatchKind::FlvMs) {
                    put(kind, time, &[&body], &mut out);
                }
            }
            if !out.is_empty() {
                chunks.push(Chunk { data: out.freeze(), key: true, init: false, patches });
            }
        }
        let head = placed.head.as_slice();
        let mut out = BytesMut::with_capacity(unit.data.len() + head.len() + OVERHEAD);
        put(placed.kind, time, &[head, &unit.data], &mut out);
        let mut patches = Patches::default();
        let _ = patches.push(TIME_AT, track, PatchKind::FlvMs);
        chunks.push(Chunk { data: out.freeze(), key: placed.key, init: false, patches });
    }

    /// What a viewer gets that joins now: `onMetaData`, what decoders need, and the pictures of `track` from the newest
    /// key unit to the newest unit pushed, with times from 0 to where live goes on.
    pub fn history(&self, units: &[Unit], track: usize, mode: Mode) -> History {
        let mut out = self.begin(units.iter().map(|unit| unit.data.len() + 32).sum());
        let Some((places, start)) = self.tags.history(track, units, mode) else {
            return History { data: out.freeze(), starts: self.starts(None) };
        };
        for (unit, placed) in units.iter().zip(places) {
            put(placed.kind, placed.time as u32, &[placed.head.as_slice(), &unit.data], &mut out);
        }
        History { data: out.freeze(), starts: vec![start; self.tracks] }
    }

    /// What a viewer gets first that starts with the unit `next` of a track.
    pub fn start_at(&self, track: usize, next: &Unit) -> History {
        History { data: self.begin(0).freeze(), starts: self.starts(Some((track, next))) }
    }

    /// A file of one picture, shown at 0.
    pub fn keyframe(&self, track: usize, unit: &Unit) -> Bytes {
        let mut out = BytesMut::from(self.init().as_ref());
        out.put_slice(&self.begin(unit.data.len()));
        if let Some((kind, head)) = self.tags.still(track) {
            put(kind, 0, &[head.as_slice(), &unit.data], &mut out);
        }
        out.freeze()
    }

    fn starts(&self, next: Option<(usize, &Unit)>) -> Vec<i64> {
        vec![self.tags.start(next); self.tracks]
    }

    /// `onMetaData` and what decoders need, at 0.
    fn begin(&self, room: usize) -> BytesMut {
        let mut out = BytesMut::with_capacity(room + 1_024);
        put(TagKind::Script, 0, &[&self.tags.metadata()], &mut out);
        for (kind, body) in self.tags.configs() {
            put(kind, 0, &[&body], &mut out);
        }
        out
    }
}

/// Writes a tag with a body in parts, and its size behind.
fn put(kind: TagKind, timestamp: u32, parts: &[&[u8]], out: &mut BytesMut) {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    out.put_slice(&header(kind, size, timestamp));
    parts.iter().for_each(|part| out.put_slice(part));
    out.put_u32(u32::try_from(HEADER_BYTES + size).unwrap_or(u32::MAX));
}
