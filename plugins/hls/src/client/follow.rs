//! Which segment comes next, and when the playlist is asked for again. RFC 8216 6.3.3 to 6.3.5.

use std::collections::VecDeque;
use std::time::Duration;

use super::playlist::{Media, Segment};

/// Live streams begin so many segments before the end of the playlist.
const BEFORE_EDGE: usize = 3;
/// Segments that may be missed before playing begins anew at the live edge.
const MAX_MISSED: u64 = 3;
/// A playlist that has not changed for so many target durations is dead, and at least so long.
const DEAD_AFTER: u32 = 5;
const LEAST_DEAD: Duration = Duration::from_secs(15);
/// Shortest and longest time between two requests.
const LEAST_RELOAD: Duration = Duration::from_millis(200);
const MOST_RELOAD: Duration = Duration::from_secs(30);

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Fetch this segment.
    Segment {
        /// Media sequence number.
        number: u64,
        /// It.
        segment: Segment,
        /// Times do not continue those of the segment before.
        fresh: bool,
    },
    /// Ask for the playlist again after so long.
    Reload {
        /// From the last answer.
        after: Duration,
        /// Sequence number of the segment that is waited for, when the server lets one wait (`_HLS_msn`).
        block: Option<u64>,
    },
    /// Everything was fetched.
    End,
    /// The playlist does not go on.
    Dead,
}

/// Follows one media playlist.
#[derive(Debug, Default)]
pub struct Follow {
    next: Option<u64>,
    queue: VecDeque<(u64, Segment)>,
    ended: bool,
    changed: bool,
    unchanged: Duration,
    target: Duration,
    can_block: bool,
    fresh: bool,
    last_discontinuity: Option<u64>,
}

impl Follow {
    /// Takes an answer. `since`: how long after the one before it came.
    pub fn take(&mut self, media: &Media, since: Duration) {
        let newest = media.sequence.saturating_add(media.segments.len() as u64);
        let mut next = match self.next {
            None => self.begin(media),
            Some(next) if newest < next && !media.segments.is_empty() => {
                // The server counts anew.
                self.fresh = true;
                self.begin(media)
            }
            Some(next) if media.sequence > next => {
                self.fresh = true;
                let missed = media.sequence - next;
                if missed > MAX_MISSED && !media.ended { self.begin(media) } else { media.sequence }
            }
            Some(next) => next,
        };
        self.changed = false;
        for (segment, number) in media.segments.iter().zip(media.sequence..) {
            if number == next {
                self.queue.push_back((number, segment.clone()));
                next = next.saturating_add(1);
                self.changed = true;
            }
        }
        self.next = Some(next);
        self.unchanged = if self.changed { Duration::ZERO } else { self.unchanged.saturating_add(since) };
        self.ended = media.ended;
        self.target = media.target;
        self.can_block = media.can_block;
    }

    /// The server did not let the last request wait as it had promised.
    pub fn stop_blocking(&mut self) {
        self.can_block = false;
    }

    fn begin(&self, media: &Media) -> u64 {
        let count = media.segments.len();
        let index = match media.start {
            Some(offset) if offset >= 0.0 => index_at(media, offset),
            Some(offset) => {
                let total: f64 = media.segments.iter().map(|segment| segment.duration.as_secs_f64()).sum();
                index_at(media, total + offset)
            }
            None if media.ended => 0,
            None => count.saturating_sub(BEFORE_EDGE),
        };
        media.sequence.saturating_add(index.min(count) as u64)
    }

    /// What to do next.
    pub fn step(&mut self) -> Step {
        while let Some((number, segment)) = self.queue.pop_front() {
            if segment.gap {
                self.fresh = true;
                continue;
            }
            let jumped =
                self.last_discontinuity.replace(segment.discontinuity) != Some(segment.discontinuity);
            let fresh = std::mem::take(&mut self.fresh) || jumped;
            return Step::Segment { number, segment, fresh };
        }
        if self.ended {
            return Step::End;
        }
        if self.unchanged > (self.target * DEAD_AFTER).max(LEAST_DEAD) {
            return Step::Dead;
        }
        let after = if self.changed { self.target } else { self.target / 2 };
        let block = self.next.filter(|_| self.can_block);
        let after = if block.is_some() { LEAST_RELOAD } else { after.clamp(LEAST_RELOAD, MOST_RELOAD) };
        Step::Reload { after, block }
    }

    /// A segment could not be fetched: what follows does not continue what came before.
    pub fn missed(&mut self) {
        self.fresh = true;
    }
}

/// The segment at `seconds`.
fn index_at(media: &Media, seconds: f64) -> usize {
    let mut time = 0.0;
    for (index, segment) in media.segments.iter().enumerate() {
        time += segment.duration.as_secs_f64();
        if time > seconds {
            return index;
        }
    }
    media.segments.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn list(sequence: u64, count: usize) -> Media {
        let segment = |i: u64| Segment { uri: format!("{i}.ts"), duration: 2 * SECOND, ..Segment::default() };
        Media {
            target: 2 * SECOND,
            sequence,
            segments: (sequence..sequence + count as u64).map(segment).collect(),
            ..Media::default()
        }
    }

    fn numbers(follow: &mut Follow) -> Vec<(u64, bool)> {
        std::iter::from_fn(|| match follow.step() {
            Step::Segment { number, fresh, .. } => Some((number, fresh)),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn live_begins_three_segments_before_the_edge_and_goes_on() {
        let mut follow = Follow::default();
        follow.take(&list(10, 6), Duration::ZERO);
        assert_eq!(numbers(&mut follow), [(13, true), (14, false), (15, false)]);
        assert_eq!(follow.step(), Step::Reload { after: 2 * SECOND, block: None });
        follow.take(&list(10, 6), 2 * SECOND);
        assert_eq!(follow.step(), Step::Reload { after: SECOND, block: None });
        follow.take(&list(12, 6), SECOND);
        assert_eq!(numbers(&mut follow), [(16, false), (17, false)]);
        follow.take(&Media { ended: true, ..list(12, 7) }, SECOND);
        assert_eq!(numbers(&mut follow), [(18, false)]);
        assert_eq!(follow.step(), Step::End);
    }

    #[test]
    fn recordings_begin_at_their_start_or_where_they_say() {
        let mut follow = Follow::default();
        follow.take(&Media { ended: true, ..list(0, 9) }, Duration::ZERO);
        assert_eq!(numbers(&mut follow).len(), 9);
        for (start, first) in [(5.0, 2), (-4.0, 7), (1e9, 8), (-1e9, 0)] {
            let mut follow = Follow::default();
            follow.take(&Media { start: Some(start), ended: true, ..list(0, 9) }, Duration::ZERO);
            assert_eq!(numbers(&mut follow)[0].0, first, "{start}");
        }
    }

    #[test]
    fn a_few_lost_segments_are_passed_over_many_mean_the_edge() {
        let mut follow = Follow::default();
        follow.take(&list(0, 3), Duration::ZERO);
        assert_eq!(numbers(&mut follow).len(), 3);
        follow.take(&list(5, 6), SECOND);
        assert_eq!(numbers(&mut follow)[0], (5, true));
        follow.take(&list(100, 6), SECOND);
        assert_eq!(numbers(&mut follow), [(103, true), (104, false), (105, false)]);
        // The server was restarted.
        follow.take(&list(0, 5), SECOND);
        assert_eq!(numbers(&mut follow), [(2, true), (3, false), (4, false)]);
    }

    #[test]
    fn a_playlist_that_stands_still_is_dead() {
        let mut follow = Follow::default();
        follow.take(&list(0, 3), Duration::ZERO);
        let mut asked = 0;
        while follow.step() != Step::Dead {
            follow.take(&list(0, 3), 2 * SECOND);
            asked += 1;
            assert!(asked < 30);
        }
        assert!(asked >= 7);
    }

    #[test]
    fn gaps_and_waiting_reloads() {
        let mut media = Media { can_block: true, ..list(0, 4) };
        media.segments[2].gap = true;
        let mut follow = Follow::default();
        follow.take(&media, Duration::ZERO);
        assert_eq!(numbers(&mut follow), [(1, true), (3, true)]);
        assert_eq!(follow.step(), Step::Reload { after: LEAST_RELOAD, block: Some(4) });
        follow.stop_blocking();
        assert!(matches!(follow.step(), Step::Reload { block: None, .. }));
    }
}
