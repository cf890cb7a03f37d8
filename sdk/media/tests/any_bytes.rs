//! Every fuzz target over random and over nearly valid bytes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use patchbay_media::fuzz;
use proptest::prelude::*;

/// Bytes with many start codes, zeros and headers in them.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => Just(vec![0, 0, 1]),
        1 => Just(vec![0, 0, 0, 1]),
        1 => Just(vec![0, 0, 3]),
        3 => any::<u8>().prop_map(|header| vec![header & 0x7f, 1, 0x80]),
        1 => Just(vec![0x67, 0x42, 0xe0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xe4]),
        1 => Just(vec![0x68, 0xce, 0x3c, 0x80]),
        1 => Just(vec![0x65, 0x88, 0x84]),
        2 => proptest::collection::vec(any::<u8>(), 0..12),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// Frames of 7 to 70 bytes with some noise between.
fn adts() -> impl Strategy<Value = Vec<u8>> {
    let frame = (7_u8..70).prop_map(|len| {
        let mut frame = vec![0xff, 0xf1, 0x6c, 0x40, len >> 3, len << 5 | 0x1f, 0xfc];
        frame.resize(usize::from(len), len);
        frame
    });
    let piece = prop_oneof![
        6 => frame,
        1 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => Just(vec![0xff]),
        1 => Just(vec![0xff, 0xf1, 0x6c]),
    ];
    (any::<u8>(), proptest::collection::vec(piece, 0..12)).prop_map(|(first, pieces)| {
        let mut data = vec![first];
        data.extend(pieces.concat());
        data
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parameter_sets(data in proptest::collection::vec(any::<u8>(), 0..120)) {
        fuzz::h264_sps(&data);
        fuzz::h265_sps(&data);
    }

    #[test]
    fn damaged_parameter_sets(at in 0_usize..60, value: u8, cut in 0_usize..60) {
        const H264: &[u8] = include_bytes!("data/x264_main_pyramid.h264");
        const H265: &[u8] = include_bytes!("data/x265_main10_open_gop.h265");
        for (head, target) in [(&H264[5..65], fuzz::h264_sps as fn(&[u8])), (&H265[40..100], fuzz::h265_sps)] {
            let mut data = head.to_vec();
            data[at] = value;
            target(&data);
            target(&data[..cut]);
        }
    }

    #[test]
    fn damaged_streams(at in 0_usize..3000, value: u8) {
        let mut data = vec![0];
        data.extend(include_bytes!("data/x264_main_pyramid.h264"));
        data[at] = value;
        fuzz::assembler(&data);
        let mut data = vec![1];
        data.extend(include_bytes!("data/x265_main10_open_gop.h265"));
        data[at] = value;
        fuzz::assembler(&data);
    }

    #[test]
    fn frames(
        data in proptest::collection::vec(any::<u8>(), 0..60),
        // What is before the colours of a sequence header by libaom, with other bits in it.
        mut sequence in Just([0x0a, 11, 0, 0, 0, 0x0c, 0xc4, 0xff, 0x67, 0x36, 0xbe, 0x40, 0x10]),
        at in 2_usize..13,
        value: u8,
    ) {
        fuzz::frames(&data);
        fuzz::frames(&sequence);
        sequence[at] = value;
        fuzz::frames(&sequence);
    }

    #[test]
    fn byte_streams(data in stream()) {
        fuzz::annexb(&data);
        fuzz::assembler(&data);
    }

    #[test]
    fn audio(data in proptest::collection::vec(any::<u8>(), 0..80), nearly in adts()) {
        fuzz::asc(&data);
        fuzz::latm(&data);
        fuzz::adts(&data);
        fuzz::adts(&nearly);
    }

    #[test]
    fn audio_configurations(first in 0_u8..0x30, rest in proptest::collection::vec(any::<u8>(), 1..12)) {
        let mut data = vec![first];
        data.extend(&rest);
        fuzz::asc(&data);
        data.splice(0..0, [0x40, 0x00]);
        fuzz::latm(&data);
        data.splice(0..0, [0x56, 0xe0, u8::try_from(rest.len()).unwrap()]);
        fuzz::latm(&data);
    }
}
