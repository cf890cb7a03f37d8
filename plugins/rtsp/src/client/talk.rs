//! Sound to the camera (C110, C111).

use bytes::BytesMut;

use super::session::{After, Session, Step};
use super::{Output, Reconnect};
use crate::wire::write_interleaved;

impl Session {
    /// Somebody speaks by this media, or nobody.
    pub(super) fn talk(&mut self, media: Option<usize>) {
        self.is_talking = media.is_some();
        let Some(media) = media else {
            if self.wanted.is_empty() && self.playing.is_some() {
                self.leave(After::Park);
            }
            return;
        };
        self.speaks = true;
        self.talk_media = Some(media);
        let is_missing = !self.ways.has(media) && self.backchannel() == Some(media);
        match &mut self.step {
            Step::Idle { .. } => self.set_up_next(),
            Step::Parked => self.connect(Some(Reconnect::Wanted)),
            Step::Leaving { then: then @ After::Park, .. } => *then = After::Reconnect(Reconnect::Wanted),
            // Another SETUP needs a new session.
            Step::Playing if is_missing => self.leave(After::Reconnect(Reconnect::Wanted)),
            _ => {}
        }
    }

    /// Whether a packet for the camera would be sent now.
    pub fn hears(&self) -> bool {
        self.playing.is_some() && self.backchannel().is_some_and(|index| self.ways.has(index))
    }

    /// A packet for the camera; only after its answer to PLAY (C110).
    pub(super) fn send_rtp(&mut self, packet: &[u8]) {
        let Some(index) = self.backchannel().filter(|_| self.playing.is_some()) else { return };
        if let Some(channel) = self.ways.rtp_channel(index) {
            let mut out = BytesMut::new();
            if write_interleaved(channel, packet, &mut out) {
                self.out.push_back(Output::Send(out.freeze()));
            }
        } else if let Some(port) = self.ways.peer_port(index, false) {
            let data = bytes::Bytes::copy_from_slice(packet);
            self.out.push_back(Output::SendUdp { index, from_rtcp: false, port, data });
        }
    }
}
