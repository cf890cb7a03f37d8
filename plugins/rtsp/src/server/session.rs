//! One RTSP connection, seen from the server: requests in, replies and events out. Reads no clock and no socket.
//!
//! ```text
//! OPTIONS ▶ DESCRIBE ▶ [Event::Describe ▶ described()] ▶ SETUP ... ▶ PLAY ▶ [Event::Play ▶ played()] ▶ TEARDOWN
//! OPTIONS ▶ ANNOUNCE ▶ [Event::Announce ▶ announced()] ▶ SETUP ... ▶ RECORD ▶ [Event::Record] ▶ TEARDOWN
//! ```
//!
//! One request is answered at a time; others wait. Call [`Session::request`], [`Session::timeout`] or an answer, then
//! [`Session::poll`] until it gives `None`, and come back at [`Session::wake_at`].

mod event;
mod publish;
mod setup;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use patchbay_rtp::sdp;

pub use event::{Event, Offer, Output, Path, Place, Reason, RtpInfo};

use crate::server::login::{Login, Verdict};
use crate::server::talk::media;
use crate::server::url::{self, Target};
use crate::wire::{BACKCHANNEL, Request, Response, SessionHeader};

/// Session timeout that is told to clients: 5 s less than what is enforced (S7).
pub const TOLD_TIMEOUT: Duration = Duration::from_secs(60);
/// Silence after which a client over UDP, or one that does nothing at all, is gone (S41, S49).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(65);
/// Silence after which a publisher is gone (S64).
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(15);
/// Time from ANNOUNCE to RECORD (S64).
pub const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a client has to close its connection after TEARDOWN.
pub const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay of the answer to a wrong login (S24).
pub const LOGIN_DELAY: Duration = Duration::from_secs(2);
/// Wrong logins after which the connection is closed (S24).
pub const LOGIN_TRIES: u32 = 3;
/// Requests that may wait for the one in hand; more close the connection.
const QUEUE_MAX: usize = 32;

const PUBLIC: &str =
    "OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, PAUSE, RECORD, GET_PARAMETER, SET_PARAMETER, TEARDOWN";

/// What a connection starts with.
#[derive(Debug)]
pub struct Config {
    /// The session's identifier: 16 hex digits, random (S7).
    pub id: String,
    /// The login that is asked for; `None` asks for none (S22: loopback).
    pub login: Option<Login>,
    /// Players may ask for multicast.
    pub has_multicast: bool,
    /// `rtsp://host:port` for requests whose URL names none.
    pub origin: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Init,
    Described,
    Playing,
    Paused,
    Announced,
    Recording,
    TornDown,
    Closed,
}

/// The session of one connection.
#[derive(Debug)]
pub struct Session {
    config: Config,
    state: State,
    target: Target,
    offers: Vec<Offer>,
    /// What the player may say: the media behind the offers.
    talk: Option<Offer>,
    /// The camera is the player's.
    hears: bool,
    medias: Vec<sdp::Media>,
    paths: Vec<Option<Path>>,
    /// The request that waits for the application or for the login delay.
    pending: Option<Pending>,
    queue: VecDeque<Request>,
    outputs: VecDeque<Output>,
    login_failures: u32,
    now: Duration,
    /// Last request, or sign of life on the media.
    alive_at: Duration,
    announced_at: Duration,
}

#[derive(Debug)]
struct Pending {
    cseq: Option<String>,
    wait: Wait,
}

#[derive(Debug)]
enum Wait {
    Describe,
    Announce(sdp::Session),
    Setup {
        track: usize,
        client: (u16, u16),
        record: bool,
        profile: String,
    },
    Multicast {
        track: usize,
        profile: String,
    },
    Play,
    /// SETUP of the talk.
    Talk(Box<Request>),
    /// A refusal that is held back.
    Login {
        until: Duration,
        stale: bool,
    },
}

impl Session {
    /// A session whose connection was opened at `now`.
    pub fn new(config: Config, now: Duration) -> Self {
        Self {
            config,
            state: State::Init,
            target: Target::default(),
            offers: Vec::new(),
            talk: None,
            hears: false,
            medias: Vec::new(),
            paths: Vec::new(),
            pending: None,
            queue: VecDeque::new(),
            outputs: VecDeque::new(),
            login_failures: 0,
            now,
            alive_at: now,
            announced_at: now,
        }
    }

    /// A request came.
    pub fn request(&mut self, now: Duration, request: Request) {
        self.now = now;
        self.alive_at = now;
        if self.queue.len() >= QUEUE_MAX {
            return self.close(Reason::Flood);
        }
        self.queue.push_back(request);
        self.proceed();
    }

    /// Media came from a publisher, or a receiver report from a player: it lives.
    pub fn alive(&mut self, now: Duration) {
        self.now = now;
        self.alive_at = now;
    }

    /// Time passed: call it at [`Session::wake_at`].
    pub fn timeout(&mut self, now: Duration) {
        self.now = now;
        if let Some(Pending { wait: Wait::Login { until, stale }, .. }) = self.pending
            && now >= until
        {
            let cseq = self.pending.take().and_then(|p| p.cseq);
            self.unauthorized(cseq, stale);
            if self.login_failures >= LOGIN_TRIES {
                self.close(Reason::Login);
            }
            self.proceed();
        }
        if self.deadline().is_some_and(|at| now >= at) {
            let is_torn_down = self.state == State::TornDown;
            self.close(if is_torn_down { Reason::Teardown } else { Reason::Silence });
        }
    }

    /// When [`Session::timeout`] is due.
    pub fn wake_at(&self) -> Option<Duration> {
        let login = match &self.pending {
            Some(Pending { wait: Wait::Login { until, .. }, .. }) => Some(*until),
            _ => None,
        };
        [login, self.deadline()].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether it sends media now.
    pub fn is_playing(&self) -> bool {
        self.state == State::Playing
    }

    /// Whether it takes media: also before RECORD, since some publishers are early (S61).
    pub fn is_publishing(&self) -> bool {
        matches!(self.state, State::Announced | State::Recording)
    }

    /// The media and kind (`true` RTCP) of a channel of this connection.
    pub fn of_channel(&self, channel: u8) -> Option<(usize, bool)> {
        self.paths.iter().enumerate().find_map(|(track, path)| match path {
            Some(Path::Tcp(rtp, _)) if *rtp == channel => Some((track, false)),
            Some(Path::Tcp(_, rtcp)) if *rtcp == channel => Some((track, true)),
            _ => None,
        })
    }

    /// Answer to [`Event::Talk`]: the camera hears the player.
    pub fn hears(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        match pending.wait {
            Wait::Talk(request) => {
                self.hears = true;
                self.setup(pending.cseq, &request);
                self.proceed();
            }
            wait => self.pending = Some(Pending { wait, ..pending }),
        }
    }

    /// The index of the media that the player speaks by, when there is one.
    pub fn talk_track(&self) -> Option<usize> {
        self.talk.as_ref().map(|_| self.offers.len())
    }

    /// Answer to [`Event::Describe`]: the medias of the stream, and what the player may say.
    pub fn described(&mut self, offers: Vec<Offer>, talk: Option<Offer>) {
        let Some(pending) = self.pending.take() else { return };
        if !matches!(pending.wait, Wait::Describe) {
            self.pending = Some(pending);
            return;
        }
        let medias = offers.iter().enumerate().map(|(track, offer)| sdp::MediaDescription {
            parameters: offer.parameters.clone(),
            payload_type: offer.payload_type,
            port: 0,
            control: self.target.control(track),
            direction: sdp::Direction::RecvOnly,
        });
        let speaks = talk.iter().map(|talk| media(talk, self.target.control(offers.len())));
        let description = sdp::Description {
            session_name: "Patchbay".to_owned(),
            session_id: 1,
            address: "0.0.0.0".to_owned(),
            control: self.target.content_base(),
            medias: medias.chain(speaks).collect(),
        };
        match sdp::build(&description) {
            Ok(text) if !offers.is_empty() => {
                let reply = Response::new(200)
                    .header("Content-Base", self.target.content_base())
                    .header("Content-Type", "application/sdp")
                    .body(text);
                self.state = State::Described;
                self.paths = vec![None; offers.len() + usize::from(talk.is_some())];
                (self.offers, self.talk, self.hears) = (offers, talk, false);
                self.reply(pending.cseq, reply);
            }
            _ => self.reply(pending.cseq, Response::new(404)),
        }
        self.proceed();
    }

    /// Answer to [`Event::Announce`]: the stream is taken.
    pub fn announced(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        match pending.wait {
            Wait::Announce(description) => {
                self.state = State::Announced;
                self.announced_at = self.now;
                self.paths = vec![None; description.medias.len()];
                self.medias = description.medias;
                self.reply(pending.cseq, Response::new(200));
                self.proceed();
            }
            wait => self.pending = Some(Pending { wait, ..pending }),
        }
    }

    /// Refuses what was asked, with an RTSP status; `retry_after` seconds go with a 503 (S12). The connection stays.
    pub fn refuse(&mut self, status: u16, retry_after: Option<u64>) {
        let Some(pending) = self.pending.take() else { return };
        let mut reply = Response::new(status);
        if let Some(seconds) = retry_after {
            reply = reply.header("Retry-After", seconds.to_string());
        }
        self.reply(pending.cseq, reply);
        self.proceed();
    }

    /// Answer to [`Event::Play`]. The reply is given back, not sent: it must be written right before the first packet and
    /// never after it (S11).
    pub fn played(&mut self, infos: &[RtpInfo]) -> Bytes {
        let Some(pending) = self.pending.take() else { return Bytes::new() };
        self.state = State::Playing;
        let list: Vec<String> = infos
            .iter()
            .filter_map(|info| {
                let mut text = format!("url={};seq={}", self.target.control(info.track), info.sequence?);
                if let Some(timestamp) = info.timestamp {
                    text.push_str(&format!(";rtptime={timestamp}"));
                }
                Some(text)
            })
            .collect();
        let mut reply = Response::new(200).header("Range", "npt=0.000-");
        if !list.is_empty() {
            reply = reply.header("RTP-Info", list.join(","));
        }
        let bytes = self.encode(pending.cseq, reply);
        self.proceed();
        bytes
    }

    /// The medias that a publisher announced.
    pub fn medias(&self) -> &[sdp::Media] {
        &self.medias
    }

    fn proceed(&mut self) {
        while self.pending.is_none()
            && self.state != State::Closed
            && let Some(request) = self.queue.pop_front()
        {
            self.handle(request);
        }
    }

    fn handle(&mut self, request: Request) {
        let cseq = request.headers.get("CSeq").map(str::to_owned);
        if request.method == "OPTIONS" {
            // Asked before any login, and as keepalive.
            let reply = Response::new(200).header("Public", PUBLIC);
            return self.reply(cseq, reply);
        }
        match self.check_login(&request) {
            Verdict::Granted => {}
            Verdict::Missing => return self.unauthorized(cseq, false),
            Verdict::Stale => return self.unauthorized(cseq, true),
            Verdict::Wrong => {
                self.login_failures += 1;
                let wait = Wait::Login { until: self.now + LOGIN_DELAY, stale: false };
                self.pending = Some(Pending { cseq, wait });
                return;
            }
        }
        if let Some(given) = request.headers.get("Session").and_then(SessionHeader::parse)
            && given.id != self.config.id
        {
            return self.reply(cseq, Response::new(454));
        }
        match request.method.as_str() {
            "DESCRIBE" => self.describe(cseq, &request),
            "ANNOUNCE" => self.announce(cseq, &request),
            "SETUP" => self.setup(cseq, &request),
            "PLAY" => self.play(cseq),
            "RECORD" => self.record(cseq),
            "PAUSE" => self.pause(cseq),
            "TEARDOWN" => self.teardown(cseq),
            "GET_PARAMETER" | "SET_PARAMETER" => self.reply(cseq, Response::new(200)),
            _ => self.reply(cseq, Response::new(501).header("Public", PUBLIC)),
        }
    }

    fn describe(&mut self, cseq: Option<String>, request: &Request) {
        if !matches!(self.state, State::Init | State::Described | State::TornDown) {
            return self.reply(cseq, Response::new(455));
        }
        self.set_target(&request.url);
        let asked = request.headers.all("Require").any(|value| value.contains(BACKCHANNEL));
        let event = Event::Describe {
            stream: self.target.stream(),
            query: self.target.query.clone(),
            backchannel: asked
                || url::query_value(&self.target.query, "backchannel").is_some_and(|v| v == "1"),
            user_agent: user_agent(request),
        };
        self.outputs.push_back(Output::Event(event));
        self.pending = Some(Pending { cseq, wait: Wait::Describe });
    }

    fn play(&mut self, cseq: Option<String>) {
        match self.state {
            State::Described | State::Paused if self.paths.iter().any(Option::is_some) => {
                self.outputs.push_back(Output::Event(Event::Play { tracks: self.paths() }));
                self.pending = Some(Pending { cseq, wait: Wait::Play });
            }
            // Some players repeat PLAY as keepalive (S8).
            State::Playing => self.reply(cseq, Response::new(200).header("Range", "npt=0.000-")),
            _ => self.reply(cseq, Response::new(455)),
        }
    }

    fn pause(&mut self, cseq: Option<String>) {
        match self.state {
            State::Playing => {
                self.state = State::Paused;
                self.outputs.push_back(Output::Event(Event::Pause));
                self.reply(cseq, Response::new(200));
            }
            State::Paused => self.reply(cseq, Response::new(200)),
            _ => self.reply(cseq, Response::new(455)),
        }
    }

    /// The connection is not closed: GStreamer may send PAUSE behind it and takes a closed connection for a fault.
    fn teardown(&mut self, cseq: Option<String>) {
        self.reply(cseq, Response::new(200));
        self.outputs.push_back(Output::Event(Event::Teardown));
        self.state = State::TornDown;
        self.paths.clear();
        self.offers.clear();
        self.talk = None;
        self.medias.clear();
    }

    fn set_target(&mut self, url: &str) {
        self.target = Target::parse(url);
        if self.target.origin.is_empty() {
            self.target.origin.clone_from(&self.config.origin);
        }
    }

    /// The medias that were set up.
    pub fn paths(&self) -> Vec<(usize, Path)> {
        self.paths.iter().enumerate().filter_map(|(track, path)| Some((track, (*path)?))).collect()
    }

    fn check_login(&self, request: &Request) -> Verdict {
        let Some(login) = &self.config.login else { return Verdict::Granted };
        let stream = match self.state {
            State::Init | State::TornDown => "",
            _ => self.target.path.as_str(),
        };
        login.check(request, stream)
    }

    fn unauthorized(&mut self, cseq: Option<String>, stale: bool) {
        let mut reply = Response::new(401);
        for challenge in self.config.login.iter().flat_map(|login| login.challenges(stale)) {
            reply = reply.header("WWW-Authenticate", challenge);
        }
        self.reply(cseq, reply);
    }

    fn reply(&mut self, cseq: Option<String>, reply: Response) {
        let bytes = self.encode(cseq, reply);
        self.outputs.push_back(Output::Send(bytes));
    }

    /// Adds the headers that each reply has. `Session` goes with every reply from the first SETUP on (S60).
    fn encode(&self, cseq: Option<String>, reply: Response) -> Bytes {
        let mut headers = crate::wire::Headers::default();
        if let Some(cseq) = cseq {
            headers.push("CSeq", cseq);
        }
        headers.push("Server", "Patchbay");
        if self.paths.iter().any(Option::is_some) && reply.status != 454 {
            headers.push("Session", format!("{};timeout={}", self.config.id, TOLD_TIMEOUT.as_secs()));
        }
        for (name, value) in reply.headers.iter() {
            headers.push(name, value);
        }
        Response { headers, ..reply }.encode()
    }

    fn close(&mut self, reason: Reason) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.outputs.push_back(Output::Close(reason));
        }
    }

    /// When silence ends the session. A player over TCP is judged by its socket alone (S49).
    fn deadline(&self) -> Option<Duration> {
        let udp = self.paths.iter().flatten().any(|path| !matches!(path, Path::Tcp(..)));
        match self.state {
            State::Closed => None,
            State::Playing | State::Paused if !udp => None,
            State::Recording => Some(self.alive_at + PUBLISH_TIMEOUT),
            State::TornDown if self.pending.is_none() => Some(self.alive_at + TEARDOWN_TIMEOUT),
            State::Announced => Some(self.announced_at + RECORD_TIMEOUT),
            // The application answers these; it has limits of its own.
            _ if self.pending.is_some() => None,
            _ => Some(self.alive_at + IDLE_TIMEOUT),
        }
    }
}

fn user_agent(request: &Request) -> String {
    request.headers.get("User-Agent").unwrap_or_default().to_owned()
}
