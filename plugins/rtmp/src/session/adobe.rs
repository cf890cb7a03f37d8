//! Adobe's login: a digest over user, password and two challenges, in the query of the application's name.
//!
//! The first refusal says `authmod=adobe`, the second, to a connection that names the user, gives salt and challenge.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use patchbay_net::Credentials;

/// What a server's refusal asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The user's name.
    User,
    /// An answer to this challenge.
    Answer(Challenge),
    /// Nothing: the login is wrong.
    Refused,
}

/// A server's challenge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Challenge {
    pub(super) salt: String,
    pub(super) challenge: String,
    pub(super) opaque: Option<String>,
}

impl Challenge {
    /// How a server says it.
    pub(super) fn query(&self, user: &str) -> String {
        let opaque = self.opaque.as_ref().map(|opaque| format!("&opaque={opaque}")).unwrap_or_default();
        format!("user={user}&salt={}&challenge={}{opaque}", self.salt, self.challenge)
    }
}

/// Reads the `description` of a refusal. `None`: it is of no login of this kind.
pub fn asked(description: &str) -> Option<Asked> {
    if !description.contains("authmod=adobe") {
        return None;
    }
    // `... : [ ... ] : ?reason=needauth&user=U&salt=S&challenge=C&opaque=O`
    let Some((_, query)) = description.split_once('?') else { return Some(Asked::User) };
    let value = |wanted: &str| {
        query.split('&').find_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            (key == wanted).then(|| value.to_owned())
        })
    };
    match (value("salt"), value("challenge"), value("opaque")) {
        (Some(salt), Some(challenge), opaque) => Some(Asked::Answer(Challenge { salt, challenge, opaque })),
        (Some(salt), None, Some(opaque)) => {
            Some(Asked::Answer(Challenge { salt, challenge: opaque.clone(), opaque: Some(opaque) }))
        }
        _ if value("reason").as_deref() == Some("authfailed") => Some(Asked::Refused),
        _ => Some(Asked::User),
    }
}

/// What goes behind the application's name to name the user.
pub fn name_user(credentials: &Credentials) -> String {
    format!("?authmod=adobe&user={}", credentials.user.expose())
}

/// What goes there to answer `challenge`; `nonce` is our own challenge.
pub fn answer(credentials: &Credentials, challenge: &Challenge, nonce: u32) -> String {
    let nonce = format!("{nonce:08x}");
    let user = credentials.user.expose();
    let response = response(credentials, challenge, &nonce);
    let opaque = challenge.opaque.as_ref().map(|opaque| format!("&opaque={opaque}")).unwrap_or_default();
    format!("?authmod=adobe&user={user}&challenge={nonce}&response={response}{opaque}")
}

/// The right answer to a challenge and the client's own.
pub(super) fn response(credentials: &Credentials, challenge: &Challenge, nonce: &str) -> String {
    let first = hash(&[credentials.user.expose(), &challenge.salt, credentials.password.expose()]);
    let middle = challenge.opaque.as_deref().unwrap_or(&challenge.challenge);
    hash(&[&first, middle, nonce])
}

/// Compares in a time that tells only the length.
pub(super) fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

fn hash(parts: &[&str]) -> String {
    STANDARD.encode(Md5::digest(parts.concat().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_other_clients() {
        let bob = Credentials::new("bob", "secret");
        assert_eq!(hash(&["bob", "kq==", "secret"]), "I+isPUcHiNkDFwYJeZpg8A==");
        let mut challenge = Challenge {
            salt: "kq==".to_owned(),
            challenge: "xyz123".to_owned(),
            opaque: Some("opq456".to_owned()),
        };
        assert_eq!(
            answer(&bob, &challenge, 0x00c0_ffee),
            "?authmod=adobe&user=bob&challenge=00c0ffee&response=ce7q8TaWwzqFOd2scFq4Ng==&opaque=opq456"
        );
        challenge.opaque = None;
        assert!(answer(&bob, &challenge, 0x00c0_ffee).ends_with("response=lrcrfpHKoL9gXjS+r20wfQ=="));
    }

    #[test]
    fn refusals() {
        let first = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";
        assert_eq!(asked(first), Some(Asked::User));
        let second = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=bob&salt=kq==&challenge=xyz123&opaque=opq456";
        let challenge = Challenge {
            salt: "kq==".to_owned(),
            challenge: "xyz123".to_owned(),
            opaque: Some("opq456".to_owned()),
        };
        assert_eq!(asked(second), Some(Asked::Answer(challenge)));
        let third = "[ authmod=adobe ] : ?reason=authfailed&opaque=opq456";
        assert_eq!(asked(third), Some(Asked::Refused));
        assert_eq!(asked("stream not found"), None);
    }
}
