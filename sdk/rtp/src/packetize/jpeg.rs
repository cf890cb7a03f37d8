//! Motion JPEG (RFC 2435): baseline files in 4:2:0 or 4:2:2. Scans in other Huffman codes than the standard ones are written
//! anew in these, coefficient by coefficient. Other files are not sent (R67).

use std::borrow::Cow;

use super::{Refused, Writer};
use crate::jfif::{Coding, Restart, Table, recode};

/// Largest side that the header's fields can tell, in pixels.
const MAX_SIDE: u16 = 2040;

/// Header extension with the frame header, for larger pictures.
const ONVIF_JPEG_EXTENSION: u16 = 0xffd8;

/// Largest scan: offsets have 24 bits.
const MAX_SCAN: usize = (1 << 24) - 1;

/// A file taken apart.
#[derive(Debug, Default)]
struct File<'a> {
    /// The frame header segment, marker included, and what it says.
    frame: &'a [u8],
    width: u16,
    height: u16,
    is_420: bool,
    /// Number and values of the quantisation tables.
    tables: [Option<&'a [u8]>; 4],
    /// Tables that the components use.
    luma: u8,
    chroma: u8,
    /// Huffman tables: DC and AC, by number.
    huffman: [[Option<Table<'a>>; 4]; 2],
    restart_interval: u16,
    scan: Cow<'a, [u8]>,
}

pub(super) fn write(data: &[u8], writer: &mut Writer<'_>) -> Result<(), Refused> {
    let file = File::parse(data)?;
    let table = |number: u8| file.tables.get(usize::from(number)).copied().flatten().ok_or(Refused::Damaged);
    let (luma, chroma) = (table(file.luma)?, table(file.chroma)?);
    let is_large = file.width > MAX_SIDE || file.height > MAX_SIDE;
    let blocks = |side: u16| if is_large { 0 } else { side.div_ceil(8) as u8 };
    let kind = u8::from(file.is_420) | if file.restart_interval > 0 { 0x40 } else { 0 };
    // Padded to whole words; the extension names the frame header only.
    let mut extension = [0; 20];
    if let Some(start) = extension.get_mut(..file.frame.len()) {
        start.copy_from_slice(file.frame);
    }
    let [i0, i1] = file.restart_interval.to_be_bytes();
    let mut offset = 0;
    while offset < file.scan.len() {
        let [_, o0, o1, o2] = (offset as u32).to_be_bytes();
        let mut head = [0; 16];
        let mut head_len = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(room) = head.get_mut(head_len..head_len + bytes.len()) {
                room.copy_from_slice(bytes);
                head_len += bytes.len();
            }
        };
        put(&[0, o0, o1, o2, kind, 255, blocks(file.width), blocks(file.height)]);
        if file.restart_interval > 0 {
            put(&[i0, i1, 0xff, 0xff]);
        }
        let tables: [&[u8]; 2] = if offset == 0 {
            put(&[0, 0, 0, 128]);
            [luma, chroma]
        } else {
            [&[], &[]]
        };
        let used = head_len + tables.iter().map(|table| table.len()).sum::<usize>();
        // The first packet has at least one byte of the scan, however small packets are.
        let room = writer.max_payload.saturating_sub(used).max(1);
        let end = file.scan.len().min(offset + room);
        let (Some(part), Some(head)) = (file.scan.get(offset..end), head.get(..head_len)) else { break };
        let extension = (is_large && offset == 0).then_some((ONVIF_JPEG_EXTENSION, &extension[..]));
        let [luma, chroma] = tables;
        let timestamp = writer.timestamp;
        writer.packet_at(end == file.scan.len(), timestamp, extension, &[head, luma, chroma, part]);
        offset = end;
    }
    Ok(())
}

impl<'a> File<'a> {
    /// Takes a file apart.
    fn parse(data: &'a [u8]) -> Result<Self, Refused> {
        let mut file = Self::default();
        let mut rest = data.strip_prefix(&[0xff, 0xd8]).ok_or(Refused::Damaged)?;
        loop {
            let ([0xff, marker, l0, l1], after) = rest.split_first_chunk::<4>().ok_or(Refused::Damaged)?
            else {
                return Err(Refused::Damaged);
            };
            if *marker == 0xff {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let len = usize::from(u16::from_be_bytes([*l0, *l1])).checked_sub(2).ok_or(Refused::Damaged)?;
            let (segment, behind) = after.split_at_checked(len).ok_or(Refused::Damaged)?;
            match marker {
                0xdb => file.quantisation(segment)?,
                0xc0 => {
                    file.frame = rest.get(..4 + len).unwrap_or_default();
                    file.frame_header(segment)?;
                }
                0xc2 => return Err(Refused::JpegIsProgressive),
                0xc4 => file.huffman_tables(segment).ok_or(Refused::Damaged)?,
                0xc1..=0xcf => return Err(Refused::JpegIsNotBaseline),
                0xdd => {
                    let interval = segment.first_chunk::<2>().ok_or(Refused::Damaged)?;
                    file.restart_interval = u16::from_be_bytes(*interval);
                }
                0xda => {
                    let end =
                        behind.windows(2).rposition(|pair| pair == [0xff, 0xd9]).unwrap_or(behind.len());
                    file.scan = Cow::Borrowed(behind.get(..end).unwrap_or_default());
                    file.standardize(segment)?;
                    break;
                }
                _ => {}
            }
            rest = behind;
        }
        let fits = !file.frame.is_empty() && !file.scan.is_empty() && file.scan.len() <= MAX_SCAN;
        fits.then_some(file).ok_or(Refused::Damaged)
    }

    /// 8-bit tables only.
    fn quantisation(&mut self, segment: &'a [u8]) -> Result<(), Refused> {
        for entry in segment.chunks(65) {
            let (number, values) = entry.split_first().ok_or(Refused::Damaged)?;
            if number >> 4 != 0 {
                return Err(Refused::JpegIsNotBaseline);
            }
            let place = self.tables.get_mut(usize::from(*number)).ok_or(Refused::Damaged)?;
            if values.len() != 64 {
                return Err(Refused::Damaged);
            }
            *place = Some(values);
        }
        Ok(())
    }

    /// Three components, luma sampled 2x2 or 2x1 and chroma 1x1 with one table.
    fn frame_header(&mut self, segment: &[u8]) -> Result<(), Refused> {
        let [8, h0, h1, w0, w1, 3, _, luma_sampling, luma, _, 0x11, chroma, _, 0x11, chroma2] = *segment
        else {
            return Err(Refused::JpegSampling);
        };
        self.is_420 = match luma_sampling {
            0x22 => true,
            0x21 => false,
            _ => return Err(Refused::JpegSampling),
        };
        if chroma != chroma2 {
            return Err(Refused::JpegSampling);
        }
        self.height = u16::from_be_bytes([h0, h1]);
        self.width = u16::from_be_bytes([w0, w1]);
        (self.luma, self.chroma) = (luma, chroma);
        (self.width > 0 && self.height > 0).then_some(()).ok_or(Refused::Damaged)
    }

    /// The tables of a segment.
    fn huffman_tables(&mut self, segment: &'a [u8]) -> Option<()> {
        let mut rest = segment;
        while let Some((id, after)) = rest.split_first() {
            let (counts, after) = after.split_first_chunk::<16>()?;
            let (values, after) =
                after.split_at_checked(counts.iter().map(|count| usize::from(*count)).sum())?;
            let of_class = self.huffman.get_mut(usize::from(id >> 4))?;
            *of_class.get_mut(usize::from(id & 15))? = Some(Table { counts, values });
            rest = after;
        }
        Some(())
    }

    /// Brings the scan behind the scan header `segment` into the standard codes, which receivers assume.
    fn standardize(&mut self, segment: &[u8]) -> Result<(), Refused> {
        let [3, _, luma, _, blue, _, red, ..] = *segment else { return Err(Refused::JpegScans) };
        let table = |class: usize, number: u8, is_chroma: bool| {
            let known = self.huffman.get(class).and_then(|tables| tables.get(usize::from(number)));
            // Some cameras leave out the standard tables.
            let absent = self.huffman.iter().flatten().all(Option::is_none);
            let standard = absent.then(|| Table::standard(class, is_chroma)).flatten();
            known.copied().flatten().or(standard).ok_or(Refused::Damaged)
        };
        let of = |numbers: u8, is_chroma| {
            Ok([table(0, numbers >> 4, is_chroma)?, table(1, numbers & 15, is_chroma)?])
        };
        let tables = [of(luma, false)?, of(blue, true)?, of(red, true)?];
        let is_standard = tables.iter().zip([false, true, true]).all(|(tables, is_chroma)| {
            tables.iter().zip(0..).all(|(table, class)| Table::standard(class, is_chroma) == Some(*table))
        });
        if !is_standard {
            let restart = Restart { interval: self.restart_interval };
            let mcu_height = if self.is_420 { 16 } else { 8 };
            let mcus = u32::from(self.width.div_ceil(16)) * u32::from(self.height.div_ceil(mcu_height));
            let coding = Coding { is_420: self.is_420, restart, tables };
            self.scan = Cow::Owned(recode(&self.scan, &coding, mcus).ok_or(Refused::Damaged)?);
        }
        Ok(())
    }
}
