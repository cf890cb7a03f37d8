//! `moof` and `mdat`. ISO/IEC 14496-12 8.8.

use bytes::{BufMut, Bytes, BytesMut};

use crate::chunk::{PatchKind, Patches};

/// `sample_depends_on` 2: needs no other sample.
pub(super) const FLAGS_KEY: u32 = 0x0200_0000;
/// `sample_depends_on` 1 and `sample_is_non_sync_sample`.
pub(super) const FLAGS_DELTA: u32 = 0x0101_0000;

/// `default-base-is-moof`.
const TFHD_BASE_IS_MOOF: u32 = 0x02_0000;
/// Version 1 (signed composition offsets); data offset, then duration, size, flags and composition offset per sample.
const TRUN_FULL: u32 = 0x0100_0f01;
/// The same without composition offsets.
const TRUN_PLAIN: u32 = 0x0100_0701;

/// A sample of a run.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub duration: u32,
    pub flags: u32,
    /// Presentation less decoding time.
    pub composition_offset: i32,
    pub data: Bytes,
}

/// Samples of one track that follow each other.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// Index of the track; its id is one more.
    pub track: usize,
    /// Decoding time of the first sample.
    pub decode_time: i64,
    pub samples: Vec<Sample>,
}

/// One `moof` and one `mdat` with all runs, and where `mfhd` and `tfdt` hold sequence number and times.
pub(super) fn build(sequence: u32, runs: &[Run]) -> (Bytes, Patches) {
    let payload: usize = runs.iter().flat_map(|run| &run.samples).map(|sample| sample.data.len()).sum();
    let entries: usize = runs.iter().map(|run| run.samples.len()).sum();
    let mut out = BytesMut::with_capacity(64 + runs.len() * 80 + entries * 16 + payload);
    let mut patches = Patches::default();
    let mut data_offsets = Vec::with_capacity(runs.len());
    in_box(&mut out, b"moof", |out| {
        in_box(out, b"mfhd", |out| {
            out.put_u32(0);
            let _ = patches.push(out.len(), 0, PatchKind::SequenceU32);
            out.put_u32(sequence);
        });
        for run in runs {
            in_box(out, b"traf", |out| {
                in_box(out, b"tfhd", |out| {
                    out.put_u32(TFHD_BASE_IS_MOOF);
                    out.put_u32(track_id(run.track));
                });
                in_box(out, b"tfdt", |out| {
                    out.put_u32(0x0100_0000);
                    let _ = patches.push(out.len(), run.track, PatchKind::TimeU64);
                    out.put_i64(run.decode_time);
                });
                in_box(out, b"trun", |out| data_offsets.push(put_run(out, run)));
            });
        }
    });
    let mut data_offset = out.len() + 8;
    for (at, run) in data_offsets.into_iter().zip(runs) {
        put_u32_at(&mut out, at, data_offset);
        data_offset += run.samples.iter().map(|sample| sample.data.len()).sum::<usize>();
    }
    in_box(&mut out, b"mdat", |out| {
        for sample in runs.iter().flat_map(|run| &run.samples) {
            out.put_slice(&sample.data);
        }
    });
    (out.freeze(), patches)
}

/// The id in `tkhd`, `trex` and `tfhd` of the track at `index`.
pub(super) fn track_id(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX - 1) + 1
}

/// Writes the body of `trun`; returns where its data offset stands.
fn put_run(out: &mut BytesMut, run: &Run) -> usize {
    let plain = run.samples.iter().all(|sample| sample.composition_offset == 0);
    out.put_u32(if plain { TRUN_PLAIN } else { TRUN_FULL });
    out.put_u32(u32::try_from(run.samples.len()).unwrap_or(u32::MAX));
    let data_offset = out.len();
    out.put_u32(0);
    for sample in &run.samples {
        out.put_u32(sample.duration);
        out.put_u32(u32::try_from(sample.data.len()).unwrap_or(u32::MAX));
        out.put_u32(sample.flags);
        if !plain {
            out.put_i32(sample.composition_offset);
        }
    }
    data_offset
}

fn in_box(out: &mut BytesMut, kind: &[u8; 4], body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_slice(kind);
    body(out);
    let size = out.len() - start;
    put_u32_at(out, start, size);
}

fn put_u32_at(out: &mut BytesMut, at: usize, value: usize) {
    if let Some(field) = out.get_mut(at..at + 4) {
        field.copy_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes());
    }
}
