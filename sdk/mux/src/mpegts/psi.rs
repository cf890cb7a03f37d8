//! Program association and program map. ISO/IEC 13818-1 2.4.4.

use bytes::{BufMut, Bytes, BytesMut};

/// Longest section: `section_length` has 12 bits.
const MAX_SECTION_BYTES: usize = 4_096;
/// Most streams of a program that are read.
pub(super) const MAX_STREAMS: usize = 32;
/// Most programs of a table that are read.
pub(super) const MAX_PROGRAMS: usize = 64;

pub(super) const TABLE_PAT: u8 = 0;
pub(super) const TABLE_PMT: u8 = 2;

/// CRC of Annex A: polynomial 04c11db7, first value all ones.
pub(super) fn crc32(data: &[u8]) -> u32 {
    data.iter().fold(u32::MAX, |crc, byte| {
        let index = usize::from(u8::try_from(crc >> 24).unwrap_or(0) ^ byte);
        crc << 8 ^ CRC.get(index).copied().unwrap_or(0)
    })
}

const CRC: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 == 0 { crc << 1 } else { crc << 1 ^ 0x04c1_1db7 };
            bit += 1;
        }
        #[allow(clippy::indexing_slicing)] // evaluated by the compiler
        {
            table[index] = crc;
        }
        index += 1;
    }
    table
};

/// Gathers the sections of one PID.
#[derive(Debug, Default)]
pub(super) struct Sections {
    buffer: Vec<u8>,
    gathering: bool,
    /// A section with a right CRC was seen: from then on wrong ones are damaged, before that the sender cannot count.
    trusted: bool,
}

impl Sections {
    /// Adds the payload of a packet; gives the sections that it completes, without CRC.
    pub(super) fn push(&mut self, payload: &[u8], starts: bool) -> Vec<Vec<u8>> {
        let mut done = Vec::new();
        if starts {
            let Some((pointer, rest)) = payload.split_first() else { return done };
            let Some((tail, rest)) = rest.split_at_checked(usize::from(*pointer)) else { return done };
            if self.gathering {
                self.buffer.extend_from_slice(tail);
                self.drain(&mut done);
            }
            self.buffer.clear();
            self.gathering = true;
            self.buffer.extend_from_slice(rest);
        } else if self.gathering {
            self.buffer.extend_from_slice(payload);
        }
        self.drain(&mut done);
        done
    }

    /// Packets were lost.
    pub(super) fn lost(&mut self) {
        self.gathering = false;
        self.buffer.clear();
    }

    fn drain(&mut self, done: &mut Vec<Vec<u8>>) {
        while let [table, high, low, ..] = *self.buffer {
            // Stuffing behind the last section.
            if table == 0xff {
                self.lost();
                return;
            }
            let size = 3 + (usize::from(high & 0x0f) << 8 | usize::from(low));
            if size > MAX_SECTION_BYTES {
                self.lost();
                return;
            }
            if self.buffer.len() < size {
                return;
            }
            let rest = self.buffer.split_off(size);
            let mut section = std::mem::replace(&mut self.buffer, rest);
            let right = crc32(&section) == 0;
            self.trusted |= right;
            if right || !self.trusted {
                section.truncate(size.saturating_sub(4));
                done.push(section);
            }
        }
    }
}

/// The part of a section behind its 8-byte header, when it is the table `id` and in force.
fn body(section: &[u8], id: u8) -> Option<(u16, &[u8])> {
    let (&[table, _, _, n0, n1, version, _, _], body) = section.split_first_chunk::<8>()?;
    (table == id && version & 1 != 0).then_some((u16::from_be_bytes([n0, n1]), body))
}

/// The programs of a program association section: number and PID of its map.
pub(super) fn parse_pat(section: &[u8]) -> Option<Vec<(u16, u16)>> {
    let (_, body) = body(section, TABLE_PAT)?;
    let programs = body.chunks_exact(4).filter_map(|entry| {
        let [n0, n1, p0, p1] = *<&[u8; 4]>::try_from(entry).ok()?;
        let number = u16::from_be_bytes([n0, n1]);
        (number != 0).then_some((number, u16::from_be_bytes([p0, p1]) & 0x1fff))
    });
    Some(programs.take(MAX_PROGRAMS).collect())
}

/// An elementary stream of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stream {
    pub stream_type: u8,
    pub pid: u16,
    /// Descriptors: tag, length, body.
    pub descriptors: Bytes,
}

impl Stream {
    /// The body of the first descriptor with `tag`.
    pub(super) fn descriptor(&self, tag: u8) -> Option<&[u8]> {
        let mut rest: &[u8] = &self.descriptors;
        while let Some(([found, length], after)) = rest.split_first_chunk::<2>() {
            let (body, after) = after.split_at_checked(usize::from(*length))?;
            if *found == tag {
                return Some(body);
            }
            rest = after;
        }
        None
    }

    /// `format_identifier` of a registration descriptor.
    pub(super) fn registration(&self) -> Option<&[u8]> {
        self.descriptor(5)?.get(..4)
    }
}

/// The program number and streams of a program map section.
pub(super) fn parse_pmt(section: &[u8]) -> Option<(u16, Vec<Stream>)> {
    let (program, body) = body(section, TABLE_PMT)?;
    let ([_, _, l0, l1], body) = body.split_first_chunk::<4>()?;
    let info = usize::from(u16::from_be_bytes([*l0, *l1]) & 0x0fff);
    let mut rest = body.get(info..)?;
    let mut streams = Vec::new();
    while let Some((&[stream_type, p0, p1, l0, l1], after)) = rest.split_first_chunk::<5>() {
        let length = usize::from(u16::from_be_bytes([l0, l1]) & 0x0fff);
        // Descriptors that are cut off end the table.
        let (descriptors, after) = after.split_at_checked(length).unwrap_or((after, &[]));
        if streams.len() < MAX_STREAMS {
            let pid = u16::from_be_bytes([p0, p1]) & 0x1fff;
            streams.push(Stream { stream_type, pid, descriptors: Bytes::copy_from_slice(descriptors) });
        }
        rest = after;
    }
    Some((program, streams))
}

/// A program association section with one program.
pub(super) fn build_pat(program: u16, pmt_pid: u16) -> Bytes {
    section(TABLE_PAT, 1, |out| {
        out.put_u16(program);
        out.put_u16(0xe000 | pmt_pid);
    })
}

/// A program map section. The streams' descriptors must be short enough for one section.
pub(super) fn build_pmt(program: u16, version: u8, pcr_pid: u16, streams: &[Stream]) -> Bytes {
    let mut section = section(TABLE_PMT, program, |out| {
        out.put_u16(0xe000 | pcr_pid);
        out.put_u16(0xf000);
        for stream in streams {
            out.put_u8(stream.stream_type);
            out.put_u16(0xe000 | stream.pid);
            out.put_u16(0xf000 | u16::try_from(stream.descriptors.len()).unwrap_or(0) & 0x0fff);
            out.put_slice(&stream.descriptors);
        }
    })
    .to_vec();
    if let Some(byte) = section.get_mut(5) {
        *byte = 0xc1 | (version & 0x1f) << 1;
    }
    section.truncate(section.len().saturating_sub(4));
    let crc = crc32(&section);
    section.put_u32(crc);
    section.into()
}

fn section(table: u8, extension: u16, body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut inner = BytesMut::new();
    body(&mut inner);
    let mut out = BytesMut::with_capacity(inner.len() + 12);
    out.put_u8(table);
    out.put_u16(0xb000 | u16::try_from(inner.len() + 9).unwrap_or(0) & 0x0fff);
    out.put_u16(extension);
    out.put_slice(&[0xc1, 0, 0]);
    out.put_slice(&inner);
    let crc = crc32(&out);
    out.put_u32(crc);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap())
            .collect()
    }

    fn streams() -> Vec<Stream> {
        let stream = |stream_type, pid, descriptors: &str| Stream {
            stream_type,
            pid,
            descriptors: hex(descriptors).into(),
        };
        vec![
            stream(0x1b, 0x100, ""),
            stream(6, 0x101, "05044f7075737f028002"),
            stream(0x90, 0x102, ""),
            stream(0x91, 0x103, ""),
        ]
    }

    /// Computed from the definitions of ISO/IEC 13818-1.
    #[test]
    fn known_sections() {
        let pat = hex("00b00d0001c100000001f0002ab104b2");
        assert_eq!(build_pat(1, 0x1000), pat);
        assert_eq!(parse_pat(&pat[..pat.len() - 4]), Some(vec![(1, 0x1000)]));
        let pmt = hex(
            "02b02b0001c10000e100f0001be100f00006e101f00a05044f7075737f02800290e102f00091e103f000882adac5",
        );
        assert_eq!(build_pmt(1, 0, 0x100, &streams()), pmt);
        let (program, parsed) = parse_pmt(&pmt[..pmt.len() - 4]).unwrap();
        assert_eq!((program, &parsed), (1, &streams()));
        assert_eq!(parsed[1].registration(), Some(&b"Opus"[..]));
        assert_eq!(parsed[1].descriptor(0x7f), Some(&[0x80, 2][..]));
    }

    #[test]
    fn a_wrong_crc_counts_only_from_senders_that_can_count() {
        let good = [&[0][..], &build_pat(1, 0x1000)].concat();
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        let mut sections = Sections::default();
        assert_eq!(sections.push(&bad, true).len(), 1);
        assert_eq!(sections.push(&good, true).len(), 1);
        assert_eq!(sections.push(&bad, true).len(), 0);
    }

    proptest! {
        #[test]
        fn sections_survive_any_cut(cuts in proptest::collection::vec(1_usize..40, 0..6), stuffing in 0_usize..5) {
            let pmt = build_pmt(1, 3, 0x100, &streams());
            let mut data = [&pmt[..], &pmt[..]].concat();
            data.extend(std::iter::repeat_n(0xff, stuffing));
            let mut sections = Sections::default();
            let mut found = sections.push(&[0], true);
            let mut rest = &data[..];
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                found.extend(sections.push(piece, false));
                rest = after;
            }
            found.extend(sections.push(rest, false));
            prop_assert_eq!(found, vec![pmt[..pmt.len() - 4].to_vec(); 2]);
        }

        #[test]
        fn any_bytes_never_panic(data: Vec<u8>, starts: bool) {
            let mut sections = Sections::default();
            let mut all = sections.push(&data, starts);
            all.extend(sections.push(&data, false));
            all.push(data);
            for section in all {
                let _ = parse_pat(&section);
                for stream in parse_pmt(&section).into_iter().flat_map(|(_, streams)| streams) {
                    let _ = stream.registration();
                }
            }
        }
    }
}
