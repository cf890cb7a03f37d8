//! One connection with a browser or another peer: the sans-IO connection of `rtc` behind a lock, driven by whoever has
//! something for it: the readers of the shared sockets, the feeds, and its own task for times.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use parking_lot::Mutex;
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::sansio::Protocol as _;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::config::Transport;
use crate::feed::Frame;
use crate::mux::Hub;
use crate::mux::tcp::Outlet;
use crate::sdp::{self, Description};
use crate::stun;

pub mod agree;
mod batch;
mod core;
mod drive;
pub mod feedback;
mod link;
mod outgoing;
mod sent;
pub mod setup;

use self::core::Core;
use agree::{Agreed, Credentials};
use batch::Batch;
pub use outgoing::Counts;
use setup::{SetupError, Use};

/// Events that wait for the session's task; received packets past that are lost.
const EVENTS: usize = 2048;

/// Connections over TCP that one session may have.
const MAX_CONNECTIONS: usize = 8;

/// What a session's task hears of its connection.
#[derive(Debug)]
pub enum Event {
    /// ICE and DTLS are up: media may flow.
    Connected,
    /// The peer wants a key unit of an outgoing track (by index).
    KeyframeWanted(usize),
    /// A received media packet.
    Packet(rtc::rtp::Packet),
    /// A received sender report: SSRC, NTP time, RTP time.
    SenderReport {
        /// The reported stream.
        ssrc: u32,
        /// NTP time.
        ntp: u64,
        /// RTP time of the same instant.
        rtp_time: u32,
    },
}

/// One connection. It is over when its last handle is dropped.
pub struct Peer {
    hub: Arc<Hub>,
    core: Mutex<Core>,
    events: mpsc::Sender<Event>,
    /// A deadline came nearer, or frames wait to be paced out.
    wake: Notify,
    gone: CancellationToken,
}

impl Peer {
    /// A connection of these parts, known to the sockets from now on, and what its task will hear.
    pub fn new(hub: &Arc<Hub>, parts: setup::Parts) -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let credentials = parts.credentials;
        let peer = Arc::new(Self {
            hub: Arc::clone(hub),
            core: Mutex::new(Core {
                connection: parts.connection,
                feedback: parts.feedback,
                outgoing: parts.outgoing,
                sections: parts.sections,
                credentials: credentials.clone(),
                outlets: HashMap::new(),
                batch: Batch::new(hub.max_segments()),
                tap: parts.tap,
                direct: None,
                check: None,
                is_up: false,
                scheduled: None,
                is_connected: false,
                is_over: false,
                why: "closed",
                remote: None,
                media: 0,
                lived: None,
            }),
            events,
            wake: Notify::new(),
            gone: CancellationToken::new(),
        });
        hub.register(&peer, &credentials);
        (peer, receiver)
    }

    /// Completes when the connection is over.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Waits until the connection is over, and says why.
    pub async fn ended(&self) -> &'static str {
        self.gone.cancelled().await;
        self.core.lock().why
    }

    /// The peer's address and what carries its packets, once some came.
    pub fn remote(&self) -> Option<(SocketAddr, Transport)> {
        let core = self.core.lock();
        // Where media goes: ICE may have chosen another way since.
        core.direct.as_ref().map(|direct| (direct.path.remote, direct.path.transport)).or(core.remote)
    }

    /// Takes a candidate of the peer (`candidate:...`).
    pub fn add_candidate(&self, line: &str) {
        let mut core = self.core.lock();
        let init = RTCIceCandidateInit { candidate: line.to_owned(), ..RTCIceCandidateInit::default() };
        if let Err(error) = core.connection.add_remote_candidate(init) {
            tracing::debug!("a candidate cannot be used: {error}");
        }
        self.drain(&mut core, Instant::now());
    }

    /// Takes further candidates of this side, for addresses that the machine did not have before.
    pub fn add_own<'a>(&self, lines: impl Iterator<Item = &'a String>) {
        let mut core = self.core.lock();
        for line in lines {
            let init = RTCIceCandidateInit { candidate: line.clone(), ..RTCIceCandidateInit::default() };
            if let Err(error) = core.connection.add_local_candidate(init) {
                tracing::debug!("an own candidate cannot be used: {error}");
            }
        }
        self.drain(&mut core, Instant::now());
    }

    /// Answers a later offer of the peer. What is sent goes on meanwhile; after an error all is as before.
    pub fn renegotiate(
        &self,
        offer: &Description,
        uses: &[Use],
        told: &[String],
    ) -> Result<Agreed, SetupError> {
        let now = Instant::now();
        let mut guard = self.core.lock();
        let core = &mut *guard;
        if core.is_over {
            return Err(SetupError::Over);
        }
        let Core { connection, outgoing, sections, .. } = core;
        let agreed = sections.answer(connection, outgoing, offer, uses, told, now)?;
        self.credentials(core, &agreed.credentials, now);
        Ok(agreed)
    }

    /// Starts ICE anew when the peer's user fragment is another than before: its addresses have changed. `None` when it is the same.
    pub fn restart(&self, ufrag: &str, password: &str) -> Result<Option<Agreed>, SetupError> {
        let now = Instant::now();
        let mut guard = self.core.lock();
        let core = &mut *guard;
        let known = core.connection.remote_description().and_then(|known| sdp::credentials(&known.sdp));
        if core.is_over {
            return Err(SetupError::Over);
        }
        if known == Some((ufrag, password)) {
            return Ok(None);
        }
        let agreed = agree::restart(&mut core.connection, ufrag, password, now)?;
        self.credentials(core, &agreed.credentials, now);
        Ok(Some(agreed))
    }

    /// Lets the sockets know this side's credentials after a negotiation.
    fn credentials(&self, core: &mut Core, credentials: &Credentials, now: Instant) {
        let before = std::mem::replace(&mut core.credentials, credentials.clone());
        if before != *credentials {
            self.hub.rename(&before.ufrag, credentials);
        }
        core.probe(now);
        self.drain(core, now);
    }

    /// Takes a packet from a socket.
    pub fn receive(
        &self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        transport: Transport,
        data: BytesMut,
    ) {
        let transport_protocol = match transport {
            Transport::Udp => TransportProtocol::UDP,
            Transport::Tcp => TransportProtocol::TCP,
        };
        let context =
            TransportContext { local_addr: local, peer_addr: remote, transport_protocol, ecn: None };
        let mut core = self.core.lock();
        let is_check = stun::is_stun(&data);
        if !core.is_connected && !is_check {
            core.remote = Some((remote, transport));
        }
        let check = if is_check && !core.is_up { core.nomination(remote, &data) } else { None };
        for message in std::iter::once(data).chain(check) {
            let message = TaggedBytesMut { now, transport: context, message };
            if let Err(error) = core.connection.handle_read(message) {
                tracing::trace!("a packet of {remote} was passed over: {error}");
            }
        }
        // A check may move the connection to another pair of addresses.
        if is_check {
            core.probe(now);
        }
        let before = core.media;
        self.drain(&mut core, now);
        // Its key shows whose packet it is.
        if core.media != before {
            core.lives(now, context);
        }
    }

    /// From now on packets for `remote` go over this connection.
    pub fn attach(&self, remote: SocketAddr, outlet: Outlet) {
        let mut core = self.core.lock();
        if core.outlets.len() < MAX_CONNECTIONS {
            core.outlets.insert(remote, outlet);
        }
    }

    /// The connection to `remote` is closed.
    pub fn detach(&self, remote: SocketAddr) {
        self.core.lock().outlets.remove(&remote);
    }

    /// Sends a frame of a track, or keeps it for later when older ones are still on their way.
    pub fn send(&self, track: usize, frame: &Arc<Frame>, now: Instant) {
        let mut core = self.core.lock();
        if !core.is_connected || core.is_over {
            return;
        }
        let Some((_, connection, outgoing)) = core.split(&self.hub) else { return };
        let Some(outgoing) = outgoing.get_mut(track) else { return };
        if !outgoing.push(frame) {
            return;
        }
        if outgoing.report_first(connection, Some(frame), now) {
            self.drain(&mut core, now);
        }
        let Some((mut link, connection, outgoing)) = core.split(&self.hub) else { return };
        let Some(outgoing) = outgoing.get_mut(track) else { return };
        if outgoing.write(&mut link, connection, frame, now) {
            self.drain(&mut core, now);
        }
        core.batch.flush(&self.hub);
    }

    /// From now on frames of a track are kept back until [`Peer::start`].
    pub fn hold(&self, track: usize) {
        if let Some(outgoing) = self.core.lock().outgoing.get_mut(track) {
            outgoing.hold();
        }
    }

    /// Lets a held track go on: `history` goes out first, paced. Without one it starts at the next key unit.
    pub fn start(&self, track: usize, history: Option<Arc<Frame>>) {
        if let Some(outgoing) = self.core.lock().outgoing.get_mut(track) {
            outgoing.start(history);
        }
        self.wake.notify_one();
    }

    /// Whether a track may be given a history now: it is not getting one, and the last is a while ago.
    pub fn may_restart(&self, track: usize, now: Instant) -> bool {
        self.core.lock().outgoing.get_mut(track).is_some_and(|outgoing| outgoing.may_restart(now))
    }

    /// The peer may not take a track's history yet, and ask for another one as soon as it does.
    pub fn allow_restart(&self, track: usize) {
        if let Some(outgoing) = self.core.lock().outgoing.get_mut(track) {
            outgoing.allow_restart();
        }
    }

    /// What was sent, all tracks together.
    pub fn counts(&self) -> Counts {
        let core = self.core.lock();
        core.outgoing.iter().fold(Counts::default(), |sum, outgoing| sum.plus(outgoing.counts()))
    }

    /// Sends RTCP packets.
    pub fn write_rtcp(&self, packets: Vec<Box<dyn rtc::rtcp::Packet>>, now: Instant) {
        let mut core = self.core.lock();
        let message = RTCMessage::RtcpPacket(String::new(), packets);
        if let Err(error) = core.connection.handle_write(TaggedRTCMessage { now, message }) {
            tracing::debug!("rtcp: {error}");
        }
        self.drain(&mut core, now);
    }

    /// Ends the connection and tells the peer.
    pub fn close(&self) {
        let mut core = self.core.lock();
        if !core.is_over {
            let _ = core.connection.close();
            self.drain(&mut core, Instant::now());
            core.is_over = true;
        }
        let ufrag = core.credentials.ufrag.clone();
        drop(core);
        self.gone.cancel();
        self.hub.forget(&ufrag);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.gone.cancel();
        self.hub.forget(&self.core.get_mut().credentials.ufrag);
    }
}
