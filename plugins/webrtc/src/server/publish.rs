//! A peer that publishes: its packets become units of a publisher of the host.

use std::sync::Arc;
use std::time::{Duration, Instant};

use patchbay_media::Kind;
use patchbay_sdk::Error;
use patchbay_sdk::api::message::{Connection, Publish};
use patchbay_sdk::server::{Context, Publisher};
use patchbay_sdk::source::Session;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Answer, Ask, Connected, Engine, Open, connected};
use crate::ingest::Ingest;
use crate::mux::Hub;
use crate::peer::setup::Use;
use crate::peer::{Event, Peer};
use crate::sdp::Description;

/// How often a publisher is asked for a key unit, so that the ring stays short: browsers send one only when asked.
const KEYFRAME_EVERY: Duration = Duration::from_secs(2);

/// After a loss it is asked so soon again.
const REPAIR_EVERY: Duration = Duration::from_millis(500);

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
            let codec = section.codecs().into_iter().next().filter(|_| section.sends);
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
    let start = Instant::now();
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
            match receive(peer, &session, &mut ingest, &mut events, start).await {
                Ok(why) => why.to_owned(),
                Err(error) => error.message,
            }
        } => reason,
    }
}

/// Takes packets of a connected peer until it is over.
pub(super) async fn receive(
    peer: &Peer,
    session: &Session,
    ingest: &mut Ingest,
    events: &mut mpsc::Receiver<Event>,
    start: Instant,
) -> Result<&'static str, Error> {
    let mut every = tokio::time::interval(REPAIR_EVERY);
    let mut asked = Instant::now();
    let sender_ssrc = rand::random();
    loop {
        let late = ingest.wake_at().map(|at| start + at);
        let mut wants = false;
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Packet(packet)) => ingest.packet(session, packet, start.elapsed())?,
                Some(Event::SenderReport { ssrc, ntp, rtp_time }) => ingest.sender_report(ssrc, ntp, rtp_time),
                Some(Event::Connected | Event::KeyframeWanted(_)) => {}
                None => return Ok("closed"),
            },
            () = async {
                match late {
                    Some(late) => tokio::time::sleep_until(late.into()).await,
                    None => std::future::pending().await,
                }
            } => ingest.drain(session, start.elapsed())?,
            () = session.keyframe_wanted() => wants = true,
            _ = every.tick() => {
                wants = asked.elapsed() >= KEYFRAME_EVERY || !ingest.video_streams(true).is_empty();
            }
        }
        if wants {
            asked = Instant::now();
            let wanted = ingest.video_streams(false).into_iter().map(|media_ssrc| {
                let packet = PictureLossIndication { sender_ssrc, media_ssrc };
                Box::new(packet) as Box<dyn rtc::rtcp::Packet>
            });
            let packets: Vec<_> = wanted.collect();
            if !packets.is_empty() {
                peer.write_rtcp(packets, asked);
            }
        }
    }
}
