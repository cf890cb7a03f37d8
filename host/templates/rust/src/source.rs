//! From the camera's socket to the host: the only place with sockets and clocks.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_sdk::api::message::{Connection, SendTrack};
use patchbay_sdk::media::assembler::Flags;
use patchbay_sdk::media::{Assembler, Codec, annexb};
use patchbay_sdk::source::{Request, Session, Tracks};
use patchbay_sdk::talk::Talk;
use patchbay_sdk::{Class, Config, Error, Plugin, Source};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::wire::{Message, WireError, kind};

/// Ticks per second of the track.
const CLOCK_RATE: u32 = 90_000;

/// The camera's port when the URL has none.
const PORT: u16 = 9000;

/// Longest time to connect, and longest silence of the camera.
const LIMIT: Duration = Duration::from_secs(10);

/// The plugin: made once, when Patchbay starts it.
pub struct Camera;

impl Plugin for Camera {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Source for Camera {
    /// One session with one camera. When it returns Patchbay dials again, as long as somebody wants the stream.
    async fn run(self: Arc<Self>, request: Request, session: Session) -> Result<(), Error> {
        // Dropping the other branch closes the socket: nothing here needs more to end.
        tokio::select! {
            result = play(&request.url, &session) => result,
            () = session.closed() => Ok(()),
        }
    }
}

async fn play(url: &str, session: &Session) -> Result<(), Error> {
    let (address, login) = target(url)?;
    let connected = timeout(LIMIT, TcpStream::connect(&address)).await;
    let socket = connected.map_err(|_| Error::timeout(format!("{address} does not answer")))?;
    let socket = socket.map_err(|error| {
        let error = Error::from(error);
        Error {
            message: format!("cannot connect to {address}: {}", error.message),
            ..error
        }
    })?;
    tracing::debug!(%address, "connected");
    let mut camera = Peer {
        socket,
        buffer: BytesMut::new(),
        silent_since: Instant::now(),
    };
    camera
        .send(&Message {
            kind: kind::LOGIN,
            time_us: 0,
            payload: Bytes::from(login),
        })
        .await?;
    let answer = camera.next().await?;
    if answer.kind != kind::ANSWER || answer.payload.as_ref() != [0] {
        return Err(Error::new(
            Class::Auth,
            format!("{address} refuses the login: check user and password"),
        ));
    }

    let mut video = Assembler::new(Codec::H264, CLOCK_RATE, &[]);
    let (mut announced, mut running, mut first) = (false, false, None);
    let (mut talks, mut talk) = (session.talks(), None);
    loop {
        // What a player says comes in real time and in packets of the length that was announced.
        let said = async {
            match &mut talk {
                None => Err(talks.next().await),
                Some(talk) => Ok(Talk::next(talk).await),
            }
        };
        let picture = tokio::select! {
            message = camera.next() => message?,
            said = said => {
                match said {
                    Err(begun) => talk = Some(begun),
                    Ok(None) => talk = None,
                    Ok(Some(sound)) => {
                        camera
                            .send(&Message {
                                kind: kind::SOUND,
                                time_us: 0,
                                payload: sound.data,
                            })
                            .await?;
                    }
                }
                continue;
            }
        };
        if picture.kind != kind::PICTURE {
            continue;
        }
        // Times begin at 0; the host needs no more than that they go on.
        let time_us = picture
            .time_us
            .saturating_sub(*first.get_or_insert(picture.time_us));
        let pts = i64::try_from(time_us * 9 / 100).unwrap_or(i64::MAX);
        let made =
            video.push_access_unit(pts, None, annexb::split(&picture.payload), Flags::default());
        if let Some(parameters) = made.new_parameters {
            if announced {
                session.track_changed(0, &parameters)?;
            } else {
                session.tracks(&Tracks {
                    receive: vec![parameters.into()],
                    send: loudspeaker(url),
                    connection: Connection {
                        format_name: "{{name}}".to_owned(),
                        protocol: "tcp".to_owned(),
                        remote_addr: address.clone(),
                        ..Connection::default()
                    },
                    ..Tracks::default()
                })?;
                announced = true;
                session.wanted().await?;
            }
        }
        let Some(mut unit) = made.unit.filter(|_| announced) else {
            continue;
        };
        if session.demand().borrow().tracks.is_empty() {
            // Nobody watches: go on with a key picture when somebody does.
            running = false;
        } else if running {
            session.push(0, &unit)?;
        } else if unit.key {
            (running, unit.discontinuity) = (true, true);
            session.push(0, &unit)?;
        }
    }
}

/// What the camera's loudspeaker takes, the best first; nothing when the URL has `#backchannel=0`.
fn loudspeaker(url: &str) -> Vec<SendTrack> {
    if url.split('#').any(|option| option == "backchannel=0") {
        return Vec::new();
    }
    vec![SendTrack {
        codec: Codec::PcmAlaw.name().to_owned(),
        sample_rate: 8000,
        channels: 1,
        packet_ms: 20,
    }]
}

/// The camera's end of the socket.
struct Peer {
    socket: TcpStream,
    buffer: BytesMut,
    silent_since: Instant,
}

impl Peer {
    async fn send(&mut self, message: &Message) -> Result<(), Error> {
        Ok(self.socket.write_all(&message.build()).await?)
    }

    /// The next message. May be dropped and called again.
    async fn next(&mut self) -> Result<Message, Error> {
        loop {
            let parsed = Message::parse(&mut self.buffer);
            if let Some(message) =
                parsed.map_err(|error: WireError| Error::protocol(error.to_string()))?
            {
                return Ok(message);
            }
            let end = self.silent_since + LIMIT;
            let read = timeout_at(end, self.socket.read_buf(&mut self.buffer)).await;
            if read.map_err(|_| Error::timeout("the camera is silent"))?? == 0 {
                return Err(Error::eof("the camera closed the connection"));
            }
            self.silent_since = Instant::now();
        }
    }
}

/// `host:port` and `user:password` of a URL, in which `%40` stands for `@`.
fn target(url: &str) -> Result<(String, String), Error> {
    let rest = url.strip_prefix("{{name}}://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        return Err(Error::unsupported(
            "the URL names no host: {{name}}://user:password@host:port/",
        ));
    }
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port {
        host.to_owned()
    } else {
        format!("{host}:{PORT}")
    };
    let login = percent_decode_str(login).decode_utf8_lossy().into_owned();
    Ok((address, login))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let of = |url| target(url).ok();
        let pair = |address: &str, login: &str| Some((address.to_owned(), login.to_owned()));
        assert_eq!(of("{{name}}://10.0.0.7/"), pair("10.0.0.7:9000", ""));
        assert_eq!(of("{{name}}://u:p@ss@cam:77/x#y"), pair("cam:77", "u:p@ss"));
        assert_eq!(of("{{name}}://:p%40ss@cam:77/"), pair("cam:77", ":p@ss"));
        assert_eq!(of("{{name}}:"), None);
    }

    #[test]
    fn a_loudspeaker_may_be_left_alone() {
        assert_eq!(loudspeaker("{{name}}://cam/")[0].packet_ms, 20);
        assert!(loudspeaker("{{name}}://cam/#backchannel=0").is_empty());
    }
}
