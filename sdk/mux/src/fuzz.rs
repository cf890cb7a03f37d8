//! Targets of the fuzz tests: any bytes in, invariants checked.
#![allow(clippy::expect_used)]

use std::time::Duration;

use bytes::Bytes;

use crate::{flv, mp4, mpegts};

/// Bytes a demuxer may hold: its cache and a piece.
const MAX_HELD: usize = 40 << 20;

/// Decoding times of each track grow, presentation is not before decoding, the demuxer ends.
pub fn mp4(data: &[u8]) {
    let mut demuxer = mp4::Demuxer::new();
    let (mut at, mut last, mut seeks) = (0_usize, Vec::<Option<i64>>::new(), 0);
    let piece = usize::from(data.first().copied().unwrap_or(0)) + 1;
    loop {
        assert!(demuxer.buffered() <= MAX_HELD, "{} bytes held", demuxer.buffered());
        match demuxer.poll() {
            mp4::Event::NeedData => match data.get(at..).filter(|rest| !rest.is_empty()) {
                Some(rest) => {
                    let rest = rest.get(..piece).unwrap_or(rest);
                    demuxer.push(at as u64, Bytes::copy_from_slice(rest));
                    at += rest.len();
                }
                None => demuxer.end(),
            },
            mp4::Event::Seek(to) => {
                at = usize::try_from(to).unwrap_or(usize::MAX);
                seeks += 1;
                assert!(seeks < 100_000, "seeks without end");
            }
            mp4::Event::Tracks(tracks) => {
                assert!(!tracks.is_empty() && tracks.iter().all(|t| t.clock_rate > 0));
                last = vec![None; tracks.len()];
            }
            mp4::Event::TrackChanged { track, .. } => assert!(track < last.len()),
            mp4::Event::Unit { track, unit } => {
                let last = last.get_mut(track).expect("a known track");
                assert!(
                    last.is_none_or(|last| unit.dts > last) && unit.dts <= unit.pts && !unit.data.is_empty()
                );
                *last = Some(unit.dts);
            }
            mp4::Event::Error(_) => {}
            mp4::Event::End => break,
        }
    }
    assert_eq!(demuxer.poll(), mp4::Event::End);
}

/// Decoding times of each track grow, presentation is not before decoding, nothing is held without limit.
pub fn ts(data: &[u8]) {
    let (head, body) = data.split_first().unwrap_or((&0, data));
    let mut demuxer = mpegts::Demuxer::new(mpegts::Options { private_pcm: head & 1 != 0 });
    let mut pieces = body.chunks(usize::from(*head) + 1);
    let mut last = Vec::<Option<i64>>::new();
    loop {
        assert!(demuxer.buffered() <= MAX_HELD, "{} bytes held", demuxer.buffered());
        match demuxer.poll() {
            mpegts::Event::NeedData => match pieces.next() {
                Some(piece) => demuxer.push(&Bytes::copy_from_slice(piece)),
                None => demuxer.end(),
            },
            mpegts::Event::Tracks(tracks) => {
                assert!(
                    tracks.len() > last.len() && tracks.iter().all(|t| t.clock_rate == mpegts::CLOCK_RATE)
                );
                last.resize(tracks.len(), None);
            }
            mpegts::Event::TrackChanged { track, .. } => assert!(track < last.len()),
            mpegts::Event::Unit { track, unit } => {
                let last = last.get_mut(track).expect("a known track");
                assert!(
                    last.is_none_or(|last| unit.dts > last) && unit.dts <= unit.pts && !unit.data.is_empty()
                );
                *last = Some(unit.dts);
            }
            mpegts::Event::Error(_) => {}
            mpegts::Event::End => break,
        }
    }
    assert_eq!(demuxer.poll(), mpegts::Event::End);
}

/// Decoding times of each track grow, presentation is not before decoding, nothing is held without limit.
pub fn flv(data: &[u8]) {
    let (head, body) = data.split_first().unwrap_or((&0, data));
    let mut demuxer = flv::Demuxer::new();
    let mut pieces = body.chunks(usize::from(*head) + 1);
    let mut last = Vec::<Option<i64>>::new();
    loop {
        assert!(demuxer.buffered() <= MAX_HELD, "{} bytes held", demuxer.buffered());
        match demuxer.poll() {
            flv::Event::NeedData => match pieces.next() {
                Some(piece) => demuxer.push(piece, Duration::ZERO),
                None => demuxer.end(),
            },
            flv::Event::Tracks(tracks) => {
                assert!(tracks.len() > last.len() && tracks.len() <= flv::MAX_TRACKS);
                assert!(tracks.iter().all(|t| t.clock_rate == flv::CLOCK_RATE));
                last.resize(tracks.len(), None);
            }
            flv::Event::TrackChanged { track, .. } => assert!(track < last.len()),
            flv::Event::Unit { track, unit } => {
                let last = last.get_mut(track).expect("a known track");
                assert!(
                    last.is_none_or(|last| unit.dts > last) && unit.dts <= unit.pts && !unit.data.is_empty()
                );
                *last = Some(unit.dts);
            }
            flv::Event::Error(_) => {}
            flv::Event::End => break,
        }
    }
    assert_eq!(demuxer.poll(), flv::Event::End);
}
