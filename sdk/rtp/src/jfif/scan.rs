//! Counts the MCUs of a baseline scan by reading its Huffman codes, to find a size that RFC 2435 cannot tell (R60).

use super::{HUFFMAN, Huffman};

/// Most MCUs that are counted: 8192 x 8192 pixels in 16 x 8.
const MAX_MCUS: u32 = 1 << 19;

/// Whether restart markers stand in the scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restart {
    /// MCUs between them, 0 for none.
    pub(crate) interval: u16,
}

/// MCUs in `scan`, whose units have four (4:2:0) or two luma blocks and one of each chroma; `None` when a code is wrong.
pub(crate) fn count_mcus(scan: &[u8], is_420: bool, restart: Restart) -> Option<u32> {
    let tables = HUFFMAN.each_ref().map(Lookup::new);
    let [dc_luma, dc_chroma, ac_luma, ac_chroma] = &tables;
    let luma_blocks = if is_420 { 4 } else { 2 };
    let mut bits = Bits { data: scan, at: 0, held: 0, count: 0 };
    let mut mcus = 0;
    while mcus < MAX_MCUS && !bits.is_at_end() {
        for block in 0..luma_blocks + 2 {
            let (dc, ac) = if block < luma_blocks { (dc_luma, ac_luma) } else { (dc_chroma, ac_chroma) };
            skip_block(&mut bits, dc, ac)?;
        }
        mcus += 1;
        if restart.interval > 0 && mcus % u32::from(restart.interval) == 0 {
            bits.restart();
        }
    }
    Some(mcus)
}

fn skip_block(bits: &mut Bits<'_>, dc: &Lookup, ac: &Lookup) -> Option<()> {
    let size = dc.read(bits)?;
    bits.skip(u32::from(size))?;
    let mut position = 1;
    while position < 64 {
        let code = ac.read(bits)?;
        let (run, size) = (u32::from(code >> 4), u32::from(code & 15));
        match (run, size) {
            (0, 0) => break,
            (15, 0) => position += 16,
            _ => {
                position += run + 1;
                bits.skip(size)?;
            }
        }
    }
    Some(())
}

/// Codes by length (T.81 annex F.2.2.3).
struct Lookup {
    /// Smallest code, number of codes and index of the first value, per length 1 to 16.
    lengths: [(u32, u32, u32); 16],
    values: &'static [u8],
}

impl Lookup {
    fn new(table: &Huffman) -> Self {
        let (mut code, mut index) = (0u32, 0u32);
        let lengths = table.counts.map(|count| {
            let entry = (code, u32::from(count), index);
            code = (code + u32::from(count)) << 1;
            index += u32::from(count);
            entry
        });
        Self { lengths, values: table.values }
    }

    fn read(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let mut code = 0;
        for (smallest, count, index) in &self.lengths {
            code = code << 1 | bits.bit()?;
            if let Some(nth) = code.checked_sub(*smallest).filter(|nth| nth < count) {
                return self.values.get(usize::try_from(index + nth).ok()?).copied();
            }
        }
        None
    }
}

/// Bits of entropy-coded data: `ff 00` is `ff`, markers end it.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    held: u8,
    count: u32,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<u32> {
        if self.count == 0 {
            let byte = *self.data.get(self.at)?;
            self.at += 1;
            if byte == 0xff {
                if *self.data.get(self.at)? != 0 {
                    self.at -= 1;
                    return None;
                }
                self.at += 1;
            }
            self.held = byte;
            self.count = 8;
        }
        self.count -= 1;
        Some(u32::from(self.held >> self.count & 1))
    }

    fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.bit()?;
        }
        Some(())
    }

    /// Whether nothing but padding (ones) and a marker, or the end, follows.
    fn is_at_end(&self) -> bool {
        let padding =
            self.count == 0 || u32::from(self.held) & ((1 << self.count) - 1) == (1 << self.count) - 1;
        padding
            && match self.data.get(self.at..) {
                None | Some([] | [0xff]) => true,
                Some([0xff, next, ..]) => *next != 0 && !(0xd0..=0xd7).contains(next),
                Some(_) => false,
            }
    }

    /// Passes over padding and a restart marker, when there is one.
    fn restart(&mut self) {
        self.count = 0;
        if let Some([0xff, 0xd0..=0xd7]) = self.data.get(self.at..self.at + 2) {
            self.at += 2;
        }
    }
}
