//! The sample table, read where it lies: no entry is expanded. ISO/IEC 14496-12 8.6 and 8.7.

use bytes::Bytes;

use super::boxes::{Fields, Words, child};

/// Most PCM samples that go into one unit.
const PCM_GROUP: u32 = 1_024;

/// Where a sample lies and when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub offset: u64,
    pub size: u32,
    pub dts: i64,
    pub composition_offset: i64,
    pub duration: u32,
    /// Said to be a key.
    pub sync: bool,
    /// Index of its sample entry, from 0.
    pub entry: u32,
}

/// A walk over a track's samples in decoding order.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    sizes: Sizes,
    chunks: Words,
    large: bool,
    to_chunk: Words,
    times: Runs,
    offsets: Runs,
    sync: Option<Words>,
    /// Bytes per sample of PCM, whose sizes in the table mean something else.
    pcm: Option<u32>,

    sample: u32,
    chunk: usize,
    run: usize,
    left_in_chunk: u32,
    offset: u64,
    dts: i64,
    sync_at: usize,
}

#[derive(Debug, Clone)]
enum Sizes {
    Same { size: u32, count: u32 },
    Each(Words),
    Compact { data: Bytes, bits: u8, count: u32 },
}

impl Sizes {
    fn get(&self, index: u32) -> Option<u32> {
        let at = usize::try_from(index).ok()?;
        match self {
            Self::Same { size, count } => (index < *count).then_some(*size),
            Self::Each(words) => words.get(at),
            Self::Compact { data, bits, count } => {
                if index >= *count {
                    return None;
                }
                Some(match bits {
                    4 => {
                        let byte = *data.get(at / 2)?;
                        u32::from(if at % 2 == 0 { byte >> 4 } else { byte & 15 })
                    }
                    8 => u32::from(*data.get(at)?),
                    _ => {
                        let at = at.checked_mul(2)?;
                        u32::from(u16::from_be_bytes(data.get(at..at.checked_add(2)?)?.try_into().ok()?))
                    }
                })
            }
        }
    }
}

/// Pairs of a count and a value.
#[derive(Debug, Clone, Default)]
struct Runs {
    words: Words,
    at: usize,
    used: u32,
}

impl Runs {
    fn next(&mut self) -> Option<u32> {
        loop {
            let count = self.words.get(self.at)?;
            if self.used < count {
                self.used += 1;
                return self.words.get(self.at + 1);
            }
            self.at += 2;
            self.used = 0;
        }
    }
}

fn words(stbl: &Bytes, kind: &[u8; 4], width: usize) -> Option<Words> {
    let mut fields = Fields(child(stbl, kind)?);
    fields.full()?;
    let count = fields.u32()?;
    Some(Words::new(&fields.0, count, width))
}

impl Walk {
    /// The table in `stbl`; empty when a part is missing.
    pub(super) fn new(stbl: &Bytes, pcm: Option<u32>) -> Self {
        let small = words(stbl, b"stco", 1);
        let large = small.is_none();
        let chunks = small.or_else(|| words(stbl, b"co64", 2)).unwrap_or_default();
        let pairs = |kind| Runs { words: words(stbl, kind, 2).unwrap_or_default(), at: 0, used: 0 };
        Self {
            sizes: sizes(stbl).unwrap_or(Sizes::Same { size: 0, count: 0 }),
            chunks,
            large,
            to_chunk: words(stbl, b"stsc", 3).unwrap_or_default(),
            times: pairs(b"stts"),
            offsets: pairs(b"ctts"),
            sync: words(stbl, b"stss", 1),
            pcm,
            sample: 0,
            chunk: 0,
            run: 0,
            left_in_chunk: 0,
            offset: 0,
            dts: 0,
            sync_at: 0,
        }
    }

    /// Whether there is no sample at all, as in the header of a fragmented file.
    pub(super) fn is_empty(&self) -> bool {
        self.sizes.get(0).is_none()
    }

    /// What decoding times must be moved down by so that none is above its presentation time: the most negative
    /// composition offset.
    pub(super) fn shift(&self) -> i64 {
        let entries = (0..self.offsets.words.len() / 2).filter_map(|i| self.offsets.words.get(i * 2 + 1));
        entries.map(|offset| i64::from(signed(offset))).min().unwrap_or(0).min(0).saturating_neg()
    }

    /// The next sample.
    pub(super) fn next(&mut self) -> Option<Sample> {
        let size = self.sizes.get(self.sample)?;
        while self.left_in_chunk == 0 {
            self.open_chunk()?;
        }
        let group = match self.pcm {
            Some(_) => self.left_in_chunk.min(PCM_GROUP).min(self.pcm_left()),
            None => 1,
        };
        let size = self.pcm.map_or(Some(size), |bytes| bytes.checked_mul(group))?;
        let (offset, dts, first) = (self.offset, self.dts, self.sample);
        let mut duration = 0_u32;
        for _ in 0..group {
            duration = duration.saturating_add(self.times.next().unwrap_or(0));
        }
        let composition_offset = i64::from(signed(self.offsets.next().unwrap_or(0)));
        let entry =
            self.to_chunk.get(self.run.checked_mul(3)?.checked_add(2)?).unwrap_or(1).saturating_sub(1);
        self.offset = self.offset.checked_add(u64::from(size))?;
        self.dts = self.dts.checked_add(i64::from(duration))?;
        self.sample = self.sample.checked_add(group)?;
        self.left_in_chunk -= group;
        let sync = self.is_sync(first);
        Some(Sample { offset, size, dts, composition_offset, duration, sync, entry })
    }

    fn pcm_left(&self) -> u32 {
        match &self.sizes {
            Sizes::Same { count, .. } => count.saturating_sub(self.sample),
            _ => 1,
        }
    }

    fn open_chunk(&mut self) -> Option<()> {
        self.offset = if self.large {
            self.chunks.get_u64(self.chunk)?
        } else {
            u64::from(self.chunks.get(self.chunk)?)
        };
        self.chunk += 1;
        // The run of chunks that holds this one, counted from 1.
        while let Some(first) = self.to_chunk.get((self.run + 1).checked_mul(3)?)
            && usize::try_from(first).ok()? <= self.chunk
        {
            self.run += 1;
        }
        self.left_in_chunk = self.to_chunk.get(self.run.checked_mul(3)?.checked_add(1)?)?;
        Some(())
    }

    /// Whether sample `index` is in the sorted table of sync samples; without a table all are.
    fn is_sync(&mut self, index: u32) -> bool {
        let Some(table) = &self.sync else { return true };
        while let Some(number) = table.get(self.sync_at) {
            if number > index {
                return number == index + 1;
            }
            self.sync_at += 1;
        }
        false
    }
}

/// Version 0 tables hold negative values too in practice.
fn signed(word: u32) -> i32 {
    i32::from_be_bytes(word.to_be_bytes())
}

fn sizes(stbl: &Bytes) -> Option<Sizes> {
    if let Some(stsz) = child(stbl, b"stsz") {
        let mut fields = Fields(stsz);
        fields.full()?;
        let (size, count) = (fields.u32()?, fields.u32()?);
        return Some(match size {
            0 => Sizes::Each(Words::new(&fields.0, count, 1)),
            size => Sizes::Same { size, count },
        });
    }
    let mut fields = Fields(child(stbl, b"stz2")?);
    fields.full()?;
    let bits = u8::try_from(fields.u32()? & 0xff).ok()?;
    let count = fields.u32()?;
    matches!(bits, 4 | 8 | 16).then_some(Sizes::Compact { data: fields.0, bits, count })
}
