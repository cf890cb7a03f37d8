use super::*;
use proptest::prelude::*;

const U: &str = "rtsp://192.0.2.10:554/Streaming/Channels/101";
const NONCE: &str = "0123456789abcdef0123456789abcdef";

fn credentials() -> Credentials {
    Credentials::new("admin", "12345")
}

fn digest(algorithm: Algorithm, session: bool, qop: bool) -> Digest {
    Digest { algorithm, session, realm: "RTSP SERVER".into(), nonce: NONCE.into(), qop }
}

fn respond(digest: &Digest, method: &str, uri: &str) -> String {
    digest.response(&credentials(), method, uri, "00000001", "0a4f113b")
}

#[test]
fn k1_md5() {
    let plain = digest(Algorithm::Md5, false, false);
    for (method, uri, response) in [
        ("DESCRIBE", U.to_owned(), "7982fb81211605440145ad340d54f639"),
        ("SETUP", format!("{U}/trackID=1"), "33c2cef8a929427310f75548f2856c84"),
        ("PLAY", format!("{U}/"), "ce6b4d2f235acbf299b8b36f18104c1c"),
        ("TEARDOWN", format!("{U}/"), "491554348c0824ccb7a67369fa83f9b7"),
    ] {
        assert_eq!(respond(&plain, method, &uri), response);
    }
    assert_eq!(
        respond(&digest(Algorithm::Md5, false, true), "DESCRIBE", U),
        "94825cc18d3b559df89ef87305c40b98"
    );
    assert_eq!(
        respond(&digest(Algorithm::Md5, true, true), "DESCRIBE", U),
        "56523f1e86377fae13849524f43dc89c"
    );
}

#[test]
fn k2_sha256() {
    assert_eq!(
        respond(&digest(Algorithm::Sha256, false, false), "DESCRIBE", U),
        "bc582e2c7379be72f2d5e813d2e49bde651f15eba6dd28673491a4fd8ae6f34f"
    );
    assert_eq!(
        respond(&digest(Algorithm::Sha256, false, true), "DESCRIBE", U),
        "de61aad192f5bc80c73e44cd1905089bf561ab954d560efc5c8c74fdc57abe94"
    );
}

#[test]
fn k3_basic_and_what_ffmpeg_answers() {
    assert_eq!(basic(&credentials()), "Basic YWRtaW46MTIzNDU=");
    assert_eq!(basic(&Credentials::new("user", "p@ss:w")), "Basic dXNlcjpwQHNzOnc=");
    let digest = Digest {
        algorithm: Algorithm::Md5,
        session: false,
        realm: "r".into(),
        nonce: "n".into(),
        qop: false,
    };
    let uri = "rtsp://127.0.0.1:15540/cam?x=1&y=2";
    let response = digest.response(&Credentials::new("u", "p"), "DESCRIBE", uri, "", "");
    assert_eq!(response, "3af38966701e9b844da6342fcf307dc9");
}

/// The scheme that the client answers first, and after each refusal.
fn schemes(lines: &[&str]) -> Vec<&'static str> {
    let mut client = Client::new(Some(credentials()));
    assert_eq!(client.authorization("DESCRIBE", U, "c"), None, "nothing before a challenge (C27)");
    let mut got = Vec::new();
    for _ in 0..5 {
        if client.rejected(lines.iter().copied()).is_err() {
            break;
        }
        let answer = client.authorization("DESCRIBE", U, "c").unwrap();
        got.push(match &*answer {
            a if a.starts_with("Basic") => "basic",
            a if a.contains("algorithm=SHA-256") => "sha256",
            a if a.contains("algorithm=MD5-sess") => "md5-sess",
            a if a.contains("qop=auth, nc=00000001") => "md5-qop",
            _ => "md5",
        });
    }
    got
}

#[test]
fn c23_challenge_matrix() {
    let md5 = r#"Digest realm="r", nonce="n""#;
    let sha = r#"Digest realm="r", nonce="n", algorithm=SHA-256"#;
    let basic = r#"Basic realm="r""#;
    let one_line = r#"Basic realm="r", Digest  realm="r",nonce="n" qop="auth",  stale="FALSE","#;
    for (lines, expected) in [
        (vec![basic], vec!["basic"]),
        (vec![md5], vec!["md5"]),
        (vec![r#"Digest realm="r", nonce="n", algorithm="MD5""#], vec!["md5"]),
        (vec![r#"Digest realm="r", nonce="n", algorithm=MD5-sess, qop="auth,auth-int""#], vec!["md5-sess"]),
        (vec![sha], vec!["sha256"]),
        (vec![sha, md5, basic], vec!["sha256", "md5", "basic"]),
        (vec![md5, sha], vec!["sha256", "md5"]),
        (vec![one_line], vec!["md5-qop", "basic"]),
        (vec![r#"Digest realm="r", nonce="n", algorithm=SHA-512-256"#, "Negotiate"], vec![]),
    ] {
        assert_eq!(schemes(&lines), expected, "{lines:?}");
    }
}

#[test]
fn c23_no_more_than_three_rounds() {
    let mut client = Client::new(Some(credentials()));
    let rounds = (0..10)
        .take_while(|n| {
            let stale = format!(r#"Digest realm="r", nonce="{n}", stale=true"#);
            let again = client.rejected([&*stale]).is_ok();
            client.authorization("GET", "/", "c");
            again
        })
        .count();
    assert!(rounds <= 3, "{rounds}");
}

#[test]
fn c25_new_nonce_after_success_is_answered_again_and_again() {
    let mut client = Client::new(Some(credentials()));
    for n in 0..10 {
        let challenge = format!(r#"Digest realm="r", nonce="{n}""#);
        client.rejected([&*challenge]).unwrap();
        for _ in 0..3 {
            let answer = client.authorization("OPTIONS", U, "c").unwrap();
            assert!(answer.contains(&format!("nonce=\"{n}\"")));
            client.accepted();
        }
    }
    client.authorization("OPTIONS", U, "c");
    let again = r#"Digest realm="r", nonce="9""#;
    assert_eq!(client.rejected([again]), Ok(()), "once after success");
    client.authorization("OPTIONS", U, "c");
    assert_eq!(client.rejected([again]), Err(Rejected::Refused));
}

#[test]
fn c24_c27_uri_count_and_order() {
    let mut client = Client::new(Some(credentials()));
    client
        .rejected([
            r#"Digest realm="RTSP SERVER", nonce="0123456789abcdef0123456789abcdef", qop="auth", opaque="o""#,
        ])
        .unwrap();
    assert_eq!(
        client.authorization("DESCRIBE", U, "0a4f113b").unwrap(),
        format!(
            "Digest username=\"admin\", realm=\"RTSP SERVER\", nonce=\"{NONCE}\", uri=\"{U}\", \
             response=\"94825cc18d3b559df89ef87305c40b98\", opaque=\"o\", qop=auth, nc=00000001, cnonce=\"0a4f113b\""
        )
    );
    assert!(client.authorization("SETUP", U, "x").unwrap().contains("nc=00000002"));
}

#[test]
fn without_credentials_nothing_is_answered() {
    let mut client = Client::new(None);
    assert_eq!(client.rejected([r#"Basic realm="r""#]), Err(Rejected::NoCredentials));
    assert_eq!(client.authorization("GET", "/", "c"), None);
}

#[test]
fn s20_challenges() {
    let server = Server::new("Patchbay", credentials());
    assert_eq!(
        server.challenges("n1", false),
        [r#"Digest realm="Patchbay", nonce="n1""#, r#"Basic realm="Patchbay""#]
    );
    let lines = server.with_sha256().challenges("n1", true);
    assert_eq!(lines[0], r#"Digest realm="Patchbay", nonce="n1", algorithm=SHA-256, stale=true"#);
    assert_eq!(lines[1], r#"Digest realm="Patchbay", nonce="n1", stale=true"#);
}

#[test]
fn s21_uris_of_players() {
    let request = "rtsp://h:8554/cam/trackID=0?x=1";
    for (uri, ok) in [
        (request, true),
        ("/cam/trackID=0?x=1", true),
        ("rtsp://h:8554/cam", true),
        ("rtsp://h:8554/cam/", true),
        ("rtsp://h:8554/cam?x=1", true),
        ("rtsp://other/cam/", true),
        ("rtsp://h:8554/camera/", false),
        ("rtsp://h:8554/other", false),
        ("*", false),
        ("", false),
    ] {
        assert_eq!(Server::uri_matches(uri, request, "/cam"), ok, "{uri}");
    }
}

#[test]
fn server_checks_what_the_client_answers() {
    for (sha, line) in [(false, 0), (false, 1), (true, 0), (true, 1), (true, 2)] {
        let mut server = Server::new("Patchbay", credentials());
        if sha {
            server = server.with_sha256();
        }
        let challenge = server.challenges("n1", false).swap_remove(line);
        let mut client = Client::new(Some(credentials()));
        client.rejected([&*challenge]).unwrap();
        let answer = client.authorization("PLAY", "/cam", "c").unwrap();
        let uri = server.verify(&answer, "PLAY", "n1").unwrap();
        assert_eq!(uri.is_none(), answer.starts_with("Basic"));
        if uri.is_some() {
            assert_eq!(server.verify(&answer, "PLAY", "n2"), Err(Denied::Stale));
            assert_eq!(server.verify(&answer, "PAUSE", "n1"), Err(Denied::Wrong));
        }
        let mut client = Client::new(Some(Credentials::new("admin", "1234")));
        client.rejected([&*challenge]).unwrap();
        let answer = client.authorization("PLAY", "/cam", "c").unwrap();
        assert_eq!(server.verify(&answer, "PLAY", "n1"), Err(Denied::Wrong));
    }
    let server = Server::new("Patchbay", credentials());
    for nothing in
        ["", "Digest", "Bearer x", "Digest username=\"admin\"", "Digest response=\"x\", qop=auth-int"]
    {
        assert_eq!(server.verify(nothing, "PLAY", "n1"), Err(Denied::Missing), "{nothing}");
    }
}

proptest! {
    #[test]
    fn any_challenge_never_panics(text in ".{0,200}", likely in "(Digest|Basic|[a-z=\", \\\\]){0,30}") {
        for text in [&text, &likely] {
            for c in parse_challenges(text) {
                prop_assert!(c.params.len() <= 32);
            }
            let mut client = Client::new(Some(credentials()));
            if client.rejected([text.as_str()]).is_ok() {
                prop_assert!(client.authorization("GET", "/", "c").is_some());
            }
            prop_assert!(Server::new("r", credentials()).verify(text, "GET", "n").is_err());
        }
    }

    #[test]
    fn quoted_values_round_trip(realm in "[ -~]{0,30}") {
        let escaped = realm.replace('\\', "\\\\").replace('"', "\\\"");
        let header = format!("Digest realm=\"{escaped}\", nonce=\"n\"");
        let parsed = parse_challenges(&header);
        prop_assert_eq!(parsed[0].get("realm"), Some(realm.as_str()));
    }
}
