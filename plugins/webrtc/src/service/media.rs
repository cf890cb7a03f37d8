//! Packets of a service's connection to units of the caller's source.

use std::sync::Arc;

use patchbay_sdk::api::message::Connection;
use patchbay_sdk::source::Session;
use patchbay_sdk::{Class, Error, service};
use tokio::sync::{mpsc, watch};

use super::Progress;
use super::talk::{self, Format, PACKET_MS, Voice};
use crate::ingest::{Ingest, Received, Sender};
use crate::source::{Event, Tracks};

/// The packets of a connection.
pub(super) struct Inbox {
    packets: mpsc::Receiver<Event>,
    tracks: Arc<Tracks>,
}

impl Inbox {
    /// Packets by `packets`, of `tracks`.
    pub(super) fn new(packets: mpsc::Receiver<Event>, tracks: Arc<Tracks>) -> Self {
        Self { packets, tracks }
    }
}

impl Sender for Inbox {
    async fn next(&mut self) -> Received {
        match self.packets.recv().await {
            Some(Event::Packet(packet)) => Received::Packet(packet),
            Some(Event::SenderReport { ssrc, ntp, rtp_time }) => {
                Received::SenderReport { ssrc, ntp, rtp_time }
            }
            Some(_) => Received::Other,
            None => Received::Over("closed"),
        }
    }

    fn want_keyframes(&mut self, streams: Vec<u32>) {
        self.tracks.want_keyframes(streams);
    }
}

/// Feeds a source, from the connection's first description of the peer on; each later one may bring more tracks.
pub(super) async fn feed(
    source: Session,
    connection: &Connection,
    mut descriptions: mpsc::UnboundedReceiver<String>,
    mut inbox: Inbox,
    mut progress: watch::Receiver<Progress>,
    voice: &watch::Receiver<Option<Voice>>,
    answers: &service::Sender,
) -> Result<(), Error> {
    let over = || Error::eof("webrtc: closed");
    let _ = progress.wait_for(|progress| progress.is_connected).await.map_err(|_| over())?;
    let mut ingest = Ingest::new("", |_| true);
    let (agreed, format) = watch::channel(None);
    let speaking = async {
        let mut voice = voice.clone();
        let voice = voice.wait_for(Option::is_some).await.ok().and_then(|voice| voice.clone());
        match voice {
            Some(voice) => talk::speak(source.clone(), &voice, format, answers).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(speaking);
    loop {
        tokio::select! {
            ended = &mut speaking => return ended,
            ended = ingest.receive(&source, &mut inbox, None), if !ingest.is_empty() => {
                return Err(Error::new(Class::Eof, format!("webrtc: {}", ended?)));
            }
            description = descriptions.recv() => {
                let description = description.ok_or_else(over)?;
                let format = Format::of(&description).filter(|_| voice.borrow().is_some());
                let packet_ms = voice.borrow().as_ref().map_or(PACKET_MS, |voice| voice.packet_ms);
                let is_other = agreed.send_replace(format) != format;
                ingest.set_send(format.iter().map(|format| format.send_track(packet_ms)).collect());
                if ingest.extend(&description, |_| true) || is_other {
                    ingest.announce(&source, connection)?;
                }
            }
        }
    }
}
