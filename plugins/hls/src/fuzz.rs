//! Entry points of the fuzz targets.

use std::time::Duration;

use bytes::Bytes;

use crate::client::follow::{Follow, Step};
use crate::client::playlist::{self, Playlist};
use crate::client::segment::Segments;

/// Most steps of one input.
const MAX_STEPS: usize = 200_000;

/// Playlists, apart by a zero byte, as the answers to one client.
pub fn playlist(data: &[u8]) {
    let mut follow = Follow::default();
    let mut last = None;
    for text in data.split(|byte| *byte == 0) {
        let Ok(Playlist::Media(media)) = playlist::parse(text) else { continue };
        assert!(!media.target.is_zero());
        follow.take(&media, Duration::from_secs(1));
        for step in 0.. {
            assert!(step < MAX_STEPS, "it does not come to an end");
            match follow.step() {
                Step::Segment { number, segment, fresh } => {
                    assert!(!segment.duration.is_zero() && !segment.uri.is_empty());
                    // Without a break the numbers follow each other.
                    assert!(fresh || last.is_some_and(|last: u64| last.checked_add(1) == Some(number)));
                    last = Some(number);
                }
                Step::Reload { .. } | Step::End | Step::Dead => break,
            }
        }
    }
}

/// Segments, cut where the first byte says.
pub fn segment(data: &[u8]) {
    let Some((size, data)) = data.split_first() else { return };
    let mut segments = Segments::default();
    for piece in data.chunks(usize::from(*size).max(1)) {
        if segments.push(&Bytes::copy_from_slice(piece)).is_err() {
            return;
        }
        while segments.event().is_some() {}
    }
    let _ = segments.segment_end();
    let _ = segments.end();
    while segments.event().is_some() {}
}
