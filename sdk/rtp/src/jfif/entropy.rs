//! Entropy-coded data of baseline JPEG: Huffman codes and the bits they stand in. ITU-T T.81 annex F.

use patchbay_media::jpeg::huffman::Huffman;

/// Codes of up to this many bits are looked up at once.
const SHORT: u32 = 9;

/// What the codes of one table stand for.
pub(super) struct Codes<'a> {
    /// Smallest code, number of codes and index of the first value, per length 1 to 16.
    lengths: [(u32, u32, u32); 16],
    values: &'a [u8],
    /// Length and value by the next [`SHORT`] bits; length 0: a longer code, or none.
    short: [(u8, u8); 1 << SHORT],
}

impl<'a> Codes<'a> {
    /// The codes of a table: how many have 1 to 16 bits, and their values in order (T.81 annex C). `None` when there are
    /// more codes of a length than fit, or fewer values than codes.
    pub(super) fn new(counts: &[u8; 16], values: &'a [u8]) -> Option<Self> {
        let (mut code, mut index) = (0_u32, 0_u32);
        let mut short = [(0, 0); 1 << SHORT];
        let mut lengths = [(0, 0, 0); 16];
        for ((entry, count), length) in lengths.iter_mut().zip(counts).zip(1_u32..) {
            let count = u32::from(*count);
            if code + count > 1 << length {
                return None;
            }
            *entry = (code, count, index);
            let coded = values.get(index as usize..(index + count) as usize)?;
            if let Some(spare) = SHORT.checked_sub(length) {
                let places = short.iter_mut().skip((code << spare) as usize);
                let coded = coded.iter().flat_map(|value| std::iter::repeat_n(*value, 1 << spare));
                places.zip(coded).for_each(|(place, value)| *place = (length as u8, value));
            }
            code = (code + count) << 1;
            index += count;
        }
        Some(Self { lengths, values, short })
    }

    /// The next value; `None` at the end of the data, or for bits that are no code.
    pub(super) fn read(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let next = bits.peek();
        if let Some((length @ 1.., value)) = self.short.get((next >> (16 - SHORT)) as usize) {
            bits.take(u32::from(*length))?;
            return Some(*value);
        }
        for ((smallest, count, index), length) in self.lengths.iter().zip(1..).skip(SHORT as usize) {
            if let Some(nth) = (next >> (16 - length)).checked_sub(*smallest).filter(|nth| nth < count) {
                bits.take(length)?;
                return self.values.get((index + nth) as usize).copied();
            }
        }
        None
    }
}

/// Bits of entropy-coded data: `ff 00` is `ff`, markers end it.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The lowest `count` bits are read next.
    held: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    /// All of `data`, from its start.
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, held: 0, count: 0 }
    }

    fn fill(&mut self) {
        while self.count <= 48 {
            let Some(byte) = self.data.get(self.at) else { return };
            if *byte == 0xff {
                if self.data.get(self.at + 1) != Some(&0) {
                    return;
                }
                self.at += 1;
            }
            self.at += 1;
            self.held = self.held << 8 | u64::from(*byte);
            self.count += 8;
        }
    }

    /// The next 16 bits, zeros behind the last.
    fn peek(&mut self) -> u32 {
        if self.count < 16 {
            self.fill();
        }
        let next = match self.count.checked_sub(16) {
            Some(spare) => self.held >> spare,
            None => self.held << (16 - self.count),
        };
        next as u32 & 0xffff
    }

    /// The next `count` bits, at most 16; `None` when there are fewer.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        if self.count < count {
            self.fill();
        }
        self.count = self.count.checked_sub(count)?;
        Some((self.held >> self.count) as u32 & ((1 << count) - 1))
    }

    /// Whether nothing but padding (ones) and a marker, or the end, follows.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.fill();
        let padding = (1 << self.count.min(8)) - 1;
        self.count < 8
            && self.held & padding == padding
            && match self.data.get(self.at..) {
                None | Some([] | [0xff]) => true,
                Some([0xff, next, ..]) => !(0xd0..=0xd7).contains(next),
                Some(_) => false,
            }
    }

    /// Passes over padding and a restart marker, when there is one.
    pub(super) fn restart(&mut self) {
        self.count -= self.count % 8;
        if self.count == 0
            && let Some([0xff, 0xd0..=0xd7]) = self.data.get(self.at..self.at + 2)
        {
            self.at += 2;
        }
    }
}

/// The standard table's code and its length for each value; length 0: none.
pub(super) fn codes_of(table: &Huffman) -> [(u32, u32); 256] {
    let mut codes = [(0, 0); 256];
    let mut code = 0;
    let mut values = table.values.iter();
    for (count, length) in table.counts.iter().zip(1..) {
        for value in values.by_ref().take(usize::from(*count)) {
            if let Some(place) = codes.get_mut(usize::from(*value)) {
                *place = (code, length);
            }
            code += 1;
        }
        code <<= 1;
    }
    codes
}

/// Entropy-coded data being written.
#[derive(Default)]
pub(super) struct Output {
    data: Vec<u8>,
    held: u64,
    count: u32,
}

impl Output {
    /// Appends the lowest `count` bits, at most 16.
    pub(super) fn put(&mut self, bits: u32, count: u32) {
        self.held = self.held << count | u64::from(bits);
        self.count += count;
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.held >> self.count) as u8;
            self.data.push(byte);
            if byte == 0xff {
                self.data.push(0);
            }
        }
    }

    /// Fills the last byte with ones.
    fn pad(&mut self) {
        let spare = (8 - self.count % 8) % 8;
        self.put((1 << spare) - 1, spare);
    }

    /// Ends an interval with the `number`th restart marker.
    pub(super) fn restart(&mut self, number: u32) {
        self.pad();
        self.data.extend([0xff, 0xd0 | (number & 7) as u8]);
    }

    /// All of it.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.pad();
        self.data
    }
}
