//! Answers of real cameras (`tests/data`): which URLs are set up, which codecs found, which channels and sessions used.

use std::time::Duration;

use patchbay_net::auth;
use patchbay_plugin_rtsp::wire::{Item, Lower, Parser, Response, SessionHeader, Transport};
use patchbay_rtp::sdp;

use crate::emulator::{Act, Rig, Seen};

/// File, URL dialled, SETUP URLs of all medias, PLAY URL, encodings.
type Row = (&'static str, &'static str, &'static [&'static str], &'static str, &'static [&'static str]);

const ROWS: [Row; 21] = [
    (
        "anjvision_describe",
        "rtsp://192.168.1.10:554/stream0",
        &["rtsp://192.168.1.10:554/stream0/trackID=1"],
        "rtsp://192.168.1.10:554/stream0",
        &["H265"],
    ),
    (
        "anpviz_sdp",
        "rtsp://cam/x",
        &["rtsp://cam/x/trackID=1", "rtsp://cam/x/trackID=2"],
        "rtsp://cam/x",
        &["H264", "MPEG4-GENERIC"],
    ),
    (
        "bunny_describe",
        "rtsp://wowzaec2demo.streamlock.net/vod/mp4:BigBuckBunny_115k.mov",
        &[
            "rtsp://wowzaec2demo.streamlock.net/vod/mp4:BigBuckBunny_115k.mov/trackID=1",
            "rtsp://wowzaec2demo.streamlock.net/vod/mp4:BigBuckBunny_115k.mov/trackID=2",
        ],
        "rtsp://wowzaec2demo.streamlock.net/vod/mp4:BigBuckBunny_115k.mov/",
        &["MPEG4-GENERIC", "H264"],
    ),
    (
        "dahua_describe_h264_aac_onvif",
        "rtsp://192.168.5.111:554/cam/realmonitor?channel=1&subtype=1&unicast=true&proto=Onvif",
        &[
            "rtsp://192.168.5.111:554/cam/realmonitor?channel=1&subtype=1&unicast=true&proto=Onvif/trackID=0",
            "rtsp://192.168.5.111:554/cam/realmonitor?channel=1&subtype=1&unicast=true&proto=Onvif/trackID=1",
            "rtsp://192.168.5.111:554/cam/realmonitor?channel=1&subtype=1&unicast=true&proto=Onvif/trackID=4",
        ],
        "rtsp://192.168.5.111:554/cam/realmonitor?channel=1&subtype=1&unicast=true&proto=Onvif/",
        &["H264", "MPEG4-GENERIC", "VND.ONVIF.METADATA"],
    ),
    (
        "dahua_describe_h265_pcma",
        "rtsp://cam-driveway/cam/realmonitor?channel=1&subtype=2",
        &[
            "rtsp://cam-driveway/cam/realmonitor?channel=1&subtype=2/trackID=0",
            "rtsp://cam-driveway/cam/realmonitor?channel=1&subtype=2/trackID=1",
        ],
        "rtsp://cam-driveway/cam/realmonitor?channel=1&subtype=2/",
        &["H265", "PCMA"],
    ),
    (
        "foscam_describe",
        "rtsp://192.168.5.107:65534/videoMain",
        &["rtsp://192.168.5.107:65534/videoMain/track1", "rtsp://192.168.5.107:65534/videoMain/track2"],
        "rtsp://192.168.5.107:65534/videoMain/",
        &["H264", "PCMU"],
    ),
    (
        "geovision_sdp",
        "rtsp://192.168.5.237/media/video1",
        &["rtsp://192.168.5.237/media/video1/video", "rtsp://192.168.5.237/media/video1/metadata"],
        "rtsp://192.168.5.237/media/video1",
        &["H264", "VND.ONVIF.METADATA"],
    ),
    (
        "gw_main_describe",
        "rtsp://192.168.1.110:5050/H264?channel=1&subtype=0&unicast=true&proto=Onvif",
        &[
            "rtsp://192.168.1.110:5050/H264?channel=1&subtype=0&unicast=true&proto=Onvif/video",
            "rtsp://192.168.1.110:5050/H264?channel=1&subtype=0&unicast=true&proto=Onvif/audio",
        ],
        "rtsp://192.168.1.110:5050/H264?channel=1&subtype=0&unicast=true&proto=Onvif",
        &["H264", "PCMU"],
    ),
    (
        "gw_sub_describe",
        "rtsp://192.168.1.110:5049/H264?channel=1&subtype=1&unicast=true&proto=Onvif",
        &["rtsp://192.168.1.110:5049/H264?channel=1&subtype=1&unicast=true&proto=Onvif/video"],
        "rtsp://192.168.1.110:5049/H264?channel=1&subtype=1&unicast=true&proto=Onvif",
        &["H264"],
    ),
    (
        "h264dvr_describe",
        "rtsp://127.0.0.1:554/camera",
        &["rtsp://127.0.0.1:554/camera/trackID=3", "rtsp://127.0.0.1:554/camera/trackID=4"],
        "rtsp://127.0.0.1:554/camera",
        &["H264", "PCMA"],
    ),
    (
        "hikvision_describe",
        "rtsp://192.168.5.106:554/Streaming/Channels/101?transportmode=unicast&Profile=Profile_1",
        &[
            "rtsp://192.168.5.106:554/Streaming/Channels/101/trackID=1?transportmode=unicast&profile=Profile_1",
            "rtsp://192.168.5.106:554/Streaming/Channels/101/trackID=3?transportmode=unicast&profile=Profile_1",
        ],
        "rtsp://192.168.5.106:554/Streaming/Channels/101/?transportmode=unicast&profile=Profile_1",
        &["H264", "VND.ONVIF.METADATA"],
    ),
    ("ipcam_describe", "rtsp://camera", &["rtsp://camera/trackID=1"], "rtsp://camera", &["H264"]),
    ("macrovideo_describe", "rtsp://camera", &["rtsp://camera/track1"], "rtsp://camera", &["H264"]),
    (
        "missing_content_type_describe",
        "rtsp://192.168.1.101/live/test",
        &["rtsp://192.168.1.101/live/test/streamid=0", "rtsp://192.168.1.101/live/test/streamid=1"],
        "rtsp://192.168.1.101/live/test",
        &["H264", "MPEG4-GENERIC"],
    ),
    (
        "reolink_describe",
        "rtsp://192.168.5.206:554/h264Preview_01_main",
        &[
            "rtsp://192.168.5.206/h264Preview_01_main/trackID=1",
            "rtsp://192.168.5.206/h264Preview_01_main/trackID=2",
        ],
        "rtsp://192.168.5.206/h264Preview_01_main/",
        &["H264", "MPEG4-GENERIC"],
    ),
    (
        "reolink_describe_control_first",
        "rtsp://192.168.5.206:554/h264Preview_01_main",
        &[
            "rtsp://192.168.5.206/h264Preview_01_main/trackID=1",
            "rtsp://192.168.5.206/h264Preview_01_main/trackID=2",
        ],
        "rtsp://192.168.5.206/h264Preview_01_main/",
        &["H264", "MPEG4-GENERIC"],
    ),
    (
        "tplink_sdp",
        "rtsp://cam/stream1",
        &["rtsp://cam/stream1/track1", "rtsp://cam/stream1/track2", "rtsp://cam/stream1/track3"],
        "rtsp://cam/stream1",
        &["H265", "PCMA", "TP-LINK"],
    ),
    (
        "ubiquiti_sdp",
        "rtsps://192.168.1.1:7441/x?enableSrtp",
        &[
            "rtsps://192.168.1.1:7441/x?enableSrtp/trackID=0",
            "rtsps://192.168.1.1:7441/x?enableSrtp/trackID=1",
            "rtsps://192.168.1.1:7441/x?enableSrtp/trackID=2",
        ],
        "rtsps://192.168.1.1:7441/x?enableSrtp",
        &["MPEG4-GENERIC", "OPUS", "H264"],
    ),
    (
        "vstarcam_describe",
        "rtsp://192.168.1.198:10554/tcp/av0_0",
        &["rtsp://192.168.1.198:10554/tcp/av0_0/track0", "rtsp://192.168.1.198:10554/tcp/av0_0/track1"],
        "rtsp://192.168.1.198:10554/tcp/av0_0",
        &["H264", "PCMA"],
    ),
    // Bodies with CRLF replaced by LF, and cut before the last line's end
    (
        "gw_main_describe lf",
        "rtsp://c",
        ROWS_LF,
        "rtsp://192.168.1.110:5050/H264?channel=1&subtype=0&unicast=true&proto=Onvif",
        &["H264", "PCMU"],
    ),
    (
        "tplink_sdp lf",
        "rtsp://c/s",
        &["rtsp://c/s/track1", "rtsp://c/s/track2", "rtsp://c/s/track3"],
        "rtsp://c/s",
        &["H265", "PCMA", "TP-LINK"],
    ),
];
const ROWS_LF: &[&str] = &[
    "rtsp://192.168.1.110:5050/H264?channel=1&subtype=0&unicast=true&proto=Onvif/video",
    "rtsp://192.168.1.110:5050/H264?channel=1&subtype=0&unicast=true&proto=Onvif/audio",
];

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/data/{name}.txt", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn response(bytes: &[u8]) -> Response {
    let mut parser = Parser::new();
    parser.push(bytes);
    match parser.next_item().unwrap().or_else(|| parser.end_body()) {
        Some(Item::Response(response)) => response,
        other => panic!("no response but {other:?}"),
    }
}

/// The camera's DESCRIBE answer, renumbered for the request.
fn describe(name: &str, seen: &Seen) -> Vec<u8> {
    let (name, lf) = name.strip_suffix(" lf").map_or((name, false), |name| (name, true));
    let mut bytes = file(name);
    if lf {
        bytes.retain(|b| *b != b'\r');
        while bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
    }
    if name.ends_with("_sdp") {
        return [format!("RTSP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len()).into_bytes(), bytes]
            .concat();
    }
    let text = String::from_utf8(bytes).unwrap();
    let number = seen.header("CSeq").unwrap();
    let lines: Vec<String> = text
        .split_inclusive('\n')
        .map(|line| {
            if line.to_ascii_lowercase().starts_with("cseq") {
                format!("CSeq: {number}\r\n")
            } else {
                line.to_owned()
            }
        })
        .filter(|line| !(lf && line.to_ascii_lowercase().starts_with("content-length")))
        .collect();
    lines.concat().into_bytes()
}

#[test]
fn c43_setup_and_play_urls_of_real_cameras() {
    for (name, url, setups, play, encodings) in ROWS {
        let mut rig = Rig::new(url, move |seen| {
            (seen.method == "DESCRIBE").then(|| vec![Act::Send(describe(name, seen))])
        });
        rig.want = (0..setups.len()).collect();
        rig.run(3.0);
        let urls: Vec<&str> = rig.of("SETUP").iter().map(|s| s.url.as_str()).collect();
        assert_eq!((urls.as_slice(), rig.of("PLAY")[0].url.as_str()), (setups, play), "{name}");
        assert!(
            rig.connects.iter().all(|c| c.1.host == rig.connects[0].1.host),
            "{name}: the host dialled stays"
        );
        let bytes = file(name.trim_end_matches(" lf"));
        let body = if name.contains("_sdp") { bytes } else { response(&bytes).body.to_vec() };
        let found: Vec<String> = sdp::parse(&body).medias.into_iter().map(|m| m.encoding).collect();
        assert_eq!(found, encodings, "{name}");
    }
}

#[test]
fn c61_c62_setup_answers_of_real_cameras() {
    for (name, id, channels, server_port) in [
        ("bunny_setup", "1642021126", Some((0, 1)), None),
        ("dahua_setup", "634214675641", Some((0, 1)), None),
        ("gw_main_setup_video", "9a90de54", Some((0, 1)), None),
        ("gw_main_setup_audio", "9a90de54", Some((2, 3)), None),
        ("gw_sub_setup", "9b0d0e54", Some((0, 1)), None),
        ("h264dvr_setup_video", "231970", None, Some((40004, 40005))),
        ("h264dvr_setup_audio", "231980", None, Some((40006, 40007))),
        ("hikvision_setup", "708345999", Some((0, 1)), None),
        ("hikvision_setup_ssrc_space", "708886412", Some((0, 1)), None),
        ("luckfox_rkipc_setup_tcp", "12345678", Some((0, 1)), None),
        ("luckfox_rkipc_setup_udp", "12345678", None, Some((49152, 49153))),
        ("reolink_setup", "F8F8E425", Some((0, 1)), None),
        ("rubetek_setup_ssrc_0x", "5657612475258969210", Some((0, 1)), None),
        ("setup_ssrc_4_hex_digits", "1066441024", Some((0, 1)), None),
    ] {
        let response = response(&file(name));
        let session = SessionHeader::parse(response.headers.get("Session").unwrap()).unwrap();
        assert_eq!((session.id.as_str(), session.timeout), (id, Duration::from_secs(60)), "{name}");
        let transport = Transport::parse(response.headers.get("Transport").unwrap());
        assert_eq!((transport.interleaved, transport.server_port), (channels, server_port), "{name}");
        let lower = if channels.is_some() { Lower::Tcp } else { Lower::Udp };
        assert_eq!(transport.lower(), lower, "{name}");
    }
}

#[test]
fn c6_other_answers_of_real_cameras() {
    for (name, status, cseq) in [
        ("bad_rtptime", 200, Some(3)),
        ("bunny_play", 200, Some(3)),
        ("dahua_options", 200, Some(5)),
        ("dahua_play", 200, Some(7)),
        ("dahua_play_decimal_ssrc", 200, Some(4)),
        ("gw_main_play", 200, Some(4)),
        ("gw_sub_play", 200, Some(3)),
        ("h264dvr_play", 200, Some(6)),
        ("hikvision_play", 200, Some(3)),
        ("laureii_play", 200, Some(5)),
        ("longse_unauthorized", 401, Some(1)),
        ("reolink_play", 200, Some(6)),
        ("reolink_teardown", 200, Some(7)),
    ] {
        let response = response(&file(name));
        assert_eq!((response.status, response.headers.cseq()), (status, cseq), "{name}");
    }
}

#[test]
fn c23_longse_challenge_without_algorithm_and_qop() {
    let response = response(&file("longse_unauthorized"));
    let mut client = auth::Client::new(Some(patchbay_net::Credentials::new("u", "p")));
    client.rejected(response.headers.all("WWW-Authenticate")).unwrap();
    let answer = client.authorization("DESCRIBE", "rtsp://c/", "x").unwrap();
    assert!(answer.starts_with("Digest username=\"u\"") && !answer.contains("qop"), "{answer}");
}
