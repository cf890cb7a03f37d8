//! Target of the fuzz tests.

use patchbay_sdk::demuxer::fuzz::file_or_live;

use crate::reader::Reader;

/// Any bytes, live or of a file.
pub fn y4m(data: &[u8]) {
    file_or_live(data, Reader::new);
}
