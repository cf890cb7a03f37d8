//! The way of media packets to the peer: encrypted into what goes out next, without a stop between.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::batch::Batch;
use crate::config::Transport;
use crate::mux::Hub;
use crate::mux::tcp::Outlet;
use crate::srtp::{Head, Sealer};

/// Where packets go: the pair of addresses that ICE has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) transport: Transport,
}

/// What is needed to send media packets, once the connection is up.
pub(super) struct Direct {
    pub(super) sealer: Sealer,
    pub(super) path: Path,
}

/// All that sending takes, borrowed for some packets. What it batched is sent with the batch.
pub(super) struct Link<'a> {
    pub(super) hub: &'a Hub,
    pub(super) direct: &'a mut Direct,
    pub(super) batch: &'a mut Batch,
    pub(super) outlets: &'a HashMap<SocketAddr, Outlet>,
}

impl Link<'_> {
    /// Sends one packet; the parts of its payload follow each other.
    pub(super) fn send(&mut self, head: &Head, payload: &[&[u8]]) {
        let Direct { sealer, path } = &mut *self.direct;
        let len = sealer.packet_len(payload.iter().map(|part| part.len()).sum());
        let write = |bytes: &mut Vec<u8>| match sealer.seal(bytes, head, payload) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!("a packet cannot be encrypted: {error}");
                false
            }
        };
        match path.transport {
            Transport::Udp => self.batch.push(self.hub, path.local, path.remote, len, write),
            Transport::Tcp => {
                if let Some(outlet) = self.outlets.get(&path.remote) {
                    outlet.send(len, write);
                }
            }
        }
    }
}
