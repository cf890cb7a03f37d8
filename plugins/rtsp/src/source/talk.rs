//! What a player says, as RTP for the camera.

use bytes::Bytes;
use patchbay_media::{Codec, Unit};
use patchbay_rtp::packetize::{DEFAULT_MAX_PAYLOAD, Packetizer, Packets};
use patchbay_sdk::talk::{Talk, Talks};

use super::backchannel::Accepted;

/// Packets of silence behind the last word: some cameras cut the end off (C115).
const LAST_PACKETS: u32 = 5;

/// What happened to the talk.
pub(super) enum Heard {
    /// Another one begins.
    Begun(Box<Talk>),
    /// Sound.
    Unit(Unit),
    /// It is over.
    Over,
}

/// The talks of a source, and the one under way.
pub(super) struct Speech {
    talks: Option<Talks>,
    current: Option<Speaking>,
}

struct Speaking {
    talk: Box<Talk>,
    packetizer: Packetizer,
    packets: Packets,
    /// Time of the next unit, when it follows the last one.
    next: i64,
    len: usize,
}

impl Speech {
    pub(super) fn new(talks: Option<Talks>) -> Self {
        Self { talks, current: None }
    }

    /// Waits for whatever comes next. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Heard {
        if let Some(speaking) = &mut self.current {
            return speaking.talk.next().await.map_or(Heard::Over, Heard::Unit);
        }
        match &mut self.talks {
            Some(talks) => Heard::Begun(Box::new(talks.next().await)),
            None => std::future::pending().await,
        }
    }

    /// A talk begins; the media that it goes to, when it can be sent. Its own numbers start at random (C111).
    pub(super) fn begin(&mut self, talk: Box<Talk>, accepted: &[Accepted]) -> Option<usize> {
        let way = accepted.get(talk.index())?;
        let packetizer = Packetizer::new(
            talk.parameters(),
            way.payload_type,
            rand::random(),
            rand::random(),
            rand::random(),
            DEFAULT_MAX_PAYLOAD,
        );
        let packetizer = packetizer
            .inspect_err(|error| tracing::warn!(%error, "what is said cannot be sent to the camera"))
            .ok()?;
        self.current = Some(Speaking { talk, packetizer, packets: Packets::new(0), next: 0, len: 0 });
        Some(way.media)
    }

    /// The RTP packets of a unit.
    pub(super) fn packets(&mut self, unit: &Unit) -> Vec<Bytes> {
        let Some(speaking) = &mut self.current else { return Vec::new() };
        speaking.packetizer.packetize(unit, None, &mut speaking.packets);
        speaking.next = unit.pts.saturating_add(i64::from(unit.duration));
        speaking.len = unit.data.len();
        let packets = speaking.packets.datagrams().map(Bytes::copy_from_slice).collect();
        speaking.packets.clear();
        packets
    }

    /// The talk is over: the last packets, of silence.
    pub(super) fn end(&mut self) -> Vec<Bytes> {
        let Some(speaking) = &self.current else { return Vec::new() };
        let silence = match speaking.talk.parameters().codec {
            Codec::PcmAlaw => 0xd5,
            Codec::PcmMulaw => 0xff,
            _ => 0,
        };
        let (len, next) = (speaking.len, speaking.next);
        let ticks = i64::try_from(len).unwrap_or(0);
        let mut packets = Vec::new();
        if silence != 0 && len > 0 {
            for packet in 0..i64::from(LAST_PACKETS) {
                let mut unit = Unit::new(next + packet * ticks, true, Bytes::from(vec![silence; len]));
                unit.duration = u32::try_from(len).unwrap_or(0);
                packets.extend(self.packets(&unit));
            }
        }
        self.current = None;
        packets
    }
}
