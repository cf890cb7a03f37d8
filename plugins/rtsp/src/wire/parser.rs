//! The incremental parser of a connection's bytes.

use bytes::{Buf, Bytes, BytesMut};

use super::{Headers, Request, Response};

/// Most bytes of a first line and its headers.
pub const MAX_HEADER_BYTES: usize = 16 << 10;
/// Most bytes of a request's body: an SDP.
pub const MAX_REQUEST_BODY: usize = 64 << 10;
/// Most bytes of a response's body.
pub const MAX_RESPONSE_BODY: usize = 1 << 20;
/// Junk in a row after which the connection is given up (C83).
pub const MAX_JUNK_BYTES: usize = 64 << 10;
/// Channels that are believed while looking for the next frame behind junk (C83).
const MAX_RESYNC_CHANNEL: u8 = 32;
/// Longest request line of a method that is not in [`METHODS`].
const MAX_UNKNOWN_LINE: usize = 1 << 10;
/// Longest method that is not in [`METHODS`].
const MAX_METHOD: usize = 32;
/// Bytes that one read of the connection may bring.
const READ_BYTES: usize = 64 << 10;

/// Start of every response.
const RESPONSE: &[u8] = b"RTSP/";
/// Methods that are believed to be text wherever they appear.
const METHODS: [&[u8]; 12] = [
    b"OPTIONS ",
    b"DESCRIBE ",
    b"ANNOUNCE ",
    b"SETUP ",
    b"PLAY ",
    b"PAUSE ",
    b"RECORD ",
    b"TEARDOWN ",
    b"GET_PARAMETER ",
    b"SET_PARAMETER ",
    b"REDIRECT ",
    b"PLAY_NOTIFY ",
];

/// What a connection brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A request of the peer.
    Request(Request),
    /// A response of the peer.
    Response(Response),
    /// An interleaved frame: a slice of the receive buffer.
    Interleaved {
        /// Channel of the frame.
        channel: u8,
        /// RTP or RTCP packet.
        data: Bytes,
    },
}

/// Why a connection cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The head of a message does not end.
    #[error("the head of a message is longer than {MAX_HEADER_BYTES} bytes")]
    HeadTooLong,
    /// A body is larger than its limit.
    #[error("a body of {len} bytes is over the limit of {max}")]
    BodyTooLong {
        /// Bytes announced.
        len: u64,
        /// The limit.
        max: usize,
    },
    /// No message was found for [`MAX_JUNK_BYTES`].
    #[error("{MAX_JUNK_BYTES} bytes in a row are neither a message nor a frame")]
    Junk,
}

/// Takes the bytes of one connection as they come; gives its messages and frames. The result does not depend on how the
/// bytes are cut.
///
/// Bytes that are neither are skipped until the next `$` frame that is followed by another header, or the next message
/// (C83).
#[derive(Debug, Default)]
pub struct Parser {
    buffer: BytesMut,
    /// Bytes of an unfinished head that hold no empty line.
    scanned: usize,
    /// The head of a message whose body is awaited.
    pending: Option<Pending>,
    /// Junk skipped since the last item; 0 means in step.
    junk: usize,
    total_junk: u64,
    body_until_next: bool,
    failed: Option<WireError>,
}

#[derive(Debug)]
struct Pending {
    message: Head,
    body: Body,
}

#[derive(Debug)]
enum Head {
    Request(Request),
    Response(Response),
}

#[derive(Debug, Clone, Copy)]
enum Body {
    Length(usize),
    /// Up to the next response or [`Parser::end_body`]; no response starts before this offset.
    UntilNext(usize),
}

/// What the bytes at the front of the buffer are.
enum Front {
    NeedMore,
    Text,
    Frame { len: usize },
    Junk,
}

enum Match {
    Full,
    Partial,
    No,
}

impl Parser {
    /// A parser for a new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The receive buffer with room for a read, to be filled in place (`read_buf`) instead of [`Parser::push`].
    /// Nothing may be removed from it.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 8 {
            self.buffer.reserve(READ_BYTES);
        }
        &mut self.buffer
    }

    /// Whether responses with status 200 and without a valid `Content-Length` have a body that reaches to the next
    /// response or to [`Parser::end_body`]: set while the answer to DESCRIBE is awaited (C10).
    pub fn set_body_until_next(&mut self, on: bool) {
        self.body_until_next = on;
    }

    /// Whether a message waits for (more of) its body.
    pub fn is_in_body(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether the message that is being received has a body without a known length.
    pub fn is_in_open_body(&self) -> bool {
        matches!(self.pending, Some(Pending { body: Body::UntilNext(_), .. }))
    }

    /// Ends the body of the message that is being received with what has arrived: the caller saw silence (C10).
    pub fn end_body(&mut self) -> Option<Item> {
        let pending = self.pending.take()?;
        let len = match pending.body {
            Body::Length(len) => len.min(self.buffer.len()),
            Body::UntilNext(_) => self.buffer.len().min(MAX_RESPONSE_BODY),
        };
        Some(self.complete(pending.message, len))
    }

    /// Junk bytes skipped so far.
    pub fn junk_bytes(&self) -> u64 {
        self.total_junk
    }

    /// The next item; `None` when more bytes are needed. An error is final.
    pub fn next_item(&mut self) -> Result<Option<Item>, WireError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.advance();
        if let Err(error) = result {
            self.failed = Some(error);
            self.buffer = BytesMut::new();
        }
        result
    }

    fn advance(&mut self) -> Result<Option<Item>, WireError> {
        loop {
            if self.pending.is_some() {
                return self.body();
            }
            match self.front() {
                Front::NeedMore => return Ok(None),
                Front::Frame { len } => {
                    let mut frame = self.buffer.split_to(4 + len).freeze();
                    frame.advance(1);
                    let channel = frame.get_u8();
                    frame.advance(2);
                    self.junk = 0;
                    return Ok(Some(Item::Interleaved { channel, data: frame }));
                }
                Front::Junk => self.skip(1)?,
                Front::Text => match self.head()? {
                    None => return Ok(None),
                    Some(Ok(())) => {}
                    Some(Err(NotAMessage)) => self.skip(1)?,
                },
            }
        }
    }

    /// Judges the front of the buffer, after skipping blank lines between messages.
    fn front(&mut self) -> Front {
        if self.junk == 0 && self.scanned == 0 {
            let blank = self.buffer.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            self.buffer.advance(blank);
        }
        let Some(first) = self.buffer.first() else { return Front::NeedMore };
        match first {
            b'$' => self.front_frame(),
            b'A'..=b'Z' => match starts_text(&self.buffer) {
                Match::Full => Front::Text,
                Match::Partial => Front::NeedMore,
                Match::No if self.junk == 0 => unknown_method(&self.buffer),
                Match::No => Front::Junk,
            },
            _ => Front::Junk,
        }
    }

    fn front_frame(&self) -> Front {
        let Some((&[_, channel, high, low], _)) = self.buffer.split_first_chunk::<4>() else {
            return Front::NeedMore;
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if self.junk > 0 {
            if channel >= MAX_RESYNC_CHANNEL || len == 0 {
                return Front::Junk;
            }
            // Behind junk a frame is believed when another header follows it
            match self.buffer.get(4 + len..) {
                None | Some([]) => return Front::NeedMore,
                Some([b'$', ..]) => {}
                Some(next) => match starts_text(next) {
                    Match::Full => {}
                    Match::Partial => return Front::NeedMore,
                    Match::No => return Front::Junk,
                },
            }
        }
        if self.buffer.len() < 4 + len { Front::NeedMore } else { Front::Frame { len } }
    }

    fn skip(&mut self, count: usize) -> Result<(), WireError> {
        self.scanned = 0;
        self.buffer.advance(count.min(self.buffer.len()));
        self.junk += count;
        self.total_junk += count as u64;
        if self.junk > MAX_JUNK_BYTES { Err(WireError::Junk) } else { Ok(()) }
    }

    /// Reads the head at the front of the buffer into `pending`.
    fn head(&mut self) -> Result<Option<Result<(), NotAMessage>>, WireError> {
        let Some(len) = head_len(&self.buffer, &mut self.scanned) else {
            return if self.buffer.len() > MAX_HEADER_BYTES { Err(WireError::HeadTooLong) } else { Ok(None) };
        };
        if len > MAX_HEADER_BYTES {
            return Err(WireError::HeadTooLong);
        }
        let Some(message) = self.buffer.get(..len).and_then(parse_head) else {
            return Ok(Some(Err(NotAMessage)));
        };
        self.scanned = 0;
        self.junk = 0;
        self.buffer.advance(len);
        let (headers, max, open) = match &message {
            Head::Request(request) => (&request.headers, MAX_REQUEST_BODY, false),
            Head::Response(response) => {
                (&response.headers, MAX_RESPONSE_BODY, self.body_until_next && response.status == 200)
            }
        };
        let body = match headers.content_length() {
            Some(len) => match usize::try_from(len) {
                Ok(len) if len <= max => Body::Length(len),
                _ => return Err(WireError::BodyTooLong { len, max }),
            },
            None if open => Body::UntilNext(0),
            None => Body::Length(0),
        };
        self.pending = Some(Pending { message, body });
        Ok(Some(Ok(())))
    }

    /// Completes the pending message when its body is there.
    fn body(&mut self) -> Result<Option<Item>, WireError> {
        let Some(mut pending) = self.pending.take() else { return Ok(None) };
        let len = match pending.body {
            Body::Length(len) => (self.buffer.len() >= len).then_some(len),
            Body::UntilNext(from) => {
                let found = next_response(&self.buffer, from);
                pending.body = Body::UntilNext(self.buffer.len().saturating_sub(RESPONSE.len()));
                found
            }
        };
        match len {
            Some(len) => Ok(Some(self.complete(pending.message, len))),
            None if self.buffer.len() > MAX_RESPONSE_BODY => {
                Err(WireError::BodyTooLong { len: self.buffer.len() as u64, max: MAX_RESPONSE_BODY })
            }
            None => {
                self.pending = Some(pending);
                Ok(None)
            }
        }
    }

    fn complete(&mut self, message: Head, len: usize) -> Item {
        let body = self.buffer.split_to(len.min(self.buffer.len())).freeze();
        match message {
            Head::Request(request) => Item::Request(Request { body, ..request }),
            Head::Response(response) => Item::Response(Response { body, ..response }),
        }
    }
}

/// A head that began like a message and is none.
struct NotAMessage;

fn starts_text(bytes: &[u8]) -> Match {
    let mut partial = false;
    for pattern in METHODS.into_iter().chain([RESPONSE]) {
        if bytes.starts_with(pattern) {
            return Match::Full;
        }
        partial |= pattern.starts_with(bytes);
    }
    if partial { Match::Partial } else { Match::No }
}

/// A method that is not known is believed when its line ends as a request line does.
fn unknown_method(bytes: &[u8]) -> Front {
    let line = bytes.iter().position(|b| *b == b'\n');
    let text = bytes.get(..line.unwrap_or(bytes.len())).unwrap_or_default();
    let word = text.iter().take_while(|b| b.is_ascii_uppercase() || **b == b'_').count();
    let plausible = match text.get(word) {
        _ if word > MAX_METHOD => false,
        None => true,
        Some(b' ') => text.iter().all(|b| *b >= b' ' || matches!(b, b'\t' | b'\r')),
        Some(_) => false,
    };
    if !plausible || text.len() > MAX_UNKNOWN_LINE {
        return Front::Junk;
    }
    match line {
        None => Front::NeedMore,
        Some(_) if text.windows(6).any(|w| w == b" RTSP/") => Front::Text,
        Some(_) => Front::Junk,
    }
}

/// Bytes up to and with the first empty line.
fn head_len(bytes: &[u8], scanned: &mut usize) -> Option<usize> {
    let mut at = *scanned;
    loop {
        let rest = bytes.get(at..)?;
        let end = rest.iter().position(|b| *b == b'\n')?;
        let line = rest.get(..end)?;
        at += end + 1;
        if line.is_empty() || line == b"\r" {
            return Some(at);
        }
        *scanned = at;
    }
}

fn parse_head(head: &[u8]) -> Option<Head> {
    let mut lines = head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = String::from_utf8_lossy(lines.next()?);
    let (word, rest) = first.split_once(' ').unwrap_or((&first, ""));
    let rest = rest.trim();
    if word.starts_with("RTSP/") {
        let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let status = code.parse::<u16>().ok().filter(|s| (100..1000).contains(s))?;
        let headers = Headers::parse(lines);
        return Some(Head::Response(Response {
            status,
            reason: reason.trim().to_owned(),
            headers,
            body: Bytes::new(),
        }));
    }
    let url = match rest.rsplit_once(' ') {
        Some((url, version)) if version.starts_with("RTSP/") => url.trim(),
        _ => rest,
    };
    if url.is_empty() {
        return None;
    }
    let headers = Headers::parse(lines);
    Some(Head::Request(Request { method: word.to_owned(), url: url.to_owned(), headers, body: Bytes::new() }))
}

/// Offset of the next line that starts a response.
fn next_response(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = bytes.get(at..)?.windows(RESPONSE.len()).position(|w| w == RESPONSE) {
        let start = at + found;
        if start == 0 || bytes.get(start - 1) == Some(&b'\n') {
            return Some(start);
        }
        at = start + 1;
    }
    None
}
