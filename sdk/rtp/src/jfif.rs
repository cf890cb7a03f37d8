//! JPEG files around RFC 2435 scans: standard tables, headers, and the size of a scan.

use bytes::{BufMut, BytesMut};
pub(crate) use patchbay_media::jpeg::huffman::{Huffman, STANDARD as HUFFMAN};

pub(crate) use scan::{Coding, Restart, Table, count_mcus, recode};

mod entropy;
mod scan;

/// One quantisation table in zig-zag order; values above 255 need 16-bit tables.
pub(crate) type QuantTable = [u16; 64];

/// Raster position of each coefficient in zig-zag order (T.81 figure 5).
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
    14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
    46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// T.81 table K.1, raster order.
const LUMA: [u8; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17,
    22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78,
    87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];

/// T.81 table K.2, raster order.
const CHROMA: [u8; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/// Luma and chroma tables for a quality of 1 to 99 (RFC 2435 section 4.2).
pub(crate) fn quality_tables(quality: u8) -> [QuantTable; 2] {
    let quality = u32::from(quality.clamp(1, 99));
    let factor = if quality < 50 { 5000 / quality } else { 200 - quality * 2 };
    [LUMA, CHROMA].map(|base| {
        ZIGZAG.map(|position| {
            let value = base.get(usize::from(position)).copied().unwrap_or(1);
            ((u32::from(value) * factor + 50) / 100).clamp(1, 255) as u16
        })
    })
}

/// What the headers of a file say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Headers<'a> {
    pub(crate) width: u16,
    pub(crate) height: u16,
    /// 4:2:0 rather than 4:2:2.
    pub(crate) is_420: bool,
    /// One table for all components, or luma and chroma.
    pub(crate) tables: &'a [QuantTable],
    /// MCUs between restart markers, 0 for none.
    pub(crate) restart_interval: u16,
}

impl Headers<'_> {
    /// Writes everything before the scan: SOI, APP0, DQT, SOF, DHT, DRI, SOS (RFC 2435 appendix B).
    pub(crate) fn write(&self, out: &mut BytesMut) {
        out.put_slice(&[0xff, 0xd8]);
        out.put_slice(b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00");
        let mut is_wide = false;
        for (number, table) in self.tables.iter().take(2).enumerate() {
            let wide = table.iter().any(|value| *value > 255);
            is_wide |= wide;
            out.put_slice(&[0xff, 0xdb]);
            out.put_u16(if wide { 131 } else { 67 });
            out.put_u8(u8::from(wide) << 4 | number as u8);
            for value in table {
                if wide { out.put_u16(*value) } else { out.put_u8(*value as u8) }
            }
        }
        // 16-bit tables are not baseline (T.81 table B.4).
        out.put_slice(&[0xff, if is_wide { 0xc1 } else { 0xc0 }, 0, 17, 8]);
        out.put_u16(self.height);
        out.put_u16(self.width);
        let chroma_table = u8::from(self.tables.len() > 1);
        let luma_sampling = if self.is_420 { 0x22 } else { 0x21 };
        out.put_slice(&[3, 1, luma_sampling, 0, 2, 0x11, chroma_table, 3, 0x11, chroma_table]);
        out.put_slice(&[0xff, 0xc4]);
        let len: usize = HUFFMAN.iter().map(|table| 17 + table.values.len()).sum();
        out.put_u16(len as u16 + 2);
        for table in &HUFFMAN {
            out.put_u8(table.id);
            out.put_slice(&table.counts);
            out.put_slice(table.values);
        }
        if self.restart_interval > 0 {
            out.put_slice(&[0xff, 0xdd, 0, 4]);
            out.put_u16(self.restart_interval);
        }
        out.put_slice(&[0xff, 0xda, 0, 12, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc32(data: impl IntoIterator<Item = u8>) -> u32 {
        !data.into_iter().fold(!0u32, |crc, byte| {
            (0..8).fold(
                crc ^ u32::from(byte),
                |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
            )
        })
    }

    /// CRC-32 of the tables that the formula of RFC 2435 gives.
    #[test]
    fn k19_quality_tables() {
        let expected = [
            (25, 0x21bd_b716, 0x7573_6252),
            (50, 0x5f95_0926, 0x75f2_6384),
            (75, 0x9296_189f, 0x4dd8_bede),
            (99, 0xd7c4_6080, 0x802e_94bd),
        ];
        for (quality, luma, chroma) in expected {
            let found = quality_tables(quality).map(|table| crc32(table.map(|value| value as u8)));
            assert_eq!(found, [luma, chroma], "quality {quality}");
        }
        assert_eq!(quality_tables(50)[0][..8], [0x10, 0x0b, 0x0c, 0x0e, 0x0c, 0x0a, 0x10, 0x0e]);
    }

    /// CRC-32 of the standard tables, measured with FFmpeg.
    #[test]
    fn k20_huffman_tables() {
        let bytes = |table: &Huffman| -> Vec<u8> { [&[table.id], &table.counts[..], table.values].concat() };
        let found: Vec<u32> = HUFFMAN.iter().map(|table| crc32(bytes(table))).collect();
        assert_eq!(found, [0x13bc_22c1, 0xbf87_6d00, 0x7643_1cc4, 0xdb3e_692f]);
        assert_eq!(crc32(HUFFMAN.iter().flat_map(bytes)), 0xdd95_2167);
    }
}
