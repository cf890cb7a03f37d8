//! FLV of FFmpeg read, ours read by FFmpeg.

use std::path::Path;

use patchbay_media::{Codec, Unit};
use patchbay_mux::Mode;
use patchbay_mux::flv::Muxer;
use tempfile::TempDir;

use crate::peers::{
    Demuxed, X264, X264_AAC, adler32, decode, demux_flv, demux_mp4, ffmpeg, folder, packets, streams,
};

const VIDEO: &str = "-f lavfi -i testsrc2=size=320x180:rate=25:duration=3 -f lavfi -i sine=440:sample_rate=44100:duration=3 -c:v libx264 -preset veryfast -pix_fmt yuv420p -bf 0";

/// Clips with different codecs: an MP4 or Matroska file and the same packets as FLV.
fn clips(folder: &TempDir) -> Vec<(String, Option<Demuxed>, std::path::PathBuf)> {
    [
        (format!("{X264_AAC} -bf 0 -g 25"), "mp4"),
        (format!("{X264} -x264-params bframes=3:b-adapt=0:b-pyramid=normal -g 50"), "mp4"),
        (format!("{VIDEO} -c:a libmp3lame"), "mp4"),
        (format!("{VIDEO} -c:a pcm_alaw -ar 8000 -ac 1"), "mov"),
        (format!("{VIDEO} -c:a pcm_s16le -ar 44100 -ac 2"), "mov"),
    ]
    .into_iter()
    .enumerate()
    .map(|(index, (arguments, form))| {
        let file = ffmpeg(folder, &arguments, &format!("clip{index}.{form}"));
        let flv = ffmpeg(folder, &format!("-i {} -c copy", file.display()), &format!("clip{index}.flv"));
        let mp4 = (form == "mp4").then(|| demux_mp4(&std::fs::read(&file).unwrap(), 1 << 16).unwrap());
        (arguments, mp4, flv)
    })
    .collect()
}

fn of(demuxed: &Demuxed, track: usize) -> Vec<&Unit> {
    demuxed.units.iter().filter(|(t, _)| *t == track).map(|(_, unit)| unit).collect()
}

/// Units as ffprobe sees the packets of `file`, times from the first of each track on.
fn assert_as_ffprobe(demuxed: &Demuxed, file: &Path, what: &str) {
    let listed = packets(file);
    for (track, parameters) in demuxed.tracks.iter().enumerate() {
        let theirs: Vec<_> = listed.iter().filter(|p| p.stream == track).collect();
        let ours = of(demuxed, track);
        assert_eq!(ours.len(), theirs.len(), "{what}: units of track {track}");
        for (unit, packet) in ours.iter().zip(&theirs) {
            assert_eq!((unit.pts, unit.dts, unit.key), (packet.pts, packet.dts, packet.key), "{what}");
            // FFmpeg's packets keep parameter sets and delimiters that units do not have.
            if !matches!(parameters.codec, Codec::H264) {
                assert_eq!((unit.data.len(), adler32(&unit.data)), (packet.size, packet.adler32), "{what}");
            }
        }
    }
}

#[test]
fn files_of_ffmpeg() {
    let Some(folder) = folder() else { return };
    for (what, mp4, path) in clips(&folder) {
        let flv = std::fs::read(&path).unwrap();
        let demuxed = demux_flv(&flv, 1_000).unwrap();
        assert!(demuxed.changes.is_empty(), "{what}");
        assert_as_ffprobe(&demuxed, &path, &what);
        if let Some(mp4) = mp4 {
            for track in 0..mp4.tracks.len() {
                let (a, b) = (of(&mp4, track), of(&demuxed, track));
                assert_eq!(a.len(), b.len(), "{what}");
                assert!(a.iter().zip(&b).all(|(x, y)| x.data == y.data && x.key == y.key), "{what}");
            }
            let shape =
                |d: &Demuxed| d.tracks.iter().map(|t| (t.codec, t.width, t.sample_rate)).collect::<Vec<_>>();
            assert_eq!(shape(&demuxed), shape(&mp4), "{what}");
        }
        for piece in [1, 1 << 20] {
            assert_eq!(demux_flv(&flv, piece).unwrap(), demuxed, "{what}");
        }
    }
}

/// What our muxer makes of a clip as one stream.
fn muxed(demuxed: &Demuxed) -> Vec<u8> {
    let mut muxer = Muxer::new(&demuxed.tracks).unwrap();
    let mut out = muxer.init().to_vec();
    let (track, first) = &demuxed.units[0];
    out.extend_from_slice(&muxer.start_at(*track, first).data);
    let mut chunks = Vec::new();
    for (track, unit) in &demuxed.units {
        muxer.push(*track, unit, &mut chunks);
    }
    for chunk in chunks {
        out.extend_from_slice(&chunk.data);
    }
    out
}

#[test]
fn ffmpeg_reads_what_is_muxed() {
    let Some(folder) = folder() else { return };
    for (index, (what, _, path)) in clips(&folder).into_iter().enumerate() {
        let mut demuxed = demux_flv(&std::fs::read(&path).unwrap(), 1 << 16).unwrap();
        // Sound before the first picture does not go out.
        let first = demuxed.units.iter().position(|(track, _)| *track == 0).unwrap();
        demuxed.units.drain(..first);
        let ours = folder.path().join(format!("ours{index}.flv"));
        std::fs::write(&ours, muxed(&demuxed)).unwrap();
        let entries = "codec_name,width,height,sample_rate,channels";
        assert_eq!(streams(&ours, entries), streams(&path, entries), "{what}");
        let again = demux_flv(&std::fs::read(&ours).unwrap(), 777).unwrap();
        assert_eq!(again.tracks, demuxed.tracks, "{what}");
        assert_as_ffprobe(&again, &ours, &what);
        for track in 0..demuxed.tracks.len() {
            let (a, b) = (of(&demuxed, track), of(&again, track));
            assert_eq!(a.len(), b.len(), "{what}");
            for (x, y) in a.iter().zip(&b) {
                let times = |u: &Unit, first: &Unit| (u.pts - first.dts, u.dts - first.dts);
                assert_eq!(times(x, a[0]), times(y, b[0]), "{what}");
                assert_eq!(x.data, y.data, "{what}");
            }
            let frames = |file: &Path| decode(file, &format!("0:{track}"));
            assert!(frames(&path) - frames(&ours) <= first, "{what}");
        }
    }
}

#[test]
fn a_viewer_that_joins_late_decodes_everything() {
    let Some(folder) = folder() else { return };
    let path = ffmpeg(&folder, &format!("{X264_AAC} -x264-params bframes=2:b-adapt=0 -g 50"), "join.flv");
    let demuxed = demux_flv(&std::fs::read(&path).unwrap(), 1 << 16).unwrap();
    for mode in [Mode::Squeezed, Mode::Raw] {
        let mut muxer = Muxer::new(&demuxed.tracks).unwrap();
        let mut chunks = Vec::new();
        let (past, live) = demuxed.units.split_at(90);
        past.iter().for_each(|(track, unit)| muxer.push(*track, unit, &mut chunks));
        let pictures: Vec<Unit> = past.iter().filter(|(t, _)| *t == 0).map(|(_, u)| u.clone()).collect();
        let key = pictures.iter().rposition(|unit| unit.key).unwrap();
        let history = muxer.history(&pictures[key..], 0, mode);
        let mut out = [muxer.init().to_vec(), history.data.to_vec()].concat();
        chunks.clear();
        live.iter().for_each(|(track, unit)| muxer.push(*track, unit, &mut chunks));
        for chunk in &chunks {
            let mut data = chunk.data.to_vec();
            for patch in chunk.patches.iter() {
                // What the host does.
                let at = usize::from(patch.offset);
                let time = u32::from_be_bytes([data[at + 3], data[at], data[at + 1], data[at + 2]]);
                let [high, low @ ..] = time.wrapping_sub(history.starts[0] as u32).to_be_bytes();
                data[at..at + 3].copy_from_slice(&low);
                data[at + 3] = high;
            }
            out.extend(data);
        }
        let file = folder.path().join("late.flv");
        std::fs::write(&file, out).unwrap();
        let again = demux_flv(&std::fs::read(&file).unwrap(), 1 << 16).unwrap();
        let expected = pictures.len() - key + live.iter().filter(|(t, _)| *t == 0).count();
        assert_eq!(of(&again, 0).len(), expected, "{mode:?}");
        assert_eq!(decode(&file, "0:v"), expected, "{mode:?}");
        // Sound is a little behind the picture: the clock begins with it, and nothing is squeezed into one instant.
        let first = |track| of(&again, track)[0].dts;
        assert!(
            first(0) < 100 && (first(1) < 100 || mode == Mode::Raw),
            "{mode:?}: {} {}",
            first(0),
            first(1)
        );
        let (sound, theirs) = (of(&again, 1), of(&demuxed, 1));
        let skipped = theirs.len() - sound.len();
        assert!(
            sound
                .windows(2)
                .zip(theirs[skipped..].windows(2))
                .all(|(a, b)| a[1].dts - a[0].dts == b[1].dts - b[0].dts)
        );
        // Live goes on with its own distances: each picture is where it was in the clip.
        let (source, got) = (of(&demuxed, 0), of(&again, 0));
        let (s, g) = (source.len() - 20, got.len() - 20);
        for i in 1..20 {
            assert_eq!(source[s + i].pts - source[s].pts, got[g + i].pts - got[g].pts, "{mode:?}");
        }
    }
}
