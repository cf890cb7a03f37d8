//! FFmpeg as the other side: makes clips, says what is in a file.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use patchbay_media::{Parameters, Unit};
use patchbay_mux::{flv, mp4, mpegts};
use tempfile::TempDir;

/// A folder for clips, or `None` without ffmpeg, which `PATCHBAY_REQUIRE_PEERS=1` does not allow.
pub(crate) fn folder() -> Option<TempDir> {
    let here = |name: &str| Command::new(name).arg("-version").output().is_ok_and(|out| out.status.success());
    if here("ffmpeg") && here("ffprobe") {
        return Some(TempDir::new().unwrap());
    }
    assert!(
        std::env::var_os("PATCHBAY_REQUIRE_PEERS").is_none_or(|v| v != "1"),
        "ffmpeg and ffprobe are required, install the package ffmpeg"
    );
    eprintln!("skipped: no ffmpeg here");
    None
}

/// Runs ffmpeg with `arguments`, separated by blanks, and gives the file `name` that it wrote.
pub(crate) fn ffmpeg(folder: &TempDir, arguments: &str, name: &str) -> PathBuf {
    let out = folder.path().join(name);
    let run = Command::new("ffmpeg")
        .current_dir(folder.path())
        .args("-nostdin -hide_banner -loglevel error -y".split(' '))
        .args(arguments.split_whitespace())
        .arg(&out)
        .output()
        .unwrap();
    assert!(run.status.success(), "ffmpeg {arguments}: {}", String::from_utf8_lossy(&run.stderr));
    out
}

pub(crate) const X264: &str =
    "-f lavfi -i testsrc2=size=320x180:rate=25:duration=3 -c:v libx264 -preset veryfast -pix_fmt yuv420p";
pub(crate) const X264_AAC: &str = "-f lavfi -i testsrc2=size=320x180:rate=25:duration=3 -f lavfi -i sine=440:sample_rate=48000:duration=3 -c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a aac";
pub(crate) const X265: &str =
    "-f lavfi -i testsrc2=size=320x180:rate=25:duration=3 -c:v libx265 -preset ultrafast -tag:v hvc1";

/// A packet as ffprobe sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) stream: usize,
    pub(crate) pts: i64,
    pub(crate) dts: i64,
    pub(crate) size: usize,
    pub(crate) key: bool,
    pub(crate) adler32: u32,
}

/// The packets of a file.
pub(crate) fn packets(file: &Path) -> Vec<Packet> {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-show_packets", "-show_data_hash", "adler32", "-of", "json"])
        .arg(file)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.stderr.is_empty(), "ffprobe {}: {}", file.display(), String::from_utf8_lossy(&out.stderr));
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let int = |v: &serde_json::Value| v.as_i64().unwrap_or(i64::MIN);
    json["packets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| Packet {
            stream: p["stream_index"].as_u64().unwrap() as usize,
            pts: int(&p["pts"]),
            dts: int(&p["dts"]),
            size: p["size"].as_str().unwrap().parse().unwrap(),
            key: p["flags"].as_str().unwrap().contains('K'),
            adler32: u32::from_str_radix(
                p["data_hash"].as_str().unwrap().split(':').next_back().unwrap(),
                16,
            )
            .unwrap(),
        })
        .collect()
}

/// `ffprobe -show_entries` of streams, as one line each.
pub(crate) fn streams(file: &Path, entries: &str) -> Vec<String> {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", &format!("stream={entries}"), "-of", "csv=p=0"])
        .arg(file)
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).filter(|l| !l.is_empty()).collect()
}

/// Decodes a file; anything the decoder complains of fails the test. The number of frames of stream `map`.
pub(crate) fn decode(file: &Path, map: &str) -> usize {
    let out = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "warning", "-i"])
        .arg(file)
        .args(["-map", map, "-fps_mode", "passthrough", "-f", "framecrc", "-"])
        .output()
        .unwrap();
    // A squeezed history in a transport stream makes the probe of the frame rate stumble, nothing else.
    let complaints = String::from_utf8_lossy(&out.stderr);
    let complaints: Vec<&str> = complaints
        .lines()
        .filter(|line| !line.is_empty() && !line.contains("DTS discontinuity in stream 0"))
        .collect();
    assert!(out.status.success() && complaints.is_empty(), "{complaints:?}");
    String::from_utf8(out.stdout).unwrap().lines().filter(|line| !line.starts_with('#')).count()
}

pub(crate) fn adler32(data: &[u8]) -> u32 {
    let (a, b) = data.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

/// What a demuxer gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Demuxed {
    pub(crate) tracks: Vec<Parameters>,
    pub(crate) units: Vec<(usize, Unit)>,
    pub(crate) changes: Vec<(usize, Parameters)>,
    pub(crate) seeks: usize,
}

/// Demuxes an MP4 file in pieces of `piece` bytes.
pub(crate) fn demux_mp4(file: &[u8], piece: usize) -> Result<Demuxed, mp4::Error> {
    let (mut demuxer, mut at, mut out) = (mp4::Demuxer::new(), 0, Demuxed::default());
    loop {
        match demuxer.poll() {
            mp4::Event::NeedData if at >= file.len() => demuxer.end(),
            mp4::Event::NeedData => {
                let end = (at + piece).min(file.len());
                demuxer.push(at as u64, Bytes::copy_from_slice(&file[at..end]));
                at = end;
            }
            mp4::Event::Seek(to) => {
                out.seeks += 1;
                at = usize::try_from(to).unwrap();
            }
            mp4::Event::Tracks(tracks) => out.tracks = tracks,
            mp4::Event::TrackChanged { track, parameters } => out.changes.push((track, parameters)),
            mp4::Event::Unit { track, unit } => out.units.push((track, unit)),
            mp4::Event::Error(error) => return Err(error),
            mp4::Event::End => return Ok(out),
        }
    }
}

/// A demuxed track as packets, sorted as ffprobe lists them per stream.
pub(crate) fn as_packets(demuxed: &Demuxed, track: usize) -> Vec<Packet> {
    demuxed
        .units
        .iter()
        .filter(|(t, _)| *t == track)
        .map(|(_, unit)| Packet {
            stream: track,
            pts: unit.pts,
            dts: unit.dts,
            size: unit.data.len(),
            key: unit.key,
            adler32: adler32(&unit.data),
        })
        .collect()
}

/// Demuxes a transport stream in pieces of `piece` bytes. `tracks` are the parameters that each track began with.
pub(crate) fn demux_ts(
    file: &[u8],
    piece: usize,
    options: mpegts::Options,
) -> Result<Demuxed, mpegts::Error> {
    let (mut demuxer, mut out) = (mpegts::Demuxer::new(options), Demuxed::default());
    let mut pieces = file.chunks(piece);
    loop {
        match demuxer.poll() {
            mpegts::Event::NeedData => match pieces.next() {
                Some(piece) => demuxer.push(&Bytes::copy_from_slice(piece)),
                None => demuxer.end(),
            },
            mpegts::Event::Tracks(tracks) => out.tracks = tracks,
            mpegts::Event::TrackChanged { track, parameters } => out.changes.push((track, parameters)),
            mpegts::Event::Unit { track, unit } => out.units.push((track, unit)),
            mpegts::Event::Error(error) => return Err(error),
            mpegts::Event::End => return Ok(out),
        }
    }
}

/// Demuxes FLV in pieces of `piece` bytes. `tracks` are the parameters that each track began with.
pub(crate) fn demux_flv(file: &[u8], piece: usize) -> Result<Demuxed, flv::Error> {
    let (mut demuxer, mut out) = (flv::Demuxer::new(), Demuxed::default());
    let mut pieces = file.chunks(piece);
    loop {
        match demuxer.poll() {
            flv::Event::NeedData => match pieces.next() {
                Some(piece) => demuxer.push(piece, std::time::Duration::ZERO),
                None => demuxer.end(),
            },
            flv::Event::Tracks(tracks) => out.tracks = tracks,
            flv::Event::TrackChanged { track, parameters } => out.changes.push((track, parameters)),
            flv::Event::Unit { track, unit } => out.units.push((track, unit)),
            flv::Event::Error(error) => return Err(error),
            flv::Event::End => return Ok(out),
        }
    }
}
