//! The HTTP server: go2rtc's core routes, Patchbay's own, and those of plugins.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION,
    CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use base64::Engine as _;

use crate::app::App;

mod api;
mod dot;
mod entrance;
mod held;
mod ingest;
mod listen;
mod metrics;
mod play;
mod plugin_route;
mod route;
mod site;
mod streams;
mod tls;
mod websocket;

pub(crate) use entrance::fuzz_look;
pub use listen::listen;

/// Largest body of a request to the host's own routes, in bytes.
const MAX_BODY: usize = 4 << 20;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over the Unix socket.
    Unix,
}

impl Peer {
    fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix => true,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Tcp(address) => SocketAddr::new(address.ip().to_canonical(), address.port()).to_string(),
            Self::Unix => "@".to_owned(),
        }
    }
}

/// One request to the host's own routes.
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    pub(crate) method: Method,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) peer: Peer,
    pub(crate) logged_in: bool,
    pub(crate) body: Bytes,
}

impl Call {
    /// Whether secrets may be shown: a logged-in caller, or one over the Unix socket.
    pub(crate) fn sees_secrets(&self) -> bool {
        self.logged_in || matches!(self.peer, Peer::Unix)
    }
}

/// A decoded query string.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let decode = |part: &str| {
            percent_encoding::percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split('&').filter(|part| !part.is_empty()).map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key), decode(value))
        });
        Self(pairs.collect())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// As text again, with another value of `key`.
    pub(crate) fn with(&self, key: &str, value: &str) -> String {
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let pairs = self.0.iter().map(|(k, v)| {
            let v = if k == key { value } else { v };
            if v.is_empty() { encode(k) } else { format!("{}={}", encode(k), encode(v)) }
        });
        pairs.collect::<Vec<_>>().join("&")
    }

    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect()
    }
}

/// Answers one request.
async fn handle(app: Arc<App>, peer: Peer, request: Request) -> Response {
    let cors = app.config().api.origin == "*";
    let mut response = match login(&app, &peer, request.headers()) {
        Err(response) => return response,
        Ok(logged_in) => route::answer(app, peer, logged_in, request).await,
    };
    if cors {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        let methods = HeaderValue::from_static("GET, POST, PUT, DELETE, OPTIONS");
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        let allowed = HeaderValue::from_static("Authorization, Content-Type");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    response
}

/// Whether the caller is logged in; an answer when it has to and is not.
#[allow(clippy::result_large_err)] // once per request, and it is the answer
fn login(app: &App, peer: &Peer, headers: &HeaderMap) -> Result<bool, Response> {
    let config = app.config();
    let api = &config.api;
    if !api.has_login() {
        return Ok(false);
    }
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let wanted = format!("{}:{}", api.username, api.password.expose());
    let decoded = given
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Basic"))
        .and_then(|(_, text)| base64::engine::general_purpose::STANDARD.decode(text.trim()).ok());
    if decoded.is_some_and(|bytes| same(&bytes, wanted.as_bytes())) {
        return Ok(true);
    }
    if !asks_login(app, peer) {
        return Ok(false);
    }
    let mut response = text(StatusCode::UNAUTHORIZED, "Unauthorized");
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"go2rtc\""));
    Err(response)
}

/// Whether this client has to log in.
fn asks_login(app: &App, peer: &Peer) -> bool {
    let config = app.config();
    config.api.has_login() && (config.api.local_auth || !peer.is_local())
}

/// Compares in a time that tells only the length.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

/// A web page of another site can reach this server without being asked, and so can another machine.
#[allow(clippy::result_large_err)] // once per request, and it is the answer
fn may_change(call: &Call) -> Result<(), Response> {
    let header = |name| call.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = header(HOST).unwrap_or("");
    let name = host_name(host);
    let trusted = name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || call.app.config().api.hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
    if !trusted && !matches!(call.peer, Peer::Unix) {
        let message = format!(
            "changes under the name {name} are refused: add it to the configuration, api: hosts: [{name}]"
        );
        return Err(text(StatusCode::FORBIDDEN, &message));
    }
    if call.app.config().api.origin != "*" && is_foreign(&call.headers) {
        return Err(text(StatusCode::FORBIDDEN, "changes by a page of another site are refused"));
    }
    if !call.peer.is_local() && !call.logged_in && !call.app.config().api.has_login() {
        let message = "changes from another machine need a login: set `api: username:` and `api: password:` in the configuration";
        return Err(text(StatusCode::FORBIDDEN, message));
    }
    Ok(())
}

/// Whether a browser sends a request for a page of another site, as pictures and videos in it do.
fn is_sent_by_another_site(headers: &HeaderMap) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = header("host").unwrap_or("");
    let elsewhere = |url: &str| {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        rest.split('/').next() != Some(host)
    };
    matches!(header("sec-fetch-site"), Some("cross-site" | "same-site"))
        || header("referer").is_some_and(elsewhere)
}

/// Whether a request comes from a page of another site.
fn is_foreign(headers: &HeaderMap) -> bool {
    let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = header(HOST).unwrap_or("");
    header(ORIGIN).is_some_and(|origin| origin.split_once("://").map_or(origin, |(_, rest)| rest) != host)
}

fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name)
}

pub(crate) fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "404 page not found")
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A plain text answer as the reference's: the text and a line feed; an empty text is just that.
pub(crate) fn text(status: StatusCode, message: &str) -> Response {
    let mut response = Response::new(Body::from(format!("{message}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A JSON answer.
pub(crate) fn json(value: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(format!("{value}\n")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An indented JSON answer.
pub(crate) fn json_pretty(value: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(format!("{value:#}\n")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_lose_their_port() {
        assert_eq!(host_name("localhost:1984"), "localhost");
        assert_eq!(host_name("[::1]:1984"), "::1");
        assert_eq!(host_name("192.0.2.1"), "192.0.2.1");
        assert_eq!(host_name("evil.example:80"), "evil.example");
    }

    #[test]
    fn queries_are_decoded_once() {
        let query =
            Query::parse("name=a+b&src=rtsp://u:p%2540w@h/s?a%3D1%26b%3D2%23backchannel%3D0&src=x&video");
        assert_eq!(query.get("name"), Some("a b"));
        assert_eq!(query.all("src"), ["rtsp://u:p%40w@h/s?a=1&b=2#backchannel=0", "x"]);
        assert_eq!(query.get("video"), Some(""));
    }
}
