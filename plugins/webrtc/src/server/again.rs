//! What comes from a peer after its first offer: candidates, other offers of the same connection, other addresses.

use tokio::sync::oneshot;

use patchbay_sdk::Error;

use super::{Answer, Candidates, Engine, refused};
use crate::peer::setup::random_text;
use crate::sdp::{self, Description};

/// A later offer, for the task of its session.
pub(super) struct Again {
    pub(super) offer: Description,
    /// Candidates for the answer.
    pub(super) told: Vec<String>,
    /// Gets the answer.
    pub(super) reply: oneshot::Sender<Result<String, Error>>,
}

/// Why a fragment was not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum Trickle {
    /// No such session.
    Unknown,
    /// It belongs to another negotiation.
    Other,
    /// ICE cannot start anew.
    Refused(Error),
}

/// The answer to a fragment that starts ICE anew.
#[derive(Debug, Clone)]
pub struct Restarted {
    /// The fragment of this side.
    pub fragment: String,
    /// Entity tag of the new ICE session.
    pub etag: String,
}

impl Engine {
    /// Answers another offer of the connection that a session has; `None` when there is no such session, or the offer is one of
    /// another connection.
    pub async fn again(&self, id: &str, offer: &str) -> Result<Option<Answer>, Error> {
        let offer = Description::parse(&sdp::one_transport(offer))
            .map_err(|error| Error::protocol(error.to_string()))?;
        let offers = match self.sessions.lock().get(id) {
            Some(session) if session.identity == offer.identity() => session.offers.clone(),
            _ => return Ok(None),
        };
        let Some(told) = self.told(id).await else { return Ok(None) };
        let (reply, answer) = oneshot::channel();
        let again = Again { offer, told: told.clone(), reply };
        if offers.send(again).await.is_err() {
            return Ok(None);
        }
        let Ok(answer) = answer.await else { return Ok(None) };
        let answer = Answer::new(id.to_owned(), answer?, told);
        if let Some(session) = self.sessions.lock().get_mut(id) {
            session.etag.clone_from(&answer.etag);
        }
        Ok(Some(answer))
    }

    /// What a session tells its peer now; `None` when it is over. Other candidates than before when the machine has other addresses, which
    /// its connection gets as well.
    async fn told(&self, id: &str) -> Option<Vec<String>> {
        let hub = self.hub().await.ok();
        let (peer, known) = {
            let sessions = self.sessions.lock();
            let session = sessions.get(id)?;
            (session.peer.clone(), session.candidates.clone())
        };
        let Some(hub) = hub.filter(|hub| hub.generation() != known.generation) else {
            return Some(known.told);
        };
        let candidates = self.gather(&hub).await;
        let Candidates { own, told, .. } = candidates.clone();
        peer.add_own(own.iter().filter(|line| !known.own.contains(line)));
        self.sessions.lock().get_mut(id)?.candidates = candidates;
        Some(told)
    }

    /// Gives a session candidates of its peer.
    pub fn candidates(&self, id: &str, lines: &[String]) {
        let peer = self.sessions.lock().get(id).map(|session| session.peer.clone());
        for line in peer.iter().flat_map(|peer| lines.iter().map(move |line| (peer, line))) {
            line.0.add_candidate(line.1);
        }
    }

    /// Takes a fragment (RFC 9725 section 4.3): candidates, or a restart of ICE with them, which is answered. `etag` must be the
    /// session's, or `*`.
    pub async fn fragment(&self, id: &str, etag: &str, fragment: &str) -> Result<Option<Restarted>, Trickle> {
        let peer = {
            let sessions = self.sessions.lock();
            let session = sessions.get(id).ok_or(Trickle::Unknown)?;
            if etag != "*" && etag.trim_matches('"') != session.etag {
                return Err(Trickle::Other);
            }
            session.peer.clone()
        };
        let credentials = sdp::credentials(fragment);
        let told = match credentials {
            Some(_) => self.told(id).await.ok_or(Trickle::Unknown)?,
            None => Vec::new(),
        };
        let restarted = match credentials {
            Some((ufrag, password)) => peer.restart(ufrag, password),
            None => Ok(None),
        };
        let restarted = restarted.map_err(|error| Trickle::Refused(refused(error)))?;
        self.candidates(id, &sdp::fragment_candidates(fragment));
        let Some(agreed) = restarted else { return Ok(None) };
        let etag = random_text(12);
        if let Some(session) = self.sessions.lock().get_mut(id) {
            session.etag.clone_from(&etag);
        }
        Ok(Some(Restarted { fragment: sdp::fragment(&agreed.sdp, &told), etag }))
    }
}
