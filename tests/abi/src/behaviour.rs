//! How a session of the fixture behaves.

use std::future::pending;
use std::thread;

use patchbay_sdk::{Class, Error};

/// What stands after the scheme of a URL, in a query or in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Works.
    Ok,
    /// Panics in the call that makes the session's future, before anything is announced.
    PanicOpen,
    /// Panics in the session's task, after its first unit or bytes.
    PanicTask,
    /// A transport that works, whose demuxer panics in the call that makes its future.
    PanicDemuxerOpen,
    /// A transport that works, whose demuxer panics behind its first picture.
    PanicDemuxerTask,
    /// Blocks its worker thread and never returns.
    Hang,
    /// Ends at once: the login was refused.
    RefuseAuth,
    /// Ends at once: there is no such camera.
    NotFound,
    /// Never says anything.
    Silent,
    /// Breaks the rules of the ABI wherever it can, then goes on as if nothing was.
    Garbage,
    /// Ends after a short while, as a file does.
    Eof,
    /// A source that has the service `fixture` feed it, and talks with it all the while.
    Delegate,
    /// A source of H.264 whose pictures say when they were pushed: [`crate::stamps`].
    Stamps,
    /// A source that hears, and says what it heard: [`crate::talk`].
    Talk,
    /// One that says that it takes sound, and does not.
    Deaf,
}

impl Behaviour {
    /// From `scheme:WORD#options`; words that it does not know mean [`Behaviour::Ok`].
    pub fn of(url: &str) -> Self {
        let word = url.split_once(':').map_or(url, |(_, rest)| rest);
        match word.split(['#', '?', '&']).next().unwrap_or_default().trim_start_matches('/') {
            "panic-open" => Self::PanicOpen,
            "panic-task" => Self::PanicTask,
            "panic-demuxer-open" => Self::PanicDemuxerOpen,
            "panic-demuxer-task" => Self::PanicDemuxerTask,
            "hang" => Self::Hang,
            "refuse-auth" => Self::RefuseAuth,
            "not-found" => Self::NotFound,
            "silent" => Self::Silent,
            "garbage" => Self::Garbage,
            "eof" => Self::Eof,
            "delegate" => Self::Delegate,
            "stamps" => Self::Stamps,
            "talk" => Self::Talk,
            "deaf" => Self::Deaf,
            _ => Self::Ok,
        }
    }

    /// What comes before a session's first word.
    pub async fn begin(self) -> Result<(), Error> {
        match self {
            Self::RefuseAuth => Err(Error::new(Class::Auth, "fixture: the login was refused")),
            Self::NotFound => Err(Error::not_found("fixture: there is no such camera")),
            Self::Silent => pending().await,
            Self::Hang => loop {
                thread::park();
            },
            _ => Ok(()),
        }
    }

    /// Panics when that is asked for at this place.
    pub fn panic_if(self, at: Self) {
        assert!(self != at, "the fixture was told to panic ({at:?})");
    }
}
