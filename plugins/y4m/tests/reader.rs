//! YUV4MPEG2 through the reader.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use patchbay_plugin_y4m::fuzz::y4m;
use patchbay_plugin_y4m::reader::Reader;
use patchbay_sdk::demuxer::fuzz::drive;
use patchbay_sdk::media::Codec;
use proptest::prelude::*;

/// What ffmpeg 5.1 writes for pictures of 16 by 16.
const HEAD: &[u8] = b"YUV4MPEG2 W16 H16 F10:1 Ip A1:1 C420jpeg XYSCSS=420JPEG\n";

fn stream(count: u8, frame: &[u8]) -> Vec<u8> {
    let mut data = HEAD.to_vec();
    for n in 0..count {
        data.extend_from_slice(frame);
        data.extend([n; 384]);
    }
    data
}

#[test]
fn frames_are_whole_and_timed() {
    // A frame's line may have parameters.
    for line in [&b"FRAME\n"[..], b"FRAME Ip Xabc\n"] {
        let outcome = drive(&mut Reader::new(false), &stream(5, line), 100);
        assert_eq!(outcome.error, None);
        let track = &outcome.tracks[0];
        assert_eq!(
            (track.codec, track.width, track.height, track.clock_rate),
            (Codec::Rawvideo, 16, 16, 90_000)
        );
        assert_eq!(track.extradata, &HEAD[10..HEAD.len() - 1]);
        assert_eq!(outcome.units.len(), 5);
        for (n, (_, unit)) in (0_u8..).zip(&outcome.units) {
            assert_eq!((unit.pts, unit.key, &unit.data[..]), (i64::from(n) * 9000, true, &[n; 384][..]));
        }
    }
}

#[test]
fn what_cannot_be_read_is_told() {
    for (data, message) in [
        (b"YUV4MPEG3 W16 H16\n".to_vec(), "y4m: no YUV4MPEG2 header"),
        (b"YUV4MPEG2 W16\n".to_vec(), "y4m: the header tells no size"),
        (b"YUV4MPEG2 W16 H16 Crgb\n".to_vec(), "y4m: unsupported colour space: rgb"),
        (b"YUV4MPEG2 W9000 H9000 C444\n".to_vec(), "y4m: frames of 9000x9000 are larger than 32 MiB"),
        ([HEAD, b"FRAM\n"].concat(), "y4m: no frame where one must begin"),
        (vec![b'Y'; 4000], "y4m: a line of more than 1024 bytes"),
        (HEAD[..20].to_vec(), "y4m: the bytes end before the header does"),
    ] {
        let outcome = drive(&mut Reader::new(true), &data, 999);
        assert_eq!(outcome.error.map(|error| error.message).as_deref(), Some(message));
    }
}

#[test]
fn a_cut_frame_is_left_out() {
    let data = stream(3, b"FRAME\n");
    let outcome = drive(&mut Reader::new(false), &data[..data.len() - 1], 100);
    assert_eq!((outcome.error, outcome.units.len()), (None, 2));
}

proptest! {
    #[test]
    fn any_pieces_give_the_same(piece in 1_usize..1000, count in 0_u8..6) {
        let data = stream(count, b"FRAME\n");
        let whole = drive(&mut Reader::new(false), &data, usize::MAX);
        prop_assert_eq!(drive(&mut Reader::new(false), &data, piece), whole);
    }

    #[test]
    fn any_bytes_keep_the_rules(choice: u8, at in 0_usize..1000, damage in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut data = [&[choice][..], &stream(4, b"FRAME\n")].concat();
        data.splice(at + 1..(at + 1 + damage.len()).min(data.len()), damage);
        y4m(&data);
    }
}
