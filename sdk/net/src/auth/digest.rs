//! The digest itself.

use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::Challenge;
use crate::Credentials;

/// Hash of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 2617.
    Md5,
    /// RFC 7616.
    Sha256,
}

impl Algorithm {
    /// Algorithm and whether it is a `-sess` one; `None` for others. Absent means MD5.
    pub(super) fn parse(name: Option<&str>) -> Option<(Self, bool)> {
        let name = name.unwrap_or("MD5").to_ascii_uppercase();
        let (base, session) = name.strip_suffix("-SESS").map_or((name.as_str(), false), |base| (base, true));
        match base {
            "" | "MD5" => Some((Self::Md5, session)),
            "SHA-256" | "SHA256" => Some((Self::Sha256, session)),
            _ => None,
        }
    }

    /// Small hex digits of the hash of `text`.
    pub fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).filter_map(|d| char::from_digit(u32::from(d), 16)).collect()
}

/// All that goes into a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Hash.
    pub algorithm: Algorithm,
    /// `-sess` variant.
    pub session: bool,
    /// Realm, unquoted.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// `qop=auth` is used.
    pub qop: bool,
}

impl Digest {
    /// The digest that a challenge asks for; `None` when it asks for what is not known here.
    pub(super) fn from_challenge(challenge: &Challenge) -> Option<Self> {
        let (algorithm, session) = Algorithm::parse(challenge.get("algorithm"))?;
        let qop = challenge.get("qop").unwrap_or_default();
        Some(Self {
            algorithm,
            session,
            realm: challenge.get("realm").unwrap_or_default().to_owned(),
            nonce: challenge.get("nonce")?.to_owned(),
            qop: qop.split([',', ' ']).any(|q| q.trim().eq_ignore_ascii_case("auth")),
        })
    }

    /// The response (RFC 7616 section 3.4.1). `nc` are eight hex digits; it and `cnonce` matter with `qop` or `session`.
    pub fn response(
        &self,
        credentials: &Credentials,
        method: &str,
        uri: &str,
        nc: &str,
        cnonce: &str,
    ) -> String {
        let hash = |text: &str| self.algorithm.hash(text);
        let (user, password) = (credentials.user.expose(), credentials.password.expose());
        let mut ha1 = hash(&format!("{user}:{}:{password}", self.realm));
        if self.session {
            ha1 = hash(&format!("{ha1}:{}:{cnonce}", self.nonce));
        }
        let ha2 = hash(&format!("{method}:{uri}"));
        let nonce = &self.nonce;
        if self.qop {
            hash(&format!("{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}"))
        } else {
            hash(&format!("{ha1}:{nonce}:{ha2}"))
        }
    }
}
