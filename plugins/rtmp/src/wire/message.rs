//! What messages mean: control, commands, media. Sections 5.4, 7.

use bytes::{BufMut, Bytes, BytesMut};
use patchbay_mux::flv::TagKind;
use patchbay_mux::flv::amf::{self, Value};

use super::chunk::{self, Message};

/// Types of messages, section 7.1.
pub mod kind {
    /// So many bytes were received.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// Stream events and pings.
    pub const USER_CONTROL: u8 = 4;
    /// Acknowledge after so many bytes.
    pub const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
    /// Send no more than so many bytes ahead of acknowledgements.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Sound.
    pub const AUDIO: u8 = 8;
    /// Pictures.
    pub const VIDEO: u8 = 9;
    /// Data in AMF3.
    pub const DATA_AMF3: u8 = 15;
    /// A command in AMF3.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data in AMF0.
    pub const DATA: u8 = 18;
    /// A command in AMF0.
    pub const COMMAND: u8 = 20;
    /// FLV tags.
    pub const AGGREGATE: u8 = 22;
}

/// Events of user control messages, section 7.1.7.
pub mod user {
    /// A stream begins.
    pub const STREAM_BEGIN: u16 = 0;
    /// A stream is over.
    pub const STREAM_EOF: u16 = 1;
    /// The player's buffer, in milliseconds.
    pub const SET_BUFFER_LENGTH: u16 = 3;
    /// To be answered.
    pub const PING_REQUEST: u16 = 6;
    /// The answer.
    pub const PING_RESPONSE: u16 = 7;
}

/// Most media messages of an aggregate.
const MAX_AGGREGATE: usize = 4_096;

/// A message, read.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// A command: its name, transaction and the values behind.
    Command(Command),
    /// A tag of FLV.
    Media {
        /// Sound, pictures or a script.
        kind: TagKind,
        /// Milliseconds, modulo 2^32.
        timestamp: u32,
        /// The tag's body.
        body: Bytes,
    },
    /// Acknowledge after so many bytes.
    Window(u32),
    /// A ping with this number.
    Ping(u32),
    /// A stream is over.
    StreamEof,
}

/// A command, or its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// `connect`, `play`, `_result` ...
    pub name: String,
    /// Number of the call, 0 when no answer is wanted.
    pub transaction: f64,
    /// What stands behind: the command object, then arguments.
    pub values: Vec<Value>,
    /// Message stream.
    pub stream_id: u32,
}

impl Command {
    /// The argument `index` behind the command object.
    pub fn argument(&self, index: usize) -> Option<&Value> {
        self.values.get(index + 1)
    }

    /// The member `name` of the first value that has one of that name.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.values.iter().find_map(|value| value.get(name))
    }

    /// The text of [`Command::member`]; empty when there is none.
    pub fn text(&self, name: &str) -> &str {
        self.member(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Reads a message. None of what is of no concern here; several of an aggregate.
pub fn read(message: Message) -> Vec<Incoming> {
    let Message { kind, timestamp, stream_id, payload } = message;
    let number = |at: usize| {
        payload.get(at..).and_then(|rest| rest.first_chunk::<4>()).map(|bytes| u32::from_be_bytes(*bytes))
    };
    let one = match kind {
        kind::WINDOW_ACKNOWLEDGEMENT_SIZE => number(0).map(Incoming::Window),
        kind::USER_CONTROL => {
            let event = payload.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes));
            match event {
                Some(user::PING_REQUEST) => number(2).map(Incoming::Ping),
                Some(user::STREAM_EOF) => Some(Incoming::StreamEof),
                _ => None,
            }
        }
        kind::AUDIO => Some(Incoming::Media { kind: TagKind::Audio, timestamp, body: payload }),
        kind::VIDEO => Some(Incoming::Media { kind: TagKind::Video, timestamp, body: payload }),
        kind::DATA => Some(Incoming::Media { kind: TagKind::Script, timestamp, body: payload }),
        // AMF3 messages begin with a byte of their own; what follows is AMF0 until it says otherwise.
        kind::DATA_AMF3 if !payload.is_empty() => {
            Some(Incoming::Media { kind: TagKind::Script, timestamp, body: payload.slice(1..) })
        }
        kind::COMMAND => command(&payload, stream_id).map(Incoming::Command),
        kind::COMMAND_AMF3 => command(payload.get(1..).unwrap_or_default(), stream_id).map(Incoming::Command),
        kind::AGGREGATE => return aggregate(timestamp, payload),
        _ => None,
    };
    one.into_iter().collect()
}

fn command(payload: &[u8], stream_id: u32) -> Option<Command> {
    let mut values = amf::read_all(payload).into_iter();
    let Some(Value::String(name)) = values.next() else { return None };
    let transaction = values.next().and_then(|value| value.as_f64()).unwrap_or(0.0);
    Some(Command { name, transaction, values: values.collect(), stream_id })
}

/// FLV tags whose times count from that of the message.
fn aggregate(timestamp: u32, mut payload: Bytes) -> Vec<Incoming> {
    let mut list = Vec::new();
    let mut first = None;
    while list.len() < MAX_AGGREGATE
        && let Some([kind, s0, s1, s2, t0, t1, t2, t3, ..]) = payload.first_chunk::<11>().copied()
    {
        let size = u32::from_be_bytes([0, s0, s1, s2]) as usize;
        let time = u32::from_be_bytes([t3, t0, t1, t2]);
        if payload.len() < 11 + size {
            break;
        }
        let body = payload.slice(11..11 + size);
        payload = payload.slice((11 + size + 4).min(payload.len())..);
        let first = *first.get_or_insert(time);
        if let Some(kind) = TagKind::of(kind) {
            let timestamp = timestamp.wrapping_add(time.wrapping_sub(first));
            list.push(Incoming::Media { kind, timestamp, body });
        }
    }
    list
}

/// Writes messages as chunks.
#[derive(Debug)]
pub struct Writer {
    out: BytesMut,
    chunk_bytes: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self { out: BytesMut::new(), chunk_bytes: chunk::DEFAULT_CHUNK_BYTES }
    }
}

impl Writer {
    /// What was written since.
    pub fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    /// From the next message on, chunks have `bytes`.
    pub fn set_chunk_size(&mut self, bytes: usize) {
        let value = u32::try_from(bytes).unwrap_or(0x7fff_ffff);
        self.control(1, &[value]);
        self.chunk_bytes = bytes;
    }

    /// A protocol control message.
    pub fn control(&mut self, kind: u8, values: &[u32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
        chunk::write(2, (kind, 0, 0), &[&bytes], self.chunk_bytes, &mut self.out);
    }

    /// A limit of the peer's bandwidth that it may replace by its own (type 2).
    pub fn peer_bandwidth(&mut self, bytes: u32) {
        let [a, b, c, d] = bytes.to_be_bytes();
        let message = (kind::SET_PEER_BANDWIDTH, 0, 0);
        chunk::write(2, message, &[&[a, b, c, d, 2]], self.chunk_bytes, &mut self.out);
    }

    /// A user control message.
    pub fn user(&mut self, event: u16, values: &[u32]) {
        let mut bytes = event.to_be_bytes().to_vec();
        bytes.extend(values.iter().flat_map(|value| value.to_be_bytes()));
        chunk::write(2, (kind::USER_CONTROL, 0, 0), &[&bytes], self.chunk_bytes, &mut self.out);
    }

    /// A command or its answer, on message stream `stream_id`.
    pub fn command(&mut self, name: &str, transaction: f64, values: &[Value], stream_id: u32) {
        let mut body = BytesMut::new();
        amf::write_all([&name.into(), &transaction.into()].into_iter().chain(values), &mut body);
        let id = if stream_id == 0 { 3 } else { 5 };
        chunk::write(id, (kind::COMMAND, 0, stream_id), &[&body], self.chunk_bytes, &mut self.out);
    }

    /// A data message.
    pub fn data(&mut self, values: &[Value], stream_id: u32) {
        let mut body = BytesMut::new();
        amf::write_all(values, &mut body);
        chunk::write(5, (kind::DATA, 0, stream_id), &[&body], self.chunk_bytes, &mut self.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u8, payload: &[u8]) -> Message {
        Message { kind, timestamp: 1_000, stream_id: 1, payload: Bytes::copy_from_slice(payload) }
    }

    #[test]
    fn control_as_it_stands_on_the_wire() {
        let mut writer = Writer::default();
        writer.set_chunk_size(4_096);
        writer.user(user::PING_RESPONSE, &[123_456]);
        let bytes = writer.take();
        assert_eq!(&bytes[..16], [2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0x10, 0]);
        assert_eq!(&bytes[16..], [2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 7, 0, 1, 0xe2, 0x40]);
        let ping = read(message(kind::USER_CONTROL, &[0, 6, 0, 1, 0xe2, 0x40]));
        assert_eq!(ping, [Incoming::Ping(123_456)]);
        // Events of Flash.
        assert_eq!(read(message(kind::USER_CONTROL, &[0, 31, 0, 0, 0, 1])), []);
    }

    #[test]
    fn commands_in_amf3_messages() {
        let mut body = BytesMut::new();
        amf::write_all(&["play".into(), 4.0.into(), Value::Null, "cam".into()], &mut body);
        let plain = read(message(kind::COMMAND, &body));
        assert_eq!(read(message(kind::COMMAND_AMF3, &[&[0][..], &body].concat())), plain);
        let Incoming::Command(command) = &plain[0] else { panic!() };
        assert_eq!((&command.name[..], command.transaction), ("play", 4.0));
        assert_eq!(command.argument(0).and_then(Value::as_str), Some("cam"));
    }

    #[test]
    fn aggregates_are_taken_apart() {
        let tag = |kind, time: u8, body: &[u8]| {
            let head = [kind, 0, 0, body.len() as u8, 0, 0, time, 0, 0, 0, 0];
            [&head[..], body, &[0, 0, 0, 11 + body.len() as u8]].concat()
        };
        let body = [tag(9, 50, &[1, 2]), tag(15, 55, &[]), tag(8, 60, &[3]), vec![9, 0, 0, 200]].concat();
        let media = |kind, timestamp, body: &'static [u8]| Incoming::Media {
            kind,
            timestamp,
            body: Bytes::from_static(body),
        };
        assert_eq!(
            read(message(kind::AGGREGATE, &body)),
            [media(TagKind::Video, 1_000, &[1, 2]), media(TagKind::Audio, 1_010, &[3])]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(kind: u8, payload: Vec<u8>) {
            read(message(kind, &payload));
        }
    }
}
