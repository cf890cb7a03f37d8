//! The order in which pictures are shown, from the pictures themselves: byte streams carry no times.

mod reorder;

use crate::access_unit::{Role, Set, role};
use crate::codec::Codec;
use crate::h264::{self, NalType, PicOrderCnt};
use crate::h265::{self, nal_type};
pub use reorder::{GUESSED_DEPTH, MAX_DEPTH, Reorder};

/// Where a picture stands among those around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// `PicOrderCnt`: within a sequence, pictures are shown in its order.
    pub count: i64,
    /// All pictures before it in decoding order are shown before it, and `count` begins anew.
    pub begins: bool,
    /// It is one field, half a frame.
    pub field: bool,
}

/// What the active SPS says of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// Frames that a decoder holds back to put them in order; `None` unknown.
    pub reorder_depth: Option<u8>,
    /// Frames per second as a fraction.
    pub frame_rate: Option<(u32, u32)>,
}

#[derive(Debug)]
enum Sps {
    H264(h264::Sps),
    Hevc(h265::Sps),
}

impl Sps {
    fn id(&self) -> u8 {
        match self {
            Self::H264(sps) => sps.id,
            Self::Hevc(sps) => sps.id,
        }
    }
}

/// A picture parameter set; of H.264 only the ids count.
#[derive(Debug)]
struct Pps(h265::Pps);

/// Reads the order of pictures from access units in decoding order. H.264 8.2.1, H.265 8.3.1.
///
/// Types 1 and 2 of H.264's order count as decoding order, which is what type 2 says; encoders that use type 1 are not
/// known. `memory_management_control_operation` 5 is not followed: [`Reorder`] notices.
#[derive(Debug)]
pub struct PictureOrder {
    codec: Codec,
    /// At most 32.
    sps: Vec<Sps>,
    /// At most 256.
    pps: Vec<Pps>,
    timing: Timing,
    started: bool,
    /// The next picture begins a sequence: an end of sequence came.
    ended: bool,
    /// High part and low bits of the last picture that counts for those behind it.
    high: i64,
    low: i64,
    /// The last count, where decoding order is all there is.
    counted: i64,
}

impl PictureOrder {
    /// For a stream of `codec`, which is H.265 or else H.264.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            sps: Vec::new(),
            pps: Vec::new(),
            timing: Timing::default(),
            started: false,
            ended: false,
            high: 0,
            low: 0,
            counted: 0,
        }
    }

    /// What the SPS of the last picture says.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// The place of an access unit's picture. `None` when it has none, or one whose parameter sets did not come.
    pub fn push<'a>(&mut self, nals: impl IntoIterator<Item = &'a [u8]>) -> Option<Place> {
        let mut slice = None;
        let mut ends = false;
        for nal in nals {
            match role(self.codec, nal) {
                Some(Role::Set(set)) => self.add(set, nal),
                Some(Role::Slice { .. }) if slice.is_none() => slice = Some(nal),
                Some(Role::Suffix) => ends |= self.ends_sequence(nal),
                _ => {}
            }
        }
        let place = slice.and_then(|slice| match self.codec {
            Codec::Hevc => self.place_h265(slice),
            _ => self.place_h264(slice),
        });
        self.ended = ends || (self.ended && place.is_none());
        place
    }

    fn ends_sequence(&self, nal: &[u8]) -> bool {
        match self.codec {
            Codec::Hevc => matches!(h265::nal_type(nal), Some(nal_type::EOS | nal_type::EOB)),
            _ => matches!(NalType::of(nal), Some(NalType::Other(10 | 11))),
        }
    }

    fn add(&mut self, set: Set, nal: &[u8]) {
        match (set, self.codec) {
            (Set::Sps, codec) => {
                let parsed = match codec {
                    Codec::Hevc => h265::parse_sps(nal).ok().map(Sps::Hevc),
                    _ => h264::parse_sps(nal).ok().map(Sps::H264),
                };
                if let Some(sps) = parsed {
                    self.sps.retain(|other| other.id() != sps.id());
                    self.sps.push(sps);
                }
            }
            (Set::Pps, codec) => {
                let parsed = match codec {
                    Codec::Hevc => h265::parse_pps(nal).ok(),
                    _ => h264::parse_pps(nal).ok().map(|pps| h265::Pps {
                        id: pps.id,
                        sps_id: pps.sps_id,
                        output_flag_present: false,
                        extra_slice_header_bits: 0,
                    }),
                };
                if let Some(pps) = parsed {
                    self.pps.retain(|Pps(other)| other.id != pps.id);
                    self.pps.push(Pps(pps));
                }
            }
            (Set::Vps, _) => {}
        }
    }

    fn place_h264(&mut self, slice: &[u8]) -> Option<Place> {
        let pps_id = h264::parse_slice(slice, None).ok()?.pps_id;
        let Sps::H264(sps) = self.sets(pps_id)?.0 else { return None };
        let header = h264::parse_slice(slice, Some(sps)).ok()?;
        let order = sps.pic_order_cnt;
        self.timing = Timing { reorder_depth: sps.reorder_depth(), frame_rate: sps.frame_rate };
        let idr = NalType::of(slice) == Some(NalType::Idr);
        // The second field of an IDR picture may be an IDR picture too.
        let begins = (idr && header.bottom_field != Some(true)) || self.ended || !self.started;
        let reference = slice.first().is_some_and(|byte| byte & 0x60 != 0);
        let field = header.bottom_field.is_some();
        let count = match (order, header.pic_order_cnt_lsb) {
            (PicOrderCnt::Lsb { log2_max }, Some(low)) => self.count(low, log2_max, begins, reference),
            _ => {
                self.counted = if begins { 0 } else { self.counted + 1 };
                self.counted
            }
        };
        self.started = true;
        Some(Place { count, begins, field })
    }

    fn place_h265(&mut self, slice: &[u8]) -> Option<Place> {
        let (sps, pps) = self.sets(h265::slice_pps_id(slice)?)?;
        let Sps::Hevc(sps) = sps else { return None };
        let kind = h265::nal_type(slice)?;
        let idr = matches!(kind, nal_type::IDR_W_RADL | nal_type::IDR_N_LP);
        let low = if idr { 0 } else { h265::slice_pic_order_cnt_lsb(slice, sps, pps)? };
        let log2_max = sps.log2_max_pic_order_cnt_lsb;
        self.timing = Timing { reorder_depth: sps.num_reorder_frames, frame_rate: sps.frame_rate };
        let begins = (nal_type::BLA_W_LP..nal_type::CRA).contains(&kind) || self.ended || !self.started;
        // Only pictures of the lowest layer that others refer to count: not RASL, RADL, nor sub-layer non-reference ones.
        let leading = (6..=9).contains(&kind);
        let unreferenced = kind < 16 && kind.is_multiple_of(2);
        let layer = slice.get(1).map_or(0, |byte| byte & 7);
        let count = self.count(low, log2_max, begins, layer == 1 && !leading && !unreferenced);
        self.started = true;
        Some(Place { count, begins, field: false })
    }

    fn sets(&self, pps_id: u8) -> Option<(&Sps, &h265::Pps)> {
        let Pps(pps) = self.pps.iter().find(|Pps(pps)| pps.id == pps_id)?;
        self.sps.iter().find(|sps| sps.id() == pps.sps_id).map(|sps| (sps, pps))
    }

    /// The count from its low bits: the high part is that of the last picture that counts, or its neighbour.
    fn count(&mut self, low: u32, log2_max: u8, begins: bool, counts: bool) -> i64 {
        let low = i64::from(low);
        let max = 1_i64 << log2_max.min(16);
        let high = if begins {
            0
        } else if low < self.low && self.low - low >= max / 2 {
            self.high + max
        } else if low > self.low && low - self.low > max / 2 {
            self.high - max
        } else {
            self.high
        };
        if counts || begins {
            (self.high, self.low) = (high, low);
        }
        high + low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_never_panic(hevc: bool, nals in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut order = PictureOrder::new(if hevc { Codec::Hevc } else { Codec::H264 });
            for nal in &nals {
                let _ = order.push([nal.as_slice()]);
            }
        }
    }
}
