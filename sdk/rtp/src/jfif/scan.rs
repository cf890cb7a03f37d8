//! Scans of three components by their Huffman codes: how many MCUs there are, to find a size that RFC 2435 cannot tell
//! (R60), and the same coefficients in the standard codes, which are the only ones that RFC 2435 knows (R67).

use super::entropy::{Bits, Codes, Output, codes_of};
use super::{HUFFMAN, Huffman};

/// Most MCUs that are counted: 8192 x 8192 pixels in 16 x 8.
const MAX_MCUS: u32 = 1 << 19;

/// Whether restart markers stand in the scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restart {
    /// MCUs between them, 0 for none.
    pub(crate) interval: u16,
}

impl Restart {
    /// Whether a marker stands behind so many MCUs.
    fn is_behind(self, mcus: u32) -> bool {
        self.interval > 0 && mcus.is_multiple_of(u32::from(self.interval))
    }
}

/// A Huffman table of a file: codes of 1 to 16 bits, and the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table<'a> {
    pub(crate) counts: &'a [u8; 16],
    pub(crate) values: &'a [u8],
}

impl Table<'static> {
    /// The standard table of a class (0 DC, 1 AC), for luma or chroma.
    pub(crate) fn standard(class: usize, is_chroma: bool) -> Option<Self> {
        let Huffman { counts, values, .. } = HUFFMAN.get(2 * class + usize::from(is_chroma))?;
        Some(Self { counts, values })
    }
}

impl<'a> Table<'a> {
    fn codes(self) -> Option<Codes<'a>> {
        Codes::new(self.counts, self.values)
    }
}

/// How a scan is coded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coding<'a> {
    /// 4:2:0 rather than 4:2:2: MCUs have four luma blocks, not two.
    pub(crate) is_420: bool,
    pub(crate) restart: Restart,
    /// DC and AC table of each component.
    pub(crate) tables: [[Table<'a>; 2]; 3],
}

/// MCUs in `scan`, whose units have four (4:2:0) or two luma blocks and one of each chroma; `None` when a code is wrong.
pub(crate) fn count_mcus(scan: &[u8], is_420: bool, restart: Restart) -> Option<u32> {
    let codes = |table: &Huffman| Codes::new(&table.counts, table.values);
    let [dc_luma, dc_chroma, ac_luma, ac_chroma] = HUFFMAN.each_ref().map(codes);
    let (luma, chroma) = ((dc_luma?, ac_luma?), (dc_chroma?, ac_chroma?));
    let luma_blocks = if is_420 { 4 } else { 2 };
    let mut bits = Bits::new(scan);
    let mut mcus = 0;
    while mcus < MAX_MCUS && !bits.is_at_end() {
        for block in 0..luma_blocks + 2 {
            let (dc, ac) = if block < luma_blocks { &luma } else { &chroma };
            block_symbols(&mut bits, dc, ac, |_, _, _, _| Some(()))?;
        }
        mcus += 1;
        if restart.is_behind(mcus) {
            bits.restart();
        }
    }
    Some(mcus)
}

/// `mcus` MCUs of `scan` in the standard Huffman codes, the coefficients as they are; fewer where the scan ends before
/// them. `None` when a code is wrong, or stands for what 8-bit samples cannot give.
pub(crate) fn recode(scan: &[u8], coding: &Coding<'_>, mcus: u32) -> Option<Vec<u8>> {
    let [luma, blue, red] = coding.tables.map(|[dc, ac]| Some((dc.codes()?, ac.codes()?)));
    let (luma, blue, red) = (&luma?, &blue?, &red?);
    let [dc_luma, dc_chroma, ac_luma, ac_chroma] = HUFFMAN.each_ref().map(codes_of);
    let blocks = [
        (luma, [&dc_luma, &ac_luma], if coding.is_420 { 4 } else { 2 }),
        (blue, [&dc_chroma, &ac_chroma], 1),
        (red, [&dc_chroma, &ac_chroma], 1),
    ];
    let mut bits = Bits::new(scan);
    let mut output = Output::default();
    for mcu in 0..mcus.min(MAX_MCUS) {
        if coding.restart.is_behind(mcu) && mcu > 0 {
            bits.restart();
            output.restart(mcu / u32::from(coding.restart.interval) - 1);
        }
        if bits.is_at_end() {
            break;
        }
        for ((dc, ac), tables, count) in blocks {
            for _ in 0..count {
                block_symbols(&mut bits, dc, ac, |class, symbol, magnitude, size| {
                    let (code, length) = *tables.get(class)?.get(usize::from(symbol))?;
                    if length == 0 {
                        return None;
                    }
                    output.put(code, length);
                    output.put(magnitude, size);
                    Some(())
                })?;
            }
        }
    }
    Some(output.finish())
}

/// Reads one block: `symbol` gets each code's class (0 DC, 1 AC) and value, and the bits behind it with their number.
fn block_symbols(
    bits: &mut Bits<'_>,
    dc: &Codes<'_>,
    ac: &Codes<'_>,
    mut symbol: impl FnMut(usize, u8, u32, u32) -> Option<()>,
) -> Option<()> {
    let size = dc.read(bits)?;
    symbol(0, size, bits.take(u32::from(size).min(16))?, u32::from(size).min(16))?;
    let mut position = 1;
    while position < 64 {
        let code = ac.read(bits)?;
        let (run, size) = (u32::from(code >> 4), u32::from(code & 15));
        symbol(1, code, bits.take(size)?, size)?;
        match (run, size) {
            (0, 0) => break,
            (15, 0) => position += 16,
            _ => position += run + 1,
        }
    }
    Some(())
}
