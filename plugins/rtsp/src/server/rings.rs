//! Where units come from: the host's rings, or memory in tests.

use std::future::Future;

use patchbay_media::Unit;
use patchbay_sdk::Error;
use patchbay_sdk::api::Host;
use patchbay_sdk::reader::{self, Item, Reader};

/// The rings of all sources.
pub trait Rings: Clone + Send + Sync + 'static {
    /// Follows a source.
    type Reader: RingReader;

    /// Reads `tracks` (id and known epoch) of `source` from `cursor` on, or from now on. After a loss it goes on at a key
    /// unit of `key_track`.
    fn read(
        &self,
        source: u64,
        tracks: &[(u32, u32)],
        key_track: Option<u32>,
        cursor: Option<u64>,
    ) -> Result<Self::Reader, Error>;

    /// Units of one track from the newest key unit up to the unit with sequence number `end`; empty when there are none.
    fn history(&self, source: u64, track: u32, end: u64) -> Result<Vec<Unit>, Error>;
}

/// One cursor over a source.
pub trait RingReader: Send + 'static {
    /// The next item, waiting for it. Nothing is lost when the future is dropped.
    fn next(&mut self) -> impl Future<Output = Result<Item, Error>> + Send;

    /// Sequence number of the next unit.
    fn position(&self) -> u64;
}

impl Rings for Host {
    type Reader = Reader;

    fn read(
        &self,
        source: u64,
        tracks: &[(u32, u32)],
        key_track: Option<u32>,
        cursor: Option<u64>,
    ) -> Result<Reader, Error> {
        match cursor {
            Some(cursor) => Ok(Reader::at(*self, source, tracks, key_track, cursor)),
            None => Reader::live(*self, source, tracks, key_track),
        }
    }

    fn history(&self, source: u64, track: u32, end: u64) -> Result<Vec<Unit>, Error> {
        reader::history(*self, source, track, end)
    }
}

impl RingReader for Reader {
    fn next(&mut self) -> impl Future<Output = Result<Item, Error>> + Send {
        Reader::next(self)
    }

    fn position(&self) -> u64 {
        Reader::position(self)
    }
}
