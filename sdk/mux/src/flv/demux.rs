//! Files and endless streams, from bytes that come in any pieces.

use std::time::Duration;

use patchbay_media::{Parameters, Unit};

use super::tag::{Next, Tags};
use super::tracks::{Item, TagDemuxer};

/// What the demuxer has to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// More bytes are needed.
    NeedData,
    /// See [`Item::Tracks`].
    Tracks(Vec<Parameters>),
    /// See [`Item::TrackChanged`].
    TrackChanged {
        /// Index in [`Event::Tracks`].
        track: usize,
        /// The new ones.
        parameters: Parameters,
    },
    /// See [`Item::Unit`].
    Unit {
        /// Index in [`Event::Tracks`].
        track: usize,
        /// The unit.
        unit: Unit,
    },
    /// The bytes cannot be read on; [`Event::End`] follows.
    Error(Error),
    /// There is nothing more.
    End,
}

/// Why bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// They do not start as FLV does.
    #[error("not FLV")]
    NotFlv,
    /// A tag says a size that no picture has: the place in the stream is lost.
    #[error("flv: a tag of {size} bytes")]
    TooLong {
        /// What it says.
        size: usize,
    },
    /// Tags, but no track that this server knows.
    #[error("flv: no track with a known codec")]
    NoTracks,
}

/// The demuxer: [`Demuxer::push`] bytes, then [`Demuxer::poll`] until it needs more.
#[derive(Debug, Default)]
pub struct Demuxer {
    tags: Tags,
    media: TagDemuxer,
    at: Duration,
    ended: bool,
    done: bool,
}

impl Demuxer {
    /// A demuxer that looks for the file header.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes that arrived `at` after any fixed instant.
    pub fn push(&mut self, data: &[u8], at: Duration) {
        self.at = at;
        self.tags.push(data);
    }

    /// No more bytes come.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Bytes held.
    #[doc(hidden)]
    pub fn buffered(&self) -> usize {
        self.tags.len() + self.media.held()
    }

    /// What comes next.
    pub fn poll(&mut self) -> Event {
        loop {
            match self.media.poll() {
                Some(Item::Tracks(tracks)) => return Event::Tracks(tracks),
                Some(Item::TrackChanged { track, parameters }) => {
                    return Event::TrackChanged { track, parameters };
                }
                Some(Item::Unit { track, unit }) => return Event::Unit { track, unit },
                None if self.done => return Event::End,
                None => {}
            }
            match self.tags.next() {
                Next::Tag(tag) => self.media.push(tag.kind, tag.timestamp, &tag.body, self.at),
                Next::More if self.ended => {
                    self.done = true;
                    self.media.end();
                    if !self.media.is_announced() {
                        return Event::Error(Error::NoTracks);
                    }
                }
                Next::More => return Event::NeedData,
                Next::NotFlv => return self.fail(Error::NotFlv),
                Next::TooLong(size) => return self.fail(Error::TooLong { size }),
            }
        }
    }

    fn fail(&mut self, error: Error) -> Event {
        self.done = true;
        Event::Error(error)
    }
}
