//! Whether a change of configuration matters to a decoder that already runs.

use crate::codec::{Codec, Parameters};
use crate::{h264, h265};

impl Parameters {
    /// Whether a container must tell decoders again when these parameters give way to `new`. Cameras repeat sequence
    /// parameter sets with small changes of the VUI: those matter to nobody. Other size, profile, level, chroma format,
    /// depth, reorder depth, clock or audio format do, and so does any change of the other parameter sets.
    pub fn needs_new_init(&self, new: &Self) -> bool {
        let plain = |parameters: &Self| Self { extradata: bytes::Bytes::new(), ..parameters.clone() };
        if plain(self) != plain(new) {
            return true;
        }
        if self.extradata == new.extradata {
            return false;
        }
        match self.codec {
            Codec::H264 => h264_decoder(&self.extradata) != h264_decoder(&new.extradata),
            Codec::Hevc => h265_decoder(&self.extradata) != h265_decoder(&new.extradata),
            _ => true,
        }
    }
}

/// What of an avcC record matters. A set that cannot be read matters as a whole.
fn h264_decoder(record: &[u8]) -> impl PartialEq + use<> {
    let sets = h264::parse_avcc(record).ok()?;
    let sps = sets.sps.into_iter().map(|nal| match h264::parse_sps(&nal) {
        Ok(mut sps) => {
            sps.num_reorder_frames = sps.reorder_depth();
            sps.frame_rate = None;
            Ok(sps)
        }
        Err(_) => Err(nal),
    });
    Some((sps.collect::<Vec<_>>(), sets.pps))
}

/// What of an hvcC record matters. A set that cannot be read matters as a whole.
fn h265_decoder(record: &[u8]) -> impl PartialEq + use<> {
    let sets = h265::parse_hvcc(record).ok()?;
    let sps = sets.sps.into_iter().map(|nal| match h265::parse_sps(&nal) {
        Ok(mut sps) => {
            sps.frame_rate = None;
            Ok(sps)
        }
        Err(_) => Err(nal),
    });
    Some((sps.collect::<Vec<_>>(), sets.vps, sets.pps))
}
