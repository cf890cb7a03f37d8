//! Role `service`, and calls of services: what one plugin does for another, through the host.
//!
//! | you | use |
//! |---|---|
//! | give a service | [`Service`]; `"services": ["NAME"]` in the manifest |
//! | call one for a source | [`crate::source::Session::call`]: the service may feed that source |
//! | call one for anything else | [`crate::server::Context::call`] |
//! | want WebRTC for a camera | [`webrtc::Peer`] |
//!
//! Either side sends as many messages as it likes. A message may have bytes: these are kept within a window of
//! [`CALL_WINDOW`], so that neither side floods the other. No media goes this way: a service that feeds a source pushes units
//! into that source's ring itself.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use patchbay_plugin_api::message::{
    self, Answer, CALL_WINDOW, Call, Credit, Ended, command, event, split_bytes, with_bytes,
};
use patchbay_plugin_api::{Code, Host};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::Plugin;
use crate::entry::Opening;
use crate::error::Error;
use crate::session::{self, Command, Link};
use crate::source::{self, Control};

pub mod webrtc;

/// For the macro.
#[doc(hidden)]
pub const ROLE: u32 = message::role::SERVICE;

/// What a caller wants at first.
pub type Request = message::ServiceOpen;

/// A plugin that does something for others.
pub trait Service: Plugin {
    /// Holds one conversation until the caller leaves ([`Session::next`] is an error) or the work is done. How it ends is
    /// told to the caller.
    fn serve(
        self: Arc<Self>,
        request: Request,
        session: Session,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// One message of a conversation, either way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// What to do, or what is told.
    pub method: String,
    /// With what.
    pub value: Value,
    /// Bytes that come with it.
    pub bytes: Option<Bytes>,
}

impl Message {
    /// The value as `T`.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T, Error> {
        let Self { method, value, .. } = self;
        serde_json::from_value(value).map_err(|error| Error::protocol(format!("{method}: {error}")))
    }

    /// From the payload of a call or answer.
    fn from_payload(payload: &Bytes) -> Option<Self> {
        let (json, bytes) = split_bytes(payload)?;
        // A call reads as an answer: both have these fields.
        let Answer { method, value } = serde_json::from_slice(json).ok()?;
        Some(Self { method, value, bytes: bytes.map(|bytes| payload.slice_ref(bytes)) })
    }
}

/// The sending half of a conversation. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    link: Link,
    event: u32,
    window: Arc<Window>,
}

#[derive(Default)]
struct Window {
    outstanding: AtomicU64,
    news: Notify,
    over: CancellationToken,
}

impl Sender {
    fn new(link: Link, event: u32) -> Self {
        Self { link, event, window: Arc::default() }
    }

    /// Sends a message.
    pub fn send(&self, method: &str, value: &impl Serialize) -> Result<(), Error> {
        self.emit(method, value, None)
    }

    /// Sends a message with bytes, as soon as the other side has taken enough of those before.
    pub async fn send_bytes(&self, method: &str, value: &impl Serialize, bytes: &[u8]) -> Result<(), Error> {
        loop {
            let news = self.window.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if self.window.outstanding.load(Ordering::Acquire) < CALL_WINDOW {
                break;
            }
            tokio::select! {
                () = news => {}
                () = self.link.closed.cancelled() => return Err(Error::eof("closed")),
                () = self.window.over.cancelled() => return Err(Error::eof("closed")),
            }
        }
        self.window.outstanding.fetch_add(bytes.len() as u64, Ordering::AcqRel);
        self.emit(method, value, Some(bytes))
    }

    fn emit(&self, method: &str, value: &impl Serialize, bytes: Option<&[u8]>) -> Result<(), Error> {
        let value = serde_json::to_value(value).map_err(|error| Error::protocol(error.to_string()))?;
        let answer = Answer { method: method.to_owned(), value };
        Ok(self.link.host.emit_bytes(self.link.id, self.event, &with_bytes(&answer, bytes))?)
    }

    /// The other side has taken bytes.
    fn took(&self, credit: Credit) {
        let less = |held: u64| Some(held.saturating_sub(credit.bytes));
        let _ = self.window.outstanding.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        self.window.news.notify_waiters();
    }
}

/// The receiving half: grants the bytes of a message when the next one is asked for.
struct Receiver {
    commands: mpsc::UnboundedReceiver<Command>,
    sender: Sender,
    taken: u64,
}

impl Receiver {
    /// The next message of `kind`; commands that are not the conversation's go to `other`.
    async fn next(&mut self, kind: u32, other: impl Fn(Command)) -> Result<Message, Error> {
        let link = &self.sender.link;
        if self.taken > 0 {
            let bytes = std::mem::take(&mut self.taken);
            link.emit(event::CONSUMED, &Credit { bytes })?;
        }
        loop {
            let command = tokio::select! {
                command = self.commands.recv() => command,
                () = link.closed.cancelled() => None,
            };
            let Some(command) = command else { return Err(Error::eof("closed")) };
            match command.kind {
                found if found == kind => {
                    let Some(message) = Message::from_payload(&command.payload) else { continue };
                    self.taken = message.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
                    return Ok(message);
                }
                command::WRITABLE => self.sender.took(command.json()),
                command::REFUSED => {
                    self.sender.window.over.cancel();
                    return Err(command.json::<Ended>().into());
                }
                _ => other(command),
            }
        }
    }
}

/// A running conversation at the service.
pub struct Session {
    receiver: Receiver,
    source: source::Session,
    control: Control,
    feeds: bool,
}

impl Session {
    /// The caller's next message; an error when it has left.
    pub async fn next(&mut self) -> Result<Message, Error> {
        let control = &self.control;
        self.receiver.next(command::CALL, |command| drop(control.handle(command))).await
    }

    /// The way to the caller.
    pub fn answers(&self) -> Sender {
        self.receiver.sender.clone()
    }

    /// The caller's source, when it lets this service feed one: tracks and units as of a source of one's own. Its demand comes
    /// while [`Session::next`] is waited for.
    pub fn source(&self) -> Option<source::Session> {
        self.feeds.then(|| self.source.clone())
    }

    /// Completes when the caller has left.
    pub async fn closed(&self) {
        self.source.closed().await;
    }
}

/// A conversation that this plugin has begun. Dropping it ends it.
pub struct Conversation {
    receiver: Receiver,
}

impl Conversation {
    /// Calls a service; `session` is the source that it may feed, 0: none.
    pub(crate) fn open(
        host: Host,
        session: u64,
        service: &str,
        method: &str,
        value: &impl Serialize,
    ) -> Result<Self, Error> {
        let value = serde_json::to_value(value).map_err(|error| Error::protocol(error.to_string()))?;
        let (link, commands) = session::register(host, None);
        let sender = Sender::new(link, event::CALL);
        let conversation = Self { receiver: Receiver { commands, sender, taken: 0 } };
        let call = Call { service: service.to_owned(), method: method.to_owned(), value, session };
        conversation.receiver.sender.link.emit(event::CALL, &call)?;
        Ok(conversation)
    }

    /// The service's next message; an error, with its reason, when the conversation is over or was refused.
    pub async fn next(&mut self) -> Result<Message, Error> {
        self.receiver.next(command::ANSWER, drop).await
    }

    /// The way to the service.
    pub fn calls(&self) -> Sender {
        self.receiver.sender.clone()
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let Sender { link, window, .. } = &self.receiver.sender;
        window.over.cancel();
        session::forget(link.id);
        let _ = link.host.emit_bytes(link.id, event::DETACH, b"{}");
    }
}

/// For the macro.
#[doc(hidden)]
pub fn open<P: Service>(plugin: Arc<P>, request: &[u8], session: Opening) -> Result<(), Code> {
    let request: Request = serde_json::from_slice(request).map_err(|_| Code::Invalid)?;
    session.run(move |link, commands| {
        let (source, control) = source::Session::new(link.clone());
        let receiver = Receiver { commands, sender: Sender::new(link, event::ANSWER), taken: 0 };
        let session = Session { receiver, source, control, feeds: request.feeds };
        plugin.serve(request, session)
    })
}
