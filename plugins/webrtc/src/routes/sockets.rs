//! Messages on `/api/ws`: an offer, and candidates of both sides, which may come before it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use patchbay_sdk::Error;
use patchbay_sdk::routes::{Body, Reply, Request};
use serde_json::{Value, json};

use super::{connection, message as text, target};
use crate::candidate;
use crate::server::{Ask, Engine};

/// Most connections whose offer is waited for. Those with a session are as many as sessions are.
const MAX_SOCKETS: usize = 1024;

/// Most candidates that wait for their offer.
const MAX_WAITING: usize = 64;

/// A connection that made no offer for so long is forgotten.
const WAITING_FOR: Duration = Duration::from_secs(60);

/// What is remembered of WebSocket connections.
#[derive(Default)]
pub struct Sockets {
    sockets: Mutex<HashMap<u64, Socket>>,
}

struct Socket {
    at: Instant,
    state: State,
}

enum State {
    /// Candidates that came before the offer was answered.
    Waiting(Vec<String>),
    /// The session of the offer.
    Session(String),
}

impl Sockets {
    /// Keeps a candidate, or gives back the session that it is for.
    fn candidate(&self, socket: u64, line: &str, now: Instant) -> Option<String> {
        let mut sockets = self.sockets.lock();
        let is_waiting = |known: &Socket| matches!(known.state, State::Waiting(_));
        sockets
            .retain(|_, known| !is_waiting(known) || now.saturating_duration_since(known.at) < WAITING_FOR);
        let waiting = sockets.values().filter(|known| is_waiting(known)).count();
        if waiting >= MAX_SOCKETS && !sockets.contains_key(&socket) {
            return None;
        }
        let known =
            sockets.entry(socket).or_insert_with(|| Socket { at: now, state: State::Waiting(Vec::new()) });
        known.at = now;
        match &mut known.state {
            State::Session(id) => Some(id.clone()),
            State::Waiting(lines) => {
                if lines.len() < MAX_WAITING {
                    lines.push(line.to_owned());
                }
                None
            }
        }
    }

    /// From now on candidates are for this session; gives back those that waited.
    fn opened(&self, socket: u64, id: &str, now: Instant) -> Vec<String> {
        let state = State::Session(id.to_owned());
        let mut sockets = self.sockets.lock();
        match sockets.insert(socket, Socket { at: now, state }).map(|known| known.state) {
            Some(State::Waiting(lines)) => lines,
            _ => Vec::new(),
        }
    }

    /// The session of the last offer on a connection.
    fn session(&self, socket: u64) -> Option<String> {
        match &self.sockets.lock().get(&socket)?.state {
            State::Session(id) => Some(id.clone()),
            State::Waiting(_) => None,
        }
    }

    /// A session is over.
    pub fn forget(&self, session: &str) {
        let is_of = |known: &Socket| matches!(&known.state, State::Session(id) if id == session);
        self.sockets.lock().retain(|_, known| !is_of(known));
    }
}

/// Answers one message.
pub(super) async fn message(
    engine: &Arc<Engine>,
    request: &Request,
    kind: &str,
    body: &Body,
) -> Result<Reply, Error> {
    if kind == "webrtc/candidate" {
        let line = request.value.as_ref().and_then(Value::as_str).unwrap_or("");
        let line = candidate::normalised(line);
        // An empty one means that no more come.
        if candidate::is_usable(&line)
            && let Some(id) = engine.signalling().candidate(request.socket, &line, Instant::now())
        {
            engine.candidates(&id, &[line]);
        }
        return Ok(Reply::Messages(Vec::new()));
    }
    // `webrtc/offer` has the description as its value, `webrtc` an object.
    let is_object = kind == "webrtc";
    let value = request.value.as_ref();
    let offer = if is_object { value.and_then(|value| value.get("sdp")) } else { value };
    let Some(offer) = offer.and_then(Value::as_str) else {
        return Err(Error::protocol("the offer is missing"));
    };
    // A page that offers again on the same connection changes what it has; one with a new connection begins anew.
    let known = match engine.signalling().session(request.socket) {
        Some(id) => engine.again(&id, offer).await?,
        None => None,
    };
    let answer = match known {
        Some(answer) => answer,
        None => {
            let (stream, is_publisher) =
                target(request).ok_or_else(|| Error::not_found("stream not found"))?;
            let ask = Ask {
                stream,
                query: request.query.clone(),
                offer: offer.to_owned(),
                is_publisher,
                connection: connection(request, "webrtc", "ws"),
            };
            let answer = engine.open(body.context(), ask).await?;
            let waited = engine.signalling().opened(request.socket, &answer.id, Instant::now());
            engine.candidates(&answer.id, &waited);
            answer
        }
    };
    let first = if is_object {
        text("webrtc", json!({"type": "answer", "sdp": answer.bare}))
    } else {
        text("webrtc/answer", answer.bare.into())
    };
    let candidates = answer.candidates.into_iter().map(|line| text("webrtc/candidate", line.into()));
    Ok(Reply::Messages(std::iter::once(first).chain(candidates).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_wait_for_their_offer() {
        let (sockets, now) = (Sockets::default(), Instant::now());
        assert_eq!(sockets.candidate(1, "a", now), None);
        assert_eq!(sockets.candidate(2, "x", now), None);
        assert_eq!(sockets.candidate(1, "b", now), None);
        assert_eq!(sockets.opened(1, "session", now), ["a", "b"]);
        assert_eq!(sockets.candidate(1, "c", now), Some("session".to_owned()));
        // An offer of another connection is a session of its own.
        assert!(sockets.opened(1, "next", now).is_empty());
        assert_eq!(sockets.candidate(1, "d", now), Some("next".to_owned()));
        assert_eq!((sockets.session(1), sockets.session(2)), (Some("next".to_owned()), None));
        for number in 0..100 {
            sockets.candidate(2, &number.to_string(), now);
        }
        assert_eq!(sockets.opened(2, "other", now).len(), MAX_WAITING);
        // A session is known until it is over; what waits a minute.
        assert_eq!(sockets.candidate(3, "y", now), None);
        let later = now + WAITING_FOR;
        assert_eq!(sockets.candidate(1, "e", later), Some("next".to_owned()));
        assert!(sockets.opened(3, "third", later).is_empty());
        sockets.forget("next");
        assert_eq!(sockets.candidate(1, "f", later), None);
    }
}
