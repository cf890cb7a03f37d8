//! What a server sends: descriptions and packets.

use patchbay_media::{Codec, Parameters, Unit, nal};
use patchbay_rtp::sdp::{self, Description, Direction, MediaDescription, build};
use patchbay_rtp::{Packetizer, Packets};

use crate::support::{hex, packets};

/// Our description of one track with payload type 96.
pub(crate) fn describe(parameters: &Parameters) -> String {
    build(&description(parameters, 96)).unwrap()
}

fn description(parameters: &Parameters, payload_type: u8) -> Description {
    Description {
        session_name: "Patchbay".into(),
        session_id: 7,
        address: "0.0.0.0".into(),
        control: "rtsp://h:8554/cam/".into(),
        medias: vec![MediaDescription {
            parameters: parameters.clone(),
            payload_type,
            port: 0,
            control: "rtsp://h:8554/cam/trackID=0?x=1&y=2".into(),
            direction: Direction::RecvOnly,
        }],
    }
}

fn known(file: &str, index: usize) -> Parameters {
    sdp::parse(file.as_bytes()).medias[index].parameters().unwrap()
}

#[test]
fn s42_h264_with_everything_a_player_needs() {
    let parameters = known(include_str!("../data/reolink.sdp"), 0);
    let expected = "v=0\r\no=- 7 7 IN IP4 0.0.0.0\r\ns=Patchbay\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:rtsp://h:8554/cam/\r\n\
        m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
        a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z2QAM6zoAoALWQ==,aO48MA==; profile-level-id=640033\r\n\
        a=recvonly\r\na=control:rtsp://h:8554/cam/trackID=0?x=1&y=2\r\n";
    assert_eq!(describe(&parameters), expected);
    let unknown = describe(&Parameters::video(Codec::H264, 90_000));
    assert!(unknown.contains("a=fmtp:96 packetization-mode=1\r\n"));
}

#[test]
fn s42_h265() {
    let text = describe(&known(include_str!("../data/dahua_h265_pcma.sdp"), 0));
    assert!(text.contains("a=rtpmap:96 H265/90000\r\n"));
    assert!(text.contains("sprop-vps=QAEMAf//AWAAAAMAsAAAAwAAAwBarAwAAAMABAAAAwAyqA==; sprop-sps=QgEB"));
    assert!(text.contains("; sprop-pps=RAHA8saNA7NA\r\n"));
}

#[test]
fn s42_s46_audio() {
    let text = describe(&known(include_str!("../data/bunny.sdp"), 0));
    assert!(text.contains("a=rtpmap:96 MPEG4-GENERIC/12000/2\r\n"));
    assert!(text.contains("mode=AAC-hbr; sizelength=13; indexlength=3; indexdeltalength=3; config=1490\r\n"));
    let rtpmap = |codec, rate, channels| {
        let text = describe(&Parameters::audio(codec, rate, channels));
        text.lines().find(|line| line.starts_with("a=rtpmap")).unwrap().to_owned()
    };
    assert_eq!(rtpmap(Codec::PcmS16be, 16_000, 1), "a=rtpmap:96 L16/16000");
    assert_eq!(rtpmap(Codec::PcmS16le, 48_000, 2), "a=rtpmap:96 L16/48000/2");
    assert_eq!(rtpmap(Codec::PcmAlaw, 8000, 1), "a=rtpmap:96 PCMA/8000");
    assert_eq!(rtpmap(Codec::PcmMulaw, 16_000, 1), "a=rtpmap:96 PCMU/16000");
    assert_eq!(rtpmap(Codec::Opus, 48_000, 1), "a=rtpmap:96 opus/48000/2");
    assert!(build(&description(&Parameters::video(Codec::Rawvideo, 90_000), 96)).is_err());
}

#[test]
fn static_payload_types_where_they_fit() {
    let of = |codec, rate, channels| sdp::payload_type(&Parameters::audio(codec, rate, channels), 97);
    assert_eq!(
        (of(Codec::PcmMulaw, 8000, 1), of(Codec::PcmAlaw, 8000, 1), of(Codec::PcmAlaw, 16_000, 1)),
        (0, 8, 97)
    );
    assert_eq!(
        (of(Codec::PcmS16le, 44_100, 2), of(Codec::PcmS16be, 44_100, 1), of(Codec::Opus, 48_000, 2)),
        (10, 11, 97)
    );
    assert_eq!(sdp::payload_type(&Parameters::video(Codec::Mjpeg, 90_000), 96), 26);
}

#[test]
fn no_value_adds_a_line() {
    let mut described = description(&Parameters::audio(Codec::PcmAlaw, 8000, 1), 8);
    described.session_name = "a\r\nm=video 0 RTP/AVP 96".into();
    described.medias[0].control = "x\r\nm=audio 0 RTP/AVP 0\r\n".into();
    assert_eq!(sdp::parse(build(&described).unwrap().as_bytes()).medias.len(), 1);
}

fn unit(nals: &[&[u8]], pts: i64, key: bool) -> Unit {
    Unit::new(pts, key, nal::to_length_prefixed(nals.iter().copied()))
}

#[test]
fn s42_s44_r20_shape_of_h264_packets() {
    let parameters = known(include_str!("../data/reolink.sdp"), 0);
    let mut packetizer = Packetizer::new(&parameters, 96, 0x1122_3344, 65_534, 1000, 256).unwrap();
    let mut long = vec![0x65, 0x88];
    long.resize(700, 7);
    let mut out = Packets::new(2);
    let count = packetizer.packetize(
        &unit(&[&[6, 5, 1], &long, &[0x01, 0x40]], 90, true),
        Some(&parameters),
        &mut out,
    );
    let sent = packets(&out);
    assert_eq!((count, sent.len(), out.len()), (6, 6, 6));
    let heads: Vec<String> =
        sent.iter().map(|p| format!("{:02x}{:02x}", p.payload[0], p.payload[1])).collect();
    assert_eq!(heads, ["7800", "0605", "7c85", "7c05", "7c45", "0140"], "NRI as in the units");
    assert_eq!(sent[0].payload, hex("78 000a 67640033ace80280 0b59 0004 68ee3c30"));
    assert_eq!(sent.iter().map(|p| p.marker).collect::<Vec<_>>(), [false, false, false, false, false, true]);
    assert!(sent.iter().all(|p| p.timestamp == 1090 && p.ssrc == 0x1122_3344 && p.payload_type == 96));
    assert_eq!(sent.iter().map(|p| p.sequence).collect::<Vec<_>>(), [65_534, 65_535, 0, 1, 2, 3]);
    assert_eq!(packetizer.next_sequence(), 4);
    assert_eq!(out.octets(), sent.iter().map(|p| p.payload.len() as u64).sum::<u64>());
}

#[test]
fn frames_and_datagrams_share_one_buffer() {
    let parameters = Parameters::audio(Codec::PcmAlaw, 8000, 1);
    let mut packetizer = Packetizer::new(&parameters, 8, 1, 10, 0, 256).unwrap();
    let mut out = Packets::new(4);
    packetizer.packetize(&Unit::new(0, true, vec![0xd5; 600].into()), None, &mut out);
    let datagrams: Vec<Vec<u8>> = out.datagrams().map(<[u8]>::to_vec).collect();
    let frames: Vec<u8> = datagrams
        .iter()
        .flat_map(|d| [&[b'$', 4][..], &(d.len() as u16).to_be_bytes(), d].concat())
        .collect();
    assert_eq!(out.interleaved(), frames);
    let ranges = out.ranges().to_vec();
    let taken = out.take();
    assert!(out.is_empty() && out.interleaved().is_empty() && out.octets() == 0);
    assert!(ranges.iter().zip(&datagrams).all(|(range, datagram)| taken[range.clone()] == datagram[..]));
    let mut copy = taken.to_vec();
    Packets::rewrite_channel(&mut copy, &ranges, 9);
    assert_eq!((copy[1], copy[ranges[1].start - 3]), (9, 9));
    assert_eq!(copy.iter().zip(taken.iter()).filter(|(a, b)| a != b).count(), 3);
}

#[test]
fn s44_audio_markers() {
    let markers = |parameters: &Parameters, data: &'static [u8]| {
        let mut packetizer = Packetizer::new(parameters, 96, 1, 0, 0, 1440).unwrap();
        let mut out = Packets::new(0);
        for n in 0..3 {
            packetizer.packetize(&Unit::new(n * 960, true, bytes::Bytes::from_static(data)), None, &mut out);
        }
        packets(&out).iter().map(|p| p.marker).collect::<Vec<_>>()
    };
    assert_eq!(markers(&Parameters::audio(Codec::Opus, 48_000, 2), &[0xfc, 1]), [true, false, false]);
    assert_eq!(markers(&Parameters::audio(Codec::PcmAlaw, 8000, 1), &[1, 2]), [true, false, false]);
    assert_eq!(markers(&Parameters::audio(Codec::Aac, 48_000, 2), &[1, 2]), [true, true, true]);
}

#[test]
fn video_of_another_clock_is_sent_at_90_khz() {
    let mut packetizer =
        Packetizer::new(&Parameters::video(Codec::H264, 12_800), 96, 1, 0, 50, 1440).unwrap();
    let mut out = Packets::new(0);
    packetizer.packetize(&unit(&[&[0x65, 0x88]], 512, true), None, &mut out);
    assert_eq!(packets(&out)[0].timestamp, 3650);
    assert_eq!(packetizer.timestamp(-512), 50u32.wrapping_sub(3600));
}

#[test]
fn k11_shape_of_aac_packets() {
    let mut packetizer =
        Packetizer::new(&Parameters::audio(Codec::Aac, 48_000, 2), 97, 1, 0, 0, 1440).unwrap();
    let mut out = Packets::new(0);
    packetizer.packetize(&Unit::new(0, true, vec![1; 341].into()), None, &mut out);
    assert!(packets(&out)[0].payload.starts_with(&hex("00100aa8")));
}
