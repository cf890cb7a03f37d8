//! The `codecs` parameter of RFC 6381 for MSE and HLS.

use std::fmt::Write;

use crate::aac::AudioSpecificConfig;
use crate::codec::{Codec, Parameters};
use crate::h265::{GeneralProfile, general_profile, parse_hvcc};

/// The codec string of a track, such as `avc1.640029`; `None` when its configuration is not known yet or browsers have
/// no name for it.
pub fn of(parameters: &Parameters) -> Option<String> {
    let extradata = parameters.extradata.as_ref();
    match parameters.codec {
        Codec::H264 => {
            let [_, profile, constraints, level, ..] = extradata else { return None };
            Some(format!("avc1.{profile:02X}{constraints:02X}{level:02X}"))
        }
        Codec::Hevc => {
            let sets = parse_hvcc(extradata).ok()?;
            Some(hevc(&general_profile(sets.sps.first()?).ok()?))
        }
        Codec::Av1 => av1(extradata),
        Codec::Aac => {
            let config = AudioSpecificConfig::parse(extradata).ok()?;
            Some(format!("mp4a.40.{}", config.signalled_object_type()))
        }
        Codec::Opus => Some("opus".to_owned()),
        Codec::Flac => Some("flac".to_owned()),
        Codec::Mp3 => Some("mp4a.6B".to_owned()),
        Codec::Vp8 => Some("vp8".to_owned()),
        _ => None,
    }
}

/// ISO/IEC 14496-15 annex E.3.
pub fn hevc(general: &GeneralProfile) -> String {
    let mut text = String::from("hvc1.");
    match general.space {
        1 => text.push('A'),
        2 => text.push('B'),
        3 => text.push('C'),
        _ => {}
    }
    let tier = if general.high_tier { 'H' } else { 'L' };
    let compatibility = general.compatibility.reverse_bits();
    // Writing to a string cannot fail.
    let _ = write!(text, "{}.{compatibility:X}.{tier}{}", general.profile, general.level);
    let used = general.constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for byte in general.constraints.iter().take(used) {
        let _ = write!(text, ".{byte:X}");
    }
    text
}

/// From an `AV1CodecConfigurationRecord`: profile, level, tier and bit depth. AV1 in ISOBMFF section 5.
fn av1(record: &[u8]) -> Option<String> {
    let [0x81, profile_level, flags, ..] = record else { return None };
    let (profile, level) = (profile_level >> 5, profile_level & 0x1f);
    let tier = if flags & 0x80 != 0 { 'H' } else { 'M' };
    let depth = match (flags & 0x40 != 0, flags & 0x20 != 0) {
        (true, true) => 12,
        (true, false) => 10,
        _ => 8,
    };
    Some(format!("av01.{profile}.{level:02}{tier}.{depth:02}"))
}
