//! RTSP 1.0 messages (RFC 2326) as cameras and players really send them: parse leniently, build strictly.
//!
//! | start here | for |
//! |---|---|
//! | [`Parser`] | bytes of a connection in, requests, responses and interleaved frames out |
//! | [`Request`], [`Response`] | messages, with builders and [`Request::encode`] |
//! | [`Headers`] | ordered headers, looked up without case, duplicates kept |
//! | [`Transport`], [`SessionHeader`] | the two headers with a grammar of their own |

mod headers;
mod parser;
mod transport;

use bytes::{BufMut, Bytes, BytesMut};

pub use headers::Headers;
pub use parser::{
    Item, MAX_HEADER_BYTES, MAX_JUNK_BYTES, MAX_REQUEST_BODY, MAX_RESPONSE_BODY, Parser, WireError,
};
pub use transport::{DEFAULT_SESSION_TIMEOUT, Lower, SessionHeader, Transport};

/// `Require` of a client that would speak: ONVIF Streaming Specification section 5.3.
pub const BACKCHANNEL: &str = "www.onvif.org/ver20/backchannel";

/// A request, from either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Method, in capitals.
    pub method: String,
    /// URL of the request line, byte for byte, or `*`.
    pub url: String,
    /// Headers in their order.
    pub headers: Headers,
    /// Body; empty when there is none.
    pub body: Bytes,
}

/// A response, from either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code, 100 to 999.
    pub status: u16,
    /// Reason phrase; may be empty.
    pub reason: String,
    /// Headers in their order.
    pub headers: Headers,
    /// Body; empty when there is none.
    pub body: Bytes,
}

impl Request {
    /// A request without body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), headers: Headers::default(), body: Bytes::new() }
    }

    /// The bytes to send.
    pub fn encode(&self) -> Bytes {
        let start = format!("{} {} RTSP/1.0", one_line(&self.method), one_line(&self.url));
        encode(&start, &self.headers, &self.body)
    }
}

impl Response {
    /// A response without body, with the usual reason phrase of `status`.
    pub fn new(status: u16) -> Self {
        Self { status, reason: reason(status).to_owned(), headers: Headers::default(), body: Bytes::new() }
    }

    /// The bytes to send.
    pub fn encode(&self) -> Bytes {
        let start = format!("RTSP/1.0 {} {}", self.status, one_line(&self.reason));
        encode(&start, &self.headers, &self.body)
    }
}

/// What is built alike into either message.
macro_rules! parts {
    ($message:ident) => {
        impl $message {
            /// Adds a header.
            #[must_use]
            pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
                self.headers.push(name, value);
                self
            }

            /// Sets the body; `encode` writes `Content-Length`.
            #[must_use]
            pub fn body(mut self, body: impl Into<Bytes>) -> Self {
                self.body = body.into();
                self
            }
        }
    };
}

parts!(Request);
parts!(Response);

/// Appends one interleaved frame (RFC 2326 section 10.12). Payloads above 65535 bytes cannot be framed: nothing is
/// appended and `false` returned.
pub fn write_interleaved(channel: u8, payload: &[u8], out: &mut BytesMut) -> bool {
    let Ok(len) = u16::try_from(payload.len()) else { return false };
    out.reserve(4 + payload.len());
    out.put_slice(&[b'$', channel]);
    out.put_u16(len);
    out.put_slice(payload);
    true
}

/// Reason phrase of a status (RFC 2326 section 7.1.1), empty when unknown.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        451 => "Parameter Not Understood",
        453 => "Not Enough Bandwidth",
        454 => "Session Not Found",
        455 => "Method Not Valid in This State",
        457 => "Invalid Range",
        459 => "Aggregate Operation Not Allowed",
        460 => "Only Aggregate Operation Allowed",
        461 => "Unsupported Transport",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "RTSP Version Not Supported",
        551 => "Option Not Supported",
        _ => "",
    }
}

/// A message of this first line.
fn encode(start: &str, headers: &Headers, body: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(256 + body.len());
    out.put_slice(start.as_bytes());
    out.put_slice(b"\r\n");
    for (name, value) in headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("Content-Length")) {
        out.put_slice(one_line(name).as_bytes());
        out.put_slice(b": ");
        out.put_slice(one_line(value).as_bytes());
        out.put_slice(b"\r\n");
    }
    if !body.is_empty() {
        out.put_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    out.put_slice(b"\r\n");
    out.put_slice(body);
    out.freeze()
}

/// Text from outside must not be able to end a line.
fn one_line(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains(['\r', '\n']) { text.replace(['\r', '\n'], " ").into() } else { text.into() }
}

#[cfg(test)]
mod tests;
