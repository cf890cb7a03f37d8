//! What both sides of a connection do alike.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::Error;
use crate::wire::chunk::{OUR_CHUNK_BYTES, Reader};
use crate::wire::handshake::{BLOCK_BYTES, Block, Client, Server};
use crate::wire::message::{self, Incoming, Writer, kind, user};

/// Acknowledgements that we want and give when nobody says otherwise, in bytes.
pub const WINDOW: u32 = 2_500_000;

#[derive(Debug)]
enum Hands {
    Client(Client),
    Server(Server),
}

#[derive(Debug)]
enum Phase {
    First(Hands),
    /// Bytes of the second block that are still to come.
    Second(usize),
    Open,
}

/// A connection below its commands.
#[derive(Debug)]
pub struct Link {
    phase: Phase,
    buffer: BytesMut,
    reader: Reader,
    /// What is to be sent.
    pub writer: Writer,
    incoming: VecDeque<Incoming>,
    received: u32,
    acknowledged: u32,
    window: u32,
}

impl Link {
    /// The side that dials: its first bytes wait in the writer.
    pub fn client(random: Block) -> Self {
        let client = Client::new(random);
        let start = client.start();
        let mut link = Self::new(Hands::Client(client));
        link.writer.raw(&start);
        link
    }

    /// The side that listens.
    pub fn server(random: Block) -> Self {
        Self::new(Hands::Server(Server::new(random)))
    }

    fn new(hands: Hands) -> Self {
        Self {
            phase: Phase::First(hands),
            buffer: BytesMut::new(),
            reader: Reader::new(),
            writer: Writer::default(),
            incoming: VecDeque::new(),
            received: 0,
            acknowledged: 0,
            window: WINDOW,
        }
    }

    /// Whether the handshake is over.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Messages may be as large as media from now on.
    pub fn allow_media(&mut self) {
        self.reader.allow_media();
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.buffer.len() + self.reader.held()
    }

    /// Sets our chunk size and wants acknowledgements.
    pub fn introduce(&mut self) {
        self.writer.control(kind::WINDOW_ACKNOWLEDGEMENT_SIZE, &[WINDOW]);
        self.writer.set_chunk_size(OUR_CHUNK_BYTES);
    }

    /// Takes bytes of the peer. `true` when the handshake ended with them.
    pub fn receive(&mut self, data: &[u8]) -> Result<bool, Error> {
        if let Phase::Open = self.phase {
            self.read(data)?;
            return Ok(false);
        }
        self.received = self.received.wrapping_add(u32::try_from(data.len()).unwrap_or(0));
        self.buffer.extend_from_slice(data);
        loop {
            match &mut self.phase {
                Phase::First(hands) => {
                    let answer = match hands {
                        Hands::Client(client) => client.answer(&mut self.buffer)?,
                        Hands::Server(server) => server.answer(&mut self.buffer)?,
                    };
                    let Some(answer) = answer else { return Ok(false) };
                    self.writer.raw(&answer);
                    self.phase = Phase::Second(BLOCK_BYTES);
                }
                Phase::Second(left) => {
                    // Whatever it says: an answer that is wrong is no reason to refuse.
                    let now = self.buffer.len().min(*left);
                    self.buffer.advance(now);
                    *left -= now;
                    if *left > 0 {
                        return Ok(false);
                    }
                    self.phase = Phase::Open;
                    let rest = std::mem::take(&mut self.buffer);
                    self.received = self.received.wrapping_sub(u32::try_from(rest.len()).unwrap_or(0));
                    self.read(&rest)?;
                    return Ok(true);
                }
                Phase::Open => return Ok(false),
            }
        }
    }

    fn read(&mut self, data: &[u8]) -> Result<(), Error> {
        self.received = self.received.wrapping_add(u32::try_from(data.len()).unwrap_or(0));
        self.reader.push(data);
        if self.received.wrapping_sub(self.acknowledged) >= (self.window / 2).max(1) {
            self.acknowledged = self.received;
            self.writer.control(kind::ACKNOWLEDGEMENT, &[self.received]);
        }
        Ok(())
    }

    /// The next message that concerns the layer above; `None`: more bytes are needed.
    pub fn poll(&mut self) -> Result<Option<Incoming>, Error> {
        loop {
            match self.incoming.pop_front() {
                Some(Incoming::Window(bytes)) => self.window = bytes,
                Some(Incoming::Ping(number)) => self.writer.user(user::PING_RESPONSE, &[number]),
                Some(other) => return Ok(Some(other)),
                None => match self.reader.poll()? {
                    Some(message) => self.incoming.extend(message::read(message)),
                    None => return Ok(None),
                },
            }
        }
    }

    /// Bytes to send; empty when there are none.
    pub fn take(&mut self) -> Bytes {
        self.writer.take()
    }
}
