//! A peer that publishes: its packets become units of a publisher of the host.

use std::sync::Arc;
use std::time::Instant;

use patchbay_media::{Codec, Kind};
use patchbay_sdk::Error;
use patchbay_sdk::api::message::{Connection, Publish};
use patchbay_sdk::server::Context;
use patchbay_sdk::source::Session;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use tokio::sync::mpsc;

use super::{Again, Answer, Ask, Connected, Engine, Open, connected, refused};
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
    let uses = plan(offer);
    let (text, kept) = received(offer, &uses);
    let ingest = Ingest::new(&text, |index| kept.contains(&index));
    if ingest.is_empty() {
        return Err(Error::unsupported("sdp: no codec of the offer is known here"));
    }
    let publish = Publish { stream: ask.stream.clone(), connection: ask.connection.clone() };
    let publisher = context.publish(&publish).await?;
    let Connected { peer, events, offers, answer, close, .. } = engine.connect(hub, offer, &uses).await?;
    let open = Open { engine: Arc::clone(engine), peer: Arc::clone(&peer), id: answer.id.clone() };
    let sending = Sending { peer: Arc::clone(&peer), events, ssrc: rand::random() };
    let publishing = Publishing {
        engine: Arc::clone(engine),
        ingest,
        session: publisher.session(),
        connection: ask.connection.clone(),
        sending,
        offers,
    };
    patchbay_sdk::spawn(async move {
        let open = open;
        let mut publisher = publisher;
        tokio::join!(peer.drive(), async {
            let reason = tokio::select! {
                error = publisher.run() => error.message,
                () = close.cancelled() => "closed by request".to_owned(),
                why = peer.ended() => why.to_owned(),
                reason = publishing.run() => reason,
            };
            tracing::debug!("publisher is gone: {reason}");
            peer.close();
        });
        drop(open);
    });
    Ok(answer)
}

/// What becomes of the sections of an offer.
fn plan(offer: &Description) -> Vec<Use> {
    let uses = offer.sections.iter().map(|section| {
        // Browsers name VP8 first; what most players take goes before what few do.
        let codecs = section.codecs();
        let plays_everywhere = |codec: &&Codec| !matches!(codec, Codec::Av1 | Codec::Vp8 | Codec::Vp9);
        let codec =
            codecs.iter().find(plays_everywhere).or(codecs.first()).filter(|_| section.sends).copied();
        match codec.and_then(|codec| section.format(codec)) {
            Some(format) if section.kind != Kind::Data => Use::Receive(format.clone()),
            _ => Use::Nothing,
        }
    });
    uses.collect()
}

/// The offer with only what is received, and which sections that is.
fn received(offer: &Description, uses: &[Use]) -> (String, Vec<usize>) {
    let type_of = |wanted: &Use| match wanted {
        Use::Receive(format) => Some(format.payload_type),
        _ => None,
    };
    let kept: Vec<Option<u8>> = uses.iter().map(type_of).collect();
    let sections = kept.iter().enumerate().filter(|(_, kept)| kept.is_some()).map(|(index, _)| index);
    (offer.reduced(&kept), sections.collect())
}

/// A session that publishes.
struct Publishing {
    engine: Arc<Engine>,
    ingest: Ingest,
    session: Session,
    connection: Connection,
    sending: Sending,
    offers: mpsc::Receiver<Again>,
}

impl Publishing {
    /// Publishes until it is over, and says why.
    async fn run(mut self) -> String {
        loop {
            match self.sending.events.recv().await {
                Some(Event::Connected) => break,
                Some(_) => {}
                None => return "closed".to_owned(),
            }
        }
        self.engine.totals.lock().connected += 1;
        let now = connected(&self.connection.protocol, &self.sending.peer);
        tracing::debug!(remote = now.remote_addr, protocol = now.protocol, "publisher connected");
        (self.connection.protocol, self.connection.remote_addr) = (now.protocol, now.remote_addr);
        loop {
            if let Err(error) = self.ingest.announce(&self.session, &self.connection) {
                return error.message;
            }
            let again = tokio::select! {
                over = self.ingest.receive(&self.session, &mut self.sending, Some(KEYFRAME_EVERY)) => {
                    return match over {
                        Ok(why) => why.to_owned(),
                        Err(error) => error.message,
                    };
                }
                Some(again) = self.offers.recv() => again,
            };
            let answer = self.renegotiate(&again.offer, &again.told);
            let _ = again.reply.send(answer);
        }
    }

    /// Answers a later offer: the peer sends more than before, or less. What it goes on to send is not interrupted.
    fn renegotiate(&mut self, offer: &Description, told: &[String]) -> Result<String, Error> {
        let uses = plan(offer);
        let agreed = self.sending.peer.renegotiate(offer, &uses, told).map_err(refused)?;
        let (text, kept) = received(offer, &uses);
        let is_more = self.ingest.extend(&text, |index| kept.contains(&index));
        tracing::debug!(sections = kept.len(), is_more, "negotiated again");
        Ok(agreed.sdp)
    }
}

struct Sending {
    peer: Arc<Peer>,
    events: mpsc::Receiver<Event>,
    /// This side's, for requests.
    ssrc: u32,
}

impl Sender for Sending {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_players_take_goes_before_what_few_do() {
        let received = |formats: &str, direction: &str| {
            let types: Vec<&str> = formats.split(' ').filter_map(|format| format.split(':').next()).collect();
            let maps: String = formats
                .split(' ')
                .filter_map(|format| format.split_once(':'))
                .map(|(payload_type, name)| format!("a=rtpmap:{payload_type} {name}/90000\r\n"))
                .collect();
            let text =
                format!("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF {}\r\na={direction}\r\n{maps}", types.join(" "));
            plan(&Description::parse(&text).unwrap()).into_iter().find_map(|wanted| match wanted {
                Use::Receive(format) => Some(format.payload_type),
                _ => None,
            })
        };
        assert_eq!(received("96:VP8 98:VP9 102:H264 45:AV1", "sendonly"), Some(102));
        assert_eq!(received("45:AV1 98:VP9 96:VP8 49:H265", "sendrecv"), Some(49));
        assert_eq!(received("96:VP8 98:VP9", "sendonly"), Some(96));
        assert_eq!(received("45:AV1 96:VP8", "sendonly"), Some(45));
        assert_eq!(received("96:VP8", "recvonly"), None);
        assert_eq!(received("120:theora", "sendonly"), None);
    }
}
