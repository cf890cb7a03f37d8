//! Any bytes: the invariants of the fuzz targets.

use patchbay_rtp::fuzz;
use proptest::prelude::*;

/// Bytes that are often small, and often markers, lengths or NAL headers.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        any::<u8>(),
        0u8..4,
        prop::sample::select(vec![
            0x65, 0x41, 0x67, 0x68, 0x06, 0x7c, 0x78, 0x85, 0x45, 0x26, 0x62, 0x60, 0xff, 0xf1, 0x20
        ]),
    ];
    proptest::collection::vec(byte, 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn rtp(data in bytes()) {
        fuzz::rtp(&data);
    }

    #[test]
    fn rtp_of_version_2(mut data in bytes(), first in 0x80u8..0xc0) {
        data.insert(0, first);
        fuzz::rtp(&data);
    }

    #[test]
    fn rtcp(data in bytes()) {
        fuzz::rtcp(&data);
    }

    #[test]
    fn rtcp_with_known_types(mut data in bytes(), count in 0x80u8..0xc0, kind in 200u8..208, len in 0u8..30) {
        data.splice(0..0, [count, kind, 0, len]);
        fuzz::rtcp(&data);
    }

    #[test]
    fn sdp(data: Vec<u8>, lines in proptest::collection::vec("[vostcabm]=.{0,40}", 0..12)) {
        fuzz::sdp(&data);
        fuzz::sdp(lines.join("\r\n").as_bytes());
    }

    #[test]
    fn sdp_with_attributes(
        names in proptest::collection::vec(prop::sample::select(vec!["H264", "H265", "AV1", "VP9", "MP4V-ES", "L24", "opus", "L16", "PCM", "JPEG", "mpeg4-generic", "MP4A-LATM", "x"]), 1..5),
        lines in proptest::collection::vec("(config|sprop-vps|sprop-sps|sprop-pps|sprop-parameter-sets|sizelength|mode)=[A-Za-z0-9/+=,]{0,60}", 0..8),
    ) {
        let mut text = String::new();
        for (number, name) in names.iter().enumerate() {
            text += &format!("m=video 0 RTP/AVP 9{number}\r\na=rtpmap:9{number} {name}/8000\r\na=fmtp:9{number} {}\r\n", lines.join(";"));
        }
        fuzz::sdp(text.as_bytes());
    }

    #[test]
    fn depacketize(data in bytes()) {
        fuzz::depacketize(&data);
    }

    #[test]
    fn depacketize_each(choice in 0u8..64, mut data in bytes()) {
        data.insert(0, choice);
        fuzz::depacketize(&data);
    }
}
