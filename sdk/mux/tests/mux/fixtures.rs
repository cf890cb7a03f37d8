//! Small clips that are kept, for machines without FFmpeg.

use proptest::prelude::*;

use crate::peers::{Packet, as_packets, demux_mp4, demux_ts};

fn listed(csv: &str) -> Vec<Packet> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        Packet {
            stream: fields[0].parse().unwrap(),
            pts: fields[1].parse().unwrap(),
            dts: fields[2].parse().unwrap(),
            size: fields[3].parse().unwrap(),
            key: fields[4].contains('K'),
            adler32: u32::from_str_radix(fields[5].trim_start_matches("adler32:"), 16).unwrap(),
        }
    };
    csv.lines().filter(|text| !text.is_empty()).map(line).collect()
}

#[test]
fn kept_mp4_files() {
    let whole = (&include_bytes!("../data/h264-aac.mp4")[..], include_str!("../data/h264-aac.mp4.csv"));
    let fragmented =
        (&include_bytes!("../data/h264-aac-frag.mp4")[..], include_str!("../data/h264-aac-frag.mp4.csv"));
    for (file, csv) in [whole, fragmented] {
        for piece in [1, 1_000] {
            let demuxed = demux_mp4(file, piece).unwrap();
            let expected = listed(csv);
            assert_eq!(demuxed.tracks.len(), 2);
            for track in 0..2 {
                let of: Vec<Packet> = expected.iter().filter(|p| p.stream == track).cloned().collect();
                assert_eq!(as_packets(&demuxed, track), of, "track {track}");
            }
        }
    }
}

#[test]
fn a_kept_transport_stream() {
    let mp4 = demux_mp4(include_bytes!("../data/h264-aac.mp4"), 1_000).unwrap();
    let ts = demux_ts(include_bytes!("../data/h264-aac.ts"), 100, patchbay_mux::mpegts::Options::default())
        .unwrap();
    for track in 0..2 {
        let (a, b) = (as_packets(&mp4, track), as_packets(&ts, track));
        assert_eq!(a.len(), b.len());
        let rate = i64::from(mp4.tracks[track].clock_rate);
        for (x, y) in a.iter().zip(&b) {
            assert_eq!((x.size, x.adler32, x.key), (y.size, y.adler32, y.key));
            assert!(((x.pts - a[0].pts) * 90_000 / rate - (y.pts - b[0].pts)).abs() <= 1);
        }
    }
}

proptest! {
    #[test]
    fn hurt_clips_never_panic(hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12), piece: u8) {
        let files = [&include_bytes!("../data/h264-aac.mp4")[..], include_bytes!("../data/h264-aac-frag.mp4"), include_bytes!("../data/h264-aac.ts")];
        for (kind, file) in files.into_iter().enumerate() {
            let mut bytes = file.to_vec();
            for (at, value) in &hits {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            if kind == 2 {
                bytes.insert(0, piece);
                patchbay_mux::fuzz::ts(&bytes);
            } else {
                patchbay_mux::fuzz::mp4(&bytes);
            }
        }
    }
}
