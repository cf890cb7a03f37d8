//! Entry points of the fuzz targets.

use crate::message;

/// Splits the payload of a call or answer.
pub fn split_bytes(payload: &[u8]) {
    let Some((json, bytes)) = message::split_bytes(payload) else { return };
    let len = json.len() + bytes.map_or(0, |bytes| bytes.len() + 5);
    assert_eq!(len, payload.len());
}
