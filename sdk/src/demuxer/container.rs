//! The loop that every demuxer has: bytes of a transport through a sans-IO [`Container`] into a session.

use std::time::Duration;

use bytes::Bytes;
use patchbay_media::Parameters;
use patchbay_plugin_api::message::{Class, Connection};
use tokio::time::{Instant, sleep_until};

use super::{Data, Input, Request};
use crate::error::Error;
use crate::pacer::{Brake, Pacer};
use crate::source::{Session, Tracks};

/// Bytes that are read for a container that asks for a place which its transport cannot go to.
const MAX_UNSEEKABLE: u64 = 64 << 20;

/// A reader of one format: bytes in, tracks and units out. It does no I/O and reads no clock.
///
/// [`run`] hands it bytes with [`Container::push`], then calls [`Container::poll`] until it answers
/// [`Event::NeedData`].
pub trait Container: Send {
    /// Takes bytes. A seek makes the next ones start elsewhere.
    fn push(&mut self, piece: Piece);
    /// No bytes follow: what is whole comes out, then [`Event::End`].
    fn end(&mut self);
    /// What there is to do next.
    fn poll(&mut self) -> Event;
}

/// Bytes of a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where they stand, from the start of the stream.
    pub offset: u64,
    /// They arrived so long after the session began: the only time of formats without timestamps.
    pub at: Duration,
    /// The bytes.
    pub data: Bytes,
}

/// What a [`Container`] has to say.
pub type Event = patchbay_media::Event<Error, Place>;

/// Where reading must go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start.
    pub offset: u64,
    /// What the user can do when the transport cannot go there.
    pub advice: &'static str,
}

/// Runs a demuxer's session: the whole body of [`Demuxer::demux`](super::Demuxer::demux).
///
/// Units of a file are pushed in real time by their decoding times, and only once somebody wants one; those of a live
/// transport as they come, until they run ahead of real time ([`Brake`]): then its bytes wait in it, and its sender with them.
pub async fn run(
    request: &Request,
    mut input: Input,
    session: Session,
    mut container: impl Container,
) -> Result<(), Error> {
    let format = request.format.as_str();
    let live = request.head.live;
    let mut known: Vec<Parameters> = Vec::new();
    let (mut pacer, mut brake) = (Pacer::default(), Brake::default());
    let start = Instant::now();
    let mut read = 0_u64;
    loop {
        match container.poll() {
            Event::NeedData => match input.next().await? {
                Data::Bytes(offset, data) => {
                    read += data.len() as u64;
                    container.push(Piece { offset, at: start.elapsed(), data });
                }
                Data::End(ended) if ended.class == Class::Eof => container.end(),
                Data::End(ended) => return Err(ended.into()),
            },
            Event::Seek(Place { offset, .. }) if request.head.seekable => input.seek(offset)?,
            Event::Seek(Place { offset, advice }) => {
                let after = if read > MAX_UNSEEKABLE { " after 64 MiB" } else { "" };
                return Err(Error::unsupported(format!(
                    "{format}: the file must be read from byte {offset}{after}, and its transport cannot: {advice}"
                )));
            }
            Event::Tracks(tracks) => {
                let first = known.is_empty();
                known.clone_from(&tracks);
                brake.set_tracks(&tracks);
                session.tracks(&Tracks {
                    receive: tracks.into_iter().map(Into::into).collect(),
                    connection: Connection { format_name: format.to_owned(), ..Connection::default() },
                    paced: !live,
                    ..Tracks::default()
                })?;
                if first && !live {
                    // Reading on without a reader would only fill the ring.
                    input.wanted(&session).await?;
                }
            }
            Event::TrackChanged { track, parameters } => {
                session.track_changed(id_of(track), &parameters)?;
                brake.set_track(track, &parameters);
                if let Some(slot) = known.get_mut(track) {
                    *slot = parameters;
                }
            }
            Event::Unit { track, unit } => {
                let now = start.elapsed();
                let due = if live {
                    brake.due(now, track, &unit)
                } else {
                    let rate = known.get(track).map_or(1, |parameters| parameters.clock_rate);
                    pacer.due(now, unit.dts, rate)
                };
                if due > now {
                    tokio::select! {
                        () = sleep_until(start + due) => {}
                        () = session.closed() => return Ok(()),
                    }
                }
                input.handle_waiting()?;
                session.push(id_of(track), &unit)?;
            }
            Event::Error(error) => return Err(error),
            Event::End => {
                return Err(Error::eof(if live { "the end of the stream" } else { "the end of the file" }));
            }
        }
    }
}

fn id_of(track: usize) -> u32 {
    u32::try_from(track).unwrap_or(u32::MAX)
}
