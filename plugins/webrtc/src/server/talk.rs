//! The microphone of a peer that watches: its packets become units of a talk of the host.

use std::pin::Pin;
use std::time::{Duration, Instant};

use patchbay_media::{Codec, Kind, Parameters};
use patchbay_rtp::{Depacketizer, Item, Reorder, sdp};
use patchbay_sdk::api::message::{Connection, SendTrack};
use patchbay_sdk::server::{Consumer, Context};
use patchbay_sdk::talk::{Microphone, Offer, Talker};
use patchbay_sdk::{Class, Error};

use crate::ingest::rtp_packet;
use crate::peer::setup::Use;
use crate::sdp::{Description, Format, Section};

/// What is offered to a camera of which nothing is known yet, or that takes none of it as it is.
const ANY: [Codec; 3] = [Codec::Opus, Codec::PcmAlaw, Codec::PcmMulaw];

/// A talk that the host has ended is not offered again for so long.
const AGAIN: Duration = Duration::from_secs(2);

/// The section of an offer that the peer speaks by, and the formats that it may speak in, the best first.
pub(super) struct Wish {
    /// Index of the section.
    pub(super) section: usize,
    formats: Vec<(Codec, Format)>,
}

impl Wish {
    /// What the peer wishes to say, when this stream's cameras accept `send`. A section that is used for sound to the peer as well
    /// has one format for both.
    pub(super) fn of(offer: &Description, uses: &[Use], send: &[SendTrack]) -> Option<Self> {
        let speaks = |section: &Section| section.sends && section.kind == Kind::Audio;
        let section = offer.sections.iter().position(speaks)?;
        let own = offer.sections.get(section)?;
        // G.711 is 8 kHz here; at another rate it would be transcoded, and other codecs come before that.
        let rates =
            |track: &&SendTrack| track.codec == Codec::Opus.name() || matches!(track.sample_rate, 0 | 8000);
        let taken = send.iter().filter(rates).filter_map(|track| Codec::from_name(&track.codec));
        let mut formats: Vec<(Codec, Format)> = Vec::new();
        for codec in taken.chain(ANY) {
            let format = match uses.get(section) {
                Some(Use::Send(format)) => Some(format).filter(|format| format.codec == Some(codec)),
                _ => own.format(codec),
            };
            if let Some(format) = format
                && !formats.iter().any(|(known, _)| *known == codec)
            {
                formats.push((codec, format.clone()));
            }
        }
        Some(Self { section, formats })
    }
}

/// A peer that speaks.
pub(super) struct Speaker {
    voice: Voice,
    context: Context,
    /// What is offered again.
    offer: Offer,
    /// Name of its section.
    mid: String,
    payload_type: u8,
    reorder: Reorder,
    depacketizer: Depacketizer,
    zero: Instant,
}

/// Offers what the peer says to the camera: the first format that it takes as it is, else the first that can be transcoded. The section
/// is used for it then.
///
/// # Errors
/// The camera takes nothing of it, or is taken.
pub(super) async fn begin(
    context: &Context,
    consumer: &Consumer,
    stream: &str,
    offer: &Description,
    uses: &mut [Use],
    wish: &Wish,
) -> Result<Speaker, Error> {
    let mut refused = Error::unsupported("talk: no codec of the microphone is known here");
    let exact = wish.formats.iter().map(|format| (true, format));
    for (exact, (codec, format)) in exact.chain(wish.formats.iter().map(|format| (false, format))) {
        let parameters = match codec {
            Codec::Opus => Parameters::audio(Codec::Opus, 48_000, 2),
            codec => Parameters::audio(*codec, 8000, 1),
        };
        let (stream, consumer) = (stream.to_owned(), consumer.id());
        let talk = Offer { stream, consumer, parameters, exact, connection: Connection::default() };
        let talker = match context.talk(&talk).await {
            Ok(talker) => talker,
            Err(error) if error.class == Class::Unsupported => {
                refused = error;
                continue;
            }
            Err(error) => return Err(error),
        };
        let kept: Vec<Option<u8>> = (0..offer.sections.len())
            .map(|index| (index == wish.section).then_some(format.payload_type))
            .collect();
        let session = sdp::parse(offer.reduced(&kept).as_bytes());
        let media =
            session.medias.get(wish.section).ok_or_else(|| Error::protocol("sdp: no such section"))?;
        let depacketizer = Depacketizer::new(media).map_err(|error| Error::unsupported(error.to_string()))?;
        if let Some(own) = uses.get_mut(wish.section).filter(|own| !matches!(own, Use::Send(_))) {
            *own = Use::Receive(format.clone());
        }
        return Ok(Speaker {
            voice: Voice::of(talker),
            context: context.clone(),
            offer: Offer { exact: false, ..talk },
            mid: offer.sections.get(wish.section).map(|section| section.mid().to_owned()).unwrap_or_default(),
            payload_type: format.payload_type,
            reorder: Reorder::new(),
            depacketizer,
            zero: Instant::now(),
        });
    }
    Err(refused)
}

impl Speaker {
    /// Whether a later offer has it speak as before; its section is used for it then. The camera keeps its codec.
    pub(super) fn goes_on(&self, offer: &Description, uses: &mut [Use], wish: &Wish) -> bool {
        let known = offer.sections.get(wish.section).is_some_and(|section| section.mid() == self.mid);
        let format = wish.formats.iter().find(|(_, format)| format.payload_type == self.payload_type);
        let (true, Some((_, format))) = (known, format) else { return false };
        if let Some(own) = uses.get_mut(wish.section).filter(|own| !matches!(own, Use::Send(_))) {
            *own = Use::Receive(format.clone());
        }
        true
    }

    /// Takes a packet of the peer. Where the host has ended the talk it is offered again, as long as the peer speaks: the camera may be
    /// back, or another one in its place.
    pub(super) fn packet(&mut self, packet: &rtc::rtp::Packet) {
        if packet.header.payload_type != self.payload_type {
            return;
        }
        let Some(packet) = rtp_packet(packet) else { return };
        if let Voice::Unheard { until, asked } = &mut self.voice
            && asked.is_none()
            && *until <= Instant::now()
        {
            let (context, offer) = (self.context.clone(), self.offer.clone());
            *asked = Some(Box::pin(async move { context.talk(&offer).await }));
        }
        let now = self.zero.elapsed();
        self.reorder.push(packet, now);
        self.drain(now);
    }

    /// Completes when something was due although no packet came. May be dropped and called again.
    pub(super) async fn wait(&mut self) {
        let due = self.reorder.wake_at().map(|at| self.zero + at);
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            voice = self.voice.change() => self.voice = voice,
            () = due => {
                let now = self.zero.elapsed();
                self.drain(now);
            }
        }
    }

    /// What is not heard is lost.
    fn drain(&mut self, now: Duration) {
        while let Some(packet) = self.reorder.poll(now) {
            self.depacketizer.push(&packet, now);
        }
        while let Some(item) = self.depacketizer.poll() {
            if let (Item::Unit(unit), Voice::Heard { microphone, .. }) = (item, &self.voice)
                && let Err(error) = microphone.push(&unit)
            {
                self.voice = Voice::unheard(&error);
            }
        }
    }
}

/// The host's side of a [`Speaker`].
enum Voice {
    Heard {
        talker: Talker,
        microphone: Microphone,
    },
    Unheard {
        /// It is not offered before.
        until: Instant,
        asked: Option<Asked>,
    },
}

/// A talk that is offered, not answered yet.
type Asked = Pin<Box<dyn Future<Output = Result<Talker, Error>> + Send>>;

impl Voice {
    fn of(talker: Talker) -> Self {
        Self::Heard { microphone: talker.microphone(), talker }
    }

    fn unheard(why: &Error) -> Self {
        tracing::debug!("the microphone is not heard: {}", why.message);
        Self::Unheard { until: Instant::now() + AGAIN, asked: None }
    }

    /// Completes with what it is from then on. May be dropped and called again.
    async fn change(&mut self) -> Self {
        match self {
            Self::Heard { talker, .. } => Self::unheard(&talker.ended().await),
            Self::Unheard { asked: Some(asked), .. } => match asked.await {
                Ok(talker) => {
                    tracing::debug!("the microphone is heard again");
                    Self::of(talker)
                }
                Err(why) => Self::unheard(&why),
            },
            Self::Unheard { asked: None, .. } => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 H264/90000\r\na=recvonly\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8\r\na=rtpmap:111 opus/48000/2\r\na=sendonly\r\n";

    fn takes(codecs: &[&str]) -> Vec<SendTrack> {
        let track = |codec: &&str| SendTrack { codec: (*codec).to_owned(), ..SendTrack::default() };
        codecs.iter().map(track).collect()
    }

    fn formats(offer: &str, uses: &[Use], send: &[&str]) -> Option<(usize, Vec<u8>)> {
        let wish = Wish::of(&Description::parse(offer).unwrap(), uses, &takes(send))?;
        Some((wish.section, wish.formats.iter().map(|(_, format)| format.payload_type).collect()))
    }

    #[test]
    fn the_codec_is_the_cameras_first() {
        let none = [Use::Nothing, Use::Nothing];
        assert_eq!(formats(OFFER, &none, &["aac", "opus", "pcm_alaw"]), Some((1, vec![111, 8, 0])));
        assert_eq!(formats(OFFER, &none, &["pcm_mulaw"]), Some((1, vec![0, 111, 8])));
        assert_eq!(
            formats(OFFER, &none, &[]),
            Some((1, vec![111, 8, 0])),
            "nothing is known of the camera yet"
        );
        assert_eq!(formats(&OFFER.replace("sendonly", "recvonly"), &none, &["opus"]), None);
        let wide = SendTrack { codec: "pcm_alaw".to_owned(), sample_rate: 16_000, ..SendTrack::default() };
        let wish = Wish::of(&Description::parse(OFFER).unwrap(), &none, &[wide]).unwrap();
        assert_eq!(wish.formats[0].0, Codec::Opus, "it is transcoded anyway");
    }

    #[test]
    fn a_section_for_both_ways_has_one_format() {
        let offer = OFFER.replace("a=sendonly", "a=sendrecv");
        let description = Description::parse(&offer).unwrap();
        let opus = description.sections[1].format(Codec::Opus).unwrap().clone();
        let uses = [Use::Nothing, Use::Send(opus)];
        assert_eq!(formats(&offer, &uses, &["pcm_alaw"]), Some((1, vec![111])));
    }
}
