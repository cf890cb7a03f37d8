//! Role `transport`: a URL in, bytes out. It knows no format.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use patchbay_plugin_api::message::{
    self, Connection, Credit, Head, Seek, SendTrack, TransportOpen, command, event,
};
use patchbay_plugin_api::{Chunk, Code};
use tokio::sync::mpsc;

use crate::Plugin;
use crate::entry::Opening;
use crate::error::Error;
use crate::session::{Command, Link};
use crate::talk::{TalkRoom, Talks};

/// For the macro.
#[doc(hidden)]
pub const ROLE: u32 = message::role::TRANSPORT;

/// Bytes that may be outstanding.
pub const WINDOW: u64 = 256 << 10;

/// Largest single write, in bytes.
pub const MAX_WRITE: usize = 1 << 20;

/// A plugin that fetches bytes.
pub trait Transport: Plugin {
    /// Runs one session: connect, tell the head, write bytes until the end.
    fn fetch(
        self: Arc<Self>,
        request: Request,
        session: Session,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Request {
    /// The URL with its `#options`, as configured. Holds secrets.
    pub url: String,
    /// Listeners of other plugins, as configured, with the port that was bound: protocol to address.
    pub endpoints: BTreeMap<String, String>,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Taken.
    All,
    /// Not taken: go on from this offset instead.
    Seek(u64),
}

/// A running transport.
pub struct Session {
    link: Link,
    commands: mpsc::UnboundedReceiver<Command>,
    outstanding: u64,
    seek: Option<u64>,
    accepted: bool,
    talk: TalkRoom,
}

impl Session {
    /// Tells that this is no source of bytes: it takes what players say. Call [`Session::attend`] meanwhile.
    pub fn accepts(&self, send: &[SendTrack], connection: &Connection) -> Result<Talks, Error> {
        self.talk.accepts(send);
        let tracks = message::Tracks {
            send: send.to_vec(),
            is_final: true,
            connection: connection.clone(),
            ..message::Tracks::default()
        };
        self.link.emit(event::TRACKS, &tracks)?;
        Ok(self.talk.talks(self.link.host))
    }

    /// Handles what the host says until the session is to end.
    pub async fn attend(&mut self) {
        while self.wait().await.is_ok() {}
    }

    /// Tells what is known, before the first write.
    pub fn head(&self, head: &Head) -> Result<(), Error> {
        self.link.emit(event::HEAD, head)
    }

    /// Writes bytes, in parts of at most [`MAX_WRITE`], as soon as the window allows.
    pub async fn write(&mut self, mut data: Bytes) -> Result<Written, Error> {
        while !data.is_empty() {
            while self.outstanding >= WINDOW && self.seek.is_none() {
                self.wait().await?;
            }
            self.take_waiting();
            if let Some(offset) = self.seek.take() {
                self.link.emit(event::SEEK, &Seek { offset })?;
                return Ok(Written::Seek(offset));
            }
            let part = data.split_to(data.len().min(MAX_WRITE));
            self.outstanding += part.len() as u64;
            self.link.host.write(self.link.id, &Chunk { data: part, ..Chunk::default() })?;
        }
        Ok(Written::All)
    }

    /// After the last byte: waits for a seek (a demuxer that found its index at the end), or for the close.
    pub async fn finished(&mut self) -> Result<Option<u64>, Error> {
        self.link.host.write(self.link.id, &Chunk::default())?;
        loop {
            if let Some(offset) = self.seek.take() {
                self.link.emit(event::SEEK, &Seek { offset })?;
                return Ok(Some(offset));
            }
            if self.link.closed.is_cancelled() {
                return Ok(None);
            }
            if self.wait().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// After a head that expects a publisher: completes when it has come. An error when the session is to end.
    pub async fn published(&mut self) -> Result<(), Error> {
        while !self.accepted {
            self.wait().await?;
        }
        Ok(())
    }

    /// Completes when the host wants this session to end.
    pub async fn closed(&self) {
        self.link.closed.cancelled().await;
    }

    async fn wait(&mut self) -> Result<(), Error> {
        let closed = self.link.closed.clone();
        tokio::select! {
            command = self.commands.recv() => match command {
                Some(command) => self.handle(&command),
                None => return Err(Error::eof("closed")),
            },
            () = closed.cancelled() => return Err(Error::eof("closed")),
        }
        Ok(())
    }

    fn take_waiting(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.handle(&command);
        }
    }

    fn handle(&mut self, command: &Command) {
        match command.kind {
            command::WRITABLE => {
                self.outstanding = self.outstanding.saturating_sub(command.json::<Credit>().bytes)
            }
            command::ACCEPTED => self.accepted = true,
            command::SEEK => {
                self.seek = Some(command.json::<Seek>().offset);
                self.outstanding = 0;
            }
            _ => drop(self.talk.handle(command)),
        }
    }
}

/// For the macro.
#[doc(hidden)]
pub fn open<P: Transport>(plugin: Arc<P>, request: &[u8], session: Opening) -> Result<(), Code> {
    let open: TransportOpen = serde_json::from_slice(request).map_err(|_| Code::Invalid)?;
    session.run(move |link, commands| {
        let talk = TalkRoom::default();
        let session = Session { link, commands, outstanding: 0, seek: None, accepted: false, talk };
        plugin.fetch(Request { url: open.url, endpoints: open.endpoints }, session)
    })
}
