//! Real pictures: the clip of the `demo` plugin (ffmpeg's `testsrc2`, H.264 by x264, 640x360).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use bytes::Bytes;
use patchbay_picture::{Picture, PictureError};
use patchbay_plugin_snapshot::config::{Look, Settings};
use patchbay_plugin_snapshot::decode::{Decoding, decode};
use patchbay_plugin_snapshot::error::SnapshotError;
use patchbay_plugin_snapshot::shots::{Shot, Shots};
use patchbay_sdk::media::assembler::Flags;
use patchbay_sdk::media::{AccessUnitSplitter, Assembler, Codec, Parameters, Unit, annexb, jpeg};
use proptest::prelude::*;

const CLIP: &[u8] = include_bytes!("../../demo/data/clip.h264");

/// The first `count` units of the clip.
fn clip(count: usize) -> (Parameters, Vec<Unit>) {
    let mut splitter = AccessUnitSplitter::new(Codec::H264);
    let mut assembler = Assembler::new(Codec::H264, 90_000, &[]);
    let mut units = Vec::new();
    for nal in annexb::split(CLIP) {
        let Some(whole) = splitter.push(Bytes::copy_from_slice(nal)) else { continue };
        let pts = 3600 * units.len() as i64;
        let nals = whole.nals.iter().map(Bytes::as_ref);
        units.extend(assembler.push_access_unit(pts, None, nals, Flags::default()).unit);
        if units.len() == count {
            break;
        }
    }
    assert!(units[0].key);
    (assembler.parameters().clone(), units)
}

fn pixel(picture: &Picture, x: usize, y: usize) -> [u8; 3] {
    let at = (y * picture.width as usize + x) * 3;
    picture.rgb[at..at + 3].try_into().unwrap()
}

/// How many of the picture's bytes are more than a little different.
fn different(a: &Picture, b: &Picture) -> usize {
    assert_eq!((a.width, a.height), (b.width, b.height));
    a.rgb.iter().zip(&b.rgb).filter(|(a, b)| a.abs_diff(**b) > 48).count()
}

#[test]
fn a_key_picture_has_its_colours() {
    let (parameters, units) = clip(1);
    let picture = decode(&parameters, &units[0], "/nowhere").unwrap();
    assert_eq!((picture.width, picture.height), (640, 360));
    // The bars of the pattern from the left: red, green, yellow, blue, magenta, cyan.
    let near = |found: [u8; 3], wanted: [u8; 3]| found.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 40);
    for (index, wanted) in
        [[255, 0, 0], [0, 255, 0], [255, 255, 0], [0, 0, 255], [255, 0, 255], [0, 255, 255]]
            .into_iter()
            .enumerate()
    {
        let found = pixel(&picture, 640 * index / 6 + 50, 345);
        assert!(near(found, wanted), "bar {index}: {found:?}");
    }
    let file = picture.to_jpeg(95).unwrap();
    let again =
        decode(&Parameters::video(Codec::Mjpeg, 90_000), &Unit::new(0, true, file), "/nowhere").unwrap();
    assert!(different(&picture, &again) < picture.rgb.len() / 100);
}

#[test]
fn decoding_on_gives_the_last_picture() {
    let (parameters, units) = clip(20);
    let all = |units: &[Unit]| Decoding::new(&parameters).unwrap().advance(units).unwrap();
    let (first, last) = (all(&units[..1]), all(&units));
    assert!(different(&first, &last) > 1000, "the pattern moves");
    let before = all(&units[..19]);
    assert!(different(&before, &last) > 0, "the last one, not the one before it");
    assert!(different(&before, &last) < different(&first, &last));
    // In steps it is the same.
    let mut decoding = Decoding::new(&parameters).unwrap();
    for step in [0..1, 1..2, 2..13, 13..20] {
        let picture = decoding.advance(&units[step.clone()]).unwrap();
        assert_eq!(different(&picture, &all(&units[..step.end])), 0, "{step:?}");
    }
}

#[test]
fn what_is_broken_is_an_error() {
    let (parameters, units) = clip(1);
    let cut = Unit { data: units[0].data.slice(..20), ..units[0].clone() };
    assert!(matches!(
        decode(&parameters, &cut, "/nowhere"),
        Err(SnapshotError::Picture(PictureError::Broken { .. }))
    ));
    let unknown = Parameters { extradata: Bytes::new(), ..parameters };
    assert!(matches!(
        decode(&unknown, &units[0], "/nowhere"),
        Err(SnapshotError::Picture(PictureError::Broken { .. }))
    ));
    assert!(matches!(
        decode(&Parameters::audio(Codec::Opus, 48_000, 2), &units[0], "ffmpeg"),
        Err(SnapshotError::Codec { codec: "opus" })
    ));
    let jpeg = Parameters::video(Codec::Mjpeg, 90_000);
    assert!(matches!(
        decode(&jpeg, &units[0], "ffmpeg"),
        Err(SnapshotError::Picture(PictureError::Broken { .. }))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_are_one_decode_and_one_file_per_size() {
    let (parameters, units) = clip(1);
    let shots = std::sync::Arc::new(Shots::new(Settings::default()));
    let tasks: Vec<_> = (0..60)
        .map(|index| {
            let (shots, parameters, units) = (shots.clone(), parameters.clone(), units.clone());
            tokio::spawn(async move {
                let shot = shots.keep((1, 0, false), Shot::new(parameters, units[0].clone(), 7, 0));
                let look = Look { width: 320 * (index % 2), ..Look::default() };
                shots.file(&shot, look).await.unwrap()
            })
        })
        .collect();
    let mut files = Vec::new();
    for task in tasks {
        files.push(task.await.unwrap());
    }
    assert_eq!(jpeg::size(&files[0]), Ok((640, 360)));
    assert_eq!(jpeg::size(&files[1]), Ok((320, 180)));
    let counters = shots.counters().counters;
    assert_eq!((counters["pictures_decoded"], counters["pictures_encoded"]), (1, 2));
    // A newer one takes its place, an older one does not.
    let kept = shots.keep((1, 0, false), Shot::new(parameters.clone(), units[0].clone(), 8, 0));
    assert_eq!(kept.sequence, 8);
    assert_eq!(shots.keep((1, 0, false), Shot::new(parameters, units[0].clone(), 7, 0)).sequence, 8);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Damaged pictures end in a picture or an error.
    #[test]
    fn damage_never_panics(at in 0_usize..12_000, bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
        let (parameters, units) = clip(2);
        let mut data = units[0].data.to_vec();
        let at = at % (data.len() - bytes.len());
        data[at..at + bytes.len()].copy_from_slice(&bytes);
        let damaged = Unit { data: data.into(), ..units[0].clone() };
        let _ = Decoding::new(&parameters).unwrap().advance(&[damaged.clone(), units[1].clone()]);
        let _ = decode(&Parameters::video(Codec::Mjpeg, 90_000), &damaged, "/nowhere");
    }
}
