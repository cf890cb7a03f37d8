//! Connection, login, DESCRIBE: rows C1 to C29 against the scripted camera.

use std::time::Duration;

use patchbay_net::auth::Rejected;
use patchbay_plugin_rtsp::client::{Error, Input, Reconnect, Session, Verify, Wait};
use patchbay_sdk::Class;

use crate::emulator::{Act, Rig, SDP, Seen, config, silence};

const URL: &str = "rtsp://10.0.0.2/cam?channel=1&subtype=0";
const LOGIN: &str = "rtsp://admin:12345@10.0.0.2/cam?channel=1&subtype=0";

fn plays(script: impl FnMut(&Seen) -> Option<Vec<Act>> + 'static) -> Rig {
    let mut rig = Rig::new(LOGIN, script);
    rig.run(5.0);
    assert_eq!((rig.playing, &rig.closed), (1, &None), "{:?}", rig.methods());
    rig
}

#[test]
fn a_good_camera_is_asked_for_what_is_wanted_and_no_more() {
    let rig = plays(|_| None);
    assert_eq!(rig.methods(), ["OPTIONS", "DESCRIBE", "SETUP", "SETUP", "PLAY"]);
    let urls: Vec<&str> = rig.seen.iter().map(|s| s.url.as_str()).collect();
    let base = "rtsp://10.0.0.2/cam?channel=1&subtype=0";
    assert_eq!(
        urls,
        [base, base, &format!("{base}/trackID=0"), &format!("{base}/trackID=1"), &format!("{base}/")]
    );
    assert_eq!(rig.seen[2].header("Transport"), Some("RTP/AVP/TCP;unicast;interleaved=0-1"));
    assert_eq!(rig.seen[3].header("Transport"), Some("RTP/AVP/TCP;unicast;interleaved=2-3"));
    assert_eq!(rig.seen[3].header("Session"), Some("4711"));
    assert!(rig.seen.iter().all(|s| s.header("Require").is_none()), "no backchannel is asked for");
    assert!(rig.media.len() > 10);
}

#[test]
fn c1_schemes_ports_and_certificates() {
    for (url, tls, port) in [
        ("rtsp://cam/x", None, 554),
        ("rtsps://cam/x", Some(Verify::Yes), 554),
        ("rtsps://10.0.0.2/x", Some(Verify::No), 554),
        ("rtspx://cam:7441/x", Some(Verify::No), 7441),
        ("rtsps://cam:322/x", Some(Verify::Yes), 322),
    ] {
        let session = Session::new(config(url));
        assert_eq!((session.target().tls, session.target().port), (tls, port), "{url}");
    }
}

#[test]
fn c2_path_and_query_are_byte_exact() {
    let url = "rtsp://u:p%40@10.0.0.2:8554/a%20b/user=admin_password=x?c=%2f&d=@e#timeout=9";
    let mut rig = Rig::new(url, |_| None);
    rig.run(1.0);
    assert_eq!(rig.seen[1].url, "rtsp://10.0.0.2:8554/a%20b/user=admin_password=x?c=%2f&d=@e");
}

#[test]
fn c4_a_camera_that_stalls_is_given_up_in_time() {
    for method in ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"] {
        let mut rig = Rig::new(URL, move |seen| if seen.method == method { silence() } else { None });
        rig.run(12.0);
        assert_eq!(rig.error(), &Error::Timeout(Wait::Reply(method)));
        let waited = rig.closed.as_ref().unwrap().0 - rig.of(method)[0].at;
        // SETUP may have to tear down first, which waits for 1 s at most
        assert!((5.0..6.1).contains(&waited.as_secs_f64()), "{method}: {waited:?}");
        assert_eq!(rig.error().class(), Class::Timeout);
    }
    let mut rig = Rig::new(URL, |_| None);
    rig.streams = Vec::new();
    rig.run(15.0);
    assert_eq!(rig.error().class(), Class::Timeout);
    let waited = rig.closed.as_ref().unwrap().0;
    assert!((9.5..10.5).contains(&waited.as_secs_f64()), "{waited:?}");
}

#[test]
fn c7_older_replies_are_skipped() {
    plays(|seen| {
        let stray = "RTSP/1.0 400 Bad Request\r\nCSeq: 0\r\n\r\n";
        (seen.method == "SETUP").then(|| vec![Act::Send(stray.into())]).map(|mut acts| {
            let transport = seen.header("Transport").unwrap();
            let headers = [format!("Transport: {transport}"), "Session: 1".to_owned()];
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            acts.push(Act::Send(seen.reply("200 OK", &headers, "").into_bytes()));
            acts
        })
    });
}

#[test]
fn c6_replies_without_a_number_are_taken() {
    let rig = plays(|seen| match seen.method.as_str() {
        "OPTIONS" => Some(vec![Act::Send(b"RTSP/1.0 200\nPublic: DESCRIBE\n\n".to_vec())]),
        "PLAY" => Some(vec![Act::Send(b"RTSP/1.0 200 OK\r\n\r\n".to_vec())]),
        _ => None,
    });
    assert_eq!(rig.count("PLAY"), 1);
}

#[test]
fn c8_requests_of_the_camera_are_answered() {
    let mut rig = plays(|_| None);
    for (method, status) in [("OPTIONS", 200), ("SET_PARAMETER", 200), ("ANNOUNCE", 200), ("FLY", 501)] {
        let sent = rig.now;
        rig.send(format!("{method} * RTSP/1.0\r\nCSeq: 77\r\n\r\n")).run(0.9);
        let (at, answer) = rig.answers.pop().unwrap();
        assert!(at - sent < Duration::from_secs(1));
        assert!(
            answer.starts_with(&format!("RTSP/1.0 {status} ")) && answer.contains("CSeq: 77"),
            "{answer}"
        );
    }
    rig.send("TEARDOWN * RTSP/1.0\r\nCSeq: 78\r\n\r\n").run(1.0);
    assert_eq!(rig.error(), &Error::Eof);
}

#[test]
fn c9_redirects_are_followed_with_the_login() {
    for status in ["301 Moved", "302 Found", "303 See", "305 Proxy", "307 T", "308 P"] {
        let rig = plays(move |seen| match seen.connection {
            1 if seen.method == "DESCRIBE" => {
                seen.answer(status, &["Location: rtsp://10.0.0.3:8554/other?x"], "")
            }
            2 if seen.method == "DESCRIBE" && !seen.has_digest("admin", "12345", "r", "n") => {
                seen.answer("401 Unauthorized", &["WWW-Authenticate: Digest realm=\"r\", nonce=\"n\""], "")
            }
            _ => None,
        });
        assert_eq!((rig.connects[1].1.host.as_str(), rig.connects[1].1.port), ("10.0.0.3", 8554));
        assert_eq!(rig.connects[1].2, Some(Reconnect::Redirected));
        assert_eq!(rig.of("DESCRIBE")[1].url, "rtsp://10.0.0.3:8554/other?x");
    }
    let mut rig = Rig::new(URL, |seen| {
        (seen.method == "DESCRIBE")
            .then(|| seen.answer("302 Found", &["Location: rtsp://10.0.0.2/cam"], ""))?
    });
    rig.run(20.0);
    assert_eq!((rig.error(), rig.connects.len()), (&Error::Redirect, 6));
    let mut rig = Rig::new("rtsps://u:p@10.0.0.2/cam", |seen| {
        (seen.method == "DESCRIBE")
            .then(|| seen.answer("302 Found", &["Location: rtsp://10.0.0.2/cam"], ""))?
    });
    rig.run(20.0);
    assert_eq!(rig.error(), &Error::RedirectDowngrade);
}

#[test]
fn c10_descriptions_of_any_length() {
    for length in [
        String::new(),
        "Content-Length: -1\r\n".to_owned(),
        "Content-Length: \r\n".to_owned(),
        format!("Content-Length: {}\r\n", SDP.len() + 100),
    ] {
        plays(move |seen| {
            let number = seen.header("CSeq").unwrap();
            let text = format!("RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{length}\r\n{SDP}");
            (seen.method == "DESCRIBE").then(|| {
                let (a, b) = text.split_at(text.len() - 10);
                vec![Act::Send(a.into()), Act::Send(b.into())]
            })
        });
    }
    // Longer than announced: the rest is junk between messages
    plays(|seen| {
        let text = seen.reply("200 OK", &[], SDP) + "a=control:trackID=9\r\n";
        (seen.method == "DESCRIBE").then(|| vec![Act::Send(text.into_bytes())])
    });
}

#[test]
fn c11_every_session_is_torn_down() {
    let mut rig = plays(|_| None);
    rig.input(Input::Stop).run(2.0);
    assert_eq!(rig.closed.as_ref().unwrap().1, Ok(()));
    assert_eq!(rig.count("TEARDOWN"), 1);
    assert_eq!(rig.of("TEARDOWN")[0].header("Session"), Some("4711"));
    // Nothing to tear down before SETUP
    let mut rig = Rig::new(URL, |seen| if seen.method == "SETUP" { seen.status("500 No") } else { None });
    rig.run(2.0);
    assert_eq!(rig.count("TEARDOWN"), 0);
    // A session that fails is torn down too
    let mut rig = Rig::new(URL, |seen| if seen.method == "PLAY" { seen.status("500 No") } else { None });
    rig.run(2.0);
    assert_eq!((rig.count("TEARDOWN"), rig.error().class()), (1, Class::Protocol));
}

#[test]
fn c12_errors_of_teardown_do_not_matter() {
    for answer in ["500 Internal", "454 Session Not Found", "401 Unauthorized", ""] {
        let mut rig = plays(move |seen| match (seen.method.as_str(), answer) {
            ("TEARDOWN", "") => silence(),
            ("TEARDOWN", status) => seen.status(status),
            _ => None,
        });
        let before = rig.now;
        rig.input(Input::Stop).run(5.0);
        let (at, result) = rig.closed.clone().unwrap();
        assert_eq!(result, Ok(()), "{answer}");
        assert!(at - before <= Duration::from_secs(1));
    }
}

#[test]
fn c20_options_may_fail() {
    for status in ["404 Not Found", "454 Session Not Found", "200 OK", "501 No"] {
        let rig = plays(move |seen| if seen.method == "OPTIONS" { seen.status(status) } else { None });
        assert_eq!(rig.count("DESCRIBE"), 1);
    }
    let rig = plays(|seen| match seen.header("Authorization") {
        None => seen.answer("401 Unauthorized", &["WWW-Authenticate: Basic realm=\"r\""], ""),
        Some(_) => None,
    });
    assert_eq!(rig.methods(), ["OPTIONS", "OPTIONS", "DESCRIBE", "SETUP", "SETUP", "PLAY"]);
}

#[test]
fn c23_no_more_than_three_rounds_and_a_typed_error() {
    let challenges = [
        "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256",
        "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"",
        "WWW-Authenticate: Basic realm=\"r\"",
    ];
    let mut rig = Rig::new(LOGIN, move |seen| seen.answer("401 Unauthorized", &challenges, ""));
    rig.run(5.0);
    assert_eq!(rig.error(), &Error::Auth(Rejected::Refused));
    assert_eq!(rig.error().class(), Class::Auth);
    assert_eq!(rig.seen.len(), 4);
    let mut rig = Rig::new(URL, move |seen| seen.answer("401 Unauthorized", &challenges, ""));
    rig.run(5.0);
    assert_eq!((rig.error(), rig.seen.len()), (&Error::Auth(Rejected::NoCredentials), 1));
}

#[test]
fn c23_sha256_falls_to_md5() {
    let rig = plays(|seen| {
        let authorization = seen.header("Authorization").unwrap_or_default();
        let good = seen.has_digest("admin", "12345", "r", "n2") && !authorization.contains("SHA-256");
        (!good).then(|| {
            let a = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", algorithm=\"SHA-256\"";
            let b = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n2\"";
            seen.answer("401 Unauthorized", &[a, b], "")
        })?
    });
    assert!(rig.of("OPTIONS")[1].header("Authorization").unwrap().contains("SHA-256"));
    assert_eq!(rig.count("DESCRIBE"), 1, "what works is sent at once");
}

#[test]
fn c24_c25_c27_uri_is_the_request_line_and_nonces_may_change() {
    let mut count = 0;
    let mut nonce = 0;
    let mut rig = plays(move |seen| {
        if seen.method == "OPTIONS" && count == 0 {
            assert_eq!(seen.header("Authorization"), None, "nothing before a challenge");
        }
        count += 1;
        if count % 3 == 0 {
            nonce += 1;
        }
        let good = seen.has_digest("admin", "12345", "r", &nonce.to_string());
        (!good).then(|| {
            let challenge = format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\"");
            seen.answer("401 Unauthorized", &[&challenge], "")
        })?
    });
    rig.run(200.0);
    assert_eq!(rig.closed, None, "keepalives are repeated with the new nonce too");
    assert!(rig.count("GET_PARAMETER") >= 8);
}

#[test]
fn c26_tp_link_is_asked_as_localhost() {
    let mut rig = Rig::new(URL, |seen| {
        let challenge = "WWW-Authenticate: Digest realm=\"TP-LINK Streaming Media\", nonce=\"n\"";
        let local = seen.url.starts_with("rtsp://127.0.0.1/cam");
        (!local && seen.method != "OPTIONS").then(|| seen.answer("401 Unauthorized", &[challenge], ""))?
    });
    rig.run(5.0);
    assert_eq!(rig.playing, 1);
    assert_eq!(rig.of("DESCRIBE")[1].header("Authorization"), None);
    assert!(rig.of("PLAY")[0].url.starts_with("rtsp://127.0.0.1/cam"));
    assert_eq!(rig.connects.len(), 1);
}

#[test]
fn c28_errors_of_describe_are_told() {
    for (status, class) in [
        ("404 Stream Not Found", Class::NotFound),
        ("400 Bad Request", Class::Protocol),
        ("551 Option not supported", Class::Unsupported),
        ("403 Forbidden", Class::Auth),
    ] {
        let mut rig = Rig::new(URL, move |seen| {
            (seen.method == "DESCRIBE").then(|| seen.answer(status, &[], "no such channel\r\n"))?
        });
        rig.run(5.0);
        let message = rig.error().to_string();
        assert!(message.contains(status) && message.ends_with("no such channel"), "{message}");
        assert_eq!((rig.error().class(), rig.count("SETUP")), (class, 0));
    }
}

#[test]
fn c71_srtp_is_named() {
    let sdp = "v=0\r\nm=video 0 RTP/SAVP 96\r\na=rtpmap:96 H264/90000\r\n";
    let mut rig =
        Rig::new(
            URL,
            move |seen| if seen.method == "DESCRIBE" { seen.answer("200 OK", &[], sdp) } else { None },
        );
    rig.run(5.0);
    assert_eq!((rig.error(), rig.error().class()), (&Error::Srtp, Class::Unsupported));
}

#[test]
fn c104_busy_cameras_are_left_alone_for_a_while() {
    for status in ["453 Not Enough Bandwidth", "503 Service Unavailable", "406 Not Acceptable"] {
        for method in ["DESCRIBE", "SETUP", "PLAY"] {
            let mut rig =
                Rig::new(URL, move |seen| if seen.method == method { seen.status(status) } else { None });
            rig.run(5.0);
            assert_eq!(rig.error().class(), Class::Busy, "{method} {status}");
            assert_eq!(rig.error().retry_after(), Duration::from_secs(10));
        }
    }
}

#[test]
fn c21_a_camera_that_fails_when_asked_for_its_backchannel_is_asked_without() {
    type Case = (&'static str, fn(&Seen) -> Option<Vec<Act>>);
    let cases: [Case; 6] = [
        ("551", |s| s.status("551 Option not supported")),
        ("400", |s| s.status("400 Bad Request")),
        ("404", |s| s.status("404 Not Found")),
        ("500", |s| s.status("500 Internal Server Error")),
        ("close", |_| Some(vec![Act::Close])),
        ("hang", |_| silence()),
    ];
    for (name, answer) in cases {
        let mut rig = Rig::new("rtsp://10.0.0.2/cam#backchannel=1", move |seen| {
            if seen.header("Require").is_some() { answer(seen) } else { None }
        });
        rig.run(8.0);
        assert_eq!(rig.playing, 1, "{name}: {:?}", rig.closed);
        assert_eq!(rig.connects.len(), 2, "{name}");
        assert_eq!(rig.connects[1].2, Some(Reconnect::BackchannelRefused), "{name}");
        let asked: Vec<Option<&str>> = rig.of("DESCRIBE").iter().map(|s| s.header("Require")).collect();
        assert_eq!(asked, [Some("www.onvif.org/ver20/backchannel"), None], "{name}");
        assert!(!rig.session.asks_backchannel());
    }
}

#[test]
fn c21_c22_a_login_is_no_refusal_and_nobody_is_asked_by_default() {
    const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=0\r\n\
        m=audio 0 RTP/AVP 8\r\na=control:trackID=1\r\nm=audio 0 RTP/AVP 0\r\na=control:trackID=2\r\na=sendonly\r\n";
    let mut rig = Rig::new("rtsp://admin:12345@10.0.0.2/cam#backchannel=1", |seen| {
        match (seen.method.as_str(), seen.header("Authorization")) {
            ("DESCRIBE", None) => seen.answer("401 No", &["WWW-Authenticate: Basic realm=\"r\""], ""),
            ("DESCRIBE", _) => seen.answer("200 OK", &[], SDP),
            _ => None,
        }
    });
    rig.run(2.0);
    assert_eq!((rig.connects.len(), rig.playing), (1, 1));
    assert!(rig.of("DESCRIBE").iter().all(|seen| seen.header("Require").is_some()));
    let setups: Vec<(bool, Option<&str>)> =
        rig.of("SETUP").iter().map(|s| (s.header("Require").is_some(), s.header("Transport"))).collect();
    let tcp = |channel: u8| {
        Some(
            [
                "RTP/AVP/TCP;unicast;interleaved=0-1",
                "RTP/AVP/TCP;unicast;interleaved=2-3",
                "RTP/AVP/TCP;unicast;interleaved=4-5",
            ][usize::from(channel)],
        )
    };
    assert_eq!(setups, [(false, tcp(0)), (false, tcp(1)), (true, tcp(2))], "C110: behind the others");
    for options in ["", "#backchannel=0"] {
        let mut rig = Rig::new(&format!("rtsp://10.0.0.2/cam{options}"), |_| None);
        rig.run(2.0);
        assert!(rig.seen.iter().all(|seen| seen.header("Require").is_none()));
    }
}

#[test]
fn c22_a_backchannel_that_is_taken_is_done_without() {
    const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=0\r\n\
        m=audio 0 RTP/AVP 0\r\na=control:trackID=1\r\na=sendonly\r\n";
    let mut rig = Rig::new("rtsp://10.0.0.2/cam#backchannel=1", |seen| match seen.method.as_str() {
        "DESCRIBE" => seen.answer("200 OK", &[], SDP),
        "SETUP" if seen.header("Require").is_some() => seen.status("453 Not Enough Bandwidth"),
        _ => None,
    });
    rig.want = vec![0];
    rig.streams = vec![0];
    rig.run(20.0);
    assert_eq!((rig.connects.len(), rig.playing), (2, 1), "{:?}", rig.methods());
    assert_eq!(rig.connects[1].2, Some(Reconnect::BackchannelRefused));
    assert!(rig.closed.is_none());
}
