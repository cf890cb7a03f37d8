//! Sources that this side dials: `webrtc:` and the URL of a signalling service.

use std::sync::Arc;
use std::time::Duration;

use patchbay_net::http::{Client as HttpClient, Timeouts};
use patchbay_sdk::api::message::Connection;
use patchbay_sdk::source::{Request, Session};
use patchbay_sdk::{Class, Error};

use crate::config::IceServer;
use crate::ingest::{Ingest, Received, Sender};
use crate::server::Engine;

mod client;
mod http;
mod kinesis;
mod openipc;
mod socket;
mod url;

pub use client::{Client, Event, Tracks};
pub(crate) use client::{Wants, Way, failed};
pub use url::{Dial, Format, UrlError};

/// How long signalling and the connection may take together.
const CONNECT_LIMIT: Duration = Duration::from_secs(40);

/// What ends a session at the service.
enum Hangup {
    Nothing,
    /// DELETE this URL.
    Delete(Box<patchbay_net::http::Request>),
}

/// What a signalling needs.
struct Call {
    dial: Dial,
    http: HttpClient,
    /// Configured STUN and TURN servers.
    ice_servers: Vec<IceServer>,
    engine: Arc<Engine>,
}

impl Call {
    /// A connection with these servers that wants video and, where the service has it, audio.
    async fn client(&self, ice_servers: &[IceServer], wants: Wants) -> Result<Client, Error> {
        let way = Way { ice_servers, relay_only: self.dial.relay_only };
        Client::new(self.engine.config(), self.engine.crypto(), way, wants).await
    }
}

/// Runs one session of a source.
pub async fn run(engine: Arc<Engine>, request: Request, session: Session) -> Result<(), Error> {
    let dial = Dial::parse(&request.url).map_err(|error| Error::unsupported(error.to_string()))?;
    let (format, host) = (dial.format, dial.url.authority());
    let call = Call {
        http: HttpClient {
            user_agent: concat!("Patchbay/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeouts: Timeouts::default(),
        },
        ice_servers: dial.ice_servers.clone().unwrap_or_else(|| engine.config().ice_servers.clone()),
        dial,
        engine,
    };
    let dialled = tokio::select! {
        dialled = tokio::time::timeout(CONNECT_LIMIT, connect(&call)) => dialled,
        () = session.closed() => return Ok(()),
    };
    let (mut client, hangup) = dialled.map_err(|_| Error::timeout("webrtc: no connection in time"))??;
    let connection = Connection {
        format_name: format.name().to_owned(),
        protocol: format!("{}+udp", if format.is_socket() { "ws" } else { "http" }),
        remote_addr: host,
        ..Connection::default()
    };
    let result = tokio::select! {
        result = receive(&mut client, &session, &connection) => result,
        () = session.closed() => Ok(()),
    };
    client.close().await;
    if let Hangup::Delete(request) = hangup {
        let _ = call.http.send(&request).await;
    }
    result
}

/// Signals until the connection is up.
async fn connect(call: &Call) -> Result<(Client, Hangup), Error> {
    let (mut client, hangup) = match call.dial.format {
        Format::Whep => http::whep(call).await?,
        Format::Creality => http::creality(call).await?,
        Format::Milestone => http::milestone(call).await?,
        Format::Go2rtc => socket::go2rtc(call).await?,
        Format::Kinesis | Format::Switchbot => kinesis::viewer(call, None).await?,
        Format::Wyze => kinesis::wyze(call).await?,
        Format::OpenIpc => openipc::dial(call).await?,
    };
    while !client.is_connected() {
        client.advance().await?;
    }
    Ok((client, hangup))
}

/// Takes packets until the connection is over.
async fn receive(client: &mut Client, session: &Session, connection: &Connection) -> Result<(), Error> {
    let mut ingest = Ingest::new(client.remote_description(), |_| true);
    if ingest.is_empty() {
        return Err(Error::unsupported("webrtc: the service sends no codec that is known here"));
    }
    ingest.announce(session, connection)?;
    let why = ingest.receive(session, client, None).await?;
    Err(Error::new(Class::Eof, format!("webrtc: {why}")))
}

impl Sender for Client {
    async fn next(&mut self) -> Received {
        match Self::next(self).await {
            Event::Packet(packet) => Received::Packet(packet),
            Event::SenderReport { ssrc, ntp, rtp_time } => Received::SenderReport { ssrc, ntp, rtp_time },
            Event::Over(why) => Received::Over(why),
            Event::Connected | Event::Candidate(_) | Event::Gathered | Event::Channel(_) => Received::Other,
        }
    }

    fn want_keyframes(&mut self, streams: Vec<u32>) {
        Self::want_keyframes(self, streams);
    }
}
