//! The HTTP heads of a tunnel.
//!
//! ```text
//! GET  /cam HTTP/1.0, x-sessioncookie: c  ─▶  200, then the server's bytes as they are
//! POST /cam HTTP/1.0, x-sessioncookie: c  ─▶  no answer; the body is base64 of the client's bytes
//! ```

use bytes::BytesMut;
use patchbay_net::auth;
use patchbay_net::http::{Head, HeadError};
use patchbay_net::{Credentials, SourceUrl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::body::Tunnel;
use super::{COOKIE, Stream, TUNNELLED};
use crate::wire::Headers;

/// Most bytes of a request's head.
pub const MAX_HEAD_BYTES: usize = 16 << 10;
/// Longest cookie.
pub const MAX_COOKIE: usize = 128;
/// Body length that a POST claims; nobody counts (QuickTime's value).
const CLAIMED_LENGTH: u32 = 32_767;
/// Refused logins of one GET.
const MAX_LOGINS: usize = 3;

/// The answer to a tunnel's GET.
pub const OPENED: &str = "HTTP/1.0 200 OK\r\nServer: Patchbay\r\nConnection: close\r\nCache-Control: no-store\r\n\
    Pragma: no-cache\r\nContent-Type: application/x-rtsp-tunnelled\r\n\r\n";

/// The head of an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// Method.
    pub method: String,
    /// Path and query, byte for byte.
    pub target: String,
    /// Headers.
    pub headers: Headers,
}

/// Why a request's head cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The first line has no method, target and version.
    #[error("the request is no HTTP")]
    NotHttp,
    /// It does not end.
    #[error("the request's head is longer than {MAX_HEAD_BYTES} bytes")]
    TooLong,
}

impl RequestHead {
    /// Takes a head off the front of `buffer`; `None` when more bytes are needed.
    pub fn take(buffer: &mut BytesMut) -> Result<Option<Self>, RequestError> {
        let mut len = 0;
        let mut is_complete = false;
        for line in buffer.split_inclusive(|byte| *byte == b'\n') {
            len += line.len();
            if matches!(line, b"\n" | b"\r\n") {
                is_complete = true;
                break;
            }
        }
        if len > MAX_HEAD_BYTES {
            return Err(RequestError::TooLong);
        }
        if !is_complete {
            return Ok(None);
        }
        let head = buffer.split_to(len);
        let mut lines = head
            .as_ref()
            .split(|byte: &u8| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let mut words = first.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(method), Some(target), Some(version)) if version.starts_with("HTTP/") => Ok(Some(Self {
                method: method.to_owned(),
                target: target.to_owned(),
                headers: Headers::parse(lines),
            })),
            _ => Err(RequestError::NotHttp),
        }
    }

    /// The tunnel that it belongs to.
    pub fn cookie(&self) -> Option<&str> {
        self.headers.get(COOKIE).filter(|cookie| (1..=MAX_COOKIE).contains(&cookie.len()))
    }

    /// Whether a page of another host asks: a browser lets any page open WebSockets, also to this machine, and says whose it
    /// is (RFC 6455 10.2).
    pub fn is_foreign(&self) -> bool {
        let name = |text: &str| {
            let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
            let end = rest.rfind(':').filter(|at| !rest.get(*at..).unwrap_or_default().contains(']'));
            rest.get(..end.unwrap_or(rest.len())).unwrap_or_default().to_ascii_lowercase()
        };
        let host = self.headers.get("Host").map(name).unwrap_or_default();
        self.headers.get("Origin").is_some_and(|origin| name(origin) != host)
    }

    /// Whether it asks for a WebSocket.
    pub fn is_upgrade(&self) -> bool {
        self.headers.all("Upgrade").any(|value| value.eq_ignore_ascii_case("websocket"))
    }
}

/// Why a tunnel could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// What came is no HTTP.
    #[error("{0}")]
    Head(#[from] HeadError),
    /// The login was refused.
    #[error("the camera refused the login: {0}")]
    Auth(#[from] auth::Rejected),
    /// The camera does not tunnel.
    #[error("the camera answered the tunnel's GET with {0}")]
    Status(u16),
}

/// Opens a tunnel to the path of `url`; `dial` opens connections. `cookie` and `cnonce` are random.
pub async fn open<S, D, F, E>(
    url: &SourceUrl,
    credentials: Option<Credentials>,
    user_agent: &str,
    cookie: &str,
    dial: D,
) -> Result<Box<dyn Stream>, E>
where
    S: Stream + 'static,
    D: Fn() -> F,
    F: Future<Output = Result<S, E>>,
    E: From<OpenError>,
{
    let mut login = auth::Client::new(credentials);
    let target = url.path_and_query();
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let host = url.authority();
    let head = |method: &str, login: &mut auth::Client, more: &str| {
        let authorization = login.authorization(method, &target, cookie);
        let authorization =
            authorization.map_or(String::new(), |value| format!("Authorization: {value}\r\n"));
        format!(
            "{method} {target} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: {user_agent}\r\n{COOKIE}: {cookie}\r\n\
             Accept: {TUNNELLED}\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n{authorization}{more}\r\n"
        )
    };
    for _ in 0..=MAX_LOGINS {
        let mut down = dial().await?;
        let get = head("GET", &mut login, "");
        let (answer, rest) = exchange(&mut down, &get).await.map_err(E::from)?;
        if answer.status == 401 {
            login.rejected(answer.all("WWW-Authenticate")).map_err(OpenError::from)?;
            continue;
        }
        if answer.status != 200 {
            return Err(OpenError::Status(answer.status).into());
        }
        let mut up = dial().await?;
        let body = format!(
            "Content-Type: {TUNNELLED}\r\nContent-Length: {CLAIMED_LENGTH}\r\nExpires: Sun, 9 Jan 1972 00:00:00 GMT\r\n"
        );
        let post = head("POST", &mut login, &body);
        let sent = async {
            up.write_all(post.as_bytes()).await?;
            up.flush().await
        };
        sent.await.map_err(OpenError::from)?;
        let down = tokio::io::AsyncReadExt::chain(std::io::Cursor::new(rest.freeze()), down);
        return Ok(Box::new(Tunnel::new(down, up)));
    }
    Err(OpenError::Status(401).into())
}

async fn exchange<S: Stream>(stream: &mut S, request: &str) -> Result<(Head, BytesMut), OpenError> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut buffer = BytesMut::new();
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(HeadError::Ended { received: buffer.len() }.into());
        }
        if let Some(head) = Head::take(&mut buffer)? {
            return Ok((head, buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As ffmpeg 9 and GStreamer 1.22 begin.
    const GET: &str = "GET /cam?x=1 HTTP/1.1\r\nUser-Agent: Lavf63.1.102\r\nAccept: application/x-rtsp-tunnelled\r\n\
        Range: bytes=0-\r\nConnection: close\r\nHost: 127.0.0.1:15560\r\nX-SessionCookie: 25f9ef5d4ed784dd\r\n\r\n";

    #[test]
    fn k5_heads() {
        let mut buffer = BytesMut::from(GET);
        buffer.extend_from_slice(b"rest");
        let head = RequestHead::take(&mut buffer).unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str()), ("GET", "/cam?x=1"));
        assert_eq!(head.cookie(), Some("25f9ef5d4ed784dd"));
        assert!(!head.is_upgrade() && !head.is_foreign());
        assert_eq!(&buffer[..], b"rest");
    }

    #[test]
    fn what_is_no_head_is_refused() {
        assert_eq!(RequestHead::take(&mut BytesMut::from("GET /cam\r\n\r\n")), Err(RequestError::NotHttp));
        let mut long = BytesMut::from(&[b'a'; MAX_HEAD_BYTES + 1][..]);
        assert_eq!(RequestHead::take(&mut long), Err(RequestError::TooLong));
        let cookie = format!("GET / HTTP/1.0\r\n{COOKIE}: {}\r\n\r\n", "c".repeat(MAX_COOKIE + 1));
        assert_eq!(RequestHead::take(&mut BytesMut::from(&cookie[..])).unwrap().unwrap().cookie(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_at_any_cut(text in "[ -~\\r\\n:]{0,200}", cut in 0_usize..200) {
            let whole = RequestHead::take(&mut BytesMut::from(&text[..]));
            let cut = cut.min(text.len());
            let mut buffer = BytesMut::from(&text[..cut]);
            if RequestHead::take(&mut buffer.clone()) == Ok(None) {
                buffer.extend_from_slice(&text.as_bytes()[cut..]);
                prop_assert_eq!(RequestHead::take(&mut buffer), whole);
            }
        }
    }

    #[test]
    fn pages_of_other_hosts_are_told_from_ours() {
        for (host, origin, is_foreign) in [
            ("cam:8554", "http://cam:1984", false),
            ("[::1]:8554", "http://[::1]", false),
            ("CAM", "https://cam:443", false),
            ("localhost:8554", "http://evil.example", true),
            ("localhost:8554", "null", true),
        ] {
            let text = format!("GET /x HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\r\n");
            let head = RequestHead::take(&mut BytesMut::from(text.as_bytes())).unwrap().unwrap();
            assert_eq!(head.is_foreign(), is_foreign, "{host} {origin}");
        }
    }
}
