//! Publishing: tags to the units of a source.

use std::time::{Duration, Instant};

use bytes::Bytes;
use patchbay_media::Event;
use patchbay_mux::flv::{TagDemuxer, TagKind};
use patchbay_sdk::Error;
use patchbay_sdk::api::message::{Class, Connection, Publish};
use patchbay_sdk::pacer::Brake;
use patchbay_sdk::server::{Context, Publisher};
use patchbay_sdk::source::{Session, Tracks};

use crate::session::server::Wish;

/// Longest wait for the host to take a publisher.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The publishing side of a connection.
pub struct Ingest {
    publisher: Publisher,
    media: Media,
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
                    return Ok(Self { publisher, media: Media::default(), connection, name });
                }
                Err(error) if error.class == Class::NotFound => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    /// Takes a tag; the answer is how long to read no more.
    pub fn push(&mut self, kind: TagKind, timestamp: u32, body: &Bytes) -> Result<Duration, Error> {
        self.media.push(kind, timestamp, body, &self.publisher.session(), &self.connection)
    }

    /// No more tags come.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.media.end(&self.publisher.session(), &self.connection)
    }

    /// Completes when the host ends the publisher.
    pub async fn ended(&mut self) -> Error {
        self.publisher.run().await
    }
}

/// Tags to units, in real time at most.
#[derive(Debug)]
pub struct Media {
    demuxer: TagDemuxer,
    brake: Brake,
    start: Instant,
}

impl Default for Media {
    fn default() -> Self {
        Self { demuxer: TagDemuxer::new(), brake: Brake::default(), start: Instant::now() }
    }
}

impl Media {
    /// Takes a tag and hands what it gives to the host; the answer is how long to read no more, since media is ahead of
    /// real time.
    pub fn push(
        &mut self,
        kind: TagKind,
        timestamp: u32,
        body: &Bytes,
        session: &Session,
        connection: &Connection,
    ) -> Result<Duration, Error> {
        let now = self.start.elapsed();
        self.demuxer.push(kind, timestamp, body, now);
        Ok(self.deliver(now, session, connection)?.saturating_sub(now))
    }

    /// No more tags come.
    pub fn end(&mut self, session: &Session, connection: &Connection) -> Result<(), Error> {
        self.demuxer.end();
        self.deliver(self.start.elapsed(), session, connection).map(drop)
    }

    fn deliver(
        &mut self,
        now: Duration,
        session: &Session,
        connection: &Connection,
    ) -> Result<Duration, Error> {
        let id = |track: usize| u32::try_from(track).unwrap_or(u32::MAX);
        let mut due = now;
        loop {
            match self.demuxer.poll() {
                Event::Tracks(tracks) => {
                    self.brake.set_tracks(&tracks);
                    session.tracks(&Tracks {
                        receive: tracks.into_iter().map(Into::into).collect(),
                        connection: connection.clone(),
                        ..Tracks::default()
                    })?;
                }
                Event::TrackChanged { track, parameters } => {
                    self.brake.set_track(track, &parameters);
                    session.track_changed(id(track), &parameters)?;
                }
                Event::Unit { track, unit } => {
                    due = due.max(self.brake.due(now, track, &unit));
                    session.push(id(track), &unit)?;
                }
                Event::NeedData | Event::End => return Ok(due),
            }
        }
    }
}
