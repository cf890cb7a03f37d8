//! The listening side: players and publishers.

use std::collections::VecDeque;

use bytes::Bytes;
use patchbay_mux::flv::TagKind;
use patchbay_mux::flv::amf::{self, Value};

use super::link::{Link, WINDOW};
use super::{Error, FOURCCS, fourccs};
use crate::wire::handshake::Block;
use crate::wire::message::{Command, Incoming, user};

/// The message stream of all that is played or published: a connection has one.
pub const STREAM_ID: u32 = 1;

/// What a peer wants, and what it sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// To connect to this application, with what is behind its name: only of a session that asks for a login; answered by
    /// [`Session::connected`] or [`Session::reject`].
    Connect(String),
    /// To play a stream; answered by [`Session::played`] or [`Session::refuse`].
    Play(Wish),
    /// To publish one; answered by [`Session::published`] or [`Session::refuse`].
    Publish(Wish),
    /// A tag of a publisher.
    Media {
        /// Sound, pictures or a script.
        kind: TagKind,
        /// Milliseconds, modulo 2^32.
        timestamp: u32,
        /// The tag's body.
        body: Bytes,
    },
    /// It plays or publishes no more.
    Stop,
}

/// A stream that a peer names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// Names to try, in this order: application and key, the application, the key.
    pub names: Vec<String>,
    /// Queries of application and key, joined.
    pub query: String,
    /// FourCCs that a player understands; `*` is all. Empty: those of before Enhanced RTMP.
    pub fourccs: Vec<String>,
    /// `flashVer` of the peer.
    pub user_agent: String,
}

/// What the peer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not said yet.
    New,
    /// It asked to play or publish.
    Asking,
    /// It gets a stream.
    Playing,
    /// It sends one.
    Publishing,
    /// It was told that it gets nothing.
    Refused,
}

/// A connection of a player or publisher.
#[derive(Debug)]
pub struct Session {
    link: Link,
    events: VecDeque<Event>,
    phase: Phase,
    app: String,
    fourccs: Vec<String>,
    user_agent: String,
    /// What it asked for is to publish.
    is_publishing: bool,
    /// Key of `releaseStream`, for publishers that name no application.
    released: String,
    /// Whether it has to log in before anything else.
    asks_login: bool,
    /// Number of the `connect` that is answered next.
    connecting: f64,
}

impl Session {
    /// A session that has seen nothing.
    pub fn new(random: Block) -> Self {
        Self {
            link: Link::server(random),
            events: VecDeque::new(),
            phase: Phase::New,
            app: String::new(),
            fourccs: Vec::new(),
            user_agent: String::new(),
            is_publishing: false,
            released: String::new(),
            asks_login: false,
            connecting: 0.0,
        }
    }

    /// The same, for a peer that has to log in.
    pub fn with_login(random: Block) -> Self {
        Self { asks_login: true, ..Self::new(random) }
    }

    /// What the peer is doing.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.link.held()
    }

    /// Takes bytes of the peer; then poll until there is nothing more.
    pub fn receive(&mut self, data: &[u8]) -> Result<(), Error> {
        self.link.receive(data)?;
        Ok(())
    }

    /// The next event. `None`: more bytes are needed, or the answer to the last one.
    pub fn poll(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.phase == Phase::Asking {
                return Ok(None);
            }
            match self.link.poll()? {
                None => return Ok(None),
                Some(Incoming::Command(command)) => self.command(&command),
                Some(Incoming::Media { kind, timestamp, body }) if self.phase == Phase::Publishing => {
                    return Ok(Some(Event::Media { kind, timestamp, body }));
                }
                Some(_) => {}
            }
        }
    }

    /// Bytes to send; empty when there are none.
    pub fn take(&mut self) -> Bytes {
        self.link.take()
    }

    fn command(&mut self, command: &Command) {
        let answer = |link: &mut Link, values: &[Value]| {
            if command.transaction != 0.0 {
                link.writer.command("_result", command.transaction, values, command.stream_id);
            }
        };
        let text = |index: usize| command.argument(index).and_then(Value::as_str).unwrap_or_default();
        match command.name.as_str() {
            "connect" => self.connect(command),
            // Nobody is served who has not logged in.
            _ if self.asks_login => {}
            "createStream" => {
                let id = f64::from(STREAM_ID).into();
                self.link.writer.command("_result", command.transaction, &[Value::Null, id], 0);
            }
            "releaseStream" | "FCPublish" => {
                text(0).clone_into(&mut self.released);
                answer(&mut self.link, &[Value::Null, Value::Undefined]);
            }
            "getStreamLength" => answer(&mut self.link, &[Value::Null, 0.0.into()]),
            "FCSubscribe" => {
                let info = status("status", "NetStream.Play.Start", "");
                self.link.writer.command("onFCSubscribe", 0.0, &[Value::Null, info], 0);
            }
            "FCUnpublish" => {
                let info = status("status", "NetStream.Unpublish.Success", text(0));
                self.link.writer.command("onFCUnpublish", 0.0, &[Value::Null, info], 0);
            }
            "play" | "publish" if self.phase == Phase::New => {
                self.is_publishing = command.name == "publish";
                self.phase = Phase::Asking;
                let wish = self.wish(text(0));
                self.events.push_back(if self.is_publishing {
                    self.link.allow_media();
                    Event::Publish(wish)
                } else {
                    Event::Play(wish)
                });
            }
            "deleteStream" | "closeStream" => self.stop(),
            "pause" => {
                let is_pausing = command.argument(0) == Some(&Value::Boolean(true));
                let code = if is_pausing { "NetStream.Pause.Notify" } else { "NetStream.Unpause.Notify" };
                self.on_status(status("status", code, ""));
            }
            _ => {}
        }
    }

    fn connect(&mut self, command: &Command) {
        command.text("app").clone_into(&mut self.app);
        command.text("flashVer").clone_into(&mut self.user_agent);
        self.fourccs = fourccs(command);
        self.connecting = command.transaction;
        if self.asks_login {
            self.phase = Phase::Asking;
            return self.events.push_back(Event::Connect(self.app.clone()));
        }
        self.connected();
    }

    /// The peer is let in.
    pub fn connected(&mut self) {
        self.phase = Phase::New;
        if std::mem::take(&mut self.asks_login) {
            // What was the login is no wish.
            self.app.truncate(self.app.find('?').unwrap_or(self.app.len()));
        }
        let is_enhanced = !self.fourccs.is_empty();
        self.link.introduce();
        self.link.writer.peer_bandwidth(WINDOW);
        let server = amf::object([
            ("fmsVer", "FMS/3,5,1,1".into()),
            ("capabilities", 31.0.into()),
            ("mode", 1.0.into()),
        ]);
        let mut info = vec![
            ("level".to_owned(), "status".into()),
            ("code".to_owned(), "NetConnection.Connect.Success".into()),
            ("description".to_owned(), "Connection succeeded.".into()),
            ("objectEncoding".to_owned(), 0.0.into()),
        ];
        if is_enhanced {
            let list = FOURCCS.iter().map(|fourcc| (*fourcc).into()).collect();
            info.push(("fourCcList".to_owned(), Value::StrictArray(list)));
        }
        self.link.writer.command("_result", self.connecting, &[server, Value::Object(info)], 0);
    }

    /// The peer is not let in; its client reads `description`. The connection should be closed a little later.
    pub fn reject(&mut self, description: &str) {
        self.phase = Phase::Refused;
        self.link.introduce();
        let info = status("error", "NetConnection.Connect.Rejected", description);
        self.link.writer.command("_error", self.connecting, &[Value::Null, info], 0);
        self.link.writer.command("close", 0.0, &[Value::Null], 0);
    }

    fn wish(&self, key: &str) -> Wish {
        let key = if key.is_empty() && self.app.is_empty() { &self.released } else { key };
        let split = |text: &str| -> (String, String) {
            let (name, query) = text.split_once('?').unwrap_or((text, ""));
            (name.trim_matches('/').to_owned(), query.to_owned())
        };
        let ((app, app_query), (key, key_query)) = (split(&self.app), split(key));
        let both = format!("{app}/{key}");
        let mut names: Vec<String> = Vec::new();
        for name in [both.trim_matches('/'), &app, &key] {
            if !name.is_empty() && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        let queries: Vec<String> = [app_query, key_query].into_iter().filter(|q| !q.is_empty()).collect();
        Wish {
            names,
            query: queries.join("&"),
            fourccs: self.fourccs.clone(),
            user_agent: self.user_agent.clone(),
        }
    }

    fn stop(&mut self) {
        if matches!(self.phase, Phase::Playing | Phase::Publishing) {
            self.events.push_back(Event::Stop);
        }
        if self.phase != Phase::Refused {
            self.phase = Phase::New;
        }
    }

    /// The player gets the stream `name`: what is taken from the session next goes out before the first tag.
    pub fn played(&mut self, name: &str) {
        self.phase = Phase::Playing;
        self.link.writer.user(user::STREAM_BEGIN, &[STREAM_ID]);
        self.on_status(status("status", "NetStream.Play.Reset", name));
        self.on_status(status("status", "NetStream.Play.Start", name));
        self.link.writer.data(&["|RtmpSampleAccess".into(), true.into(), true.into()], STREAM_ID);
    }

    /// The publisher may send.
    pub fn published(&mut self, name: &str) {
        self.phase = Phase::Publishing;
        self.link.writer.user(user::STREAM_BEGIN, &[STREAM_ID]);
        self.on_status(status("status", "NetStream.Publish.Start", name));
    }

    /// It gets nothing, for a reason that people read. The connection should be closed a little later.
    pub fn refuse(&mut self, is_unknown: bool, reason: &str) {
        let code = match (self.is_publishing, is_unknown) {
            (true, _) => "NetStream.Publish.BadName",
            (false, true) => "NetStream.Play.StreamNotFound",
            (false, false) => "NetStream.Play.Failed",
        };
        self.phase = Phase::Refused;
        self.on_status(status("error", code, reason));
    }

    /// What it played or published is over.
    pub fn over(&mut self, reason: &str) {
        match self.phase {
            Phase::Playing => {
                self.link.writer.user(user::STREAM_EOF, &[STREAM_ID]);
                self.on_status(status("status", "NetStream.Play.UnpublishNotify", reason));
            }
            Phase::Publishing => self.on_status(status("error", "NetStream.Publish.BadName", reason)),
            _ => {}
        }
        self.phase = Phase::Refused;
    }

    fn on_status(&mut self, info: Value) {
        self.link.writer.command("onStatus", 0.0, &[Value::Null, info], STREAM_ID);
    }
}

fn status(level: &str, code: &str, description: &str) -> Value {
    amf::object([("level", level.into()), ("code", code.into()), ("description", description.into())])
}
