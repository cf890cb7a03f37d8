//! The login that players and publishers need: Digest (MD5, without qop) and Basic (S20 to S23).

use patchbay_net::Credentials;
use patchbay_net::auth::{Denied, Server};

use crate::server::url::Target;
use crate::wire::Request;

const REALM: &str = "Patchbay";

/// User and password of the server, and the nonce of one connection.
#[derive(Debug, Clone)]
pub struct Login {
    server: Server,
    /// Bound to the connection and valid as long as it (S23).
    nonce: String,
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
    /// The login for one connection. `nonce` is random, 32 hex digits.
    pub fn new(user: &str, password: &str, nonce: String) -> Self {
        Self { server: Server::new(REALM, Credentials::new(user, password)), nonce }
    }

    /// The challenges, in the order that ffmpeg and GStreamer need (S20): ffmpeg takes the last Digest line and knows no
    /// SHA-256, GStreamer knows no qop.
    pub fn challenges(&self, stale: bool) -> Vec<String> {
        self.server.challenges(&self.nonce, stale)
    }

    /// Checks the credentials of `request`. `stream` is the path that the connection described, empty before that.
    pub fn check(&self, request: &Request, stream: &str) -> Verdict {
        let Some(given) = request.headers.get("Authorization") else { return Verdict::Missing };
        match self.server.verify(given, &request.method, &self.nonce) {
            Ok(None) => Verdict::Granted,
            Ok(Some(uri)) if is_of_stream(&uri, &request.url, stream) => Verdict::Granted,
            Ok(Some(_)) => Verdict::Wrong,
            Err(Denied::Missing) => Verdict::Missing,
            Err(Denied::Stale) => Verdict::Stale,
            Err(_) => Verdict::Wrong,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_net::auth::Algorithm;
    use proptest::prelude::*;

    const URL: &str = "rtsp://192.0.2.10:554/Streaming/Channels/101";

    fn login() -> Login {
        Login::new("admin", "12345", "0123456789abcdef0123456789abcdef".to_owned())
    }

    fn digest_with(nonce: &str, method: &str, uri: &str) -> String {
        let hash = |text: String| Algorithm::Md5.hash(&text);
        let ha1 = hash(format!("admin:{REALM}:12345"));
        let response = hash(format!("{ha1}:{nonce}:{}", hash(format!("{method}:{uri}"))));
        format!(
            "Digest username=\"admin\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\""
        )
    }

    fn digest(method: &str, uri: &str) -> String {
        digest_with("0123456789abcdef0123456789abcdef", method, uri)
    }

    fn check(method: &str, url: &str, authorization: &str) -> Verdict {
        let request = Request::new(method, url).header("Authorization", authorization);
        login().check(&request, "Streaming/Channels/101")
    }

    #[test]
    fn s20_md5_without_qop_comes_before_basic() {
        let challenges = login().challenges(false);
        let [digest, basic] = &challenges[..] else { panic!("{challenges:?}") };
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
        let given = digest_with("00", "PLAY", URL);
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
