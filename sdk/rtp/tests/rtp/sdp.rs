//! Odd session descriptions, row by row.

use patchbay_media::{Codec, Kind, h264};
use patchbay_rtp::sdp::{self, Media, Session};
use proptest::prelude::*;

use crate::support::media_of;

const MEDIAS: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n\
    m=audio 0 RTP/AVP 8\r\na=control:track2\r\n";

fn parse(text: &str) -> Session {
    sdp::parse(text.as_bytes())
}

#[test]
fn c40_no_session_line_loses_a_media() {
    let sessions = [
        "",
        "v=0\r\n",
        "v=0\r\ns=x\r\nt=0 0\r\n",
        "v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\nt=0 0\r\n",
        "v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=x\r\n",
        "v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=x\r\nt=now-\r\n",
        "v=0\r\no=- 1 1\r\ns=x\r\n",
        "v=0\r\no=- 1 1 IN 1.2.3.4\r\ns=x\r\n",
        "v=0\r\no=- 14665860 31787219 1 IN IP4 192.168.2.29\r\ns=x\r\n",
        "v=0\r\no=- 1.5 2.5 IN IP4 1.2.3.4\r\ns=x\r\n",
        "v=0\r\no=- abcdef0 0x12 IN IP4 1.2.3.4\r\ns=x\r\n",
        "v=0\r\no=\r\ns=\r\n",
        "v=0\r\no=- 1 1 IN IP4 \r\ns=x\r\n",
        "v=0\r\ns=x\r\nc=IN 192.168.1.1\r\n",
        "v=0\r\ns=x\r\nc=IP4 192.168.1.1\r\n",
        "v=0\r\ns=x\r\nc=IN IP4 \r\n",
        "v=0\r\ns=x\r\nc=IN IP4 not-an-address\r\n",
        "v=0\r\ns=x\r\nc=IN IP4 1.2.3.4\r\nc=IN IP4 1.2.3.5\r\n",
        "v=0\r\ns=x\r\nb=AS\r\nb=AS:many\r\nb=:1\r\n",
        "v=0\r\ns=x\r\ns=y\r\no=- 1 1 IN IP4 1.2.3.4\r\no=- 2 2 IN IP4 1.2.3.4\r\n",
        "v=0\r\nt=0 0\r\ns=x\r\nv=0\r\n",
        "v=1\r\ns=x\r\n",
        "\u{feff}v=0\r\ns=x\r\n",
        "some text of a server\r\nv=0\r\ns=x\r\n",
        "\r\n\r\nv=0\r\n\r\ns=x\r\n\r\n",
        "v=0\ns=x\n",
        "v=0\rs=x\r",
        "  v=0\r\n s=x\r\n",
        "v=0\r\ns=x\r\nz=now\r\nr=7d\r\nk=bad:bad:bad\r\ni=a\r\ni=b\r\nu=c\r\nu=d\r\n",
        "v=0\r\ns=x\r\na=\r\na\r\n=\r\nq\r\n",
        "v=0\r\ns=\u{fffd}\u{1}x\r\n",
    ];
    assert!(sessions.len() >= 30);
    for session in sessions {
        let newline = if session.contains("\r\n") || session.is_empty() { "\r\n" } else { &session[3..4] };
        for end in ["", "\0", "  \0\0", "\r\n\r\n"] {
            let text = format!("{session}{}{end}", MEDIAS.replace("\r\n", newline));
            let found = parse(&text);
            assert_eq!(found.medias.len(), 2, "{text:?}");
            let controls: Vec<_> =
                found.medias.iter().map(|media| media.control.as_deref().unwrap()).collect();
            assert_eq!(controls, ["track1", "track2"], "{text:?}");
            assert_eq!(
                (found.medias[0].encoding.as_str(), found.medias[1].encoding.as_str()),
                ("H264", "PCMA")
            );
        }
    }
    assert!(sdp::parse(&[0xff, 0xfe, b'v', b'=', 0x80]).medias.is_empty());
    assert_eq!(parse("s=one\r\nm=video 0 RTP/AVP 96\r\ns=two\r\n").name.as_deref(), Some("one"));
}

#[test]
fn c41_odd_media_lines() {
    let found = parse(
        "m=audio 0 RTP/AVP 8\t\r\nm=video\r\nm=\r\nm=vana 0 RTP/AVP 98\r\nm=meta 0 UDP x\r\n\
         m=video 99999 RTP/AVP/UDP 96\r\nm=video 5004/2 RTP/AVP 97 98\r\na=rtpmap:98 H265/90000\r\n",
    );
    let kinds: Vec<_> = found.medias.iter().map(|media| media.kind).collect();
    assert_eq!(
        kinds,
        [Kind::Audio, Kind::Video, Kind::Data, Kind::Data, Kind::Data, Kind::Video, Kind::Video]
    );
    assert_eq!((found.medias[5].port, found.medias[5].payload_type), (0, 96));
    let last = &found.medias[6];
    assert_eq!(
        (last.port, last.payload_type, last.encoding.as_str()),
        (5004, 98, "H265"),
        "the first known codec"
    );
    assert_eq!(last.payload_types, [97, 98]);
}

#[test]
fn c42_attributes_in_the_wrong_place() {
    let found = parse(
        "m=audio 0 RTP/AVP 8\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==\r\n\
         m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=range:npt=0-\r\ns=again\r\nt=0 0\r\na=control:v\r\n",
    );
    assert!(!found.medias[1].parameters().unwrap().extradata.is_empty());
    assert!(found.medias[0].fmtp.is_empty());
    assert_eq!(found.medias[1].control.as_deref(), Some("v"));
}

#[test]
fn c43_controls() {
    let control = |lines: &str| media_of(&format!("m=video 0 RTP/AVP 96\r\n{lines}")).control;
    assert_eq!(
        control("a=control:first\r\na=control:rtsp://[::1]/last?a=b c \r\n").as_deref(),
        Some("rtsp://[::1]/last?a=b c")
    );
    assert_eq!(control("a=control: trackID=1  \r\n").as_deref(), Some("trackID=1"));
    assert_eq!(control(""), None);
    assert_eq!(control("a=control:*\r\n").as_deref(), Some("*"));
    assert_eq!(control("a=control:rtsp://rtsp://1.2.3.4/x\r\n").as_deref(), Some("rtsp://rtsp://1.2.3.4/x"));
}

fn encoding(media: &str) -> (String, u32, u8) {
    let media = media_of(media);
    (media.encoding, media.clock_rate, media.channels)
}

#[test]
fn c44_static_payload_types() {
    for (payload_type, name, rate, channels) in [
        (0, "PCMU", 8000, 1),
        (8, "PCMA", 8000, 1),
        (9, "G722", 8000, 1),
        (10, "L16", 44_100, 2),
        (11, "L16", 44_100, 1),
        (14, "MPA", 90_000, 1),
    ] {
        assert_eq!(encoding(&format!("m=audio 0 RTP/AVP {payload_type}\r\n")), (name.into(), rate, channels));
    }
    for (payload_type, name) in [(26, "JPEG"), (33, "MP2T"), (35, "H264"), (96, "H264")] {
        assert_eq!(encoding(&format!("m=video 0 RTP/AVP {payload_type}\r\n")), (name.into(), 90_000, 0));
    }
    assert_eq!(encoding("m=audio 0 RTP/AVP 0\r\na=rtpmap:0 MPEG4-GENERIC/16000/2\r\n").0, "MPEG4-GENERIC");
    assert_eq!(encoding("m=audio 0 RTP/AVP 8\r\na=rtpmap:8 PCMU\r\n"), ("PCMU".into(), 8000, 1));
    assert_eq!(encoding("m=video 0 RTP/AVP 98\r\na=fmtp:98 sprop-vps=QAE=\r\n").0, "H265");
    // FFmpeg's PCM without a name, by its bit rate.
    for (kbps, rate, channels) in
        [(128, 8000, 1), (256, 16_000, 1), (705, 44_100, 1), (1411, 44_100, 2), (1536, 48_000, 2)]
    {
        let found = encoding(&format!("m=audio 0 RTP/AVP 97\r\nb=AS:{kbps}\r\n"));
        assert_eq!(found, ("PCM".into(), rate, channels), "{kbps} kbit/s");
    }
    assert_eq!(encoding("m=audio 0 RTP/AVP 97\r\n").0, "");
    assert_eq!(
        encoding("m=video 0 RTP/AVP 96\r\na=rtpmap:96 X-NEW/90000\r\n").0,
        "X-NEW",
        "a name is no guess"
    );
}

#[test]
fn c45_encoding_names() {
    for (rtpmap, expected) in [
        ("h264/90000 ", ("H264", 90_000, 1)),
        ("mpeg4-generic/48000/2", ("MPEG4-GENERIC", 48_000, 2)),
        ("pcma", ("PCMA", 8000, 1)),
        ("PCM/48000", ("PCM", 48_000, 1)),
        ("L16/16000", ("L16", 16_000, 1)),
        ("OPUS/48000/1", ("OPUS", 48_000, 2)),
        ("opus", ("OPUS", 48_000, 2)),
        ("HEVC/90000", ("H265", 90_000, 1)),
        ("JPEG/90000", ("JPEG", 90_000, 1)),
        ("G726-32/8000", ("G726-32", 8000, 1)),
        ("VND.ONVIF.METADATA/0", ("VND.ONVIF.METADATA", 90_000, 1)),
        (" PCMU / 16000 / x ", ("PCMU", 16_000, 1)),
    ] {
        let (name, rate, channels) = expected;
        let found = encoding(&format!("m=audio 0 RTP/AVP 96\r\na=rtpmap:96 {rtpmap}\r\n"));
        assert_eq!(found, (name.into(), rate, channels), "{rtpmap}");
    }
}

#[test]
fn c46_the_clock_is_the_rtpmaps_and_the_rate_the_configurations() {
    let found =
        media_of("m=audio 0 RTP/AVP 96\r\na=rtpmap:96 MPEG4-GENERIC/16000\r\na=fmtp:96 config=1588\r\n");
    let found = found.parameters().unwrap();
    assert_eq!((found.clock_rate, found.sample_rate, found.channels), (16_000, 8000, 1));
}

const SPS: &str = "Z0LAHtkDxWhAAAADAEAAAAwDxYuS";
const PPS: &str = "aMuMsg==";

fn h264_sets(list: &str) -> Option<(usize, usize)> {
    let media = format!(
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 sprop-parameter-sets={list}\r\n"
    );
    let extradata = media_of(&media).parameters().unwrap().extradata;
    h264::parse_avcc(&extradata).ok().map(|sets| (sets.sps[0].len(), sets.pps[0].len()))
}

#[test]
fn c47_sprop_parameter_sets() {
    let expected = h264_sets(&format!("{SPS},{PPS}"));
    assert_eq!(expected, Some((21, 4)));
    for list in [
        format!("{PPS},{SPS}"),
        format!("{SPS},aMuMsg"),
        format!(" {SPS} , {PPS} "),
        format!("{SPS},,{PPS},"),
        format!("{SPS},{PPS},!!!"),
        // Start codes before the set, behind it, and both sets in one.
        "AAAAAWdCwB7ZA8VoQAAAAwBAAAAMA8WLkg==,AAAAAWjLjLI=".into(),
        format!("{SPS}AAAAAQ==,aMuMsgAAAAE="),
        "Z0LAHtkDxWhAAAADAEAAAAwDxYuSAAAAAWjLjLI=".into(),
        // Another alphabet: of the same bytes here.
        format!("{SPS},{PPS}").replace('+', "-").replace('/', "_"),
    ] {
        assert_eq!(h264_sets(&list), expected, "{list}");
    }
    // Nothing usable is as if missing.
    for list in ["", ",", "%%%", SPS, PPS, "Zw==,aA==", "Z0LA,aMuMsg=="] {
        assert_eq!(h264_sets(list), None, "{list}");
    }
}

#[test]
fn c47_an_aac_configuration_in_a_video_is_ignored() {
    let media = format!(
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 config=1408;sprop-parameter-sets={SPS},{PPS}\r\n"
    );
    assert!(!media_of(&media).parameters().unwrap().extradata.is_empty());
}

#[test]
fn c49_all_three_sets_of_h265_or_none() {
    let complete = media_of(include_str!("../data/dahua_h265_pcma.sdp"));
    assert!(!complete.parameters().unwrap().extradata.is_empty());
    for name in ["sprop-vps", "sprop-sps", "sprop-pps"] {
        let mut media = complete.clone();
        media.fmtp.insert(name.into(), "AAAA".into());
        assert!(media.parameters().unwrap().extradata.is_empty(), "{name}");
        media.fmtp.remove(name);
        assert!(media.parameters().unwrap().extradata.is_empty(), "{name}");
    }
}

#[test]
fn c50_format_parameters() {
    for fmtp in [
        "a=fmtp:96 Mode=x; CONFIG=1408",
        "a=fmtp:96 mode=x;config=1408;",
        "a=fmtp:96mode=x;config=1408",
        "a=fmtp: 96 mode = x ; config = 1408 ; ; =",
        "a=fmtp:96 config=1408\r\na=fmtp:96 mode=x",
        "a=fmtp:96\r\na=fmtp:97 mode=y\r\na=fmtp:96 mode=\"x\"; config=1408",
    ] {
        let media =
            media_of(&format!("m=audio 0 RTP/AVP 96\r\na=rtpmap:96 MPEG4-GENERIC/16000\r\n{fmtp}\r\n"));
        let found: Vec<_> = media.fmtp.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, [("config", "1408"), ("mode", "x")], "{fmtp:?}");
    }
}

#[test]
fn c51_backchannels() {
    let backchannels = |text: &str| parse(text).medias.iter().map(|m| m.is_backchannel).collect::<Vec<_>>();
    let video = "m=video 0 RTP/AVP 96\r\n";
    let audio = "m=audio 0 RTP/AVP 0\r\n";
    assert_eq!(backchannels(&format!("{video}a=recvonly\r\n{audio}a=sendonly\r\n")), [false, true]);
    assert_eq!(backchannels(&format!("{video}{audio}{audio}a=sendonly\r\n")), [false, false, true]);
    // The only video marked sendonly (IDS uEye), and everything so (D-Link).
    assert_eq!(backchannels(&format!("{video}a=sendonly\r\n")), [false]);
    assert_eq!(backchannels(&format!("{video}a=sendonly\r\n{audio}a=sendonly\r\n")), [false, false]);
    assert_eq!(backchannels(&format!("a=sendonly\r\n{video}{audio}")), [false, false]);
    assert_eq!(
        backchannels(&format!("{video}a=sendonly\r\n{audio}a=recvonly\r\n{audio}a=sendonly\r\n")),
        [false, false, true]
    );
}

#[test]
fn c52_the_packetization_mode_is_no_obstacle() {
    for mode in ["0", "1", "2", "x"] {
        let mut feed = crate::support::Feed::new(&format!(
            "{}a=fmtp:96 packetization-mode={mode}\r\n",
            crate::support::H264
        ));
        feed.hex(0, false, "7800046742e01f000468ce3c80").hex(0, false, "7c8588").hex(0, true, "7c4501");
        assert_eq!(feed.units().len(), 1, "{mode}");
    }
}

#[test]
fn c68_multicast_c71_srtp_and_sizes() {
    let media = media_of("c=IN IP4 239.1.2.3/15\r\nm=video 5000 RTP/AVP 96\r\n");
    let connection = media.connection.unwrap();
    assert_eq!((connection.address.is_multicast(), connection.ttl), (true, Some(15)));
    let found = parse("m=video 0 RTP/SAVP 96\r\nc=IN IP6 ff02::1\r\n");
    assert!(found.is_srtp && found.medias[0].connection.unwrap().address.is_multicast());
    let size = |line: &str| media_of(&format!("m=video 0 RTP/AVP 26\r\n{line}\r\n")).dimensions;
    assert_eq!(size("a=x-dimensions: 2560, 1440"), Some((2560, 1440)));
    assert_eq!(size("a=framesize:26 2560-1440"), Some((2560, 1440)));
    assert_eq!((size("a=x-dimensions:0,1"), size("a=framesize:x")), (None, None));
}

#[test]
fn limits_are_kept() {
    let many = "m=video 0 RTP/AVP 96\r\n".repeat(1000);
    assert_eq!(parse(&many).medias.len(), sdp::MAX_MEDIAS);
    let long = format!("m=video 0 RTP/AVP 96\r\n{}", "a=x:y\r\n".repeat(5000));
    assert_eq!(parse(&long).medias[0].attributes.len(), sdp::MAX_ATTRIBUTES);
}

fn line() -> impl Strategy<Value = String> {
    let key =
        prop::sample::select(vec!["v", "o", "s", "c", "t", "a", "b", "m", "k", "i", "u", "z", "r", "", "xx"]);
    (key, ".{0,30}").prop_map(|(key, value)| format!("{key}={value}\r\n"))
}

proptest! {
    #[test]
    fn any_lines_before_lose_no_media(lines in proptest::collection::vec(line(), 0..20)) {
        let before: String = lines.into_iter().filter(|line| !line.trim().starts_with('m')).collect();
        let before = before.replace("m=", "a=");
        let found = parse(&format!("{before}\r\n{MEDIAS}"));
        let video: &Media = &found.medias[0];
        prop_assert_eq!(found.medias.len(), 2);
        prop_assert_eq!((video.codec(), video.control.as_deref()), (Some(Codec::H264), Some("track1")));
    }

    #[test]
    fn any_lines_within_lose_no_media(lines in proptest::collection::vec(line(), 0..20)) {
        let text: String = lines.iter().map(String::as_str).collect();
        let count = lines.iter().filter(|line| line.starts_with("m=")).count();
        prop_assert!(parse(&text).medias.len() >= count.min(20));
    }
}
