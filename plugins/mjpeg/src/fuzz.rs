//! The function of the fuzz target: any bytes in, a panic when an invariant does not hold.

use std::time::Duration;

use bytes::Bytes;
use patchbay_sdk::demuxer::{Container, Event, Piece};

use crate::demuxer::Pictures;

/// A stream in pieces: tracks before units, times that grow, memory that does not.
pub fn demux(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    let mut pictures = Pictures::new(choice & 1 == 1);
    let (mut offset, mut last, mut announced) = (0, i64::MIN, false);
    let mut pieces = stream.chunks(usize::from(choice >> 1) + 1);
    loop {
        match pictures.poll() {
            Event::NeedData => match pieces.next() {
                Some(piece) => {
                    let at = Duration::from_millis(offset / 8);
                    pictures.push(Piece { offset, at, data: Bytes::copy_from_slice(piece) });
                    offset += piece.len() as u64;
                }
                None => pictures.end(),
            },
            Event::Tracks(tracks) => {
                assert!(!announced && tracks.len() == 1, "one track, once");
                announced = true;
            }
            Event::Unit { unit, .. } => {
                assert!(announced && unit.pts > last && unit.key, "pictures follow each other");
                last = unit.pts;
            }
            Event::TrackChanged { parameters, .. } => {
                assert!(parameters.width > 0 && parameters.height > 0, "a picture has a size");
            }
            Event::Seek(_) => panic!("nothing to seek for"),
            Event::Error(_) | Event::End => return,
        }
    }
}
