//! What the caller of the service says.

use std::time::Duration;

use parking_lot::Mutex;
use patchbay_media::{Codec, Kind};
use patchbay_sdk::Error;
use patchbay_sdk::service::webrtc::{
    Candidate, Data, Description, Direction, MAX_CHANNELS, Media, Open, Renegotiate, Role,
};
use patchbay_sdk::service::{Message, Sender, Session};
use tokio::sync::{mpsc, watch};
use webrtc::peer_connection::RTCSessionDescription;

use super::channels::{self, Channels};
use super::talk::Format;
use super::{MAX_MEDIAS, Progress};
use crate::source::{Client, failed};
use crate::{candidate, sdp};

/// How long candidates are gathered before what there is is used.
const GATHER_LIMIT: Duration = Duration::from_secs(4);

/// The caller's side of a connection.
pub(super) struct Signalling<'a> {
    pub(super) client: &'a Client,
    pub(super) answers: Sender,
    pub(super) channels: &'a Channels,
    pub(super) progress: watch::Receiver<Progress>,
    /// What the peer has described, for those who take its media.
    pub(super) descriptions: mpsc::UnboundedSender<String>,
    pub(super) offers: Mutex<Offers>,
}

/// Offers of this side: the next one waits for the answer to the last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Offers {
    is_open: bool,
    is_wanted: bool,
}

impl Signalling<'_> {
    /// Does what the caller says until it leaves or closes the connection.
    pub(super) async fn run(&self, session: &mut Session, open: Open) -> Result<(), Error> {
        for channel in &open.channels {
            let made =
                self.client.connection().create_data_channel(&channel.label, Some(channels::init(channel)));
            self.channels.add(made.await.map_err(failed)?, false).await?;
        }
        if open.role == Role::Offerer {
            self.add(&open.medias).await?;
            self.offer(&open).await?;
        }
        // It says no more: the caller has left.
        while let Ok(message) = session.next().await {
            if message.method == "close" {
                return Ok(());
            }
            let closed = session.closed();
            tokio::select! {
                done = self.take(message, &open) => done?,
                () = closed => return Ok(()),
            }
        }
        Ok(())
    }

    async fn take(&self, message: Message, open: &Open) -> Result<(), Error> {
        match message.method.as_str() {
            "offer" => self.answer(&message.parse::<Description>()?.sdp, open).await,
            "answer" => {
                self.accept(&message.parse::<Description>()?.sdp).await?;
                let offers = std::mem::take(&mut *self.offers.lock());
                if offers.is_wanted { self.offer(open).await } else { Ok(()) }
            }
            "candidate" => {
                let candidate: Candidate = message.parse()?;
                self.client.add_candidate(&candidate.candidate).await;
                Ok(())
            }
            "send" => {
                let bytes = message.bytes.clone().unwrap_or_default();
                self.channels.send(message.parse::<Data>()?, &bytes).await
            }
            "renegotiate" => {
                let change: Renegotiate = message.parse()?;
                if change.medias.len() > MAX_MEDIAS.min(MAX_CHANNELS) {
                    return Err(Error::unsupported("webrtc: too many sections"));
                }
                self.add(&change.medias).await?;
                if change.ice_restart {
                    self.client.connection().restart_ice().await.map_err(failed)?;
                }
                self.offer(open).await
            }
            other => {
                tracing::debug!("a call of the unknown method {other:?} is passed over");
                Ok(())
            }
        }
    }

    async fn add(&self, medias: &[Media]) -> Result<(), Error> {
        for media in medias {
            self.client.add(media).await?;
        }
        Ok(())
    }

    /// Makes an offer and tells it, at once or when the last one is answered.
    async fn offer(&self, open: &Open) -> Result<(), Error> {
        {
            let mut offers = self.offers.lock();
            if offers.is_open {
                offers.is_wanted = true;
                return Ok(());
            }
            offers.is_open = true;
        }
        let connection = self.client.connection();
        let offer = connection.create_offer(None).await.map_err(failed)?;
        connection.set_local_description(offer.clone()).await.map_err(failed)?;
        let sdp = self.whole(offer, open).await;
        self.answers.send("offer", &Description { sdp })
    }

    /// Takes the peer's offer and answers it.
    async fn answer(&self, offer: &str, open: &Open) -> Result<(), Error> {
        let text = sdp::one_transport(&reduced(offer, &open.medias)?);
        let connection = self.client.connection();
        let offer = RTCSessionDescription::offer(text.clone()).map_err(failed)?;
        connection.set_remote_description(offer).await.map_err(failed)?;
        let talks = |media: &Media| {
            media.kind == "audio" && matches!(media.direction, Direction::SendRecv | Direction::SendOnly)
        };
        if let (Some(format), Some(media)) =
            (Format::of(&text), open.medias.iter().find(|media| talks(media)))
        {
            self.client.add_voice(format.codec(), media.packet_ms).await?;
        }
        let answer = connection.create_answer(None).await.map_err(failed)?;
        connection.set_local_description(answer.clone()).await.map_err(failed)?;
        let is_waiting = text.lines().any(|line| line == "a=setup:active");
        let _ = self.descriptions.send(text);
        let sdp = self.whole(answer, open).await;
        // The connection takes the role that the offer leaves it, and says another.
        let sdp = if is_waiting { sdp.replace("a=setup:active", "a=setup:passive") } else { sdp };
        self.answers.send("answer", &Description { sdp })
    }

    /// Takes the peer's answer.
    async fn accept(&self, answer: &str) -> Result<(), Error> {
        let text = reduced(answer, &[])?;
        let answer = RTCSessionDescription::answer(text.clone()).map_err(failed)?;
        self.client.connection().set_remote_description(answer).await.map_err(failed)?;
        let _ = self.descriptions.send(text);
        Ok(())
    }

    /// This side's description, with its candidates unless they come one by one.
    async fn whole(&self, description: RTCSessionDescription, open: &Open) -> String {
        if !open.trickle {
            let mut progress = self.progress.clone();
            let gathered = progress.wait_for(|progress| progress.is_gathered);
            // What there is after the time is used.
            let _ = tokio::time::timeout(GATHER_LIMIT, gathered).await;
            if let Some(whole) = self.client.connection().local_description().await {
                return whole.sdp;
            }
        }
        description.sdp
    }
}

/// A description without what the connection's own parser does not like, and, of an offer, with the wanted codec of each
/// section alone.
fn reduced(text: &str, medias: &[Media]) -> Result<String, Error> {
    let description = match sdp::Description::parse(text) {
        Ok(description) => description,
        // Data channels alone.
        Err(sdp::SdpError::NoMedia) => return Ok(candidates_normalised(text)),
        Err(error) => return Err(Error::protocol(error.to_string())),
    };
    let wanted = |section: &sdp::Section| {
        let kind = match section.kind {
            Kind::Video => "video",
            Kind::Audio => "audio",
            Kind::Data => return None,
        };
        let codecs = &medias.iter().find(|media| media.kind == kind)?.codecs;
        let known = codecs.iter().filter_map(|name| Codec::from_name(name));
        known.into_iter().find_map(|codec| section.format(codec)).map(|format| format.payload_type)
    };
    let kept: Vec<Option<u8>> = description.sections.iter().map(wanted).collect();
    Ok(description.reduced(&kept))
}

fn candidates_normalised(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("a=candidate:") {
        Some(value) => format!("a={}\r\n", candidate::normalised_value(value)),
        None => format!("{line}\r\n"),
    };
    text.lines().map(|text| line(text.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 8\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:8 PCMA/8000\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=sctp-port:5000\r\n\
        a=candidate: 1 UDP 2113939711 192.0.2.1 9 typ host\r\n";

    #[test]
    fn an_offer_keeps_the_wanted_codec() {
        let wanted =
            Media { codecs: vec!["hevc".to_owned(), "pcm_alaw".to_owned()], ..Media::receive("audio") };
        let text = reduced(OFFER, &[wanted]).unwrap();
        assert!(
            text.contains("SAVPF 8\r\n") && !text.contains("opus") && text.contains("a=sctp-port"),
            "{text}"
        );
        let all = reduced(OFFER, &[Media::receive("audio")]).unwrap();
        assert!(all.contains("SAVPF 111 8\r\n"), "{all}");
        assert!(reduced("nonsense", &[]).is_err());
    }

    #[test]
    fn an_offer_of_data_alone_is_one() {
        let start = OFFER.find("m=audio").unwrap();
        let data = OFFER[..start].to_owned() + &OFFER[OFFER.find("m=application").unwrap()..];
        let text = reduced(&data, &[]).unwrap();
        assert!(text.contains("a=candidate:0 1 udp 2113939711 192.0.2.1 9 typ host\r\n"), "{text}");
    }
}
