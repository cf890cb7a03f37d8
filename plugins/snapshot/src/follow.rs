//! Pictures newer than the key picture: per track a decoder that goes on where it stopped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use patchbay_sdk::api::Host;
use patchbay_sdk::api::message::BoundTrack;
use patchbay_sdk::media::{Parameters, Unit};
use patchbay_sdk::reader::{Item, Reader};
use patchbay_sdk::{Error, track};

use crate::decode::Decoding;
use crate::routes::age;
use crate::shots::{Shot, Shots};

/// The decoder of one track. One request at a time advances it; the others wait for what it gives.
pub struct Follower {
    state: tokio::sync::Mutex<State>,
    used: Mutex<Instant>,
}

#[derive(Default)]
struct State {
    decoding: Option<Decoding>,
    /// Sequence numbers of the key unit it began with and of the last unit it took.
    key: u64,
    last: u64,
}

/// Units to decode, from the one behind the last or from a key unit on.
struct Read {
    parameters: Parameters,
    units: Vec<Unit>,
    /// Sequence number of the key unit that they begin with, when they do.
    key: Option<u64>,
    last: u64,
    arrival_ns: u64,
}

impl Follower {
    fn new() -> Self {
        Self { state: tokio::sync::Mutex::default(), used: Mutex::new(Instant::now()) }
    }

    /// How long nobody has asked.
    pub(crate) fn idle(&self) -> Duration {
        self.used.lock().elapsed()
    }
}

impl Shots {
    /// The newest picture of all, or one not older than `limit`. The key picture when the codec is not decoded here.
    pub async fn newest(
        self: &Arc<Self>,
        host: Host,
        track: &BoundTrack,
        key: Arc<Shot>,
        limit: Duration,
    ) -> Result<Arc<Shot>, Error> {
        if track.info.codec != "h264" {
            return Ok(key);
        }
        let id = (track.source, track.info.id);
        let follower =
            Arc::clone(self.followers.lock().entry(id).or_insert_with(|| Arc::new(Follower::new())));
        *follower.used.lock() = Instant::now();
        let mut state = follower.state.lock().await;
        let kept = self.get((id.0, id.1, true)).filter(|kept| kept.sequence >= key.sequence);
        if let Some(kept) = kept.clone().filter(|kept| age(kept.arrival_ns) <= limit) {
            return Ok(kept);
        }
        if state.key == key.sequence
            && let Some(running) = state.decoding.take()
        {
            match self.advance(host, track, &key, state.last + 1, Some(running), &mut state).await? {
                Some(shot) => return Ok(shot),
                None if state.decoding.is_some() => return Ok(kept.unwrap_or(key)),
                None => {}
            }
        }
        let shot = self.advance(host, track, &key, key.sequence, None, &mut state).await?;
        Ok(shot.unwrap_or(key))
    }

    /// Decodes what came from `cursor` on. `None`: nothing came (the decoder is kept), or it could not be decoded.
    async fn advance(
        self: &Arc<Self>,
        host: Host,
        track: &BoundTrack,
        key: &Shot,
        cursor: u64,
        running: Option<Decoding>,
        state: &mut State,
    ) -> Result<Option<Arc<Shot>>, Error> {
        let Some(Read { parameters, units, key, last, arrival_ns }) = read(host, track, key, cursor)? else {
            state.decoding = running;
            return Ok(None);
        };
        let running = running.filter(|_| key.is_none());
        if running.is_none() && key.is_none() {
            return Ok(None);
        }
        state.key = key.unwrap_or(state.key);
        state.last = last;
        self.counted.decoded.fetch_add(units.len() as u64, Ordering::Relaxed);
        let needed = parameters.clone();
        let decoded = self.work(move || {
            let mut decoding = match running {
                Some(running) => running,
                None => Decoding::new(&needed)?,
            };
            let picture = decoding.advance(&units)?;
            Ok((decoding, picture))
        });
        match decoded.await {
            Ok((decoding, picture)) => {
                state.decoding = Some(decoding);
                let shot = Shot::decoded(parameters, picture, last, arrival_ns);
                Ok(Some(self.keep((track.source, track.info.id, true), shot)))
            }
            Err(error) => {
                tracing::debug!("{error}");
                Ok(None)
            }
        }
    }
}

/// What the ring holds from `cursor` on; `None` when there is nothing to decode.
fn read(host: Host, track: &BoundTrack, key: &Shot, cursor: u64) -> Result<Option<Read>, Error> {
    let id = track.info.id;
    let mut reader = Reader::at(host, track.source, &[(id, track.epoch)], Some(id), cursor);
    let mut read = Read {
        parameters: track::parameters(&track.info).unwrap_or_else(|| key.parameters.clone()),
        units: Vec::new(),
        key: None,
        last: 0,
        arrival_ns: 0,
    };
    let mut is_whole = true;
    while let Some(item) = reader.try_next()? {
        match item {
            Item::Unit { sequence, arrival_ns, unit, .. } => {
                if unit.key {
                    read.units.clear();
                    read.key = Some(sequence);
                    is_whole = true;
                }
                read.units.push(unit);
                (read.last, read.arrival_ns) = (sequence, arrival_ns);
            }
            Item::Parameters { parameters, .. } => read.parameters = parameters,
            Item::Gap { .. } => is_whole = false,
        }
    }
    Ok((is_whole && !read.units.is_empty()).then_some(read))
}
