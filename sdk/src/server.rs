//! Role `server`: own listeners; viewers become consumers, publishers become sources.

mod claim;
mod listeners;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use patchbay_plugin_api::message::{
    self, Bound, Consume, ConsumerCounters, Counters, Ended, Listening, Publish, command, event,
};
use patchbay_plugin_api::{Code, Host};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use claim::{Claim, START_TIMEOUT, Wanted, is_unknown, settled};
pub use listeners::{accept, listen};

use crate::Plugin;
use crate::entry::Opening;
use crate::error::Error;
use crate::service::Conversation;
use crate::session::{self, Command, Link};
use crate::source::{Control, Session};
use crate::talk::{Offer, Talker};

/// For the macro.
#[doc(hidden)]
pub const ROLE: u32 = message::role::SERVER;

/// Between two reports of a server's counters.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// A plugin with its own listeners.
pub trait Server: Plugin {
    /// Runs the server until [`Context::closed`].
    fn serve(self: Arc<Self>, context: Context) -> impl Future<Output = Result<(), Error>> + Send;
}

/// A running server's way to the host; a request's too ([`crate::routes::Body::context`]). Cheap to clone.
#[derive(Clone)]
pub struct Context {
    link: Link,
    draining: CancellationToken,
}

impl Context {
    /// The way to the host of the session behind `link`.
    pub(crate) fn new(link: Link) -> Self {
        Self { link, draining: CancellationToken::new() }
    }

    /// Tells that a listener is bound: it is logged as `[protocol] listen addr=...` and shown in `GET /api`.
    pub fn listening(&self, listening: &Listening) -> Result<(), Error> {
        self.link.emit(event::LISTENING, listening)
    }

    /// Binds `address` (see [`listen`]) and tells it, with `info` for `GET /api`.
    pub async fn listen(
        &self,
        protocol: &str,
        address: &str,
        mut info: serde_json::Map<String, serde_json::Value>,
    ) -> Result<TcpListener, Error> {
        let listener = listen(address).await?;
        let addr = listeners::shown(address, listener.local_addr()?);
        info.insert("listen".to_owned(), address.into());
        self.listening(&Listening { protocol: protocol.to_owned(), addr, info })?;
        Ok(listener)
    }

    /// The host, for [`crate::reader::Reader`].
    pub fn host(&self) -> Host {
        self.link.host
    }

    /// Asks for a stream; [`Consumer::next`] says what comes of it. Dropping the consumer ends the claim.
    pub fn consume(&self, consume: &Consume) -> Result<Consumer, Error> {
        Consumer::new(self.link.host, consume)
    }

    /// Offers a stream. Waits until the host has taken it; dropping the publisher ends it.
    pub async fn publish(&self, publish: &Publish) -> Result<Publisher, Error> {
        let (link, mut commands) = session::register(self.link.host, None);
        let (session, control) = Session::new(link.clone());
        let guard = Detach(link.clone());
        link.emit(event::PUBLISH, publish)?;
        while let Some(command) = commands.recv().await {
            match command.kind {
                command::ACCEPTED => {
                    return Ok(Publisher { session, control, commands, _guard: guard });
                }
                command::REFUSED => return Err(command.json::<Ended>().into()),
                _ => {
                    control.handle(command);
                }
            }
        }
        Err(Error::eof("closed"))
    }

    /// Offers the sound of a player to the camera of a stream.
    ///
    /// # Errors
    /// As [`Talker::offer`].
    pub async fn talk(&self, offer: &Offer) -> Result<Talker, Error> {
        Talker::offer(self.link.host, offer).await
    }

    /// Calls a service of another plugin.
    pub fn call(
        &self,
        service: &str,
        method: &str,
        value: &impl serde::Serialize,
    ) -> Result<Conversation, Error> {
        Conversation::open(self.link.host, 0, service, method, value)
    }

    /// Counters of this plugin for `/metrics`; values only grow. Send them every few seconds.
    pub fn metrics(&self, counters: &Counters) -> Result<(), Error> {
        self.link.emit(event::METRICS, counters)
    }

    /// Reports `totals` as [`Context::metrics`] every few seconds, for ever.
    pub async fn report<N: Into<String>>(&self, totals: impl Fn() -> Vec<(N, u64)>) -> Infallible {
        let mut every = tokio::time::interval(METRICS_EVERY);
        loop {
            every.tick().await;
            let counters = totals().into_iter().map(|(name, value)| (name.into(), value)).collect();
            let _ = self.metrics(&Counters { counters });
        }
    }

    /// Completes when another instance of this plugin takes over: stop listening, call [`Context::drained`], and end when
    /// the last client has left.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Tells that the server has stopped listening.
    pub fn drained(&self) -> Result<(), Error> {
        Ok(self.link.host.emit_bytes(self.link.id, event::DRAINING, b"{}")?)
    }

    /// Completes when the host wants the server to end.
    pub async fn closed(&self) {
        self.link.closed.cancelled().await;
    }
}

/// Tells the host that a session of the plugin's own has left, when it is dropped.
pub(crate) struct Detach(Link);

impl Detach {
    pub(crate) fn new(link: Link) -> Self {
        Self(link)
    }
}

impl Drop for Detach {
    fn drop(&mut self) {
        session::forget(self.0.id);
        let _ = self.0.host.emit_bytes(self.0.id, event::DETACH, b"{}");
    }
}

/// One viewer's claim on a stream.
pub struct Consumer {
    link: Link,
    commands: mpsc::UnboundedReceiver<Command>,
}

impl Consumer {
    /// Asks for a stream; [`Consumer::next`] says what comes of it. Dropping the consumer ends the claim. Any role may.
    pub fn new(host: Host, consume: &Consume) -> Result<Self, Error> {
        let (link, commands) = session::register(host, None);
        let consumer = Self { link, commands };
        consumer.link.emit(event::CONSUME, consume)?;
        Ok(consumer)
    }

    /// What may be read, each time it changes; an error when the claim was refused or is over.
    pub async fn next(&mut self) -> Result<Bound, Error> {
        while let Some(command) = self.commands.recv().await {
            match command.kind {
                command::BOUND => return Ok(command.json()),
                command::REFUSED => return Err(command.json::<Ended>().into()),
                _ => {}
            }
        }
        Err(Error::eof("closed"))
    }

    /// Its id, for [`crate::talk::Offer::consumer`].
    pub fn id(&self) -> u64 {
        self.link.id
    }

    /// Tells what is known of the connection by now, for `/api/streams`; empty fields change nothing.
    pub fn connection(&self, connection: &message::Connection) {
        let _ = self.link.emit(event::CONNECTION, connection);
    }

    /// Asks the sources for a key unit: without one it cannot go on. The host passes it on at most once a second.
    pub fn want_keyframe(&self) {
        let _ = self.link.host.emit_bytes(self.link.id, event::KEYFRAME, b"{}");
    }

    /// Reports what was sent, every few seconds and at the end.
    pub fn counters(&self, counters: &ConsumerCounters) {
        let _ = self.link.emit(event::CONSUMER, counters);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        session::forget(self.link.id);
        let _ = self.link.host.emit_bytes(self.link.id, event::DETACH, b"{}");
    }
}

/// A publisher that the host has taken: a source whose session the plugin opened.
pub struct Publisher {
    session: Session,
    control: Control,
    commands: mpsc::UnboundedReceiver<Command>,
    _guard: Detach,
}

impl Publisher {
    /// The way for tracks and units; clones stay valid as long as the publisher lives.
    pub fn session(&self) -> Session {
        self.session.clone()
    }

    /// Handles the host's commands until it ends this publisher (replaced by another one, the stream is gone).
    pub async fn run(&mut self) -> Error {
        let closed = self.session.link().closed.clone();
        loop {
            let command = tokio::select! {
                command = self.commands.recv() => command,
                () = closed.cancelled() => None,
            };
            match command {
                Some(command) if command.kind == command::REFUSED => return command.json::<Ended>().into(),
                Some(command) => {
                    self.control.handle(command);
                }
                None => return Error::eof("closed"),
            }
        }
    }
}

/// For the macro.
#[doc(hidden)]
pub fn open<P: Server>(plugin: Arc<P>, _request: &[u8], session: Opening) -> Result<(), Code> {
    session.run(move |link, mut commands| async move {
        let draining = CancellationToken::new();
        let serving = plugin.serve(Context { link, draining: draining.clone() });
        let commanded = async {
            while let Some(command) = commands.recv().await {
                if command.kind == command::DRAIN {
                    draining.cancel();
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = serving => ended,
            () = commanded => Ok(()),
        }
    })
}
