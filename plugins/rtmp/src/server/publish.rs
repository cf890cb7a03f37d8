//! Publishing: tags to the units of a source.

use std::time::{Duration, Instant};

use bytes::Bytes;
use patchbay_media::Event;
use patchbay_mux::flv::{TagDemuxer, TagKind};
use patchbay_sdk::Error;
use patchbay_sdk::api::message::{Class, Connection, Publish};
use patchbay_sdk::server::{Context, Publisher};
use patchbay_sdk::source::Tracks;

use crate::session::server::Wish;

/// Longest wait for the host to take a publisher.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The publishing side of a connection.
pub struct Ingest {
    publisher: Publisher,
    media: TagDemuxer,
    start: Instant,
    connection: Connection,
    /// The stream.
    pub name: String,
}

impl Ingest {
    /// Offers the first of the wished streams that exists.
    pub async fn open(context: Context, wish: Wish, connection: Connection) -> Result<Self, Error> {
        let mut refused = Error::not_found("no stream is named");
        for name in wish.names {
            let publish = Publish { stream: name.clone(), connection: connection.clone() };
            let accepted = tokio::time::timeout(ACCEPT_TIMEOUT, context.publish(&publish)).await;
            match accepted.unwrap_or_else(|_| Err(Error::timeout("the host did not answer"))) {
                Ok(publisher) => {
                    let (media, start) = (TagDemuxer::new(), Instant::now());
                    return Ok(Self { publisher, media, start, connection, name });
                }
                Err(error) if error.class == Class::NotFound => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    /// Takes a tag.
    pub fn push(&mut self, kind: TagKind, timestamp: u32, body: &Bytes) -> Result<(), Error> {
        self.media.push(kind, timestamp, body, self.start.elapsed());
        self.drain()
    }

    /// No more tags come.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.media.end();
        self.drain()
    }

    /// Completes when the host ends the publisher.
    pub async fn ended(&mut self) -> Error {
        self.publisher.run().await
    }

    fn drain(&mut self) -> Result<(), Error> {
        let session = self.publisher.session();
        deliver(&mut self.media, &session, &self.connection)
    }
}

/// Hands what tags gave to the host.
pub fn deliver(
    media: &mut TagDemuxer,
    session: &patchbay_sdk::source::Session,
    connection: &Connection,
) -> Result<(), Error> {
    let id = |track: usize| u32::try_from(track).unwrap_or(u32::MAX);
    loop {
        match media.poll() {
            Event::Tracks(tracks) => session.tracks(&Tracks {
                receive: tracks.into_iter().map(Into::into).collect(),
                connection: connection.clone(),
                ..Tracks::default()
            })?,
            Event::TrackChanged { track, parameters } => session.track_changed(id(track), &parameters)?,
            Event::Unit { track, unit } => session.push(id(track), &unit)?,
            Event::NeedData | Event::End => return Ok(()),
        }
    }
}
