//! Streams of pictures as servers send them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use std::time::Duration;

use bytes::Bytes;
use patchbay_plugin_mjpeg::demuxer::Pictures;
use patchbay_sdk::demuxer::{Container, Event, Piece};
use patchbay_sdk::media::Unit;
use proptest::prelude::*;

/// A file without tables.
fn file(width: u16, height: u16) -> Vec<u8> {
    let mut data = vec![0xff, 0xd8, 0xff, 0xc0, 0, 17, 8];
    data.extend(height.to_be_bytes());
    data.extend(width.to_be_bytes());
    data.extend([3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1, 0xff, 0xda, 0, 2, 0x55, 0xff, 0, 0x11, 0xff, 0xd9]);
    data
}

#[derive(Default)]
struct Seen {
    sizes: Vec<(u32, u32)>,
    units: Vec<Unit>,
    error: Option<String>,
}

/// Feeds pieces that arrive 40 ms apart.
fn demux(is_live: bool, pieces: &[&[u8]]) -> Seen {
    let mut pictures = Pictures::new(is_live);
    let mut seen = Seen::default();
    let mut pieces = pieces.iter().enumerate();
    loop {
        match pictures.poll() {
            Event::NeedData => match pieces.next() {
                Some((index, piece)) => {
                    let at = Duration::from_millis(40 * index as u64);
                    pictures.push(Piece { offset: 0, at, data: Bytes::copy_from_slice(piece) });
                }
                None => pictures.end(),
            },
            Event::Tracks(tracks) => seen.sizes.push((tracks[0].width, tracks[0].height)),
            Event::TrackChanged { parameters, .. } => seen.sizes.push((parameters.width, parameters.height)),
            Event::Unit { unit, .. } => seen.units.push(unit),
            Event::Error(error) => {
                seen.error = Some(error.message);
                return seen;
            }
            Event::End => return seen,
            Event::Seek(_) => panic!("nothing to seek for"),
        }
    }
}

fn parts(files: &[Vec<u8>], open: &str, close: &str) -> Vec<u8> {
    files.iter().flat_map(|file| [open.as_bytes(), file, close.as_bytes()].concat()).collect()
}

/// Ways to frame pictures that cameras and servers have.
#[test]
fn every_framing_gives_the_same_pictures() {
    let files = vec![file(640, 480), file(640, 480), file(320, 240)];
    for (name, open, close) in [
        ("plain", "--b\r\nContent-Type: image/jpeg\r\nContent-Length: 36\r\n\r\n", "\r\n"),
        ("no length", "--b\r\nContent-Type: image/jpeg\r\n\r\n", "\r\n"),
        ("wrong length", "--b\r\nContent-Length: 999999\r\n\r\n", "\r\n"),
        ("line feeds", "--b\nContent-Type: image/jpeg\n\n", "\n"),
        ("more dashes", "----b--\r\n\r\n", "\r\n"),
        ("boundary behind", "", "\r\n--b\r\nContent-Type: image/jpeg\r\n\r\n"),
        ("no framing", "", ""),
        ("preamble", "This is a multipart message.\r\n\r\n--b\r\n\r\n", "\r\n"),
        ("zeros behind", "--b\r\n\r\n", "\0\0\0\0\r\n"),
    ] {
        let data = parts(&files, open, close);
        for chunk in [1, 7, 100, data.len()] {
            let pieces: Vec<&[u8]> = data.chunks(chunk).collect();
            let seen = demux(true, &pieces);
            let pictures: Vec<&[u8]> = seen.units.iter().map(|unit| &unit.data[..]).collect();
            assert_eq!(pictures, files, "{name} in pieces of {chunk}");
            assert_eq!(seen.sizes, [(640, 480), (320, 240)], "{name}");
            assert_eq!(seen.error, None, "{name}");
        }
    }
}

#[test]
fn live_pictures_have_the_time_of_their_last_byte_and_files_25_a_second() {
    let a = file(64, 48);
    let pieces = [&a[..], &a[..10], &a[10..], &[&a[..], &a[..]].concat()];
    let times = |live| demux(live, &pieces).units.iter().map(|unit| unit.pts).collect::<Vec<_>>();
    assert_eq!(times(true), [0, 7200, 10800, 10801]);
    assert_eq!(times(false), [0, 3600, 7200, 10800, 14400][..4]);
}

#[test]
fn streams_without_pictures_end_with_an_error() {
    assert_eq!(
        demux(true, &[b"--b\r\n\r\nno picture"]).error.unwrap(),
        "mjpeg: no picture in the whole stream"
    );
    let megabyte = vec![0x2d; 1 << 20];
    let endless: Vec<&[u8]> = vec![&megabyte; 40];
    assert_eq!(demux(true, &endless).error.unwrap(), "mjpeg: 16 MiB without a picture");
}

proptest! {
    #[test]
    fn any_bytes_never_panic(data: Vec<u8>) {
        patchbay_plugin_mjpeg::fuzz::demux(&data);
    }

    #[test]
    fn near_pictures_never_panic(at in 0_usize..63, byte: u8, choice: u8) {
        let mut data = vec![choice];
        data.extend(file(16, 16));
        data.extend(file(16, 16));
        data[at] = byte;
        patchbay_plugin_mjpeg::fuzz::demux(&data);
    }
}
