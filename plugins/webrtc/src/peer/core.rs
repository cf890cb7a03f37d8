//! What is known of a connection, behind its lock.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use parking_lot::Mutex;
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::sansio::Protocol as _;
use rtc::shared::{TaggedBytesMut, TransportContext};

use super::agree::{Credentials, Sections};
use super::batch::Batch;
use super::feedback::Feedback;
use super::link::{Direct, Link, Path};
use super::outgoing::Outgoing;
use crate::config::Transport;
use crate::mux::Hub;
use crate::mux::tcp::Outlet;
use crate::srtp::Tap;
use crate::stun;

/// How often media is shown to the connection as a sign of life.
const LIVES_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Core {
    pub(super) connection: RTCPeerConnection,
    pub(super) feedback: Arc<Mutex<Feedback>>,
    pub(super) outgoing: Vec<Outgoing>,
    pub(super) sections: Sections,
    pub(super) credentials: Credentials,
    pub(super) outlets: HashMap<SocketAddr, Outlet>,
    pub(super) batch: Batch,
    pub(super) tap: Arc<Tap>,
    /// Media can be sent.
    pub(super) direct: Option<Direct>,
    /// The peer's last check while there is no connection.
    pub(super) check: Option<(SocketAddr, BytesMut)>,
    /// ICE and DTLS are up.
    pub(super) is_up: bool,
    /// When the session's task wakes next.
    pub(super) scheduled: Option<Instant>,
    pub(super) is_connected: bool,
    pub(super) is_over: bool,
    pub(super) why: &'static str,
    pub(super) remote: Option<(SocketAddr, Transport)>,
    /// Media packets of the peer so far.
    pub(super) media: u64,
    /// When they were last shown to the connection as a sign of life.
    pub(super) lived: Option<Instant>,
}

impl Core {
    /// All that sending media takes, and the tracks; `None` before that is known.
    pub(super) fn split<'a>(
        &'a mut self,
        hub: &'a Hub,
    ) -> Option<(Link<'a>, &'a mut RTCPeerConnection, &'a mut Vec<Outgoing>)> {
        let Self { connection, outgoing, outlets, batch, direct, .. } = self;
        let link = Link { hub, direct: direct.as_mut()?, batch, outlets };
        Some((link, connection, outgoing))
    }

    /// Sends a probe through the connection: it shows where packets go, the first one how they are encrypted.
    pub(super) fn probe(&mut self, now: Instant) {
        if !self.is_up || self.is_over || self.outgoing.is_empty() {
            return;
        }
        let message = RTCMessage::RtpPacket(String::new(), self.tap.probe());
        if let Err(error) = self.connection.handle_write(TaggedRTCMessage { now, message }) {
            tracing::debug!("rtp: {error}");
        }
    }

    /// The check that a peer made before its address was known to be right, once it has answered the check of this side: what it
    /// nominates holds from then on (RFC 8445 section 7.3.1.5), which the connection forgets. FFmpeg makes one check alone.
    pub(super) fn nomination(&mut self, remote: SocketAddr, data: &BytesMut) -> Option<BytesMut> {
        if stun::Request::parse(data).is_some() {
            self.check = Some((remote, data.clone()));
            return None;
        }
        self.check.take_if(|(address, _)| *address == remote).map(|(_, check)| check)
    }

    /// Shows the connection that its peer lives, which looks at STUN alone: media does as well (RFC 8445 section 11). FFmpeg that began the
    /// handshake answers no check.
    pub(super) fn lives(&mut self, now: Instant, transport: TransportContext) {
        if self.lived.is_some_and(|lived| now.saturating_duration_since(lived) < LIVES_EVERY) {
            return;
        }
        self.lived = Some(now);
        let message = BytesMut::from(&stun::binding_indication(rand::random())[..]);
        if let Err(error) = self.connection.handle_read(TaggedBytesMut { now, transport, message }) {
            tracing::trace!("a sign of life was passed over: {error}");
        }
    }

    pub(super) fn learn(&mut self, path: Path, packet: &[u8]) {
        match &mut self.direct {
            Some(direct) => direct.path = path,
            None => self.direct = self.tap.sealer(packet).map(|sealer| Direct { sealer, path }),
        }
    }
}
