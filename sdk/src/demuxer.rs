//! Role `demuxer`: bytes in, tracks and units out. Most plugins implement a sans-IO [`Container`] and [`run`] it.

mod annexb;
mod clock;
mod container;
mod frames;
#[doc(hidden)]
pub mod fuzz;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use patchbay_plugin_api::Code;
use patchbay_plugin_api::message::{self, Credit, DemuxerOpen, Ended, Head, Seek, command, event};
use tokio::sync::mpsc;

use crate::Plugin;
use crate::entry::Opening;
use crate::error::Error;
use crate::session::{Command, Link};
use crate::source::{Control, Session};
pub use annexb::AnnexB;
pub use clock::{FrameClock, SampleClock};
pub use container::{Container, Event, Piece, Place, run};
pub use frames::{FrameParser, FrameReader, Frames};

/// For the macro.
#[doc(hidden)]
pub const ROLE: u32 = message::role::DEMUXER;

/// A plugin that reads containers. It knows no transport.
pub trait Demuxer: Plugin {
    /// Runs one session: read `input` to its end, announce tracks, push units.
    fn demux(
        self: Arc<Self>,
        request: Request,
        input: Input,
        session: Session,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What to demux.
#[derive(Debug, Clone)]
pub struct Request {
    /// Format of the manifest that matched.
    pub format: String,
    /// The source's URL with its `#options`.
    pub url: String,
    /// What the transport knows.
    pub head: Head,
}

/// What [`Input::next`] brings.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Bytes at an offset from the start.
    Bytes(u64, Bytes),
    /// The transport is done; with an error when it broke.
    End(Ended),
}

/// The bytes of the transport.
pub struct Input {
    link: Link,
    commands: mpsc::UnboundedReceiver<Command>,
    control: Control,
    ready: VecDeque<Data>,
    offset: u64,
    seeking: Option<u64>,
    ended: bool,
}

impl Input {
    /// The next bytes. What it gives back counts as taken: the transport may send more.
    pub async fn next(&mut self) -> Result<Data, Error> {
        if self.ended {
            return Ok(Data::End(Error::eof("").into()));
        }
        let closed = self.link.closed.clone();
        loop {
            if let Some(data) = self.ready.pop_front() {
                if let Data::Bytes(_, bytes) = &data {
                    self.link.emit(event::CONSUMED, &Credit { bytes: bytes.len() as u64 })?;
                }
                self.ended = matches!(data, Data::End(_));
                return Ok(data);
            }
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.handle(command)?,
                    None => return Err(Error::eof("closed")),
                },
                () = closed.cancelled() => return Err(Error::eof("closed")),
            }
        }
    }

    /// Goes on from `offset`; the next bytes are from there. Only when the head says it can.
    pub fn seek(&mut self, offset: u64) -> Result<(), Error> {
        self.link.emit(event::SEEK, &Seek { offset })?;
        for data in self.ready.drain(..) {
            if let Data::Bytes(_, bytes) = data {
                self.link.emit(event::CONSUMED, &Credit { bytes: bytes.len() as u64 })?;
            }
        }
        self.seeking = Some(offset);
        self.ended = false;
        Ok(())
    }

    /// Waits until some track is wanted, while bytes wait.
    pub async fn wanted(&mut self, session: &Session) -> Result<(), Error> {
        let mut demand = session.demand();
        loop {
            if !demand.borrow_and_update().tracks.is_empty() {
                return Ok(());
            }
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.handle(command)?,
                    None => return Err(Error::eof("closed")),
                },
                () = session.closed() => return Err(Error::eof("closed")),
            }
        }
    }

    /// Handles commands that are waiting, so that a paced demuxer sees its demand while it sleeps.
    pub fn handle_waiting(&mut self) -> Result<(), Error> {
        while let Ok(command) = self.commands.try_recv() {
            self.handle(command)?;
        }
        Ok(())
    }

    fn handle(&mut self, command: Command) -> Result<(), Error> {
        let Some(command) = self.control.handle(command) else { return Ok(()) };
        match command.kind {
            command::DATA_AT => {
                self.offset = command.json::<Seek>().offset;
                if self.seeking == Some(self.offset) {
                    self.seeking = None;
                }
            }
            command::DATA if self.seeking.is_some() => {
                // Sent before the transport heard of the seek.
                self.link.emit(event::CONSUMED, &Credit { bytes: command.payload.len() as u64 })?;
            }
            command::DATA => {
                let at = self.offset;
                self.offset += command.payload.len() as u64;
                self.ready.push_back(Data::Bytes(at, command.payload));
            }
            command::DATA_END if self.seeking.is_none() => self.ready.push_back(Data::End(command.json())),
            _ => {}
        }
        Ok(())
    }
}

/// For the macro.
#[doc(hidden)]
pub fn open<P: Demuxer>(plugin: Arc<P>, request: &[u8], session: Opening) -> Result<(), Code> {
    let open: DemuxerOpen = serde_json::from_slice(request).map_err(|_| Code::Invalid)?;
    session.run(move |link, commands| {
        let (session, control) = Session::new(link.clone());
        let ready = VecDeque::new();
        let input = Input { link, commands, control, ready, offset: 0, seeking: None, ended: false };
        plugin.demux(Request { format: open.format, url: open.url, head: open.head }, input, session)
    })
}
