//! Fragmented MP4 for browsers, one fragment per picture.
//!
//! A sample's decoding time is the `dts` of the unit **before** it, its duration the distance of the two, and its
//! composition offset makes up for it: decoding times follow each other without holes whatever the frame rate does,
//! presentation times are exact, and no picture waits for the next one to know how long it lasts.

mod entry;
mod fragment;
mod init;

use bytes::Bytes;
use patchbay_media::aac::AudioSpecificConfig;
use patchbay_media::{Codec, Kind, Parameters, Unit, codec_string, flac, opus};

use crate::chunk::{Chunk, MAX_PATCHES};
use crate::history::{History, Mode, squeeze};
use crate::timeline::{Timeline, rescale};
use fragment::{FLAGS_DELTA, FLAGS_KEY, Run, Sample};

/// Sound that lags up to this far behind the picture moves a viewer's start, in milliseconds: browsers jump over as much
/// at the start. Further behind it has stopped, or is late for this viewer.
const MAX_LAG_MS: i64 = 800;
/// Most distance between players' idea of two times, ticks per second: browsers count microseconds.
const FINEST_CLOCK: u32 = 1_000_000;

/// Why a track cannot be muxed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// MP4, or this muxer, has no place for the codec at this rate and these channels.
    #[error("mp4: unsupported codec: {}", codec.name())]
    Unsupported {
        /// The codec.
        codec: Codec,
    },
    /// The codec's configuration has not come yet or cannot be read.
    #[error("mp4: no parameters of {} yet", codec.name())]
    NoParameters {
        /// The codec.
        codec: Codec,
    },
    /// A value in the parameters does not fit in its box.
    #[error("mp4: parameters do not fit in a header")]
    Unencodable,
}

/// How the picture is turned on the screen, without transcoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Rotation {
    #[default]
    None,
    Clockwise90,
    Half,
    Clockwise270,
}

/// What the muxer does beyond the tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// PCM of 8 or 16 bits goes out as FLAC; else it is an unsupported codec.
    pub pcm_as_flac: bool,
    /// Sound waits until this much is together, in milliseconds; 0 sends each frame alone.
    pub audio_group_ms: u32,
    /// Turns the picture.
    pub rotation: Rotation,
    /// Width and height of a pixel, for `pasp`.
    pub pixel_aspect: Option<(u32, u32)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { pcm_as_flac: true, audio_group_ms: 60, rotation: Rotation::None, pixel_aspect: None }
    }
}

/// What new parameters of a track mean for viewers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reconfigured {
    /// Nothing: decoders go on.
    Unchanged,
    /// `chunk`, when there is one, goes out first, then a new [`Muxer::init`].
    Init {
        /// Sound that waited.
        chunk: Option<Chunk>,
        /// [`Muxer::mime`] is another one: a browser must change the type of its buffer.
        mime_changed: bool,
    },
}

/// Muxes the units of an output's tracks.
#[derive(Debug)]
pub struct Muxer {
    options: Options,
    tracks: Vec<Track>,
    timeline: Timeline,
    init: Bytes,
    sequence: u32,
}

#[derive(Debug)]
struct Track {
    parameters: Parameters,
    /// Ticks per second in the output; stays when the parameters' clock changes.
    timescale: u32,
    /// Video: where the next sample is decoded.
    next_decode: Option<i64>,
    /// How long a unit usually lasts.
    nominal: i64,
    /// Audio: 0 of the viewers that came before any of it. What lies before that would be put there, over what follows.
    begin: i64,
    /// Audio that waits for its group.
    waiting: Vec<Frame>,
    flac: Option<flac::Framer>,
    /// Parameter sets that came after the first header, for key pictures: a player of a file looks at no second header.
    sets: Bytes,
}

#[derive(Debug)]
struct Frame {
    dts: i64,
    duration: i64,
    data: Bytes,
}

impl Track {
    fn new(parameters: &Parameters, timescale: u32) -> Self {
        Self {
            parameters: parameters.clone(),
            timescale,
            next_decode: None,
            nominal: i64::from((timescale / 25).max(1)),
            begin: i64::MIN,
            waiting: Vec::new(),
            flac: flac::Framer::new(parameters),
            sets: Bytes::new(),
        }
    }

    fn is_video(&self) -> bool {
        self.parameters.codec.kind() == Kind::Video
    }

    fn ms(&self, ms: i64) -> i64 {
        rescale(ms, 1_000, self.timescale)
    }

    /// Times of `unit` in the track's output clock.
    fn scaled(&self, unit: &Unit) -> (i64, i64, i64) {
        let to = |ticks| rescale(ticks, self.parameters.clock_rate.max(1), self.timescale);
        (to(unit.pts), to(unit.dts), to(i64::from(unit.duration)))
    }

    /// Where a unit with the output time `dts` is decoded, see the module's page.
    fn decode_time(&self, dts: i64, key: bool, duration: i64) -> i64 {
        let nominal = if duration > 0 { duration } else { self.nominal };
        let Some(next) = self.next_decode else { return dts.saturating_sub(nominal) };
        let step = dts.saturating_sub(next);
        // After an outage players seek over the hole; a sample that lasts as long would hide it.
        if key && step > self.ms(1_000) && step > nominal.saturating_mul(2) {
            return dts.saturating_sub(nominal).max(next);
        }
        next
    }

    fn with_sets(&self, unit: &Unit) -> Bytes {
        if unit.key && !self.sets.is_empty() {
            return [&self.sets[..], &unit.data].concat().into();
        }
        unit.data.clone()
    }

    /// How long an audio frame lasts.
    fn audio_duration(&self, unit: &Unit, stated: i64) -> i64 {
        if stated > 0 {
            return stated;
        }
        let rate = self.parameters.sample_rate.max(1);
        let ticks = match self.parameters.codec {
            Codec::Aac => {
                let config = AudioSpecificConfig::parse(&self.parameters.extradata).ok();
                let (length, rate) =
                    config.map_or((1_024, rate), |c| (c.output_frame_length(), c.output_sample_rate()));
                rescale(i64::from(length), rate.max(1), self.timescale)
            }
            Codec::Opus => opus::packet_samples(&unit.data).map_or(self.nominal, |samples| {
                rescale(i64::from(samples), opus::CLOCK_RATE, self.timescale)
            }),
            Codec::Mp3 => rescale(if rate < 32_000 { 576 } else { 1_152 }, rate, self.timescale),
            _ => self.nominal,
        };
        ticks.max(1)
    }
}

impl Muxer {
    /// A muxer for `tracks`, whose times count from the same instant.
    pub fn new(tracks: &[Parameters], options: Options) -> Result<Self, Error> {
        let tracks: Vec<Track> = tracks.iter().map(|p| Track::new(p, p.clock_rate.max(1))).collect();
        let timeline = Timeline::new(tracks.iter().map(|t| t.timescale));
        let init = build_init(&tracks, &options, |_| true)?;
        Ok(Self { options, tracks, timeline, init, sequence: 0 })
    }

    /// `video/mp4` with the codecs of the tracks, in their order. RFC 6381.
    pub fn mime(&self) -> String {
        let names: Vec<String> = self.tracks.iter().map(|track| codec_name(&track.parameters)).collect();
        format!("video/mp4; codecs=\"{}\"", names.join(","))
    }

    /// The initialization segment: `ftyp` and `moov`.
    pub fn init(&self) -> Bytes {
        self.init.clone()
    }

    /// Takes new parameters of a track. Small changes that decoders do not notice need no new header.
    pub fn reconfigure(&mut self, track: usize, parameters: Parameters) -> Result<Reconfigured, Error> {
        let Some(old) = self.tracks.get(track) else { return Ok(Reconfigured::Unchanged) };
        if !old.parameters.needs_new_init(&parameters) {
            return Ok(Reconfigured::Unchanged);
        }
        let mime = self.mime();
        // Check before anything changes.
        entry::build(&parameters, &self.options)?;
        let chunk = self.flush();
        if let Some(old) = self.tracks.get_mut(track) {
            let mut new = Track::new(&parameters, old.timescale);
            new.next_decode = old.next_decode;
            new.nominal = old.nominal;
            new.begin = old.begin;
            new.sets = entry::sets(&parameters);
            *old = new;
        }
        self.init = build_init(&self.tracks, &self.options, |_| true)?;
        Ok(Reconfigured::Init { chunk, mime_changed: self.mime() != mime })
    }

    /// Muxes a unit. Pictures come out at once, with the sound that waited; sound alone when enough is together.
    /// Before the first key picture nothing comes out, nor does sound that lies before it.
    pub fn push(&mut self, track: usize, unit: &Unit) -> Option<Chunk> {
        let is_video = self.tracks.get(track)?.is_video();
        if unit.data.is_empty() {
            return None;
        }
        let has_video = self.tracks.iter().any(Track::is_video);
        let started = self.tracks.iter().any(|t| t.is_video() && t.next_decode.is_some());
        if has_video && !started && !(is_video && unit.key) {
            return None;
        }
        if is_video { self.push_video(track, unit) } else { self.push_audio(track, unit) }
    }

    /// The sound that waits, as a chunk.
    pub fn flush(&mut self) -> Option<Chunk> {
        let runs = self.take_waiting(MAX_PATCHES - 1);
        (!runs.is_empty()).then(|| self.chunk(&runs, false))
    }

    fn push_video(&mut self, index: usize, unit: &Unit) -> Option<Chunk> {
        let (pts, dts, stated) = self.tracks.get(index)?.scaled(unit);
        let times = self.timeline.place(index, pts, dts, unit.discontinuity);
        let track = self.tracks.get_mut(index)?;
        let decode_time = track.decode_time(times.dts, unit.key, stated);
        let step = times.dts.saturating_sub(decode_time);
        if (1..=track.ms(1_000)).contains(&step) {
            track.nominal = step;
        }
        track.next_decode = Some(times.dts);
        let sample = Sample {
            duration: u32::try_from(step.max(shortest(track.timescale))).unwrap_or(u32::MAX),
            flags: if unit.key { FLAGS_KEY } else { FLAGS_DELTA },
            composition_offset: offset_of(times.pts, decode_time),
            data: track.with_sets(unit),
        };
        let mut runs = vec![Run { track: index, decode_time, samples: vec![sample] }];
        runs.extend(self.take_waiting(MAX_PATCHES - 2));
        Some(self.chunk(&runs, unit.key))
    }

    fn push_audio(&mut self, index: usize, unit: &Unit) -> Option<Chunk> {
        let track = self.tracks.get_mut(index)?;
        let (pts, dts, stated) = track.scaled(unit);
        let (data, stated) = match &mut track.flac {
            Some(framer) => {
                let (frame, samples) = framer.frame(&unit.data)?;
                (frame, rescale(i64::from(samples), track.parameters.sample_rate, track.timescale))
            }
            None => (unit.data.clone(), stated),
        };
        let duration = track.audio_duration(unit, stated);
        let times = self.timeline.place(index, pts, dts, unit.discontinuity);
        let track = self.tracks.get_mut(index)?;
        track.nominal = duration;
        if times.dts < track.begin {
            return None;
        }
        // A run has no holes.
        let late = track.ms(100);
        let hole = track
            .waiting
            .last()
            .is_some_and(|last| times.dts - last.dts > last.duration.saturating_add(late));
        let group = track.ms(i64::from(self.options.audio_group_ms));
        let frame = Frame { dts: times.dts, duration, data };
        if hole {
            let run = take_run(track, index);
            track.waiting.push(frame);
            return run.map(|run| self.chunk(&[run], false));
        }
        track.waiting.push(frame);
        let together: i64 = track.waiting.iter().map(|frame| frame.duration).sum();
        if together.saturating_add(duration) <= group {
            return None;
        }
        take_run(track, index).map(|run| self.chunk(&[run], false))
    }

    /// The waiting frames of up to `most` audio tracks.
    fn take_waiting(&mut self, most: usize) -> Vec<Run> {
        let tracks = self.tracks.iter_mut().enumerate();
        tracks.filter_map(|(index, track)| take_run(track, index)).take(most).collect()
    }

    fn chunk(&mut self, runs: &[Run], key: bool) -> Chunk {
        self.sequence = self.sequence.wrapping_add(1);
        let (data, patches) = fragment::build(self.sequence, runs);
        let has_video = self.tracks.iter().any(Track::is_video);
        Chunk { data, key: key || !has_video, init: false, patches }
    }

    /// Per track: the decoding time of the next fragment, which a viewer that joins now and gets no history subtracts
    /// from live times. `next` is the unit that comes next, when it is known already (the key picture that such
    /// viewers wait for).
    pub fn starts(&mut self, next: Option<(usize, &Unit)>) -> Vec<i64> {
        let known = self.lead().and_then(|lead| Some((lead, self.known_next(lead, next)?)));
        match known {
            Some((lead, decode)) => self.starts_at(lead, decode),
            None => vec![0; self.tracks.len()],
        }
    }

    /// What a viewer gets that joins now: the pictures of `track` from the newest key unit to the newest unit pushed, in
    /// decoding order, as one fragment that starts at 0, and the starts for the fragments that follow. Without units
    /// only the starts.
    pub fn history(&mut self, units: &[Unit], track: usize, mode: Mode) -> History {
        let (Some(t), Some(newest)) = (self.tracks.get(track), units.last()) else {
            return History { data: Bytes::new(), starts: self.starts(None) };
        };
        let offset = self.timeline.offset(track);
        let times = |unit: &Unit| {
            let (pts, dts, duration) = t.scaled(unit);
            (pts.saturating_add(offset), dts.saturating_add(offset), duration)
        };
        let next = t.next_decode.unwrap_or_else(|| times(newest).1);
        // Decoding and presentation after the first decoding time, and the time at which live goes on.
        let (placed, total): (Vec<(i64, i64)>, i64) = match mode {
            Mode::Squeezed => {
                let pts: Vec<i64> = units.iter().map(|unit| times(unit).0).collect();
                let tick = i64::from(t.timescale.div_ceil(FINEST_CLOCK));
                let (placed, total) = squeeze(&pts, next, tick);
                (placed.iter().map(|p| (p.decode, p.presentation)).collect(), total)
            }
            Mode::Raw => {
                let (_, first, duration) = units.first().map_or((0, 0, 0), times);
                let start = first.saturating_sub(if duration > 0 { duration } else { t.nominal }).min(next);
                let mut before = start;
                let placed = units.iter().map(|unit| {
                    let (pts, dts, _) = times(unit);
                    let decode = before;
                    before = dts.clamp(before, next.max(before));
                    (decode - start, pts.saturating_sub(start))
                });
                (placed.collect(), next - start)
            }
        };
        let start = next.saturating_sub(total);
        let starts = self.starts_at(track, start);
        // The viewer's clock begins with the track that is furthest behind.
        let lead_in = start.saturating_sub(starts.get(track).copied().unwrap_or(start));
        let ends = placed.iter().skip(1).map(|(decode, _)| *decode).chain([total]);
        let samples =
            units.iter().zip(&placed).zip(ends).map(|((unit, (decode, presentation)), end)| Sample {
                duration: u32::try_from((end - decode).max(1)).unwrap_or(u32::MAX),
                flags: if unit.key { FLAGS_KEY } else { FLAGS_DELTA },
                composition_offset: offset_of(*presentation, *decode),
                data: unit.data.clone(),
            });
        let run = Run { track, decode_time: lead_in, samples: samples.collect() };
        // Live fragments are numbered from 1.
        History { data: fragment::build(0, &[run]).0, starts }
    }

    /// A file of one picture: a header for `track` alone and one fragment with the key unit `unit`, shown at 0.
    pub fn keyframe(&self, track: usize, unit: &Unit) -> Result<Bytes, Error> {
        let init = build_init(&self.tracks, &self.options, |index| index == track)?;
        let Some(t) = self.tracks.get(track) else { return Ok(init) };
        let sample = Sample {
            duration: u32::try_from(t.nominal).unwrap_or(u32::MAX),
            flags: FLAGS_KEY,
            composition_offset: 0,
            data: unit.data.clone(),
        };
        let (data, _) = fragment::build(1, &[Run { track, decode_time: 0, samples: vec![sample] }]);
        Ok([init, data].concat().into())
    }

    /// The first video track, else the first.
    fn lead(&self) -> Option<usize> {
        let video = self.tracks.iter().position(Track::is_video);
        video.or((!self.tracks.is_empty()).then_some(0))
    }

    /// Decoding time of the next fragment of track `index`; `None` before its first unit.
    fn known_next(&self, index: usize, next: Option<(usize, &Unit)>) -> Option<i64> {
        let track = self.tracks.get(index)?;
        if let Some((_, unit)) = next.filter(|(of, _)| *of == index) {
            let (pts, dts, duration) = track.scaled(unit);
            let dts = self.timeline.clone().place(index, pts, dts, unit.discontinuity).dts;
            let first = track.waiting.first().map(|frame| frame.dts);
            return Some(first.unwrap_or(if track.is_video() {
                track.decode_time(dts, unit.key, duration)
            } else {
                dts
            }));
        }
        if track.is_video() {
            return track.next_decode;
        }
        let end = || Some(self.timeline.last(index)?.saturating_add(track.nominal));
        track.waiting.first().map(|frame| frame.dts).or_else(end)
    }

    /// The starts of all tracks when a viewer begins with `decode` of track `lead`, or earlier when sound lags.
    fn starts_at(&mut self, lead: usize, decode: i64) -> Vec<i64> {
        let rate = self.tracks.get(lead).map_or(1, |t| t.timescale);
        let earliest = decode.saturating_sub(rescale(MAX_LAG_MS, 1_000, rate));
        let begins = self
            .tracks
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != lead)
            .filter_map(|(index, t)| Some(rescale(self.known_next(index, None)?, t.timescale, rate)));
        let start = begins.filter(|begin| *begin >= earliest).min().map_or(decode, |begin| decode.min(begin));
        let is_unknown: Vec<bool> =
            (0..self.tracks.len()).map(|index| self.known_next(index, None).is_none()).collect();
        let starts =
            self.tracks.iter_mut().zip(is_unknown).enumerate().map(|(index, (track, is_unknown))| {
                let start = if index == lead { start } else { rescale(start, rate, track.timescale) };
                if is_unknown {
                    track.begin = track.begin.max(start);
                }
                start
            });
        starts.collect()
    }
}

fn build_init(tracks: &[Track], options: &Options, wanted: impl Fn(usize) -> bool) -> Result<Bytes, Error> {
    let mut list = Vec::with_capacity(tracks.len());
    for (index, track) in tracks.iter().enumerate().filter(|(index, _)| wanted(*index)) {
        let (parameters, timescale) = (&track.parameters, track.timescale);
        if flac::is_pcm(parameters.codec) && track.flac.is_none() {
            return Err(Error::Unsupported { codec: parameters.codec });
        }
        list.push(init::Track { index, parameters, timescale, entry: entry::build(parameters, options)? });
    }
    init::build(&list, options)
}

/// One run of the frames that wait in `track`. Each lasts until the next one begins.
fn take_run(track: &mut Track, index: usize) -> Option<Run> {
    let frames = std::mem::take(&mut track.waiting);
    let decode_time = frames.first()?.dts;
    let nexts = frames.iter().skip(1).map(|frame| Some(frame.dts)).chain([None]);
    let samples = frames.iter().zip(nexts).map(|(frame, next)| Sample {
        duration: u32::try_from(next.map_or(frame.duration, |next| next - frame.dts).max(1))
            .unwrap_or(u32::MAX),
        flags: FLAGS_KEY,
        composition_offset: 0,
        data: frame.data.clone(),
    });
    Some(Run { track: index, decode_time, samples: samples.collect() })
}

/// Least duration of a live sample: Safari refuses 0.
fn shortest(timescale: u32) -> i64 {
    i64::from(timescale / 1_000) + 1
}

/// A picture that should be shown before it is decoded is shown then: by less than 0 FFmpeg moves all pictures of the track.
fn offset_of(presentation: i64, decode: i64) -> i32 {
    i32::try_from(presentation.saturating_sub(decode).max(0)).unwrap_or(i32::MAX)
}

fn codec_name(parameters: &Parameters) -> String {
    if flac::is_pcm(parameters.codec) {
        return "flac".to_owned();
    }
    codec_string::of(parameters).unwrap_or_else(|| match parameters.codec {
        Codec::Aac => "mp4a.40.2".to_owned(),
        _ => String::new(),
    })
}
