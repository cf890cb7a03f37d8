//! The server's side.

use super::{Algorithm, Digest, basic, constant_time_eq, parse_challenges};
use crate::Credentials;

/// Why a request is answered 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// No login in the header, or none that can be read.
    #[error("no login was sent")]
    Missing,
    /// The login is right but for an old nonce: challenge again with `stale`.
    #[error("the login is for an old nonce")]
    Stale,
    /// The user name or password is wrong. These are counted (S24).
    #[error("the user name or password is wrong")]
    Wrong,
}

/// Makes challenges and checks answers. A nonce is the caller's: random, 32 hex digits, bound to the connection, at least
/// an hour old before it is replaced (S23).
#[derive(Debug, Clone)]
pub struct Server {
    realm: String,
    credentials: Credentials,
    sha256: bool,
}

impl Server {
    /// A server with one login. The realm holds no quotes.
    pub fn new(realm: impl Into<String>, credentials: Credentials) -> Self {
        Self { realm: realm.into().replace(['"', '\\'], "'"), credentials, sha256: false }
    }

    /// Also offers SHA-256, before MD5: ffmpeg sends no login at all when the last digest offered is SHA-256 (S20).
    #[must_use]
    pub fn with_sha256(mut self) -> Self {
        self.sha256 = true;
        self
    }

    /// Values of the `WWW-Authenticate` lines, in the order to send them: MD5 without `qop` and `algorithm`, then Basic,
    /// which is what every player measured can answer (S20).
    pub fn challenges(&self, nonce: &str, stale: bool) -> Vec<String> {
        let realm = &self.realm;
        let stale = if stale { ", stale=true" } else { "" };
        let digest = format!("Digest realm=\"{realm}\", nonce=\"{nonce}\"");
        let mut lines = Vec::with_capacity(3);
        if self.sha256 {
            lines.push(format!("{digest}, algorithm=SHA-256{stale}"));
        }
        lines.push(format!("{digest}{stale}"));
        lines.push(format!("Basic realm=\"{realm}\""));
        lines
    }

    /// Checks an `Authorization` value against the nonce that was given. `Ok` holds the digest's `uri` as the client sent
    /// it (S21), `None` for Basic: the caller checks that it belongs to the request, see [`Server::uri_matches`].
    pub fn verify(&self, authorization: &str, method: &str, nonce: &str) -> Result<Option<String>, Denied> {
        let scheme = authorization.split_whitespace().next().unwrap_or_default();
        if scheme.eq_ignore_ascii_case("Basic") {
            let sent = authorization.trim_start().get(scheme.len()..).unwrap_or_default().trim();
            let right = basic(&self.credentials);
            let right = right.strip_prefix("Basic ").unwrap_or_default();
            let equal = constant_time_eq(sent.as_bytes(), right.as_bytes());
            return if equal { Ok(None) } else { Err(Denied::Wrong) };
        }
        let parsed = parse_challenges(authorization);
        let sent = parsed.iter().find(|c| c.is("Digest")).ok_or(Denied::Missing)?;
        let (algorithm, session) = Algorithm::parse(sent.get("algorithm")).ok_or(Denied::Missing)?;
        if algorithm == Algorithm::Sha256 && !self.sha256 {
            return Err(Denied::Missing);
        }
        let (Some(uri), Some(response), Some(sent_nonce)) =
            (sent.get("uri"), sent.get("response"), sent.get("nonce"))
        else {
            return Err(Denied::Missing);
        };
        let qop = match sent.get("qop") {
            None | Some("") => false,
            Some(qop) if qop.eq_ignore_ascii_case("auth") => true,
            Some(_) => return Err(Denied::Missing),
        };
        let digest =
            Digest { algorithm, session, realm: self.realm.clone(), nonce: sent_nonce.to_owned(), qop };
        let (nc, cnonce) = (sent.get("nc").unwrap_or_default(), sent.get("cnonce").unwrap_or_default());
        let right = digest.response(&self.credentials, method, uri, nc, cnonce);
        let user = sent.get("username").unwrap_or_default();
        let equal = constant_time_eq(response.to_ascii_lowercase().as_bytes(), right.as_bytes())
            & constant_time_eq(user.as_bytes(), self.credentials.user.expose().as_bytes());
        if !equal {
            return Err(Denied::Wrong);
        }
        if !constant_time_eq(sent_nonce.as_bytes(), nonce.as_bytes()) {
            return Err(Denied::Stale);
        }
        Ok(Some(uri.to_owned()))
    }

    /// Whether a digest's `uri` may stand for a request (S21): it is the request's URL or path, or lies at or below
    /// `stream_path` (`/cam`), as players that log in for the stream's base send it.
    pub fn uri_matches(uri: &str, request_url: &str, stream_path: &str) -> bool {
        if uri == request_url {
            return true;
        }
        let path = path_of(uri);
        let stream = stream_path.trim_end_matches('/');
        path == path_of(request_url)
            || path
                .strip_prefix(stream)
                .is_some_and(|rest| !stream.is_empty() && (rest.is_empty() || rest.starts_with(['/', '?'])))
    }
}

/// Path and query of a URL, or the text itself when it is a path.
fn path_of(uri: &str) -> &str {
    match uri.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => uri,
    }
}
