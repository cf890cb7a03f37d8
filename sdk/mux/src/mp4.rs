//! MP4 files, whole or fragmented, from bytes that come in any pieces.
//!
//! Sample tables are read where they lie in `moov`, so memory is bounded by its size; samples come out interleaved by
//! time, wherever the file keeps them, with a bounded cache and seeks.
//!
//! ```text
//! loop { match demuxer.poll() {
//!     Event::NeedData   => push(position, bytes) or end(),
//!     Event::Seek(at)   => read on at `at`,
//!     Event::Tracks(..) | Event::Unit { .. } | Event::TrackChanged { .. } => use it,
//!     Event::Error(..) | Event::End => stop,
//! } }
//! ```

mod boxes;
mod cache;
mod entry;
mod fragment;
mod movie;
mod table;

use std::collections::VecDeque;

use bytes::Bytes;
use patchbay_media::assembler::Flags;
use patchbay_media::{Assembler, Codec, Kind, MAX_UNIT_BYTES, Parameters, Unit};

use boxes::Header;
use cache::{Cache, Lookup};
use entry::{Entry, Packing};
use fragment::Cursor;
use table::Sample;

pub(crate) use entry::nals;

/// Largest `moov`: hours of video with every sample in its tables.
pub const MAX_MOOV_BYTES: u64 = 64 << 20;
/// Largest `moof`.
pub const MAX_MOOF_BYTES: u64 = 16 << 20;

/// What the demuxer has to say; [`Event::Seek`] has the byte of the file to read on at. Tracks of H.264 or H.265 with empty
/// `extradata` have it in band: [`Event::TrackChanged`] follows.
pub type Event = patchbay_media::Event<Error, u64>;

/// Why a file cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It does not begin with a box of MP4.
    #[error("not an MP4 file")]
    NotMp4,
    /// It ends without a header, as a recording that was cut off does.
    #[error("mp4: no moov box")]
    NoMovie,
    /// No track has a codec that this server knows.
    #[error("mp4: no track with a known codec")]
    NoTracks,
    /// A header exceeds its limit.
    #[error("mp4: {} box of {size} bytes", String::from_utf8_lossy(kind))]
    TooLarge {
        /// Its type.
        kind: [u8; 4],
        /// Its size in bytes.
        size: u64,
    },
    /// A box is smaller than its own header.
    #[error("mp4: bad box at byte {at}")]
    BadBox {
        /// Where it begins.
        at: u64,
    },
}

/// The demuxer. See the module's page.
#[derive(Debug)]
pub struct Demuxer {
    cache: Cache,
    events: VecDeque<Event>,
    /// The next box of the file.
    at: u64,
    /// The first media before any header: kept while it fits.
    early: Option<u64>,
    tracks: Vec<movie::Track>,
    streams: Vec<Stream>,
    cursors: Vec<Cursor>,
    done: bool,
}

#[derive(Debug)]
struct Stream {
    assembler: Option<Assembler>,
    packing: Packing,
    kind: Kind,
    entry: u32,
    head: Option<Sample>,
    /// Taken off decoding times, see [`table::Walk::shift`].
    shift: i64,
    last_dts: Option<i64>,
    discontinuity: bool,
}

impl Default for Demuxer {
    fn default() -> Self {
        Self::new()
    }
}

/// What to do when bytes are not here.
enum Missing {
    Wait(Event),
    Never,
}

impl Demuxer {
    /// A demuxer at byte 0.
    pub fn new() -> Self {
        Self {
            cache: Cache::new(),
            events: VecDeque::new(),
            at: 0,
            early: None,
            tracks: Vec::new(),
            streams: Vec::new(),
            cursors: Vec::new(),
            done: false,
        }
    }

    /// Adds the bytes at `offset` of the file: behind the ones before, or where [`Event::Seek`] asked.
    pub fn push(&mut self, offset: u64, data: Bytes) {
        self.cache.push(offset, &data);
    }

    /// The file ends where the last bytes did, or at the place sought.
    pub fn end(&mut self) {
        self.cache.end();
    }

    /// Bytes of the file held.
    #[doc(hidden)]
    pub fn buffered(&self) -> usize {
        self.cache.len()
    }

    /// What comes next.
    pub fn poll(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            if self.done {
                return Event::End;
            }
            if self.cache.is_prefetching() {
                return Event::NeedData;
            }
            let step = match self.next_stream() {
                Some(index) => self.sample(index),
                None => self.top_level(),
            };
            match step {
                Ok(None) => {}
                Ok(Some(Event::Seek(at))) => {
                    self.cache.seek(at);
                    return Event::Seek(at);
                }
                Ok(Some(wait)) => return wait,
                Err(error) => {
                    self.done = true;
                    return Event::Error(error);
                }
            }
        }
    }

    /// The stream whose next sample is decoded first.
    fn next_stream(&mut self) -> Option<usize> {
        let mut first: Option<(usize, i64, u32)> = None;
        for (index, track) in self.tracks.iter_mut().enumerate() {
            let Some(stream) = self.streams.get_mut(index) else { continue };
            if stream.head.is_none() {
                stream.head = track.walk.next();
            }
            if stream.head.is_none()
                && let Some(cursor) = self.cursors.get_mut(index)
            {
                stream.head = cursor.next();
            }
            let Some(sample) = &stream.head else { continue };
            let time = sample.dts.saturating_add(track.edit);
            let earlier = first.is_none_or(|(_, best, rate)| {
                i128::from(time) * i128::from(rate) < i128::from(best) * i128::from(track.timescale)
            });
            if earlier {
                first = Some((index, time, track.timescale));
            }
        }
        first.map(|(index, ..)| index)
    }

    fn sample(&mut self, index: usize) -> Result<Option<Event>, Error> {
        let Some(sample) = self.streams.get(index).and_then(|stream| stream.head) else { return Ok(None) };
        let size = usize::try_from(sample.size).unwrap_or(usize::MAX);
        let known = self.enter(index, sample.entry);
        if size == 0 || size > MAX_UNIT_BYTES || !known {
            self.pass_over(index, size > MAX_UNIT_BYTES);
            return Ok(None);
        }
        match self.look(sample.offset, size) {
            Ok(data) => {
                self.unit(index, &sample, &data);
                self.pass_over(index, false);
                let mut needed: Vec<u64> = self.streams.iter().filter_map(|s| Some(s.head?.offset)).collect();
                needed.push(self.at);
                // The next sample of this track most often lies right behind.
                needed.push(sample.offset.saturating_add(u64::from(sample.size)));
                self.cache.keep(&needed);
                Ok(None)
            }
            Err(Missing::Wait(event)) => Ok(Some(event)),
            Err(Missing::Never) => {
                self.done = true;
                Ok(None)
            }
        }
    }

    fn pass_over(&mut self, index: usize, lost: bool) {
        if let Some(stream) = self.streams.get_mut(index) {
            stream.head = None;
            stream.discontinuity |= lost;
        }
    }

    /// Goes to the sample entry of a sample. Whether its codec is known.
    fn enter(&mut self, index: usize, number: u32) -> bool {
        let (Some(track), Some(stream)) = (self.tracks.get(index), self.streams.get_mut(index)) else {
            return false;
        };
        let entry = usize::try_from(number).ok().and_then(|number| track.entries.get(number));
        // A number that does not exist means the only one there is.
        let Some(entry) = entry.map_or(Some(&track.first), Option::as_ref) else { return false };
        if entry.parameters.codec.kind() != stream.kind {
            return false;
        }
        if number != stream.entry {
            stream.entry = number;
            let parameters = stream.set_entry(entry);
            self.events.push_back(Event::TrackChanged { track: index, parameters });
        }
        true
    }

    fn unit(&mut self, index: usize, sample: &Sample, data: &Bytes) {
        let (Some(track), Some(stream)) = (self.tracks.get(index), self.streams.get_mut(index)) else {
            return;
        };
        let pts = sample.dts.saturating_add(sample.composition_offset).saturating_add(track.edit);
        let dts = sample.dts.saturating_add(track.edit).saturating_sub(stream.shift).min(pts);
        let Some((pts, dts)) = grow(stream.last_dts, pts, dts) else { return };
        let mut unit = match (&mut stream.assembler, &stream.packing) {
            (Some(assembler), Packing::Nal { length_size }) => {
                let nals = entry::nals(data, *length_size);
                let assembled = assembler.push_access_unit(pts, Some(dts), nals, Flags::default());
                if let Some(parameters) = assembled.new_parameters {
                    self.events.push_back(Event::TrackChanged { track: index, parameters });
                }
                let Some(unit) = assembled.unit else { return };
                unit
            }
            _ => {
                let mut unit = Unit::new(pts, stream.kind == Kind::Audio || sample.sync, data.clone());
                unit.dts = dts;
                unit
            }
        };
        stream.last_dts = Some(dts);
        unit.duration = sample.duration;
        unit.discontinuity |= std::mem::take(&mut stream.discontinuity);
        self.events.push_back(Event::Unit { track: index, unit });
    }

    /// Reads the next box of the file.
    fn top_level(&mut self) -> Result<Option<Event>, Error> {
        let fragmented = !self.cursors.is_empty();
        if !self.tracks.is_empty() && !fragmented {
            self.done = true;
            return Ok(None);
        }
        let header = match self.header() {
            Ok(header) => header?,
            Err(Missing::Wait(event)) => return Ok(Some(event)),
            Err(Missing::Never) => return self.end_of_file(),
        };
        let Some(size) = header.size else { return self.end_of_file() };
        let next = self.at.checked_add(size).ok_or(Error::BadBox { at: self.at })?;
        match &header.kind {
            b"moov" => {
                let body = match self.body(&header, size, MAX_MOOV_BYTES)? {
                    Ok(body) => body,
                    Err(Missing::Wait(event)) => return Ok(Some(event)),
                    Err(Missing::Never) => return self.end_of_file(),
                };
                self.movie(&body)?;
            }
            b"moof" if fragmented => {
                let body = match self.body(&header, size, MAX_MOOF_BYTES)? {
                    Ok(body) => body,
                    Err(Missing::Wait(event)) => return Ok(Some(event)),
                    Err(Missing::Never) => return self.end_of_file(),
                };
                fragment::parse(&body, self.at, &self.tracks, &mut self.cursors);
                for (stream, cursor) in self.streams.iter_mut().zip(&self.cursors) {
                    stream.shift = stream.shift.max(cursor.shift());
                }
            }
            b"mdat" if self.tracks.is_empty() && self.early.is_none() => self.early = Some(self.at),
            _ => {}
        }
        self.at = next;
        let early = self.early.filter(|_| self.tracks.is_empty());
        // The data of a fragment is asked for after its header.
        if header.kind != *b"moof" && header.kind != *b"moov" {
            let needed: Vec<u64> = [Some(self.at), early].into_iter().flatten().collect();
            self.cache.keep(&needed);
        }
        Ok(None)
    }

    fn header(&self) -> Result<Result<Header, Error>, Missing> {
        let short = self.look(self.at, 8)?;
        let data = if short.starts_with(&[0, 0, 0, 1]) { self.look(self.at, 16)? } else { short };
        let bad = if self.at == 0 { Error::NotMp4 } else { Error::BadBox { at: self.at } };
        let header = Header::parse(&data).map_err(|_| bad);
        let plausible = |header: &Header| self.at > 0 || FIRST_BOXES.contains(&&header.kind);
        Ok(header.and_then(|header| if plausible(&header) { Ok(header) } else { Err(Error::NotMp4) }))
    }

    fn body(&mut self, header: &Header, size: u64, most: u64) -> Result<Result<Bytes, Missing>, Error> {
        if size > most {
            return Err(Error::TooLarge { kind: header.kind, size });
        }
        let skip = usize::try_from(header.header).unwrap_or(8);
        let whole = usize::try_from(size).unwrap_or(usize::MAX);
        Ok(self.look(self.at, whole).map(|mut data| data.split_off(skip.min(data.len()))))
    }

    fn end_of_file(&mut self) -> Result<Option<Event>, Error> {
        if self.tracks.is_empty() {
            return Err(if self.at == 0 { Error::NotMp4 } else { Error::NoMovie });
        }
        self.done = true;
        Ok(None)
    }

    /// Takes a header; a second one replaces the first.
    fn movie(&mut self, body: &Bytes) -> Result<(), Error> {
        let tracks = movie::parse(body)?;
        let fragmented =
            boxes::child(body, b"mvex").is_some() || tracks.iter().all(|track| track.walk.is_empty());
        let same_tracks = self.tracks.len() == tracks.len()
            && tracks.iter().zip(&self.tracks).all(|(new, old)| {
                (new.id, new.timescale, new.first.parameters.codec.kind())
                    == (old.id, old.timescale, old.first.parameters.codec.kind())
            });
        let mut streams: Vec<Stream> = tracks.iter().map(Stream::new).collect();
        if same_tracks {
            for (index, (new, old)) in streams.iter_mut().zip(&self.streams).enumerate() {
                new.last_dts = old.last_dts;
                let (Some(now), Some(before)) = (tracks.get(index), self.tracks.get(index)) else { continue };
                if now.first.parameters != before.first.parameters {
                    let parameters = new.parameters(&now.first);
                    self.events.push_back(Event::TrackChanged { track: index, parameters });
                }
            }
        } else {
            let list = tracks.iter().zip(&streams).map(|(track, stream)| stream.parameters(&track.first));
            self.events.push_back(Event::Tracks(list.collect()));
        }
        self.cursors =
            if fragmented { tracks.iter().map(|_| Cursor::default()).collect() } else { Vec::new() };
        self.tracks = tracks;
        self.streams = streams;
        Ok(())
    }

    /// `size` bytes at `offset`, or what to do for them.
    fn look(&self, offset: u64, size: usize) -> Result<Bytes, Missing> {
        match self.cache.get(offset, size) {
            Lookup::Here(data) => Ok(data),
            Lookup::Soon => Err(Missing::Wait(Event::NeedData)),
            Lookup::Seek => Err(Missing::Wait(Event::Seek(offset))),
            Lookup::Never => Err(Missing::Never),
        }
    }
}

/// Types of boxes that files begin with.
const FIRST_BOXES: [&[u8; 4]; 14] = [
    b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"sidx", b"uuid",
    b"prft", b"emsg", b"pdin",
];

impl Stream {
    fn new(track: &movie::Track) -> Self {
        let mut stream = Self {
            assembler: None,
            packing: Packing::Whole,
            kind: track.first.parameters.codec.kind(),
            entry: track
                .entries
                .iter()
                .position(Option::is_some)
                .and_then(|at| u32::try_from(at).ok())
                .unwrap_or(0),
            head: None,
            shift: track.walk.shift(),
            last_dts: None,
            discontinuity: false,
        };
        stream.set_entry(&track.first);
        stream
    }

    fn set_entry(&mut self, entry: &Entry) -> Parameters {
        let p = &entry.parameters;
        self.packing = entry.packing.clone();
        self.assembler = matches!(p.codec, Codec::H264 | Codec::Hevc)
            .then(|| Assembler::new(p.codec, p.clock_rate, &p.extradata));
        self.parameters(entry)
    }

    /// What the entry says, with the size from the parameter sets when they say one.
    fn parameters(&self, entry: &Entry) -> Parameters {
        let mut parameters = entry.parameters.clone();
        if let Some(known) = self.assembler.as_ref().map(Assembler::parameters)
            && known.width > 0
        {
            parameters.width = known.width;
            parameters.height = known.height;
        }
        parameters
    }
}

/// Decoding times that grow and presentation times not below them, whatever the file says.
fn grow(last: Option<i64>, pts: i64, dts: i64) -> Option<(i64, i64)> {
    let Some(last) = last.filter(|last| dts <= *last) else { return Some((pts, dts)) };
    let dts = last.checked_add(1)?;
    Some((pts.max(dts), dts))
}
