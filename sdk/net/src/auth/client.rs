//! The client's side.

use std::fmt::Write as _;

use super::{Algorithm, Challenge, Digest, basic, parse_challenges};
use crate::Credentials;

/// Most answers to challenges per request (C23).
const MAX_ROUNDS: u32 = 3;

/// Why a request that was answered 401 cannot be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// The server wants a login and none is configured.
    #[error("a user name and password are needed")]
    NoCredentials,
    /// The login was refused with every scheme that both sides know.
    #[error("the user name or password is wrong")]
    Refused,
    /// No challenge that is known here.
    #[error("the login schemes offered are not supported")]
    Unsupported,
}

/// The login of one connection or session: chooses among challenges and answers them (C23, C25, C27).
///
/// Nothing is sent before the first challenge; afterwards every request carries an answer. SHA-256 is preferred to MD5 to
/// Basic; what was refused is not tried again.
#[derive(Debug, Clone)]
pub struct Client {
    credentials: Option<Credentials>,
    current: Option<Answer>,
    /// The last request carried an answer.
    answered: bool,
    /// A request that carried the current answer was accepted.
    proven: bool,
    refused: [bool; 3],
    rounds: u32,
}

#[derive(Debug, Clone)]
enum Answer {
    Basic,
    Digest { digest: Digest, challenge: Challenge, nc: u32 },
}

impl Answer {
    /// Place in the order of preference.
    fn rank(&self) -> usize {
        match self {
            Self::Digest { digest, .. } if digest.algorithm == Algorithm::Sha256 => 0,
            Self::Digest { .. } => 1,
            Self::Basic => 2,
        }
    }

    fn from_challenge(challenge: Challenge) -> Option<Self> {
        if challenge.is("Basic") {
            return Some(Self::Basic);
        }
        if !challenge.is("Digest") {
            return None;
        }
        let digest = Digest::from_challenge(&challenge)?;
        Some(Self::Digest { digest, challenge, nc: 0 })
    }
}

impl Client {
    /// A client that has seen no challenge.
    pub fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials, current: None, answered: false, proven: false, refused: [false; 3], rounds: 0 }
    }

    /// The value of `Authorization` for a request; `None` before the first challenge. `uri` is the text of the request
    /// line (C24). `cnonce` is a fresh random text, used when the server asks for one.
    pub fn authorization(&mut self, method: &str, uri: &str, cnonce: &str) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        let answer = self.current.as_mut()?;
        self.answered = true;
        let Answer::Digest { digest, challenge, nc } = answer else { return Some(basic(credentials)) };
        *nc = nc.wrapping_add(1).max(1);
        let count = format!("{nc:08x}");
        let response = digest.response(credentials, method, uri, &count, cnonce);
        let mut out = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\"",
            quoted(credentials.user.expose()),
            quoted(&digest.realm),
            quoted(&digest.nonce),
            quoted(uri),
        );
        if let Some(algorithm) = challenge.get("algorithm").filter(|a| !a.is_empty()) {
            let _ = write!(out, ", algorithm={}", algorithm.trim());
        }
        if let Some(opaque) = challenge.get("opaque") {
            let _ = write!(out, ", opaque={}", quoted(opaque));
        }
        if digest.qop {
            let _ = write!(out, ", qop=auth, nc={count}, cnonce={}", quoted(cnonce));
        } else if digest.session {
            let _ = write!(out, ", cnonce={}", quoted(cnonce));
        }
        Some(out)
    }

    /// Any answer but 401 came.
    pub fn accepted(&mut self) {
        self.rounds = 0;
        self.proven |= self.answered;
    }

    /// A 401 came with these `WWW-Authenticate` values. `Ok`: repeat the request with a new [`Client::authorization`].
    pub fn rejected<'a>(&mut self, headers: impl IntoIterator<Item = &'a str>) -> Result<(), Rejected> {
        let challenges: Vec<Challenge> = headers.into_iter().flat_map(parse_challenges).collect();
        let stale = |c: &Challenge| c.get("stale").is_some_and(|s| s.eq_ignore_ascii_case("true"));
        let is_stale = challenges.iter().any(stale);
        let mut offers: Vec<Answer> = challenges.into_iter().filter_map(Answer::from_challenge).collect();
        offers.sort_by_key(Answer::rank);
        if offers.is_empty() {
            return Err(Rejected::Unsupported);
        }
        if self.credentials.is_none() {
            return Err(Rejected::NoCredentials);
        }
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return Err(Rejected::Refused);
        }
        if let Some(current) = self.current.as_ref().filter(|_| self.answered) {
            // Stale means that the login is right; one that worked before is repeated once (C25)
            let again = is_stale || (self.rounds == 1 && self.proven);
            if !again && let Some(refused) = self.refused.get_mut(current.rank()) {
                *refused = true;
            }
        }
        let refused = self.refused;
        let next = offers.into_iter().find(|o| refused.get(o.rank()) == Some(&false));
        self.current = Some(next.ok_or(Rejected::Refused)?);
        self.proven = false;
        Ok(())
    }

    /// Forgets the nonce but not which schemes were refused: for a new connection.
    pub fn reset(&mut self) {
        self.current = None;
        self.answered = false;
        self.proven = false;
        self.rounds = 0;
    }
}

/// `text` as a quoted string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
