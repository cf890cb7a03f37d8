//! What the session asks for, and what came of it.

use std::io;
use std::sync::Arc;

use patchbay_rtp::sdp;
use patchbay_sdk::api::message::{Connection as Shown, Publish};
use patchbay_sdk::talk::Offer as TalkOffer;
use patchbay_sdk::{Class, Error};

use super::udp::{Received, Sockets};
use super::{Connection, Done, PUBLISH_ACCEPT, Way, describe};
use crate::server::play::{Group, History, Room, UdpTrack};
use crate::server::publish::Ingest;
use crate::server::session::{Event, Path};
use crate::server::streams::{Claim, Streams};
use crate::server::talk::Ear;
use crate::server::url;

impl<S: Streams> Connection<S> {
    /// Does what the session asks for.
    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Describe { stream, query, user_agent, backchannel } => {
                self.leave();
                self.history = match url::query_value(&query, "history").as_deref() {
                    Some("0") => History::None,
                    Some("raw") => History::Raw,
                    _ => History::Squeezed,
                };
                let shown = self.shown(user_agent, String::new());
                let describe =
                    describe::describe(Arc::clone(&self.server), stream, query, backchannel, shown);
                self.work = Some(Box::pin(async { Done::Described(describe.await) }));
            }
            Event::Announce { stream, sdp, user_agent, .. } => {
                self.leave();
                let publish = Publish {
                    stream: stream.trim_end_matches('/').to_owned(),
                    connection: self.shown(user_agent.clone(), String::from_utf8_lossy(&sdp).into_owned()),
                };
                self.announced = Some((stream, sdp, user_agent));
                let server = Arc::clone(&self.server);
                self.work = Some(Box::pin(async move {
                    let accepted =
                        tokio::time::timeout(PUBLISH_ACCEPT, server.streams.publish(publish)).await;
                    Done::Published(
                        accepted.unwrap_or_else(|_| Err(Error::timeout("the host did not answer"))),
                    )
                }));
            }
            Event::Udp { track, client } => match Sockets::bind(self.local.ip(), self.remote.ip(), client) {
                Ok(sockets) => {
                    self.received.listen(track, &sockets);
                    let ports = sockets.ports;
                    self.sockets.insert(track, sockets);
                    self.session.udp(ports);
                }
                Err(_) => self.session.refuse(461, None),
            },
            Event::Multicast { track } => match self.group() {
                Ok(group) => {
                    self.session.multicast(group.place(track));
                    self.group = Some(group);
                }
                Err(error) => {
                    tracing::debug!(remote = %self.remote, "no multicast: {error}");
                    self.session.refuse(461, None);
                }
            },
            Event::Talk => self.talk(),
            Event::Play { tracks } => self.play(&tracks),
            Event::Pause => {
                self.writer.leave();
                self.viewer = None;
                self.sending = None;
            }
            Event::Teardown => {
                if let Some(ingest) = &mut self.ingest {
                    let _ = ingest.flush(self.server.clock.at());
                }
                self.count();
                self.leave();
                self.sockets.clear();
                self.received = Received::new();
            }
            Event::Record { tracks } => {
                if let Err(error) = self.start_ingest(&tracks) {
                    tracing::debug!(remote = %self.remote, "cannot publish: {error}");
                }
            }
        }
    }

    /// Tells the session what it waits for.
    pub(super) fn done(&mut self, done: Done<S>) {
        match done {
            Done::Described(Ok(described)) => {
                self.over = Some(described.room.over());
                let offers = described.room.offers();
                let talk = described.talk.as_ref().map(|(_, offer)| offer.clone());
                self.described = Some(described);
                self.session.described(offers, talk);
            }
            Done::Talk(Ok(voice)) => {
                let talk = self.described.as_ref().and_then(|described| described.talk.as_ref());
                match talk.map(|(_, offer)| Ear::new(voice, offer)) {
                    Some(Ok(ear)) => {
                        self.ear = Some(ear);
                        self.session.hears();
                    }
                    _ => self.session.refuse(455, None),
                }
            }
            Done::Talk(Err(error)) => {
                tracing::debug!(remote = %self.remote, "not heard: {error}");
                // Somebody else is: cameras say the same (C22).
                let status = if error.class == Class::Busy { 453 } else { describe::status_of(&error).0 };
                self.session.refuse(status, None);
            }
            Done::Published(Ok(intake)) => {
                let Some((_, text, user_agent)) = self.announced.take() else { return };
                let medias = sdp::parse(&text).medias;
                let shown = self.shown(user_agent, String::from_utf8_lossy(&text).into_owned());
                let ingest = Ingest::new(intake, &medias, shown);
                if ingest.is_possible() {
                    self.ingest = Some(ingest);
                    self.session.announced();
                } else {
                    self.session.refuse(415, None);
                }
            }
            Done::Described(Err(error)) | Done::Published(Err(error)) => {
                let (status, retry_after) = describe::status_of(&error);
                tracing::debug!(remote = %self.remote, status, "refused: {error}");
                self.session.refuse(status, retry_after);
            }
        }
    }

    fn talk(&mut self) {
        let Some(described) = &self.described else { return self.session.refuse(455, None) };
        let Some((stream, offer)) = described.talk.clone() else { return self.session.refuse(404, None) };
        let consumer = described.claim.id();
        let offer = TalkOffer {
            stream,
            consumer,
            parameters: offer.parameters,
            exact: false,
            connection: Shown::default(),
        };
        let server = Arc::clone(&self.server);
        self.work = Some(Box::pin(async move { Done::Talk(server.streams.talk(offer).await) }));
    }

    fn group(&self) -> io::Result<Arc<Group>> {
        match (&self.group, &self.described) {
            (Some(group), _) => Ok(Arc::clone(group)),
            (None, Some(described)) => described.room.group(&self.server.groups, self.local.ip()),
            (None, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn play(&mut self, tracks: &[(usize, Path)]) {
        let talk = self.session.talk_track();
        let tracks: Vec<(usize, Path)> =
            tracks.iter().copied().filter(|(track, _)| Some(*track) != talk).collect();
        let Some(described) = &self.described else { return self.session.refuse(455, None) };
        let room: &Arc<Room<S::Rings>> = &described.room;
        let is_udp = tracks.iter().any(|(_, path)| matches!(path, Path::Udp { .. }));
        let session = &mut self.session;
        let indexes: Vec<usize> = tracks.iter().map(|(track, _)| *track).collect();
        let is_multicast = tracks.iter().any(|(_, path)| matches!(path, Path::Multicast(_)));
        let result = if let Some(group) = self.group.as_ref().filter(|_| is_multicast) {
            room.join_multicast(group, &indexes, |infos| session.played(infos)).map(|reply| {
                let _ = self.writer.send(reply);
            })
        } else if is_udp {
            let to = tracks.iter().filter_map(|(track, _)| {
                let sockets = self.sockets.get(track)?;
                Some(UdpTrack {
                    track: *track,
                    rtp: Arc::clone(&sockets.rtp),
                    rtcp: Arc::clone(&sockets.rtcp),
                    to: sockets.to,
                })
            });
            room.join_udp(to.collect(), self.history, |infos| session.played(infos)).map(|(reply, viewer)| {
                let _ = self.writer.send(reply);
                self.viewer = Some(Arc::clone(&viewer));
                self.sending = Some(Box::pin(async move { viewer.start().await }));
            })
        } else {
            room.join(&indexes, self.history, &self.writer, |infos| session.played(infos))
        };
        if let Err(error) = result {
            tracing::debug!(remote = %self.remote, "cannot play: {error}");
            self.session.refuse(503, Some(describe::RETRY_AFTER_S));
        }
    }

    /// Lets a publisher's tracks begin; nothing when they have.
    pub(super) fn start_ingest(&mut self, tracks: &[(usize, Path)]) -> Result<(), Error> {
        let set_up: Vec<(usize, bool)> =
            tracks.iter().map(|(track, path)| (*track, matches!(path, Path::Udp { .. }))).collect();
        self.ingest.as_mut().map_or(Ok(()), |ingest| ingest.start(&set_up))
    }

    /// Ends what an earlier DESCRIBE or ANNOUNCE began.
    fn leave(&mut self) {
        self.writer.leave();
        self.work = None;
        self.described = None;
        self.over = None;
        self.viewer = None;
        self.group = None;
        self.sending = None;
        self.ingest = None;
        self.ear = None;
    }

    fn shown(&self, user_agent: String, sdp: String) -> Shown {
        Shown {
            format_name: "rtsp".to_owned(),
            protocol: match self.way {
                Way::Plain => "rtsp+tcp",
                Way::Tls => "rtsps+tcp",
                Way::Http => "rtsp+http",
                Way::WebSocket => "ws",
            }
            .to_owned(),
            remote_addr: self.remote.to_string(),
            source: String::new(),
            sdp,
            user_agent,
        }
    }
}
