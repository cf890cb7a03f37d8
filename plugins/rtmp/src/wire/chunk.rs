//! Chunks: messages cut into pieces, several at a time. Section 5.3.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of a chunk until a peer says otherwise.
pub const DEFAULT_CHUNK_BYTES: usize = 128;
/// Bytes of our chunks.
pub const OUR_CHUNK_BYTES: usize = 65_536;
/// Largest message, in bytes (10 MiB). Aggregate and media messages alike.
pub const MAX_MESSAGE_BYTES: usize = 10 << 20;
/// Largest message of a peer that has not said yet what it wants, in bytes.
pub const MAX_EARLY_MESSAGE_BYTES: usize = 64 << 10;
/// Chunk streams that a peer may use at a time.
pub const MAX_CHUNK_STREAMS: usize = 64;
/// Bytes of messages that are not complete yet, of all chunk streams.
pub const MAX_PARTIAL_BYTES: usize = 2 * MAX_MESSAGE_BYTES;
/// A 24-bit time of this value says: 32 bits follow.
pub const EXTENDED: u32 = 0xff_ffff;

/// Type of the message that sets the chunk size.
const SET_CHUNK_SIZE: u8 = 1;
/// Type of the message that drops what came of a message.
const ABORT: u8 = 2;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is, section 7.1.
    pub kind: u8,
    /// Milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// 0 for the connection itself.
    pub stream_id: u32,
    /// The body.
    pub payload: Bytes,
}

/// The chunks broke. The connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A header that refers to one before it, where there is none.
    #[error("a chunk of type {kind} begins chunk stream {id}")]
    NoHeader {
        /// Type of the header.
        kind: u8,
        /// Chunk stream.
        id: u32,
    },
    /// A message larger than the limit.
    #[error("a message of {size} bytes is longer than {max}")]
    TooLong {
        /// What it says.
        size: usize,
        /// The limit at this time.
        max: usize,
    },
    /// A chunk size of 0.
    #[error("a chunk size of 0")]
    ChunkSize,
    /// More than [`MAX_CHUNK_STREAMS`].
    #[error("more than {MAX_CHUNK_STREAMS} chunk streams")]
    TooManyStreams,
    /// More than [`MAX_PARTIAL_BYTES`].
    #[error("more than {MAX_PARTIAL_BYTES} bytes of messages that do not end")]
    TooMuch,
}

/// Puts messages together.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    chunk_bytes: usize,
    max_message: usize,
    streams: BTreeMap<u32, Stream>,
    partial_bytes: usize,
}

/// The newest header of a chunk stream, and what came of its message.
#[derive(Debug, Default)]
struct Stream {
    kind: u8,
    length: usize,
    stream_id: u32,
    timestamp: u32,
    delta: u32,
    /// The 32-bit field of the newest header, when it had one.
    extended: Option<u32>,
    partial: BytesMut,
    /// A message has begun.
    is_open: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            max_message: MAX_EARLY_MESSAGE_BYTES,
            streams: BTreeMap::new(),
            partial_bytes: 0,
        }
    }
}

impl Reader {
    /// A reader with the protocol's first chunk size, for messages of up to [`MAX_EARLY_MESSAGE_BYTES`].
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on messages may have up to [`MAX_MESSAGE_BYTES`].
    pub fn allow_media(&mut self) {
        self.max_message = MAX_MESSAGE_BYTES;
    }

    /// Adds bytes.
    pub fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.buffer.len() + self.partial_bytes
    }

    /// The next message; `None`: more bytes are needed. Chunk sizes and aborts are seen to.
    pub fn poll(&mut self) -> Result<Option<Message>, Error> {
        loop {
            let Some(message) = self.chunk()? else { return Ok(None) };
            let Some(message) = message else { continue };
            let value = message.payload.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
            match (message.kind, value) {
                (SET_CHUNK_SIZE, Some(size)) => {
                    self.chunk_bytes = usize::try_from(size & 0x7fff_ffff).unwrap_or(usize::MAX);
                    if self.chunk_bytes == 0 {
                        return Err(Error::ChunkSize);
                    }
                }
                (ABORT, Some(id)) => {
                    if let Some(stream) = self.streams.get_mut(&id) {
                        self.partial_bytes -= stream.partial.len();
                        stream.partial.clear();
                        stream.is_open = false;
                    }
                }
                _ => return Ok(Some(message)),
            }
        }
    }

    /// Takes one chunk off the buffer: the message that ends with it, if one does. The outer `None`: more bytes are needed.
    fn chunk(&mut self) -> Result<Option<Option<Message>>, Error> {
        let mut rest = self.buffer.as_ref();
        let Some((kind, id)) = basic_header(&mut rest) else { return Ok(None) };
        let known = self.streams.get(&id);
        if known.is_none() && kind != 0 {
            // Some encoders begin with type 1, whose time then counts from 0.
            if kind != 1 {
                return Err(Error::NoHeader { kind, id });
            }
        }
        if known.is_none() && self.streams.len() >= MAX_CHUNK_STREAMS {
            return Err(Error::TooManyStreams);
        }
        let Some(header) = Header::read(kind, known, &mut rest) else { return Ok(None) };
        if header.length > self.max_message {
            return Err(Error::TooLong { size: header.length, max: self.max_message });
        }
        let come = if header.begins { 0 } else { known.map_or(0, |stream| stream.partial.len()) };
        let size = header.length.saturating_sub(come).min(self.chunk_bytes);
        if rest.len() < size {
            return Ok(None);
        }
        let skip = self.buffer.len() - rest.len();
        self.buffer.advance(skip);
        let stream = self.streams.entry(id).or_default();
        if header.begins {
            // A message that has not ended is given up.
            self.partial_bytes -= stream.partial.len();
            stream.partial.clear();
            stream.begin(&header);
        }
        if stream.partial.is_empty() && size == stream.length {
            stream.is_open = false;
            let payload = self.buffer.split_to(size).freeze();
            return Ok(Some(Some(stream.message(payload))));
        }
        if self.partial_bytes + size > MAX_PARTIAL_BYTES {
            return Err(Error::TooMuch);
        }
        let piece = self.buffer.split_to(size);
        stream.partial.extend_from_slice(&piece);
        self.partial_bytes += size;
        if stream.partial.len() < stream.length {
            return Ok(Some(None));
        }
        stream.is_open = false;
        let payload = stream.partial.split().freeze();
        self.partial_bytes -= payload.len();
        Ok(Some(Some(stream.message(payload))))
    }
}

impl Stream {
    fn begin(&mut self, header: &Header) {
        self.kind = header.kind;
        self.length = header.length;
        self.stream_id = header.stream_id;
        self.timestamp = header.timestamp;
        self.delta = header.delta;
        self.extended = header.extended;
        self.is_open = true;
    }

    fn message(&self, payload: Bytes) -> Message {
        Message { kind: self.kind, timestamp: self.timestamp, stream_id: self.stream_id, payload }
    }
}

/// A chunk's message header, with what it takes from the one before.
#[derive(Debug)]
struct Header {
    kind: u8,
    length: usize,
    stream_id: u32,
    timestamp: u32,
    delta: u32,
    extended: Option<u32>,
    /// It is the first of its message.
    begins: bool,
}

impl Header {
    fn read(form: u8, known: Option<&Stream>, rest: &mut &[u8]) -> Option<Self> {
        let default = Stream::default();
        let known = known.unwrap_or(&default);
        let (mut time, mut kind, mut length, mut stream_id) = (0, known.kind, known.length, known.stream_id);
        if form <= 2 {
            let [a, b, c] = take::<3>(rest)?;
            time = u32::from_be_bytes([0, a, b, c]);
        }
        if form <= 1 {
            let [a, b, c, of] = take::<4>(rest)?;
            length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
            kind = of;
        }
        if form == 0 {
            stream_id = u32::from_le_bytes(take::<4>(rest)?);
        }
        let extended = if form <= 2 {
            if time == EXTENDED { Some(u32::from_be_bytes(take::<4>(rest)?)) } else { None }
        } else if let Some(before) = known.extended {
            // It should stand here again; some senders leave it out.
            let next = rest.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
            match next {
                None if before.to_be_bytes().starts_with(rest) => return None,
                Some(next) if next == before => {
                    take::<4>(rest)?;
                    Some(before)
                }
                _ => Some(before),
            }
        } else {
            None
        };
        let time = extended.filter(|_| form <= 2).unwrap_or(time);
        let begins = form <= 2 || !known.is_open;
        let (timestamp, delta) = match form {
            // A message of type 3 behind one of type 0 takes its time as a step: section 5.3.1.2.4.
            0 => (time, time),
            1 | 2 => (known.timestamp.wrapping_add(time), time),
            _ if begins => (known.timestamp.wrapping_add(known.delta), known.delta),
            _ => (known.timestamp, known.delta),
        };
        Some(Self { kind, length, stream_id, timestamp, delta, extended, begins })
    }
}

/// Type and chunk stream of a chunk.
fn basic_header(rest: &mut &[u8]) -> Option<(u8, u32)> {
    let [first] = take::<1>(rest)?;
    let id = match first & 0x3f {
        0 => {
            let [a] = take::<1>(rest)?;
            64 + u32::from(a)
        }
        1 => {
            let [a, b] = take::<2>(rest)?;
            64 + u32::from(a) + u32::from(b) * 256
        }
        id => u32::from(id),
    };
    Some((first >> 6, id))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*head)
}

/// Bytes of the header of [`write()`] while times fit 24 bits.
pub const HEADER_BYTES: usize = 12;

/// Writes a message, its body in parts, on chunk stream `id` (2 to 63) in chunks of `chunk_bytes`.
pub fn write(id: u8, message: (u8, u32, u32), parts: &[&[u8]], chunk_bytes: usize, out: &mut BytesMut) {
    let (kind, timestamp, stream_id) = message;
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let is_extended = timestamp >= EXTENDED;
    out.reserve(length + length / chunk_bytes * 5 + HEADER_BYTES + 4);
    out.put_u8(id & 0x3f);
    put_u24(timestamp.min(EXTENDED), out);
    put_u24(u32::try_from(length).unwrap_or(EXTENDED), out);
    out.put_u8(kind);
    out.put_u32_le(stream_id);
    if is_extended {
        out.put_u32(timestamp);
    }
    let mut room = chunk_bytes;
    for part in parts {
        let mut part = *part;
        while !part.is_empty() {
            if room == 0 {
                out.put_u8(0xc0 | id & 0x3f);
                if is_extended {
                    out.put_u32(timestamp);
                }
                room = chunk_bytes;
            }
            let (now, later) = part.split_at_checked(room).unwrap_or((part, &[]));
            out.put_slice(now);
            room -= now.len();
            part = later;
        }
    }
}

/// The first header of `written` by [`write()`] with another time, which must fit 24 bits; the same header if it has none.
pub fn retimed_header(written: &[u8], timestamp: u32) -> Option<[u8; HEADER_BYTES]> {
    let mut header = *written.first_chunk::<HEADER_BYTES>()?;
    let [_, time @ ..] = timestamp.min(EXTENDED - 1).to_be_bytes();
    header.get_mut(1..4)?.copy_from_slice(&time);
    Some(header)
}

/// Messages made by [`write()`] one behind the other with times below [`EXTENDED`], written again with another time.
pub fn retime(mut written: &[u8], timestamp: u32, chunk_bytes: usize, out: &mut BytesMut) {
    while let Some(header) = written.first_chunk::<HEADER_BYTES>() {
        let [id, _, _, _, l0, l1, l2, kind, s0, s1, s2, s3] = *header;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let mut rest = written.get(HEADER_BYTES..).unwrap_or_default();
        let mut parts = Vec::new();
        let mut left = length;
        while left > 0 {
            let Some((now, later)) = rest.split_at_checked(left.min(chunk_bytes)) else { return };
            parts.push(now);
            left -= now.len();
            rest = if left > 0 { later.get(1..).unwrap_or_default() } else { later };
        }
        let stream_id = u32::from_le_bytes([s0, s1, s2, s3]);
        write(id, (kind, timestamp, stream_id), &parts, chunk_bytes, out);
        written = rest;
    }
}

fn put_u24(value: u32, out: &mut BytesMut) {
    let [_, bytes @ ..] = value.to_be_bytes();
    out.put_slice(&bytes);
}

#[cfg(test)]
mod tests;
