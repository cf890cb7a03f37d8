//! The login that players and publishers need: Digest (MD5, without qop) and Basic (S20 to S23).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use crate::server::url::Target;
use crate::wire::Request;

const REALM: &str = "Patchbay";

/// User and password of the server, and the nonce of one connection.
#[derive(Clone)]
pub struct Login {
    user: String,
    password: String,
    /// Bound to the connection and valid as long as it (S23).
    nonce: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(***)")
    }
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Let in.
    Granted,
    /// No credentials were given.
    Missing,
    /// They were given for another nonce.
    Stale,
    /// They are wrong.
    Wrong,
}

impl Login {
    /// The login for one connection. `nonce` is random, at least 16 characters.
    pub fn new(user: &str, password: &str, nonce: String) -> Self {
        Self { user: user.to_owned(), password: password.to_owned(), nonce }
    }

    /// The challenges, in the order that ffmpeg and GStreamer need (S20, K10): ffmpeg takes the last Digest line and knows
    /// no SHA-256, GStreamer knows no qop.
    pub fn challenges(&self, stale: bool) -> [String; 2] {
        let stale = if stale { ", stale=true" } else { "" };
        [
            format!("Digest realm=\"{REALM}\", nonce=\"{}\"{stale}", self.nonce),
            format!("Basic realm=\"{REALM}\""),
        ]
    }

    /// Checks the credentials of `request`. `stream` is the path that the connection described, empty before that.
    pub fn check(&self, request: &Request, stream: &str) -> Verdict {
        let Some(text) = request.headers.get("Authorization") else { return Verdict::Missing };
        match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("Basic") => self.check_basic(token.trim()),
            Some((scheme, fields)) if scheme.eq_ignore_ascii_case("Digest") => {
                self.check_digest(request, fields, stream)
            }
            _ => Verdict::Missing,
        }
    }

    fn check_basic(&self, token: &str) -> Verdict {
        let given = STANDARD.decode(token).unwrap_or_default();
        grant(equal(&given, format!("{}:{}", self.user, self.password).as_bytes()))
    }

    fn check_digest(&self, request: &Request, fields: &str, stream: &str) -> Verdict {
        let fields = parse_fields(fields);
        let field = |name: &str| {
            fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.as_str())
        };
        if field("nonce") != self.nonce {
            return Verdict::Stale;
        }
        let uri = field("uri");
        if field("username") != self.user || !is_of_stream(uri, &request.url, stream) {
            return Verdict::Wrong;
        }
        let ha1 = hash(&[&self.user, REALM, &self.password]);
        let ha2 = hash(&[&request.method, uri]);
        let expected = match field("qop") {
            "" => hash(&[&ha1, &self.nonce, &ha2]),
            qop => hash(&[&ha1, &self.nonce, field("nc"), field("cnonce"), qop, &ha2]),
        };
        grant(equal(field("response").to_ascii_lowercase().as_bytes(), expected.as_bytes()))
    }
}

fn grant(is_right: bool) -> Verdict {
    if is_right { Verdict::Granted } else { Verdict::Wrong }
}

/// Whether the `uri` of an answer may be used for this request (S21): the request's URL, its path, or a URL of the same
/// stream with or without slash. Never one of another stream.
fn is_of_stream(uri: &str, url: &str, stream: &str) -> bool {
    if uri == url {
        return true;
    }
    let given = Target::parse(uri).path;
    let given = given.trim_matches('/');
    let asked = Target::parse(url).path;
    if given == asked.trim_matches('/') {
        return true;
    }
    let stream = stream.trim_matches('/');
    !stream.is_empty()
        && given.strip_prefix(stream).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// RFC 7616 section 3.4.1: fields joined by colons, hashed, in hexadecimal digits.
fn hash(fields: &[&str]) -> String {
    Md5::digest(fields.join(":")).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes the same time wherever the texts differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// `name=value` and `name="value"`, divided by commas outside of quotes.
fn parse_fields(text: &str) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_owned();
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        fields.push((name, value.trim().to_owned()));
        rest = next;
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const URL: &str = "rtsp://192.0.2.10:554/Streaming/Channels/101";

    fn login() -> Login {
        Login::new("admin", "12345", "0123456789abcdef0123456789abcdef".to_owned())
    }

    fn digest(method: &str, uri: &str) -> String {
        let ha1 = hash(&["admin", REALM, "12345"]);
        let response = hash(&[&ha1, "0123456789abcdef0123456789abcdef", &hash(&[method, uri])]);
        format!(
            "Digest username=\"admin\", realm=\"{REALM}\", nonce=\"0123456789abcdef0123456789abcdef\", uri=\"{uri}\", response=\"{response}\""
        )
    }

    fn check(method: &str, url: &str, authorization: &str) -> Verdict {
        let request = Request::new(method, url).header("Authorization", authorization);
        login().check(&request, "Streaming/Channels/101")
    }

    /// RFC 7616 without qop, computed independently: user admin, password 12345, realm "RTSP SERVER".
    #[test]
    fn the_hash_is_that_of_the_known_answer() {
        let ha1 = hash(&["admin", "RTSP SERVER", "12345"]);
        assert_eq!(ha1, "6f7f23558435f41f6656f9ac81dc6469");
        let response = hash(&[&ha1, "0123456789abcdef0123456789abcdef", &hash(&["DESCRIBE", URL])]);
        assert_eq!(response, "7982fb81211605440145ad340d54f639");
    }

    #[test]
    fn s20_md5_without_qop_comes_before_basic() {
        let [digest, basic] = login().challenges(false);
        assert_eq!(digest, "Digest realm=\"Patchbay\", nonce=\"0123456789abcdef0123456789abcdef\"");
        assert_eq!(basic, "Basic realm=\"Patchbay\"");
    }

    #[test]
    fn s21_five_kinds_of_uri() {
        let setup = format!("{URL}/trackID=1?x=1");
        for uri in [
            setup.as_str(),
            "/Streaming/Channels/101/trackID=1",
            URL,
            "rtsp://192.0.2.10:554/Streaming/Channels/101/",
            "/Streaming/Channels/101",
        ] {
            assert_eq!(check("SETUP", &setup, &digest("SETUP", uri)), Verdict::Granted, "{uri}");
        }
        for uri in ["rtsp://192.0.2.10:554/Streaming/Channels/1010", "/other", "*", ""] {
            assert_eq!(check("SETUP", &setup, &digest("SETUP", uri)), Verdict::Wrong, "{uri}");
        }
    }

    #[test]
    fn s23_another_nonce_is_stale() {
        let given = digest("PLAY", URL).replace("0123456789abcdef0123456789abcdef", "00");
        assert_eq!(check("PLAY", URL, &given), Verdict::Stale);
        assert!(login().challenges(true)[0].ends_with(", stale=true"));
    }

    #[test]
    fn basic_and_wrong_ones() {
        assert_eq!(check("PLAY", URL, "Basic YWRtaW46MTIzNDU="), Verdict::Granted);
        assert_eq!(check("PLAY", URL, "basic  YWRtaW46MTIzNDU="), Verdict::Granted);
        assert_eq!(check("PLAY", URL, "Basic YWRtaW46MTIzNDY="), Verdict::Wrong);
        assert_eq!(check("PAUSE", URL, &digest("PLAY", URL)), Verdict::Wrong);
        assert_eq!(check("PLAY", URL, "Negotiate x"), Verdict::Missing);
        assert_eq!(login().check(&Request::new("PLAY", URL), ""), Verdict::Missing);
    }

    proptest! {
        #[test]
        fn any_text_is_refused(text in ".{0,200}") {
            prop_assert_ne!(check("PLAY", URL, &format!("Digest {text}")), Verdict::Granted);
            prop_assert_ne!(check("PLAY", URL, &text), Verdict::Granted);
        }
    }
}
