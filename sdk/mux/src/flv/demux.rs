//! Files and endless streams, from bytes that come in any pieces.

use std::time::Duration;

use super::tag::{Next, Tags};
use super::tracks::TagDemuxer;

/// What the demuxer has to say; all clocks run at [`CLOCK_RATE`](super::CLOCK_RATE).
pub type Event = patchbay_media::Event<Error>;

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
                patchbay_media::Event::NeedData if self.done => return Event::End,
                patchbay_media::Event::NeedData => {}
                event => return event.map_error(|never| match never {}),
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
