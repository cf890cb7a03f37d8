//! The fragmented MP4 muxer, its output read by FFmpeg and by mp4-atom.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use patchbay_media::{Codec, Kind, Parameters, Unit};
use patchbay_mux::fmp4::{Muxer, Options};
use patchbay_mux::{Chunk, Mode, PatchKind};
use tempfile::TempDir;

use crate::peers::{
    Demuxed, X264, X264_AAC, X265, adler32, decode, demux_mp4, ffmpeg, folder, packets, streams,
};

fn clip(folder: &TempDir, arguments: &str) -> Demuxed {
    let file = ffmpeg(folder, arguments, "clip.mp4");
    demux_mp4(&std::fs::read(file).unwrap(), 1 << 16).unwrap()
}

/// What a viewer that joined with `starts` receives of a live chunk, by the rules of [`patchbay_mux::Patch`].
fn for_viewer(chunk: &Chunk, starts: &[i64], number: u32) -> Bytes {
    let mut data = BytesMut::from(&chunk.data[..]);
    for patch in chunk.patches.iter() {
        let at = usize::from(patch.offset);
        match patch.kind {
            PatchKind::TimeU64 => {
                let time = i64::from_be_bytes(data[at..at + 8].try_into().unwrap());
                let moved = time.wrapping_sub(starts[usize::from(patch.track)]).max(0);
                data[at..at + 8].copy_from_slice(&moved.to_be_bytes());
            }
            PatchKind::SequenceU32 => data[at..at + 4].copy_from_slice(&number.to_be_bytes()),
            other => panic!("{other:?} in MP4"),
        }
    }
    data.freeze()
}

/// The file of a viewer that joins after `join` units with `mode`, or at the first key unit.
fn view(demuxed: &Demuxed, options: Options, join: usize, mode: Option<Mode>) -> (Muxer, Vec<u8>) {
    let mut muxer = Muxer::new(&demuxed.tracks, options).unwrap();
    let lead = demuxed.tracks.iter().position(|t| t.codec.kind() == Kind::Video).unwrap_or(0);
    let mut file = muxer.init().to_vec();
    let (mut starts, mut number) = (None, 0);
    let mut gop: Vec<Unit> = Vec::new();
    let first = if mode.is_none() { demuxed.units.iter().position(|(t, _)| *t == lead).unwrap() } else { 0 };
    for (index, (track, unit)) in demuxed.units.iter().enumerate().skip(first) {
        if index == join.max(first) {
            starts = Some(match mode {
                Some(mode) => {
                    let history = muxer.history(&gop, lead, mode);
                    file.extend_from_slice(&history.data);
                    history.starts
                }
                // Viewers without history begin with a key unit.
                None => {
                    let key = demuxed.units[index..].iter().find(|(t, u)| *t == lead && u.key).unwrap();
                    muxer.starts(Some((lead, &key.1)))
                }
            });
        }
        if let Some(chunk) = muxer.push(*track, unit)
            && let Some(starts) = &starts
        {
            number += 1;
            file.extend_from_slice(&for_viewer(&chunk, starts, number));
        }
        if *track == lead {
            if unit.key {
                gop.clear();
            }
            gop.push(unit.clone());
        }
    }
    if let (Some(chunk), Some(starts)) = (muxer.flush(), &starts) {
        file.extend_from_slice(&for_viewer(&chunk, starts, number + 1));
    }
    (muxer, file)
}

fn save(folder: &TempDir, file: &[u8]) -> PathBuf {
    let path = folder.path().join("view.mp4");
    std::fs::write(&path, file).unwrap();
    path
}

/// Every unit of a track, whole and with exact distances of presentation times.
fn assert_all_there(demuxed: &Demuxed, path: &std::path::Path, track: usize, stream: usize) {
    let begin = demuxed.units.iter().position(|(t, u)| *t == 0 && u.key).unwrap();
    let ours: Vec<&Unit> =
        demuxed.units[begin..].iter().filter(|(t, _)| *t == track).map(|(_, u)| u).collect();
    let theirs: Vec<_> = packets(path).into_iter().filter(|p| p.stream == stream).collect();
    assert_eq!(ours.len(), theirs.len());
    for (unit, packet) in ours.iter().zip(&theirs) {
        assert_eq!(
            (unit.data.len(), adler32(&unit.data), unit.key),
            (packet.size, packet.adler32, packet.key)
        );
        assert_eq!(unit.pts - ours[0].pts, packet.pts - theirs[0].pts);
        assert!(packet.dts <= packet.pts);
    }
    assert!(theirs.windows(2).all(|w| w[0].dts < w[1].dts));
}

#[test]
fn units_arrive_whole_and_on_time() {
    let Some(folder) = folder() else { return };
    for (arguments, mime) in [
        (format!("{X264_AAC} -bf 0 -g 25"), "video/mp4; codecs=\"avc1.64000C,mp4a.40.2\""),
        (format!("{X264} -x264-params bframes=3:b-adapt=0 -g 50"), "video/mp4; codecs=\"avc1.64000C\""),
        (format!("{X265} -x265-params log-level=error:bframes=3"), "video/mp4; codecs=\"hvc1.1.6.L60.90\""),
        (
            format!("{X264} -bf 0 -f lavfi -i sine=440:duration=3 -map 0 -map 1 -c:a libopus"),
            "video/mp4; codecs=\"avc1.64000C,opus\"",
        ),
        ("-f lavfi -i sine=440:duration=2 -c:a libmp3lame".to_owned(), "video/mp4; codecs=\"mp4a.6B\""),
        ("-f lavfi -i sine=440:duration=2 -c:a flac -strict -2".to_owned(), "video/mp4; codecs=\"flac\""),
    ] {
        let arguments = if arguments.contains("libopus") {
            "-f lavfi -i testsrc2=size=320x180:rate=25:duration=3 -f lavfi -i sine=440:duration=3 -c:v libx264 -preset veryfast -pix_fmt yuv420p -bf 0 -c:a libopus".to_owned()
        } else {
            arguments
        };
        let demuxed = clip(&folder, &arguments);
        for audio_group_ms in [0, 60] {
            let options = Options { audio_group_ms, ..Options::default() };
            let (muxer, file) = view(&demuxed, options, 0, None);
            assert_eq!(muxer.mime(), mime);
            let path = save(&folder, &file);
            for (index, track) in demuxed.tracks.iter().enumerate() {
                if index == 0 || track.codec.kind() == Kind::Audio && audio_group_ms == 0 {
                    assert_all_there(&demuxed, &path, index, index);
                }
                let frames = decode(&path, &format!("0:{index}"));
                assert!(frames >= 20, "{frames} frames of {arguments}");
            }
            assert!(packets(&path).iter().map(|p| p.dts).min().unwrap() >= 0);
        }
    }
}

#[test]
fn a_header_that_players_understand() {
    let Some(folder) = folder() else { return };
    let demuxed = clip(&folder, &format!("{X264_AAC} -bf 0 -g 25"));
    let (muxer, file) = view(&demuxed, Options::default(), 0, None);
    assert_eq!(&muxer.init()[..28], b"\x00\x00\x00\x1cftypiso5\x00\x00\x02\x00iso5iso6mp41");
    let path = save(&folder, &file);
    assert_eq!(
        streams(&path, "codec_name,codec_tag_string,width,height,sample_rate,channels,time_base"),
        ["h264,avc1,320,180,1/12800", "aac,mp4a,48000,1,1/48000"]
    );
    let hevc = clip(&folder, &format!("{X265} -x265-params log-level=error"));
    let (_, file) = view(&hevc, Options::default(), 0, None);
    assert_eq!(streams(&save(&folder, &file), "codec_name,codec_tag_string"), ["hevc,hvc1"]);
}

/// Each fragment must follow the one before without a hole: browsers wait for a key picture after one.
#[test]
fn decoding_times_have_no_holes_whatever_the_frame_rate_does() {
    let parameters =
        Parameters { extradata: avcc(), width: 320, height: 180, ..Parameters::video(Codec::H264, 90_000) };
    let mut muxer = Muxer::new(&[parameters], Options::default()).unwrap();
    let mut now = 1_000_000;
    let mut expected = None;
    for (index, step) in
        [3_600, 3_600, 20_000, 3_000, 7_200, 3_600, 200, 3_600, 89_000, 3_600].into_iter().enumerate()
    {
        now += step;
        let unit = Unit::new(now, index == 0, Bytes::from_static(b"\0\0\0\x02\x65\x88"));
        let chunk = muxer.push(0, &unit).unwrap();
        let (decode, sample) = only_sample(&chunk.data);
        assert_eq!(decode + sample.2, now, "presentation");
        if let Some(expected) = expected {
            assert_eq!(decode, expected);
        }
        expected = Some(decode + i64::from(sample.0));
        assert_eq!(chunk.key, index == 0);
        assert_eq!(chunk.patches.len(), 2);
    }
    // An outage stays a hole, at a key picture.
    let unit = Unit::new(now + 900_000, true, Bytes::from_static(b"\0\0\0\x02\x65\x88"));
    let starts = muxer.starts(Some((0, &unit)));
    let (decode, sample) = only_sample(&muxer.push(0, &unit).unwrap().data);
    assert_eq!((decode, sample.0), (now + 900_000 - 3_600, 3_600));
    assert_eq!(starts, [decode]);
}

/// Baseline 320x180 as x264 writes it.
fn avcc() -> Bytes {
    const SPS: [u8; 22] = [
        0x67, 0x42, 0xc0, 0x0d, 0xd9, 0x01, 0x41, 0x96, 0x9b, 0x80, 0x88, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00,
        0x00, 0x03, 0x01, 0x90, 0x78,
    ];
    patchbay_media::h264::avcc(&[&SPS], &[&[0x68, 0xcb, 0x83, 0xcb, 0x20]])
}

/// Decoding time, and duration, size and composition offset of the only sample, as mp4-atom reads them.
fn only_sample(chunk: &[u8]) -> (i64, (u32, u32, i64)) {
    use mp4_atom::Decode;
    let moof = mp4_atom::Moof::decode(&mut &chunk[..]).unwrap();
    let traf = &moof.traf[0];
    let time = i64::try_from(traf.tfdt.as_ref().unwrap().base_media_decode_time).unwrap();
    let entry = traf.trun[0].samples.get(0).unwrap();
    (time, (entry.duration.unwrap(), entry.size.unwrap(), entry.cts.unwrap_or(0)))
}

#[test]
fn a_late_viewer_sees_the_newest_picture() {
    let Some(folder) = folder() else { return };
    for (arguments, live_from) in [
        (format!("{X264_AAC} -bf 0 -g 75 -sc_threshold 0"), 60),
        (format!("{X264} -x264-params bframes=3:b-adapt=0:keyint=75:scenecut=0"), 150),
    ] {
        let demuxed = clip(&folder, &arguments);
        for join in
            [2, demuxed.units.len() * 3 / 4, demuxed.units.len() * 3 / 4 + 1, demuxed.units.len() * 3 / 4 + 2]
        {
            let rate = i64::from(demuxed.tracks[0].clock_rate);
            let (_, file) = view(&demuxed, Options::default(), join, Some(Mode::Squeezed));
            let path = save(&folder, &file);
            let units: Vec<&Unit> = demuxed.units.iter().filter(|(t, _)| *t == 0).map(|(_, u)| u).collect();
            let before = demuxed.units[..join].iter().filter(|(t, _)| *t == 0).count();
            let seen: Vec<_> = packets(&path).into_iter().filter(|p| p.stream == 0).collect();
            assert_eq!(seen.len(), units.len(), "no picture is missing");
            assert_eq!(decode(&path, "0:0"), units.len());
            for (unit, packet) in units.iter().zip(&seen) {
                assert_eq!((adler32(&unit.data), unit.key), (packet.adler32, packet.key));
            }
            // Live units keep their distances.
            for (unit, packet) in units.iter().zip(&seen).skip(before) {
                assert_eq!(unit.pts - units[before].pts, packet.pts - seen[before].pts);
            }
            // The order of presentation is that of the stream.
            let mut order: Vec<usize> = (0..units.len()).collect();
            order.sort_by_key(|i| units[*i].pts);
            assert!(order.windows(2).all(|w| seen[w[0]].pts < seen[w[1]].pts), "order of pictures");
            // All but the last few pictures of the history are over within 10 ms, live begins a frame later; three with B-frames.
            let reordered = units[..before].iter().filter(|u| u.pts > units[before - 1].dts).count();
            assert!(reordered <= 4);
            let first_live = seen.iter().skip(before).map(|p| p.pts).min().unwrap();
            assert!(first_live <= rate * live_from / 1_000, "live begins at {first_live} of {rate}");
            let zero = packets(&path).iter().map(|p| p.dts).min().unwrap();
            assert_eq!(zero, 0, "the viewer's clock begins at 0");
        }
        let (_, file) = view(&demuxed, Options::default(), 40, Some(Mode::Raw));
        let path = save(&folder, &file);
        assert_all_there(&demuxed, &path, 0, 0);
        assert!(decode(&path, "0:0") == 75);
    }
}

#[test]
fn sound_stays_with_the_picture() {
    let Some(folder) = folder() else { return };
    let demuxed = clip(&folder, &format!("{X264_AAC} -bf 0 -g 25"));
    for (join, mode) in
        [(0, None), (100, Some(Mode::Squeezed)), (101, Some(Mode::Raw)), (60, Some(Mode::Squeezed))]
    {
        let (_, file) = view(&demuxed, Options::default(), join, mode);
        let seen = packets(&save(&folder, &file));
        // Source and viewer times of each whole packet, in microseconds: one constant for both tracks.
        let us = |ticks: i64, track: usize| ticks * 1_000_000 / i64::from(demuxed.tracks[track].clock_rate);
        let shift = |track: usize| {
            let last = seen.iter().rfind(|p| p.stream == track).unwrap();
            let unit =
                demuxed.units.iter().rfind(|(t, u)| *t == track && adler32(&u.data) == last.adler32).unwrap();
            us(unit.1.pts, track) - us(last.pts, track)
        };
        assert!((shift(0) - shift(1)).abs() <= 100, "{} {}", shift(0), shift(1));
    }
}

#[test]
fn a_still_is_a_file_of_one_picture() {
    let Some(folder) = folder() else { return };
    let demuxed = clip(&folder, &format!("{X264_AAC} -bf 0 -g 25"));
    let muxer = Muxer::new(&demuxed.tracks, Options::default()).unwrap();
    let path =
        save(&folder, &muxer.keyframe(0, &demuxed.units.iter().find(|(t, _)| *t == 0).unwrap().1).unwrap());
    assert_eq!(streams(&path, "codec_name").len(), 1);
    assert_eq!(decode(&path, "0:0"), 1);
}

#[test]
fn pcm_comes_out_as_flac() {
    let Some(folder) = folder() else { return };
    for (codec, channels) in [("pcm_alaw", 1), ("pcm_mulaw", 1), ("pcm_s16le", 2), ("pcm_s16be", 2)] {
        let sound = format!("-f lavfi -i sine=440:sample_rate=8000:duration=2 -ac {channels}");
        let file = ffmpeg(&folder, &format!("{sound} -c:a {codec}"), "sound.mov");
        let demuxed = demux_mp4(&std::fs::read(&file).unwrap(), 4_096).unwrap();
        let (muxer, fmp4) = view(&demuxed, Options::default(), 0, None);
        assert_eq!(muxer.mime(), "video/mp4; codecs=\"flac\"");
        let path = save(&folder, &fmp4);
        let ours = ffmpeg(&folder, &format!("-i {} -f s16le", path.display()), "ours");
        let theirs = ffmpeg(&folder, &format!("-i {} -f s16le", file.display()), "theirs");
        assert_eq!(std::fs::read(ours).unwrap(), std::fs::read(theirs).unwrap(), "{codec}");
    }
    let odd = Parameters::audio(Codec::PcmAlaw, 11_000, 1);
    let error = Muxer::new(&[odd], Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "mp4: unsupported codec: pcm_alaw");
}
