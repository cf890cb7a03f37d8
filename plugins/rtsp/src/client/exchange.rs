//! Requests and their answers on one connection: numbers, logins, sessions, repeats.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use patchbay_net::auth;

use super::control;
use crate::wire::{Parser, Request, Response, SessionHeader};

/// Keepalives whose answers are awaited; older ones are forgotten (C102).
const MAX_KEEPALIVES: usize = 8;
/// Realm of TP-Link cameras that want no login when asked as 127.0.0.1 (C26).
const TP_LINK_REALM: &str = "TP-LINK Streaming Media";

/// The connection: everything here ends with it, but the login's knowledge of refused schemes.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) parser: Parser,
    pub(super) auth: auth::Client,
    has_credentials: bool,
    user_agent: String,
    random: u64,
    cseq: u32,
    /// First session id, used for all requests, and the latest one (C62).
    session: Option<String>,
    latest_session: Option<String>,
    pub(super) session_timeout: Duration,
    awaited: Option<Sent>,
    keepalives: VecDeque<Sent>,
    /// Host in request lines instead of the real one (C26).
    line_host: Option<&'static str>,
}

/// A request as it can be sent again.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    cseq: u32,
    pub(super) method: &'static str,
    pub(super) url: String,
    headers: Vec<(&'static str, String)>,
    pub(super) deadline: Duration,
    session_retried: bool,
}

/// What a response means.
#[derive(Debug)]
pub(super) enum Answer {
    /// To nothing that is awaited (C7).
    Stray,
    /// The request is to be repeated: these bytes.
    Repeat(Bytes),
    /// The login failed.
    Refused(auth::Rejected),
    /// To a keepalive.
    Keepalive { ok: bool },
    /// To the awaited request.
    Reply(Sent),
}

impl Exchange {
    pub(super) fn new(credentials: Option<patchbay_net::Credentials>, user_agent: String, seed: u64) -> Self {
        Self {
            parser: Parser::new(),
            has_credentials: credentials.is_some(),
            auth: auth::Client::new(credentials),
            user_agent,
            random: seed,
            cseq: 0,
            session: None,
            latest_session: None,
            session_timeout: crate::wire::DEFAULT_SESSION_TIMEOUT,
            awaited: None,
            keepalives: VecDeque::new(),
            line_host: None,
        }
    }

    /// A new connection: numbers, sessions and nonces begin anew.
    pub(super) fn reset(&mut self) {
        self.parser = Parser::new();
        self.auth.reset();
        self.cseq = 0;
        self.session = None;
        self.latest_session = None;
        self.awaited = None;
        self.keepalives.clear();
    }

    pub(super) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    pub(super) fn awaited(&self) -> Option<&Sent> {
        self.awaited.as_ref()
    }

    /// Gives up waiting.
    pub(super) fn forget(&mut self) {
        self.awaited = None;
    }

    /// Numbers a request and awaits its answer until `deadline`.
    pub(super) fn send(
        &mut self,
        method: &'static str,
        url: &str,
        headers: Vec<(&'static str, String)>,
        deadline: Duration,
    ) -> Bytes {
        let sent = Sent { cseq: 0, method, url: url.to_owned(), headers, deadline, session_retried: false };
        let (sent, bytes) = self.encode(sent, None);
        self.parser.set_body_until_next(method == "DESCRIBE");
        self.awaited = Some(sent);
        bytes
    }

    /// A request whose answer nobody waits for (C102).
    pub(super) fn send_keepalive(&mut self, method: &'static str, url: &str) -> Bytes {
        let sent = Sent {
            cseq: 0,
            method,
            url: url.to_owned(),
            headers: Vec::new(),
            deadline: Duration::ZERO,
            session_retried: false,
        };
        let (sent, bytes) = self.encode(sent, None);
        self.remember_keepalive(sent);
        bytes
    }

    fn remember_keepalive(&mut self, sent: Sent) {
        if self.keepalives.len() == MAX_KEEPALIVES {
            self.keepalives.pop_front();
        }
        self.keepalives.push_back(sent);
    }

    fn encode(&mut self, mut sent: Sent, session: Option<&str>) -> (Sent, Bytes) {
        self.cseq = self.cseq.wrapping_add(1);
        sent.cseq = self.cseq;
        let url = match self.line_host {
            Some(host) => control::with_host(&sent.url, host),
            None => sent.url.clone(),
        };
        let mut request = Request::new(sent.method, &url)
            .header("CSeq", sent.cseq.to_string())
            .header("User-Agent", &self.user_agent);
        if let Some(session) = session.or(self.session.as_deref()) {
            request = request.header("Session", session);
        }
        let cnonce = self.next_random();
        if let Some(value) = self.auth.authorization(sent.method, &url, &cnonce) {
            request = request.header("Authorization", value);
        }
        for (name, value) in &sent.headers {
            request = request.header(name, value);
        }
        (sent, request.encode())
    }

    fn next_random(&mut self) -> String {
        let mut z = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random = z;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        format!("{:016x}", z ^ (z >> 31))
    }

    /// Finds the request that `response` answers.
    pub(super) fn answer(&mut self, response: &Response, now: Duration, reply_timeout: Duration) -> Answer {
        if let Some(at) =
            response.headers.cseq().and_then(|n| self.keepalives.iter().position(|k| k.cseq == n))
        {
            let Some(sent) = self.keepalives.remove(at) else { return Answer::Stray };
            return self.keepalive_answer(sent, response);
        }
        let sent = match (self.awaited.take(), response.headers.cseq()) {
            (Some(sent), Some(number)) if number < sent.cseq => {
                self.awaited = Some(sent);
                return Answer::Stray;
            }
            (Some(sent), _) => sent,
            // Without a number it answers the oldest keepalive
            (None, None) => match self.keepalives.pop_front() {
                Some(sent) => return self.keepalive_answer(sent, response),
                None => return Answer::Stray,
            },
            (None, Some(_)) => return Answer::Stray,
        };
        self.parser.set_body_until_next(false);
        if sent.method == "SETUP" || sent.method == "PLAY" {
            self.note_session(response);
        }
        if response.status == 401 {
            return match self.challenged(response) {
                Ok(()) => self.repeat(sent, None, now + reply_timeout),
                Err(rejected) => Answer::Refused(rejected),
            };
        }
        self.auth.accepted();
        if response.status == 454 && !sent.session_retried && self.latest_session != self.session {
            let latest = self.latest_session.clone();
            let sent = Sent { session_retried: true, ..sent };
            return self.repeat(sent, latest, now + reply_timeout);
        }
        Answer::Reply(sent)
    }

    fn keepalive_answer(&mut self, sent: Sent, response: &Response) -> Answer {
        if response.status != 401 {
            self.auth.accepted();
            return Answer::Keepalive { ok: response.status == 200 };
        }
        match self.challenged(response) {
            Ok(()) => {
                let (sent, bytes) = self.encode(sent, None);
                self.remember_keepalive(sent);
                Answer::Repeat(bytes)
            }
            Err(_) => Answer::Keepalive { ok: false },
        }
    }

    fn repeat(&mut self, sent: Sent, session: Option<String>, deadline: Duration) -> Answer {
        let (sent, bytes) = self.encode(Sent { deadline, ..sent }, session.as_deref());
        self.parser.set_body_until_next(sent.method == "DESCRIBE");
        self.awaited = Some(sent);
        Answer::Repeat(bytes)
    }

    fn challenged(&mut self, response: &Response) -> Result<(), auth::Rejected> {
        let lines: Vec<&str> = response.headers.all("WWW-Authenticate").collect();
        if !self.has_credentials
            && self.line_host.is_none()
            && lines.iter().any(|line| line.contains(TP_LINK_REALM))
        {
            self.line_host = Some("127.0.0.1");
            return Ok(());
        }
        self.auth.rejected(lines)
    }

    fn note_session(&mut self, response: &Response) {
        let Some(header) = response.headers.get("Session").and_then(SessionHeader::parse) else { return };
        if response.status != 200 {
            return;
        }
        if self.session.is_none() {
            self.session = Some(header.id.clone());
            self.session_timeout = header.timeout;
        }
        self.latest_session = Some(header.id);
    }
}
