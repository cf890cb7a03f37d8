//! Keeping secrets out of logs, error messages and API answers.
//!
//! Three kinds: the userinfo of a URL (`rtsp://***@host`), values of query keys such as `password` and `token`, and
//! the values of `${VAR}` variables.

use parking_lot::RwLock;
use serde::Deserialize;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// Secrets shorter than this, in bytes, are only masked where they stand as a whole word: the port `1` would
/// otherwise turn every line into stars.
pub const SHORT: usize = 4;

/// A value that prints as `***`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { MASK })
    }
}

/// Masks secrets in texts; clones share the list of values.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    values: Arc<RwLock<Vec<Secret>>>,
}

impl Redactor {
    /// A redactor for these values of variables.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let redactor = Self::default();
        redactor.add(values);
        redactor
    }

    /// Adds values, also in percent-encoded form. Values are never forgotten.
    pub fn add(&self, values: impl IntoIterator<Item = String>) {
        let mut list = self.values.write();
        for value in values {
            let value = value.trim();
            let encoded = percent_encode(value);
            for value in [value, encoded.as_str()] {
                if !value.is_empty() && value != MASK && !list.iter().any(|old| old.0 == value) {
                    list.push(Secret::new(value));
                }
            }
        }
        // A secret that holds another one goes first.
        list.sort_by_key(|value| std::cmp::Reverse(value.0.len()));
    }

    /// Masks everything: values of variables, userinfo, query keys. For logs and errors, and for API answers to
    /// callers that are not logged in.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let text = self.redact_values(text);
        let text = chain(text, mask_userinfo);
        let text = chain(text, mask_query);
        chain(text, mask_authorization)
    }

    /// Masks the values of variables only: for API answers to callers that are logged in.
    pub fn redact_values<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for value in self.values.read().iter() {
            if text.contains(&value.0) {
                text = Cow::Owned(mask_value(&text, &value.0));
            }
        }
        text
    }
}

/// Masks the userinfo of every URL in a text: what stands between `://` and the last `@` before the first `/`. A
/// password that holds a `/` is found by its colon, which no port follows. Percent-encoded URLs count too.
pub fn mask_userinfo(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut done = 0;
    let mut at = 0;
    while let Some((start, encoded)) = next_authority(text, at) {
        let rest = text.get(start..).unwrap_or_default();
        let token = authority_of(rest);
        at = start;
        if let Some(len) = userinfo_len(token, encoded) {
            out.push_str(text.get(done..start).unwrap_or_default());
            out.push_str(MASK);
            done = start + len;
            at = done;
        }
    }
    finish(text, out, done)
}

/// Masks the values of query keys that hold secrets: `user`, `password`, `auth`, `token` and their kin.
pub fn mask_query(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut done = 0;
    for (at, _) in text.match_indices('=') {
        if at < done {
            continue;
        }
        let before = text.get(..at).unwrap_or_default();
        let key_len = before.len()
            - before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || "_-".contains(c)).len();
        let key = before.get(before.len() - key_len..).unwrap_or_default();
        if !is_secret_key(key) {
            continue;
        }
        let value = text.get(at + 1..).unwrap_or_default();
        let len = value.find(|c: char| ends_url(c) || matches!(c, '&' | '#' | ';')).unwrap_or(value.len());
        if len > 0 {
            out.push_str(text.get(done..=at).unwrap_or_default());
            out.push_str(MASK);
            done = at + 1 + len;
        }
    }
    finish(text, out, done)
}

/// Masks the rest of a line after an `Authorization:` header.
fn mask_authorization(text: &str) -> Cow<'_, str> {
    const HEADER: &str = "authorization:";
    let lower = text.to_ascii_lowercase();
    let mut out = String::new();
    let mut done = 0;
    for (at, _) in lower.match_indices(HEADER) {
        let start = at + HEADER.len();
        if start < done {
            continue;
        }
        let rest = text.get(start..).unwrap_or_default();
        let len = rest.find(['\r', '\n']).unwrap_or(rest.len());
        if len > 0 {
            out.push_str(text.get(done..start).unwrap_or_default());
            out.push(' ');
            out.push_str(MASK);
            done = start + len;
        }
    }
    finish(text, out, done)
}

/// Whether a query key or log field of this name holds a secret.
pub fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    // Some cameras write their query with underscores: `/user=admin_password=x_channel=1`.
    let last = key.rsplit(['_', '-']).next().unwrap_or(&key);
    matches!(
        last,
        "user"
            | "username"
            | "password"
            | "passwd"
            | "pass"
            | "pwd"
            | "auth"
            | "token"
            | "secret"
            | "private"
            | "pin"
    ) || matches!(key.as_str(), "api_key" | "apikey" | "api-key" | "credential" | "authorization")
}

fn mask_value(text: &str, value: &str) -> String {
    if value.len() >= SHORT {
        return text.replace(value, MASK);
    }
    let mut out = String::new();
    let mut done = 0;
    for (at, _) in text.match_indices(value) {
        let end = at + value.len();
        let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let alone = !word(text.get(..at).and_then(|t| t.chars().next_back()))
            && !word(text.get(end..).and_then(|t| t.chars().next()));
        if alone && at >= done {
            out.push_str(text.get(done..at).unwrap_or_default());
            out.push_str(MASK);
            done = end;
        }
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

/// Offset after the next `://` (or `%3A%2F%2F`), and whether it is percent-encoded.
fn next_authority(text: &str, from: usize) -> Option<(usize, bool)> {
    let rest = text.get(from..)?;
    let plain = rest.find("://").map(|at| (from + at + 3, false));
    let encoded = rest
        .match_indices('%')
        .find(|(at, _)| rest.get(*at..at + 9).is_some_and(|word| word.eq_ignore_ascii_case("%3A%2F%2F")))
        .map(|(at, _)| (from + at + 9, true));
    match (plain, encoded) {
        (Some(plain), Some(encoded)) => Some(plain.min(encoded)),
        (plain, encoded) => plain.or(encoded),
    }
}

/// Length of the userinfo at the start of what follows `://`, without the `@`.
fn userinfo_len(token: &str, encoded: bool) -> Option<usize> {
    let slash = token
        .char_indices()
        .find(|(at, c)| {
            *c == '/'
                || encoded && token.get(*at..at + 3).is_some_and(|word| word.eq_ignore_ascii_case("%2F"))
        })
        .map_or(token.len(), |(at, _)| at);
    let authority = token.get(..slash)?;
    let last_at = |text: &str| if encoded { text.rfind('@').max(text.rfind("%40")) } else { text.rfind('@') };
    if let Some(at) = last_at(authority) {
        return Some(at);
    }
    let port =
        authority.rsplit_once(']').map_or(authority, |(_, rest)| rest).split_once(':').map(|(_, port)| port);
    let is_password = port.is_some_and(|port| !port.chars().all(|c| c.is_ascii_digit()));
    if is_password { last_at(token) } else { None }
}

/// The URL at the start of `text`, whose scheme has been passed over: to the first blank, unless this stands in a password,
/// as people write them.
fn authority_of(text: &str) -> &str {
    let token = text.split(ends_url).next().unwrap_or_default();
    let starts_password = !token.contains(['/', '@', '['])
        && token.split_once(':').is_some_and(|(_, word)| !word.chars().all(|c| c.is_ascii_digit()));
    let wide = text.split(['/', '"', '<', '>', '\r', '\n']).next().unwrap_or_default();
    if starts_password && wide.contains('@') { wide } else { token }
}

/// Characters that end a URL within a text.
fn ends_url(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '<' | '>')
}

fn percent_encode(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn chain<'a>(text: Cow<'a, str>, step: impl Fn(&str) -> Cow<'_, str>) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(text) => match step(text) {
            // The step hands back the same text.
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(new) => Cow::Owned(new),
        },
        Cow::Owned(text) => match step(&text) {
            Cow::Borrowed(_) => Cow::Owned(text),
            Cow::Owned(new) => Cow::Owned(new),
        },
    }
}

fn finish<'a>(text: &'a str, mut out: String, done: usize) -> Cow<'a, str> {
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(done..).unwrap_or_default());
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_with_blanks_are_masked() {
        let cases = [
            ("rtsp://admin:p é@host/x", "rtsp://***@host/x"),
            ("dial rtsp://admin:a b c@10.0.0.1:554/x failed", "dial rtsp://***@10.0.0.1:554/x failed"),
            ("cannot reach rtsp://host:554 of admin@home", "cannot reach rtsp://host:554 of admin@home"),
            ("http://host: refused, ask admin@home", "http://host: refused, ask admin@home"),
            ("rtsp://[::1]:554 is admin@home", "rtsp://[::1]:554 is admin@home"),
        ];
        for (text, masked) in cases {
            assert_eq!(mask_userinfo(text), masked);
        }
    }
}
