//! Tracks between the ABI's JSON and `patchbay-media`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use patchbay_media::{Codec, Kind, Parameters};
use patchbay_plugin_api::message::TrackInfo;

/// Largest extradata that is read, in bytes.
const MAX_EXTRADATA: usize = 64 << 10;

/// The ABI's description of a track.
pub fn info(id: u32, parameters: &Parameters) -> TrackInfo {
    TrackInfo {
        id,
        kind: kind_name(parameters.codec.kind()).to_owned(),
        codec: parameters.codec.name().to_owned(),
        clock_rate: parameters.clock_rate,
        extradata: STANDARD.encode(&parameters.extradata),
        width: parameters.width,
        height: parameters.height,
        sample_rate: parameters.sample_rate,
        channels: u32::from(parameters.channels),
        label: None,
    }
}

/// Parameters of a track; `None` for codecs that this sdk does not know.
pub fn parameters(info: &TrackInfo) -> Option<Parameters> {
    let codec = Codec::from_name(&info.codec)?;
    let text = info.extradata.as_bytes();
    let extradata =
        if text.len() > MAX_EXTRADATA { Vec::new() } else { STANDARD.decode(text).unwrap_or_default() };
    Some(Parameters {
        codec,
        clock_rate: info.clock_rate.max(1),
        extradata: Bytes::from(extradata),
        width: info.width,
        height: info.height,
        sample_rate: info.sample_rate,
        channels: u8::try_from(info.channels).unwrap_or(0),
    })
}

/// `video`, `audio` or `data`.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Video => "video",
        Kind::Audio => "audio",
        Kind::Data => "data",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_survive_the_abi() {
        let mut given = Parameters::audio(Codec::Aac, 48000, 2);
        given.extradata = Bytes::from_static(&[0x11, 0x90]);
        assert_eq!(parameters(&info(3, &given)), Some(given));
    }
}
