//! The head of a response.

use bytes::{Buf, BytesMut};

/// Most bytes of a status line and its headers.
pub const MAX_HEAD_BYTES: usize = 32 << 10;

/// Status line and headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Reason phrase; may be empty.
    pub reason: String,
    /// Headers in their order, blanks at both ends of the values removed.
    pub headers: Vec<(String, String)>,
}

/// Why bytes are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The first line is no status line.
    #[error("what the server sends is no HTTP")]
    NotHttp,
    /// The head does not end.
    #[error("the head is longer than {MAX_HEAD_BYTES} bytes")]
    TooLong,
    /// The connection ended in the head.
    #[error("the server closed the connection after {received} bytes of its answer")]
    Ended {
        /// Bytes received.
        received: usize,
    },
}

impl Head {
    /// First value of the header `name`, without case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// All values of the header `name`, without case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Takes a head off the front of `buffer`; `None` when more bytes are needed. Lines may end in LF alone, the reason may
    /// be absent, headers may be folded; `ICY 200 OK` counts as HTTP.
    pub fn take(buffer: &mut BytesMut) -> Result<Option<Self>, HeadError> {
        let blank = buffer.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        buffer.advance(blank);
        let starts = |prefix: &[u8]| {
            let len = prefix.len().min(buffer.len());
            buffer.get(..len) == prefix.get(..len)
        };
        if !starts(b"HTTP/") && !starts(b"ICY ") {
            return Err(HeadError::NotHttp);
        }
        let Some(len) = len(buffer) else {
            return if buffer.len() > MAX_HEAD_BYTES { Err(HeadError::TooLong) } else { Ok(None) };
        };
        if len > MAX_HEAD_BYTES {
            return Err(HeadError::TooLong);
        }
        let head = buffer.split_to(len);
        parse(&head).ok_or(HeadError::NotHttp).map(Some)
    }
}

/// Bytes up to and with the first empty line.
fn len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        at += line.len();
        if matches!(line, b"\n" | b"\r\n") {
            return Some(at);
        }
    }
    None
}

fn parse(head: &[u8]) -> Option<Head> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let (_, rest) = lines.next()?.split_once(' ')?;
    let (code, reason) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
    let status = code.parse().ok().filter(|status| (100..1000).contains(status))?;
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = headers.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    Some(Head { status, reason: reason.trim().to_owned(), headers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(text: &str) -> Head {
        Head::take(&mut BytesMut::from(text)).unwrap().unwrap()
    }

    #[test]
    fn odd_heads() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\n",
            "HTTP/1.0 200\ncontent-TYPE:a/b\n\n",
            "\r\nICY 200 OK\r\nContent-Type : a/b \r\n\r\n",
            "HTTP/1.1  200  OK\r\nno colon\r\nContent-Type:\r\n a/b\r\n\r\n",
        ] {
            let head = take(text);
            assert_eq!(
                (head.status, head.get("Content-Type").map(str::trim)),
                (200, Some("a/b")),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_no_head() {
        for (bytes, error) in [
            (b"\x16\x03\x01".to_vec(), HeadError::NotHttp),
            (b"HTTP/1.1 abc\r\n\r\n".to_vec(), HeadError::NotHttp),
            ([b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; MAX_HEAD_BYTES]].concat(), HeadError::TooLong),
        ] {
            assert_eq!(Head::take(&mut BytesMut::from(&bytes[..])), Err(error));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Head::take(&mut BytesMut::from(&bytes[..]));
            let text = [b"HTTP/1.1 ", &bytes[..]].concat();
            let _ = Head::take(&mut BytesMut::from(&text[..]));
        }

        #[test]
        fn any_cut_gives_the_same_head(cut in 0usize..60) {
            let text = b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 3\r\n\r\nxyz";
            let mut whole = BytesMut::from(&text[..]);
            let expected = Head::take(&mut whole);
            let (a, b) = text.split_at(cut.min(text.len()));
            let mut buffer = BytesMut::from(a);
            let first = Head::take(&mut buffer).unwrap();
            buffer.extend_from_slice(b);
            let head = match first { Some(head) => Ok(Some(head)), None => Head::take(&mut buffer) };
            prop_assert_eq!(head, expected);
            prop_assert_eq!(&buffer[..], b"xyz");
        }
    }
}
