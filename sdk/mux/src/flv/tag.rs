//! Tag headers, and where tags begin in bytes that come in any pieces.

use bytes::{Buf, Bytes, BytesMut};

/// Largest body of a tag or RTMP message that is taken, in bytes (10 MiB: an 8K key picture with headroom).
pub const MAX_TAG_BYTES: usize = 10 << 20;
/// Bytes of a tag's header.
pub(super) const HEADER_BYTES: usize = 11;
/// Largest file header that is passed over, in bytes; it says 9.
const MAX_FILE_HEADER: u32 = 1 << 16;

/// What a tag carries; the value is its type, also in RTMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TagKind {
    /// Sound.
    Audio = 8,
    /// Pictures.
    Video = 9,
    /// A name and AMF0 values, such as `onMetaData`.
    Script = 18,
}

impl TagKind {
    /// The kind of a type; `None` for unknown ones.
    pub fn of(kind: u8) -> Option<Self> {
        Some(match kind {
            8 => Self::Audio,
            9 => Self::Video,
            18 => Self::Script,
            _ => return None,
        })
    }
}

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) kind: TagKind,
    /// Milliseconds, modulo 2^32.
    pub(super) timestamp: u32,
    pub(super) body: Bytes,
}

/// A tag's header: type, size, time, stream 0.
pub(super) fn header(kind: TagKind, size: usize, timestamp: u32) -> [u8; HEADER_BYTES] {
    let [_, s0, s1, s2] = u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
    let [t3, t0, t1, t2] = timestamp.to_be_bytes();
    [kind as u8, s0, s1, s2, t0, t1, t2, t3, 0, 0, 0]
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    More,
    Tag(Tag),
    /// No `FLV` at the start.
    NotFlv,
    /// A tag larger than [`MAX_TAG_BYTES`].
    TooLong(usize),
}

/// Finds tags. Sizes of previous tags, flags of the file and stream numbers are not believed.
#[derive(Debug, Default)]
pub(super) struct Tags {
    buffer: BytesMut,
    /// Bytes to pass over.
    skip: usize,
    started: bool,
}

impl Tags {
    pub(super) fn push(&mut self, data: &[u8]) {
        let skipped = self.skip.min(data.len());
        if self.buffer.is_empty() {
            self.skip -= skipped;
            self.buffer.extend_from_slice(data.get(skipped..).unwrap_or_default());
        } else {
            self.buffer.extend_from_slice(data);
        }
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn next(&mut self) -> Next {
        loop {
            let skipped = self.skip.min(self.buffer.len());
            self.buffer.advance(skipped);
            self.skip -= skipped;
            if self.skip > 0 {
                return Next::More;
            }
            if !self.started {
                let magic = self.buffer.get(..3).unwrap_or(&self.buffer);
                if !b"FLV".starts_with(magic) {
                    return Next::NotFlv;
                }
                let Some([_, _, _, _, _, length @ ..]) = self.buffer.first_chunk::<9>() else {
                    return Next::More;
                };
                let length = u32::from_be_bytes(*length);
                if length > MAX_FILE_HEADER {
                    return Next::NotFlv;
                }
                // The size of the tag before the first follows.
                self.skip = usize::try_from(length.max(9)).unwrap_or(9) + 4;
                self.started = true;
                continue;
            }
            let Some([kind, s0, s1, s2, t0, t1, t2, t3, ..]) =
                self.buffer.first_chunk::<HEADER_BYTES>().copied()
            else {
                return Next::More;
            };
            let size = u32::from_be_bytes([0, s0, s1, s2]) as usize;
            if size > MAX_TAG_BYTES {
                return Next::TooLong(size);
            }
            // Bit 5: encrypted. Bits 6 and 7 are reserved.
            let known = TagKind::of(kind & 0x1f).filter(|_| kind & 0x20 == 0);
            let Some(kind) = known else {
                self.skip = HEADER_BYTES + size + 4;
                continue;
            };
            if self.buffer.len() < HEADER_BYTES + size {
                self.buffer.reserve(HEADER_BYTES + size - self.buffer.len());
                return Next::More;
            }
            self.buffer.advance(HEADER_BYTES);
            let body = self.buffer.split_to(size).freeze();
            self.skip = 4;
            return Next::Tag(Tag { kind, timestamp: u32::from_be_bytes([t3, t0, t1, t2]), body });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> (Vec<Tag>, Next) {
        let (mut tags, mut found) = (Tags::default(), Vec::new());
        let mut pieces = pieces.into_iter();
        loop {
            match tags.next() {
                Next::Tag(tag) => found.push(tag),
                Next::More => match pieces.next() {
                    Some(piece) => tags.push(piece.as_ref()),
                    None => return (found, Next::More),
                },
                end => return (found, end),
            }
        }
    }

    fn file(header_length: u32, tags: &[(u8, u32, Vec<u8>)], previous: u32) -> Vec<u8> {
        let mut out = b"FLV\x01\x00".to_vec();
        out.extend(header_length.to_be_bytes());
        out.resize(header_length.max(9) as usize, 0);
        out.extend(previous.to_be_bytes());
        for (kind, timestamp, body) in tags {
            let mut header = header(TagKind::Audio, body.len(), *timestamp);
            header[0] = *kind;
            header[10] = 7;
            out.extend(header);
            out.extend(body);
            out.extend(previous.to_be_bytes());
        }
        out
    }

    #[test]
    fn what_is_not_believed() {
        let tags = [
            (9, 0x0102_0304, vec![1, 2]),
            (0x29, 5, vec![3]),
            (15, 5, vec![4; 40]),
            (8, 6, vec![]),
            (0x92, 7, vec![5]),
        ];
        let (found, end) = all([file(12, &tags, 0xdead_beef)]);
        assert_eq!(end, Next::More);
        let found: Vec<_> = found.iter().map(|t| (t.kind, t.timestamp, t.body.len())).collect();
        let expected = [(TagKind::Video, 0x0102_0304, 2), (TagKind::Audio, 6, 0), (TagKind::Script, 7, 1)];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(all([&b"RIFF"[..]]).1, Next::NotFlv);
        assert_eq!(all([&b"FL"[..]]).1, Next::More);
        assert_eq!(all([&b"FLV\x01\x05\xff\0\0\0"[..]]).1, Next::NotFlv);
        let mut long = file(9, &[], 0);
        long.extend([9, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(all([long]).1, Next::TooLong(0xff_ffff));
    }

    proptest! {
        #[test]
        fn tags_cross_any_border(
            bodies in proptest::collection::vec((any::<u32>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..8),
            piece in 1_usize..60,
        ) {
            let tags: Vec<_> = bodies.into_iter().map(|(time, body)| (8, time, body)).collect();
            let (found, _) = all(file(9, &tags, 0).chunks(piece));
            let found: Vec<_> = found.into_iter().map(|t| (t.kind as u8, t.timestamp, t.body.to_vec())).collect();
            prop_assert_eq!(found, tags);
        }
    }
}
