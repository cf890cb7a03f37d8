//! JPEG files out of a byte stream.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{EOI, SOI, SOS};
use crate::unit::MAX_UNIT_BYTES;

/// Cuts a byte stream that arrives in pieces of any size into JPEG files.
///
/// It walks the markers (ITU-T T.81 B.1.1), so a thumbnail inside a segment is no file of its own, and it needs neither
/// lengths nor boundaries of a framing around the files: text between them, such as the headers of a multipart stream, is
/// passed over. A file that another one begins inside of, that has no scan, or that is larger than [`MAX_UNIT_BYTES`], is
/// dropped.
#[derive(Debug, Default)]
pub struct Splitter {
    /// Begins with the file, once there is one.
    buffer: BytesMut,
    /// What of the buffer was read; may lie behind its end, inside a segment.
    at: usize,
    place: Place,
    /// The file has a scan.
    has_scan: bool,
    passed: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between files.
    #[default]
    Outside,
    /// Where a marker is due.
    Marker,
    /// In entropy-coded data.
    Scan,
}

impl Splitter {
    /// A splitter that waits for the first file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that came since the last whole file: a stream without pictures makes this grow.
    pub fn passed(&self) -> u64 {
        self.passed + self.buffer.len() as u64
    }

    /// Adds bytes and hands each file that they complete to `emit`.
    pub fn push(&mut self, data: &[u8], mut emit: impl FnMut(Bytes)) {
        self.buffer.extend_from_slice(data);
        while let Some(file) = self.step() {
            emit(file);
        }
        if self.buffer.len() > MAX_UNIT_BYTES {
            self.drop_bytes(self.buffer.len());
            self.place = Place::Outside;
        }
    }

    /// The next file that is whole.
    fn step(&mut self) -> Option<Bytes> {
        loop {
            match self.place {
                Place::Outside => self.find_start()?,
                Place::Scan => self.pass_scan()?,
                Place::Marker => {
                    if let Some(file) = self.marker()? {
                        return Some(file);
                    }
                }
            }
        }
    }

    /// `None`: more bytes are needed.
    fn find_start(&mut self) -> Option<()> {
        let found = self.buffer.windows(3).position(|bytes| matches!(bytes, [0xff, SOI, 0xff]));
        match found {
            Some(at) => {
                self.begin(at);
                Some(())
            }
            None => {
                self.drop_bytes(self.buffer.len().saturating_sub(2));
                None
            }
        }
    }

    /// A file begins at `at`.
    fn begin(&mut self, at: usize) {
        self.drop_bytes(at);
        self.at = 2;
        self.place = Place::Marker;
        self.has_scan = false;
    }

    fn pass_scan(&mut self) -> Option<()> {
        loop {
            let rest = self.buffer.get(self.at..)?;
            let Some(found) = rest.iter().position(|byte| *byte == 0xff) else {
                self.at = self.buffer.len();
                return None;
            };
            self.at += found;
            match self.buffer.get(self.at + 1)? {
                // A stuffed byte, a restart marker.
                0x00 | 0xd0..=0xd7 => self.at += 2,
                // Fill.
                0xff => self.at += 1,
                _ => {
                    self.place = Place::Marker;
                    return Some(());
                }
            }
        }
    }

    fn marker(&mut self) -> Option<Option<Bytes>> {
        let rest = self.buffer.get(self.at..)?;
        let (code, after) = match rest {
            [0xff, 0xff, ..] => {
                self.at += 1;
                return Some(None);
            }
            [0xff, code, after @ ..] => (*code, after),
            [_, _, ..] => {
                // What stands between segments is nobody's.
                self.at += rest.iter().position(|byte| *byte == 0xff).unwrap_or(rest.len());
                return Some(None);
            }
            _ => return None,
        };
        match code {
            0x00 | 0x01 | 0xd0..=0xd7 => self.at += 2,
            SOI => self.begin(self.at),
            EOI => {
                let whole = self.has_scan && self.at + 2 <= MAX_UNIT_BYTES;
                self.place = Place::Outside;
                if !whole {
                    self.drop_bytes(self.at + 2);
                    return Some(None);
                }
                let file = self.buffer.split_to(self.at + 2).freeze();
                self.at = 0;
                self.passed = 0;
                return Some(Some(file));
            }
            _ => {
                let length = usize::from(u16::from_be_bytes(*after.first_chunk::<2>()?));
                if length < 2 {
                    self.drop_bytes(self.at + 2);
                    self.place = Place::Outside;
                    return Some(None);
                }
                self.at += 2 + length;
                if code == SOS {
                    self.has_scan = true;
                    self.place = Place::Scan;
                }
            }
        }
        Some(None)
    }

    fn drop_bytes(&mut self, count: usize) {
        let count = count.min(self.buffer.len());
        self.buffer.advance(count);
        self.passed += count as u64;
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::file;
    use super::*;
    use proptest::prelude::*;

    fn split(data: &[u8], chunk: usize) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::new();
        let mut files = Vec::new();
        data.chunks(chunk.max(1)).for_each(|piece| splitter.push(piece, |file| files.push(file.to_vec())));
        files
    }

    #[test]
    fn framing_is_passed_over() {
        let (a, b) = (file(640, 480), file(320, 240));
        let mut data = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n".to_vec();
        data.extend(&a);
        data.extend(b"\n--frame\nContent-length: 12345\n\n");
        data.extend(&b);
        data.extend(b"\r\n--frame--\r\n");
        for chunk in [1, 2, 3, 7, data.len()] {
            assert_eq!(split(&data, chunk), [a.clone(), b.clone()], "{chunk}");
        }
    }

    #[test]
    fn a_thumbnail_is_no_file() {
        let inner = file(160, 120);
        let outer = file(640, 480);
        let mut data = vec![0xff, SOI, 0xff, 0xe1];
        data.extend((inner.len() as u16 + 2).to_be_bytes());
        data.extend(&inner);
        data.extend(&outer[2..]);
        assert_eq!(split(&data, 5), [data.clone()]);
    }

    #[test]
    fn a_file_cut_in_its_scan_costs_itself_only() {
        let (a, b) = (file(640, 480), file(320, 240));
        for cut in a.len() - 3..a.len() {
            assert_eq!(split(&[&a[..cut], &b[..]].concat(), 11), std::slice::from_ref(&b), "cut at {cut}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut splitter = Splitter::new();
        splitter.push(&[0xff, SOI, 0xff, SOS, 0, 2], |_| panic!("no file"));
        let zeros = vec![0x11; 1 << 20];
        for _ in 0..20 {
            splitter.push(&zeros, |_| panic!("no file"));
            assert!(splitter.buffer.len() <= MAX_UNIT_BYTES);
        }
        assert!(splitter.passed() >= 20 << 20);
        let whole = file(16, 16);
        let mut files = Vec::new();
        splitter.push(&whole, |file| files.push(file));
        assert_eq!(files, [whole]);
        assert_eq!(splitter.passed(), 0);
    }

    proptest! {
        #[test]
        fn files_come_out_whatever_the_chunks(
            sizes in proptest::collection::vec((any::<u16>(), any::<u16>()), 0..6),
            text in "[ -~\r\n]{0,80}",
            chunk in 1_usize..60,
        ) {
            let files: Vec<Vec<u8>> = sizes.iter().map(|(w, h)| file(*w, *h)).collect();
            let mut data = text.clone().into_bytes();
            for file in &files {
                data.extend(file);
                data.extend(text.bytes());
            }
            prop_assert_eq!(split(&data, chunk), files);
        }

        #[test]
        fn any_bytes_in_any_chunks(
            data in proptest::collection::vec(
                prop_oneof![Just(0xff_u8), Just(SOI), Just(EOI), Just(SOS), 0_u8..8, any::<u8>()], 0..300),
            chunk in 1_usize..40,
        ) {
            prop_assert_eq!(split(&data, chunk), split(&data, data.len()));
        }
    }
}
