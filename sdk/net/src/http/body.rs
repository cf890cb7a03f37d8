//! The body of a response.

use bytes::{Buf, Bytes, BytesMut};

use super::Head;

/// Longest line that states a chunk's size.
const MAX_CHUNK_LINE: usize = 1 << 10;
/// Most bytes of trailers.
const MAX_TRAILER_BYTES: usize = 16 << 10;

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its length.
    Length(u64),
    /// By chunks (RFC 9112 section 7.1), also of HTTP/1.0 servers.
    Chunked,
    /// By the end of the connection: no length, or one that is no number.
    UntilClose,
}

impl Framing {
    /// Framing of the response to a request with `method`.
    pub fn of(head: &Head, method: &str) -> Self {
        if method == "HEAD" || matches!(head.status, 204 | 304) {
            return Self::Length(0);
        }
        let mut codings = head.all("Transfer-Encoding").flat_map(|line| line.split(','));
        if codings.any(|coding| coding.trim().eq_ignore_ascii_case("chunked")) {
            return Self::Chunked;
        }
        match head.all("Content-Length").find_map(|text| text.parse().ok()) {
            Some(len) => Self::Length(len),
            None => Self::UntilClose,
        }
    }
}

/// Why a body cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// No hexadecimal number where a chunk's size belongs.
    #[error("a chunk of the body has no size")]
    ChunkSize,
    /// The trailers do not end.
    #[error("the trailers are longer than {MAX_TRAILER_BYTES} bytes")]
    TrailersTooLong,
}

/// Takes the framing off a body as its bytes come.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Data of which so much is left; `None` without limit.
    Data(Option<u64>),
    /// The line end behind a chunk, then a size.
    Size,
    Trailers {
        seen: usize,
    },
    Complete,
}

impl Decoder {
    /// A decoder for one body.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Complete,
            Framing::Length(len) => State::Data(Some(len)),
            Framing::Chunked => State::Size,
            Framing::UntilClose => State::Data(None),
        };
        Self { framing, state }
    }

    /// Takes the next piece of the body off `buffer`; `None` when more bytes are needed or the body is complete.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, BodyError> {
        loop {
            match self.state {
                State::Complete => return Ok(None),
                State::Data(_) if buffer.is_empty() => return Ok(None),
                State::Data(None) => return Ok(Some(buffer.split().freeze())),
                State::Data(Some(left)) => {
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    let left = left - len as u64;
                    self.state = match (left, self.framing) {
                        (0, Framing::Chunked) => State::Size,
                        (0, _) => State::Complete,
                        _ => State::Data(Some(left)),
                    };
                    return Ok(Some(buffer.split_to(len).freeze()));
                }
                State::Size => {
                    let Some(line) = take_line(buffer) else {
                        let too_long = buffer.len() > MAX_CHUNK_LINE;
                        return if too_long { Err(BodyError::ChunkSize) } else { Ok(None) };
                    };
                    if line.is_empty() {
                        continue; // the end of the chunk before
                    }
                    if line.len() > MAX_CHUNK_LINE {
                        return Err(BodyError::ChunkSize);
                    }
                    let text = std::str::from_utf8(&line).map_err(|_| BodyError::ChunkSize)?;
                    let text = text.split(';').next().unwrap_or_default().trim();
                    let is_hex = text.bytes().all(|b| b.is_ascii_hexdigit());
                    let size = u64::from_str_radix(text, 16).ok().filter(|_| is_hex);
                    self.state = match size.ok_or(BodyError::ChunkSize)? {
                        0 => State::Trailers { seen: 0 },
                        size => State::Data(Some(size)),
                    };
                }
                State::Trailers { seen } => {
                    let Some(line) = take_line(buffer) else {
                        let too_long = seen + buffer.len() > MAX_TRAILER_BYTES;
                        return if too_long { Err(BodyError::TrailersTooLong) } else { Ok(None) };
                    };
                    let seen = seen + line.len();
                    self.state = if line.is_empty() { State::Complete } else { State::Trailers { seen } };
                    if seen > MAX_TRAILER_BYTES {
                        return Err(BodyError::TrailersTooLong);
                    }
                }
            }
        }
    }

    /// Whether the body has come to its end.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Whether the connection may end here without a loss.
    pub fn may_end(&self) -> bool {
        matches!(self.state, State::Complete | State::Data(None) | State::Trailers { .. })
    }

    /// Length that the head stated.
    pub fn len(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(len) => Some(len),
            _ => None,
        }
    }

    /// Whether the head stated a length of 0.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

/// Takes a line without its end off the front.
fn take_line(buffer: &mut BytesMut) -> Option<BytesMut> {
    let end = buffer.iter().position(|b| *b == b'\n')?;
    let mut line = buffer.split_to(end);
    buffer.advance(1);
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(framing: Framing, bytes: &[u8], cut: usize) -> (Result<Vec<u8>, BodyError>, bool) {
        let mut decoder = Decoder::new(framing);
        let mut buffer = BytesMut::new();
        let mut body = Vec::new();
        for piece in bytes.chunks(cut.max(1)) {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.take(&mut buffer) {
                    Ok(Some(data)) => body.extend_from_slice(&data),
                    Ok(None) => break,
                    Err(error) => return (Err(error), false),
                }
            }
        }
        (Ok(body), decoder.is_complete())
    }

    fn head(headers: &[(&str, &str)]) -> Head {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Head { status: 200, reason: String::new(), headers }
    }

    #[test]
    fn framings() {
        for (headers, framing) in [
            (vec![("content-length", "12")], Framing::Length(12)),
            (vec![("Content-Length", "-1")], Framing::UntilClose),
            (vec![("Content-Length", "")], Framing::UntilClose),
            (vec![("Content-Length", "99999999999999999999999")], Framing::UntilClose),
            (vec![("Content-Length", "18446744073709551615")], Framing::Length(u64::MAX)),
            (vec![("Content-Length", "x"), ("Content-Length", "7")], Framing::Length(7)),
            (vec![("Transfer-Encoding", "Chunked"), ("Content-Length", "3")], Framing::Chunked),
            (vec![], Framing::UntilClose),
        ] {
            assert_eq!(Framing::of(&head(&headers), "GET"), framing, "{headers:?}");
        }
        assert_eq!(Framing::of(&head(&[("Content-Length", "3")]), "HEAD"), Framing::Length(0));
    }

    #[test]
    fn odd_chunks() {
        for text in [
            "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
            "3\nabc\n2 \nde\n0\nX: y\n\n",
            "0003\r\nabc2\r\nde00\r\nA: b\r\n\r\n",
        ] {
            for cut in 1..10 {
                assert_eq!(
                    decode(Framing::Chunked, text.as_bytes(), cut),
                    (Ok(b"abcde".to_vec()), true),
                    "{text:?}"
                );
            }
        }
        for text in ["x\r\n", "+3\r\nabc", "ffffffffffffffffff\r\n", "-1\r\n"] {
            assert_eq!(
                decode(Framing::Chunked, text.as_bytes(), 99).0,
                Err(BodyError::ChunkSize),
                "{text:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_and_cuts(bytes: Vec<u8>, cut in 1usize..20, len in 0u64..50) {
            for framing in [Framing::Chunked, Framing::Length(len), Framing::UntilClose] {
                prop_assert_eq!(decode(framing, &bytes, cut), decode(framing, &bytes, usize::MAX));
            }
        }

        #[test]
        fn chunks_round_trip(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..8), cut in 1usize..30) {
            let mut text = Vec::new();
            for piece in &pieces {
                text.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                text.extend(piece);
                text.extend(b"\r\n");
            }
            text.extend(b"0\r\n\r\n");
            prop_assert_eq!(decode(Framing::Chunked, &text, cut), (Ok(pieces.concat()), true));
        }
    }
}
