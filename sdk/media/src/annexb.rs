//! The byte stream format of Annex B: NAL units behind start codes `00 00 01` or `00 00 00 01`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::nal::without_trailing_zeros;

/// The NAL units of a byte stream, without start codes and without the zero bytes behind them. What stands before the
/// first start code is passed over.
pub fn split(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let rest = find_start_code(data).and_then(|at| data.get(at + 3..)).unwrap_or_default();
    split_glued(rest)
}

/// The NAL units in `nal` when a peer glued several with start codes into what should be one. A leading start code is
/// removed; the bytes before the first one are a NAL unit too. A conforming NAL unit comes back as it is.
pub fn split_glued(nal: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(nal);
    std::iter::from_fn(move || {
        loop {
            let data = rest?;
            let (nal, after) = match find_start_code(data) {
                Some(at) => (data.get(..at)?, data.get(at + 3..)),
                None => (data, None),
            };
            rest = after;
            let nal = without_trailing_zeros(nal);
            if !nal.is_empty() {
                return Some(nal);
            }
        }
    })
}

/// Appends `nals`, each behind a 4-byte start code.
pub fn write<'a>(nals: impl IntoIterator<Item = &'a [u8]>, out: &mut BytesMut) {
    for nal in nals {
        out.put_slice(&[0, 0, 0, 1]);
        out.put_slice(nal);
    }
}

/// Where the first `00 00 01` begins.
pub fn find_start_code(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some([a, b, c]) = data.get(at..at + 3) {
        match (a, b, c) {
            (0, 0, 1) => return Some(at),
            (_, _, 0 | 1) => at += 1,
            _ => at += 3,
        }
    }
    None
}

/// Cuts a byte stream that arrives in pieces of any size into NAL units.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: BytesMut,
    /// No start code lies in the buffer before this place.
    searched: usize,
    started: bool,
}

/// Most bytes held while no start code comes, 8 MiB: then they are dropped.
pub const MAX_NAL_BYTES: usize = 8 << 20;

impl Splitter {
    /// A splitter that waits for the first start code.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes and hands each NAL unit that they complete to `emit`, as [`split`] would.
    pub fn push(&mut self, data: &[u8], mut emit: impl FnMut(Bytes)) {
        self.buffer.put_slice(data);
        loop {
            let found = self.buffer.get(self.searched..).and_then(find_start_code);
            let Some(at) = found.map(|at| at + self.searched) else { break };
            let before = self.buffer.split_to(at);
            let _start_code = self.buffer.split_to(3);
            self.searched = 0;
            self.emit(before, &mut emit);
            self.started = true;
        }
        self.searched = self.buffer.len().saturating_sub(2);
        if self.buffer.len() > MAX_NAL_BYTES {
            let keep = self.buffer.split_off(self.searched);
            self.buffer = keep;
            self.searched = 0;
            self.started = false;
        }
    }

    /// Hands the last NAL unit to `emit`: the stream has ended or the next bytes do not continue it.
    pub fn flush(&mut self, mut emit: impl FnMut(Bytes)) {
        let last = self.buffer.split();
        self.emit(last, &mut emit);
        *self = Self::new();
    }

    fn emit(&self, mut nal: BytesMut, emit: &mut impl FnMut(Bytes)) {
        nal.truncate(without_trailing_zeros(&nal).len());
        if self.started && !nal.is_empty() {
            emit(nal.freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_start_codes_and_padding() {
        let data = [9, 0, 0, 1, 0x67, 1, 0, 0, 0, 0, 1, 0x68, 2, 0, 0, 1, 0, 0, 1, 0x65, 3, 0, 0, 0];
        let nals: Vec<_> = split(&data).collect();
        assert_eq!(nals, [&[0x67, 1][..], &[0x68, 2], &[0x65, 3]]);
    }

    /// Several NAL units in one RTP packet, as V380 cameras send them.
    #[test]
    fn glued_nal_units_come_apart() {
        let glued = [0x67, 0x42, 0xe0, 0x1f, 0, 0, 0, 1, 0x68, 0xce, 0, 0, 1, 0x65, 1];
        let nals: Vec<_> = split_glued(&glued).collect();
        assert_eq!(nals, [&[0x67, 0x42, 0xe0, 0x1f][..], &[0x68, 0xce], &[0x65, 1]]);
        assert_eq!(split_glued(&[0, 0, 0, 1, 0x65, 1]).collect::<Vec<_>>(), [&[0x65, 1][..]]);
    }

    fn nal() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0_u8..6, 0..30).prop_map(|body| {
            let mut rbsp = vec![0x65];
            rbsp.extend(body);
            rbsp.push(0x80);
            crate::nal::escape(&rbsp)
        })
    }

    proptest! {
        #[test]
        fn writing_and_splitting_round_trip(nals in proptest::collection::vec(nal(), 0..8), chunk in 1_usize..40) {
            let mut out = BytesMut::new();
            write(nals.iter().map(Vec::as_slice), &mut out);
            prop_assert_eq!(split(&out).collect::<Vec<_>>(), nals.clone());

            let mut splitter = Splitter::new();
            let mut seen = Vec::new();
            out.chunks(chunk).for_each(|piece| splitter.push(piece, |nal| seen.push(nal.to_vec())));
            splitter.flush(|nal| seen.push(nal.to_vec()));
            prop_assert_eq!(seen, nals);
        }

        #[test]
        fn any_bytes_in_any_chunks(data in proptest::collection::vec(0_u8..4, 0..200), chunk in 1_usize..20) {
            let whole: Vec<_> = split(&data).map(<[u8]>::to_vec).collect();
            let mut splitter = Splitter::new();
            let mut seen = Vec::new();
            data.chunks(chunk).for_each(|piece| splitter.push(piece, |nal| seen.push(nal.to_vec())));
            splitter.flush(|nal| seen.push(nal.to_vec()));
            prop_assert_eq!(seen, whole);
        }
    }
}
