//! `fixture:talk`: a camera that hears A-law and sends what it hears back as its second track; and players that speak to it: the
//! server's `talk NAME CODEC COUNT` and `listen NAME`.

use bytes::Bytes;
use patchbay_sdk::Error;
use patchbay_sdk::api::message::{Consume, Media, SendTrack};
use patchbay_sdk::media::{Codec, Parameters, Unit};
use patchbay_sdk::reader::{Item, Reader};
use patchbay_sdk::server::Context;
use patchbay_sdk::source::{Session, Tracks};
use patchbay_sdk::talk::Offer;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use crate::source::{PICTURE, STEP, parameters};

/// Bytes of 20 ms.
const PACKET: usize = 160;

fn alaw() -> Parameters {
    Parameters::audio(Codec::PcmAlaw, 8000, 1)
}

/// What the camera takes.
pub(crate) fn send() -> SendTrack {
    let codec = Codec::PcmAlaw.name().to_owned();
    SendTrack { codec, sample_rate: 8000, channels: 1, packet_ms: 20 }
}

/// Sends pictures, and what it hears.
pub async fn camera(session: &Session) -> Result<(), Error> {
    let send = vec![send()];
    let receive = vec![parameters().into(), alaw().into()];
    session.tracks(&Tracks { receive, send, ..Tracks::default() })?;
    let mut talks = session.talks();
    let mut talk = None;
    let mut turn = 0;
    let pictures = Duration::from_millis(50);
    let mut due = Instant::now();
    loop {
        let heard = async {
            match &mut talk {
                None => Err(talks.next().await),
                Some(talk) => Ok(patchbay_sdk::talk::Talk::next(talk).await),
            }
        };
        tokio::select! {
            () = session.closed() => return Ok(()),
            () = sleep_until(due) => {
                due += pictures;
                session.push(0, &Unit::new(turn * STEP, true, Bytes::from_static(PICTURE)))?;
                turn += 1;
            }
            heard = heard => match heard {
                Err(begun) => talk = Some(begun),
                Ok(None) => talk = None,
                Ok(Some(unit)) => session.push(1, &unit)?,
            },
        }
    }
}

/// Says COUNT packets of 20 ms, 60 ms at a time, each byte of a packet its number; one line says how it went. Keeps the camera
/// until the client leaves.
pub async fn speak(
    name: &str,
    codec: &str,
    count: u32,
    stream: &mut TcpStream,
    context: &Context,
) -> Result<(), Error> {
    let codec = Codec::from_name(codec).ok_or_else(|| Error::unsupported("fixture: no such codec"))?;
    let rate = if codec == Codec::Opus { 48_000 } else { 8000 };
    let parameters = Parameters::audio(codec, rate, 1);
    let offer = Offer {
        stream: name.to_owned(),
        consumer: 0,
        parameters,
        exact: false,
        connection: Default::default(),
    };
    let mut talker = match context.talk(&offer).await {
        Ok(talker) => talker,
        Err(error) => {
            let line = format!("{:?} {}\n", error.class, error.message);
            return Ok(stream.write_all(line.as_bytes()).await?);
        }
    };
    stream.write_all(b"accepted\n").await?;
    let microphone = talker.microphone();
    for first in (0..count).step_by(3) {
        let numbers = (first..(first + 3).min(count)).flat_map(|number| [number as u8; PACKET]);
        let unit = Unit::new(i64::from(first) * PACKET as i64, true, numbers.collect());
        microphone.push(&unit)?;
        sleep(Duration::from_millis(60)).await;
    }
    let mut rest = [0; 1];
    tokio::select! {
        ended = talker.ended() => Err(ended),
        // The client has left.
        _ = tokio::io::AsyncReadExt::read(stream, &mut rest) => Ok(()),
    }
}

/// Sends the sound of a stream as it comes.
pub async fn listen(name: &str, stream: &mut TcpStream, context: &Context) -> Result<(), Error> {
    let audio = Media { kind: "audio".to_owned(), codecs: vec!["any".to_owned()] };
    let consume = Consume { stream: name.to_owned(), medias: vec![audio], ..Consume::default() };
    let mut consumer = context.consume(&consume)?;
    let bound = consumer.next().await?;
    let Some(track) = bound.tracks.first() else { return Err(Error::not_found("fixture: no track")) };
    let accepted: Vec<&str> = bound.send.iter().map(|send| send.codec.as_str()).collect();
    stream.write_all(format!("accepts {}\n", accepted.join(",")).as_bytes()).await?;
    let wanted = [(track.info.id, track.epoch)];
    let mut reader = Reader::live(context.host(), track.source, &wanted, None)?;
    loop {
        if let Item::Unit { unit, .. } = reader.next().await? {
            stream.write_all(&unit.data).await?;
        }
    }
}
