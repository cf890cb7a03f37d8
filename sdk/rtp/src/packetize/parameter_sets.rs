//! The NAL units of a configuration, parsed once.

use bytes::Bytes;
use patchbay_media::{Codec, Parameters, h264, h265};

/// The parameter sets of the configuration that was used last.
#[derive(Debug, Clone, Default)]
pub(super) struct ParameterSets {
    extradata: Bytes,
    nals: Vec<Bytes>,
}

impl ParameterSets {
    /// The sets in the order in which they are sent; none when the configuration is unknown.
    pub(super) fn of(&mut self, parameters: &Parameters) -> &[Bytes] {
        if self.extradata != parameters.extradata {
            self.extradata = parameters.extradata.clone();
            self.nals = match parameters.codec {
                Codec::Hevc => h265::parse_hvcc(&self.extradata)
                    .map(|sets| [sets.vps, sets.sps, sets.pps].concat())
                    .unwrap_or_default(),
                _ => h264::parse_avcc(&self.extradata)
                    .map(|sets| [sets.sps, sets.pps].concat())
                    .unwrap_or_default(),
            };
        }
        &self.nals
    }
}
