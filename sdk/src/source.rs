//! Role `source`: a URL in, tracks and units out.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use patchbay_media::{Parameters, Unit};
use patchbay_plugin_api::abi::RawUnit;
use patchbay_plugin_api::abi::Slice;
use patchbay_plugin_api::message::{
    self, Clock, Connection, Demand, SendTrack, TrackChanged, command, event,
};
use patchbay_plugin_api::{Code, Host, flags};
use tokio::sync::{Notify, mpsc, watch};

use crate::entry::Opening;
use crate::error::Error;
use crate::service::Conversation;
use crate::session::{Command, Link};
use crate::talk::{TalkRoom, Talks};
use crate::{Plugin, track};

/// For the macro.
#[doc(hidden)]
pub const ROLE: u32 = message::role::SOURCE;

/// A plugin that dials URLs.
pub trait Source: Plugin {
    /// Runs one session: dial, announce tracks, push units while there is demand, until the end or
    /// [`Session::closed`]. Returning ends the session; the host dials again as long as someone wants the stream.
    fn run(
        self: Arc<Self>,
        request: Request,
        session: Session,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What to dial.
#[derive(Debug, Clone)]
pub struct Request {
    /// The URL with its `#options`, as configured. Holds secrets: never log it whole.
    pub url: String,
    /// What it is dialled for, as in [`Demand::class`]: a camera that sleeps is woken for `live` and `talk` alone, for others
    /// answer [`crate::Class::Asleep`].
    pub class: String,
}

/// The tracks of a session.
#[derive(Debug, Clone, Default)]
pub struct Tracks {
    /// What the camera sends; the index is the track's id.
    pub receive: Vec<Track>,
    /// What it accepts.
    pub send: Vec<SendTrack>,
    /// More tracks may be announced later.
    pub more: bool,
    /// For `/api/streams`.
    pub connection: Connection,
    /// Units are pushed in real time from a file.
    pub paced: bool,
    /// Times are those of units that were read from rings (a transcoder's): the host keeps them as they are, so that they
    /// lie exactly beside the tracks that they were made from.
    pub placed: bool,
}

/// One track that the camera sends.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// Codec and what its decoder needs.
    pub parameters: Parameters,
    /// For people: the lens, the language.
    pub label: Option<String>,
}

impl From<Parameters> for Track {
    fn from(parameters: Parameters) -> Self {
        Self { parameters, label: None }
    }
}

/// A running source, demuxer or publisher: the way for its tracks and units into the host. Cheap to clone.
#[derive(Clone)]
pub struct Session {
    link: Link,
    shared: Arc<Shared>,
    demand: watch::Receiver<Demand>,
}

#[derive(Default)]
struct Shared {
    talk: TalkRoom,
    tracks: Mutex<Vec<TrackState>>,
    keyframe: Notify,
    refused: AtomicU32,
}

#[derive(Default, Clone)]
struct TrackState {
    epoch: u32,
    parameters: Option<Parameters>,
    lost: bool,
}

impl Session {
    /// A session around `link`, with the sender that the demand arrives by.
    pub(crate) fn new(link: Link) -> (Self, Control) {
        let (demand_tx, demand) = watch::channel(Demand::default());
        let shared = Arc::new(Shared::default());
        let control = Control { demand: demand_tx, shared: Arc::clone(&shared) };
        (Self { link, shared, demand }, control)
    }

    /// Announces the tracks; again when more become known (the earlier ones first, unchanged).
    pub fn tracks(&self, tracks: &Tracks) -> Result<(), Error> {
        {
            let mut states = self.shared.tracks.lock();
            let len = tracks.receive.len().max(states.len());
            states.resize(len, TrackState::default());
            for (state, track) in states.iter_mut().zip(&tracks.receive) {
                if state.parameters.is_none() {
                    state.parameters = Some(track.parameters.clone());
                }
            }
        }
        self.shared.talk.accepts(&tracks.send);
        let receive = tracks.receive.iter().enumerate().map(|(id, t)| {
            let mut info = track::info(id as u32, &t.parameters);
            info.label.clone_from(&t.label);
            info
        });
        self.link.emit(
            event::TRACKS,
            &message::Tracks {
                receive: receive.collect(),
                send: tracks.send.clone(),
                is_final: !tracks.more,
                connection: tracks.connection.clone(),
                paced: tracks.paced,
                placed: tracks.placed,
            },
        )
    }

    /// Tells of new parameters of a track, before the first unit that needs them. Equal ones are no change.
    pub fn track_changed(&self, id: u32, parameters: &Parameters) -> Result<(), Error> {
        let epoch = {
            let mut states = self.shared.tracks.lock();
            let state =
                states.get_mut(id as usize).ok_or_else(|| Error::protocol(format!("no track {id}")))?;
            if state.parameters.as_ref() == Some(parameters) {
                return Ok(());
            }
            state.parameters = Some(parameters.clone());
            state.epoch += 1;
            state.epoch
        };
        self.link.emit(event::TRACK, &TrackChanged { epoch, track: track::info(id, parameters) })
    }

    /// Copies a unit into the ring. When the host refuses it the unit is lost, counted, and the next one of its track is
    /// marked discontinuous; only a closed session is an error.
    pub fn push(&self, id: u32, unit: &Unit) -> Result<(), Error> {
        self.push_arrived(id, unit, 0)
    }

    /// [`Session::push`] with the time of arrival, ns of CLOCK_MONOTONIC.
    pub fn push_arrived(&self, id: u32, unit: &Unit, arrival_ns: u64) -> Result<(), Error> {
        let (epoch, lost) = {
            let mut states = self.shared.tracks.lock();
            let Some(state) = states.get_mut(id as usize) else {
                return Err(Error::protocol(format!("a unit of track {id}, which was not announced")));
            };
            (state.epoch, std::mem::take(&mut state.lost))
        };
        let mut bits = 0;
        for (set, bit) in [
            (unit.key, flags::KEY),
            (unit.discontinuity || lost, flags::DISCONTINUITY),
            (unit.incomplete, flags::INCOMPLETE),
        ] {
            if set {
                bits |= bit;
            }
        }
        let raw = RawUnit {
            size: 0,
            track: id,
            flags: u32::from(bits),
            epoch,
            pts: unit.pts,
            dts: unit.dts,
            arrival_ns,
            duration: unit.duration,
            reserved: 0,
            data: Slice::new(&[]),
        };
        match self.link.host.push(self.link.id, raw, &unit.data) {
            Ok(()) => Ok(()),
            Err(Code::Busy | Code::OverLimit | Code::Invalid) => {
                self.shared.refused.fetch_add(1, Ordering::Relaxed);
                if let Some(state) = self.shared.tracks.lock().get_mut(id as usize) {
                    state.lost = true;
                }
                Ok(())
            }
            Err(code) => Err(code.into()),
        }
    }

    /// Calls a service of another plugin, which may feed this source.
    pub fn call(
        &self,
        service: &str,
        method: &str,
        value: &impl serde::Serialize,
    ) -> Result<Conversation, Error> {
        Conversation::open(self.link.host, self.link.id, service, method, value)
    }

    /// Units that the host refused so far.
    pub fn refused(&self) -> u32 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Wall time of a track.
    pub fn clock(&self, clock: Clock) -> Result<(), Error> {
        self.link.emit(event::CLOCK, &clock)
    }

    /// What is wanted now; changes whenever that does. No tracks: stop sending.
    pub fn demand(&self) -> watch::Receiver<Demand> {
        self.demand.clone()
    }

    /// What players say to the camera, when `send` of the tracks is not empty.
    pub fn talks(&self) -> Talks {
        self.shared.talk.talks(self.link.host)
    }

    /// Waits until some track is wanted.
    pub async fn wanted(&self) -> Result<Demand, Error> {
        let mut demand = self.demand.clone();
        let wanted = tokio::select! {
            wanted = demand.wait_for(|d| !d.tracks.is_empty()) => wanted.map(|d| d.clone()).ok(),
            () = self.link.closed.cancelled() => None,
        };
        wanted.ok_or_else(|| Error::eof("closed"))
    }

    /// Completes when a key unit is wanted now.
    pub async fn keyframe_wanted(&self) {
        self.shared.keyframe.notified().await;
    }

    /// Completes when the host wants this session to end; then end it within 2 s.
    pub async fn closed(&self) {
        self.link.closed.cancelled().await;
    }

    /// Whether the host wants this session to end.
    pub fn is_closed(&self) -> bool {
        self.link.closed.is_cancelled()
    }

    /// The host, for a source that reads other streams: [`crate::server::Consumer`], [`crate::reader::Reader`].
    pub fn host(&self) -> Host {
        self.link.host
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Marks that something was lost before the next unit of any track.
    pub fn mark_lost(&self) {
        for state in self.shared.tracks.lock().iter_mut() {
            state.lost = true;
        }
    }
}

/// The host's side of a [`Session`]: feeds its demand.
pub(crate) struct Control {
    demand: watch::Sender<Demand>,
    shared: Arc<Shared>,
}

impl Control {
    /// Handles the commands that every source has; gives back what is none of them.
    pub(crate) fn handle(&self, command: Command) -> Option<Command> {
        match command.kind {
            command::DEMAND => {
                let _ = self.demand.send(command.json());
            }
            command::KEYFRAME => self.shared.keyframe.notify_waiters(),
            _ if self.shared.talk.handle(&command) => {}
            _ => return Some(command),
        }
        None
    }
}

/// For the macro.
#[doc(hidden)]
pub fn open<P: Source>(plugin: Arc<P>, request: &[u8], session: Opening) -> Result<(), Code> {
    let open: message::SourceOpen = serde_json::from_slice(request).map_err(|_| Code::Invalid)?;
    session.run(move |link, commands| {
        let (session, control) = Session::new(link);
        let run = plugin.run(Request { url: open.url, class: open.class }, session);
        with_control(run, control, commands)
    })
}

/// Runs `body` while its commands are handled.
pub(crate) async fn with_control(
    body: impl Future<Output = Result<(), Error>> + Send,
    control: Control,
    mut commands: mpsc::UnboundedReceiver<Command>,
) -> Result<(), Error> {
    tokio::pin!(body);
    loop {
        tokio::select! {
            biased;
            Some(command) = commands.recv() => { control.handle(command); }
            result = &mut body => return result,
        }
    }
}
