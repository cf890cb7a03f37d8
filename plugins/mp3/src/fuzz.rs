//! Target of the fuzz tests.

use patchbay_sdk::demuxer::fuzz::drive;

use crate::reader::Reader;

/// Any bytes: the first chooses kind and pieces; in a file the pieces change nothing.
pub fn mp3(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    let live = choice & 1 != 0;
    let in_pieces = drive(&mut Reader::new(live), stream, usize::from(choice >> 1) + 1);
    if !live {
        assert_eq!(in_pieces, drive(&mut Reader::new(false), stream, usize::MAX), "pieces change nothing");
    }
}
