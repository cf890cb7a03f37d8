//! Why a session ended.

use std::time::Duration;

use patchbay_net::auth::Rejected;
use patchbay_sdk::Class;

use crate::wire::WireError;

/// Back-off after a camera has said that it has too many sessions: each new connection makes it worse (C104).
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(10);

/// Why a session with a camera ended. Holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// 401 or 403.
    #[error("the camera refused the login: {0}")]
    Auth(#[from] Rejected),
    /// A request was answered with an error.
    #[error("the camera answered {method} with {status} {reason}{}{text}", if text.is_empty() { "" } else { ": " })]
    Status {
        /// Method of the request.
        method: &'static str,
        /// Status code.
        status: u16,
        /// Reason phrase as sent.
        reason: String,
        /// Start of the body, when it is text (C28).
        text: String,
    },
    /// Nothing came in time.
    #[error("the camera did not {0} in time")]
    Timeout(Wait),
    /// The camera closed the connection or ended the session.
    #[error("the camera closed the connection")]
    Eof,
    /// What came is no RTSP.
    #[error("what the camera sends is no RTSP: {0}")]
    Wire(#[from] WireError),
    /// DESCRIBE brought no media that can be received.
    #[error("the camera's description has no video or audio")]
    NoMedia,
    /// All medias are encrypted (C71).
    #[error("the camera offers encrypted media only (SRTP), which is not supported")]
    Srtp,
    /// More than five redirects in a row, or one that names no RTSP URL.
    #[error("the camera redirects in circles or to nowhere")]
    Redirect,
    /// A redirect from TLS to plain text.
    #[error("the camera redirects from rtsps to rtsp, which would send the login in the clear")]
    RedirectDowngrade,
    /// The camera describes other medias than before: dial again.
    #[error("the camera's medias have changed")]
    MediasChanged,
}

/// What was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// A reply to this method.
    Reply(&'static str),
    /// The first packets after PLAY.
    FirstMedia,
    /// Anything while playing.
    Silence,
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reply(method) => write!(f, "answer {method}"),
            Self::FirstMedia => f.write_str("send all media"),
            Self::Silence => f.write_str("send anything"),
        }
    }
}

impl Error {
    /// What kind of end this is for the host (X9).
    pub fn class(&self) -> Class {
        match self {
            Self::Auth(_) | Self::Status { status: 401 | 403, .. } => Class::Auth,
            Self::Status { status: 404 | 410 | 454, .. } => Class::NotFound,
            Self::Status { status: 406 | 453 | 503, .. } => Class::Busy,
            Self::Status { status: 405 | 415 | 461 | 501 | 505 | 551, .. } | Self::NoMedia | Self::Srtp => {
                Class::Unsupported
            }
            Self::Timeout(_) => Class::Timeout,
            Self::Eof | Self::MediasChanged => Class::Eof,
            _ => Class::Protocol,
        }
    }

    /// Do not dial again sooner; zero leaves it to the host.
    pub fn retry_after(&self) -> Duration {
        if self.class() == Class::Busy { BUSY_RETRY_AFTER } else { Duration::ZERO }
    }
}

impl From<Error> for patchbay_sdk::Error {
    fn from(error: Error) -> Self {
        let mut out = Self::new(error.class(), error.to_string());
        out.retry_after_ms = error.retry_after().as_millis() as u64;
        out
    }
}
