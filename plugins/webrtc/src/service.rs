//! The service `webrtc` for plugins of vendors: they signal, this side holds the connection and feeds their source.
//!
//! | task of a conversation | does |
//! |---|---|
//! | `signalling` | what the caller says: descriptions, candidates, messages for data channels |
//! | `hear` | what the connection says: candidates, states, packets, new data channels |
//! | `media` | packets to units of the caller's source |
//! | `talk` | what players say, to packets |
//! | `channels`, one per channel | messages of the peer, as fast as the caller takes them |

use std::sync::Arc;

use parking_lot::Mutex;
use patchbay_sdk::api::message::Connection;
use patchbay_sdk::service::webrtc::{Candidate, MAX_CHANNELS, Open, State, StateChange};
use patchbay_sdk::service::{Request, Sender, Session};
use patchbay_sdk::{Class, Error};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::IceServer;
use crate::server::Engine;
use crate::source::{Client, Event, Wants, Way};

mod channels;
mod media;
mod signalling;
pub(crate) mod talk;

use channels::Channels;
use media::Inbox;
use signalling::Signalling;

/// Media packets that wait for [`media`]; packets past that are lost.
const PACKETS: usize = 2048;

/// Most media sections that a caller may ask for at once.
const MAX_MEDIAS: usize = 16;

/// How far a connection is, for those who wait for it.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// All candidates of this side are known.
    is_gathered: bool,
    /// Media may flow.
    is_connected: bool,
}

/// Holds one conversation.
pub async fn serve(engine: Arc<Engine>, request: Request, mut session: Session) -> Result<(), Error> {
    if request.method != "open" {
        let message = format!("webrtc: a conversation begins with open, not {:?}", request.method);
        return Err(Error::unsupported(message));
    }
    let open: Open = serde_json::from_value(request.value)
        .map_err(|error| Error::protocol(format!("webrtc: open: {error}")))?;
    if open.channels.len() > MAX_CHANNELS || open.medias.len() > MAX_MEDIAS {
        return Err(Error::unsupported("webrtc: too many sections or data channels"));
    }
    let servers = open.ice_servers.as_ref().map(|servers| servers.iter().map(IceServer::from).collect());
    let servers: Vec<IceServer> = servers.unwrap_or_else(|| engine.config().ice_servers.clone());
    let way = Way { ice_servers: &servers, relay_only: false };
    let mut client = Client::new(engine.config(), engine.crypto(), way, Wants::Answer).await?;
    let events = client.take_events();
    let result = run(&client, events, &mut session, open, &request.caller).await;
    client.close().await;
    result
}

async fn run(
    client: &Client,
    events: mpsc::Receiver<Event>,
    session: &mut Session,
    open: Open,
    caller: &str,
) -> Result<(), Error> {
    let answers = session.answers();
    let (progress, seen) = watch::channel(Progress::default());
    let (packets, inbox) = mpsc::channel(PACKETS);
    let (descriptions, told) = mpsc::unbounded_channel();
    let gone = CancellationToken::new();
    let _gone = gone.clone().drop_guard();
    let channels = Channels::new(answers.clone(), gone);
    answers.send("state", &StateChange { state: State::Connecting })?;
    tracing::debug!(caller, role = ?open.role, "a connection for another plugin");
    let connection = Connection {
        format_name: if open.format_name.is_empty() { "webrtc" } else { &open.format_name }.to_owned(),
        protocol: if open.signalling.is_empty() {
            "udp".to_owned()
        } else {
            format!("{}+udp", open.signalling)
        },
        ..Connection::default()
    };
    let source = session.source();
    let is_trickling = open.trickle;
    let signalling = Signalling {
        client,
        answers: answers.clone(),
        channels: &channels,
        progress: seen.clone(),
        descriptions,
        offers: Mutex::default(),
    };
    let feeding = async {
        match source {
            Some(source) => {
                let inbox = Inbox::new(inbox, client.tracks());
                media::feed(source, &connection, told, inbox, seen, &client.voice(), &answers).await
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = signalling.run(session, open) => ended,
        ended = hear(events, &answers, &channels, &progress, &packets, is_trickling) => ended,
        ended = feeding => ended,
    }
}

/// Passes on what the connection says until it is over.
async fn hear(
    mut events: mpsc::Receiver<Event>,
    answers: &Sender,
    channels: &Channels,
    progress: &watch::Sender<Progress>,
    packets: &mpsc::Sender<Event>,
    is_trickling: bool,
) -> Result<(), Error> {
    let candidate = |candidate: String| {
        let (sdp_mid, sdp_m_line_index) = (Some("0".to_owned()), Some(0));
        answers.send("candidate", &Candidate { candidate, sdp_mid, sdp_m_line_index })
    };
    loop {
        match events.recv().await.unwrap_or(Event::Over("closed")) {
            Event::Candidate(line) if is_trickling => candidate(line)?,
            Event::Candidate(_) => {}
            Event::Gathered => {
                progress.send_modify(|progress| progress.is_gathered = true);
                if is_trickling {
                    candidate(String::new())?;
                }
            }
            Event::Connected => {
                answers.send("state", &StateChange { state: State::Connected })?;
                progress.send_modify(|progress| progress.is_connected = true);
            }
            Event::Channel(channel) => channels.add(channel, true).await?,
            event @ (Event::Packet(_) | Event::SenderReport { .. }) => drop(packets.try_send(event)),
            Event::Over(why) => return Err(Error::new(Class::Eof, format!("webrtc: {why}"))),
        }
    }
}

impl From<&patchbay_sdk::service::webrtc::IceServer> for IceServer {
    fn from(server: &patchbay_sdk::service::webrtc::IceServer) -> Self {
        Self {
            urls: server.urls.clone(),
            username: server.username.clone(),
            credential: server.credential.clone(),
        }
    }
}
