//! What dialling plugins share: source URLs with secrets, HTTP authentication of both sides, a lenient HTTP client.
//!
//! | start here | for |
//! |---|---|
//! | [`SourceUrl`] | a configured URL: credentials, host, byte-exact path, `#options` |
//! | [`Secret`] | text that never reaches a log |
//! | [`auth`] | Basic and Digest, client and server, for HTTP and RTSP |
//! | [`http`] | a client for cameras and other odd servers |
//! | [`dial()`] | a connection to a server, plain or TLS |
//! | [`tls`] | TLS of clients, verified or not, and of servers |
//!
//! Parsers take any bytes; only [`dial()`], [`http`] and [`tls`] do I/O.
#![forbid(unsafe_code)]

pub mod auth;
pub mod dial;
pub mod http;
pub mod secret;
pub mod tls;
pub mod url;

pub use dial::{DialError, Dialled, Stream, dial};
pub use secret::Secret;
pub use url::{Credentials, SourceUrl, UrlError, redact};

/// Entry points of the fuzz targets.
#[doc(hidden)]
pub mod fuzz {
    /// Parses a URL and checks that redacting hides its password.
    pub fn url(data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let _ = crate::redact(&text);
        if let Ok(url) = crate::SourceUrl::parse(&text) {
            assert_eq!(url.expose(), text.trim());
        }
    }

    /// Parses the head of an HTTP response, and the rest as its body.
    pub fn http(data: &[u8]) {
        let mut buffer = bytes::BytesMut::from(data);
        let Ok(Some(head)) = crate::http::Head::take(&mut buffer) else { return };
        let mut decoder = crate::http::Decoder::new(crate::http::Framing::of(&head, "GET"));
        let mut len = 0;
        while let Ok(Some(piece)) = decoder.take(&mut buffer) {
            len += piece.len();
        }
        assert!(len <= data.len());
    }

    /// Parses challenges and an `Authorization` header.
    pub fn auth(data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let _ = crate::auth::parse_challenges(&text);
        let credentials = crate::Credentials::new("a", "b");
        let server = crate::auth::Server::new("r", credentials.clone());
        assert!(server.verify(&text, "GET", "n").is_err());
        let mut client = crate::auth::Client::new(Some(credentials));
        if client.rejected([&*text]).is_ok() {
            assert!(client.authorization("GET", "/", "c").is_some());
        }
    }
}
