//! An HTTP/1 client for cameras and other odd servers: Basic and Digest logins, redirects, streaming bodies, TLS, and heads
//! and lengths as they should not be.
//!
//! Every request has a connection of its own. Bodies come as they arrive; nothing is held but what was read last.

mod body;
mod head;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_sdk::{Class, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::SourceUrl;
use crate::auth::{self, Rejected};
use crate::dial::{DialError, Dialled, Stream, dial};
use crate::tls::Verify;

pub use body::{BodyError, Decoder, Framing};
pub use head::{Head, HeadError, MAX_HEAD_BYTES};

/// Most redirects in a row.
const MAX_REDIRECTS: u32 = 5;
/// Room for one read.
const READ_BYTES: usize = 64 << 10;

/// What a client does for all its requests.
#[derive(Debug, Clone)]
pub struct Client {
    /// `User-Agent`.
    pub user_agent: String,
    /// Limits of every wait.
    pub timeouts: Timeouts,
}

/// Limits of every wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP connection, and TLS handshake again.
    pub dial: Duration,
    /// From the request to the end of the response's head.
    pub head: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { dial: Duration::from_secs(5), head: Duration::from_secs(10), idle: Duration::from_secs(15) }
    }
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method, in capitals.
    pub method: String,
    /// `http`, `https` or `httpx` URL; its user info logs in.
    pub url: SourceUrl,
    /// Headers beside those the client sets itself.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
    /// What is done with certificates; `None`: https to a name is verified, to an address and httpx are not.
    pub verify: Option<Verify>,
}

impl Request {
    /// A GET of `url`, with the headers of its `#header=Name: value` options.
    pub fn get(url: SourceUrl) -> Self {
        let header = |(key, value): (&str, &str)| match value.split_once(':') {
            Some((name, value)) if key == "header" => Some((name.trim().to_owned(), value.trim().to_owned())),
            _ => None,
        };
        let headers = url.options().filter_map(header).collect();
        Self { method: "GET".to_owned(), headers, body: Bytes::new(), verify: None, url }
    }

    /// A POST to `url`, with the headers of its options.
    pub fn post(url: SourceUrl, content_type: &str, body: impl Into<Bytes>) -> Self {
        let mut request = Self { method: "POST".to_owned(), body: body.into(), ..Self::get(url) };
        request.headers.push(("Content-Type".to_owned(), content_type.to_owned()));
        request
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Why there is no response, or no more of its body. Holds no secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The scheme is none of HTTP's.
    #[error("the scheme {0}:// is not HTTP")]
    Scheme(String),
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Nothing came in time.
    #[error("the server did not {0} in time")]
    Timeout(&'static str),
    /// What came is no HTTP.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A broken body.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// 401 to every login.
    #[error("the server refused the login: {0}")]
    Auth(#[from] Rejected),
    /// More than five redirects, or one to nowhere.
    #[error("the server redirects in circles or to nowhere")]
    Redirect,
    /// A compressed body, which was not asked for.
    #[error("the server sends a body with the encoding {0}, which was not asked for")]
    Encoding(String),
    /// The body is larger than the caller's limit.
    #[error("the body is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
}

impl From<HttpError> for Error {
    fn from(error: HttpError) -> Self {
        let class = match &error {
            HttpError::Dial(DialError::Timeout { .. }) | HttpError::Timeout(_) => Class::Timeout,
            HttpError::Dial(DialError::Connect { .. }) => Class::NotFound,
            HttpError::Auth(_) => Class::Auth,
            HttpError::Scheme(_) | HttpError::Encoding(_) => Class::Unsupported,
            HttpError::Io(_) => Class::Eof,
            _ => Class::Protocol,
        };
        Self::new(class, error.to_string())
    }
}

/// A response whose body is still on its way.
pub struct Response {
    /// Status and headers.
    pub head: Head,
    /// URL that answered, behind all redirects.
    pub url: SourceUrl,
    /// Address of the server.
    pub peer: std::net::SocketAddr,
    stream: Box<dyn Stream>,
    buffer: BytesMut,
    decoder: Decoder,
    ended: bool,
    idle: Duration,
}

impl Client {
    /// Sends a request and reads the head of its response, after logins and redirects. Any status but 401 is a response.
    pub async fn send(&self, request: &Request) -> Result<Response, HttpError> {
        let mut request = request.clone();
        let mut login = auth::Client::new(request.url.credentials().cloned());
        let mut redirects = 0;
        loop {
            let response = self.exchange(&request, &mut login).await?;
            match response.head.status {
                401 => login.rejected(response.head.all("WWW-Authenticate"))?,
                301 | 302 | 303 | 307 | 308 if response.head.get("Location").is_some() => {
                    redirects += 1;
                    if redirects > MAX_REDIRECTS {
                        return Err(HttpError::Redirect);
                    }
                    let location = response.head.get("Location").unwrap_or_default();
                    let url = request.url.join(location).map_err(|_| HttpError::Redirect)?;
                    if matches!(response.head.status, 301..=303) && request.method != "HEAD" {
                        request.method = "GET".to_owned();
                        request.body = Bytes::new();
                    }
                    if !request.url.may_share_secrets(&url) {
                        // What was meant for one server is not for another
                        request.headers.retain(|(n, _)| {
                            !["authorization", "cookie"].contains(&n.to_ascii_lowercase().as_str())
                        });
                    }
                    login = auth::Client::new(url.credentials().cloned());
                    request.url = url;
                }
                _ => {
                    let encoding = response.head.get("Content-Encoding").unwrap_or("identity");
                    if !encoding.eq_ignore_ascii_case("identity") {
                        return Err(HttpError::Encoding(encoding.to_owned()));
                    }
                    return Ok(response);
                }
            }
        }
    }

    async fn exchange(&self, request: &Request, login: &mut auth::Client) -> Result<Response, HttpError> {
        let Dialled { mut stream, peer, .. } = self.dial(request).await?;
        let bytes = self.encode(request, login)?;
        let mut buffer = BytesMut::new();
        let reading = async {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            loop {
                if let Some(head) = Head::take(&mut buffer)? {
                    // Interim responses only announce the real one
                    if !(100..200).contains(&head.status) || head.status == 101 {
                        return Ok::<_, HttpError>(head);
                    }
                    continue;
                }
                buffer.reserve(READ_BYTES / 8);
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Err(HeadError::Ended { received: buffer.len() }.into());
                }
            }
        };
        let head = match tokio::time::timeout(self.timeouts.head, reading).await {
            Ok(head) => head?,
            Err(_) => return Err(HttpError::Timeout("answer")),
        };
        let framing = Framing::of(&head, &request.method);
        Ok(Response {
            decoder: Decoder::new(framing),
            head,
            url: request.url.clone(),
            peer,
            stream,
            buffer,
            ended: false,
            idle: self.timeouts.idle,
        })
    }

    async fn dial(&self, request: &Request) -> Result<Dialled, HttpError> {
        let url = &request.url;
        let (default_port, tls) = match url.scheme() {
            "http" => (80, None),
            "https" => (443, Some(Verify::of(url))),
            "httpx" => (443, Some(Verify::No)),
            other => return Err(HttpError::Scheme(other.to_owned())),
        };
        let tls = tls.map(|verify| request.verify.unwrap_or(verify));
        Ok(dial(url.host(), url.port().unwrap_or(default_port), tls, self.timeouts.dial).await?)
    }

    fn encode(&self, request: &Request, login: &mut auth::Client) -> Result<Vec<u8>, HttpError> {
        let url = &request.url;
        let target = match url.path_and_query() {
            path if path.starts_with('/') => path.to_owned(),
            query => format!("/{query}"),
        };
        let mut headers = vec![
            ("Host", url.authority()),
            ("User-Agent", self.user_agent.clone()),
            ("Accept", "*/*".to_owned()),
            ("Connection", "close".to_owned()),
        ];
        if let Some(value) = login.authorization(&request.method, &target, &cnonce()?) {
            headers.push(("Authorization", value));
        }
        if !request.body.is_empty() || request.method == "POST" || request.method == "PUT" {
            headers.push(("Content-Length", request.body.len().to_string()));
        }
        // The caller's headers replace the client's
        let is_replaced = |name: &str| request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        headers.retain(|(name, _)| !is_replaced(name));
        headers.extend(request.headers.iter().map(|(n, v)| (n.as_str(), v.clone())));
        let mut out = format!("{} {target} HTTP/1.1\r\n", request.method);
        for (name, value) in headers {
            let line = format!("{name}: {value}");
            out.push_str(&line.replace(['\r', '\n'], " "));
            out.push_str("\r\n");
        }
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        out.extend_from_slice(&request.body);
        Ok(out)
    }
}

impl Response {
    /// The same when its status is `wanted`; else the error that it is.
    pub fn expect(self, wanted: impl FnOnce(u16) -> bool) -> Result<Self, Error> {
        let (status, reason) = (self.head.status, &self.head.reason);
        if wanted(status) {
            return Ok(self);
        }
        let class = match status {
            401 | 403 => Class::Auth,
            404 | 410 => Class::NotFound,
            429 | 503 => Class::Busy,
            _ => Class::Protocol,
        };
        Err(Error::new(class, format!("{status} {reason}").trim_end().to_owned()))
    }

    /// The next piece of the body; `None` at its end. A body that ends too early just ends: see
    /// [`Response::is_truncated`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            if let Some(piece) = self.decoder.take(&mut self.buffer)? {
                return Ok(Some(piece));
            }
            if self.ended || self.decoder.is_complete() {
                return Ok(None);
            }
            self.buffer.reserve(READ_BYTES);
            let reading = self.stream.read_buf(&mut self.buffer);
            match tokio::time::timeout(self.idle, reading).await {
                Err(_) => return Err(HttpError::Timeout("go on")),
                Ok(Ok(0)) => self.ended = true,
                Ok(Ok(_)) => {}
                // TLS servers seldom say goodbye
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => self.ended = true,
                Ok(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// The whole body, of at most `max` bytes.
    pub async fn bytes(&mut self, max: usize) -> Result<Bytes, HttpError> {
        let mut body = BytesMut::new();
        while let Some(piece) = self.chunk().await? {
            if body.len() + piece.len() > max {
                return Err(HttpError::TooLarge { max });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    /// Whether the connection ended before the body's length.
    pub fn is_truncated(&self) -> bool {
        self.ended && !self.decoder.may_end()
    }

    /// Length of the body, when the server names a believable one.
    pub fn content_length(&self) -> Option<u64> {
        self.decoder.len()
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").field("status", &self.head.status).field("url", &self.url).finish()
    }
}

fn cnonce() -> Result<String, std::io::Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_options_replace_and_cannot_inject() {
        let client = Client { user_agent: "Patchbay/1".to_owned(), timeouts: Timeouts::default() };
        let url = SourceUrl::parse("http://cam/x#header=User-Agent: Chrome#header=X-Key: a").unwrap();
        let request = Request::get(url).header("X-Y", "1\r\nX-Z: 2");
        let text = client.encode(&request, &mut auth::Client::new(None)).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "GET /x HTTP/1.1\r\nHost: cam\r\nAccept: */*\r\nConnection: close\r\nUser-Agent: Chrome\r\n\
             X-Key: a\r\nX-Y: 1  X-Z: 2\r\n\r\n"
        );
    }
}
