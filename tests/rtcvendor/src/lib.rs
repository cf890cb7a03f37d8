//! An example: a camera whose vendor speaks WebRTC. This plugin signals; the service `webrtc` holds the connection and feeds
//! this plugin's source. No media passes here.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use patchbay_sdk::media::{Codec, Parameters, Unit};
use patchbay_sdk::service::webrtc::{
    Channel, ChannelState, Data, Direction, Event, Media, Open, Peer, Renegotiate, Role, State,
};
use patchbay_sdk::source::{Request, Session, Tracks};
use patchbay_sdk::{Config, Error, Plugin, Source};

use crate::signalling::{Message, Signalling, from_vendor, to_vendor};

pub mod signalling;

/// Questions on the channel `control`, each of which the camera answers.
const QUESTIONS: usize = 100;

/// Id of the channel that is not announced.
const AGREED: u16 = 100;

/// Messages of bytes on the channel `events`, which may lose some.
const EVENTS: usize = 20;

/// The plugin.
#[derive(Debug)]
pub struct Vendor;

impl Plugin for Vendor {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Source for Vendor {
    async fn run(self: Arc<Self>, request: Request, session: Session) -> Result<(), Error> {
        let rest = request.url.split("//").nth(1).unwrap_or_default();
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (role, query) = path.split_once('?').unwrap_or((path, ""));
        let role = if role.starts_with("answerer") { Role::Answerer } else { Role::Offerer };
        let call = Call::begin(address, role, &session).await?;
        tokio::select! {
            ended = call.run() => ended,
            ended = own_track(&session), if query.starts_with("own") => ended,
            () = session.closed() => Ok(()),
        }
    }
}

/// A conversation with a camera.
struct Call {
    camera: Signalling,
    peer: Peer,
    /// Channels that are open, by number.
    channels: Vec<ChannelState>,
    control: usize,
    events: usize,
    texts: usize,
    is_reported: bool,
}

impl Call {
    /// Says hello to the camera and has the service make a connection.
    async fn begin(address: &str, role: Role, session: &Session) -> Result<Self, Error> {
        let mut camera = Signalling::connect(address).await?;
        camera.send(&Message::Hello { role }).await?;
        let partly = Channel {
            label: "events".to_owned(),
            ordered: false,
            max_retransmits: Some(3),
            ..Channel::default()
        };
        // Both sides know of it, nobody announces it.
        let agreed = Channel { label: "agreed".to_owned(), negotiated: Some(AGREED), ..Channel::default() };
        let open = Open {
            role,
            // Its cloud needs none.
            ice_servers: Some(Vec::new()),
            // As an answerer candidates go one by one.
            trickle: role == Role::Answerer,
            medias: vec![Media { codecs: vec!["h264".to_owned()], ..Media::receive("video") }],
            channels: vec![Channel { label: "control".to_owned(), ..Channel::default() }, partly, agreed],
            signalling: "tcp".to_owned(),
            ..Open::default()
        };
        let peer = Peer::open(session, &open)?;
        Ok(Self { camera, peer, channels: Vec::new(), control: 0, events: 0, texts: 0, is_reported: false })
    }

    /// Carries messages between the camera and the service until one of them ends.
    async fn run(mut self) -> Result<(), Error> {
        loop {
            tokio::select! {
                event = self.peer.next() => self.service(event?).await?,
                message = self.camera.next() => self.camera(message?)?,
            }
        }
    }

    async fn service(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Offer(sdp) => self.camera.send(&Message::Offer { sdp: to_vendor(&sdp) }).await?,
            Event::Answer(sdp) => self.camera.send(&Message::Answer { sdp: to_vendor(&sdp) }).await?,
            Event::Candidate(candidate) if !candidate.candidate.is_empty() => {
                self.camera.send(&Message::Candidate(candidate)).await?;
            }
            Event::State(State::Connected) => tracing::info!("connected"),
            Event::Talk(active) => self.camera.send(&Message::Loudspeaker { on: active }).await?,
            Event::Channel(state) if state.open => {
                self.ask(&state).await?;
                self.channels.push(state);
            }
            Event::Data(data, bytes) => {
                self.heard(data, &bytes)?;
                self.report().await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Says something on a channel of this side's.
    async fn ask(&self, state: &ChannelState) -> Result<(), Error> {
        let calls = self.peer.calls();
        let channel = state.channel;
        match state.label.as_str() {
            "control" => {
                for number in 0..QUESTIONS {
                    let question = format!("question {number}");
                    calls.send(Data { channel, text: true }, question.as_bytes()).await?;
                }
            }
            "events" => {
                for _ in 0..EVENTS {
                    calls.send(Data { channel, text: false }, &[0xa5; 1000]).await?;
                }
            }
            "agreed" => calls.send(Data { channel, text: true }, b"agreed").await?,
            _ => {}
        }
        Ok(())
    }

    fn heard(&mut self, data: Data, bytes: &Bytes) -> Result<(), Error> {
        let label =
            self.channels.iter().find(|state| state.channel == data.channel).map(|s| s.label.as_str());
        match label {
            Some("control") => {
                let expected = format!("answer {}", self.control);
                if !data.text || bytes[..] != *expected.as_bytes() {
                    return Err(Error::protocol(format!(
                        "rtcvendor: not {expected:?} on the channel control"
                    )));
                }
                self.control += 1;
            }
            Some("events") if !data.text => self.events += bytes.len(),
            Some(_) if data.text => self.texts += 1,
            _ => {}
        }
        Ok(())
    }

    async fn report(&mut self) -> Result<(), Error> {
        if self.control == QUESTIONS && self.events > 0 && self.texts >= 2 && !self.is_reported {
            self.is_reported = true;
            let report = Message::Report { control: self.control, events: self.events, camera: self.texts };
            self.camera.send(&report).await?;
        }
        Ok(())
    }

    fn camera(&mut self, message: Message) -> Result<(), Error> {
        let calls = self.peer.calls();
        match message {
            Message::Offer { sdp } => calls.offer(&from_vendor(&sdp)),
            Message::Answer { sdp } => calls.answer(&from_vendor(&sdp)),
            Message::Candidate(candidate) => calls.candidate(&candidate),
            Message::Microphone => {
                // And a loudspeaker.
                let microphone = Media {
                    kind: "audio".to_owned(),
                    direction: Direction::SendRecv,
                    codecs: vec!["pcm_alaw".to_owned()],
                    packet_ms: 30,
                };
                calls.renegotiate(&Renegotiate { medias: vec![microphone], ice_restart: false })
            }
            Message::Hello { .. } | Message::Report { .. } | Message::Loudspeaker { .. } => Ok(()),
        }
    }
}

/// A track that this plugin pushes itself, beside those of the service: silence in packets of 20 ms.
async fn own_track(session: &Session) -> Result<(), Error> {
    let silence = Parameters::audio(Codec::PcmMulaw, 8000, 1);
    session.tracks(&Tracks { receive: vec![silence.into()], ..Tracks::default() })?;
    let mut every = tokio::time::interval(Duration::from_millis(20));
    for packet in 0_i64.. {
        every.tick().await;
        session.push(0, &Unit::new(packet * 160, true, Bytes::from_static(&[0xff; 160])))?;
    }
    Ok(())
}

patchbay_sdk::plugin! {
    manifest: "../manifest.json",
    plugin: Vendor,
    roles: [source],
}
