//! Transport streams of FFmpeg read, ours read by FFmpeg and by the crate mpeg2ts.

use patchbay_media::{Codec, Kind, Parameters, Unit};
use patchbay_mux::Mode;
use patchbay_mux::mpegts::{MuxOptions, Muxer, Options};
use tempfile::TempDir;

use crate::peers::{
    Demuxed, X264, X264_AAC, X265, adler32, decode, demux_mp4, demux_ts, ffmpeg, folder, packets, streams,
};

const VIDEO: &str = "-f lavfi -i testsrc2=size=320x180:rate=25:duration=3 -f lavfi -i sine=440:sample_rate=48000:duration=3 -c:v libx264 -preset veryfast -pix_fmt yuv420p -bf 0";

/// Clips with different codecs: an MP4 file and the same packets as a transport stream.
fn clips(folder: &TempDir) -> Vec<(String, Demuxed, Vec<u8>)> {
    [
        format!("{X264_AAC} -bf 0 -g 25"),
        format!("{X264} -x264-params bframes=3:b-adapt=0:b-pyramid=normal -g 50"),
        format!("{X264} -bf 0 -x264-params slices=4"),
        format!("{X265} -x265-params log-level=error:info=0:bframes=3:keyint=25"),
        format!("{VIDEO} -c:a libopus"),
        format!("{VIDEO} -c:a libmp3lame"),
        format!("{VIDEO} -c:a aac -ar 44100 -ac 2"),
    ]
    .into_iter()
    .map(|arguments| {
        let file = ffmpeg(folder, &arguments, "clip.mp4");
        let ts = ffmpeg(folder, &format!("-i {} -c copy", file.display()), "clip.ts");
        (arguments, demux_mp4(&std::fs::read(&file).unwrap(), 1 << 16).unwrap(), std::fs::read(ts).unwrap())
    })
    .collect()
}

fn of(demuxed: &Demuxed, track: usize) -> Vec<&Unit> {
    demuxed.units.iter().filter(|(t, _)| *t == track).map(|(_, unit)| unit).collect()
}

/// The units of `left` are those of `right`, with the same distances in 90 kHz, give or take `slack` ticks.
fn assert_same_units(left: &Demuxed, right: &Demuxed, track: usize, slack: i64, what: &str) {
    let (a, b) = (of(left, track), of(right, track));
    assert_eq!(a.len(), b.len(), "{what}: units of track {track}");
    let ticks =
        |demuxed: &Demuxed, ticks: i64| ticks as f64 * 90_000.0 / f64::from(demuxed.tracks[track].clock_rate);
    for (index, (x, y)) in a.iter().zip(&b).enumerate() {
        assert_eq!(
            (x.data.len(), adler32(&x.data), x.key),
            (y.data.len(), adler32(&y.data), y.key),
            "{what}: unit {index} of track {track}"
        );
        for (from, to) in [(x.pts - a[0].pts, y.pts - b[0].pts), (x.dts - a[0].dts, y.dts - b[0].dts)] {
            let apart = (ticks(left, from) - ticks(right, to)).abs();
            assert!(
                apart <= slack as f64 + 0.001,
                "{what}: unit {index} of track {track} is {apart} ticks off"
            );
        }
    }
}

#[test]
fn streams_of_ffmpeg() {
    let Some(folder) = folder() else { return };
    for (what, mp4, ts) in clips(&folder) {
        let demuxed = demux_ts(&ts, 1_000, Options::default()).unwrap();
        // MP4 files say two channels for any MP3.
        let channels = |t: &Parameters| if t.codec == Codec::Mp3 { 0 } else { t.channels };
        let list = |d: &Demuxed| -> Vec<_> {
            d.tracks.iter().map(|t| (t.codec, t.width, t.height, t.sample_rate, channels(t))).collect()
        };
        assert_eq!(list(&demuxed), list(&mp4), "{what}");
        assert!(demuxed.changes.is_empty(), "{what}");
        for track in 0..mp4.tracks.len() {
            assert_same_units(&mp4, &demuxed, track, 2, &what);
        }
        for piece in [1, 188, 1 << 20] {
            assert_eq!(
                demux_ts(&ts, piece, Options::default()).unwrap(),
                demuxed,
                "{what}: pieces of {piece}"
            );
        }
        assert!(of(&demuxed, 0).iter().all(|unit| !unit.discontinuity), "{what}");
    }
}

#[test]
fn aac_in_loas() {
    let Some(folder) = folder() else { return };
    let mp4 = ffmpeg(&folder, "-f lavfi -i sine=440:sample_rate=48000:duration=2 -c:a aac", "sound.mp4");
    let ts = ffmpeg(&folder, &format!("-i {} -c copy -mpegts_flags latm", mp4.display()), "sound.ts");
    let demuxed = demux_ts(&std::fs::read(ts).unwrap(), 500, Options::default()).unwrap();
    assert_same_units(&demux_mp4(&std::fs::read(mp4).unwrap(), 500).unwrap(), &demuxed, 0, 1, "LOAS");
    assert_eq!((demuxed.tracks[0].sample_rate, demuxed.tracks[0].channels), (48_000, 1));
}

/// Packets with times in front, packets lost, bytes before.
#[test]
fn damaged_streams() {
    let Some(folder) = folder() else { return };
    let file = ffmpeg(&folder, &format!("{X264} -bf 0 -g 10"), "clip.ts");
    let clean = std::fs::read(file).unwrap();
    let whole = demux_ts(&clean, 1 << 16, Options::default()).unwrap();
    let m2ts: Vec<u8> = clean.chunks(188).flat_map(|packet| [&[1, 2, 3, 4], packet].concat()).collect();
    assert!(demux_ts(&m2ts, 777, Options::default()).unwrap() == whole, "192 bytes");
    let parity: Vec<u8> = clean.chunks(188).flat_map(|packet| [packet, &[0x47; 16]].concat()).collect();
    assert_eq!(demux_ts(&parity, 777, Options::default()).unwrap().units.len(), whole.units.len());
    let late = [&[0x47, 3, 9, 0x47][..], &clean[..]].concat();
    assert!(demux_ts(&late, 777, Options::default()).unwrap() == whole, "bytes before");
    // Each packet lost in turn: every unit that comes is one of the whole stream and decodable.
    let count = clean.len() / 188;
    for lost in (0..count).step_by(3) {
        let bytes = [&clean[..lost * 188], &clean[(lost + 1) * 188..]].concat();
        let demuxed = demux_ts(&bytes, 1 << 16, Options::default()).unwrap();
        let all = of(&whole, 0);
        let mut need_key = true;
        let mut next = 0;
        for unit in of(&demuxed, 0) {
            let at = all.iter().position(|u| u.pts == unit.pts).unwrap();
            assert!(all[at].data == unit.data, "packet {lost} lost: a broken unit");
            need_key |= at != next;
            assert!(!need_key || unit.key, "packet {lost} lost: a unit that refers to a lost one");
            assert!(next == 0 || !need_key || unit.discontinuity, "packet {lost} lost: not marked");
            need_key = false;
            next = at + 1;
        }
        assert!(all.len() - next < 11);
    }
    assert!(demux_ts(b"GET / HTTP/1.1\r\n\r\n", 5, Options::default()).is_err());
}

/// Continuity and times jump back and the picture changes its size, as a camera does.
#[test]
fn a_camera_that_starts_anew() {
    let Some(folder) = folder() else { return };
    let one = std::fs::read(ffmpeg(&folder, &format!("{X264_AAC} -bf 0 -g 25"), "one.ts")).unwrap();
    let two = X264_AAC.replace("320x180", "640x360");
    let two = std::fs::read(ffmpeg(&folder, &format!("{two} -bf 0 -g 25"), "two.ts")).unwrap();
    let demuxed = demux_ts(&[one, two].concat(), 1_316, Options::default()).unwrap();
    let video = of(&demuxed, 0);
    assert_eq!(video.len(), 150);
    assert_eq!(demuxed.changes.len(), 1);
    assert_eq!((demuxed.changes[0].1.width, demuxed.changes[0].1.height), (640, 360));
    assert!(video.windows(2).all(|w| (1..=9_000).contains(&(w[1].dts - w[0].dts))), "times go on");
    assert!(video[75].discontinuity && video[75].key);
    // Sound and picture stay together within 50 ms.
    let ahead = |second: usize, track: usize| {
        let units = of(&demuxed, track);
        units[if second == 0 { 0 } else { units.iter().position(|u| u.discontinuity).unwrap() }].pts
    };
    let apart = (ahead(1, 1) - ahead(1, 0)) - (ahead(0, 1) - ahead(0, 0));
    assert!(apart.abs() < 4_500, "{apart}");
}

fn mux(demuxed: &Demuxed, join: Option<usize>) -> Vec<u8> {
    let mut muxer = Muxer::new(&demuxed.tracks, MuxOptions::default()).unwrap();
    let (mut out, mut gop): (Vec<u8>, Vec<Unit>) = (Vec::new(), Vec::new());
    for (index, (track, unit)) in demuxed.units.iter().enumerate() {
        if Some(index) == join {
            out.clear();
            out.extend_from_slice(&muxer.history(&gop, 0, Mode::Squeezed));
        }
        if let Some(chunk) = muxer.push(*track, unit) {
            assert!(chunk.patches.is_empty() && chunk.data.len() % 188 == 0);
            out.extend_from_slice(&chunk.data);
        }
        if *track == 0 {
            if unit.key {
                gop.clear();
            }
            gop.push(unit.clone());
        }
    }
    out
}

#[test]
fn our_streams_read_by_ffmpeg() {
    let Some(folder) = folder() else { return };
    for (what, mut mp4, _) in clips(&folder) {
        // The muxer begins with the first key picture.
        let first = mp4.units.iter().position(|(t, u)| *t == 0 && u.key).unwrap();
        mp4.units.drain(..first);
        let ts = mux(&mp4, None);
        check_layers(&ts);
        let path = folder.path().join("ours.ts");
        std::fs::write(&path, &ts).unwrap();
        for (index, track) in mp4.tracks.iter().enumerate() {
            assert!(decode(&path, &format!("0:{index}")) >= 50, "{what}");
            let (seen, ours) = (packets(&path), of(&mp4, index));
            let seen: Vec<_> = seen.iter().filter(|p| p.stream == index).collect();
            assert_eq!(seen.len(), ours.len(), "{what}");
            for (packet, unit) in seen.iter().zip(&ours) {
                let expected = (unit.pts - ours[0].pts) as f64 * 90_000.0 / f64::from(track.clock_rate);
                assert!(((packet.pts - seen[0].pts) as f64 - expected).abs() <= 1.0, "{what}");
                if track.codec.kind() == Kind::Video {
                    assert_eq!(packet.key, unit.key, "{what}");
                } else if matches!(track.codec, Codec::Mp3 | Codec::Opus) {
                    assert_eq!(packet.adler32, adler32(&unit.data), "{what}");
                }
            }
        }
        // And by ourselves: the very units.
        let again = demux_ts(&ts, 1_000, Options::default()).unwrap();
        for track in 0..mp4.tracks.len() {
            assert_same_units(&mp4, &again, track, 1, &what);
        }
    }
}

#[test]
fn a_late_viewer_of_a_stream() {
    let Some(folder) = folder() else { return };
    for arguments in [
        format!("{X264_AAC} -bf 0 -g 75 -sc_threshold 0"),
        format!("{X264} -x264-params bframes=3:b-adapt=0:keyint=75:scenecut=0"),
    ] {
        let file = ffmpeg(&folder, &arguments, "clip.mp4");
        let demuxed = demux_mp4(&std::fs::read(&file).unwrap(), 1 << 16).unwrap();
        let join = demuxed.units.len() * 3 / 4;
        let ts = mux(&demuxed, Some(join));
        check_layers(&ts);
        let path = folder.path().join("late.ts");
        std::fs::write(&path, &ts).unwrap();
        assert_eq!(decode(&path, "0:0"), 75, "no picture is missing");
        let again = demux_ts(&ts, 1_000, Options::default()).unwrap();
        let (ours, theirs) = (of(&demuxed, 0), of(&again, 0));
        assert_eq!(
            ours.iter().map(|u| &u.data).collect::<Vec<_>>(),
            theirs.iter().map(|u| &u.data).collect::<Vec<_>>()
        );
        assert!(theirs.iter().all(|unit| !unit.discontinuity), "counters go on");
        let before = demuxed.units[..join].iter().filter(|(t, _)| *t == 0).count();
        assert!(theirs[before].dts - theirs[0].dts < 2 * 3_600 + 100, "history takes no time");
        let mut order: Vec<usize> = (0..75).collect();
        order.sort_by_key(|i| ours[*i].pts);
        assert!(order.windows(2).all(|w| theirs[w[0]].pts < theirs[w[1]].pts));
    }
}

#[test]
fn what_players_are_told() {
    let Some(folder) = folder() else { return };
    let file = ffmpeg(&folder, &format!("{VIDEO} -c:a libopus"), "clip.mp4");
    let path = folder.path().join("ours.ts");
    std::fs::write(&path, mux(&demux_mp4(&std::fs::read(&file).unwrap(), 1 << 16).unwrap(), None)).unwrap();
    // Listed by program, and again alone.
    assert_eq!(streams(&path, "codec_name,width,sample_rate,channels")[..2], ["h264,320", "opus,48000,1"]);
}

/// Counters, tables every 100 ms, clocks every 40 ms and ahead of the times they lead; all packets parsed by mpeg2ts.
fn check_layers(ts: &[u8]) {
    use mpeg2ts::ts::{ReadTsPacket, TsPacketReader, TsPayload};
    let mut reader = TsPacketReader::new(ts);
    let mut counters = std::collections::HashMap::new();
    let (mut last_pcr, mut last_tables, mut video_dts): (Option<u64>, _, Option<u64>) = (None, 0, None);
    while let Some(packet) = reader.read_ts_packet().unwrap() {
        let pid = packet.header.pid.as_u16();
        let counter = packet.header.continuity_counter.as_u8();
        if packet.payload.is_some() {
            let before = counters.insert(pid, counter);
            assert!(before.is_none_or(|before| (before + 1) % 16 == counter), "counter of {pid:#x}");
        }
        if let Some(pcr) = packet.adaptation_field.as_ref().and_then(|field| field.pcr) {
            let pcr = pcr.as_u64() / 300;
            assert!(last_pcr.is_none_or(|last| pcr > last && pcr - last <= 3_620), "{last_pcr:?} {pcr}");
            last_pcr = Some(pcr);
            assert!(pcr - last_tables <= 9_000 + 3_600 || last_tables == 0, "tables");
        }
        match &packet.payload {
            Some(TsPayload::Pat(_)) => last_tables = last_pcr.unwrap_or(0),
            Some(TsPayload::PesStart(pes)) => {
                let pts = pes.header.pts.unwrap().as_u64();
                let dts = pes.header.dts.map_or(pts, |dts| dts.as_u64());
                let ahead = dts - last_pcr.unwrap();
                assert!((9_000..=36_000).contains(&ahead), "{ahead} ticks ahead of the clock");
                if pid == 0x100 {
                    assert!(video_dts.is_none_or(|last| last < dts));
                    video_dts = Some(dts);
                }
            }
            _ => {}
        }
    }
    assert!(video_dts.is_some());
}
