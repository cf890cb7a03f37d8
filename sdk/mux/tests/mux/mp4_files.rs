//! MP4 files made by FFmpeg, compared with what ffprobe says of them.

use patchbay_media::Codec;
use tempfile::TempDir;

use crate::peers::{Demuxed, X264, X264_AAC, X265, as_packets, demux_mp4, ffmpeg, folder, packets};

fn same_packets(folder: &TempDir, arguments: &str, name: &str, codecs: &[Codec]) -> Demuxed {
    let file = ffmpeg(folder, arguments, name);
    let bytes = std::fs::read(&file).unwrap();
    let demuxed = demux_mp4(&bytes, 4_096).unwrap();
    assert_eq!(demuxed.tracks.iter().map(|t| t.codec).collect::<Vec<_>>(), codecs, "{name}");
    let expected = packets(&file);
    for track in 0..codecs.len() {
        let ours = as_packets(&demuxed, track);
        let theirs: Vec<_> = expected.iter().filter(|p| p.stream == track).cloned().collect();
        assert_eq!(ours.len(), theirs.len(), "{name}: packets of track {track}");
        for (index, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert_eq!(ours, theirs, "{name}: packet {index} of track {track}");
        }
    }
    // Interleaved by time.
    let seconds = |(track, unit): &(usize, patchbay_media::Unit)| {
        unit.dts as f64 / f64::from(demuxed.tracks[*track].clock_rate)
    };
    assert!(demuxed.units.windows(2).all(|w| seconds(&w[0]) <= seconds(&w[1]) + 1e-9), "{name}: order");
    for piece in [1_usize, 997, 1 << 20] {
        if piece > 1 || bytes.len() < 200_000 {
            let again = demux_mp4(&bytes, piece).unwrap();
            assert_eq!(
                (&again.tracks, &again.units),
                (&demuxed.tracks, &demuxed.units),
                "{name}: pieces of {piece}"
            );
        }
    }
    demuxed
}

#[test]
fn whole_files() {
    let Some(folder) = folder() else { return };
    let plain = same_packets(
        &folder,
        &format!("{X264_AAC} -bf 0 -g 25"),
        "moov-last.mp4",
        &[Codec::H264, Codec::Aac],
    );
    assert_eq!((plain.tracks[0].width, plain.tracks[0].height), (320, 180));
    assert_eq!((plain.tracks[1].sample_rate, plain.tracks[1].channels), (48_000, 1));
    assert!(plain.changes.is_empty());
    let front = format!("{X264_AAC} -bf 0 -g 25 -movflags +faststart");
    assert_eq!(same_packets(&folder, &front, "moov-first.mp4", &[Codec::H264, Codec::Aac]).seeks, 0);
    let b = format!("{X264} -x264-params bframes=3:b-adapt=0:b-pyramid=normal -g 50");
    same_packets(&folder, &b, "b.mp4", &[Codec::H264]);
    same_packets(
        &folder,
        &format!("{b} -movflags +negative_cts_offsets"),
        "negative-cts.mp4",
        &[Codec::H264],
    );
    same_packets(
        &folder,
        &format!("{X265} -x265-params log-level=error:keyint=25:bframes=3"),
        "hevc.mp4",
        &[Codec::Hevc],
    );
    same_packets(&folder, &format!("{X264} -video_track_timescale 1000000"), "million.mp4", &[Codec::H264]);
    let opus = "-f lavfi -i sine=440:sample_rate=48000:duration=3 -c:a libopus";
    let opus = same_packets(&folder, opus, "opus.mp4", &[Codec::Opus]);
    assert_eq!(opus.tracks[0].extradata[..8], *b"OpusHead");
    same_packets(&folder, "-f lavfi -i sine=440:duration=2 -c:a flac -strict -2", "flac.mp4", &[Codec::Flac]);
    same_packets(&folder, "-f lavfi -i sine=440:duration=2 -c:a libmp3lame", "mp3.mp4", &[Codec::Mp3]);
}

#[test]
fn fragmented_files() {
    let Some(folder) = folder() else { return };
    let flags = "-movflags frag_keyframe+empty_moov+default_base_moof";
    same_packets(&folder, &format!("{X264_AAC} -bf 0 -g 25 {flags}"), "frag.mp4", &[Codec::H264, Codec::Aac]);
    same_packets(
        &folder,
        &format!("{X264} -bf 2 -g 25 -movflags frag_every_frame+empty_moov"),
        "every.mp4",
        &[Codec::H264],
    );
    // Samples in moov and fragments behind.
    same_packets(
        &folder,
        &format!("{X264} -bf 0 -g 25 -movflags frag_keyframe"),
        "hybrid.mp4",
        &[Codec::H264],
    );
}

#[test]
fn pcm_of_quicktime() {
    let Some(folder) = folder() else { return };
    for (codec, name) in
        [(Codec::PcmAlaw, "pcm_alaw"), (Codec::PcmS16le, "pcm_s16le"), (Codec::PcmS16be, "pcm_s16be")]
    {
        let sound = "-f lavfi -i sine=440:sample_rate=8000:duration=2 -ac 1";
        let file = ffmpeg(&folder, &format!("{sound} -c:a {name}"), &format!("{name}.mov"));
        let raw = ffmpeg(&folder, &format!("-i {} -c copy -f {}", file.display(), &name[4..]), "raw");
        let demuxed = demux_mp4(&std::fs::read(&file).unwrap(), 4_096).unwrap();
        assert_eq!(demuxed.tracks[0].codec, codec);
        let joined: Vec<u8> = demuxed.units.iter().flat_map(|(_, unit)| unit.data.to_vec()).collect();
        assert_eq!(joined, std::fs::read(&raw).unwrap());
        assert!(demuxed.units.windows(2).all(|w| w[0].1.dts + i64::from(w[0].1.duration) == w[1].1.dts));
    }
}

/// FFmpeg 5 shows both times of such a file later by the most negative offset; the distances are the same.
#[test]
fn fragments_with_negative_composition_offsets() {
    let Some(folder) = folder() else { return };
    let flags = "-movflags frag_keyframe+empty_moov+negative_cts_offsets";
    let file = ffmpeg(&folder, &format!("{X264} -bf 2 -g 25 {flags}"), "frag-negative.mp4");
    let demuxed = demux_mp4(&std::fs::read(&file).unwrap(), 4_096).unwrap();
    let (ours, theirs) = (as_packets(&demuxed, 0), packets(&file));
    assert_eq!(ours.len(), theirs.len());
    for (our, their) in ours.iter().zip(&theirs) {
        assert_eq!(our.pts - ours[0].pts, their.pts - theirs[0].pts);
        assert_eq!((our.dts - ours[0].dts, our.adler32), (their.dts - theirs[0].dts, their.adler32));
    }
    assert_eq!(ours[0].pts, 0);
}
