//! SETUP, PLAY, receiving, keepalive: rows C60 to C105 against the scripted camera.

use std::time::Duration;

use bytes::Bytes;
use patchbay_plugin_rtsp::client::{Error, Input, Reconnect, Wait};
use patchbay_sdk::Class;

use crate::emulator::{Act, Rig, Seen, frame, rtp, silence};

const URL: &str = "rtsp://10.0.0.2/cam";
const UDP: &str = "rtsp://10.0.0.2/cam#transport=udp";

fn rig(url: &str, script: impl FnMut(&Seen) -> Option<Vec<Act>> + 'static) -> Rig {
    let mut rig = Rig::new(url, script);
    rig.run(5.0);
    rig
}

fn setup(seen: &Seen, transport: &str, session: &str) -> Option<Vec<Act>> {
    seen.answer("200 OK", &[&format!("Transport: {transport}"), &format!("Session: {session}")], "")
}

#[test]
fn c60_c29_udp_falls_back_to_tcp_on_a_new_connection() {
    type Case = (&'static str, fn(&Seen) -> Option<Vec<Act>>, bool);
    let cases: [Case; 3] = [
        ("461", |s| s.status("461 Unsupported Transport"), true),
        ("TCP named", |s| setup(s, "RTP/AVP/TCP;interleaved=0-1", "1"), true),
        ("silence", |_| None, false),
    ];
    for (name, answer, streams) in cases {
        let mut rig = Rig::new(UDP, move |seen| {
            let udp = seen.header("Transport").is_some_and(|t| t.contains("client_port"));
            if udp { answer(seen) } else { None }
        });
        if !streams {
            rig.streams = Vec::new();
        }
        rig.run(4.0);
        rig.streams = vec![0, 1];
        rig.run(4.0);
        assert_eq!(rig.connects.len(), 2, "{name}");
        assert_eq!(rig.connects[1].2, Some(Reconnect::UdpFails), "{name}");
        let second: Vec<&str> =
            rig.seen.iter().filter(|s| s.connection == 2).map(|s| s.method.as_str()).collect();
        assert_eq!(second, ["OPTIONS", "DESCRIBE", "SETUP", "SETUP", "PLAY"], "{name}");
        assert_eq!((rig.closed.as_ref(), rig.described), (None, 1), "{name}");
        assert!(rig.media.iter().any(|(_, index, ..)| *index == 1), "{name}");
        if !streams {
            assert_eq!(rig.count("TEARDOWN"), 1, "{name}: the UDP session is torn down");
        }
    }
}

#[test]
fn c61_channels_are_those_of_the_answer() {
    for (answer, channel) in [
        ("RTP/AVP/TCP;unicast;ssrc=D6D66270;interleaved=10-11", 10),
        ("RTP/AVP/TCP;interleaved=6", 6),
        ("RTP/AVP;unicast;interleaved=4-5", 4),
        ("RTP/AVP/TCP;unicast;mode=\"play\"", 0),
        ("RTP/AVP/TCP; ssrc= d6d6627;interleaved=8-9", 8),
    ] {
        let mut rig =
            Rig::new(URL, move |seen| if seen.method == "SETUP" { setup(seen, answer, "1") } else { None });
        rig.want = vec![0];
        rig.run(1.0);
        rig.media.clear();
        rig.send(frame(channel, &rtp(0, 9)))
            .send(frame(channel + 1, &[0x80, 200, 0, 1, 0, 0, 0, 0]))
            .run(0.1);
        let kinds: Vec<(usize, bool)> = rig.media.iter().map(|(_, index, rtcp, _)| (*index, *rtcp)).collect();
        assert_eq!(kinds, [(0, false), (0, true)], "{answer}");
    }
}

#[test]
fn c61_the_same_channels_for_two_medias_are_not_believed() {
    let mut rig =
        rig(
            URL,
            |seen| {
                if seen.method == "SETUP" { setup(seen, "RTP/AVP/TCP;interleaved=0-1", "1") } else { None }
            },
        );
    rig.media.clear();
    rig.send(frame(0, &rtp(0, 9))).send(frame(2, &rtp(1, 9))).run(0.1);
    assert_eq!(rig.media.iter().map(|m| m.1).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn c62_the_first_session_id_is_used_and_454_tries_the_latest() {
    let rig = rig(URL, |seen| match (seen.method.as_str(), seen.url.ends_with('1')) {
        ("SETUP", false) => setup(seen, "RTP/AVP/TCP;interleaved=0-1", " A ;timeout=30"),
        ("SETUP", true) => setup(seen, "RTP/AVP/TCP;interleaved=2-3", "B"),
        ("PLAY", _) if seen.header("Session") == Some("A") => seen.status("454 Session Not Found"),
        _ => None,
    });
    let ids: Vec<_> = rig.of("PLAY").iter().map(|s| s.header("Session").unwrap().to_owned()).collect();
    assert_eq!((rig.playing, ids), (1, vec!["A".to_owned(), "B".to_owned()]));
    assert_eq!(rig.of("SETUP")[1].header("Session"), Some("A"));
}

#[test]
fn c62_only_setup_begins_a_session() {
    // Dahua names one in its answer to OPTIONS that it does not know later
    let rig = rig(URL, |seen| match seen.method.as_str() {
        "OPTIONS" => seen.answer("200 OK", &["Session: 136527041864;timeout=60"], ""),
        _ => None,
    });
    assert_eq!(rig.of("SETUP")[0].header("Session"), None);
    assert_eq!(rig.of("PLAY")[0].header("Session"), Some("4711"));
}

#[test]
fn c63_a_refused_media_is_done_without() {
    for status in ["461 No", "455 No", "404 No", "500 No"] {
        let mut rig = Rig::new(URL, move |seen| {
            if seen.method == "SETUP" && seen.url.ends_with('1') { seen.status(status) } else { None }
        });
        rig.run(30.0);
        assert_eq!((rig.playing, &rig.closed), (1, &None), "{status}");
        let mut rig =
            Rig::new(URL, move |seen| if seen.method == "SETUP" { seen.status(status) } else { None });
        rig.run(5.0);
        assert!(rig.error().to_string().contains("SETUP"), "{status}");
    }
}

#[test]
fn c65_ports_are_opened_before_play_and_every_five_seconds() {
    let mut rig = Rig::new(UDP, |_| None);
    rig.run(14.0);
    let play = rig.order.iter().position(|o| o == "PLAY").unwrap();
    let mut before = rig.order[..play].iter().filter(|o| o.starts_with("udp")).collect::<Vec<_>>();
    before.sort();
    assert_eq!(
        before,
        ["udp rtcp 0 to 6001", "udp rtcp 1 to 6003", "udp rtp 0 to 6000", "udp rtp 1 to 6002"]
    );
    assert_eq!(&rig.udp[0].4[..], [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&rig.udp[1].4[..], [0x80, 0xc9, 0, 1, 0, 0, 0, 0]);
    let punches: Vec<u64> = rig.udp.iter().filter(|u| u.1 == 0 && !u.2).map(|u| u.0.as_secs()).collect();
    assert_eq!(punches, [0, 5, 10]);
}

const MULTICAST: &str = "rtsp://10.0.0.2/cam#transport=multicast";

#[test]
fn c68_the_group_of_the_answer_or_of_the_description() {
    let mut rig = Rig::new(MULTICAST, |seen| match seen.method.as_str() {
        "DESCRIBE" => {
            let sdp = "v=0\r\nm=video 6002 RTP/AVP 96\r\nc=IN IP4 239.5.5.5/3\r\na=rtpmap:96 H264/90000\r\n\
                a=control:trackID=0\r\nm=audio 0 RTP/AVP 8\r\na=control:trackID=1\r\n";
            seen.answer("200 OK", &[], sdp)
        }
        "SETUP" if seen.url.ends_with('0') => setup(seen, "RTP/AVP;multicast", "1"),
        "SETUP" => setup(seen, "RTP/AVP;multicast;destination=239.6.6.6;port=7000-7001;ttl=2", "1"),
        _ => None,
    });
    rig.streams = Vec::new();
    rig.run(0.5);
    assert_eq!(rig.of("SETUP")[0].header("Transport"), Some("RTP/AVP;multicast"));
    let group = |last: u8| std::net::IpAddr::from([239, last, last, last]);
    assert_eq!(rig.joined, [(0, group(5), (6002, 6003)), (1, group(6), (7000, 7001))]);
    assert!(rig.udp.is_empty(), "nobody punches a group");
    // From any port, of a payload type of the media.
    for (pt, from_port) in [(50, 1), (96, 2), (96, 3)] {
        let data = Bytes::from(vec![0x80, pt, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 1]);
        rig.input(Input::Datagram { index: 0, to_rtcp: false, from_port, data }).run(0.1);
    }
    assert_eq!(rig.media.len(), 2);
    // Receiver reports go to the group's RTCP port.
    let sounds = |rig: &mut Rig| {
        let data = Bytes::from(vec![0x80, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 1]);
        rig.input(Input::Datagram { index: 1, to_rtcp: false, from_port: 4, data }).run(1.0);
    };
    (0..6).for_each(|_| sounds(&mut rig));
    let ports: Vec<(usize, bool, u16)> = rig.udp.iter().map(|u| (u.1, u.2, u.3)).collect();
    assert_eq!(ports, [(0, true, 6003), (1, true, 7001)]);
}

#[test]
fn c68_what_is_no_group_is_tcp() {
    type Case = (&'static str, fn(&Seen) -> Option<Vec<Act>>);
    let cases: [Case; 4] = [
        ("461", |s| s.status("461 Unsupported Transport")),
        ("unicast", |s| setup(s, "RTP/AVP;unicast;server_port=6000-6001", "1")),
        ("a neighbour's address", |s| setup(s, "RTP/AVP;multicast;destination=10.0.0.9;port=6000-6001", "1")),
        ("no port", |s| setup(s, "RTP/AVP;multicast;destination=239.1.1.1", "1")),
    ];
    for (name, answer) in cases {
        let mut rig = Rig::new(MULTICAST, move |seen| {
            if seen.header("Transport").is_some_and(|t| t.contains("multicast")) {
                answer(seen)
            } else {
                None
            }
        });
        rig.run(4.0);
        assert_eq!((rig.joined.len(), rig.playing), (0, 1), "{name}");
        assert_eq!(rig.connects[1].2, Some(Reconnect::UdpFails), "{name}");
    }
}

#[test]
fn c66_the_camera_may_send_from_other_ports() {
    let mut rig = Rig::new(UDP, |_| None);
    rig.streams = Vec::new();
    rig.run(0.5);
    let datagram = |pt: u8, from_port: u16| Input::Datagram {
        index: 0,
        to_rtcp: false,
        from_port,
        data: Bytes::from(vec![0x80, pt, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 1]),
    };
    rig.input(datagram(50, 7777)).run(0.1);
    assert!(rig.media.is_empty(), "another payload type");
    rig.input(datagram(96, 7001)).run(0.1);
    rig.input(datagram(96, 7002)).run(0.1);
    assert_eq!(rig.media.len(), 1, "the first one is the peer");
}

#[test]
fn c80_play_names_the_base_and_has_a_range() {
    let rig1 = rig(URL, |_| None);
    let play = rig1.of("PLAY")[0];
    assert_eq!((play.url.as_str(), play.header("Range")), ("rtsp://10.0.0.2/cam/", Some("npt=0.000-")));
    for (status, url) in
        [("404 Not Found", "rtsp://10.0.0.2/cam"), ("457 Invalid Range", "rtsp://10.0.0.2/cam/")]
    {
        let rig = rig(URL, move |seen| {
            if seen.method == "PLAY" && seen.header("Range").is_some() { seen.status(status) } else { None }
        });
        assert_eq!((rig.playing, rig.of("PLAY")[1].url.as_str()), (1, url));
    }
    let rig = rig(URL, |seen| if seen.method == "PLAY" { seen.status("404 No") } else { None });
    assert_eq!((rig.count("PLAY"), rig.error().class()), (2, Class::NotFound));
}

#[test]
fn c82_rtp_info_that_lies_decides_nothing() {
    // Of real cameras: numbers of 0, times of -1, URLs of other hosts, a semicolon at the end.
    for info in [
        "url=rtsp://other/trackID=1;seq=0;rtptime=-1;",
        "url=trackID=1;seq=65536;rtptime=99999999999",
        ",;=",
        "",
    ] {
        let line = format!("RTP-Info: {info}");
        let mut odd = Rig::new(URL, move |seen| match seen.method.as_str() {
            "PLAY" => seen.answer("200 OK", &["Session: 1", &line], ""),
            _ => None,
        });
        let mut plain = Rig::new(URL, |_| None);
        for rig in [&mut odd, &mut plain] {
            rig.run(5.0);
        }
        assert_eq!((odd.playing, odd.closed.is_none()), (1, true), "{info:?}");
        assert_eq!(odd.media.len(), plain.media.len());
        assert_eq!(odd.starts, None);
    }
}

#[test]
fn c81_media_before_the_play_reply_is_taken() {
    let mut rig = Rig::new(URL, |seen| {
        let early = frame(0, &rtp(0, 1));
        match seen.method.as_str() {
            "PLAY" => Some(vec![Act::Send(early), Act::Send(seen.reply("200 OK", &[], "").into_bytes())]),
            _ => None,
        }
    });
    rig.run(0.2);
    assert_eq!((rig.media.len(), rig.playing), (1, 1));
}

#[test]
fn c83_unknown_channels_are_skipped_by_length() {
    let mut rig = rig(URL, |_| None);
    rig.media.clear();
    rig.send(frame(77, &[0; 700])).send(frame(0, &rtp(0, 5))).run(0.1);
    assert_eq!(rig.media.len(), 1);
    // A packet cut short by junk is lost, the next ones are not
    let mut bytes = vec![0u8; 1500];
    bytes.extend(frame(0, &rtp(0, 6)));
    bytes.extend(frame(2, &rtp(1, 7)));
    bytes.extend(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    rig.send(bytes).run(0.1);
    assert_eq!((rig.media.len(), rig.answers.len()), (3, 1));
}

#[test]
fn c84_rtcp_and_rtp_are_told_apart_by_their_bytes() {
    let mut rig = rig(URL, |_| None);
    rig.media.clear();
    rig.send(frame(1, &rtp(0, 5))).send(frame(0, &[0x80, 200, 0, 1, 0, 0, 0, 0])).run(0.1);
    assert_eq!(rig.media.iter().map(|m| m.2).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn c89_silence_ends_the_session() {
    let mut rig = rig(URL, |seen| if seen.method == "GET_PARAMETER" { silence() } else { None });
    rig.streams = Vec::new();
    let last = rig.media.last().unwrap().0;
    rig.run(20.0);
    assert_eq!(rig.error(), &Error::Timeout(Wait::Silence));
    // One second for TEARDOWN, which is answered at once here
    assert_eq!(rig.closed.as_ref().unwrap().0 - last, Duration::from_secs(10));
}

#[test]
fn c89_answers_alone_keep_a_session_for_a_while_only() {
    let mut rig = rig(URL, |seen| match seen.method.as_str() {
        "SETUP" => {
            let transport = seen.header("Transport").unwrap();
            setup(seen, transport, "1;timeout=10")
        }
        _ => None,
    });
    rig.send(frame(0, &rtp(0, 1))).send(frame(2, &rtp(1, 1))).run(1.0);
    let last = rig.media.last().unwrap().0;
    rig.streams = Vec::new();
    rig.run(40.0);
    assert_eq!(rig.error(), &Error::Timeout(Wait::Silence));
    assert!(rig.count("GET_PARAMETER") >= 6, "{:?}", rig.methods());
    assert_eq!(rig.closed.as_ref().unwrap().0 - last, Duration::from_secs(30));
}

#[test]
fn c90_receiver_reports() {
    let mut tcp = Rig::new(URL, |_| None);
    tcp.run(31.0);
    let times: Vec<u64> = tcp.interleaved.iter().filter(|i| i.1 == 1).map(|i| i.0.as_secs()).collect();
    assert_eq!(times, [10, 20, 30]);
    assert_eq!(tcp.interleaved.iter().filter(|i| i.1 == 3).count(), 3);
    let mut udp = Rig::new(UDP, |_| None);
    udp.run(16.0);
    let reports = |u: &&(Duration, usize, bool, u16, Bytes)| u.4.first() == Some(&0x81);
    let times: Vec<u64> =
        udp.udp.iter().filter(reports).filter(|u| u.1 == 0).map(|u| u.0.as_secs()).collect();
    assert_eq!(times, [5, 10, 15]);
}

#[test]
fn c100_keepalive_methods() {
    type Case = (&'static str, &'static str, [&'static str; 2]);
    let cases: [Case; 4] = [
        ("Public: OPTIONS, GET_PARAMETER, SET_PARAMETER", "200 OK", ["GET_PARAMETER", "GET_PARAMETER"]),
        ("Public: OPTIONS, SET_PARAMETER", "200 OK", ["OPTIONS", "OPTIONS"]),
        ("X: no Public", "200 OK", ["OPTIONS", "OPTIONS"]),
        ("Public: GET_PARAMETER", "451 No", ["GET_PARAMETER", "OPTIONS"]),
    ];
    for (public, status, expected) in cases {
        let mut rig = Rig::new(URL, move |seen| match seen.method.as_str() {
            "OPTIONS" => seen.answer("200 OK", &[public], ""),
            "GET_PARAMETER" => seen.status(status),
            _ => None,
        });
        rig.run(61.0);
        let keepalives: Vec<&Seen> = rig.seen.iter().filter(|s| s.at > Duration::from_secs(1)).collect();
        let methods: Vec<&str> = keepalives.iter().map(|s| s.method.as_str()).collect();
        assert_eq!((methods, &rig.closed), (expected.to_vec(), &None), "{public}");
        assert!(keepalives.iter().all(|s| s.header("Session") == Some("4711")));
    }
}

#[test]
fn c101_keepalive_period() {
    let mut rig = Rig::new(URL, |seen| {
        let transport = seen.header("Transport").unwrap_or_default();
        if seen.method == "SETUP" { setup(seen, transport, "1;timeout=10") } else { None }
    });
    rig.run(2.0);
    for second in 2..31 {
        rig.send(frame(0, &rtp(0, second))).send(frame(2, &rtp(1, second))).run(1.0);
    }
    let times: Vec<f64> = rig.of("GET_PARAMETER").iter().map(|s| s.at.as_secs_f64()).collect();
    assert_eq!(times, [5.0, 10.0, 15.0, 20.0, 25.0, 30.0]);
}

#[test]
fn c102_keepalives_that_are_never_answered_do_not_matter() {
    let mut rig = Rig::new(URL, |seen| if seen.method == "GET_PARAMETER" { silence() } else { None });
    rig.run(700.0);
    assert_eq!((rig.closed.as_ref(), rig.count("GET_PARAMETER")), (None, 23));
}

#[test]
fn c105_missing_media_begins_anew_once() {
    // Audio alone came (go2rtc issue 1847): then all comes
    let mut rig = Rig::new(URL, |_| None);
    rig.streams = vec![1];
    rig.run(9.0);
    rig.streams = vec![0, 1];
    rig.run(20.0);
    assert_eq!((rig.connects.len(), rig.closed.as_ref()), (1, None), "video came in time");
    let mut rig = Rig::new(URL, |_| None);
    rig.streams = vec![1];
    rig.run(10.2);
    rig.streams = vec![0, 1];
    rig.run(30.0);
    assert_eq!(rig.connects.get(1).and_then(|c| c.2), Some(Reconnect::MediaMissing));
    assert_eq!((rig.connects.len(), rig.count("TEARDOWN"), rig.closed.as_ref()), (2, 1, None));
    // Video that never comes is an error, audio that never comes is done without
    let mut rig = Rig::new(URL, |_| None);
    rig.streams = vec![1];
    rig.run(30.0);
    assert_eq!((rig.error(), rig.connects.len()), (&Error::Timeout(Wait::FirstMedia), 2));
    let mut rig = Rig::new(URL, |_| None);
    rig.streams = vec![0];
    rig.run(60.0);
    assert_eq!((rig.connects.len(), rig.closed.as_ref()), (2, None));
}

#[test]
fn demand_sets_up_what_is_wanted() {
    let mut rig = Rig::new(URL, |_| None);
    rig.want = vec![1];
    rig.run(5.0);
    assert_eq!((rig.count("SETUP"), rig.of("SETUP")[0].url.as_str()), (1, "rtsp://10.0.0.2/cam/trackID=1"));
    // More is wanted: a new session, hidden from the host
    rig.input(Input::Wanted(&[0, 1])).run(5.0);
    assert_eq!((rig.count("TEARDOWN"), rig.connects.len(), rig.playing), (1, 2, 2));
    // Less is wanted: nothing changes
    rig.input(Input::Wanted(&[0])).run(5.0);
    assert_eq!(rig.connects.len(), 2);
    // Nothing is wanted: the session ends, the source does not
    rig.input(Input::Wanted(&[])).run(60.0);
    assert_eq!((rig.count("TEARDOWN"), rig.closed.as_ref(), rig.connects.len()), (2, None, 2));
    rig.input(Input::Wanted(&[0])).run(5.0);
    assert_eq!((rig.connects.len(), rig.playing, rig.described), (3, 3, 1));
}

#[test]
fn a_camera_that_nobody_wants_is_let_go_and_dialled_again() {
    let mut rig = Rig::new(URL, |_| None);
    rig.want = Vec::new();
    rig.run(100.0);
    assert_eq!((rig.methods(), rig.closed.as_ref()), (vec!["OPTIONS", "DESCRIBE"], None));
    rig.input(Input::Wanted(&[0])).run(3.0);
    assert_eq!((rig.playing, rig.connects.len()), (1, 2));
}

#[test]
fn other_medias_after_a_reconnect_end_the_session() {
    let mut rig = Rig::new(URL, |seen| {
        let sdp = "v=0\r\nm=video 0 RTP/AVP 97\r\na=rtpmap:97 H265/90000\r\n";
        if seen.method == "DESCRIBE" && seen.connection == 2 { seen.answer("200 OK", &[], sdp) } else { None }
    });
    rig.run(2.0);
    rig.input(Input::Wanted(&[])).run(2.0);
    rig.input(Input::Wanted(&[0])).run(2.0);
    assert_eq!((rig.error(), rig.error().class()), (&Error::MediasChanged, Class::Eof));
}

#[test]
fn eof_is_an_error_only_while_something_is_wanted() {
    let mut playing = rig(URL, |_| None);
    playing.close().run(1.0);
    assert_eq!(playing.error(), &Error::Eof);
    let mut idle = Rig::new(URL, |_| None);
    idle.want = Vec::new();
    idle.run(1.0);
    idle.close().run(1.0);
    assert_eq!(idle.closed, None);
}
