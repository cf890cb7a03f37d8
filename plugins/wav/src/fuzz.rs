//! Target of the fuzz tests.

use patchbay_sdk::demuxer::fuzz::file_or_live;

use crate::reader::Reader;

/// Any bytes, live or of a file.
pub fn wav(data: &[u8]) {
    file_or_live(data, Reader::new);
}
