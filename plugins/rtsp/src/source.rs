//! Cameras dialled by URL: sockets and timers around [`client::Session`] and [`client::Receiver`].

mod backchannel;
mod sockets;
mod talk;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use patchbay_media::{Parameters, Unit};
use patchbay_sdk::Error;
use patchbay_sdk::api::message::{Clock, Connection as Info, Demand};
use patchbay_sdk::source::{Request, Session as HostSession, Track, Tracks};
use patchbay_sdk::talk::Talks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use self::backchannel::Accepted;
pub use self::backchannel::Refusals;
use self::sockets::{Dialled, Udp, dial};
use self::talk::{Heard, Speech};
use crate::client::{self, Delivery, Described, Input, Output, Receiver, Reconnect};
use crate::config::{SourceConfig, Via};
use crate::plugin::Rtsp;
use crate::wire::Lower;

/// `User-Agent` of all requests.
const USER_AGENT: &str = concat!("Patchbay/", env!("CARGO_PKG_VERSION"));
/// Longest wait for the camera to take a request.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest sleep.
const MAX_SLEEP: Duration = Duration::from_secs(3600);

/// What a source tells its host; a [`patchbay_sdk::source::Session`], or a test.
pub trait Host: Send + Sync {
    /// The tracks are known.
    fn tracks(&self, tracks: &Tracks) -> Result<(), Error>;
    /// A track has a new configuration from its next unit on.
    fn track_changed(&self, id: u32, parameters: &Parameters) -> Result<(), Error>;
    /// A unit came.
    fn push(&self, id: u32, unit: &Unit) -> Result<(), Error>;
    /// Wall time of a track.
    fn clock(&self, clock: Clock) -> Result<(), Error>;
    /// Which tracks are wanted.
    fn demand(&self) -> watch::Receiver<Demand>;
    /// What players say to the camera.
    fn talks(&self) -> Option<Talks> {
        None
    }
    /// Completes when the source is to end.
    fn closed(&self) -> impl Future<Output = ()> + Send;
}

impl patchbay_sdk::Source for Rtsp {
    async fn run(self: Arc<Self>, request: Request, session: HostSession) -> Result<(), Error> {
        run(&request.url, &session, &self.refusals).await
    }
}

impl Host for HostSession {
    fn tracks(&self, tracks: &Tracks) -> Result<(), Error> {
        Self::tracks(self, tracks)
    }

    fn track_changed(&self, id: u32, parameters: &Parameters) -> Result<(), Error> {
        Self::track_changed(self, id, parameters)
    }

    fn push(&self, id: u32, unit: &Unit) -> Result<(), Error> {
        Self::push(self, id, unit)
    }

    fn clock(&self, clock: Clock) -> Result<(), Error> {
        Self::clock(self, clock)
    }

    fn demand(&self) -> watch::Receiver<Demand> {
        Self::demand(self)
    }

    fn talks(&self) -> Option<Talks> {
        Some(Self::talks(self))
    }

    async fn closed(&self) {
        Self::closed(self).await;
    }
}

/// Plays `url` until the camera or the host ends it. `refusals` is shared by all sources.
pub async fn run<H: Host>(url: &str, host: &H, refusals: &Refusals) -> Result<(), Error> {
    let config = SourceConfig::parse(url).map_err(|error| Error::unsupported(error.to_string()))?;
    if !config.unknown.is_empty() {
        warn!(url = %config.url, options = ?config.unknown, "unknown options");
    }
    let session = client::Session::new(client::Config {
        url: config.url.clone(),
        lower: config.lower,
        backchannel: config.asks_backchannel()
            && refusals.may_ask(config.url.expose(), std::time::Instant::now()),
        speaks: config.backchannel == Some(true),
        timeouts: config.timeouts,
        user_agent: USER_AGENT.to_owned(),
        seed: rand::random(),
    });
    let driver = Driver {
        host,
        refusals,
        config,
        session,
        receiver: None,
        connection: None,
        udp: Udp::default(),
        zero: Instant::now(),
        speech: Speech::new(host.talks()),
        accepted: Vec::new(),
        told: None,
    };
    driver.run().await
}

struct Driver<'a, H> {
    host: &'a H,
    refusals: &'a Refusals,
    config: SourceConfig,
    session: client::Session,
    receiver: Option<Receiver>,
    connection: Option<Dialled>,
    udp: Udp,
    /// Zero of the session's clock.
    zero: Instant,
    speech: Speech,
    /// What the camera takes, as the host was told.
    accepted: Vec<Accepted>,
    told: Option<Tracks>,
}

/// What the driver waited for.
enum Event {
    Read(std::io::Result<usize>),
    Datagram(sockets::Datagram),
    Demand,
    Heard(Heard),
    Time,
    Closed,
}

impl<H: Host> Driver<'_, H> {
    async fn run(mut self) -> Result<(), Error> {
        let mut demand = self.host.demand();
        let mut demand_open = true;
        let mut stopping = false;
        let sleep = tokio::time::sleep_until(self.zero);
        tokio::pin!(sleep);
        loop {
            let wake = match self.drain(&mut demand, &mut stopping).await? {
                Some(wake) => self.zero + wake.min(MAX_SLEEP + self.now()),
                None => return Ok(()),
            };
            // A timer that is early only costs one more turn
            if wake < sleep.deadline() || sleep.is_elapsed() {
                sleep.as_mut().reset(wake);
            }
            let is_told = self.told.is_some();
            let event = {
                let has_connection = self.connection.is_some();
                let peer = self.connection.as_ref().map(|c| c.peer_ip);
                let (connection, buffer) = (&mut self.connection, self.session.receive_buffer());
                let read = async {
                    match connection {
                        Some(connection) => connection.stream.read_buf(buffer).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = self.host.closed(), if !stopping => Event::Closed,
                    read = read, if has_connection => Event::Read(read),
                    datagram = self.udp.receive(peer), if !self.udp.is_empty() => Event::Datagram(datagram),
                    changed = demand.changed(), if demand_open => {
                        demand_open = changed.is_ok();
                        Event::Demand
                    }
                    heard = self.speech.next(), if is_told => Event::Heard(heard),
                    () = &mut sleep => Event::Time,
                }
            };
            let now = self.now();
            match event {
                Event::Read(Ok(1..)) => self.session.handle(now, Input::Received(&[])),
                Event::Read(result) => {
                    if let Err(error) = result {
                        debug!(%error, "read from camera");
                    }
                    self.connection = None;
                    self.session.handle(now, Input::Eof);
                }
                Event::Datagram(datagram) => self.session.handle(
                    now,
                    Input::Datagram {
                        index: datagram.index,
                        to_rtcp: datagram.to_rtcp,
                        from_port: datagram.from_port,
                        data: datagram.data,
                    },
                ),
                Event::Demand => self.apply_demand(&demand.borrow_and_update().clone()),
                Event::Heard(heard) => self.heard(heard),
                Event::Time => {
                    if let Some(receiver) = &mut self.receiver {
                        receiver.timeout(now);
                    }
                    self.session.handle(now, Input::Timeout);
                }
                Event::Closed => {
                    stopping = true;
                    self.session.handle(now, Input::Stop);
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.zero.elapsed()
    }

    /// Does what the session asks for; gives the time to wake at, `None` at the end.
    async fn drain(
        &mut self,
        demand: &mut watch::Receiver<Demand>,
        stopping: &mut bool,
    ) -> Result<Option<Duration>, Error> {
        loop {
            match self.session.poll() {
                Output::Media { index, is_rtcp, data } => {
                    let now = self.now();
                    if let Some(receiver) = &mut self.receiver {
                        receiver.packet(now, index, is_rtcp, &data);
                    }
                    self.deliver()?;
                }
                Output::Send(bytes) => self.send(&bytes).await,
                Output::Connect { target, timeout, why } => {
                    if why == Some(Reconnect::BackchannelRefused) {
                        self.refusals.note(self.config.url.expose(), std::time::Instant::now());
                        self.hears_nothing()?;
                    }
                    if let Some(why) = why {
                        info!(host = %target.host, ?why, "new connection to the camera");
                    }
                    self.disconnect();
                    let host = self.host;
                    let dialled = tokio::select! {
                        () = host.closed(), if !*stopping => {
                            *stopping = true;
                            self.session.handle(self.now(), Input::Stop);
                            continue;
                        }
                        dialled = dial(&target, &self.config, USER_AGENT, timeout) => dialled?,
                    };
                    self.connection = Some(dialled);
                    self.session.handle(self.now(), Input::Connected);
                }
                Output::Disconnect => self.disconnect(),
                Output::Described(described) => {
                    self.described(&described)?;
                    let demand = demand.borrow_and_update().clone();
                    self.apply_demand(&demand);
                }
                Output::BindUdp { index } => {
                    let ip = self.connection.as_ref().map(|c| c.local_ip);
                    let port = self.udp.bind(index, ip)?;
                    self.session.handle(self.now(), Input::UdpBound { index, port });
                }
                Output::JoinMulticast { index, group, ports } => {
                    let interface = self.connection.as_ref().map(|c| c.local_ip);
                    if let Err(error) = self.udp.join(index, group, ports, interface) {
                        warn!(%group, %error, "cannot join the camera's multicast group");
                    }
                }
                Output::SendUdp { index, from_rtcp, port, data } => {
                    let peer = self.connection.as_ref().map(|c| c.peer_ip);
                    if let Some(ip) = self.udp.group(index).or(peer) {
                        self.udp.send(index, from_rtcp, (ip, port).into(), &data);
                    }
                }
                Output::Playing => {
                    let lower = self.session.lower();
                    info!(url = %self.config.url, ?lower, "camera plays");
                    if let Some(receiver) = &mut self.receiver {
                        receiver.restart(lower);
                    }
                }
                Output::Starts(starts) => {
                    if let Some(receiver) = &mut self.receiver {
                        receiver.starts(starts);
                    }
                }
                Output::ReportsDue => {
                    let now = self.now();
                    let reports = self.receiver.as_mut().map(|r| r.reports(now)).unwrap_or_default();
                    for (index, data) in reports {
                        self.session.handle(now, Input::SendRtcp { index, data });
                    }
                }
                Output::WakeAt(at) => {
                    self.deliver()?;
                    let held = self.receiver.as_ref().and_then(Receiver::wake_at);
                    return Ok(Some(at.min(held.unwrap_or(Duration::MAX))));
                }
                Output::Closed(result) => {
                    self.disconnect();
                    return result.map(|()| None).map_err(Into::into);
                }
            }
        }
    }

    /// Writes a request. A connection that cannot be written to will be read to its end.
    async fn send(&mut self, bytes: &[u8]) {
        let Some(connection) = &mut self.connection else { return };
        let write = async {
            connection.stream.write_all(bytes).await?;
            connection.stream.flush().await
        };
        let failed = match tokio::time::timeout(WRITE_TIMEOUT, write).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the camera takes no requests".to_owned(),
        };
        debug!(failed, "write to camera");
        self.connection = None;
        self.session.handle(self.now(), Input::Eof);
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.udp.clear();
        let now = self.now();
        if let Some(receiver) = &mut self.receiver {
            receiver.flush(now);
        }
    }

    fn described(&mut self, described: &Described) -> Result<(), Error> {
        let receiver = Receiver::new(&described.session, self.config.media, rand::random());
        let receive: Vec<Track> = receiver.parameters().cloned().map(Track::from).collect();
        if receive.is_empty() {
            return Err(client::Error::NoMedia.into());
        }
        self.receiver = Some(receiver);
        let lower = match self.session.lower() {
            Lower::Udp => "udp",
            Lower::Multicast => "multicast",
            Lower::Tcp => "tcp",
        };
        let scheme = if self.session.target().tls.is_some() { "rtsps" } else { "rtsp" };
        let connection = Info {
            format_name: "rtsp".to_owned(),
            protocol: match &self.config.via {
                Via::Direct => format!("{scheme}+{lower}"),
                Via::Http => format!("{scheme}+http"),
                Via::WebSocket(url) => url.scheme().to_owned(),
            },
            remote_addr: self
                .connection
                .as_ref()
                .map(|c| std::net::SocketAddr::from((c.peer_ip, self.session.target().port)).to_string())
                .unwrap_or_default(),
            sdp: String::from_utf8_lossy(&described.text).into_owned(),
            user_agent: described.server.clone(),
            ..Info::default()
        };
        self.accepted = backchannel::accepted(&described.session);
        let send = self.accepted.iter().map(|accepted| accepted.track.clone()).collect();
        let tracks = Tracks { receive, send, connection, ..Tracks::default() };
        self.host.tracks(&tracks)?;
        self.told = Some(tracks);
        Ok(())
    }

    /// The camera refuses the sound that it had offered to take.
    fn hears_nothing(&mut self) -> Result<(), Error> {
        self.accepted.clear();
        match &mut self.told {
            Some(told) if !told.send.is_empty() => {
                told.send.clear();
                self.host.tracks(told)
            }
            _ => Ok(()),
        }
    }

    fn heard(&mut self, heard: Heard) {
        let now = self.now();
        match heard {
            Heard::Begun(talk) => {
                if let Some(media) = self.speech.begin(talk, &self.accepted) {
                    self.session.handle(now, Input::Talk(Some(media)));
                }
            }
            // What is said before the camera plays is not heard.
            Heard::Unit(_) if !self.session.hears() => {}
            Heard::Unit(unit) => {
                for packet in self.speech.packets(&unit) {
                    self.session.handle(now, Input::SendRtp(&packet));
                }
            }
            Heard::Over => {
                for packet in self.speech.end() {
                    self.session.handle(now, Input::SendRtp(&packet));
                }
                self.session.handle(now, Input::Talk(None));
            }
        }
    }

    fn apply_demand(&mut self, demand: &Demand) {
        let Some(receiver) = &self.receiver else { return };
        let medias: Vec<usize> =
            demand.tracks.iter().filter_map(|track| receiver.media_of(*track as usize)).collect();
        self.session.handle(self.now(), Input::Wanted(&medias));
    }

    fn deliver(&mut self) -> Result<(), Error> {
        let Some(receiver) = &mut self.receiver else { return Ok(()) };
        while let Some(delivery) = receiver.poll() {
            match delivery {
                Delivery::Unit { track, unit } => self.host.push(track as u32, &unit)?,
                Delivery::Parameters { track, parameters } => {
                    self.host.track_changed(track as u32, &parameters)?;
                }
                Delivery::Clock { track, pts, unix_ns } => {
                    self.host.clock(Clock { track: track as u32, pts, unix_ns })?;
                }
                Delivery::Lost { track, packets } => debug!(track, packets, "packets lost"),
            }
        }
        Ok(())
    }
}
