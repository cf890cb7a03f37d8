//! JPEG files around RFC 2435 scans: standard tables, headers, and the size of a scan.

use bytes::{BufMut, BytesMut};

pub(crate) use scan::{Restart, count_mcus};

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

/// A Huffman table: codes per length 1 to 16, and the values.
pub(crate) struct Huffman {
    /// Class (0 DC, 1 AC) in the upper half, number in the lower.
    pub(crate) id: u8,
    pub(crate) counts: [u8; 16],
    pub(crate) values: &'static [u8],
}

const DC_VALUES: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

const AC_LUMA_VALUES: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22,
    0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33,
    0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34,
    0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55,
    0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76,
    0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5,
    0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4,
    0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1,
    0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

const AC_CHROMA_VALUES: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13,
    0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62,
    0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29,
    0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54,
    0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75,
    0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94,
    0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3,
    0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2,
    0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea,
    0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

/// The standard tables (T.81 tables K.3 to K.6): DC luma, DC chroma, AC luma, AC chroma.
pub(crate) const HUFFMAN: [Huffman; 4] = [
    Huffman { id: 0x00, counts: [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], values: &DC_VALUES },
    Huffman { id: 0x01, counts: [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], values: &DC_VALUES },
    Huffman {
        id: 0x10,
        counts: [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d],
        values: &AC_LUMA_VALUES,
    },
    Huffman {
        id: 0x11,
        counts: [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77],
        values: &AC_CHROMA_VALUES,
    },
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
