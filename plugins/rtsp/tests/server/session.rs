//! The server's session without sockets, row by row of the behaviours that real players and publishers show.

use std::time::Duration;

use patchbay_media::{Codec, Parameters};
use patchbay_plugin_rtsp::server::login::Login;
use patchbay_plugin_rtsp::server::session::{
    Config, Event, IDLE_TIMEOUT, LOGIN_DELAY, Offer, Output, PUBLISH_TIMEOUT, Path, RECORD_TIMEOUT, Reason,
    RtpInfo, Session, TEARDOWN_TIMEOUT,
};
use patchbay_plugin_rtsp::wire::{Item, Parser, Request, Response, Transport};
use proptest::prelude::*;

const T0: Duration = Duration::from_secs(100);
const URL: &str = "rtsp://192.0.2.1:8554/cam?x=1&y=2";
const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:streamid=0\r\n\
    m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/48000/2\r\n\
    a=fmtp:97 mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1190\r\na=control:streamid=1\r\n";

fn session(login: Option<Login>) -> Session {
    let config = Config {
        id: "0123456789abcdef".to_owned(),
        login,
        has_multicast: false,
        origin: "rtsp://10.0.0.1:8554".to_owned(),
    };
    Session::new(config, T0)
}

fn offers() -> Vec<Offer> {
    let audio = Parameters::audio(Codec::PcmAlaw, 8000, 1);
    vec![
        Offer {
            parameters: Parameters::video(Codec::H264, 90_000),
            payload_type: 96,
            channel: 0,
            ssrc: 0xd6d6_6270,
        },
        Offer { parameters: audio, payload_type: 8, channel: 2, ssrc: 0xa046 },
    ]
}

fn request(method: &str, url: &str) -> Request {
    Request::new(method, url).header("CSeq", "7")
}

fn response(bytes: &[u8]) -> Response {
    let mut parser = Parser::new();
    parser.push(bytes);
    match parser.next_item().unwrap() {
        Some(Item::Response(response)) => response,
        other => panic!("no response: {other:?}"),
    }
}

/// The outputs of one step: replies, events, and whether it closes.
#[derive(Debug, Default)]
struct Step {
    replies: Vec<Response>,
    events: Vec<Event>,
    closed: Option<Reason>,
}

fn drain(session: &mut Session) -> Step {
    let mut step = Step::default();
    while let Some(output) = session.poll() {
        match output {
            Output::Send(bytes) => step.replies.push(response(&bytes)),
            Output::Event(event) => step.events.push(event),
            Output::Close(reason) => step.closed = Some(reason),
        }
    }
    step
}

fn ask(session: &mut Session, request: Request) -> Step {
    session.request(T0, request);
    drain(session)
}

/// One request that is answered at once.
fn reply(session: &mut Session, request: Request) -> Response {
    let mut step = ask(session, request);
    assert_eq!(step.replies.len(), 1, "{step:?}");
    step.replies.remove(0)
}

fn describe(session: &mut Session, url: &str) -> Response {
    let step = ask(session, request("DESCRIBE", url));
    assert!(matches!(step.events[..], [Event::Describe { .. }]), "{step:?}");
    session.described(offers(), None);
    drain(session).replies.remove(0)
}

fn setup(session: &mut Session, url: &str, transport: &str) -> Response {
    reply(session, request("SETUP", url).header("Transport", transport))
}

const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1";

fn play(session: &mut Session) -> Response {
    let step = ask(session, request("PLAY", "rtsp://192.0.2.1:8554/cam/"));
    assert!(matches!(step.events[..], [Event::Play { .. }]), "{step:?}");
    let infos = [
        RtpInfo { track: 0, sequence: Some(65_535), timestamp: Some(u32::MAX) },
        RtpInfo { track: 1, sequence: Some(3), timestamp: None },
    ];
    response(&session.played(&infos))
}

fn playing() -> Session {
    let mut session = session(None);
    describe(&mut session, URL);
    setup(&mut session, "rtsp://192.0.2.1:8554/cam/trackID=0?x=1&y=2", TCP);
    play(&mut session);
    session
}

#[test]
fn s01_describe_answers_a_base_without_query_and_absolute_controls() {
    let mut session = session(None);
    let answer = describe(&mut session, URL);
    assert_eq!(answer.headers.get("Content-Base"), Some("rtsp://192.0.2.1:8554/cam/"));
    let sdp = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(sdp.contains("a=control:rtsp://192.0.2.1:8554/cam/\r\n"), "{sdp}");
    assert!(sdp.contains("a=control:rtsp://192.0.2.1:8554/cam/trackID=0?x=1&y=2\r\n"), "{sdp}");
    assert!(sdp.contains("a=control:rtsp://192.0.2.1:8554/cam/trackID=1?x=1&y=2\r\n"), "{sdp}");
    assert!(!sdp.contains("a=range"), "{sdp}");
}

/// SETUP URLs that ffmpeg 5 and 9 and GStreamer made of different bases and controls, measured.
#[test]
fn s02_k9_every_setup_url_of_real_players_finds_its_track() {
    for (url, channel) in [
        ("rtsp://192.0.2.1:8554/cam?x=1&y=2/trackID=1", 2),
        ("rtsp://192.0.2.1:8554/trackID=1", 2),
        ("rtsp://192.0.2.1:8554/cam/?x=1&y=2/trackID=1", 2),
        ("rtsp://192.0.2.1:8554/cam/trackID=1", 2),
        ("rtsp://192.0.2.1:8554/cam/trackID=1?x=1&y=2", 2),
        ("rtsp://192.0.2.1:8554/cam/trackID=0?x=1&y=2", 0),
        ("rtsp://192.0.2.1:8554/cam/", 0),
        ("rtsp://192.0.2.1:8554/cam", 0),
    ] {
        let mut session = session(None);
        describe(&mut session, URL);
        let answer = setup(&mut session, url, TCP);
        let transport = Transport::parse(answer.headers.get("Transport").unwrap());
        assert_eq!((answer.status, transport.interleaved), (200, Some((channel, channel + 1))), "{url}");
    }
    let mut session = session(None);
    describe(&mut session, URL);
    assert_eq!(setup(&mut session, "rtsp://192.0.2.1:8554/cam/trackID=2", TCP).status, 404);
    assert_eq!(setup(&mut session, "rtsp://192.0.2.1:8554/cam/", TCP).status, 200);
    assert_eq!(setup(&mut session, "rtsp://192.0.2.1:8554/cam/", TCP).status, 200);
    assert_eq!(setup(&mut session, "rtsp://192.0.2.1:8554/cam/", TCP).status, 404, "no media is left");
}

#[test]
fn s03_the_session_header_decides_and_not_the_url() {
    for url in ["rtsp://192.0.2.1:8554/cam/", "rtsp://192.0.2.1:8554/cam/trackID=0", "*"] {
        let mut session = session(None);
        describe(&mut session, URL);
        setup(&mut session, "rtsp://192.0.2.1:8554/cam/trackID=0", TCP);
        let step = ask(&mut session, request("PLAY", url).header("Session", "0123456789abcdef;timeout=60"));
        assert!(matches!(step.events[..], [Event::Play { .. }]), "{url}: {step:?}");
    }
    let mut session = playing();
    assert_eq!(reply(&mut session, request("PLAY", URL).header("Session", "0123")).status, 454);
    assert_eq!(reply(&mut session, request("TEARDOWN", "*").header("Session", "feed")).status, 454);
    assert!(session.is_playing());
}

#[test]
fn s04_the_value_of_any_cseq_is_echoed() {
    for (name, value) in [("Cseq", "12"), ("CSEQ", " 4294967296 "), ("CSeq", "abc")] {
        let answer = reply(&mut session(None), Request::new("OPTIONS", "*").header(name, value));
        assert_eq!(answer.headers.get("CSeq"), Some(value.trim()));
        assert_eq!(answer.headers.iter().next().unwrap().0, "CSeq");
    }
    let answer = reply(&mut session(None), Request::new("OPTIONS", "*"));
    assert_eq!((answer.status, answer.headers.get("CSeq")), (200, None));
}

#[test]
fn s05_unknown_methods_are_answered_and_the_connection_stays() {
    let mut session = playing();
    for (method, status) in
        [("GET_PARAMETER", 200), ("SET_PARAMETER", 200), ("REDIRECT", 501), ("FOO", 501), ("OPTIONS", 200)]
    {
        let step = ask(&mut session, request(method, URL));
        assert_eq!((step.replies[0].status, step.closed), (status, None), "{method}");
    }
    let public = reply(&mut session, request("OPTIONS", URL));
    let public = public.headers.get("Public").unwrap();
    for method in [
        "DESCRIBE",
        "ANNOUNCE",
        "SETUP",
        "PLAY",
        "PAUSE",
        "RECORD",
        "GET_PARAMETER",
        "SET_PARAMETER",
        "TEARDOWN",
    ] {
        assert!(public.contains(method), "{method}");
    }
}

#[test]
fn s06_gstreamers_doubled_headers() {
    let mut session = session(None);
    let doubled = request("OPTIONS", URL)
        .header("User-Agent", "GStreamer/1.22.0")
        .header("User-Agent", "GStreamer/1.22.0")
        .header("ClientChallenge", "9e26d33f2984236010ef6253fb1887f7")
        .header("PlayerStarttime", "[28/03/2003:22:50:23 00:00]");
    assert_eq!(reply(&mut session, doubled).status, 200);
}

#[test]
fn s07_one_session_id_of_hex_digits_for_all_medias() {
    let mut session = session(None);
    assert_eq!(describe(&mut session, URL).headers.get("Session"), None);
    for track in 0..2 {
        let answer = setup(&mut session, &format!("rtsp://192.0.2.1:8554/cam/trackID={track}"), TCP);
        assert_eq!(answer.headers.get("Session"), Some("0123456789abcdef;timeout=60"));
    }
    assert!(IDLE_TIMEOUT >= Duration::from_secs(65), "told 5 s less than enforced");
}

#[test]
fn s08_play_again_pause_and_setup_after_play() {
    let mut session = playing();
    assert_eq!(reply(&mut session, request("PLAY", URL)).status, 200);
    assert_eq!(setup(&mut session, "rtsp://192.0.2.1:8554/cam/trackID=1", TCP).status, 455);
    let step = ask(&mut session, request("PAUSE", URL));
    assert_eq!((step.events.as_slice(), step.replies[0].status), ([Event::Pause].as_slice(), 200));
    assert!(!session.is_playing());
    assert_eq!(reply(&mut session, request("PAUSE", URL)).status, 200);
    assert_eq!(play(&mut session).status, 200);
    assert!(session.is_playing());
    let mut early = self::session(None);
    for method in ["PLAY", "PAUSE", "RECORD", "SETUP"] {
        assert_eq!(reply(&mut early, request(method, URL)).status, 455, "{method}");
    }
}

#[test]
fn s09_the_play_reply_names_first_packets() {
    let mut session = session(None);
    describe(&mut session, URL);
    setup(&mut session, "rtsp://192.0.2.1:8554/cam/trackID=0", TCP);
    let answer = play(&mut session);
    assert_eq!(answer.headers.get("Session"), Some("0123456789abcdef;timeout=60"));
    assert_eq!(answer.headers.get("Range"), Some("npt=0.000-"));
    assert_eq!(
        answer.headers.get("RTP-Info"),
        Some(
            "url=rtsp://192.0.2.1:8554/cam/trackID=0?x=1&y=2;seq=65535;rtptime=4294967295,\
             url=rtsp://192.0.2.1:8554/cam/trackID=1?x=1&y=2;seq=3"
        )
    );
}

#[test]
fn s10_the_first_supported_transport_is_taken_and_echoed() {
    for (wish, expected) in [
        (
            "RTP/AVP;multicast,RTP/SAVP;unicast;client_port=1-2,RTP/AVP/TCP;unicast;interleaved=8-9",
            "RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=D6D66270",
        ),
        ("RTP/AVP/TCP;unicast", "RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=D6D66270"),
        ("RTP/AVP;interleaved=0-1", "RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=D6D66270"),
    ] {
        let mut session = session(None);
        describe(&mut session, URL);
        let answer = setup(&mut session, "rtsp://192.0.2.1:8554/cam/trackID=0", wish);
        assert_eq!(answer.headers.get("Transport"), Some(expected), "{wish}");
    }
    for wish in ["", "RTP/AVP;multicast;port=5000-5001", "RAW/RAW/UDP;client_port=1-2", "RTP/AVP;unicast"] {
        let mut session = session(None);
        describe(&mut session, URL);
        assert_eq!(setup(&mut session, "rtsp://192.0.2.1:8554/cam/trackID=0", wish).status, 461, "{wish}");
        assert_eq!(setup(&mut session, "rtsp://192.0.2.1:8554/cam/trackID=0", TCP).status, 200);
    }
}

#[test]
fn s12_only_unknown_names_are_404_and_the_connection_stays() {
    let mut session = session(None);
    ask(&mut session, request("DESCRIBE", URL));
    session.refuse(503, Some(2));
    let step = drain(&mut session);
    assert_eq!((step.replies[0].status, step.replies[0].headers.get("Retry-After")), (503, Some("2")));
    assert_eq!(step.closed, None);
    ask(&mut session, request("DESCRIBE", "rtsp://192.0.2.1:8554/other"));
    session.refuse(404, None);
    assert_eq!(drain(&mut session).replies[0].status, 404);
    assert_eq!(describe(&mut session, URL).status, 200, "a later try works");
}

#[test]
fn s12_requests_wait_for_the_one_in_hand() {
    let mut session = session(None);
    assert!(ask(&mut session, request("DESCRIBE", URL)).replies.is_empty());
    assert!(ask(&mut session, request("OPTIONS", URL)).replies.is_empty());
    assert_eq!(session.wake_at(), None, "the application has its own limit");
    session.described(offers(), None);
    let step = drain(&mut session);
    assert_eq!(step.replies.len(), 2);
    assert!(!step.replies[0].body.is_empty());
    assert!(step.replies[1].headers.get("Public").is_some());
}

#[test]
fn s13_the_query_and_decoded_name_go_to_the_application() {
    let step = ask(&mut session(None), request("DESCRIBE", "rtsp://h/k%C3%BCche/1.a/?video&pkt_size=9000"));
    assert!(matches!(&step.events[..], [Event::Describe { stream, query, backchannel: false, .. }]
        if stream == "küche/1.a/" && query == "video&pkt_size=9000"));
}

#[test]
fn s66_a_wish_to_talk_is_seen() {
    let onvif = request("DESCRIBE", URL).header("Require", "www.onvif.org/ver20/backchannel");
    for asked in [onvif, request("DESCRIBE", "rtsp://h/cam?backchannel=1")] {
        let step = ask(&mut session(None), asked);
        assert!(matches!(step.events[..], [Event::Describe { backchannel: true, .. }]), "{step:?}");
    }
}

#[test]
fn s66_the_media_of_the_talk_is_set_up_when_the_camera_hears() {
    let mut session = session(None);
    ask(&mut session, request("DESCRIBE", "rtsp://h/cam?backchannel=1"));
    session.described(offers(), Some(spoken()));
    let text = drain(&mut session).replies.remove(0).body;
    let medias = patchbay_rtp::sdp::parse(&text).medias;
    let speaks: Vec<bool> = medias.iter().map(|media| media.is_backchannel).collect();
    assert_eq!((speaks, session.talk_track()), (vec![false, false, true], Some(2)));
    assert_eq!(setup(&mut session, "rtsp://h/cam/trackID=0", TCP).status, 200);
    // Somebody else speaks.
    let talk = || {
        request("SETUP", "rtsp://h/cam/trackID=2").header("Transport", "RTP/AVP/TCP;unicast;interleaved=2-3")
    };
    assert!(matches!(ask(&mut session, talk()).events[..], [Event::Talk]));
    session.refuse(453, None);
    assert_eq!(drain(&mut session).replies[0].status, 453);
    // It is free now; the channels of the other media are not.
    assert!(ask(&mut session, talk()).replies.is_empty());
    session.hears();
    let reply = drain(&mut session).replies.remove(0);
    let transport = Transport::parse_all(reply.headers.get("Transport").unwrap()).remove(0);
    assert_eq!((reply.status, transport.interleaved), (200, Some((4, 5))));
    assert_eq!(session.of_channel(4), Some((2, false)));
}

fn login() -> Login {
    Login::new("admin", "12345", "0123456789abcdef0123456789abcdef".to_owned())
}

#[test]
fn s20_k10_md5_then_basic_are_offered() {
    let answer = reply(&mut session(Some(login())), request("DESCRIBE", URL));
    assert_eq!(answer.status, 401);
    let lines: Vec<&str> = answer.headers.all("WWW-Authenticate").collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("Digest ") && lines[1].starts_with("Basic "), "{lines:?}");
    assert!(!lines[0].contains("qop") && !lines[0].contains("algorithm"), "{lines:?}");
}

#[test]
fn s20_options_needs_no_login_and_everything_else_does() {
    let mut session = session(Some(login()));
    assert_eq!(reply(&mut session, request("OPTIONS", URL)).status, 200);
    for method in ["DESCRIBE", "ANNOUNCE", "SETUP", "PLAY", "RECORD", "GET_PARAMETER", "FOO"] {
        assert_eq!(reply(&mut session, request(method, URL)).status, 401, "{method}");
    }
    let step = ask(&mut session, request("DESCRIBE", URL).header("Authorization", "Basic YWRtaW46MTIzNDU="));
    assert!(matches!(step.events[..], [Event::Describe { .. }]));
}

#[test]
fn s24_a_wrong_login_is_answered_late_and_the_third_closes() {
    let mut session = session(Some(login()));
    let mut now = T0;
    for attempt in 1..=3 {
        let wrong = request("DESCRIBE", URL).header("Authorization", "Basic YWRtaW46MTIzNDY=");
        session.request(now, wrong);
        assert!(drain(&mut session).replies.is_empty(), "no answer at once");
        assert_eq!(session.wake_at(), Some(now + LOGIN_DELAY));
        session.timeout(now + LOGIN_DELAY - Duration::from_millis(1));
        assert!(drain(&mut session).replies.is_empty());
        now += LOGIN_DELAY;
        session.timeout(now);
        let step = drain(&mut session);
        assert_eq!(step.replies[0].status, 401);
        assert_eq!(step.closed, (attempt == 3).then_some(Reason::Login));
    }
}

#[test]
fn s40_udp_asks_the_application_for_ports() {
    let mut session = session(None);
    describe(&mut session, URL);
    let wish = request("SETUP", "rtsp://192.0.2.1:8554/cam/trackID=0")
        .header("Transport", "RTP/AVP/UDP;unicast;client_port=5000-5001");
    let step = ask(&mut session, wish);
    assert_eq!(step.events, [Event::Udp { track: 0, client: (5000, 5001) }]);
    session.udp((40_000, 40_001));
    let step = drain(&mut session);
    assert_eq!(
        step.replies[0].headers.get("Transport"),
        Some("RTP/AVP/UDP;unicast;client_port=5000-5001;server_port=40000-40001;ssrc=D6D66270")
    );
    let mixed = setup(&mut session, "rtsp://192.0.2.1:8554/cam/trackID=1", TCP);
    assert_eq!(mixed.status, 461, "one way for all medias");
}

#[test]
fn s41_s49_silence_ends_players_over_udp_and_not_over_tcp() {
    let mut tcp = playing();
    assert_eq!(tcp.wake_at(), None);
    tcp.timeout(T0 + Duration::from_secs(36_000));
    assert_eq!(drain(&mut tcp).closed, None);

    let mut udp = session(None);
    describe(&mut udp, URL);
    ask(
        &mut udp,
        request("SETUP", "rtsp://h/cam/trackID=0").header("Transport", "RTP/AVP;client_port=5000-5001"),
    );
    udp.udp((40_000, 40_001));
    drain(&mut udp);
    play(&mut udp);
    // A receiver report is a sign of life, and so is a request.
    udp.alive(T0 + Duration::from_secs(50));
    udp.timeout(T0 + Duration::from_secs(114));
    assert_eq!(drain(&mut udp).closed, None);
    udp.request(T0 + Duration::from_secs(114), request("OPTIONS", "*"));
    udp.timeout(T0 + Duration::from_secs(178));
    assert_eq!(drain(&mut udp).closed, None);
    assert_eq!(udp.wake_at(), Some(T0 + Duration::from_secs(179)));
    udp.timeout(T0 + Duration::from_secs(179));
    assert_eq!(drain(&mut udp).closed, Some(Reason::Silence));
}

#[test]
fn s49_a_connection_that_never_plays_is_closed() {
    let mut session = session(None);
    assert_eq!(session.wake_at(), Some(T0 + IDLE_TIMEOUT));
    session.timeout(T0 + IDLE_TIMEOUT);
    assert_eq!(drain(&mut session).closed, Some(Reason::Silence));
}

fn announce(session: &mut Session, sdp: &str) -> Response {
    let step =
        ask(session, request("ANNOUNCE", URL).header("Content-Type", "application/sdp").body(sdp.to_owned()));
    match &step.events[..] {
        [Event::Announce { stream, query, .. }] => {
            assert_eq!((stream.as_str(), query.as_str()), ("cam", "x=1&y=2"))
        }
        _ => return step.replies.into_iter().next().unwrap(),
    }
    session.announced();
    drain(session).replies.remove(0)
}

const RECORD_TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record";

#[test]
fn s60_the_flow_of_ffmpeg_with_its_own_channels() {
    let mut session = session(None);
    assert_eq!(reply(&mut session, request("OPTIONS", URL)).status, 200);
    let answer = announce(&mut session, SDP);
    assert_eq!((answer.status, answer.headers.get("Session")), (200, None), "the first comes with SETUP");
    for (track, channels) in [(0, "4-5"), (1, "2-3")] {
        let url = format!("{URL}/streamid={track}");
        let answer =
            setup(&mut session, &url, &format!("RTP/AVP/TCP;unicast;interleaved={channels};mode=record"));
        let expected = format!("RTP/AVP/TCP;unicast;interleaved={channels};mode=record");
        assert_eq!(answer.headers.get("Transport"), Some(expected.as_str()));
        assert_eq!(answer.headers.get("Session"), Some("0123456789abcdef;timeout=60"));
    }
    assert_eq!(session.of_channel(4), Some((0, false)));
    assert_eq!(session.of_channel(5), Some((0, true)));
    assert_eq!(session.of_channel(3), Some((1, true)));
    assert_eq!(session.of_channel(6), None);
    let step = ask(&mut session, request("RECORD", URL).header("Range", "npt=0.000-"));
    assert_eq!(step.events, [Event::Record { tracks: vec![(0, Path::Tcp(4, 5)), (1, Path::Tcp(2, 3))] }]);
    assert_eq!(step.replies[0].status, 200);
    let step = ask(&mut session, request("TEARDOWN", URL));
    assert_eq!((step.events.as_slice(), step.replies[0].status), ([Event::Teardown].as_slice(), 200));
    assert!(!session.is_publishing());
}

#[test]
fn s03_after_teardown_the_connection_stays_for_a_while() {
    let mut session = playing();
    let step = ask(&mut session, request("TEARDOWN", "*"));
    assert_eq!((step.events.as_slice(), step.closed), ([Event::Teardown].as_slice(), None));
    // GStreamer sometimes sends PAUSE behind it.
    assert_eq!(reply(&mut session, request("PAUSE", URL)).status, 455);
    assert_eq!(describe(&mut session, URL).status, 200, "and may begin anew");
    setup(&mut session, "rtsp://192.0.2.1:8554/cam/trackID=0", TCP);
    play(&mut session);
    ask(&mut session, request("TEARDOWN", "*"));
    assert_eq!(session.wake_at(), Some(T0 + TEARDOWN_TIMEOUT));
    session.timeout(T0 + TEARDOWN_TIMEOUT);
    assert_eq!(drain(&mut session).closed, Some(Reason::Teardown));
}

#[test]
fn s60_two_medias_that_wish_the_same_channels_get_different_ones() {
    let mut session = session(None);
    announce(&mut session, SDP);
    setup(&mut session, &format!("{URL}/streamid=0"), RECORD_TCP);
    let answer = setup(&mut session, &format!("{URL}/streamid=1"), RECORD_TCP);
    assert_eq!(Transport::parse(answer.headers.get("Transport").unwrap()).interleaved, Some((2, 3)));
}

#[test]
fn s61_packets_are_taken_before_record() {
    let mut session = session(None);
    assert!(!session.is_publishing());
    announce(&mut session, SDP);
    setup(&mut session, &format!("{URL}/streamid=0"), RECORD_TCP);
    assert!(session.is_publishing());
    assert_eq!(session.of_channel(0), Some((0, false)));
}

#[test]
fn s62_a_name_that_may_not_be_published() {
    let mut session = session(None);
    ask(&mut session, request("ANNOUNCE", URL).body(SDP));
    session.refuse(404, None);
    assert_eq!(drain(&mut session).replies[0].status, 404);
    assert!(!session.is_publishing());
    let mut locked = self::session(Some(login()));
    assert_eq!(reply(&mut locked, request("ANNOUNCE", URL).body(SDP)).status, 401);
    assert_eq!(announce(&mut self::session(None), "v=0\r\n").status, 400, "no media");
}

#[test]
fn s64_dead_publishers() {
    let mut silent = session(None);
    announce(&mut silent, SDP);
    assert_eq!(silent.wake_at(), Some(T0 + RECORD_TIMEOUT));
    silent.alive(T0 + Duration::from_secs(9));
    silent.timeout(T0 + RECORD_TIMEOUT);
    assert_eq!(drain(&mut silent).closed, Some(Reason::Silence), "ANNOUNCE without RECORD");

    let mut session = session(None);
    announce(&mut session, SDP);
    setup(&mut session, &format!("{URL}/streamid=0"), RECORD_TCP);
    ask(&mut session, request("RECORD", URL));
    session.alive(T0 + Duration::from_secs(60));
    session.timeout(T0 + Duration::from_secs(74));
    assert_eq!(drain(&mut session).closed, None);
    session.timeout(T0 + Duration::from_secs(60) + PUBLISH_TIMEOUT);
    assert_eq!(drain(&mut session).closed, Some(Reason::Silence));
}

#[test]
fn s65_controls_that_are_absent_or_not_unique_count_for_nothing() {
    for control in [Some("a=control:track\r\n"), None] {
        let sdp = SDP
            .replace("a=control:streamid=0\r\n", control.unwrap_or(""))
            .replace("a=control:streamid=1\r\n", control.unwrap_or(""));
        let mut session = session(None);
        announce(&mut session, &sdp);
        for (channel, track) in [(0, 0), (2, 1)] {
            let transport = format!("RTP/AVP/TCP;unicast;interleaved={channel}-{};mode=record", channel + 1);
            let url = control.map_or(URL.to_owned(), |_| format!("{URL}/track"));
            assert_eq!(setup(&mut session, &url, &transport).status, 200);
            assert_eq!(session.of_channel(channel), Some((track, false)));
        }
    }
    // Numbers that start elsewhere are matched by name.
    let sdp = SDP.replace("streamid=1", "trackID=7").replace("streamid=0", "trackID=6");
    let mut session = session(None);
    announce(&mut session, &sdp);
    assert_eq!(setup(&mut session, &format!("{URL}/trackID=7"), RECORD_TCP).status, 200);
    assert_eq!(session.of_channel(0), Some((1, false)));
}

#[test]
fn a_flood_of_requests_closes() {
    let mut session = session(None);
    ask(&mut session, request("DESCRIBE", URL));
    let closed = (0..100).find_map(|_| ask(&mut session, request("OPTIONS", URL)).closed);
    assert_eq!(closed, Some(Reason::Flood));
}

proptest! {
    /// Whatever comes in whatever order: each request has exactly one answer, in order, and none panics.
    #[test]
    fn each_request_has_one_answer(
        steps in prop::collection::vec((0..12_usize, "[ -~]{0,40}", any::<u8>()), 1..30)
    ) {
        let mut session = session(None);
        let (mut asked, mut answers, mut now) = (0_u32, Vec::new(), T0);
        for (method, text, wait) in steps {
            let method = ["OPTIONS", "DESCRIBE", "ANNOUNCE", "SETUP", "SETUP", "PLAY", "PAUSE", "RECORD",
                "GET_PARAMETER", "SET_PARAMETER", "TEARDOWN", "PLAY"][method];
            let transport = if wait % 2 == 0 { TCP.to_owned() } else { format!("RTP/AVP;client_port={text}") };
            let url = format!("rtsp://h/cam/{text}trackID={}", wait % 4);
            now += Duration::from_millis(u64::from(wait));
            session.request(now, Request::new(method, url)
                .header("CSeq", asked.to_string()).header("Transport", transport).body(SDP));
            asked += 1;
            while let Some(output) = session.poll() {
                match output {
                    Output::Send(bytes) => answers.push(response(&bytes)),
                    Output::Close(_) => {}
                    Output::Event(event) => match event {
                        Event::Describe { .. } if wait % 3 == 0 => session.refuse(404, None),
                        Event::Talk => session.hears(),
                        Event::Describe { .. } => session.described(offers(), Some(spoken())),
                        Event::Announce { .. } if wait % 3 == 0 => session.refuse(404, None),
                        Event::Announce { .. } => session.announced(),
                        Event::Multicast { .. } => session.refuse(461, None),
                        Event::Udp { .. } => session.udp((2, 3)),
                        Event::Play { .. } => answers.push(response(&session.played(&[]))),
                        Event::Pause | Event::Record { .. } | Event::Teardown => {}
                    },
                }
            }
            session.timeout(now);
        }
        let numbers: Vec<u32> = answers.iter().map(|a| a.headers.cseq().unwrap()).collect();
        prop_assert_eq!(numbers, (0..asked).collect::<Vec<_>>());
    }
}

/// What a player may say.
fn spoken() -> Offer {
    let parameters = Parameters::audio(Codec::PcmMulaw, 8000, 1);
    Offer { parameters, payload_type: 0, channel: 0, ssrc: 0 }
}
