//! What makes a connection go on: its times, what it has to say, and what it sends.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::sansio::Protocol as _;
use rtc::shared::{TransportContext, TransportProtocol};

use super::core::Core;
use super::feedback::Seen;
use super::link::Path;
use super::{Event, Peer};
use crate::config::Transport;
use crate::mux::tcp::Outlet;

impl Peer {
    /// Drives the connection's times until it is over. One task per connection does nothing else with it.
    pub async fn drive(&self) {
        loop {
            let deadline = self.tick(Instant::now());
            tokio::select! {
                () = tokio::time::sleep_until(deadline.into()) => {}
                () = self.wake.notified() => {}
                () = self.gone.cancelled() => return,
            }
        }
    }

    /// Handles what is due, and says when to come again.
    fn tick(&self, now: Instant) -> Instant {
        self.hub.counters().ticks.fetch_add(1, Relaxed);
        let mut core = self.core.lock();
        if core.connection.poll_timeout().is_some_and(|due| due <= now)
            && let Err(error) = core.connection.handle_timeout(now)
        {
            tracing::debug!("timeout: {error}");
        }
        let mut next = now + Duration::from_secs(1);
        if core.is_connected {
            let waiting = core.outlets.values().map(Outlet::waiting).max().unwrap_or(0);
            let mut begins = false;
            if let Some((_, connection, outgoing)) = core.split(&self.hub) {
                for outgoing in outgoing {
                    begins |= outgoing.report_first(connection, None, now);
                }
            }
            if begins {
                self.drain(&mut core, now);
            }
            if let Some((mut link, connection, outgoing)) = core.split(&self.hub) {
                for outgoing in outgoing {
                    if let Some(again) = outgoing.pace(&mut link, connection, now, waiting) {
                        next = next.min(again);
                    }
                }
            }
        }
        core.probe(now);
        self.drain(&mut core, now);
        next = next.min(core.connection.poll_timeout().unwrap_or(next)).max(now + Duration::from_millis(1));
        core.scheduled = Some(next);
        next
    }

    /// Takes out what the connection has to say and to send.
    pub(super) fn drain(&self, core: &mut Core, now: Instant) {
        self.send_out(core);
        while let Some(event) = core.connection.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
                self.state(core, state, now);
            }
        }
        while let Some(message) = core.connection.poll_read() {
            if let RTCMessage::RtpPacket(_, packet) = message.message {
                core.media += 1;
                let _ = self.events.try_send(Event::Packet(packet));
            }
        }
        let seen: VecDeque<Seen> = std::mem::take(&mut core.feedback.lock().seen);
        for seen in seen {
            self.feedback(core, seen);
        }
        core.batch.flush(&self.hub);
        if let (Some(scheduled), Some(due)) = (core.scheduled, core.connection.poll_timeout())
            && due + Duration::from_millis(1) < scheduled
        {
            core.scheduled = Some(due.max(now));
            self.wake.notify_one();
        }
    }

    /// Hands packets of the connection to the sockets; from a probe it is learned where media goes, and how.
    fn send_out(&self, core: &mut Core) {
        while let Some(message) = core.connection.poll_write() {
            let TransportContext { local_addr, peer_addr, transport_protocol, .. } = message.transport;
            let transport = match transport_protocol {
                TransportProtocol::UDP => Transport::Udp,
                TransportProtocol::TCP => Transport::Tcp,
                _ => continue,
            };
            let packet = &message.message;
            if core.tap.is_probe(packet) {
                core.learn(Path { local: local_addr, remote: peer_addr, transport }, packet);
                continue;
            }
            let write = |bytes: &mut Vec<u8>| {
                bytes.extend_from_slice(packet);
                true
            };
            match transport {
                Transport::Udp => core.batch.push(&self.hub, local_addr, peer_addr, packet.len(), write),
                Transport::Tcp => {
                    if let Some(outlet) = core.outlets.get(&peer_addr) {
                        outlet.send(packet.len(), write);
                    }
                }
            }
        }
        core.batch.flush(&self.hub);
        if core.is_up && !core.is_connected && (core.direct.is_some() || core.outgoing.is_empty()) {
            core.is_connected = true;
            let _ = self.events.try_send(Event::Connected);
        }
    }

    fn feedback(&self, core: &mut Core, seen: Seen) {
        match seen {
            Seen::Lost { ssrc, sequence, also } => {
                let Some((mut link, _, outgoing)) = core.split(&self.hub) else { return };
                let Some(outgoing) = outgoing.iter_mut().find(|outgoing| outgoing.ssrc() == ssrc) else {
                    return;
                };
                outgoing.resend(&mut link, sequence);
                for place in (0..16).filter(|place| also >> place & 1 == 1) {
                    outgoing.resend(&mut link, sequence.wrapping_add(place + 1));
                }
            }
            Seen::KeyframeWanted { ssrc } => {
                if let Some(track) = core.outgoing.iter().position(|outgoing| outgoing.ssrc() == ssrc) {
                    let _ = self.events.try_send(Event::KeyframeWanted(track));
                }
            }
            Seen::SenderReport { ssrc, ntp, rtp_time } => {
                let _ = self.events.try_send(Event::SenderReport { ssrc, ntp, rtp_time });
            }
        }
    }

    fn state(&self, core: &mut Core, state: RTCPeerConnectionState, now: Instant) {
        match state {
            RTCPeerConnectionState::Connected if !core.is_up => {
                core.is_up = true;
                core.check = None;
                core.probe(now);
                self.send_out(core);
            }
            RTCPeerConnectionState::Disconnected => self.over(core, "disconnected"),
            RTCPeerConnectionState::Failed => self.over(core, "failed"),
            RTCPeerConnectionState::Closed => self.over(core, "closed"),
            _ => {}
        }
    }

    fn over(&self, core: &mut Core, why: &'static str) {
        if !core.is_over {
            core.is_over = true;
            core.why = why;
            self.gone.cancel();
        }
    }
}
