//! What dialling plugins share: source URLs with secrets, HTTP authentication of both sides, a lenient HTTP client.
//!
//! | start here | for |
//! |---|---|
//! | [`SourceUrl`] | a configured URL: credentials, host, byte-exact path, `#options` |
//! | [`Secret`] | text that never reaches a log |
//! | [`auth`] | Basic and Digest, client and server, for HTTP and RTSP |
//! | [`tls`] | TLS client connections, verified or not |
//!
//! Parsers take any bytes.
#![forbid(unsafe_code)]

pub mod auth;
pub mod secret;
pub mod tls;
pub mod url;

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
