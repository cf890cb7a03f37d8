//! The `moof` box, read where it lies. ISO/IEC 14496-12 8.8.

use std::collections::VecDeque;

use bytes::Bytes;

use super::boxes::{Fields, child, children};
use super::movie::{Defaults, Track};
use super::table::Sample;

/// Bits of `sample_flags`: is not a sync sample.
const NON_SYNC: u32 = 0x0001_0000;
/// Most runs of a fragment; more are left out.
const MAX_RUNS: usize = 4_096;

/// Runs of samples of one track in a fragment.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: VecDeque<Run>,
    current: Option<Run>,
}

#[derive(Debug)]
struct Run {
    /// Place of the first sample; `None`: behind the run before.
    offset: Option<u64>,
    left: u32,
    flags: u32,
    defaults: Defaults,
    first_flags: Option<u32>,
    fields: Fields,
}

impl Run {
    fn next(&mut self) -> Option<(u32, u32, u32, i64)> {
        self.left = self.left.checked_sub(1)?;
        let mut field =
            |bit: u32, default: u32| if self.flags & bit != 0 { self.fields.u32() } else { Some(default) };
        let duration = field(0x100, self.defaults.duration)?;
        let size = field(0x200, self.defaults.size)?;
        let flags = field(0x400, self.defaults.flags)?;
        let composition = field(0x800, 0)?;
        let flags = self.first_flags.take().unwrap_or(flags);
        // Version 0 holds negative values too in practice.
        Some((duration, size, flags, i64::from(i32::from_be_bytes(composition.to_be_bytes()))))
    }
}

/// A track's place in the current fragment.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    runs: Runs,
    offset: u64,
    /// Media time of the next sample, without the edit.
    pub next_dts: i64,
}

impl Cursor {
    /// The next sample of the fragment.
    pub(super) fn next(&mut self) -> Option<Sample> {
        loop {
            if self.runs.current.is_none() {
                let run = self.runs.runs.pop_front()?;
                self.offset = run.offset.unwrap_or(self.offset);
                self.runs.current = Some(run);
            }
            let run = self.runs.current.as_mut()?;
            let Some((duration, size, flags, composition_offset)) = run.next() else {
                self.runs.current = None;
                continue;
            };
            let (offset, dts, entry) = (self.offset, self.next_dts, run.defaults.entry);
            self.offset = offset.checked_add(u64::from(size))?;
            self.next_dts = dts.checked_add(i64::from(duration))?;
            return Some(Sample {
                offset,
                size,
                dts,
                composition_offset,
                duration,
                sync: flags & NON_SYNC == 0,
                entry,
            });
        }
    }

    /// The most negative composition offset of the fragment, made positive.
    pub(super) fn shift(&self) -> i64 {
        let mut least = 0;
        for run in &self.runs.runs {
            if run.flags & 0x800 == 0 {
                continue;
            }
            let mut walk = Run { fields: run.fields.clone(), offset: None, first_flags: None, ..*run };
            while let Some((_, _, _, composition)) = walk.next() {
                least = least.min(composition);
            }
        }
        least.saturating_neg()
    }
}

/// Puts the runs of a fragment that begins at `moof_at` into the cursors of `tracks`.
pub(super) fn parse(moof: &Bytes, moof_at: u64, tracks: &[Track], cursors: &mut [Cursor]) {
    let trafs = children(moof).filter(|(kind, _)| kind == b"traf");
    // Without a base or its flag, data begins where that of the track fragment before ends; at first at the moof.
    for (_, traf) in trafs.take(MAX_RUNS) {
        let _ = track_fragment(&traf, moof_at, tracks, cursors);
    }
}

fn track_fragment(traf: &Bytes, moof_at: u64, tracks: &[Track], cursors: &mut [Cursor]) -> Option<()> {
    let mut header = Fields(child(traf, b"tfhd")?);
    let (_, flags) = header.full()?;
    let id = header.u32()?;
    let index = tracks.iter().position(|track| track.id == id)?;
    let track = tracks.get(index)?;
    let cursor = cursors.get_mut(index)?;
    let base = if flags & 1 != 0 { header.u64()? } else { moof_at };
    let mut defaults = track.defaults;
    if flags & 2 != 0 {
        defaults.entry = header.u32()?.saturating_sub(1);
    }
    for (bit, field) in [(8, &mut defaults.duration), (0x10, &mut defaults.size), (0x20, &mut defaults.flags)]
    {
        if flags & bit != 0 {
            *field = header.u32()?;
        }
    }
    if let Some(tfdt) = child(traf, b"tfdt")
        && cursor.runs.runs.is_empty()
    {
        let mut fields = Fields(tfdt);
        let (version, _) = fields.full()?;
        cursor.next_dts = i64::from_be_bytes(fields.versioned(version)?.to_be_bytes());
    }
    for (_, trun) in children(traf).filter(|(kind, _)| kind == b"trun") {
        if cursor.runs.runs.len() < MAX_RUNS {
            cursor.runs.runs.extend(run(trun, base, defaults));
        }
    }
    Some(())
}

fn run(trun: Bytes, base: u64, defaults: Defaults) -> Option<Run> {
    let mut fields = Fields(trun);
    let (_, flags) = fields.full()?;
    let left = fields.u32()?;
    let offset = if flags & 1 != 0 {
        let relative = i32::from_be_bytes(fields.u32()?.to_be_bytes());
        Some(base.checked_add_signed(i64::from(relative))?)
    } else {
        None
    };
    let first_flags = if flags & 4 != 0 { Some(fields.u32()?) } else { None };
    // A run that needs no bytes of its own must need some of the file, or it would have no end.
    let bounded = flags & 0xf00 != 0 || defaults.size > 0;
    bounded.then_some(Run { offset, left, flags, defaults, first_flags, fields })
}
