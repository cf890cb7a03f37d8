//! Role `source`: a consumer of one stream that feeds another source.

mod tracks;

use std::sync::Arc;
use std::time::Duration;

use patchbay_sdk::api::message::{Bound, ConsumerCounters};
use patchbay_sdk::reader::{Item, Reader};
use patchbay_sdk::server::Consumer;
use patchbay_sdk::source::{Request, Session};
use patchbay_sdk::{Config, Error, Plugin, Source};
use tokio::time::interval;

use self::tracks::Tracks;
use crate::config::Wish;

/// How often it is reported what was read.
const COUNTERS_EVERY: Duration = Duration::from_secs(5);

/// The plugin.
pub struct Transcode;

impl Plugin for Transcode {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Source for Transcode {
    async fn run(self: Arc<Self>, request: Request, session: Session) -> Result<(), Error> {
        let wish = Wish::parse(&request.url)?;
        let mut consumer = Consumer::new(session.host(), &wish.consume(&request.url))?;
        let mut run = Run { session: session.clone(), tracks: Tracks::new(wish), readers: Vec::new() };
        let mut beat = interval(COUNTERS_EVERY);
        loop {
            tokio::select! {
                () = session.closed() => break,
                bound = consumer.next() => run.bind(&bound?)?,
                item = next_of(&mut run.readers) => match item {
                    Ok((source, item)) => run.take(source, item)?,
                    // A source that is gone: the claim tells what comes next.
                    Err(source) => run.readers.retain(|(id, _)| *id != source),
                },
                _ = beat.tick() => consumer.counters(&run.tracks.counters()),
            }
        }
        consumer.counters(&run.tracks.counters());
        Ok(())
    }
}

struct Run {
    session: Session,
    tracks: Tracks,
    /// By source: the picture and the sound may come from two.
    readers: Vec<(u64, Reader)>,
}

impl Run {
    /// The stream has these tracks now.
    fn bind(&mut self, bound: &Bound) -> Result<(), Error> {
        let wanted = self.tracks.bind(bound, &self.session)?;
        let mut readers = Vec::new();
        for (source, tracks, key) in wanted {
            match self.readers.iter().position(|(id, reader)| *id == source && reader.reads(&tracks)) {
                // It goes on where it is.
                Some(at) => readers.push(self.readers.swap_remove(at)),
                None => {
                    let host = self.session.host();
                    // A picture is passed on from its newest key unit, so that who joins need not wait for the next.
                    let newest = key.and_then(|track| host.locate_newest_key(source, track).ok());
                    let reader = match newest {
                        Some(cursor) => Ok(Reader::at(host, source, &tracks, key, cursor)),
                        None => Reader::live(host, source, &tracks, key),
                    };
                    // Gone already: the claim tells what comes next.
                    readers.extend(reader.map(|reader| (source, reader)));
                }
            }
        }
        self.readers = readers;
        Ok(())
    }

    fn take(&mut self, source: u64, item: Item) -> Result<(), Error> {
        match item {
            Item::Unit { track, arrival_ns, unit, .. } => {
                self.tracks.unit((source, track), arrival_ns, &unit, &self.session)
            }
            Item::Parameters { track, parameters } => {
                self.tracks.parameters((source, track), &parameters, &self.session)
            }
            // The hole is seen from the times.
            Item::Gap { lost } => {
                tracing::debug!(lost, "units were lost");
                Ok(())
            }
        }
    }
}

/// The next item of any reader; its source when that is gone.
async fn next_of(readers: &mut [(u64, Reader)]) -> Result<(u64, Item), u64> {
    let next = async |(source, reader): &mut (u64, Reader)| match reader.next().await {
        Ok(item) => Ok((*source, item)),
        Err(_) => Err(*source),
    };
    match readers {
        [] => std::future::pending().await,
        [only] => next(only).await,
        [first, second, ..] => tokio::select! {
            item = next(first) => item,
            item = next(second) => item,
        },
    }
}

/// What a claim's consumer reports.
type Counters = ConsumerCounters;
