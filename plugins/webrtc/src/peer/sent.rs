//! What was sent of a track, so that it can be sent again. Frames are not copied for it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::feed::{Frame, Piece};

/// Packets of a track that can be sent again.
const KEPT_PACKETS: usize = 2048;

/// The newest packets of a track.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The oldest first, numbers without a gap.
    runs: VecDeque<Run>,
    packets: usize,
}

/// Packets of one frame that were sent one after the other.
#[derive(Debug)]
struct Run {
    /// Number of the first one.
    index: u64,
    frame: Arc<Frame>,
    pieces: Range<usize>,
    /// What was added to their timestamps.
    shift: u32,
}

impl Sent {
    /// Remembers pieces of a frame that were numbered from `index` on.
    pub(super) fn push(&mut self, index: u64, frame: &Arc<Frame>, pieces: Range<usize>, shift: u32) {
        self.packets += pieces.len();
        self.runs.push_back(Run { index, frame: Arc::clone(frame), pieces, shift });
        while self.packets > KEPT_PACKETS
            && let Some(oldest) = self.runs.pop_front()
        {
            self.packets -= oldest.pieces.len();
        }
    }

    /// A packet by its number: its frame, the piece, and its timestamp.
    pub(super) fn get(&self, index: u64) -> Option<(&Frame, &Piece, u32)> {
        let behind = self.runs.partition_point(|run| run.index <= index);
        let run = self.runs.get(behind.checked_sub(1)?)?;
        let offset = usize::try_from(index - run.index).ok().filter(|offset| *offset < run.pieces.len())?;
        let piece = run.frame.pieces.get(run.pieces.start + offset)?;
        Some((&run.frame, piece, piece.timestamp.wrapping_add(run.shift)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use patchbay_media::{Codec, Parameters, Unit};
    use patchbay_rtp::packetize::{Packetizer, Packets};

    use super::*;

    fn frame(len: usize) -> Arc<Frame> {
        let mut data = (len as u32).to_be_bytes().to_vec();
        data.resize(len + 4, 0x41);
        let parameters = Parameters::video(Codec::H264, 90_000);
        let mut packetizer = Packetizer::new(&parameters, 0, 0, 0, 0, 1188).unwrap();
        let mut packets = Packets::new(0);
        packetizer.packetize(&Unit::new(3600, true, Bytes::from(data)), None, &mut packets);
        Arc::new(Frame::new(&mut packets, 0, 3600, 0))
    }

    #[test]
    fn packets_are_found_by_their_number() {
        let (three, one) = (frame(3000), frame(500));
        assert_eq!((three.pieces.len(), one.pieces.len()), (3, 1));
        let mut sent = Sent::default();
        sent.push(65_534, &three, 0..2, 10);
        sent.push(65_536, &three, 2..3, 10);
        sent.push(65_537, &one, 0..1, 20);
        let len = |index| sent.get(index).map(|(frame, piece, time)| (frame.payload(piece).len(), time));
        assert_eq!(len(65_533), None);
        assert_eq!(len(65_534), Some((1188, 3610)));
        assert_eq!(len(65_535), Some((1188, 3610)));
        assert_eq!(len(65_536).map(|(_, time)| time), Some(3610));
        assert_eq!(len(65_537), Some((500, 3620)));
        assert_eq!(len(65_538), None);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let (three, mut sent) = (frame(3000), Sent::default());
        for number in 0..1000 {
            sent.push(number * 3, &three, 0..3, 0);
        }
        assert_eq!(sent.packets, 2046);
        assert!(sent.get(2999).is_some() && sent.get(3000 - 2046).is_some());
        assert!(sent.get(3000 - 2047).is_none());
    }
}
