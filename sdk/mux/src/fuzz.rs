//! Targets of the fuzz tests: any bytes in, invariants checked.
#![allow(clippy::expect_used)]

use bytes::Bytes;

use crate::mp4;

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
