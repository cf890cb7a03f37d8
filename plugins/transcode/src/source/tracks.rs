//! The tracks of one run: what each is made from, and how.

use patchbay_audio::Transcoder;
use patchbay_media::{Kind, Parameters, Unit};
use patchbay_sdk::api::message::{Bound, BoundTrack, Connection};
use patchbay_sdk::source::{self, Session};
use patchbay_sdk::{Error, track};

use super::Counters;
use crate::config::{Audio, Wish};

/// Damaged units in a row after which it is begun anew.
const MAX_DAMAGED: u32 = 500;

/// A source and a track of it.
type Place = (u64, u32);

/// What a reader is to read: its source, tracks with their epochs, and the track whose key units count.
pub(super) type Wanted = (u64, Vec<(u32, u32)>, Option<u32>);

/// The tracks of a run, in the order in which they were told to the host.
pub(super) struct Tracks {
    wish: Wish,
    out: Vec<Track>,
    video: Option<Place>,
    audio: Option<Place>,
    counters: Counters,
    units: Vec<Unit>,
}

struct Track {
    kind: Kind,
    parameters: Parameters,
    work: Work,
}

enum Work {
    Copy,
    Transcode { transcoder: Box<Transcoder>, damaged: u32 },
}

impl Tracks {
    pub(super) fn new(wish: Wish) -> Self {
        Self {
            wish,
            out: Vec::new(),
            video: None,
            audio: None,
            counters: Counters::default(),
            units: Vec::new(),
        }
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes what the stream has now, tells the host what comes of it, and says what to read.
    pub(super) fn bind(&mut self, bound: &Bound, session: &Session) -> Result<Vec<Wanted>, Error> {
        let of_kind = |kind: &str| bound.tracks.iter().find(|track| track.info.kind == kind);
        let (video, audio) = (of_kind("video"), of_kind("audio"));
        let mut has_new = false;
        if let Some((given, parameters)) = video.filter(|_| self.wish.video).and_then(described) {
            self.video = Some((given.source, given.info.id));
            if self.out.iter().any(|track| track.kind == Kind::Video) {
                self.change(Kind::Video, &parameters, session)?;
            } else {
                self.out.push(Track { kind: Kind::Video, parameters, work: Work::Copy });
                has_new = true;
            }
        }
        if let Some((given, parameters)) = audio.filter(|_| !self.wish.audio.is_empty()).and_then(described) {
            self.audio = Some((given.source, given.info.id));
            if self.out.iter().any(|track| track.kind == Kind::Audio) {
                self.change(Kind::Audio, &parameters, session)?;
            } else {
                for wish in &self.wish.audio {
                    self.out.push(Track::new(wish, &parameters)?);
                }
                has_new = true;
            }
        }
        if has_new {
            let is_whole =
                self.video.is_some() >= self.wish.video && self.audio.is_some() != self.wish.audio.is_empty();
            let connection = Connection {
                format_name: "transcode".to_owned(),
                source: self.wish.stream.clone(),
                ..Connection::default()
            };
            session.tracks(&source::Tracks {
                receive: self.out.iter().map(|track| track.parameters.clone().into()).collect(),
                more: !is_whole,
                connection,
                placed: true,
                ..source::Tracks::default()
            })?;
        }
        let mut wanted: Vec<Wanted> = Vec::new();
        for (place, given, is_video) in [(self.video, video, true), (self.audio, audio, false)] {
            let Some(((source, id), given)) = place.zip(given) else { continue };
            if (given.source, given.info.id) != (source, id) {
                continue;
            }
            let key = is_video.then_some(id);
            match wanted.iter_mut().find(|(known, ..)| *known == source) {
                Some((_, tracks, keys)) => {
                    tracks.push((id, given.epoch));
                    *keys = keys.or(key);
                }
                None => wanted.push((source, vec![(id, given.epoch)], key)),
            }
        }
        Ok(wanted)
    }

    /// A track that is read has other parameters.
    pub(super) fn parameters(
        &mut self,
        place: Place,
        parameters: &Parameters,
        session: &Session,
    ) -> Result<(), Error> {
        if Some(place) == self.video {
            self.change(Kind::Video, parameters, session)?;
        }
        if Some(place) == self.audio {
            self.change(Kind::Audio, parameters, session)?;
        }
        Ok(())
    }

    fn change(&mut self, kind: Kind, parameters: &Parameters, session: &Session) -> Result<(), Error> {
        for (id, track) in (0..).zip(&mut self.out).filter(|(_, track)| track.kind == kind) {
            match &mut track.work {
                Work::Copy if parameters.clock_rate != track.parameters.clock_rate => {
                    return Err(Error::eof("transcode: the stream has another clock now"));
                }
                Work::Copy => {
                    track.parameters = parameters.clone();
                    session.track_changed(id, parameters)?;
                }
                Work::Transcode { transcoder, .. } => {
                    transcoder.set_input(parameters).map_err(unsupported)?
                }
            }
        }
        Ok(())
    }

    /// Takes a unit, and pushes what it completes.
    pub(super) fn unit(
        &mut self,
        place: Place,
        arrival_ns: u64,
        unit: &Unit,
        session: &Session,
    ) -> Result<(), Error> {
        let kind = if Some(place) == self.video {
            Kind::Video
        } else if Some(place) == self.audio {
            Kind::Audio
        } else {
            return Ok(());
        };
        self.counters.packets += 1;
        self.counters.bytes += unit.data.len() as u64;
        let demand = session.demand();
        for (id, track) in (0_u32..).zip(&mut self.out).filter(|(_, track)| track.kind == kind) {
            if !demand.borrow().tracks.contains(&id) {
                continue;
            }
            match &mut track.work {
                Work::Copy => session.push_arrived(id, unit, arrival_ns)?,
                Work::Transcode { transcoder, damaged } => {
                    match transcoder.push(unit, &mut self.units) {
                        Ok(()) => *damaged = 0,
                        Err(error) => {
                            *damaged += 1;
                            self.counters.drops += 1;
                            tracing::debug!(stream = self.wish.stream, "{error}");
                            if *damaged > MAX_DAMAGED {
                                return Err(Error::protocol(format!(
                                    "transcode: nothing can be decoded: {error}"
                                )));
                            }
                        }
                    }
                    for unit in self.units.drain(..) {
                        session.push_arrived(id, &unit, arrival_ns)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Track {
    fn new(wish: &Audio, parameters: &Parameters) -> Result<Self, Error> {
        let (parameters, work) = match wish {
            Audio::Copy => (parameters.clone(), Work::Copy),
            Audio::Encode(target) => {
                let transcoder = Box::new(Transcoder::new(parameters, target).map_err(unsupported)?);
                (transcoder.parameters().clone(), Work::Transcode { transcoder, damaged: 0 })
            }
        };
        Ok(Self { kind: Kind::Audio, parameters, work })
    }
}

fn described(given: &BoundTrack) -> Option<(&BoundTrack, Parameters)> {
    Some((given, track::parameters(&given.info)?))
}

fn unsupported(error: patchbay_audio::Error) -> Error {
    Error::unsupported(format!("transcode: {error}"))
}
