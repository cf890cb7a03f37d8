//! Packets for one address, sent together: runs of equal length take one system call.

use std::net::SocketAddr;

use crate::mux::Hub;

/// Most bytes of one system call, below what a datagram's length field can say.
const MAX_BYTES: usize = 60_000;

/// Packets that were not handed to the socket yet.
#[derive(Debug)]
pub(super) struct Batch {
    to: Option<(SocketAddr, SocketAddr)>,
    bytes: Vec<u8>,
    /// Length of the first packet, which all but the last have.
    segment: usize,
    count: usize,
    max_segments: usize,
    /// A shorter packet came: it ends the run.
    is_closed: bool,
}

impl Batch {
    /// An empty batch of at most `max_segments` packets.
    pub(super) fn new(max_segments: usize) -> Self {
        Self { to: None, bytes: Vec::new(), segment: 0, count: 0, max_segments, is_closed: false }
    }

    /// Adds a packet of `len` bytes that `write` appends; what does not go together with it is sent first. When `write`
    /// says false it appended nothing.
    pub(super) fn push(
        &mut self,
        hub: &Hub,
        local: SocketAddr,
        remote: SocketAddr,
        len: usize,
        write: impl FnOnce(&mut Vec<u8>) -> bool,
    ) {
        let fits = self.to == Some((local, remote))
            && !self.is_closed
            && len <= self.segment
            && self.count < self.max_segments
            && self.bytes.len() + len <= MAX_BYTES;
        if !fits {
            self.flush(hub);
        }
        if !write(&mut self.bytes) {
            return;
        }
        if self.count == 0 {
            self.to = Some((local, remote));
            self.segment = len;
        }
        self.is_closed = len < self.segment;
        self.count += 1;
    }

    /// Sends what there is.
    pub(super) fn flush(&mut self, hub: &Hub) {
        if let Some((local, remote)) = self.to.take() {
            hub.send(local, remote, &self.bytes, self.segment);
        }
        self.bytes.clear();
        self.count = 0;
        self.is_closed = false;
    }
}
