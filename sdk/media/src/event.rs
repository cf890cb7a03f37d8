//! What demuxers say.

use std::convert::Infallible;

use crate::{Parameters, Unit};

/// What a demuxer has to say. `E` is why its bytes cannot be read, `S` what it tells about a place to read on at:
/// [`Infallible`] where there is no such thing.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<E = Infallible, S = Infallible> {
    /// Bytes behind those it has are needed.
    NeedData,
    /// Reading must go on at another place.
    Seek(S),
    /// The tracks, before the first unit. Comes again, longer, when further tracks begin late; the index of a track stays.
    Tracks(Vec<Parameters>),
    /// The parameters of a track from its next unit on; the codec may be another one.
    TrackChanged {
        /// Index in [`Event::Tracks`].
        track: usize,
        /// The new ones.
        parameters: Parameters,
    },
    /// A unit; decoding times grow within a track, also where those of the stream do not.
    Unit {
        /// Index in [`Event::Tracks`].
        track: usize,
        /// The unit.
        unit: Unit,
    },
    /// The bytes cannot be read on; [`Event::End`] follows.
    Error(E),
    /// There is nothing more.
    End,
}

impl<E, S> Event<E, S> {
    /// The same with another error and another place.
    pub fn map<F, T>(self, error: impl FnOnce(E) -> F, seek: impl FnOnce(S) -> T) -> Event<F, T> {
        match self {
            Self::NeedData => Event::NeedData,
            Self::Seek(to) => Event::Seek(seek(to)),
            Self::Tracks(tracks) => Event::Tracks(tracks),
            Self::TrackChanged { track, parameters } => Event::TrackChanged { track, parameters },
            Self::Unit { track, unit } => Event::Unit { track, unit },
            Self::Error(why) => Event::Error(error(why)),
            Self::End => Event::End,
        }
    }
}

impl<E> Event<E> {
    /// The same of a demuxer that may also seek.
    pub fn map_error<F, T>(self, error: impl FnOnce(E) -> F) -> Event<F, T> {
        self.map(error, |never| match never {})
    }
}
