//! Motion JPEG (RFC 2435): baseline files with the standard Huffman tables, 4:2:0 or 4:2:2 (R67). Others are not sent.

use super::Writer;
use crate::jfif::HUFFMAN;

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
    restart_interval: u16,
    scan: &'a [u8],
}

pub(super) fn write(data: &[u8], writer: &mut Writer<'_>) {
    let Some(file) = File::parse(data) else { return };
    let table = |number: u8| file.tables.get(usize::from(number)).copied().flatten();
    let (Some(luma), Some(chroma)) = (table(file.luma), table(file.chroma)) else { return };
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
        let (Some(part), Some(head)) = (file.scan.get(offset..end), head.get(..head_len)) else { return };
        let extension = (is_large && offset == 0).then_some((ONVIF_JPEG_EXTENSION, &extension[..]));
        let [luma, chroma] = tables;
        let timestamp = writer.timestamp;
        writer.packet_at(end == file.scan.len(), timestamp, extension, &[head, luma, chroma, part]);
        offset = end;
    }
}

impl<'a> File<'a> {
    /// Takes a file apart; `None` for one that RFC 2435 cannot carry.
    fn parse(data: &'a [u8]) -> Option<Self> {
        let mut file = Self::default();
        let mut rest = data.strip_prefix(&[0xff, 0xd8])?;
        loop {
            let ([0xff, marker, l0, l1], after) = rest.split_first_chunk::<4>()? else { return None };
            if *marker == 0xff {
                rest = rest.get(1..)?;
                continue;
            }
            let len = usize::from(u16::from_be_bytes([*l0, *l1])).checked_sub(2)?;
            let (segment, behind) = after.split_at_checked(len)?;
            match marker {
                0xdb => file.quantisation(segment)?,
                0xc0 => {
                    file.frame = rest.get(..4 + len)?;
                    file.frame_header(segment)?;
                }
                0xc4 => standard_huffman(segment)?,
                0xdd => file.restart_interval = u16::from_be_bytes(*segment.first_chunk::<2>()?),
                0xda => {
                    let end =
                        behind.windows(2).rposition(|pair| pair == [0xff, 0xd9]).unwrap_or(behind.len());
                    file.scan = behind.get(..end)?;
                    break;
                }
                0xc1..=0xcf => return None,
                _ => {}
            }
            rest = behind;
        }
        let fits = !file.frame.is_empty() && !file.scan.is_empty() && file.scan.len() <= MAX_SCAN;
        fits.then_some(file)
    }

    /// 8-bit tables only.
    fn quantisation(&mut self, segment: &'a [u8]) -> Option<()> {
        for entry in segment.chunks(65) {
            let (number, values) = entry.split_first()?;
            if values.len() != 64 {
                return None;
            }
            *self.tables.get_mut(usize::from(*number))? = Some(values);
        }
        Some(())
    }

    /// Three components, luma sampled 2x2 or 2x1 and chroma 1x1 with one table.
    fn frame_header(&mut self, segment: &[u8]) -> Option<()> {
        let [8, h0, h1, w0, w1, 3, _, luma_sampling, luma, _, 0x11, chroma, _, 0x11, chroma2] = *segment
        else {
            return None;
        };
        self.is_420 = match luma_sampling {
            0x22 => true,
            0x21 => false,
            _ => return None,
        };
        if chroma != chroma2 {
            return None;
        }
        self.height = u16::from_be_bytes([h0, h1]);
        self.width = u16::from_be_bytes([w0, w1]);
        (self.luma, self.chroma) = (luma, chroma);
        (self.width > 0 && self.height > 0).then_some(())
    }
}

/// Whether all tables in the segment are the standard ones: receivers assume them.
fn standard_huffman(segment: &[u8]) -> Option<()> {
    let mut rest = segment;
    while let Some((id, after)) = rest.split_first() {
        let table = HUFFMAN.iter().find(|table| table.id == *id)?;
        let after = after.strip_prefix(&table.counts)?;
        rest = after.strip_prefix(table.values)?;
    }
    Some(())
}
