//! The task of a run: reads the rings, cuts parts, hands each to the host once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use patchbay_media::{Kind, Parameters, Unit};
use patchbay_mux::timeline::rescale;
use patchbay_sdk::api::Host;
use patchbay_sdk::api::message::{Bound, BoundTrack, Consume, ConsumerCounters};
use patchbay_sdk::blob::Blob;
use patchbay_sdk::reader::{Item, Reader};
use patchbay_sdk::server::Consumer;
use patchbay_sdk::{Error, track};
use tokio::time::interval;

use super::segmenter::{Out, Plan, SECOND, Segmenter};
use super::stream::Stream;

/// Oldest media that a new run takes from the ring, beside the newest group of pictures.
const HISTORY: i64 = 12 * SECOND;
/// Units of the leading track from which lengths are planned.
const PLAN_UNITS: usize = 5;
/// With one key picture alone, so much media is waited for.
const PLAN_TIME: i64 = SECOND;
/// Most units that wait for the plan.
const MAX_EARLY: usize = 4096;

/// The task of a run.
pub(super) struct Run {
    host: Host,
    stream: Arc<Stream>,
    readers: Vec<SourceReader>,
    bound: Vec<(u64, u32)>,
    tracks: Vec<Parameters>,
    /// Track that decides where segments begin.
    lead: usize,
    segmenter: Option<Segmenter>,
    /// Media in the ring before the key picture that it begins with, without another one, ns.
    before: i64,
    /// Units before there is a plan: index, unit, wall time.
    early: Vec<(usize, Unit, i64)>,
    wall: WallClock,
    out: Vec<Out>,
    counters: ConsumerCounters,
}

struct SourceReader {
    reader: Reader,
    /// Track id to index.
    index: Vec<(u32, usize)>,
}

impl Run {
    /// A run that shows itself in `stream`.
    pub(super) fn new(host: Host, stream: Arc<Stream>) -> Self {
        Self {
            host,
            stream,
            readers: Vec::new(),
            bound: Vec::new(),
            tracks: Vec::new(),
            lead: 0,
            segmenter: None,
            before: 0,
            early: Vec::new(),
            wall: WallClock::now(),
            out: Vec::new(),
            counters: ConsumerCounters::default(),
        }
    }

    /// Runs until nobody asks any more.
    pub(super) async fn run(mut self, consume: &Consume) -> Result<(), Error> {
        let mut consumer = Consumer::new(self.host, consume)?;
        let mut beat = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                bound = consumer.next() => self.bind(bound?)?,
                item = next_of(&mut self.readers) => match item {
                    Ok((reader, item)) => self.item(reader, item)?,
                    // A source that is gone: the consumer is told when there is another one.
                    Err(_) => self.readers.clear(),
                },
                _ = beat.tick() => {
                    consumer.counters(&self.counters);
                    if self.stream.is_idle() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// New sources or tracks.
    fn bind(&mut self, bound: Bound) -> Result<(), Error> {
        let kind = |track: &BoundTrack, kind| {
            patchbay_media::Codec::from_name(&track.info.codec).is_some_and(|codec| codec.kind() == kind)
        };
        // Players want one picture and one sound.
        let video = bound.tracks.iter().find(|track| kind(track, Kind::Video));
        let audio = bound.tracks.iter().find(|track| kind(track, Kind::Audio));
        let chosen: Vec<BoundTrack> = video.into_iter().chain(audio).cloned().collect();
        let ids: Vec<(u64, u32)> = chosen.iter().map(|track| (track.source, track.info.id)).collect();
        let tracks: Option<Vec<Parameters>> = chosen.iter().map(|t| track::parameters(&t.info)).collect();
        let tracks = tracks
            .filter(|tracks| !tracks.is_empty())
            .ok_or_else(|| Error::unsupported("hls: no track that it can carry"))?;
        let same_codecs = tracks.iter().map(|t| t.codec).eq(self.tracks.iter().map(|t| t.codec));
        if ids == self.bound && same_codecs && !self.readers.is_empty() {
            return Ok(());
        }
        self.bound = ids;
        self.tracks.clone_from(&tracks);
        self.lead = 0;
        self.stream.show_tracks(&tracks);
        self.readers.clear();
        for source in self.bound.iter().map(|(source, _)| *source).collect::<BTreeSet<_>>() {
            let here = || chosen.iter().enumerate().filter(|(_, track)| track.source == source);
            let list: Vec<(u32, u32)> = here().map(|(_, track)| (track.info.id, track.epoch)).collect();
            let key = here().find(|(_, track)| kind(track, Kind::Video)).map(|(_, track)| track);
            let lead = here().find(|(index, _)| *index == self.lead).map(|(_, track)| track);
            let cursor = match lead {
                Some(track) if self.segmenter.is_none() => {
                    let (cursor, before) = begin(self.host, track)?;
                    self.before = before;
                    cursor
                }
                _ => self.host.locate_head(source)?,
            };
            let reader = Reader::at(self.host, source, &list, key.map(|track| track.info.id), cursor);
            let index = here().map(|(index, track)| (track.info.id, index)).collect();
            self.readers.push(SourceReader { reader, index });
        }
        match &mut self.segmenter {
            Some(segmenter) => segmenter.replace(&tracks, &mut self.out).map_err(unsupported)?,
            // Says at once what cannot be carried.
            None => {
                let plan = Plan::of(&[], true, 0);
                Segmenter::new(self.stream.container, &tracks, plan, &mut Vec::new()).map_err(unsupported)?;
                self.early.clear();
            }
        }
        self.catch_up()
    }

    /// Takes what is in the rings already.
    fn catch_up(&mut self) -> Result<(), Error> {
        for reader in 0..self.readers.len() {
            while let Some(item) =
                self.readers.get_mut(reader).map(|r| r.reader.try_next()).transpose()?.flatten()
            {
                self.take(reader, item)?;
            }
        }
        self.plan()?;
        self.publish()
    }

    fn item(&mut self, reader: usize, item: Item) -> Result<(), Error> {
        self.take(reader, item)?;
        self.plan()?;
        self.publish()
    }

    fn take(&mut self, reader: usize, item: Item) -> Result<(), Error> {
        let index_of = |readers: &[SourceReader], id: u32| {
            readers.get(reader).and_then(|r| r.index.iter().find(|(t, _)| *t == id)).map(|(_, index)| *index)
        };
        match item {
            Item::Unit { track, arrival_ns, unit, .. } => {
                let Some(index) = index_of(&self.readers, track) else { return Ok(()) };
                let wall = self.wall.ms(arrival_ns);
                match &mut self.segmenter {
                    Some(segmenter) => segmenter.push(index, &unit, wall, &mut self.out),
                    None if self.early.len() < MAX_EARLY => self.early.push((index, unit, wall)),
                    None => return Err(Error::protocol("hls: no key picture comes")),
                }
            }
            Item::Parameters { track, parameters } => {
                let Some(index) = index_of(&self.readers, track) else { return Ok(()) };
                if let Some(slot) = self.tracks.get_mut(index) {
                    slot.clone_from(&parameters);
                }
                if let Some(segmenter) = &mut self.segmenter {
                    segmenter.configure(index, &parameters, &mut self.out).map_err(unsupported)?;
                }
                self.stream.show_tracks(&self.tracks);
            }
            // The hole in time is seen from the units.
            Item::Gap { lost } => tracing::debug!(lost, "units were lost"),
        }
        Ok(())
    }

    /// Makes the segmenter once enough units are here to plan lengths.
    fn plan(&mut self) -> Result<(), Error> {
        if self.segmenter.is_some() {
            return Ok(());
        }
        let rate = self.tracks.get(self.lead).map_or(1, |track| track.clock_rate.max(1));
        let units: Vec<(i64, bool)> = self
            .early
            .iter()
            .filter(|(index, ..)| *index == self.lead)
            .skip_while(|(_, unit, _)| !unit.key)
            .map(|(_, unit, _)| (rescale(unit.dts, rate, 1_000_000_000), unit.key))
            .collect();
        // A second key picture says how far apart they are.
        let span = units.first().zip(units.last()).map_or(0, |(first, last)| last.0 - first.0);
        let keys = units.iter().filter(|(_, key)| *key).count();
        if units.len() < PLAN_UNITS || (keys < 2 && span < PLAN_TIME) {
            return Ok(());
        }
        let has_video = self.tracks.iter().any(|track| track.codec.kind() == Kind::Video);
        let plan = Plan::of(&units, has_video, self.before);
        let container = self.stream.container;
        let mut segmenter =
            Segmenter::new(container, &self.tracks, plan, &mut self.out).map_err(unsupported)?;
        for (index, unit, wall) in std::mem::take(&mut self.early) {
            segmenter.push(index, &unit, wall, &mut self.out);
        }
        self.segmenter = Some(segmenter);
        self.stream.open(plan);
        Ok(())
    }

    /// Hands what came out to the host and shows it to requests.
    fn publish(&mut self) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        let mut made = Vec::with_capacity(self.out.len());
        for out in self.out.drain(..) {
            let data = match &out {
                Out::Init(data) => Some(data),
                Out::Part(part) => Some(&part.data),
                _ => None,
            };
            let blob = data.map(|data| Blob::new(self.host, data.clone())).transpose()?;
            if let Some(blob) = &blob {
                self.counters.bytes += blob.len() as u64;
                self.counters.packets += 1;
            }
            made.push((out, blob.map(Arc::new)));
        }
        let unfit = self.segmenter.as_ref().is_some_and(Segmenter::is_unfit);
        self.stream.publish(made, unfit);
        Ok(())
    }
}

fn unsupported(error: super::segmenter::Error) -> Error {
    Error::unsupported(format!("hls: {error}"))
}

/// Where a new run begins to read: at the oldest key unit of the newest epoch that is not too old, or at the newest one. And
/// how much media (ns) there is before it without another key.
fn begin(host: Host, track: &BoundTrack) -> Result<(u64, i64), Error> {
    let (source, id) = (track.source, track.info.id);
    let Ok(newest) = host.locate_newest_key(source, id) else { return Ok((host.locate_head(source)?, 0)) };
    let rate = track.info.clock_rate.max(1);
    let mut reader = Reader::at(host, source, &[(id, track.epoch)], None, host.locate_oldest(source)?);
    // Sequence number, time, and time of the key or first unit before.
    let mut keys: Vec<(u64, i64, i64)> = Vec::new();
    let (mut last, mut previous) = (0, None);
    while let Some(item) = reader.try_next()? {
        match item {
            Item::Unit { sequence, unit, .. } => {
                last = unit.dts;
                if unit.discontinuity {
                    keys.clear();
                    previous = None;
                }
                let since = *previous.get_or_insert(unit.dts);
                if unit.key {
                    keys.push((sequence, unit.dts, since));
                    previous = Some(unit.dts);
                }
            }
            Item::Parameters { .. } | Item::Gap { .. } => {
                keys.clear();
                previous = None;
            }
        }
    }
    let oldest = last.saturating_sub(rescale(HISTORY, 1_000_000_000, rate));
    let found = keys.iter().find(|(_, dts, _)| *dts >= oldest).or(keys.last());
    Ok(found.map_or((newest, 0), |(sequence, dts, since)| {
        (*sequence, rescale(dts.saturating_sub(*since), rate, 1_000_000_000))
    }))
}

/// The next item of any source.
async fn next_of(readers: &mut [SourceReader]) -> Result<(usize, Item), Error> {
    match readers {
        [] => std::future::pending().await,
        [only] => Ok((0, only.reader.next().await?)),
        many => {
            let nexts = many.iter_mut().map(|r| Box::pin(r.reader.next()));
            let (item, index, _) = futures_util::future::select_all(nexts).await;
            Ok((index, item?))
        }
    }
}

/// Wall time of monotonic times.
struct WallClock {
    /// Wall time less monotonic time, ms.
    offset: i64,
}

impl WallClock {
    fn now() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
        let monotonic = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let monotonic = monotonic.tv_sec.saturating_mul(1_000).saturating_add(monotonic.tv_nsec / 1_000_000);
        Self { offset: i64::try_from(wall).unwrap_or(0).saturating_sub(monotonic) }
    }

    fn ms(&self, arrival_ns: u64) -> i64 {
        i64::try_from(arrival_ns / 1_000_000).unwrap_or(0).saturating_add(self.offset)
    }
}
