//! G.711 in packets of one length: browsers play those of cameras, which differ in length and time, with clicks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use patchbay_media::{Codec, Unit};

/// Samples of a packet, as go2rtc sends them: 128 ms.
const SAMPLES: usize = 1024;

/// A gap or overlap of the input larger than this, in samples, starts anew.
const TOLERANCE: i64 = 2048;

/// Collects samples and hands out packets.
#[derive(Debug, Default)]
pub(super) struct Regroup {
    samples: BytesMut,
    /// Time of the first sample that waits.
    pts: Option<i64>,
    ready: VecDeque<Unit>,
}

impl Regroup {
    /// A regrouping, for codecs of one byte per sample that need it.
    pub(super) fn for_codec(codec: Codec) -> Option<Self> {
        matches!(codec, Codec::PcmAlaw | Codec::PcmMulaw).then(Self::default)
    }

    /// Takes a unit of mono samples.
    pub(super) fn push(&mut self, unit: &Unit) {
        let waiting = i64::try_from(self.samples.len()).unwrap_or(0);
        let is_continued =
            self.pts.is_some_and(|pts| (unit.pts - pts.saturating_add(waiting)).abs() <= TOLERANCE);
        if !is_continued || unit.discontinuity {
            self.samples.clear();
            self.pts = Some(unit.pts);
        }
        self.samples.extend_from_slice(&unit.data);
        while self.samples.len() >= SAMPLES {
            let data: Bytes = self.samples.split_to(SAMPLES).freeze();
            let pts = self.pts.unwrap_or(unit.pts);
            self.pts = Some(pts.saturating_add(SAMPLES as i64));
            self.ready.push_back(Unit::new(pts, true, data));
        }
    }

    /// The next packet.
    pub(super) fn pop(&mut self) -> Option<Unit> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_any_length_become_packets_of_one() {
        let mut regroup = Regroup::for_codec(Codec::PcmAlaw).unwrap();
        let mut pts = 5000;
        for len in [160, 480, 1000, 33, 2000] {
            regroup.push(&Unit::new(pts, true, Bytes::from(vec![1; len])));
            pts += len as i64;
        }
        let times: Vec<(i64, usize)> =
            std::iter::from_fn(|| regroup.pop()).map(|unit| (unit.pts, unit.data.len())).collect();
        assert_eq!(times, [(5000, 1024), (6024, 1024), (7048, 1024)]);
        // A hole of a second: what waited is dropped, times start anew.
        regroup.push(&Unit::new(pts + 8000, true, Bytes::from(vec![2; 1024])));
        assert_eq!(regroup.pop().map(|unit| (unit.pts, unit.data[0])), Some((pts + 8000, 2)));
    }
}
