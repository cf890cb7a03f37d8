//! From the NAL units of access units to units and configurations.

mod sets;

use bytes::Bytes;

use crate::access_unit::{Role, role};
use crate::codec::{Codec, Parameters};
use crate::dts::DtsEstimator;
use crate::nal::{to_length_prefixed, without_trailing_zeros};
use crate::unit::{MAX_UNIT_BYTES, Unit};
use crate::{h264, h265};
use sets::Sets;

/// Most bytes of SEI and the like that wait for the picture behind them; more are dropped.
const MAX_PENDING_BYTES: usize = 256 << 10;

/// What the transport knows about an access unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// Units before this one are missing, or its times do not continue theirs.
    pub discontinuity: bool,
    /// A part of it was lost.
    pub incomplete: bool,
}

/// What an access unit gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assembled {
    /// The configuration from this unit on, when its bytes are other than before.
    pub new_parameters: Option<Parameters>,
    /// The unit; absent when the access unit has no slice.
    pub unit: Option<Unit>,
    /// The access unit was dropped because its size, given here, exceeds [`MAX_UNIT_BYTES`].
    pub oversize: Option<usize>,
}

/// Makes units of an H.264 or H.265 stream.
///
/// Parameter sets, delimiters and filler are taken out; every other NAL unit stays byte for byte, without the zero bytes
/// behind it. The configuration is followed through the parameter sets.
#[derive(Debug)]
pub struct Assembler {
    parameters: Parameters,
    sets: Sets,
    dts: DtsEstimator,
    /// SEI and the like that came without a picture and belong to the next one.
    pending: Vec<Bytes>,
}

impl Assembler {
    /// An assembler for `codec` (H.265, or else H.264) that starts with the sets in `extradata`, an avcC or hvcC record
    /// or empty.
    pub fn new(codec: Codec, clock_rate: u32, extradata: &[u8]) -> Self {
        let mut assembler = Self {
            parameters: Parameters::video(codec, clock_rate),
            sets: Sets::new(codec),
            dts: DtsEstimator::new(clock_rate),
            pending: Vec::new(),
        };
        assembler.sets.add_record(extradata);
        let _ = assembler.refresh();
        assembler.sets.picture_done();
        assembler
    }

    /// The configuration as known now: the one given at the start until the stream brings another.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Takes the NAL units of one access unit in decoding order. Without `dts` it is computed from the order of the
    /// presentation times.
    pub fn push_access_unit<'a>(
        &mut self,
        pts: i64,
        dts: Option<i64>,
        nals: impl IntoIterator<Item = &'a [u8]>,
        flags: Flags,
    ) -> Assembled {
        let codec = self.parameters.codec;
        let pending = std::mem::take(&mut self.pending);
        let mut kept: Vec<&[u8]> = pending.iter().map(Bytes::as_ref).collect();
        let mut first_slice = None;
        for nal in nals {
            let nal = without_trailing_zeros(nal);
            match role(codec, nal) {
                None | Some(Role::Delimiter | Role::Filler) => continue,
                Some(Role::Set(set)) => {
                    self.sets.add(set, nal);
                    continue;
                }
                Some(Role::Slice { .. }) if first_slice.is_none() => first_slice = Some(nal),
                Some(_) => {}
            }
            kept.push(nal);
        }
        let Some(slice) = first_slice else {
            self.pending = keep_pending(&kept);
            return Assembled::default();
        };
        let key = match codec {
            Codec::Hevc => h265::is_key(kept.iter().copied()),
            _ => h264::is_key(kept.iter().copied()),
        };
        self.sets.activate(slice, key);
        let new_parameters = self.refresh();
        self.sets.picture_done();

        let size = kept.iter().map(|nal| nal.len() + 4).sum();
        if size > MAX_UNIT_BYTES {
            return Assembled { new_parameters, unit: None, oversize: Some(size) };
        }
        let mut unit = Unit::new(pts, key, to_length_prefixed(kept.into_iter()));
        unit.discontinuity = flags.discontinuity;
        unit.incomplete = flags.incomplete;
        if let Some(dts) = dts {
            unit.dts = dts.min(pts);
        } else {
            if flags.discontinuity {
                self.dts.restart();
            }
            let time = self.dts.push(pts);
            unit.dts = time.dts;
            unit.discontinuity |= !time.continues;
        }
        Assembled { new_parameters, unit: Some(unit), oversize: None }
    }

    /// The next access unit does not continue the times of the ones before.
    pub fn reset(&mut self) {
        self.dts.reset();
        self.pending.clear();
    }

    /// Brings the configuration up to the sets; gives it when it is another.
    fn refresh(&mut self) -> Option<Parameters> {
        let picture = self.sets.take_change()?;
        self.dts.configure(picture.reorder_depth, picture.frame_rate);
        let mut parameters = Parameters::video(self.parameters.codec, self.parameters.clock_rate);
        parameters.extradata = picture.extradata;
        parameters.width = picture.width;
        parameters.height = picture.height;
        if parameters == self.parameters {
            return None;
        }
        self.parameters = parameters.clone();
        Some(parameters)
    }
}

fn keep_pending(nals: &[&[u8]]) -> Vec<Bytes> {
    let bytes: usize = nals.iter().map(|nal| nal.len() + size_of::<Bytes>()).sum();
    if bytes > MAX_PENDING_BYTES {
        return Vec::new();
    }
    nals.iter().map(|nal| Bytes::copy_from_slice(nal)).collect()
}
