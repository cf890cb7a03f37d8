//! Talk: sound from a player to a camera.
//!
//! A server offers what its player says ([`Talker`]); the camera's source gets it as a [`Talk`], paced in real time and, for
//! PCM, in packets of the length that the camera wants. Between them is a ring of the host.

mod pace;
mod packets;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use patchbay_media::{Parameters, Unit};
use patchbay_plugin_api::abi::{RawUnit, Slice};
use patchbay_plugin_api::message::{self, Connection, Ended, SendTrack, TalkEnd, TalkOpen, command, event};
use patchbay_plugin_api::{Code, Host, flags};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use self::pace::{MAX_LEAD, Pace};
pub use self::packets::Packets;
use crate::error::Error;
use crate::reader::{Item, Reader};
use crate::server::Detach;
use crate::session::{self, Command, Link};
use crate::track;

/// What a player wants to say.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Name of the stream.
    pub stream: String,
    /// [`crate::server::Consumer::id`] of the same player; 0: it only talks.
    pub consumer: u64,
    /// What will be pushed.
    pub parameters: Parameters,
    /// It is refused where it would have to be transcoded: there is something else to offer.
    pub exact: bool,
    /// For `/api/streams`, when there is no consumer.
    pub connection: Connection,
}

/// A player that speaks to the camera of a stream. Dropping it leaves the camera to others.
pub struct Talker {
    link: Link,
    commands: mpsc::UnboundedReceiver<Command>,
    _guard: Detach,
}

/// The way for a [`Talker`]'s units. Cheap to clone.
#[derive(Clone)]
pub struct Microphone {
    host: Host,
    id: u64,
    lost: Arc<std::sync::atomic::AtomicBool>,
}

impl Talker {
    /// Offers what a player says; waits until the camera is there and takes it.
    ///
    /// # Errors
    /// Nothing there takes such sound (`Unsupported`, with both codecs), somebody else speaks (`Busy`), or the camera cannot be
    /// reached.
    pub async fn offer(host: Host, offer: &Offer) -> Result<Self, Error> {
        let (link, mut commands) = session::register(host, None);
        let guard = Detach::new(link.clone());
        let talk = message::Talk {
            stream: offer.stream.clone(),
            consumer: offer.consumer,
            track: track::info(0, &offer.parameters),
            exact: offer.exact,
            connection: offer.connection.clone(),
        };
        match link.emit(event::TALK, &talk) {
            Ok(()) => {}
            // Said by REFUSED as well.
            Err(error) if commands.is_empty() => return Err(error),
            Err(_) => {}
        }
        while let Some(command) = commands.recv().await {
            match command.kind {
                command::ACCEPTED => return Ok(Self { link, commands, _guard: guard }),
                command::REFUSED => return Err(command.json::<Ended>().into()),
                _ => {}
            }
        }
        Err(Error::eof("closed"))
    }

    /// The way for units; of no more use when the talker is dropped.
    pub fn microphone(&self) -> Microphone {
        Microphone { host: self.link.host, id: self.link.id, lost: Arc::default() }
    }

    /// Waits until the host ends it: no sound came for 60 s, the camera or the stream is gone.
    pub async fn ended(&mut self) -> Error {
        let closed = self.link.closed.clone();
        loop {
            let command = tokio::select! {
                command = self.commands.recv() => command,
                () = closed.cancelled() => None,
            };
            match command {
                Some(command) if command.kind == command::REFUSED => return command.json::<Ended>().into(),
                Some(_) => {}
                None => return Error::eof("closed"),
            }
        }
    }
}

impl Microphone {
    /// Copies a unit into the talk's ring. One that the host refuses is lost; only a talk that is over is an error.
    pub fn push(&self, unit: &Unit) -> Result<(), Error> {
        use std::sync::atomic::Ordering;
        let mut bits = flags::KEY;
        if unit.discontinuity || self.lost.swap(false, Ordering::Relaxed) {
            bits |= flags::DISCONTINUITY;
        }
        let raw = RawUnit {
            size: 0,
            track: 0,
            flags: u32::from(bits),
            epoch: 0,
            pts: unit.pts,
            dts: unit.dts,
            arrival_ns: 0,
            duration: unit.duration,
            reserved: 0,
            data: Slice::new(&[]),
        };
        match self.host.push(self.id, raw, &unit.data) {
            Ok(()) => Ok(()),
            Err(Code::Busy | Code::OverLimit | Code::Invalid) => {
                self.lost.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(code) => Err(code.into()),
        }
    }
}

/// Where the host's talks of a session arrive.
pub(crate) struct TalkRoom {
    open: watch::Sender<Option<TalkOpen>>,
    send: Arc<Mutex<Vec<SendTrack>>>,
}

impl Default for TalkRoom {
    fn default() -> Self {
        Self { open: watch::channel(None).0, send: Arc::default() }
    }
}

impl TalkRoom {
    /// What the camera accepts now.
    pub(crate) fn accepts(&self, send: &[SendTrack]) {
        *self.send.lock() = send.to_vec();
    }

    pub(crate) fn talks(&self, host: Host) -> Talks {
        Talks::new(host, self.open.subscribe(), Arc::clone(&self.send))
    }

    /// Handles the commands of talks; false for all others.
    pub(crate) fn handle(&self, command: &Command) -> bool {
        match command.kind {
            command::TALK => drop(self.open.send_replace(Some(command.json()))),
            command::TALK_END => {
                let over: TalkEnd = command.json();
                self.open.send_if_modified(|open| {
                    let is_it = open.as_ref().is_some_and(|open| open.source == over.source);
                    if is_it {
                        *open = None;
                    }
                    is_it
                });
            }
            _ => return false,
        }
        true
    }
}

/// The talks of one source, one after the other ([`crate::source::Session::talks`]).
pub struct Talks {
    host: Host,
    open: watch::Receiver<Option<TalkOpen>>,
    /// The one that was given last.
    last: Option<TalkOpen>,
    send: Arc<Mutex<Vec<SendTrack>>>,
}

impl Talks {
    pub(crate) fn new(
        host: Host,
        open: watch::Receiver<Option<TalkOpen>>,
        send: Arc<Mutex<Vec<SendTrack>>>,
    ) -> Self {
        Self { host, open, last: None, send }
    }

    /// The talk that begins, or is under way already. An earlier one is over then. Waits for ever when the session ends.
    pub async fn next(&mut self) -> Talk {
        loop {
            let open = self.open.borrow_and_update().clone();
            if open != self.last {
                self.last.clone_from(&open);
                if let Some(talk) = open.and_then(|open| self.begin(open)) {
                    return talk;
                }
            }
            if self.open.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn begin(&self, open: TalkOpen) -> Option<Talk> {
        let parameters = track::parameters(&open.track)?;
        let send = self.send.lock().get(open.send as usize).cloned()?;
        // What was said before the camera was there is too old.
        let reader = Reader::live(self.host, open.source, &[(open.track.id, 0)], None).ok()?;
        let packets = Packets::new(&parameters, Duration::from_millis(u64::from(send.packet_ms)));
        Some(Talk {
            reader,
            index: open.send as usize,
            send,
            parameters,
            packets,
            pace: Pace::default(),
            zero: Instant::now(),
            news: self.open.clone(),
            open,
            due: None,
        })
    }
}

/// One talk: what a player says to the camera of a source.
pub struct Talk {
    reader: Reader,
    index: usize,
    send: SendTrack,
    parameters: Parameters,
    packets: Packets,
    pace: Pace,
    zero: Instant,
    open: TalkOpen,
    news: watch::Receiver<Option<TalkOpen>>,
    /// The next unit, and when it is due.
    due: Option<(Unit, Instant)>,
}

impl Talk {
    /// Index in the `send` of the announced tracks.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What the source said that its camera accepts.
    pub fn send(&self) -> &SendTrack {
        &self.send
    }

    /// What the units are.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The next unit, in real time and at most [`MAX_LEAD`] ahead of it; PCM in packets of `packet_ms`, times without gaps but for
    /// pauses of the speaker. `None`: the talk is over. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Unit> {
        loop {
            if let Some((_, at)) = &self.due {
                let at = *at;
                tokio::select! {
                    biased;
                    () = over(&mut self.news, &self.open) => return None,
                    () = tokio::time::sleep_until(at) => {}
                }
                return self.due.take().map(|(unit, _)| unit);
            }
            if let Some(unit) = self.packets.pop() {
                let now = self.zero.elapsed();
                match self.pace.at(now, unit.dts, self.parameters.clock_rate) {
                    Some(at) => self.due = Some((unit, self.zero + at)),
                    None => tracing::debug!("talk: sound that is too far ahead of its time is dropped"),
                }
                continue;
            }
            let item = tokio::select! {
                biased;
                () = over(&mut self.news, &self.open) => return None,
                item = self.reader.next() => item,
            };
            match item {
                Ok(Item::Unit { unit, .. }) => self.packets.push(&unit),
                Ok(Item::Gap { .. } | Item::Parameters { .. }) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Completes when another talk, or none, is open.
async fn over(news: &mut watch::Receiver<Option<TalkOpen>>, open: &TalkOpen) {
    let _ = news.wait_for(|news| news.as_ref() != Some(open)).await;
}
