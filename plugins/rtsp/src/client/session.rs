//! The conversation with one camera, over as many connections as it takes.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use patchbay_rtp::is_rtcp;

use super::exchange::{Answer, Exchange, Sent};
use super::handshake::Description;
use super::setup::Ways;
use super::timers::Playing;
use super::{Config, Error, Input, Output, Reconnect, Target, Verify, Wait};
use crate::wire::{Item, Lower, Request, Response, write_interleaved};

/// Wait for the answer to TEARDOWN (C11).
pub(super) const TEARDOWN_WAIT: Duration = Duration::from_secs(1);
/// Silence that ends a body without a length (C10).
pub(super) const BODY_SILENCE: Duration = Duration::from_millis(500);
/// A described camera that nobody wants is let go after this.
pub(super) const IDLE_CONNECTION: Duration = Duration::from_secs(10);
/// Pause before a new connection replaces one that failed: a camera or GStreamer's server that is still busy with the old
/// one answers 503.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// Port of all three schemes (C1).
pub(super) const DEFAULT_PORT: u16 = 554;
/// A client session (see the module page). Times are on any monotonic clock.
#[derive(Debug)]
pub struct Session {
    pub(super) config: Config,
    pub(super) target: Target,
    /// URL of DESCRIBE; changes with redirects.
    pub(super) request_url: String,
    pub(super) exchange: Exchange,
    pub(super) step: Step,
    pub(super) now: Duration,
    pub(super) out: VecDeque<Output>,
    pub(super) described: Option<Description>,
    pub(super) wanted: Vec<usize>,
    pub(super) lower: Lower,
    pub(super) ways: Ways,
    pub(super) playing: Option<Playing>,
    pub(super) public: Vec<String>,
    pub(super) redirects: u32,
    /// The session was begun anew because medias were missing (C105).
    pub(super) redone: bool,
    pub(super) last_received: Duration,
    /// DESCRIBE asks for the backchannel.
    pub(super) asks_backchannel: bool,
    /// The backchannel is to be set up.
    pub(super) speaks: bool,
    /// Somebody speaks now.
    pub(super) is_talking: bool,
    /// The backchannel that the newest talk chose.
    pub(super) talk_media: Option<usize>,
}

#[derive(Debug)]
pub(super) enum Step {
    /// Waiting for [`Input::Connected`].
    Dialling,
    /// Waiting for the answer to a request, or for ports.
    Handshake,
    /// Described, nothing wanted since.
    Idle {
        since: Duration,
    },
    Playing,
    /// Waiting for the answer to TEARDOWN.
    Leaving {
        deadline: Duration,
        then: After,
    },
    /// Between two connections.
    Pausing {
        until: Duration,
        why: Reconnect,
    },
    /// No connection, nothing wanted.
    Parked,
    Closed(Result<(), Error>),
}

#[derive(Debug, Clone)]
pub(super) enum After {
    Park,
    Reconnect(Reconnect),
    Close(Result<(), Error>),
}

impl Session {
    /// A session that begins to dial.
    pub fn new(config: Config) -> Self {
        let url = &config.url;
        let tls = match url.scheme() {
            "rtsps" => Some(Verify::of(url)),
            "rtspx" => Some(Verify::No),
            _ => None,
        };
        let target = Target { tls, host: url.host().to_owned(), port: url.port().unwrap_or(DEFAULT_PORT) };
        let request_url = url.request_url(if tls.is_some() { "rtsps" } else { "rtsp" });
        let mut session = Self {
            exchange: Exchange::new(config.credentials(), config.user_agent.clone(), config.seed),
            lower: config.lower,
            asks_backchannel: config.backchannel,
            speaks: config.speaks,
            is_talking: false,
            talk_media: None,
            config,
            target,
            request_url,
            step: Step::Dialling,
            now: Duration::ZERO,
            out: VecDeque::new(),
            described: None,
            wanted: Vec::new(),
            ways: Ways::default(),
            playing: None,
            public: Vec::new(),
            redirects: 0,
            redone: false,
            last_received: Duration::ZERO,
        };
        session.connect(None);
        session
    }

    /// The buffer that received bytes may be read into directly, before an empty [`Input::Received`].
    pub fn receive_buffer(&mut self) -> &mut BytesMut {
        self.exchange.parser.buffer_mut()
    }

    /// Whom the session talks to now.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether the camera was asked for its backchannel and bore it so far (C21).
    pub fn asks_backchannel(&self) -> bool {
        self.asks_backchannel
    }

    /// How media comes now.
    pub fn lower(&self) -> Lower {
        self.lower
    }

    /// Takes what happened at `now`.
    pub fn handle(&mut self, now: Duration, input: Input<'_>) {
        self.now = self.now.max(now);
        match input {
            Input::Connected => self.connected(),
            Input::Received(bytes) => {
                self.last_received = self.now;
                self.exchange.parser.push(bytes);
            }
            Input::Eof => self.eof(),
            Input::Timeout => {}
            Input::UdpBound { index, port } => self.udp_bound(index, port),
            Input::Datagram { index, to_rtcp, from_port, data } => {
                self.datagram(index, to_rtcp, from_port, data);
            }
            Input::Wanted(indexes) => self.wanted(indexes),
            Input::Talk(media) => self.talk(media),
            Input::SendRtp(packet) => self.send_rtp(packet),
            Input::SendRtcp { index, data } => self.send_rtcp(index, data),
            Input::Stop => self.leave(After::Close(Ok(()))),
        }
    }

    /// What is to be done next. Call until it answers [`Output::WakeAt`] or [`Output::Closed`].
    pub fn poll(&mut self) -> Output {
        loop {
            if let Some(output) = self.out.pop_front() {
                return output;
            }
            match &self.step {
                Step::Closed(result) => return Output::Closed(result.clone()),
                Step::Parked | Step::Dialling => return Output::WakeAt(Duration::MAX),
                _ => {}
            }
            match self.exchange.parser.next_item() {
                Ok(Some(Item::Interleaved { channel, data })) => {
                    if let Some(output) = self.interleaved(channel, data) {
                        return output;
                    }
                }
                Ok(Some(Item::Response(response))) => self.response(&response),
                Ok(Some(Item::Request(request))) => self.request(&request),
                Ok(None) => {
                    let wake = self.wake_at();
                    if wake > self.now {
                        return Output::WakeAt(wake);
                    }
                    self.overdue();
                }
                Err(error) => self.finish(After::Close(Err(error.into()))),
            }
        }
    }

    /// Sends a request whose answer is awaited.
    pub(super) fn ask(&mut self, method: &'static str, url: &str, headers: Vec<(&'static str, String)>) {
        let deadline = self.now + self.config.timeouts.reply;
        let bytes = self.exchange.send(method, url, headers, deadline);
        self.out.push_back(Output::Send(bytes));
    }

    pub(super) fn connect(&mut self, why: Option<Reconnect>) {
        self.exchange.reset();
        self.playing = None;
        self.ways = Ways::default();
        self.step = Step::Dialling;
        self.out.push_back(Output::Connect {
            target: self.target.clone(),
            timeout: self.config.timeouts.dial,
            why,
        });
    }

    fn connected(&mut self) {
        if !matches!(self.step, Step::Dialling) {
            return;
        }
        self.step = Step::Handshake;
        self.last_received = self.now;
        let url = self.request_url.clone();
        self.ask("OPTIONS", &url, Vec::new());
    }

    fn eof(&mut self) {
        match std::mem::replace(&mut self.step, Step::Parked) {
            Step::Leaving { then, .. } => self.finish(then),
            Step::Idle { .. } => self.finish(After::Park),
            step @ (Step::Closed(_) | Step::Parked | Step::Dialling | Step::Pausing { .. }) => {
                self.step = step
            }
            Step::Handshake => {
                self.step = Step::Handshake;
                // A body that ends with the connection is complete (C10)
                if let Some(Item::Response(response)) = self.exchange.parser.end_body() {
                    self.response(&response);
                }
                match &self.step {
                    Step::Idle { .. } => self.finish(After::Park),
                    Step::Handshake if self.is_asking_backchannel() => self.without_backchannel(),
                    Step::Handshake => self.finish(After::Close(Err(Error::Eof))),
                    Step::Leaving { .. } => self.left(),
                    _ => {}
                }
            }
            Step::Playing => self.finish(After::Close(Err(Error::Eof))),
        }
    }

    fn wanted(&mut self, indexes: &[usize]) {
        let mut indexes: Vec<usize> = indexes.to_vec();
        indexes.sort_unstable();
        indexes.dedup();
        if indexes.is_empty() {
            self.wanted.clear();
            if self.is_talking {
                return;
            }
            if matches!(self.step, Step::Handshake if self.described.is_some()) || self.playing.is_some() {
                self.leave(After::Park);
            }
            return;
        }
        // What was wanted once stays: another SETUP needs a new session
        let grown = indexes.iter().any(|index| !self.wanted.contains(index));
        self.wanted.extend(indexes);
        self.wanted.sort_unstable();
        self.wanted.dedup();
        match &mut self.step {
            Step::Idle { .. } => self.set_up_next(),
            Step::Parked => self.connect(Some(Reconnect::Wanted)),
            Step::Leaving { then: then @ After::Park, .. } => *then = After::Reconnect(Reconnect::Wanted),
            Step::Playing if grown => self.leave(After::Reconnect(Reconnect::Wanted)),
            _ => {}
        }
    }

    /// Ends the session with the camera, by TEARDOWN if it knows of one (C11).
    pub(super) fn leave(&mut self, then: After) {
        match &self.step {
            Step::Closed(_) => {}
            Step::Leaving { deadline, then: before } => {
                // A session that is closing stays so
                let keep = matches!(before, After::Close(_)) && !matches!(then, After::Close(_));
                let deadline = *deadline;
                if !keep {
                    self.step = Step::Leaving { deadline, then };
                }
            }
            Step::Handshake | Step::Playing if self.exchange.has_session() => {
                let url = self.described.as_ref().map_or(&self.request_url, |d| &d.control).clone();
                self.playing = None;
                self.ask("TEARDOWN", &url, Vec::new());
                self.step = Step::Leaving { deadline: self.now + TEARDOWN_WAIT, then };
            }
            _ => self.finish(then),
        }
    }

    /// Ends the connection.
    pub(super) fn finish(&mut self, then: After) {
        self.playing = None;
        match then {
            After::Park => {
                self.exchange.reset();
                self.out.push_back(Output::Disconnect);
                self.step = Step::Parked;
                if !self.wanted.is_empty() || self.is_talking {
                    self.connect(Some(Reconnect::Wanted));
                }
            }
            After::Reconnect(
                why @ (Reconnect::UdpFails | Reconnect::MediaMissing | Reconnect::BackchannelRefused),
            ) => {
                self.exchange.reset();
                self.out.push_back(Output::Disconnect);
                self.step = Step::Pausing { until: self.now + RECONNECT_PAUSE, why };
            }
            After::Reconnect(why) => self.connect(Some(why)),
            After::Close(result) => {
                self.exchange.reset();
                self.out.push_back(Output::Disconnect);
                self.step = Step::Closed(result);
            }
        }
    }

    fn interleaved(&mut self, channel: u8, data: Bytes) -> Option<Output> {
        let index = self.ways.media_of_channel(channel)?;
        if matches!(self.step, Step::Leaving { .. }) || data.len() < 4 {
            return None;
        }
        let is_rtcp = is_rtcp(&data);
        self.note_media(index, is_rtcp);
        Some(Output::Media { index, is_rtcp, data })
    }

    fn datagram(&mut self, index: usize, to_rtcp: bool, from_port: u16, data: Bytes) {
        if matches!(self.step, Step::Leaving { .. } | Step::Closed(_)) || data.len() < 4 {
            return;
        }
        let is_rtcp = is_rtcp(&data);
        let media = self.described.as_ref().and_then(|d| d.session.medias.get(index));
        let Some(media) = media else { return };
        if !self.ways.accept(index, to_rtcp, from_port, is_rtcp, &data, &media.payload_types) {
            return;
        }
        self.last_received = self.now;
        self.note_media(index, is_rtcp);
        self.out.push_back(Output::Media { index, is_rtcp, data });
    }

    fn send_rtcp(&mut self, index: usize, data: Bytes) {
        if self.playing.is_none() {
            return;
        }
        if let Some(channel) = self.ways.rtcp_channel(index) {
            let mut out = BytesMut::new();
            if write_interleaved(channel, &data, &mut out) {
                self.out.push_back(Output::Send(out.freeze()));
            }
        } else if let Some(port) = self.ways.peer_port(index, true) {
            self.out.push_back(Output::SendUdp { index, from_rtcp: true, port, data });
        }
    }

    /// Requests of the camera (C8).
    fn request(&mut self, request: &Request) {
        let known = matches!(
            request.method.as_str(),
            "OPTIONS" | "SET_PARAMETER" | "GET_PARAMETER" | "ANNOUNCE" | "TEARDOWN" | "REDIRECT"
        );
        let mut response = Response::new(if known { 200 } else { 501 });
        if let Some(cseq) = request.headers.get("CSeq") {
            response = response.header("CSeq", cseq);
        }
        if let Some(session) = request.headers.get("Session") {
            response = response.header("Session", session);
        }
        self.out.push_back(Output::Send(response.encode()));
        if matches!(request.method.as_str(), "TEARDOWN" | "REDIRECT") {
            let then = match std::mem::replace(&mut self.step, Step::Parked) {
                Step::Leaving { then, .. } => then,
                _ => After::Close(Err(Error::Eof)),
            };
            self.finish(then);
        }
    }

    pub(super) fn response(&mut self, response: &Response) {
        let sent = match self.exchange.answer(response, self.now, self.config.timeouts.reply) {
            Answer::Stray => return,
            Answer::Repeat(bytes) => return self.out.push_back(Output::Send(bytes)),
            Answer::Keepalive { ok } => return self.keepalive_answered(ok),
            Answer::Refused(rejected) if matches!(self.step, Step::Leaving { .. }) => {
                let _ = rejected; // Errors of TEARDOWN do not matter (C12)
                return self.left();
            }
            Answer::Refused(rejected) => return self.leave(After::Close(Err(rejected.into()))),
            Answer::Reply(sent) => sent,
        };
        if matches!(self.step, Step::Leaving { .. }) {
            if sent.method == "TEARDOWN" {
                self.left();
            }
            return;
        }
        if matches!(response.status, 301 | 302 | 303 | 305 | 307 | 308) && sent.method != "OPTIONS" {
            return self.redirect(response);
        }
        match sent.method {
            "OPTIONS" => self.options_answered(response),
            "DESCRIBE" => self.describe_answered(response),
            "SETUP" => self.setup_answered(&sent, response),
            "PLAY" => self.play_answered(&sent, response),
            _ => {}
        }
    }

    /// DESCRIBE with the wish for the backchannel waits for its answer.
    fn is_asking_backchannel(&self) -> bool {
        self.asks_backchannel && self.exchange.awaited().is_some_and(|sent| sent.method == "DESCRIBE")
    }

    /// The camera fails when it is asked for its backchannel: once more, without (C21). Always on a new connection: some close
    /// this one or never answer on it again.
    pub(super) fn without_backchannel(&mut self) {
        self.asks_backchannel = false;
        self.leave(After::Reconnect(Reconnect::BackchannelRefused));
    }

    /// TEARDOWN is answered.
    pub(super) fn left(&mut self) {
        if let Step::Leaving { then, .. } = std::mem::replace(&mut self.step, Step::Parked) {
            self.finish(then);
        }
    }

    /// The awaited answer did not come.
    pub(super) fn reply_overdue(&mut self, sent: &Sent) {
        let method = sent.method;
        let is_backchannel = self.is_asking_backchannel();
        self.exchange.forget();
        if is_backchannel {
            return self.without_backchannel();
        }
        self.leave(After::Close(Err(Error::Timeout(Wait::Reply(method)))));
    }
}
