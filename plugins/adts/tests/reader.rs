//! ADTS of ffmpeg through the reader and back through the muxer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use patchbay_plugin_adts::fuzz::adts;
use patchbay_plugin_adts::output::Adts;
use patchbay_plugin_adts::reader::Reader;
use patchbay_sdk::demuxer::fuzz::{Outcome, drive};
use patchbay_sdk::media::aac::{AudioSpecificConfig, adts as frames};
use patchbay_sdk::media::{Codec, Parameters};
use patchbay_sdk::output::{Mux as _, Output as _, Request};
use proptest::prelude::*;

/// 16 kHz, mono, 9 frames.
const AAC: &[u8] = include_bytes!("../../../sdk/media/tests/data/ffmpeg_aac_16k.aac");

fn read(data: &[u8]) -> Outcome {
    drive(&mut Reader::new(false), data, 50)
}

fn frame(rate: u32, payload: &[u8]) -> Vec<u8> {
    [&frames::build(&AudioSpecificConfig::lc(rate, 1), payload.len()).unwrap()[..], payload].concat()
}

#[test]
fn every_frame_is_a_unit() {
    let outcome = read(AAC);
    assert_eq!(outcome.error, None);
    let track = &outcome.tracks[0];
    assert_eq!(
        (track.codec, track.clock_rate, track.sample_rate, track.channels),
        (Codec::Aac, 16_000, 16_000, 1)
    );
    assert_eq!(track.extradata, &[0x14, 0x08][..]);
    let expected: Vec<_> = frames::split(AAC).map(|(_, payload)| payload.to_vec()).collect();
    assert_eq!(expected.len(), 9);
    assert_eq!(outcome.units.iter().map(|(_, unit)| unit.data.to_vec()).collect::<Vec<_>>(), expected);
    for (n, (_, unit)) in (0_i64..).zip(&outcome.units) {
        assert_eq!((unit.pts, unit.duration, unit.discontinuity), (n * 1024, 1024, false));
    }
}

#[test]
fn what_is_no_frame_is_passed_over() {
    // An ID3 tag, then the end of a frame.
    let junk = [&b"ID3\x04\0\0\0\0\0\x0aabcdefghij"[..], &AAC[100..200]].concat();
    assert_eq!(read(&[&junk, AAC].concat()), read(AAC));
}

#[test]
fn another_rate_keeps_the_clock() {
    let data =
        [frame(16_000, &[1; 50]), frame(16_000, &[2; 50]), frame(32_000, &[3; 50]), frame(32_000, &[4; 50])]
            .concat();
    let outcome = read(&data);
    let changed = &outcome.changes[0].1;
    assert_eq!((changed.clock_rate, changed.sample_rate), (16_000, 32_000));
    assert_eq!(outcome.units.iter().map(|(_, unit)| unit.pts).collect::<Vec<_>>(), [0, 1024, 2048, 2560]);
}

#[test]
fn what_cannot_be_read_is_told() {
    for (data, message) in [
        (AAC[..100].to_vec(), "adts: the bytes end before the first frame"),
        (vec![], "adts: the bytes end before the first frame"),
        (vec![0; 2 << 20], "adts: no frame in the first MiB"),
    ] {
        let outcome = drive(&mut Reader::new(true), &data, 4096);
        assert_eq!(outcome.error.map(|error| error.message).as_deref(), Some(message));
    }
}

#[test]
fn the_muxer_writes_what_ffmpeg_wrote() {
    let outcome = read(AAC);
    let request =
        Request { format: "adts".to_owned(), tracks: outcome.tracks.clone(), options: Default::default() };
    let mut mux = Adts.mux(&request).unwrap();
    let mut chunks = Vec::new();
    for (_, unit) in &outcome.units {
        mux.push(0, unit, &mut chunks);
    }
    let written = chunks.iter().flat_map(|chunk| chunk.data.to_vec()).collect::<Vec<_>>();
    assert_eq!(written, AAC[AAC.len() - written.len()..]);
    assert_eq!(written.len(), frames::split(AAC).map(|(header, _)| header.frame_len).sum::<usize>());
}

#[test]
fn sound_that_no_header_tells_is_refused() {
    let mut eld = Parameters::audio(Codec::Aac, 16_000, 1);
    eld.extradata = vec![0xf8, 0xf0, 0x20, 0x00].into();
    for track in [Parameters::audio(Codec::Opus, 48_000, 2), Parameters::audio(Codec::Aac, 16_000, 1), eld] {
        let request = Request { format: "adts".to_owned(), tracks: vec![track], options: Default::default() };
        assert!(Adts.mux(&request).is_err());
    }
}

proptest! {
    #[test]
    fn any_pieces_give_the_same(piece in 1_usize..3000) {
        prop_assert_eq!(drive(&mut Reader::new(false), AAC, piece), drive(&mut Reader::new(false), AAC, usize::MAX));
    }

    #[test]
    fn any_bytes_keep_the_rules(choice: u8, at in 0_usize..2000, damage in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut data = [&[choice][..], AAC].concat();
        let at = at.min(data.len() - 1);
        data.splice(at + 1..(at + 1 + damage.len()).min(data.len()), damage);
        adts(&data);
    }
}
