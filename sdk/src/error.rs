//! Why a session ended.

use patchbay_plugin_api::Code;
use patchbay_plugin_api::message::{Class, Ended};

/// The end of a session: its class decides what the host does next, its message is for people.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of end.
    pub class: Class,
    /// What was done, to whom, what to try. Never a secret.
    pub message: String,
    /// Do not dial again sooner, ms; 0: the host's back-off.
    pub retry_after_ms: u64,
}

impl Error {
    /// An error of `class`.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), retry_after_ms: 0 }
    }

    /// What was asked is not possible here.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Class::Unsupported, message)
    }

    /// The other side broke its protocol.
    pub fn protocol(message: impl Into<String>) -> Self {
        Self::new(Class::Protocol, message)
    }

    /// No such camera, file or stream.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Class::NotFound, message)
    }

    /// Nothing came in time.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(Class::Timeout, message)
    }

    /// The stream came to its end.
    pub fn eof(message: impl Into<String>) -> Self {
        Self::new(Class::Eof, message)
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self { class: error.class, message: error.message, retry_after_ms: error.retry_after_ms }
    }
}

impl From<Ended> for Error {
    fn from(ended: Ended) -> Self {
        Self { class: ended.class, message: ended.message, retry_after_ms: ended.retry_after_ms }
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        match code {
            Code::Closed | Code::Unknown => Self::eof("the host has closed the session"),
            other => Self::protocol(format!("the host refused a call: {other}")),
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let class = match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Class::NotFound,
            ErrorKind::PermissionDenied => Class::Auth,
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                Class::Timeout
            }
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Class::Eof,
            _ => Class::Protocol,
        };
        Self::new(class, error.to_string())
    }
}
