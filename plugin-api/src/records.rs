//! What `read` writes: records of a 64-byte [`UnitHeader`] and the payload padded to 8 bytes.

use crate::UnitHeader;
use bytes::Bytes;

/// Bytes of a record's header.
pub const HEADER: usize = 64;

/// Splits what one `read` appended into units whose payloads share its buffer.
pub fn records(mut bytes: Bytes) -> impl Iterator<Item = (UnitHeader, Bytes)> {
    std::iter::from_fn(move || {
        if bytes.len() < HEADER {
            return None;
        }
        let head = bytes.split_to(HEADER);
        let header = UnitHeader::from_record(head.first_chunk::<HEADER>()?);
        let len = header.len as usize;
        if bytes.len() < len {
            return None;
        }
        let data = bytes.split_to(len);
        let padding = len.next_multiple_of(8) - len;
        let _ = bytes.split_to(padding.min(bytes.len()));
        Some((header, data))
    })
}
