//! Waiting for a stream to say what it is.

use std::future::Future;
use std::time::Duration;

use patchbay_media::Parameters;
use patchbay_plugin_api::message::{Bound, BoundTrack, ConsumerCounters};
use tokio::time::{Instant, timeout_at};

use super::Consumer;
use crate::error::Error;
use crate::track;

/// How long a player waits for a known stream that is slow to start.
pub const START_TIMEOUT: Duration = Duration::from_secs(15);
/// How long it waits for parameter sets once the tracks are known: players decide from the description alone.
const PARAMETERS_TIMEOUT: Duration = Duration::from_secs(3);
/// The host's words for a name that it does not know. A camera that is not found has the same class, but its stream is known,
/// and players must come back.
const UNKNOWN: &str = "stream not found";

/// One player's claim on a stream: a [`Consumer`], or a test's. Dropping it ends it.
pub trait Claim: Send + 'static {
    /// What may be read, each time it changes. Nothing is lost when the future is dropped.
    fn next(&mut self) -> impl Future<Output = Result<Bound, Error>> + Send;
    /// Reports what was sent.
    fn counters(&self, counters: &ConsumerCounters);
    /// Its id, for [`crate::talk::Offer::consumer`]; 0: none.
    fn id(&self) -> u64 {
        0
    }
}

impl Claim for Consumer {
    fn next(&mut self) -> impl Future<Output = Result<Bound, Error>> + Send {
        Self::next(self)
    }

    fn counters(&self, counters: &ConsumerCounters) {
        Self::counters(self, counters);
    }

    fn id(&self) -> u64 {
        Self::id(self)
    }
}

/// The tracks of a new claim, as soon as `is_complete` is true of all of them; what is known 3 s after they are named
/// otherwise. The claim should have a `timeout_ms` of [`START_TIMEOUT`].
pub async fn settled(
    claim: &mut impl Claim,
    is_complete: impl Fn(&BoundTrack) -> bool,
) -> Result<Bound, Error> {
    // A little later than the host, whose reason is better.
    let mut until = Instant::now() + START_TIMEOUT + Duration::from_secs(1);
    let mut known: Option<Bound> = None;
    loop {
        match timeout_at(until, claim.next()).await {
            Ok(Ok(bound)) if !bound.tracks.is_empty() && bound.tracks.iter().all(&is_complete) => {
                return Ok(bound);
            }
            Ok(Ok(bound)) => {
                if known.is_none() {
                    until = until.min(Instant::now() + PARAMETERS_TIMEOUT);
                }
                known = Some(bound);
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return known.ok_or_else(|| Error::timeout("the stream has not started")),
        }
    }
}

/// Whether a claim was refused because there is no such name.
pub fn is_unknown(error: &Error) -> bool {
    error.class == crate::Class::NotFound && error.message == UNKNOWN
}

/// One track that a player gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The host's id of the source.
    pub source: u64,
    /// Track id within it.
    pub track: u32,
    /// Epoch of `parameters`.
    pub epoch: u32,
    /// Codec and configuration.
    pub parameters: Parameters,
}

impl Wanted {
    /// A track that is bound; `None` when its codec is not known here.
    pub fn new(bound: &BoundTrack) -> Option<Self> {
        let parameters = track::parameters(&bound.info)?;
        Some(Self { source: bound.source, track: bound.info.id, epoch: bound.epoch, parameters })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Says what it is told to, then nothing.
    struct Script(VecDeque<Result<Bound, Error>>);

    impl Claim for Script {
        async fn next(&mut self) -> Result<Bound, Error> {
            crate::or_pending(self.0.pop_front().map(std::future::ready)).await
        }

        fn counters(&self, _: &ConsumerCounters) {}
    }

    fn bound(codecs: &[&str]) -> Bound {
        let track = |codec: &&str| {
            let mut track = BoundTrack::default();
            track.info.codec = (*codec).to_owned();
            track
        };
        Bound { tracks: codecs.iter().map(track).collect(), ..Bound::default() }
    }

    async fn settle(said: impl IntoIterator<Item = Result<Bound, Error>>) -> Result<Bound, Error> {
        let is_complete = |track: &BoundTrack| !track.info.codec.is_empty();
        settled(&mut Script(said.into_iter().collect()), is_complete).await
    }

    #[tokio::test]
    async fn tracks_are_taken_when_they_are_complete_or_do_not_become_so() {
        let (half, whole) = (bound(&["h264", ""]), bound(&["h264", "aac"]));
        let said = [Ok(bound(&[])), Ok(half.clone()), Ok(whole.clone()), Ok(bound(&["mjpeg"]))];
        assert_eq!(settle(said).await, Ok(whole));
        assert_eq!(settle([Ok(half.clone())]).await, Ok(half), "after a while");
        let refused = settle([Err(Error::not_found(UNKNOWN))]).await;
        assert!(refused.is_err_and(|error| is_unknown(&error)));
        assert!(!is_unknown(&Error::not_found("the camera answered 404")));
    }
}
