//! Audio out of packets.

use patchbay_media::Codec;
use patchbay_rtp::Item;

use crate::support::{Feed, data, hex, parameters, units};

const AAC: &str = "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/48000/2\r\n\
    a=fmtp:97 mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1190\r\n";

/// Bytes of an AU that is no ADTS.
fn au(len: usize, fill: u8) -> Vec<u8> {
    vec![fill; len]
}

#[test]
fn k11_one_and_three_units_in_a_packet() {
    let mut feed = Feed::new(AAC);
    feed.bytes(0, true, &[hex("00100aa8"), au(341, 0x21)].concat());
    let three = [hex("0030032006400960"), au(100, 1), au(200, 2), au(300, 3)].concat();
    feed.bytes(1024, true, &three);
    let found = feed.units();
    assert_eq!(found.iter().map(|unit| unit.data.len()).collect::<Vec<_>>(), [341, 100, 200, 300]);
    assert_eq!(found.iter().map(|unit| unit.pts).collect::<Vec<_>>(), [0, 1024, 2048, 3072], "R41");
    assert!(found.iter().all(|unit| unit.duration == 1024 && unit.key));
    // As FFmpeg packs them.
    let packed = [hex("0030 1000 0c60 0a08"), au(512, 1), au(396, 2), au(321, 3)].concat();
    feed.bytes(4096, true, &packed);
    assert_eq!(feed.units().iter().map(|unit| unit.data.len()).collect::<Vec<_>>(), [512, 396, 321]);
}

#[test]
fn r40_other_header_layouts() {
    // AAC-lbr: 6 and 2 bits; two units of 3 and 2 bytes.
    let mut feed = Feed::new(
        "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/8000\r\na=fmtp:97 mode=AAC-lbr;config=1588\r\n",
    );
    feed.hex(0, true, "0010 0c08 010203 0405");
    assert_eq!(data(&feed.units()), ["010203", "0405"]);
    // 16 bits and no index: 3 and 2 bytes.
    let mut feed = Feed::new(
        "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/8000\r\na=fmtp:97 sizelength=16;config=1588\r\n",
    );
    feed.hex(0, true, "0020 0003 0002 010203 0405");
    assert_eq!(data(&feed.units()), ["010203", "0405"]);
    // 9 + 2 bits and a first index of 3: the headers end within a byte.
    let mut feed = Feed::new(
        "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/8000\r\n\
         a=fmtp:97 sizelength=9;indexlength=3;indexdeltalength=2;config=1588\r\n",
    );
    // 000000011 000 | 000000010 00 and one bit of padding.
    feed.hex(0, true, "0017 0180 10 010203 0405");
    assert_eq!(data(&feed.units()), ["010203", "0405"]);
    // No parameters at all (anpviz): 13, 3, 3.
    let mut feed =
        Feed::new("m=audio 0 RTP/AVP 0\r\na=rtpmap:0 MPEG4-GENERIC/16000/2\r\na=fmtp:0 config=1408\r\n");
    feed.hex(0, true, "0010 0018 010203");
    assert_eq!(data(&feed.units()), ["010203"]);
    // A constant size needs no headers.
    let mut feed = Feed::new(
        "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/8000\r\na=fmtp:97 constantsize=2;config=1588",
    );
    feed.hex(0, true, "0102 0304");
    assert_eq!(data(&feed.units()), ["0102", "0304"]);
}

#[test]
fn r41_c46_frame_times_follow_the_clock_of_the_rtpmap() {
    // 960 samples a frame.
    let mut feed =
        Feed::new("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/48000/2\r\na=fmtp:97 config=1194\r\n");
    feed.hex(0, true, "0020 0010 0010 0102 0304");
    assert_eq!(feed.units()[1].pts, 960);
    // A clock of 16000 while the configuration says 8000.
    let mut feed =
        Feed::new("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/16000\r\na=fmtp:97 config=1588\r\n");
    let known = feed.depacketizer.parameters().clone();
    assert_eq!((known.clock_rate, known.sample_rate), (16_000, 8000));
    feed.hex(0, true, "0020 0010 0010 0102 0304");
    assert_eq!(feed.units()[1].pts, 2048);
    // SBR, whose clock is the output's rate.
    let mut feed = Feed::new(
        "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/44100/2\r\na=fmtp:97 config=2b920800\r\n",
    );
    feed.hex(0, true, "0020 0010 0010 0102 0304");
    assert_eq!(feed.units()[1].pts, 2048);
}

#[test]
fn r42_a_unit_over_several_packets() {
    let mut feed = Feed::new(AAC);
    let whole: Vec<u8> = (0..100).collect();
    for (range, marker) in [(0..40, false), (40..80, false), (80..100, true)] {
        feed.bytes(0, marker, &[hex("00100320"), whole[range].to_vec()].concat());
    }
    assert_eq!(feed.units()[0].data, whole);
    // One part is lost: nothing comes of it, and the next unit says so.
    feed.bytes(1024, false, &[hex("00100320"), whole[..40].to_vec()].concat());
    feed.skip(1);
    feed.bytes(1024, true, &[hex("00100320"), whole[80..].to_vec()].concat());
    feed.hex(2048, true, "0010 0018 010203");
    let found = feed.units();
    assert_eq!(data(&found), ["010203"]);
    assert!(found[0].discontinuity);
}

#[test]
fn r43_k17_adts_where_it_should_not_be() {
    // An ADTS header in each unit: LC 48 kHz stereo, 7 + 3 bytes.
    let adts = "fff14c80015ffc010203";
    let mut feed = Feed::new(AAC);
    feed.hex(0, true, &format!("0010 0050 {adts}"));
    // The whole payload is ADTS, two frames.
    feed.hex(1024, true, &format!("{adts}{adts}"));
    let found = feed.units();
    assert_eq!(data(&found), ["010203"; 3]);
    assert_eq!(found[2].pts, 2048);
    // Its header serves as the configuration when the SDP has none.
    let mut feed = Feed::new("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/16000\r\n");
    feed.hex(0, true, adts);
    let found = parameters(&feed.items());
    assert_eq!((found[0].sample_rate, found[0].channels, found[0].clock_rate), (48_000, 2, 16_000));
    assert_eq!(found[0].extradata, hex("1190"));
}

#[test]
fn r44_without_a_configuration_it_is_lc_as_the_rtpmap_says() {
    let mut feed = Feed::new("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/16000/1\r\n");
    feed.hex(0, true, "0010 0018 010203");
    let items = feed.items();
    assert_eq!(parameters(&items)[0].extradata, hex("1408"));
    assert!(matches!(items[0], Item::Parameters(_)), "before the unit");
    // An odd digit at the end is dropped; stereo in the rtpmap, mono in the configuration.
    let feed =
        Feed::new("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/16000/2\r\na=fmtp:97 config=14080\r\n");
    let known = feed.depacketizer.parameters();
    assert_eq!((known.channels, known.extradata.as_ref()), (1, &hex("1408")[..]));
}

#[test]
fn r45_jitter_is_taken_out_and_gaps_are_kept() {
    let mut feed = Feed::new(AAC);
    for time in [0u32, 1100, 2000, 3100, 9216] {
        feed.hex(time, true, "0010 0018 010203");
    }
    assert_eq!(feed.units().iter().map(|unit| unit.pts).collect::<Vec<_>>(), [0, 1024, 2048, 3072, 9216]);
}

#[test]
fn r5_headers_that_lie() {
    let mut feed = Feed::new(AAC);
    for payload in ["ffff", "0010", "00100018", "002000180018010203", "0010ffff01", "000001"] {
        feed.hex(0, true, payload);
    }
    assert!(feed.units().len() <= 1);
    assert!(feed.depacketizer.faults().malformed_packets >= 3);
}

const LATM: &str =
    "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 MP4A-LATM/24000/2\r\na=fmtp:96 cpresent=0;config=400026203fc0\r\n";

#[test]
fn k15_r46_latm_with_its_configuration_in_the_sdp() {
    let mut feed = Feed::new(LATM);
    let known = feed.depacketizer.parameters().clone();
    assert_eq!((known.codec, known.sample_rate, known.channels), (Codec::Aac, 24_000, 2));
    // Lengths of 254, 255, 300 and 510 bytes.
    for (number, (prefix, len)) in
        [("fe", 254), ("ff00", 255), ("ff2d", 300), ("ffff00", 510)].into_iter().enumerate()
    {
        feed.bytes(number as u32 * 1024, true, &[hex(prefix), au(len, 5)].concat());
    }
    assert_eq!(feed.units().iter().map(|unit| unit.data.len()).collect::<Vec<_>>(), [254, 255, 300, 510]);
    // One unit in three packets, as FFmpeg's `ff ff 02` of 512 bytes.
    let unit: Vec<u8> = (0..512).map(|n| n as u8).collect();
    let element = [hex("ffff02"), unit.clone()].concat();
    feed.bytes(4096, false, &element[..200]).bytes(4096, false, &element[200..400]).bytes(
        4096,
        true,
        &element[400..],
    );
    assert_eq!(feed.units()[0].data, unit);
}

#[test]
fn r47_several_latm_frames_in_a_packet() {
    let mut feed = Feed::new(LATM);
    feed.hex(0, true, "03 010203 02 0405");
    let found = feed.units();
    assert_eq!(data(&found), ["010203", "0405"]);
    assert_eq!(found[1].pts, 1024);
}

#[test]
fn r46_a_lost_part_of_a_latm_unit() {
    let mut feed = Feed::new(LATM);
    let element = [hex("ff2d"), au(300, 9)].concat();
    feed.bytes(0, false, &element[..100]);
    feed.skip(1);
    feed.bytes(0, true, &element[200..]).hex(1024, true, "03010203");
    let found = feed.units();
    assert_eq!(data(&found), ["010203"]);
    assert!(found[0].discontinuity);
}

#[test]
fn r46_latm_with_its_configuration_in_the_stream() {
    let mut feed =
        Feed::new("m=audio 0 RTP/AVP 96\r\na=rtpmap:96 MP4A-LATM/16000\r\na=fmtp:96 cpresent=1\r\n");
    // useSameStreamMux 0, the StreamMuxConfig 400028103fc0 of 44 bits, then length 3 and the unit, all unaligned by a bit.
    let mut bits: Vec<u8> = vec![0];
    let push = |bits: &mut Vec<u8>, bytes: &[u8], count: usize| {
        bits.extend((0..count).map(|at| bytes[at / 8] >> (7 - at % 8) & 1));
    };
    push(&mut bits, &hex("400028103fc0"), 44);
    push(&mut bits, &hex("03010203"), 32);
    let payload: Vec<u8> = bits
        .chunks(8)
        .map(|byte| byte.iter().enumerate().fold(0, |b, (i, bit)| b | bit << (7 - i)))
        .collect();
    feed.bytes(0, true, &payload);
    let items = feed.items();
    assert_eq!((parameters(&items)[0].sample_rate, parameters(&items)[0].channels), (16_000, 1));
    assert_eq!(data(&units(items)), ["010203"]);
}

#[test]
fn r50_g711_of_any_rate_and_length() {
    for (media, len, ticks) in [
        ("m=audio 0 RTP/AVP 8\r\n", 80, 80),
        ("m=audio 0 RTP/AVP 0\r\n", 1600, 1600),
        ("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 PCMA/16000\r\n", 320, 320),
        ("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 PCMU/8000/2\r\n", 320, 160),
    ] {
        let mut feed = Feed::new(media);
        feed.bytes(500, false, &au(len, 0xd5));
        let found = feed.units();
        assert_eq!((found[0].data.len(), found[0].duration, found[0].pts), (len, ticks, 500), "{media}");
    }
}

#[test]
fn r51_byte_orders_of_pcm() {
    for (rtpmap, codec, ticks) in [
        ("L16/16000", Codec::PcmS16be, 2),
        ("L16/44100/2", Codec::PcmS16be, 1),
        ("PCM/48000", Codec::PcmS16le, 2),
    ] {
        let mut feed = Feed::new(&format!("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 {rtpmap}\r\n"));
        assert_eq!(feed.depacketizer.parameters().codec, codec);
        feed.hex(0, false, "0102030405");
        let found = feed.units();
        assert_eq!(
            (data(&found), found[0].duration),
            (vec!["01020304".into()], ticks),
            "whole samples of {rtpmap}"
        );
    }
}

#[test]
fn r52_k18_opus_durations() {
    let mut feed = Feed::new("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\n");
    let mut time = 0;
    for (payload, samples) in [("f8", 960), ("fc01", 960), ("78", 960), ("08", 960), ("4b8301020304", 2880)] {
        feed.hex(time, false, payload);
        assert_eq!(feed.units()[0].duration, samples, "{payload}");
        time += samples;
    }
    let channels = |fmtp: &str| {
        let feed =
            Feed::new(&format!("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\na=fmtp:97 {fmtp}\r\n"));
        let known = feed.depacketizer.parameters();
        (known.channels, known.extradata[9])
    };
    assert_eq!(
        (channels("sprop-stereo=0"), channels("sprop-stereo=1"), channels("")),
        ((1, 1), (2, 2), (2, 2))
    );
}

#[test]
fn r53_g722_counts_8000_and_plays_16000() {
    let mut feed = Feed::new("m=audio 0 RTP/AVP 9\r\n");
    let known = feed.depacketizer.parameters();
    assert_eq!((known.clock_rate, known.sample_rate), (8000, 16_000));
    feed.bytes(0, false, &au(160, 1));
    assert_eq!(feed.units()[0].duration, 160);
}

#[test]
fn r54_g726_in_one_bit_order() {
    for (name, expected) in [("G726-32", "2143"), ("AAL2-G726-32", "1234")] {
        let mut feed = Feed::new(&format!("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 {name}/8000\r\n"));
        feed.hex(0, false, "1234");
        let found = feed.units();
        assert_eq!((data(&found), found[0].duration), (vec![expected.into()], 4), "{name}");
    }
}

#[test]
fn mpeg_audio_frames_and_fragments() {
    let mut feed = Feed::new("m=audio 0 RTP/AVP 14\r\n");
    // Layer 3, 128 kbit/s, 44100 Hz: 417 bytes.
    let frame = [hex("fffb9044"), au(413, 7)].concat();
    feed.bytes(0, true, &[hex("00000000"), frame.clone(), frame.clone()].concat());
    feed.bytes(4702, false, &[hex("00000000"), frame[..200].to_vec()].concat());
    feed.bytes(4702, true, &[hex("000000c8"), frame[200..].to_vec()].concat());
    let items = feed.items();
    let known = &parameters(&items)[0];
    assert_eq!((known.codec, known.sample_rate, known.channels), (Codec::Mp3, 44_100, 2));
    let found = units(items);
    assert!(found.iter().all(|unit| unit.data == frame));
    assert_eq!(found.iter().map(|unit| unit.pts).collect::<Vec<_>>(), [0, 2351, 4702]);
}

#[test]
fn r56_l24_and_l8_pass_through() {
    let mut feed = Feed::new("m=audio 0 RTP/AVP 98\r\na=rtpmap:98 L24/48000/2\r\n");
    // Half a sample at the end is none.
    feed.hex(0, true, "010203 040506 070809 0a0b0c 0d").hex(2, false, "111213 141516");
    let units = feed.units();
    assert_eq!(data(&units), ["0102030405060708090a0b0c", "111213141516"]);
    assert_eq!(units.iter().map(|unit| (unit.pts, unit.duration)).collect::<Vec<_>>(), [(0, 2), (2, 1)]);
    let parameters = feed.depacketizer.parameters();
    let known = (parameters.codec.name(), parameters.sample_rate, parameters.channels);
    assert_eq!(known, ("pcm_s24be", 48_000, 2));
    assert!(crate::server::describe(parameters).contains("a=rtpmap:96 L24/48000/2\r\n"));
    let mut feed = Feed::new("m=audio 0 RTP/AVP 98\r\na=rtpmap:98 L8/11025\r\n");
    feed.hex(0, true, "800102");
    assert_eq!(data(&feed.units()), ["800102"]);
    let parameters = feed.depacketizer.parameters();
    assert_eq!((parameters.codec.name(), parameters.sample_rate), ("pcm_u8", 11_025));
    assert!(crate::server::describe(parameters).contains("a=rtpmap:96 L8/11025\r\n"));
}

#[test]
fn r55_r73_unknown_encodings_are_refused_not_fatal() {
    for media in [
        "m=audio 0 RTP/AVP 5\r\n",
        "m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\n",
        "m=video 0 RTP/AVP 33\r\n",
        "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 \r\n",
    ] {
        let parsed = crate::support::media_of(media);
        let refused = patchbay_rtp::Depacketizer::new(&parsed);
        let expected = parsed.encoding.clone();
        if media.contains("AVP 0\r") {
            assert_eq!(expected, "PCMU", "an empty rtpmap is none");
        } else {
            assert_eq!(refused.err().map(|error| error.encoding), Some(expected), "{media}");
        }
    }
}
