//! The server's side of Adobe's login ([`super::adobe`]): a challenge for who names the user, good for one answer.

use std::collections::VecDeque;

use patchbay_net::Credentials;

use super::adobe::{self, Challenge};

/// Challenges that wait for their answer; the oldest is forgotten.
const MAX_OPEN: usize = 256;

/// What is said to a client whose application's name has no login in it.
const NEED_AUTH: &str = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";

/// What becomes of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has logged in.
    Allowed,
    /// It has not: the description that its client reads.
    Refused(String),
}

/// The login of a server.
#[derive(Debug)]
pub struct Logins {
    credentials: Credentials,
    open: VecDeque<Challenge>,
}

impl Logins {
    /// A server of one user.
    pub fn new(user: &str, password: &str) -> Self {
        Self { credentials: Credentials::new(user, password), open: VecDeque::new() }
    }

    /// Judges what is behind the application's name of a `connect`. `random` is new each time.
    pub fn judge(&mut self, app: &str, random: [u64; 3]) -> Verdict {
        let query = app.split_once('?').map_or("", |(_, query)| query);
        let value = |wanted: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(key, _)| *key == wanted).map(|(_, value)| value).next()
        };
        let Some(user) = value("user").filter(|_| value("authmod") == Some("adobe")) else {
            return Verdict::Refused(NEED_AUTH.to_owned());
        };
        let (Some(nonce), Some(response)) = (value("challenge"), value("response")) else {
            let [salt, challenge, opaque] = random.map(|number| format!("{number:016x}"));
            let challenge = Challenge { salt, challenge, opaque: Some(opaque) };
            let query = challenge.query(user);
            if self.open.len() == MAX_OPEN {
                self.open.pop_front();
            }
            self.open.push_back(challenge);
            let reason = format!("[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&{query}");
            return Verdict::Refused(reason);
        };
        let opaque = value("opaque");
        let known = self.open.iter().position(|challenge| challenge.opaque.as_deref() == opaque);
        let is_right = known.and_then(|at| self.open.remove(at)).is_some_and(|challenge| {
            user == self.credentials.user.expose()
                && adobe::same(&adobe::response(&self.credentials, &challenge, nonce), response)
        });
        if is_right {
            return Verdict::Allowed;
        }
        let opaque = opaque.unwrap_or_default();
        let reason = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=authfailed";
        Verdict::Refused(format!("{reason}&opaque={opaque}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::adobe::{Asked, asked, name_user};
    use super::*;

    fn refused(verdict: Verdict) -> String {
        match verdict {
            Verdict::Refused(reason) => reason,
            Verdict::Allowed => panic!("it was let in"),
        }
    }

    /// Our own client, from its first word to its last.
    fn login(logins: &mut Logins, as_user: &Credentials) -> (String, Verdict) {
        assert_eq!(asked(&refused(logins.judge("live", [1, 2, 3]))), Some(Asked::User));
        let named = format!("live{}", name_user(as_user));
        let Some(Asked::Answer(challenge)) = asked(&refused(logins.judge(&named, [4, 5, 6]))) else {
            panic!("no challenge");
        };
        let answer = format!("live{}", adobe::answer(as_user, &challenge, 0x00c0_ffee));
        let verdict = logins.judge(&answer, [7, 8, 9]);
        (answer, verdict)
    }

    #[test]
    fn the_right_password_is_let_in_once() {
        let mut logins = Logins::new("bob", "secret");
        let (answer, verdict) = login(&mut logins, &Credentials::new("bob", "secret"));
        assert_eq!(verdict, Verdict::Allowed);
        assert_eq!(asked(&refused(logins.judge(&answer, [1, 2, 3]))), Some(Asked::Refused), "said again");
        for (user, password) in [("bob", "Secret"), ("eve", "secret"), ("bob", "")] {
            let (_, verdict) = login(&mut logins, &Credentials::new(user, password));
            assert_eq!(asked(&refused(verdict)), Some(Asked::Refused), "{user}:{password}");
        }
    }

    proptest! {
        #[test]
        fn nothing_else_is_let_in(app: String, ends in prop::collection::vec("[a-z0-9=&?]{0,40}", 0..4)) {
            let mut logins = Logins::new("bob", "secret");
            for end in [String::new()].iter().chain(&ends) {
                let app = format!("{app}?authmod=adobe&user=bob&challenge=1&response={end}");
                prop_assert!(logins.judge(&app, [1, 2, 3]) != Verdict::Allowed);
            }
            for _ in 0..2 * MAX_OPEN {
                logins.judge("live?authmod=adobe&user=bob", [1, 2, 3]);
            }
            prop_assert!(logins.open.len() <= MAX_OPEN);
        }
    }
}
