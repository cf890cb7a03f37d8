//! NAL units with 4-byte big-endian length prefixes, the form of H.264 and H.265 inside a [`crate::Unit`].

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

/// The NAL units of `length_prefixed`, without their lengths. Ends at the first bad length; passes over empty ones.
pub fn units(length_prefixed: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = length_prefixed;
    std::iter::from_fn(move || {
        loop {
            let (nal, after) = next(rest)?;
            rest = after;
            if !nal.is_empty() {
                return Some(nal);
            }
        }
    })
}

/// `nals` with a 4-byte length before each. Empty ones are left out.
pub fn to_length_prefixed<'a>(nals: impl Iterator<Item = &'a [u8]> + Clone) -> Bytes {
    let capacity = nals.clone().map(|nal| nal.len() + 4).sum();
    let mut out = BytesMut::with_capacity(capacity);
    for nal in nals {
        let Ok(length) = u32::try_from(nal.len()) else { continue };
        if length > 0 {
            out.put_u32(length);
            out.put_slice(nal);
        }
    }
    out.freeze()
}

/// Whether `length_prefixed` holds at least one NAL unit, none empty, and nothing else.
pub fn well_formed(length_prefixed: &[u8]) -> bool {
    let mut rest = length_prefixed;
    while let Some((nal, after)) = next(rest) {
        if nal.is_empty() {
            return false;
        }
        rest = after;
        if rest.is_empty() {
            return true;
        }
    }
    false
}

/// A NAL unit, header included, without emulation prevention bytes: `00 00 03` becomes `00 00`.
/// H.264 7.4.1, H.265 7.4.2.
pub fn unescape(nal: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = find_escape(nal) else { return Cow::Borrowed(nal) };
    let mut out = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    let (clean, rest) = nal.split_at(first);
    out.extend_from_slice(clean);
    for &byte in rest {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    Cow::Owned(out)
}

/// `nal` with emulation prevention bytes, the inverse of [`unescape`].
pub fn escape(rbsp: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rbsp.len() + rbsp.len() / 64 + 1);
    let mut zeros = 0;
    for &byte in rbsp {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    if zeros >= 2 {
        out.push(3);
    }
    out
}

/// `nal` without the zero bytes behind it, which belong to the byte stream and not to the NAL unit.
pub fn without_trailing_zeros(nal: &[u8]) -> &[u8] {
    let end = nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    nal.get(..end).unwrap_or_default()
}

fn next(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// Where the first `00 00 03` begins.
fn find_escape(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some([a, b, c]) = data.get(at..at + 3) {
        match (a, b, c) {
            (0, 0, 3) => return Some(at),
            (_, _, 0 | 3) => at += 1,
            _ => at += 3,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bad_length_ends_the_walk() {
        let data = [0, 0, 0, 2, 0x65, 1, 0, 0, 0, 9, 0x41];
        assert_eq!(units(&data).collect::<Vec<_>>(), [&[0x65, 1][..]]);
        assert!(!well_formed(&data));
        assert!(well_formed(&data[..6]));
        assert!(!well_formed(&[]));
    }

    #[test]
    fn escapes_are_removed_once() {
        assert_eq!(&*unescape(&[1, 0, 0, 3, 1, 0, 0, 3, 0, 0, 3]), &[1, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(&*unescape(&[0, 0, 0, 3, 0]), &[0, 0, 0, 0]);
        assert!(matches!(unescape(&[0, 3, 0, 0, 4]), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn prefixes_round_trip(nals in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 1..8)) {
            let data = to_length_prefixed(nals.iter().map(Vec::as_slice));
            prop_assert!(well_formed(&data));
            prop_assert_eq!(units(&data).collect::<Vec<_>>(), nals);
        }

        #[test]
        fn escaping_round_trips(rbsp in proptest::collection::vec(0_u8..5, 0..60)) {
            let escaped = escape(&rbsp);
            prop_assert!(!escaped.windows(3).any(|w| w[0] == 0 && w[1] == 0 && w[2] < 3));
            prop_assert_eq!(&*unescape(&escaped), &rbsp[..]);
        }

        #[test]
        fn any_bytes_never_panic(data: Vec<u8>) {
            let total: usize = units(&data).map(<[u8]>::len).sum();
            prop_assert!(total <= data.len());
            prop_assert!(unescape(&data).len() <= data.len());
        }
    }
}
