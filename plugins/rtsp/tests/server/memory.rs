//! A host in memory: streams with units that a test pushes, and publishers whose units it looks at.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use patchbay_media::{Parameters, Unit};
use patchbay_plugin_rtsp::server::rings::{RingReader, Rings};
use patchbay_plugin_rtsp::server::streams::{Claim, Intake, Streams, Voice};
use patchbay_sdk::api::message::{Bound, BoundTrack, Clock, Consume, ConsumerCounters, Publish};
use patchbay_sdk::clock::host_ns;
use patchbay_sdk::reader::Item;
use patchbay_sdk::source::Tracks;
use patchbay_sdk::talk::Offer;
use patchbay_sdk::{Error, track};
use tokio::sync::{mpsc, watch};

/// The host. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    sources: HashMap<u64, Source>,
    streams: HashMap<String, watch::Sender<Option<Bound>>>,
    pub(crate) queries: Vec<String>,
    publish: HashMap<String, mpsc::UnboundedSender<Published>>,
    histories: u64,
    readers: u64,
    counted: Vec<ConsumerCounters>,
}

struct Source {
    items: Vec<Item>,
    /// Clock rate by track.
    rates: HashMap<u32, u32>,
    /// Its units' time 0 on the host's clock, in seconds.
    zero_s: i64,
    end: watch::Sender<u64>,
}

/// What a publisher did.
#[derive(Debug)]
pub(crate) enum Published {
    /// It was taken; dropping the sender or sending a reason ends it.
    Accepted(Publish, watch::Sender<Option<String>>),
    Tracks(Tracks),
    Changed,
    Unit(u32, Unit),
    Clock(Clock),
    Gone,
}

impl Memory {
    /// Adds a stream whose tracks are known: `(source, id, parameters)`.
    pub(crate) fn stream(&self, name: &str, tracks: &[(u64, u32, Parameters)]) {
        self.slow_stream(name);
        self.bind(name, tracks);
    }

    /// Adds a stream that has not started.
    pub(crate) fn slow_stream(&self, name: &str) {
        self.inner.lock().streams.insert(name.to_owned(), watch::Sender::new(None));
    }

    /// Tells the tracks of a stream.
    pub(crate) fn bind(&self, name: &str, tracks: &[(u64, u32, Parameters)]) {
        let mut inner = self.inner.lock();
        let mut bound = Bound::default();
        for (source, id, parameters) in tracks {
            let source_of = inner.sources.entry(*source).or_insert_with(|| Source {
                items: Vec::new(),
                rates: HashMap::new(),
                zero_s: host_ns() / 1_000_000_000,
                end: watch::Sender::new(0),
            });
            source_of.rates.insert(*id, parameters.clock_rate);
            bound.tracks.push(BoundTrack { source: *source, epoch: 0, info: track::info(*id, parameters) });
        }
        inner.streams[name].send_replace(Some(bound));
    }

    /// Adds a unit to a source, on the host's clock as the host places it.
    pub(crate) fn push(&self, source: u64, track: u32, unit: Unit) {
        let (sequence, zero) = {
            let inner = self.inner.lock();
            let source = &inner.sources[&source];
            (source.items.len() as u64, source.zero_s * i64::from(source.rates[&track]))
        };
        let unit = Unit { pts: unit.pts.saturating_add(zero), dts: unit.dts.saturating_add(zero), ..unit };
        self.item(source, Item::Unit { track, sequence, arrival_ns: 0, unit });
    }

    /// Adds an item to a source.
    pub(crate) fn item(&self, source: u64, item: Item) {
        let mut inner = self.inner.lock();
        let source = inner.sources.get_mut(&source).unwrap();
        source.items.push(item);
        source.end.send_replace(source.items.len() as u64);
    }

    /// Lets a name be published.
    pub(crate) fn may_publish(&self, name: &str) -> mpsc::UnboundedReceiver<Published> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.inner.lock().publish.insert(name.to_owned(), sender);
        receiver
    }

    /// Histories that were read.
    pub(crate) fn histories(&self) -> u64 {
        self.inner.lock().histories
    }

    /// Readers that were made.
    pub(crate) fn readers(&self) -> u64 {
        self.inner.lock().readers
    }

    /// Queries of the consumers so far.
    pub(crate) fn queries(&self) -> Vec<String> {
        self.inner.lock().queries.clone()
    }

    /// Players attached to a stream.
    pub(crate) fn claims(&self, name: &str) -> usize {
        self.inner.lock().streams[name].receiver_count()
    }

    /// Counters that players reported.
    pub(crate) fn counted(&self) -> Vec<ConsumerCounters> {
        self.inner.lock().counted.clone()
    }
}

impl Streams for Memory {
    type Rings = Self;
    type Claim = MemoryClaim;
    type Intake = MemoryIntake;
    type Voice = MemoryVoice;

    fn rings(&self) -> Self {
        self.clone()
    }

    fn consume(&self, consume: &Consume) -> Result<MemoryClaim, Error> {
        let mut inner = self.inner.lock();
        inner.queries.push(consume.query.clone());
        let bound = inner.streams.get(&consume.stream).map(|sender| {
            let mut receiver = sender.subscribe();
            receiver.mark_changed();
            receiver
        });
        Ok(MemoryClaim { memory: self.clone(), bound, query: consume.query.clone() })
    }

    async fn publish(&self, publish: Publish) -> Result<MemoryIntake, Error> {
        let sender = self.inner.lock().publish.get(&publish.stream).cloned();
        let sender = sender.ok_or_else(|| Error::not_found("stream not found"))?;
        let (end, ended) = watch::channel(None);
        sender.send(Published::Accepted(publish, end)).map_err(|_| Error::not_found("gone"))?;
        Ok(MemoryIntake { sender, ended })
    }

    async fn talk(&self, _: Offer) -> Result<MemoryVoice, Error> {
        Ok(MemoryVoice)
    }
}

/// Nothing here is spoken to.
pub(crate) struct MemoryVoice;

impl Voice for MemoryVoice {
    fn push(&self, _: &Unit) -> Result<(), Error> {
        Ok(())
    }

    async fn ended(&mut self) -> Error {
        std::future::pending().await
    }
}

pub(crate) struct MemoryClaim {
    memory: Memory,
    bound: Option<watch::Receiver<Option<Bound>>>,
    query: String,
}

impl Claim for MemoryClaim {
    async fn next(&mut self) -> Result<Bound, Error> {
        let bound = self.bound.as_mut().ok_or_else(|| Error::not_found("stream not found"))?;
        loop {
            bound.changed().await.map_err(|_| Error::eof("closed"))?;
            let Some(mut bound) = bound.borrow_and_update().clone() else { continue };
            let has = |kind: &str| self.query.split('&').any(|pair| pair.split('=').next() == Some(kind));
            bound.tracks.retain(|track| has(&track.info.kind));
            return Ok(bound);
        }
    }

    fn counters(&self, counters: &ConsumerCounters) {
        self.memory.inner.lock().counted.push(*counters);
    }
}

impl Rings for Memory {
    type Reader = MemoryReader;

    fn read(
        &self,
        source: u64,
        tracks: &[(u32, u32)],
        _key_track: Option<u32>,
        cursor: Option<u64>,
    ) -> Result<MemoryReader, Error> {
        let mut inner = self.inner.lock();
        inner.readers += 1;
        let end = inner.sources[&source].end.subscribe();
        let cursor = cursor.unwrap_or_else(|| *end.borrow());
        let tracks = tracks.iter().map(|(id, _)| *id).collect();
        Ok(MemoryReader { memory: self.clone(), source, tracks, cursor, end })
    }

    fn history(&self, source: u64, wanted: u32, end: u64) -> Result<Vec<Unit>, Error> {
        let mut inner = self.inner.lock();
        let items = &inner.sources[&source].items;
        let key = items
            .iter()
            .rposition(|item| matches!(item, Item::Unit { track, unit, .. } if *track == wanted && unit.key));
        let units = items
            .iter()
            .take(end as usize)
            .skip(key.unwrap_or(usize::MAX))
            .filter_map(|item| match item {
                Item::Unit { track, unit, .. } if *track == wanted => Some(unit.clone()),
                _ => None,
            })
            .collect();
        inner.histories += 1;
        Ok(units)
    }
}

pub(crate) struct MemoryReader {
    memory: Memory,
    source: u64,
    tracks: Vec<u32>,
    cursor: u64,
    end: watch::Receiver<u64>,
}

impl RingReader for MemoryReader {
    async fn next(&mut self) -> Result<Item, Error> {
        loop {
            let item =
                self.memory.inner.lock().sources[&self.source].items.get(self.cursor as usize).cloned();
            match item {
                Some(item) => {
                    self.cursor += 1;
                    match &item {
                        Item::Unit { track, .. } if !self.tracks.contains(track) => {}
                        _ => return Ok(item),
                    }
                }
                None => {
                    if self.end.wait_for(|end| *end > self.cursor).await.is_err() {
                        pending::<()>().await;
                    }
                }
            }
        }
    }

    fn position(&self) -> u64 {
        self.cursor
    }
}

pub(crate) struct MemoryIntake {
    sender: mpsc::UnboundedSender<Published>,
    ended: watch::Receiver<Option<String>>,
}

impl Intake for MemoryIntake {
    fn tracks(&self, tracks: &Tracks) -> Result<(), Error> {
        let _ = self.sender.send(Published::Tracks(tracks.clone()));
        Ok(())
    }

    fn track_changed(&self, _id: u32, _parameters: &Parameters) -> Result<(), Error> {
        let _ = self.sender.send(Published::Changed);
        Ok(())
    }

    fn push(&self, id: u32, unit: &Unit) -> Result<(), Error> {
        let _ = self.sender.send(Published::Unit(id, unit.clone()));
        Ok(())
    }

    fn clock(&self, clock: Clock) -> Result<(), Error> {
        let _ = self.sender.send(Published::Clock(clock));
        Ok(())
    }

    async fn ended(&mut self) -> Error {
        let reason = self.ended.wait_for(Option::is_some).await.map(|reason| reason.clone());
        match reason {
            Ok(reason) => Error::eof(reason.unwrap_or_default()),
            // The test looks no more.
            Err(_) => pending().await,
        }
    }
}

impl Drop for MemoryIntake {
    fn drop(&mut self) {
        let _ = self.sender.send(Published::Gone);
    }
}

/// One NAL unit of an H.264 picture with its number in it, and without zeros, which would be start codes.
pub(crate) fn picture(number: i64, is_key: bool, len: usize) -> Unit {
    let mut nal = vec![if is_key { 0x65 } else { 0x41 }, 0x80];
    nal.extend((0..4).map(|i| 0x80 | (number >> (7 * i)) as u8));
    nal.resize(len.max(10), number as u8 | 1);
    let mut data = (nal.len() as u32).to_be_bytes().to_vec();
    data.extend_from_slice(&nal);
    Unit::new(number * 3600, is_key, Bytes::from(data))
}

/// A-law sound of 20 ms.
pub(crate) fn sound(number: i64) -> Unit {
    Unit::new(number * 160, true, Bytes::from(vec![number as u8; 160]))
}

/// The number of a picture.
pub(crate) fn picture_number(nal: &[u8]) -> i64 {
    nal.iter().skip(2).take(4).rev().fold(0, |sum, byte| sum << 7 | i64::from(byte & 0x7f))
}
