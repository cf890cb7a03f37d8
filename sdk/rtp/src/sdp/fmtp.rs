//! Format parameters and the byte strings in them (C47, C50).

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

/// `key=value; key=value`, tolerant of blanks, empty parts and upper-case keys. A key without value maps to "".
pub(super) fn parse(text: &str, into: &mut BTreeMap<String, String>) {
    for part in text.split(';') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let key = key.trim().to_ascii_lowercase();
        if !key.is_empty() {
            into.insert(key, value.trim().trim_matches('"').to_owned());
        }
    }
}

/// Payload type and the rest of `96 text`, `96text` or ` 96`.
pub(super) fn split_payload_type(value: &str) -> Option<(u8, &str)> {
    let value = value.trim();
    let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let payload_type = value.get(..end)?.parse().ok().filter(|pt| *pt < 128)?;
    Some((payload_type, value.get(end..)?.trim()))
}

/// NAL units of a comma-separated list in base64, with the alphabet of either kind, padded or not. Start codes and
/// trailing zeros are removed, a part may hold several units; parts that do not decode are left out.
pub(super) fn nal_units(list: &str) -> Vec<Bytes> {
    let mut units = Vec::new();
    for part in list.split(',') {
        let Some(bytes) = base64_bytes(part) else { continue };
        let nals = patchbay_media::annexb::split_glued(&bytes);
        units.extend(nals.filter(|nal| nal.len() > 1).map(Bytes::copy_from_slice));
    }
    units
}

fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let text = text.trim().replace('-', "+").replace('_', "/");
    if text.is_empty() {
        return None;
    }
    GeneralPurpose::new(&alphabet::STANDARD, LENIENT).decode(text).ok()
}

/// Hexadecimal bytes; an odd digit at the end is dropped (R44), anything else that is no digit ends the text.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.trim().chars().map_while(|c| c.to_digit(16)).filter_map(|d| u8::try_from(d).ok()).collect();
    digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
}
