//! A peer that publishes: its packets become units of a publisher of the host.

use std::sync::Arc;
use std::time::Instant;

use patchbay_media::{Codec, Kind};
use patchbay_sdk::Error;
use patchbay_sdk::api::message::{Connection, Publish};
use patchbay_sdk::server::{Context, Publisher};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Answer, Ask, Connected, Engine, Open, connected};
use crate::ingest::{Ingest, KEYFRAME_EVERY, Received, Sender};
use crate::mux::Hub;
use crate::peer::setup::Use;
use crate::peer::{Event, Peer};
use crate::sdp::Description;

/// Starts a session that publishes.
pub(super) async fn open(
    engine: &Arc<Engine>,
    context: &Context,
    hub: &Arc<Hub>,
    ask: &Ask,
    offer: &Description,
) -> Result<Answer, Error> {
    let uses: Vec<Use> = offer
        .sections
        .iter()
        .map(|section| {
            // AV1 is sent, not received.
            let codec =
                section.codecs().into_iter().find(|codec| *codec != Codec::Av1).filter(|_| section.sends);
            match codec.and_then(|codec| section.format(codec)) {
                Some(format) if section.kind != Kind::Data => Use::Receive(format.clone()),
                _ => Use::Nothing,
            }
        })
        .collect();
    let kept: Vec<Option<u8>> = uses
        .iter()
        .map(|wanted| match wanted {
            Use::Receive(format) => Some(format.payload_type),
            _ => None,
        })
        .collect();
    let ingest = Ingest::new(&offer.reduced(&kept), |index| kept.get(index).is_some_and(Option::is_some));
    if ingest.is_empty() {
        return Err(Error::unsupported("sdp: no codec of the offer is known here"));
    }
    let publish = Publish { stream: ask.stream.clone(), connection: ask.connection.clone() };
    let publisher = context.publish(&publish).await?;
    let Connected { peer, events, answer, close } = engine.connect(hub, offer, &uses).await?;
    let open = Open { engine: Arc::clone(engine), peer: Arc::clone(&peer), id: answer.id.clone() };
    let engine = Arc::clone(engine);
    let connection = ask.connection.clone();
    patchbay_sdk::spawn(async move {
        let open = open;
        let publishing = run(&engine, &peer, publisher, ingest, connection, events, close);
        tokio::join!(peer.drive(), async {
            let reason = publishing.await;
            tracing::debug!("publisher is gone: {reason}");
            peer.close();
        });
        drop(open);
    });
    Ok(answer)
}

async fn run(
    engine: &Engine,
    peer: &Peer,
    mut publisher: Publisher,
    mut ingest: Ingest,
    connection: Connection,
    mut events: mpsc::Receiver<Event>,
    close: CancellationToken,
) -> String {
    let session = publisher.session();
    tokio::select! {
        error = publisher.run() => error.message,
        () = close.cancelled() => "closed by request".to_owned(),
        why = peer.ended() => why.to_owned(),
        reason = async {
            loop {
                match events.recv().await {
                    Some(Event::Connected) => break,
                    Some(_) => {}
                    None => return "closed".to_owned(),
                }
            }
            engine.totals.lock().connected += 1;
            let now = connected(&connection.protocol, peer);
            tracing::debug!(remote = now.remote_addr, protocol = now.protocol, "publisher connected");
            let connection =
                Connection { protocol: now.protocol, remote_addr: now.remote_addr, ..connection };
            if let Err(error) = ingest.announce(&session, &connection) {
                return error.message;
            }
            let mut sender = Sending { peer, events, ssrc: rand::random() };
            match ingest.receive(&session, &mut sender, Some(KEYFRAME_EVERY)).await {
                Ok(why) => why.to_owned(),
                Err(error) => error.message,
            }
        } => reason,
    }
}

struct Sending<'a> {
    peer: &'a Peer,
    events: mpsc::Receiver<Event>,
    /// This side's, for requests.
    ssrc: u32,
}

impl Sender for Sending<'_> {
    async fn next(&mut self) -> Received {
        match self.events.recv().await {
            Some(Event::Packet(packet)) => Received::Packet(packet),
            Some(Event::SenderReport { ssrc, ntp, rtp_time }) => {
                Received::SenderReport { ssrc, ntp, rtp_time }
            }
            Some(Event::Connected | Event::KeyframeWanted(_)) => Received::Other,
            None => Received::Over("closed"),
        }
    }

    fn want_keyframes(&mut self, streams: Vec<u32>) {
        let packets = streams.into_iter().map(|media_ssrc| {
            let packet = PictureLossIndication { sender_ssrc: self.ssrc, media_ssrc };
            Box::new(packet) as Box<dyn rtc::rtcp::Packet>
        });
        self.peer.write_rtcp(packets.collect(), Instant::now());
    }
}
