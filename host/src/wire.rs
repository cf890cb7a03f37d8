//! Frames between the host and a plugin's own process, over a Unix stream socket.
//!
//! A frame is a header of 32 bytes (little-endian: payload length `u32`, kind `u16`, 1 in a `u16` when more parts of the same
//! message follow, `id` `u64`, `x` `u64`, `y` `u64`) and at most 1 MiB of payload. The parts of one message follow each other.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::sandbox::Grants;

/// Version of the frames and their kinds; both sides must have the same. They ship together.
pub const VERSION: u32 = 3;

/// Bytes of a header.
pub const HEADER: usize = 32;

/// Largest payload of one frame, in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// Largest message of several frames, in bytes: a chunk of an output and what goes with it.
pub const MAX_MESSAGE: usize = (64 << 20) + (64 << 10);

/// Descriptors that may wait for the frame that names them.
const MAX_DESCRIPTORS: usize = 64;

/// What a frame says.
#[allow(missing_docs)] // the table functions of their names; arguments in the comment
pub mod kind {
    // Host to child.
    /// [`super::Hello`], the first frame.
    pub const HELLO: u16 = 1;
    /// `id` session, `x` role, payload request.
    pub const OPEN: u16 = 2;
    /// `id` session, `x` kind, payload.
    pub const COMMAND: u16 = 3;
    /// `id` session.
    pub const CLOSE: u16 = 4;
    pub const STOP: u16 = 5;
    /// `id` source, `x` generation; one descriptor of a sealed memory file comes with it.
    pub const RING: u16 = 6;
    /// `id` source, `x` track, `y` epoch, payload the JSON of a track.
    pub const CONFIG: u16 = 7;
    /// `id` source: there is something new.
    pub const WAKE: u16 = 8;
    /// `id` source: it will bring nothing more.
    pub const GONE: u16 = 9;
    /// `id` comes back in [`PONG`].
    pub const PING: u16 = 10;
    /// `id` session; the descriptor of a client's connection comes with it.
    pub const RAW: u16 = 11;
    // Child to host.
    /// `x` the code of `start` (as `u32`); payload a text when the plugin could not even be loaded.
    pub const READY: u16 = 32;
    /// `id` session, `x` the code of `open` (as `u32`).
    pub const FAILED: u16 = 33;
    /// `id` session, `x` kind, payload.
    pub const EMIT: u16 = 34;
    /// `id` session, payload [`super::unit`].
    pub const PUSH: u16 = 35;
    /// `id` session, payload [`super::chunk`].
    pub const WRITE: u16 = 36;
    /// `x` level, `y` length of the target, payload target and event.
    pub const LOG: u16 = 37;
    /// `id` source, `x` ms.
    pub const RETAIN: u16 = 38;
    /// `y` length of the key, payload key and value.
    pub const STATE_PUT: u16 = 39;
    /// `id` source, `x` cursor, `y` mask: wake me when there is something at or after the cursor.
    pub const ARM: u16 = 40;
    /// `id` source, `x` track, `y` epoch: a [`CONFIG`] is missing.
    pub const WANT_CONFIG: u16 = 41;
    pub const PONG: u16 = 42;
    /// Payload the JSON of [`crate::sandbox::InForce`]; before the plugin's library is loaded, later ones are not believed.
    pub const SANDBOX: u16 = 43;
    /// The process becomes a program that speaks this protocol itself: [`HELLO`] again, for that.
    pub const AGAIN: u16 = 44;
}

/// What a child is told first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// [`VERSION`].
    pub wire: u32,
    /// Version of the host's ABI.
    pub abi: String,
    /// The plugin's file.
    pub path: String,
    /// Folder for the private copy that is opened.
    pub copies: String,
    /// The plugin's name.
    pub name: String,
    /// Worker threads.
    pub threads: u32,
    /// Highest log level wanted, 1 to 5.
    pub log_level: u32,
    /// The plugin's settings as YAML text.
    pub settings: String,
    /// Small values that the plugin has kept, by key.
    pub state: std::collections::BTreeMap<String, Vec<u8>>,
    /// Bytes of memory that the child may have (RLIMIT_DATA); 0: no limit, or another one holds it.
    pub memory: u64,
    /// What it may do.
    pub grants: Grants,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// One of [`kind`].
    pub kind: u16,
    /// Session or source.
    pub id: u64,
    /// First number.
    pub x: u64,
    /// Second number.
    pub y: u64,
    /// The rest.
    pub payload: Vec<u8>,
}

fn header(message: &Message, len: usize, more: bool) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let fields: [&[u8]; 6] = [
        &(len as u32).to_le_bytes(),
        &message.kind.to_le_bytes(),
        &u16::from(more).to_le_bytes(),
        &message.id.to_le_bytes(),
        &message.x.to_le_bytes(),
        &message.y.to_le_bytes(),
    ];
    for (to, from) in bytes.iter_mut().zip(fields.concat()) {
        *to = from;
    }
    bytes
}

/// Writes a message. Blocks while the other side does not read.
pub fn send(mut stream: &UnixStream, message: &Message) -> io::Result<()> {
    let mut parts = message.payload.chunks(MAX_PAYLOAD).peekable();
    let mut first = parts.next().unwrap_or_default();
    loop {
        let head = header(message, first.len(), parts.peek().is_some());
        if first.len() <= 16 << 10 {
            stream.write_all(&[&head[..], first].concat())?;
        } else {
            stream.write_all(&head)?;
            stream.write_all(first)?;
        }
        match parts.next() {
            Some(part) => first = part,
            None => return Ok(()),
        }
    }
}

/// Writes messages without payloads at once.
pub fn send_all(mut stream: &UnixStream, messages: impl Iterator<Item = Message>) -> io::Result<()> {
    stream.write_all(&messages.flat_map(|message| header(&message, 0, false)).collect::<Vec<u8>>())
}

/// Writes a message of one frame with a descriptor.
pub fn send_with(stream: &UnixStream, message: &Message, fd: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    if message.payload.len() > MAX_PAYLOAD || !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let bytes = [&header(message, message.payload.len(), false)[..], &message.payload].concat();
    let sent = sendmsg(stream, &[io::IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    let mut stream = stream;
    stream.write_all(bytes.get(sent..).unwrap_or_default())
}

/// Bytes of a socket whose descriptors are kept aside.
pub struct Stream {
    socket: UnixStream,
    descriptors: Arc<Mutex<VecDeque<OwnedFd>>>,
}

impl Stream {
    /// Reads from `socket`.
    pub fn new(socket: UnixStream) -> Self {
        Self { socket, descriptors: Arc::default() }
    }

    /// The descriptors that have come, oldest first.
    pub fn descriptors(&self) -> Arc<Mutex<VecDeque<OwnedFd>>> {
        Arc::clone(&self.descriptors)
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(&self.socket, &mut [io::IoSliceMut::new(buf)], &mut control, flags)?;
        let mut descriptors = self.descriptors.lock();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                descriptors.extend(fds);
            }
        }
        while descriptors.len() > MAX_DESCRIPTORS {
            descriptors.pop_front();
        }
        Ok(got.bytes)
    }
}

/// Puts messages together.
pub struct Reader<R> {
    input: R,
}

impl<R: Read> Reader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self { input }
    }

    /// The next message.
    ///
    /// # Errors
    /// `UnexpectedEof` at the end; `InvalidData` when a length is over its limit or parts do not belong together.
    pub fn message(&mut self) -> io::Result<Message> {
        let mut message = Message::default();
        let mut parts = 0;
        loop {
            let mut bytes = [0; HEADER];
            self.input.read_exact(&mut bytes)?;
            let (len, kind, more, id, x, y) = fields(&bytes);
            let whole = message.payload.len() + len;
            let same = parts == 0 || (kind, id, x, y) == (message.kind, message.id, message.x, message.y);
            if len > MAX_PAYLOAD || whole > MAX_MESSAGE || more > 1 || (more == 1 && len == 0) || !same {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame that breaks the protocol"));
            }
            (message.kind, message.id, message.x, message.y) = (kind, id, x, y);
            let at = message.payload.len();
            message.payload.resize(whole, 0);
            self.input.read_exact(message.payload.get_mut(at..).unwrap_or_default())?;
            if more == 0 {
                return Ok(message);
            }
            parts += 1;
        }
    }
}

fn fields(bytes: &[u8; HEADER]) -> (usize, u16, u16, u64, u64, u64) {
    let u32_at =
        |at: usize| bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
    let u16_at =
        |at: usize| bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_le_bytes(*b));
    let u64_at =
        |at: usize| bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b));
    (u32_at(0) as usize, u16_at(4), u16_at(6), u64_at(8), u64_at(16), u64_at(24))
}

/// A cursor over a payload's little-endian numbers.
struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// The payload of [`kind::PUSH`]: track, flags, epoch, duration (`u32`), pts, dts, arrival (`u64`), data.
pub mod unit {
    use patchbay_plugin_api::abi::{RawUnit, Slice};

    use super::Numbers;

    /// Makes it.
    pub fn encode(unit: &RawUnit, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(40 + data.len());
        for number in [unit.track, unit.flags, unit.epoch, unit.duration] {
            bytes.extend(number.to_le_bytes());
        }
        for number in [unit.pts.cast_unsigned(), unit.dts.cast_unsigned(), unit.arrival_ns] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend_from_slice(data);
        bytes
    }

    /// Reads it.
    pub fn decode(payload: &[u8]) -> Option<(RawUnit, &[u8])> {
        let mut numbers = Numbers(payload);
        let (track, flags, epoch, duration) =
            (numbers.u32()?, numbers.u32()?, numbers.u32()?, numbers.u32()?);
        let (pts, dts, arrival_ns) =
            (numbers.u64()?.cast_signed(), numbers.u64()?.cast_signed(), numbers.u64()?);
        let unit = RawUnit {
            size: size_of::<RawUnit>() as u32,
            track,
            flags,
            epoch,
            pts,
            dts,
            arrival_ns,
            duration,
            reserved: 0,
            data: Slice::new(&[]),
        };
        Some((unit, numbers.rest()))
    }
}

/// The payload of [`kind::WRITE`]: flags, number of patches, number of starts, 0 (`u32`), join (`u64`), patches (offset,
/// track, kind: `u32`), starts (`u64`), data.
pub mod chunk {
    use patchbay_plugin_api::entry::ChunkRef;
    use patchbay_plugin_api::{Patch, PatchKind};

    use super::Numbers;

    /// Most starts.
    const MAX_STARTS: usize = 64;

    /// Makes it.
    pub fn encode(chunk: &ChunkRef<'_>) -> Vec<u8> {
        let patches: Vec<&Patch> = chunk.patches.iter().flatten().collect();
        let mut bytes = Vec::with_capacity(64 + chunk.starts.len() * 8 + chunk.data.len());
        for number in [chunk.flags, patches.len() as u32, chunk.starts.len() as u32, 0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(chunk.join.to_le_bytes());
        for patch in patches {
            for number in [patch.offset, patch.track, patch.kind as u32] {
                bytes.extend(number.to_le_bytes());
            }
        }
        for start in chunk.starts {
            bytes.extend(start.to_le_bytes());
        }
        bytes.extend_from_slice(chunk.data);
        bytes
    }

    /// Reads it, and gives it to `take`; `None` when it breaks a limit.
    pub fn decode<T>(payload: &[u8], take: impl FnOnce(ChunkRef<'_>) -> T) -> Option<T> {
        let mut numbers = Numbers(payload);
        let (flags, patch_count, start_count, _) =
            (numbers.u32()?, numbers.u32()?, numbers.u32()?, numbers.u32()?);
        let join = numbers.u64()?;
        if patch_count as usize > Patch::MAX || start_count as usize > MAX_STARTS {
            return None;
        }
        let mut patches = [None; Patch::MAX];
        for slot in patches.iter_mut().take(patch_count as usize) {
            let (offset, track, raw) = (numbers.u32()?, numbers.u32()?, numbers.u32()?);
            *slot = Some(Patch { offset, track, kind: PatchKind::from_raw(raw)? });
        }
        let mut starts = Vec::with_capacity(start_count as usize);
        for _ in 0..start_count {
            starts.push(numbers.u64()?.cast_signed());
        }
        let data = numbers.rest();
        let fits = |patch: &Patch| {
            let end = u64::from(patch.offset) + patch.kind.len() as u64;
            end <= Patch::WINDOW as u64 && end <= data.len() as u64
        };
        if !patches.iter().flatten().all(fits) {
            return None;
        }
        Some(take(ChunkRef { data, flags, patches, join, starts: &starts }))
    }
}

#[cfg(test)]
mod tests {
    use patchbay_plugin_api::entry::ChunkRef;
    use patchbay_plugin_api::{Patch, PatchKind};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn descriptors_come_with_their_frames() {
        let (a, b) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let message = Message { kind: kind::RING, id: 7, ..Message::default() };
        send_with(&a, &message, &file.into()).unwrap();
        send(&a, &Message { kind: kind::WAKE, id: 8, ..Message::default() }).unwrap();
        let stream = Stream::new(b);
        let descriptors = stream.descriptors();
        let mut reader = Reader::new(stream);
        assert_eq!(reader.message().unwrap(), message);
        assert_eq!(descriptors.lock().len(), 1);
        assert_eq!(reader.message().unwrap().id, 8);
        drop(a);
        assert_eq!(reader.message().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_long_message_comes_in_parts() {
        let (a, b) = UnixStream::pair().unwrap();
        let message = Message { kind: kind::PUSH, id: 1, x: 2, y: 3, payload: vec![5; 3 * MAX_PAYLOAD + 17] };
        let sent = message.clone();
        let thread = std::thread::spawn(move || send(&a, &sent).unwrap());
        assert!(Reader::new(b).message().unwrap() == message);
        thread.join().unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_are_messages_or_an_error(data in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut reader = Reader::new(&data[..]);
            while let Ok(message) = reader.message() {
                let _ = (unit::decode(&message.payload), chunk::decode(&message.payload, |_| ()));
            }
            let _ = (unit::decode(&data).is_some(), chunk::decode(&data, |_| ()));
        }

        #[test]
        fn chunks_round_trip(data in prop::collection::vec(any::<u8>(), 8..600), flags: u32, join: u64, starts in prop::collection::vec(any::<i64>(), 0..5)) {
            let mut patches = [None; Patch::MAX];
            patches[0] = Some(Patch { offset: 0, track: 3, kind: PatchKind::TimeU64 });
            let bytes = chunk::encode(&ChunkRef { data: &data, flags, patches, join, starts: &starts });
            let same = chunk::decode(&bytes, |chunk| {
                (chunk.data, chunk.flags, chunk.patches, chunk.join, chunk.starts) == (&data[..], flags, patches, join, &starts[..])
            });
            prop_assert_eq!(same, Some(true));
        }
    }
}
