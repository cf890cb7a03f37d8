//! WAV of ffmpeg and of other writers through the reader.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use patchbay_plugin_wav::fuzz::wav;
use patchbay_plugin_wav::reader::Reader;
use patchbay_sdk::demuxer::fuzz::{Outcome, drive};
use patchbay_sdk::media::Codec;
use proptest::prelude::*;

const MULAW: &[u8] = include_bytes!("data/ffmpeg_mulaw.wav");
const PIPE: &[u8] = include_bytes!("data/ffmpeg_s16_pipe.wav");

fn read(data: &[u8]) -> Outcome {
    drive(&mut Reader::new(false), data, 100)
}

fn samples(outcome: &Outcome) -> Vec<u8> {
    outcome.units.iter().flat_map(|(_, unit)| unit.data.to_vec()).collect()
}

/// A header with a `fmt ` chunk, then a `data` chunk of `size`.
fn header(format: &[u8], size: u32) -> Vec<u8> {
    let len = u32::try_from(format.len()).unwrap().to_le_bytes();
    [b"RIFF\xff\xff\xff\xffWAVEfmt ", &len[..], format, b"data", &size.to_le_bytes()].concat()
}

fn format(code: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    let block = channels * bits / 8;
    let mut out = Vec::new();
    out.extend(code.to_le_bytes());
    out.extend(channels.to_le_bytes());
    out.extend(rate.to_le_bytes());
    out.extend((rate * u32::from(block)).to_le_bytes());
    out.extend(block.to_le_bytes());
    out.extend(bits.to_le_bytes());
    out
}

#[test]
fn samples_of_ffmpeg_are_all_there_and_timed() {
    for (data, codec, channels, at) in [(MULAW, Codec::PcmMulaw, 1, 92), (PIPE, Codec::PcmS16le, 2, 78)] {
        let outcome = read(data);
        assert_eq!(outcome.error, None);
        let track = &outcome.tracks[0];
        assert_eq!(
            (track.codec, track.clock_rate, track.sample_rate, track.channels),
            (codec, 8000, 8000, channels)
        );
        assert_eq!(samples(&outcome), data[at..]);
        for (n, (_, unit)) in (0_i64..).zip(&outcome.units) {
            assert_eq!(unit.pts, n * 160, "20 ms each");
        }
        assert_eq!(outcome.units.iter().map(|(_, unit)| unit.duration).sum::<u32>(), 2000);
    }
}

#[test]
fn extensible_format_and_known_sizes() {
    let mut extensible = format(0xfffe, 1, 16_000, 16);
    extensible
        .extend([22, 0, 16, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]);
    let data = [header(&extensible, 1001), vec![7; 1001], b"LIST\x04\0\0\0abcd".to_vec()].concat();
    let outcome = read(&data);
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.tracks[0].codec, Codec::PcmS16le);
    assert_eq!(samples(&outcome), [7; 1000], "half a sample and what is behind the samples are left out");
}

#[test]
fn what_cannot_be_read_is_told() {
    let alaw = format(6, 1, 8000, 8);
    for (data, message) in [
        (b"RIFX\0\0\0\0WAVE".to_vec(), "wav: no RIFF WAVE"),
        (b"RIFF\0\0\0\0AVI LIST".to_vec(), "wav: no RIFF WAVE"),
        (header(&format(1, 2, 48_000, 24), 0), "wav: PCM of 24 bits: 16 are read"),
        (header(&format(85, 2, 48_000, 16), 0), "wav: unsupported codec: 85"),
        (header(&format(1, 0, 48_000, 16), 0), "wav: 0 channels of 48000 samples a second"),
        (header(&format(1, 2, 0, 16), 0), "wav: 2 channels of 0 samples a second"),
        (header(&alaw[..10], 0), "wav: the format chunk is too short"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0".to_vec(), "wav: samples before their format"),
        (header(&alaw, 0)[..30].to_vec(), "wav: the bytes end before the samples"),
        (
            [&b"RIFF\0\0\0\0WAVELIST\0\0\x20\0"[..], &[0; 2 << 20]].concat(),
            "wav: no samples in the first MiB",
        ),
    ] {
        let outcome = drive(&mut Reader::new(true), &data, 4096);
        assert_eq!(outcome.error.map(|error| error.message).as_deref(), Some(message));
    }
}

#[test]
fn bare_samples_have_their_format_by_name() {
    let outcome = drive(&mut Reader::basic(false), &[0xff; 1000], 7);
    assert_eq!((outcome.tracks[0].codec, outcome.tracks[0].clock_rate), (Codec::PcmMulaw, 8000));
    assert_eq!((outcome.error.clone(), samples(&outcome).len()), (None, 1000));
    assert_eq!(drive(&mut Reader::basic(false), &[], 7).error, None);
}

proptest! {
    #[test]
    fn any_pieces_and_channels_give_the_same(piece in 1_usize..700, channels in 1_u16..=8, count in 0_usize..3000) {
        let data = [header(&format(1, channels, 8000, 16), 0), vec![3; count]].concat();
        let whole = drive(&mut Reader::new(false), &data, usize::MAX);
        let block = 2 * usize::from(channels);
        prop_assert_eq!(samples(&whole).len(), count - count % block);
        prop_assert_eq!(drive(&mut Reader::new(false), &data, piece), whole);
    }

    #[test]
    fn any_bytes_keep_the_rules(choice: u8, at in 0_usize..200, damage in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut data = [&[choice][..], MULAW].concat();
        data.splice(at + 1..(at + 1 + damage.len()).min(data.len()), damage);
        wav(&data);
    }
}
