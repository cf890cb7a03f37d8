//! The dialling side: playing a stream, or publishing one.

use std::collections::VecDeque;

use bytes::Bytes;
use patchbay_mux::flv::TagKind;
use patchbay_mux::flv::amf::{self, Value};
use patchbay_net::Credentials;

use super::link::Link;
use super::{Error, FOURCCS, adobe, fourccs};
use crate::wire::handshake::Block;
use crate::wire::message::{Command, Incoming, user};

/// How long we want the server to fill our buffer, in milliseconds.
const BUFFER_MS: u32 = 3_000;
/// Connections that a login may take.
const MAX_LOGINS: u8 = 2;
const CONNECT: f64 = 1.0;
const CREATE_STREAM: f64 = 2.0;

/// Where a stream is.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Application: the first part of the path.
    pub app: String,
    /// `rtmp://host:port/app`.
    pub tc_url: String,
    /// What to play: the rest of the path and the query, byte for byte.
    pub name: String,
    /// For Adobe's login.
    pub credentials: Option<Credentials>,
    /// What is done with it.
    pub mode: Mode,
}

/// What a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It gets a stream.
    #[default]
    Play,
    /// It sends one.
    Publish,
}

/// What comes of a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The server plays, or takes what is published from now on.
    Started,
    /// A tag.
    Media {
        /// Sound, pictures or a script.
        kind: TagKind,
        /// Milliseconds, modulo 2^32.
        timestamp: u32,
        /// The tag's body.
        body: Bytes,
    },
    /// The login needs a new connection, on which [`Session::restart`] goes on.
    Redial,
    /// It is over.
    Ended(End),
}

/// Why it is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum End {
    /// The login was refused, or is missing.
    #[error("the server wants another login: {0}")]
    Login(String),
    /// There is no such stream.
    #[error("the server has no such stream: {0}")]
    NotFound(String),
    /// It refused for another reason.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The stream came to its end.
    #[error("the stream has ended")]
    Eof,
}

/// A session with one stream.
#[derive(Debug)]
pub struct Session {
    config: Config,
    link: Link,
    events: VecDeque<Event>,
    /// Behind the application's name.
    login: String,
    logins: u8,
    nonce: u32,
    is_started: bool,
    stream_id: u32,
    fourccs: Vec<String>,
}

impl Session {
    /// A session whose first bytes wait to be taken. `random` and `nonce` should be.
    pub fn new(config: Config, random: Block, nonce: u32) -> Self {
        Self {
            config,
            link: Link::client(random),
            events: VecDeque::new(),
            login: String::new(),
            logins: 0,
            nonce,
            is_started: false,
            stream_id: 1,
            fourccs: Vec::new(),
        }
    }

    /// Goes on over a new connection, after [`Event::Redial`].
    pub fn restart(&mut self, random: Block) {
        self.link = Link::client(random);
        self.events.clear();
        self.is_started = false;
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.link.held()
    }

    /// Takes bytes of the server; then poll until there is nothing more.
    pub fn receive(&mut self, data: &[u8]) -> Result<(), Error> {
        if self.link.receive(data)? {
            self.connect();
        }
        Ok(())
    }

    /// The next event; `None`: more bytes are needed.
    pub fn poll(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.link.poll()? {
                None => return Ok(None),
                Some(Incoming::Command(command)) => self.command(&command),
                Some(Incoming::Media { kind, timestamp, body }) => {
                    // Some servers send before they say that they do.
                    self.started();
                    self.events.push_back(Event::Media { kind, timestamp, body });
                }
                Some(Incoming::StreamEof) => self.events.push_back(Event::Ended(End::Eof)),
                Some(_) => {}
            }
        }
    }

    /// Bytes to send; empty when there are none.
    pub fn take(&mut self) -> Bytes {
        self.link.take()
    }

    /// The message stream of the media.
    pub fn stream_id(&self) -> u32 {
        self.stream_id
    }

    /// Codecs that the server says it understands; `*` is all. Empty before it has answered, and of old servers.
    pub fn fourccs(&self) -> &[String] {
        &self.fourccs
    }

    /// Says goodbye.
    pub fn stop(&mut self) {
        if self.is_started && self.config.mode == Mode::Publish {
            let name = self.config.name.as_str().into();
            self.link.writer.command("FCUnpublish", 0.0, &[Value::Null, name], 0);
        }
        if self.is_started {
            let id = f64::from(self.stream_id).into();
            self.link.writer.command("deleteStream", 0.0, &[Value::Null, id], 0);
        }
    }

    fn connect(&mut self) {
        let (app, tc_url) = (&self.config.app, &self.config.tc_url);
        let fourccs = FOURCCS.iter().map(|fourcc| (*fourcc).into()).collect();
        let object = amf::object([
            ("app", format!("{app}{}", self.login).as_str().into()),
            ("flashVer", "LNX 9,0,124,2".into()),
            ("tcUrl", format!("{tc_url}{}", self.login).as_str().into()),
            ("fpad", false.into()),
            ("capabilities", 15.0.into()),
            ("audioCodecs", 4_071.0.into()),
            ("videoCodecs", 252.0.into()),
            ("videoFunction", 1.0.into()),
            ("objectEncoding", 0.0.into()),
            ("fourCcList", Value::StrictArray(fourccs)),
        ]);
        self.link.writer.command("connect", CONNECT, &[object], 0);
    }

    fn command(&mut self, command: &Command) {
        match command.name.as_str() {
            // By what it brings, not by its number: some servers answer 0.
            "_result" => match command.argument(0).and_then(Value::as_f64) {
                Some(id) if command.transaction != CONNECT => self.created(id as u32),
                _ if command.transaction == CONNECT || command.member("code").is_some() => {
                    self.fourccs = fourccs(command);
                    self.connected();
                }
                _ if command.transaction != CREATE_STREAM => {}
                _ => self.created(1),
            },
            "_error" => {
                let (code, description) = (command.text("code"), command.text("description"));
                let both = format!("{code} {description}");
                self.refused(&both, description);
            }
            "onStatus" => {
                let (level, code) = (command.text("level"), command.text("code"));
                match code {
                    "NetStream.Play.Start" | "NetStream.Publish.Start" => self.started(),
                    "NetStream.Play.Stop" | "NetStream.Play.Complete" | "NetStream.Play.UnpublishNotify" => {
                        self.events.push_back(Event::Ended(End::Eof));
                    }
                    _ if level == "error" => {
                        let text = format!("{code} {}", command.text("description"));
                        self.refused(&text, command.text("description"));
                    }
                    _ => {}
                }
            }
            "close" => self.events.push_back(Event::Ended(End::Eof)),
            _ => {}
        }
    }

    fn connected(&mut self) {
        self.link.introduce();
        self.link.allow_media();
        if self.config.mode == Mode::Publish {
            for name in ["releaseStream", "FCPublish"] {
                let key = self.config.name.as_str().into();
                self.link.writer.command(name, 0.0, &[Value::Null, key], 0);
            }
        }
        self.link.writer.command("createStream", CREATE_STREAM, &[Value::Null], 0);
    }

    fn created(&mut self, id: u32) {
        self.stream_id = id;
        let name = self.config.name.as_str().into();
        if self.config.mode == Mode::Publish {
            return self.link.writer.command("publish", 3.0, &[Value::Null, name, "live".into()], id);
        }
        self.link.writer.user(user::SET_BUFFER_LENGTH, &[id, BUFFER_MS]);
        // Live, else recorded.
        self.link.writer.command("play", 3.0, &[Value::Null, name, (-2_000.0).into()], id);
    }

    fn started(&mut self) {
        if !std::mem::replace(&mut self.is_started, true) {
            self.link.allow_media();
            self.events.push_back(Event::Started);
        }
    }

    fn refused(&mut self, text: &str, description: &str) {
        let shown = patchbay_net::redact(text.trim());
        let asked = adobe::asked(description);
        if let Some(asked) = asked {
            let credentials = self.config.credentials.clone();
            self.logins += 1;
            match (asked, credentials) {
                (adobe::Asked::User, Some(user)) if self.logins <= MAX_LOGINS => {
                    self.login = adobe::name_user(&user);
                    self.events.push_back(Event::Redial);
                }
                (adobe::Asked::Answer(challenge), Some(user)) if self.logins <= MAX_LOGINS => {
                    self.login = adobe::answer(&user, &challenge, self.nonce);
                    self.events.push_back(Event::Redial);
                }
                _ => self.events.push_back(Event::Ended(End::Login(shown))),
            }
            return;
        }
        let lower = text.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let end = if has(&["unauthorized", "authorization", "authentication", "403", "auth failed"]) {
            End::Login(shown)
        } else if has(&["streamnotfound", "not found", "nosuchstream", "no such stream"]) {
            End::NotFound(shown)
        } else {
            End::Refused(shown)
        };
        self.events.push_back(Event::Ended(end));
    }
}
