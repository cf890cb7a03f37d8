//! For the fuzz targets and property tests of demuxers: any bytes in, a panic when an invariant does not hold.

use std::time::Duration;

use bytes::Bytes;
use patchbay_media::{Codec, Parameters, Unit};

use super::{AnnexB, Container, Event, Piece, Place};
use crate::error::Error;

/// Between two pieces.
const STEP: Duration = Duration::from_millis(7);

/// What came out of a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// The tracks as they were announced last.
    pub tracks: Vec<Parameters>,
    /// New parameters, by track.
    pub changes: Vec<(usize, Parameters)>,
    /// Units, by track.
    pub units: Vec<(usize, Unit)>,
    /// How it ended, when it could not read the bytes.
    pub error: Option<Error>,
}

/// Runs `container` over `data` in pieces of `piece` bytes.
///
/// # Panics
/// When units come before their track, decoding times do not rise without a mark, presentation is before decoding, a unit
/// is empty, or it goes on after its end.
pub fn drive(container: &mut impl Container, data: &[u8], piece: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let mut last: Vec<Option<i64>> = Vec::new();
    let (mut at, mut time, mut seeks) = (0_usize, Duration::ZERO, 0);
    loop {
        match container.poll() {
            Event::NeedData => match data.get(at..).filter(|rest| !rest.is_empty()) {
                Some(rest) => {
                    let part = rest.get(..piece.max(1)).unwrap_or(rest);
                    let data = Bytes::copy_from_slice(part);
                    container.push(Piece { offset: at as u64, at: time, data });
                    at += part.len();
                    time += STEP;
                }
                None => container.end(),
            },
            Event::Seek(Place { offset, .. }) => {
                at = usize::try_from(offset).unwrap_or(usize::MAX);
                seeks += 1;
                assert!(seeks < 100_000, "seeks without end");
            }
            Event::Tracks(tracks) => {
                assert!(tracks.len() >= last.len().max(1), "tracks do not go away");
                assert!(tracks.iter().all(|track| track.clock_rate > 0), "a track has a clock");
                last.resize(tracks.len(), None);
                outcome.tracks = tracks;
            }
            Event::TrackChanged { track, parameters } => {
                assert!(track < last.len(), "a known track");
                outcome.changes.push((track, parameters));
            }
            Event::Unit { track, unit } => {
                let last = last.get_mut(track).unwrap_or_else(|| panic!("a unit of track {track}"));
                let rises = unit.discontinuity || last.is_none_or(|last| unit.dts > last);
                assert!(rises && unit.dts <= unit.pts && !unit.data.is_empty(), "{last:?} before {unit:?}");
                *last = Some(unit.dts);
                outcome.units.push((track, unit));
            }
            Event::Error(error) => outcome.error = Some(error),
            Event::End => break,
        }
    }
    assert_eq!(container.poll(), Event::End, "an end is one");
    outcome
}

/// Any bytes through what `container` makes, live or of a file: the first chooses kind and pieces. In a file the pieces change nothing.
pub fn file_or_live<C: Container>(data: &[u8], container: impl Fn(bool) -> C) {
    let Some((choice, stream)) = data.split_first() else { return };
    in_pieces(choice & 1 != 0, usize::from(choice >> 1) + 1, stream, container);
}

fn in_pieces<C: Container>(live: bool, piece: usize, stream: &[u8], container: impl Fn(bool) -> C) {
    let outcome = drive(&mut container(live), stream, piece);
    if !live {
        assert_eq!(outcome, drive(&mut container(false), stream, usize::MAX), "pieces change nothing");
    }
}

/// Byte streams: the first byte chooses codec, kind and pieces. In a file the pieces change nothing.
pub fn annexb(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    let codec = if choice & 1 == 0 { Codec::H264 } else { Codec::Hevc };
    in_pieces(choice & 2 != 0, usize::from(choice >> 2) + 1, stream, |live| AnnexB::new(codec, live));
}
