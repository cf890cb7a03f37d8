//! Role `output`: tracks in, chunks out. The host keeps one run per (sources, tracks, format, options) and fans it out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use patchbay_media::{Kind, Parameters, Unit};
use patchbay_plugin_api::abi::chunk_flags;
use patchbay_plugin_api::message::{
    self, BoundTrack, Counters, History, Join, OutputInfo, OutputOpen, command, event,
};
use patchbay_plugin_api::{Chunk, Code, Host};
use tokio::sync::mpsc;

use crate::Plugin;
use crate::entry::Opening;
use crate::error::Error;
use crate::reader::{self, Item, Reader};
use crate::session::{Command, Link};
use crate::track;

/// For the macro.
#[doc(hidden)]
pub const ROLE: u32 = message::role::OUTPUT;

/// Most tracks of one output.
pub const MAX_TRACKS: usize = 16;

/// Between two reports of [`totals`].
const REPORT_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

static RUNS: AtomicU64 = AtomicU64::new(0);

/// Mux runs that this library has started, for `/metrics`.
pub fn runs() -> u64 {
    RUNS.load(Ordering::Relaxed)
}

/// Totals of this library for `/metrics`.
fn totals() -> Counters {
    let all = [("mux_runs", runs())].into_iter().chain(reader::counters().named());
    Counters { counters: all.map(|(name, value)| (name.to_owned(), value)).collect() }
}

/// A plugin that muxes.
pub trait Output: Plugin {
    /// Its muxer.
    type Mux: Mux;
    /// Makes a muxer for these tracks; [`patchbay_plugin_api::message::Class::Unsupported`] when a codec does not fit.
    fn mux(&self, request: &Request) -> Result<Self::Mux, Error>;
}

/// What to mux.
#[derive(Debug, Clone)]
pub struct Request {
    /// Format of the manifest.
    pub format: String,
    /// Parameters of the tracks, in their order.
    pub tracks: Vec<Parameters>,
    /// Mux options from the route.
    pub options: BTreeMap<String, String>,
}

/// A muxer: sans-IO, runs once for all viewers.
pub trait Mux: Send + 'static {
    /// Content type with codecs.
    fn mime(&self) -> String;
    /// What a player needs before the first chunk; may be empty.
    fn init(&mut self) -> Bytes;
    /// Muxes a unit of track `index`.
    fn push(&mut self, index: usize, unit: &Unit, chunks: &mut Vec<Chunk>);
    /// New parameters of a track: true when viewers need a new init chunk. `chunks` takes what waited.
    fn configure(
        &mut self,
        index: usize,
        parameters: &Parameters,
        chunks: &mut Vec<Chunk>,
    ) -> Result<bool, Error>;
    /// What a joining viewer gets before the next live chunk: `units` of track `index` from the newest key unit to now,
    /// squeezed to end where live begins ([`History::Live`]), with their own times ([`History::Raw`]); with no units
    /// just the starts. `starts` has one entry per track: what the host subtracts from this viewer's live times.
    fn history(&mut self, index: usize, units: &[Unit], history: History) -> Joined;
    /// A still: everything a player needs to show one key unit.
    fn still(&mut self, index: usize, unit: &Unit) -> Bytes;
    /// Units before the next one were lost.
    fn gap(&mut self) {}
}

/// A joining viewer's first bytes.
#[derive(Debug, Clone, Default)]
pub struct Joined {
    /// The history chunk; may be empty.
    pub data: Bytes,
    /// Per track: what is subtracted from live times.
    pub starts: Vec<i64>,
}

/// For the macro.
#[doc(hidden)]
pub fn open<P: Output>(plugin: Arc<P>, request: &[u8], session: Opening) -> Result<(), Code> {
    let open: OutputOpen = serde_json::from_slice(request).map_err(|_| Code::Invalid)?;
    if open.tracks.is_empty() || open.tracks.len() > MAX_TRACKS {
        return Err(Code::Invalid);
    }
    session.run(move |link, commands| async move {
        let parameters: Option<Vec<_>> = open.tracks.iter().map(|t| track::parameters(&t.info)).collect();
        let tracks =
            parameters.ok_or_else(|| Error::unsupported("a codec that this plugin does not know"))?;
        let request = Request { format: open.format, tracks, options: open.options };
        let mux = plugin.mux(&request)?;
        RUNS.fetch_add(1, Ordering::Relaxed);
        Run::new(link, &request, &open.tracks, mux)?.run(commands).await
    })
}

struct Run<M> {
    link: Link,
    mux: M,
    sources: Vec<SourceReader>,
    /// The video track, else the first: (index, source, track id).
    lead: (usize, u64, u32),
    has_video: bool,
    init: Bytes,
    mime: String,
    /// Viewers that wait for the next key unit.
    waiting: Vec<Join>,
    chunks: Vec<Chunk>,
}

struct SourceReader {
    source: u64,
    reader: Reader,
    /// Track id to index.
    index: Vec<(u32, usize)>,
}

impl<M: Mux> Run<M> {
    fn new(link: Link, request: &Request, bound: &[BoundTrack], mux: M) -> Result<Self, Error> {
        let video = request.tracks.iter().position(|p| p.codec.kind() == Kind::Video);
        let lead_index = video.unwrap_or(0);
        let mut sources: Vec<SourceReader> = Vec::new();
        let mut ids: Vec<u64> = Vec::new();
        for track in bound {
            if !ids.contains(&track.source) {
                ids.push(track.source);
            }
        }
        let mut lead = (lead_index, 0, 0);
        for source in ids {
            let here = || bound.iter().enumerate().filter(|(_, t)| t.source == source);
            let tracks: Vec<(u32, u32)> = here().map(|(_, t)| (t.info.id, t.epoch)).collect();
            let key_track = here().find(|(i, _)| Some(*i) == video).map(|(_, t)| t.info.id);
            if let Some((_, t)) = here().find(|(i, _)| *i == lead_index) {
                lead = (lead_index, source, t.info.id);
            }
            let reader = Reader::live(link.host, source, &tracks, key_track)?;
            sources.push(SourceReader {
                source,
                reader,
                index: here().map(|(i, t)| (t.info.id, i)).collect(),
            });
        }
        Ok(Self {
            link,
            mux,
            sources,
            lead,
            has_video: video.is_some(),
            init: Bytes::new(),
            mime: String::new(),
            waiting: Vec::new(),
            chunks: Vec::new(),
        })
    }

    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) -> Result<(), Error> {
        self.prime()?;
        self.announce()?;
        let closed = self.link.closed.clone();
        let mut report = tokio::time::interval(REPORT_EVERY);
        loop {
            tokio::select! {
                biased;
                () = closed.cancelled() => return Ok(()),
                command = commands.recv() => match command {
                    Some(command) if command.kind == command::JOIN => self.join(command.json())?,
                    Some(_) => {}
                    None => return Ok(()),
                },
                _ = report.tick() => self.link.emit(event::METRICS, &totals())?,
                item = next_of(&mut self.sources) => {
                    let (source, item) = item?;
                    self.item(source, item)?;
                }
            }
        }
    }

    /// Lets the muxer see the pictures that are there, so that it can go on in the middle of them; viewers get them as
    /// their history.
    fn prime(&mut self) -> Result<(), Error> {
        if self.has_video {
            let (index, source, track) = self.lead;
            let mut unsent = Vec::new();
            for unit in self.units(source, track)? {
                self.mux.push(index, &unit, &mut unsent);
                unsent.clear();
            }
        }
        Ok(())
    }

    /// Sends the MIME type and the init chunk when they are new.
    fn announce(&mut self) -> Result<(), Error> {
        let (mime, init) = (self.mux.mime(), self.mux.init());
        if mime != self.mime {
            self.link.emit(event::OUTPUT, &OutputInfo { mime: mime.clone() })?;
            self.mime = mime;
        }
        if init != self.init || init.is_empty() {
            self.write(Chunk { data: init.clone(), flags: chunk_flags::INIT, ..Chunk::default() })?;
            self.init = init;
        }
        Ok(())
    }

    fn item(&mut self, source: usize, item: Item) -> Result<(), Error> {
        let index_of = |sources: &[SourceReader], id: u32| {
            sources.get(source).and_then(|s| s.index.iter().find(|(t, _)| *t == id)).map(|(_, index)| *index)
        };
        match item {
            Item::Unit { track, unit, .. } => {
                let Some(index) = index_of(&self.sources, track) else { return Ok(()) };
                if unit.key && index == self.lead.0 {
                    self.admit_waiting(&unit)?;
                }
                let mut chunks = std::mem::take(&mut self.chunks);
                self.mux.push(index, &unit, &mut chunks);
                for chunk in chunks.drain(..) {
                    self.write(chunk)?;
                }
                self.chunks = chunks;
            }
            Item::Parameters { track, parameters } => {
                let Some(index) = index_of(&self.sources, track) else { return Ok(()) };
                let mut chunks = Vec::new();
                let renewed = self.mux.configure(index, &parameters, &mut chunks)?;
                for chunk in chunks {
                    self.write(chunk)?;
                }
                if renewed {
                    self.announce()?;
                }
            }
            Item::Gap { .. } => self.mux.gap(),
        }
        Ok(())
    }

    /// A viewer arrives: its history ends exactly where the next live chunk begins, since both come from here.
    fn join(&mut self, join: Join) -> Result<(), Error> {
        let (index, source, track) = self.lead;
        let units = match join.history {
            History::None if self.has_video => {
                self.waiting.push(join);
                return Ok(());
            }
            History::Live | History::Raw if self.has_video => self.units(source, track)?,
            History::Keyframe => {
                let Some(unit) = newest_key(self.link.host, source, track)? else {
                    self.waiting.push(join);
                    return Ok(());
                };
                let data = self.mux.still(index, &unit);
                return self.answer(join, Joined { data, starts: Vec::new() });
            }
            _ => Vec::new(),
        };
        if units.is_empty() && self.has_video {
            self.waiting.push(join);
            return Ok(());
        }
        let joined = self.mux.history(index, &units, join.history);
        self.answer(join, joined)
    }

    fn units(&mut self, source: u64, track: u32) -> Result<Vec<Unit>, Error> {
        let position = self.sources.iter().find(|s| s.source == source).map_or(0, |s| s.reader.position());
        reader::history(self.link.host, source, track, position)
    }

    /// The next live chunk starts with the key unit `unit`: whoever waits for one starts there.
    fn admit_waiting(&mut self, unit: &Unit) -> Result<(), Error> {
        for join in std::mem::take(&mut self.waiting) {
            let joined = if join.history == History::Keyframe {
                Joined { data: self.mux.still(self.lead.0, unit), starts: Vec::new() }
            } else {
                // Starts are the times of the unit that comes next.
                self.mux.history(self.lead.0, std::slice::from_ref(unit), History::None)
            };
            self.answer(join, joined)?;
        }
        Ok(())
    }

    fn answer(&mut self, join: Join, joined: Joined) -> Result<(), Error> {
        let flags =
            chunk_flags::HISTORY | if join.history == History::Keyframe { chunk_flags::FINAL } else { 0 };
        let Joined { data, starts } = joined;
        self.write(Chunk { data, flags, patches: Vec::new(), join: join.join, starts })
    }

    fn write(&self, chunk: Chunk) -> Result<(), Error> {
        match self.link.host.write(self.link.id, &chunk) {
            Ok(()) => Ok(()),
            Err(Code::OverLimit | Code::Invalid) => {
                tracing::warn!(len = chunk.data.len(), "the host refused a chunk");
                Ok(())
            }
            Err(code) => Err(code.into()),
        }
    }
}

/// The newest key unit of a track, alone.
fn newest_key(host: Host, source: u64, track: u32) -> Result<Option<Unit>, Error> {
    let units = reader::history(host, source, track, u64::MAX)?;
    Ok(units.into_iter().next())
}

/// The next item of any source. At most a few sources: a stream's tracks rarely come from more than two.
async fn next_of(sources: &mut [SourceReader]) -> Result<(usize, Item), Error> {
    let mut nexts: Vec<_> = sources.iter_mut().map(|s| Box::pin(s.reader.next())).collect();
    let (item, index, _) = match nexts.len() {
        0 => return std::future::pending().await,
        _ => futures_util::future::select_all(nexts.drain(..)).await,
    };
    Ok((index, item?))
}
