//! MP4 files of odd shapes, built by hand, and bytes that are no MP4 at all.

use bytes::Bytes;
use patchbay_media::{Codec, Unit};
use patchbay_mux::mp4::{Demuxer, Error, Event};
use proptest::prelude::*;

fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut out = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(kind);
    out.extend_from_slice(&body);
    out
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A track whose samples of `size` bytes lie in one chunk at `offset`.
struct Track<'a> {
    id: u32,
    timescale: u32,
    entry: Vec<u8>,
    edits: &'a [u32],
    size: u32,
    count: u32,
    duration: u32,
    offset: u64,
}

impl Track<'static> {
    /// Three pictures of 10 bytes, 100 ms each, right behind the head of the file's first box.
    fn pictures() -> Self {
        let entry = jpeg_entry();
        Self { id: 1, timescale: 10, entry, edits: NO_EDITS, size: 10, count: 3, duration: 1, offset: 8 }
    }

    /// Samples of A-law, a byte each.
    fn sound(count: u32, offset: u64) -> Self {
        let entry = alaw_entry();
        Self { id: 2, timescale: 8_000, entry, edits: NO_EDITS, size: 1, count, duration: 1, offset }
    }
}

impl Track<'_> {
    fn trak(&self) -> Vec<u8> {
        let offset = [words(&[0, 1]), self.offset.to_be_bytes().to_vec()].concat();
        let stbl = boxed(
            b"stbl",
            &[
                &boxed(b"stsd", &[&words(&[0, 1]), &self.entry]),
                &boxed(b"stts", &[&words(&[0, 1, self.count, self.duration])]),
                &boxed(b"stsc", &[&words(&[0, 1, 1, self.count, 1])]),
                &boxed(b"stsz", &[&words(&[0, self.size, self.count])]),
                &boxed(b"co64", &[&offset]),
            ],
        );
        let mdia = boxed(
            b"mdia",
            &[&boxed(b"mdhd", &[&words(&[0, 0, 0, self.timescale, 0, 0])]), &boxed(b"minf", &[&stbl])],
        );
        let tkhd = boxed(b"tkhd", &[&words(&[0, 0, 0, self.id])]);
        let edts = boxed(b"edts", &[&boxed(b"elst", &[&words(self.edits)])]);
        boxed(b"trak", &[&tkhd, &edts, &boxed(b"zzzz", &[b"unknown"]), &mdia])
    }
}

fn jpeg_entry() -> Vec<u8> {
    let mut body = vec![0; 78];
    body[24..28].copy_from_slice(&[0, 64, 0, 48]);
    boxed(b"jpeg", &[&body])
}

fn alaw_entry() -> Vec<u8> {
    let mut body = vec![0; 28];
    body[16..20].copy_from_slice(&[0, 1, 0, 8]);
    body[24..26].copy_from_slice(&8_000_u16.to_be_bytes());
    boxed(b"alaw", &[&body])
}

fn moov(tracks: &[Track<'_>]) -> Vec<u8> {
    let mvhd = boxed(b"mvhd", &[&words(&[0, 0, 0, 1_000, 0])]);
    let traks: Vec<u8> = tracks.iter().flat_map(Track::trak).collect();
    boxed(b"moov", &[&mvhd, &traks])
}

const NO_EDITS: &[u32] = &[0, 0];

struct Run {
    units: Vec<(usize, Unit)>,
    tracks: Vec<Codec>,
    seeks: usize,
    most_held: usize,
}

/// Reads `size` bytes of a file whose byte at a place is given by `byte`.
fn run(size: u64, read: impl Fn(u64, usize) -> Vec<u8>) -> Result<Run, Error> {
    let mut demuxer = Demuxer::new();
    let mut at = 0_u64;
    let mut out = Run { units: Vec::new(), tracks: Vec::new(), seeks: 0, most_held: 0 };
    loop {
        out.most_held = out.most_held.max(demuxer.buffered());
        match demuxer.poll() {
            Event::NeedData if at >= size => demuxer.end(),
            Event::NeedData => {
                let piece = usize::try_from((size - at).min(64 << 10)).unwrap();
                demuxer.push(at, Bytes::from(read(at, piece)));
                at += piece as u64;
            }
            Event::Seek(to) => {
                out.seeks += 1;
                at = to;
            }
            Event::Tracks(tracks) => out.tracks = tracks.iter().map(|t| t.codec).collect(),
            Event::TrackChanged { .. } => {}
            Event::Unit { track, unit } => out.units.push((track, unit)),
            Event::Error(error) => return Err(error),
            Event::End => return Ok(out),
        }
    }
}

fn file(bytes: &[u8]) -> Result<Run, Error> {
    run(bytes.len() as u64, |at, piece| bytes[at as usize..at as usize + piece].to_vec())
}

/// 100 s of pictures, 200 MB, then all the sound: read by seeking to and fro, with little memory.
#[test]
fn tracks_one_behind_the_other() {
    let video = Track { size: 200_000, count: 1_000, offset: 4_096, ..Track::pictures() };
    let audio = Track::sound(800_000, 4_096 + 200_000_000);
    let head = moov(&[video, audio]);
    let size = 4_096 + 200_000_000 + 800_000;
    let run = run(size, |at, piece| {
        (at..at + piece as u64)
            .map(|at| head.get(at as usize).copied().unwrap_or((at / 1_000) as u8))
            .collect()
    })
    .unwrap();
    assert_eq!(run.tracks, [Codec::Mjpeg, Codec::PcmAlaw]);
    assert!(run.seeks < 10, "{} seeks", run.seeks);
    assert!(run.most_held <= 34 << 20, "{} bytes held", run.most_held);
    let bytes =
        |track| run.units.iter().filter(|(t, _)| *t == track).map(|(_, u)| u.data.len()).sum::<usize>();
    assert_eq!((bytes(0), bytes(1)), (200_000_000, 800_000));
    let ms = |(track, unit): &(usize, Unit)| unit.dts * if *track == 0 { 800 } else { 1 };
    assert!(run.units.windows(2).all(|w| ms(&w[0]) <= ms(&w[1])));
    for (track, unit) in &run.units {
        let at = if *track == 0 { 4_096 + unit.dts * 200_000 } else { 200_004_096 + unit.dts };
        assert_eq!(unit.data[0], (at / 1_000) as u8);
    }
}

#[test]
fn edits_move_a_track() {
    // 500 ms of nothing, then from media time 3 on.
    let edits: &[u32] = &[0, 2, 500, u32::MAX, 0x1_0000, 1_000, 3, 0x1_0000];
    let track = |edits| Track { id: 7, timescale: 100, edits, count: 4, duration: 2, ..Track::pictures() };
    let mdat = boxed(b"mdat", &[&[9; 40]]);
    let times = |edits| -> Vec<i64> {
        file(&[mdat.clone(), moov(&[track(edits)])].concat())
            .unwrap()
            .units
            .iter()
            .map(|(_, u)| u.pts)
            .collect()
    };
    assert_eq!(times(NO_EDITS), [0, 2, 4, 6]);
    assert_eq!(times(edits), [47, 49, 51, 53]);
}

#[test]
fn sizes_of_64_bits_and_files_cut_off() {
    let track = Track { offset: 16, ..Track::pictures() };
    let mut mdat = words(&[1]);
    mdat.extend_from_slice(b"mdat");
    mdat.extend_from_slice(&46_u64.to_be_bytes());
    mdat.extend_from_slice(&[5; 30]);
    let moov = moov(&[track]);
    assert_eq!(file(&[mdat.clone(), moov.clone()].concat()).unwrap().units.len(), 3);
    assert_eq!(file(&mdat).err(), Some(Error::NoMovie));
    assert_eq!(file(&[&mdat, &moov[..50]].concat()).err(), Some(Error::NoMovie));
    assert_eq!(file(b"\xff\xd8 is a picture").err(), Some(Error::NotMp4));
    assert_eq!(file(b"").err(), Some(Error::NotMp4));
    let huge = [words(&[u32::MAX]), b"moov".to_vec()].concat();
    assert_eq!(file(&huge).err(), Some(Error::TooLarge { kind: *b"moov", size: u64::from(u32::MAX) }));
    // The media ends in the second sample.
    let at = moov.len() as u64 + 8;
    let track = Track { offset: at, ..Track::pictures() };
    let cut = [self::moov(&[track]), words(&[38]), b"mdat".to_vec(), vec![5; 15]].concat();
    assert_eq!(file(&cut).unwrap().units.len(), 1);
}

/// Counts that no bytes stand behind end at once.
#[test]
fn counts_without_bytes() {
    let mdat = boxed(b"mdat", &[&[5; 30]]);
    let units = |track| file(&[mdat.clone(), moov(&[track])].concat()).unwrap().units.len();
    assert!(units(Track { count: u32::MAX, ..Track::pictures() }) < 100);
    assert_eq!(units(Track { count: u32::MAX, size: 0, ..Track::pictures() }), 0);
}

/// A small file with everything a mutation can hurt.
fn seed() -> Vec<u8> {
    let video = Track::pictures();
    let audio = Track::sound(20, 38);
    let trex = boxed(b"trex", &[&words(&[0, 1, 1, 1, 10, 0])]);
    let mut head = moov(&[video, audio]);
    let mvex = boxed(b"mvex", &[&trex]);
    head.extend_from_slice(&mvex);
    let size = u32::try_from(head.len()).unwrap().to_be_bytes();
    head[..4].copy_from_slice(&size);
    let traf = boxed(
        b"traf",
        &[
            &boxed(b"tfhd", &[&words(&[0x02_0000, 1])]),
            &boxed(b"tfdt", &[&words(&[0x0100_0000, 0, 3])]),
            &boxed(b"trun", &[&words(&[0x0100_0b01, 2, 108, 1, 10, 1, 1, 10, u32::MAX])]),
        ],
    );
    let moof = boxed(b"moof", &[&boxed(b"mfhd", &[&words(&[0, 1])]), &traf]);
    [boxed(b"mdat", &[&[7; 60]]), head, moof, boxed(b"mdat", &[&[8; 40]])].concat()
}

#[test]
fn the_seed_is_whole() {
    let run = file(&seed()).unwrap();
    let video: Vec<_> = run.units.iter().filter(|(t, _)| *t == 0).map(|(_, u)| (u.pts, u.dts)).collect();
    // The fragment's negative offset moves its decoding times down onto those before; the last two are set right.
    assert_eq!(video, [(0, 0), (1, 1), (2, 2), (4, 3), (4, 4)]);
}

proptest! {
    #[test]
    fn any_bytes_never_panic(mut bytes: Vec<u8>) {
        patchbay_mux::fuzz::mp4(&bytes);
        bytes.splice(0..0, boxed(b"ftyp", &[]));
        patchbay_mux::fuzz::mp4(&bytes);
    }

    #[test]
    fn hurt_files_never_panic(hits in proptest::collection::vec((0_usize..1_000, any::<u8>()), 1..12)) {
        let mut bytes = seed();
        for (at, value) in hits {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        patchbay_mux::fuzz::mp4(&bytes);
    }
}
