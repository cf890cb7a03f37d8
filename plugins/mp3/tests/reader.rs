//! Frames of ffmpeg through the reader.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use patchbay_plugin_mp3::fuzz::mp3;
use patchbay_plugin_mp3::reader::Reader;
use patchbay_sdk::demuxer::fuzz::{Outcome, drive};
use patchbay_sdk::media::Codec;
use patchbay_sdk::media::mpa::Header;
use proptest::prelude::*;

const MP3: &[u8] = include_bytes!("data/ffmpeg_16k.mp3");
const MP2: &[u8] = include_bytes!("data/ffmpeg_48k.mp2");

fn read(data: &[u8]) -> Outcome {
    drive(&mut Reader::new(false), data, 50)
}

/// The part of [`MP3`] behind its tag.
fn frames() -> &'static [u8] {
    let tag = 10 + usize::from(MP3[9]) + (usize::from(MP3[8]) << 7);
    &MP3[tag..]
}

#[test]
fn every_frame_is_a_unit() {
    for (data, behind, codec, rate, channels, samples) in
        [(MP3, frames(), Codec::Mp3, 16_000, 1, 576), (MP2, MP2, Codec::Mp2, 48_000, 2, 1152)]
    {
        let outcome = read(data);
        assert_eq!(outcome.error, None);
        let track = &outcome.tracks[0];
        assert_eq!(
            (track.codec, track.clock_rate, track.sample_rate, track.channels),
            (codec, rate, rate, channels)
        );
        let bytes: Vec<u8> = outcome.units.iter().flat_map(|(_, unit)| unit.data.to_vec()).collect();
        assert_eq!(bytes, behind, "nothing is lost");
        for (n, (_, unit)) in (0_i64..).zip(&outcome.units) {
            assert_eq!(Header::parse(&unit.data).unwrap().len, unit.data.len());
            assert_eq!((unit.pts, unit.duration, unit.discontinuity), (n * samples, samples as u32, false));
        }
    }
}

#[test]
fn what_is_no_frame_is_passed_over() {
    let last = [&b"TAG"[..], &[b' '; 125]].concat();
    let torn = [&frames()[30..80], MP3, &last].concat();
    assert_eq!(read(&torn).units, read(MP3).units);
    // A tag with a picture whose bytes look like frames, longer than what is looked through.
    let picture = frames().repeat(1 + (2 << 20) / frames().len());
    let size = picture.len();
    let sevens = [size >> 21, size >> 14, size >> 7, size].map(|part| (part & 0x7f) as u8);
    let tagged = [&b"ID3\x04\0\0"[..], &sevens, &picture, frames()].concat();
    assert_eq!(drive(&mut Reader::new(false), &tagged, 4096).units, read(MP3).units);
    // A hole.
    let hole = [&frames()[..200], &frames()[300..]].concat();
    assert_eq!(read(&hole).units.iter().filter(|(_, unit)| unit.discontinuity).count(), 1);
}

#[test]
fn another_rate_keeps_the_clock() {
    let outcome = read(&[MP2, frames()].concat());
    let changed = &outcome.changes[0].1;
    assert_eq!((changed.codec, changed.clock_rate, changed.sample_rate), (Codec::Mp3, 48_000, 16_000));
    let (_, last) = outcome.units.last().unwrap();
    assert_eq!(last.duration, 576 * 3);
}

#[test]
fn what_cannot_be_read_is_told() {
    for (data, message) in [
        (frames()[..20].to_vec(), "mp3: the bytes end before the first frame"),
        (vec![], "mp3: the bytes end before the first frame"),
        (b"ID3\x04\0\0\x7f\x7f\x7f\x7f".to_vec(), "mp3: the bytes end before the first frame"),
        (vec![0; 2 << 20], "mp3: no frame in the first MiB"),
    ] {
        let outcome = drive(&mut Reader::new(true), &data, 4096);
        assert_eq!(outcome.error.map(|error| error.message).as_deref(), Some(message));
    }
}

proptest! {
    #[test]
    fn any_pieces_give_the_same(piece in 1_usize..3000) {
        prop_assert_eq!(drive(&mut Reader::new(false), MP3, piece), drive(&mut Reader::new(false), MP3, usize::MAX));
    }

    #[test]
    fn any_bytes_keep_the_rules(choice: u8, at in 0_usize..1600, damage in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut data = [&[choice][..], MP3].concat();
        let at = at.min(data.len() - 1);
        data.splice(at + 1..(at + 1 + damage.len()).min(data.len()), damage);
        mp3(&data);
    }
}
