//! Source URLs as users write them.

use std::fmt;

use percent_encoding::percent_decode_str;

use crate::Secret;

/// Longest URL that is read, in bytes.
pub const MAX_URL_BYTES: usize = 8 << 10;

/// Query and option keys whose values are secrets.
const SECRET_KEYS: [&str; 9] =
    ["user", "username", "password", "passwd", "pwd", "pass", "auth", "token", "access_token"];

/// A name and a password.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// The user's name; secret too, since some devices put tokens there.
    pub user: Secret,
    /// The password; empty when none was written.
    pub password: Secret,
}

impl Credentials {
    /// Credentials in the clear.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: Secret::new(user), password: Secret::new(password) }
    }
}

/// Why a text is no source URL. Never holds the text, which may be secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// No `scheme://`.
    #[error("the URL has no scheme such as rtsp://")]
    NoScheme,
    /// Nothing where the host belongs.
    #[error("the URL has no host")]
    NoHost,
    /// The text behind the host's colon is no port.
    #[error("the URL's port is not a number from 1 to 65535")]
    Port,
    /// Blank or control characters before the options.
    #[error("the URL has a blank or a control character in it")]
    Blank,
    /// Longer than [`MAX_URL_BYTES`].
    #[error("the URL is longer than {MAX_URL_BYTES} bytes")]
    TooLong,
}

/// `scheme://[user[:password]@]host[:port][/path][?query][#key[=value]]...`
///
/// The user info ends at the last `@` before the first `/` and alone is percent-decoded; path and query stay byte for byte
/// (C2). Options start at the first `#` behind the user info and are split at each `#`; they are not decoded and may repeat.
///
/// `Display` and `Debug` hide the user info and the values of secret keys; [`SourceUrl::expose`] hides nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceUrl {
    raw: String,
    scheme: String,
    credentials: Option<Credentials>,
    host: String,
    port: Option<u16>,
    path_and_query: String,
    options: Vec<(String, String)>,
}

impl SourceUrl {
    /// Parses a URL.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        if text.len() > MAX_URL_BYTES {
            return Err(UrlError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::NoScheme)?;
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"+-._".contains(b);
        if scheme.is_empty() || !scheme.as_bytes().iter().all(plain) {
            return Err(UrlError::NoScheme);
        }
        let (user_info, rest) = split_user_info(rest);
        let credentials = user_info.map(|info| {
            let (user, password) = info.split_once(':').unwrap_or((info, ""));
            let decode = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
            Credentials::new(decode(user), decode(password))
        });
        let (rest, options) = rest.split_once('#').unwrap_or((rest, ""));
        if rest.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(UrlError::Blank);
        }
        let (authority, path_and_query) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = split_port(authority)?;
        if host.is_empty() {
            return Err(UrlError::NoHost);
        }
        let options = options.split('#').filter(|o| !o.is_empty()).map(|option| {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            (key.to_owned(), value.to_owned())
        });
        Ok(Self {
            raw: text.to_owned(),
            scheme: scheme.to_ascii_lowercase(),
            credentials,
            host: host.to_owned(),
            port,
            path_and_query: path_and_query.to_owned(),
            options: options.collect(),
        })
    }

    /// Scheme in small letters.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Decoded user info.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Host name or address; IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether the host is an address, which certificates are seldom made for.
    pub fn host_is_ip(&self) -> bool {
        self.host.parse::<std::net::IpAddr>().is_ok()
    }

    /// Port as written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Path and query as written: empty, or starting with `/` or `?`.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// `host[:port]` as written, IPv6 in brackets.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    /// The URL to put on a wire: `scheme`, host, port, path and query, without user info and options.
    pub fn request_url(&self, scheme: &str) -> String {
        format!("{scheme}://{}{}", self.authority(), self.path_and_query)
    }

    /// All options in their order.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Value of the last option `key`; empty when it was written without `=`.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The URL that `reference` means in a document from here (RFC 3986 5.2), such as a `Location`: with the login when it is the
    /// same server, without options.
    pub fn join(&self, reference: &str) -> Result<Self, UrlError> {
        let (reference, _) = reference.trim().split_once('#').unwrap_or((reference.trim(), ""));
        let scheme = self.scheme();
        let base = format!("{scheme}://{}", self.authority());
        let path = self.path_and_query().split('?').next().unwrap_or_default();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let colon = reference.find("://");
        let absolute = colon.is_some_and(|at| !reference.get(..at).unwrap_or_default().contains(['/', '?']));
        let text = if absolute {
            reference.to_owned()
        } else if let Some(rest) = reference.strip_prefix("//") {
            format!("{scheme}://{rest}")
        } else if reference.starts_with('/') {
            format!("{base}{}", without_dots(reference))
        } else if reference.starts_with('?') {
            format!("{base}{path}{reference}")
        } else {
            format!("{base}{}", without_dots(&format!("{folder}/{reference}")))
        };
        let url = Self::parse(&text)?;
        if url.credentials().is_some() || !self.may_share_secrets(&url) {
            return Ok(url);
        }
        // Written again with the user info as it was
        let user_info = self.expose().split_once("://").and_then(|(_, rest)| {
            let end = rest.find('/').unwrap_or(rest.len());
            rest.get(..end)?.rsplit_once('@').map(|(user_info, _)| user_info.to_owned())
        });
        match (user_info, text.split_once("://")) {
            (Some(user_info), Some((scheme, rest))) => Self::parse(&format!("{scheme}://{user_info}@{rest}")),
            _ => Ok(url),
        }
    }

    /// Whether what is secret here may be sent to `other`: the same host, and not from TLS to plain text.
    pub fn may_share_secrets(&self, other: &Self) -> bool {
        self.host().eq_ignore_ascii_case(other.host())
            && (self.scheme() == "http" || other.scheme() != "http")
    }

    /// The whole text with its secrets.
    pub fn expose(&self) -> &str {
        &self.raw
    }
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.raw))
    }
}

impl fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceUrl({self})")
    }
}

/// A path without `.` and `..`; the query stays. RFC 3986 5.2.4.
fn without_dots(path_and_query: &str) -> String {
    let (path, query) = path_and_query.split_at(path_and_query.find('?').unwrap_or(path_and_query.len()));
    if !path.split('/').any(|part| part == "." || part == "..") {
        return path_and_query.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    let mut folder = false;
    for part in path.split('/').skip(1) {
        folder = matches!(part, "." | "..");
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if folder && !parts.is_empty() { "/" } else { "" };
    format!("/{}{end}{query}", parts.join("/"))
}

/// `text`, which should be a URL, without its secrets (X11): the user info becomes `***`, as do the values of query keys,
/// options and path parts named `user`, `password`, `auth`, `token` and the like, and of the option `header`.
pub fn redact(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return redact_keys(text) };
    // Only what comes behind the last scheme-like prefix can hold user info: `webrtc:http://...`
    let (user_info, rest) = split_user_info(rest);
    let stars = if user_info.is_some() { "***@" } else { "" };
    let (place, options) = rest.split_once('#').map_or((rest, None), |(p, o)| (p, Some(o)));
    let mut out = format!("{scheme}://{stars}{}", redact_keys(place));
    for option in options.into_iter().flat_map(|o| o.split('#')) {
        out.push('#');
        match option.split_once('=') {
            Some((key, _)) if key.eq_ignore_ascii_case("header") || is_secret(key) => {
                out.push_str(key);
                out.push_str("=***");
            }
            Some((key, value)) if value.contains("://") => {
                out.push_str(key);
                out.push('=');
                out.push_str(&redact(value));
            }
            _ => out.push_str(&redact_keys(option)),
        }
    }
    out
}

/// User info and what follows its `@`.
fn split_user_info(rest: &str) -> (Option<&str>, &str) {
    let end = rest.find('/').unwrap_or(rest.len());
    match rest.get(..end).and_then(|authority| authority.rfind('@')) {
        Some(at) => (rest.get(..at), rest.get(at + 1..).unwrap_or_default()),
        None => (None, rest),
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), UrlError> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(UrlError::NoHost)?;
        (host, rest.strip_prefix(':').unwrap_or(rest))
    } else if authority.matches(':').count() > 1 {
        (authority, "") // an IPv6 address without brackets
    } else {
        authority.split_once(':').unwrap_or((authority, ""))
    };
    match port {
        "" => Ok((host, None)),
        _ => match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok((host, Some(port))),
            _ => Err(UrlError::Port),
        },
    }
}

fn is_secret(key: &str) -> bool {
    SECRET_KEYS.iter().any(|k| k.eq_ignore_ascii_case(key))
}

/// Replaces the values of secret keys in a path and its query. In a path a value reaches to the next `/`: firmware by
/// Xiongmai takes `/user=admin_password=x_channel=1`.
fn redact_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(['/', '?', '&', ';', '#']) {
        let body = part.trim_end_matches(['/', '?', '&', ';', '#']);
        let tail = part.get(body.len()..).unwrap_or_default();
        match body.split_once('=') {
            Some((key, value)) if is_secret(key.trim()) && !value.is_empty() => {
                out.push_str(key);
                out.push_str("=***");
            }
            _ => out.push_str(body),
        }
        out.push_str(tail);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user_password(url: &SourceUrl) -> Option<(&str, &str)> {
        url.credentials().map(|c| (c.user.expose(), c.password.expose()))
    }

    #[test]
    fn joined_urls_keep_the_login_on_the_same_server_only() {
        let from = SourceUrl::parse("http://u:p%40@cam:81/a/b?x=1").unwrap();
        for (location, expected) in [
            ("/c", "http://u:p%40@cam:81/c"),
            ("c?d", "http://u:p%40@cam:81/a/c?d"),
            ("?d", "http://u:p%40@cam:81/a/b?d"),
            ("http://cam/x", "http://u:p%40@cam/x"),
            ("https://cam/x", "https://u:p%40@cam/x"),
            ("http://other/x", "http://other/x"),
            ("//other/x", "http://other/x"),
            ("../c.ts?u=http://x/../y", "http://u:p%40@cam:81/c.ts?u=http://x/../y"),
            ("./c/../d/.", "http://u:p%40@cam:81/a/d/"),
            ("/../../c", "http://u:p%40@cam:81/c"),
            ("http://v:q@cam/x", "http://v:q@cam/x"),
        ] {
            assert_eq!(from.join(location).unwrap().expose(), expected, "{location}");
        }
        let tls = SourceUrl::parse("https://u:p@cam/").unwrap();
        assert_eq!(tls.join("http://cam/x").unwrap().expose(), "http://cam/x");
    }

    #[test]
    fn c2_urls() {
        type Row<'a> = (&'a str, Option<(&'a str, &'a str)>, &'a str, Option<u16>, &'a str);
        let rows: [Row; 12] = [
            ("rtsp://host", None, "host", None, ""),
            ("rtsp://host:8554/a/b?x=1", None, "host", Some(8554), "/a/b?x=1"),
            (
                "rtsp://admin:12345@10.0.0.2/Streaming",
                Some(("admin", "12345")),
                "10.0.0.2",
                None,
                "/Streaming",
            ),
            ("rtsp://admin:p@ss:w@h/x", Some(("admin", "p@ss:w")), "h", None, "/x"),
            ("rtsp://admin:p%40s%2Fs%23@h/x", Some(("admin", "p@s/s#")), "h", None, "/x"),
            ("rtsp://admin:p#ss@h/x#timeout=3", Some(("admin", "p#ss")), "h", None, "/x"),
            (
                "rtsp://u:p@h/cam/realmonitor?channel=1&subtype=0&unicast=true",
                Some(("u", "p")),
                "h",
                None,
                "/cam/realmonitor?channel=1&subtype=0&unicast=true",
            ),
            (
                "rtsp://h/user=admin_password=x_channel=1.sdp",
                None,
                "h",
                None,
                "/user=admin_password=x_channel=1.sdp",
            ),
            ("rtsp://h/a%20b?c=%2f&d=@e", None, "h", None, "/a%20b?c=%2f&d=@e"),
            ("rtsp://u@[fe80::1]:554/x", Some(("u", "")), "fe80::1", Some(554), "/x"),
            ("rtsp://::1/x", None, "::1", None, "/x"),
            ("RTSPX://h:7441/abc?enableSrtp", None, "h", Some(7441), "/abc?enableSrtp"),
        ];
        for (text, user, host, port, path) in rows {
            let url = SourceUrl::parse(text).unwrap();
            assert_eq!(user_password(&url), user, "{text}");
            assert_eq!((url.host(), url.port(), url.path_and_query()), (host, port, path), "{text}");
            assert_eq!(url.expose(), text);
        }
    }

    #[test]
    fn c3_options_split_at_each_hash_and_are_not_decoded() {
        let url =
            SourceUrl::parse("rtsp://h/x?y#timeout=30#media=video#backchannel#transport=ws://u:p@h/%2f")
                .unwrap();
        let options: Vec<_> = url.options().collect();
        assert_eq!(
            options,
            [("timeout", "30"), ("media", "video"), ("backchannel", ""), ("transport", "ws://u:p@h/%2f")]
        );
        assert_eq!(url.option("media"), Some("video"));
        assert_eq!(url.option("none"), None);
        assert_eq!(url.request_url("rtsp"), "rtsp://h/x?y");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for (text, error) in [
            ("host/x", UrlError::NoScheme),
            ("://h", UrlError::NoScheme),
            ("rtsp:///x", UrlError::NoHost),
            ("rtsp://u:p@/x", UrlError::NoHost),
            ("rtsp://h:0/x", UrlError::Port),
            ("rtsp://h:99999/x", UrlError::Port),
            ("rtsp://h/a b", UrlError::Blank),
            ("rtsp://h/a\r\nX: y", UrlError::Blank),
        ] {
            assert_eq!(SourceUrl::parse(text), Err(error), "{text}");
        }
        let long = format!("rtsp://h/{}", "a".repeat(MAX_URL_BYTES));
        assert_eq!(SourceUrl::parse(&long), Err(UrlError::TooLong));
    }

    #[test]
    fn x11_secrets_are_hidden() {
        for (text, shown) in [
            ("rtsp://admin:s3cret@h/x", "rtsp://***@h/x"),
            ("rtsp://admin:s3@cret@h:554/x?y=1", "rtsp://***@h:554/x?y=1"),
            ("http://h/x?user=s3cret&password=s3cret&a=b", "http://h/x?user=***&password=***&a=b"),
            ("http://h/x?Token=s3cret#timeout=3", "http://h/x?Token=***#timeout=3"),
            ("rtsp://h/user=s3_password=cret_channel=1/y", "rtsp://h/user=***/y"),
            ("http://h/#header=Authorization: Bearer s3cret", "http://h/#header=***"),
            ("rtsp://h/#transport=ws://u:s3cret@h/x", "rtsp://h/#transport=ws://***@h/x"),
            ("hass:x?token=s3cret", "hass:x?token=***"),
        ] {
            assert_eq!(redact(text), shown);
            if let Ok(url) = SourceUrl::parse(text) {
                assert_eq!(url.to_string(), shown);
                assert!(!format!("{url:?}").contains("s3"));
            }
        }
        assert_eq!(format!("{:?} {}", Secret::new("s3cret"), Secret::new("s3cret")), "*** ***");
    }

    proptest! {
        #[test]
        fn any_text_never_panics(text in ".{0,200}", url in "rtsp://[a-z:@/#?=%0-9\\[\\]]{0,60}") {
            let _ = (SourceUrl::parse(&text), redact(&text), SourceUrl::parse(&url), redact(&url));
        }

        #[test]
        fn a_password_is_never_shown(password in "[a-zA-Z0-9@:#?&=]{6,20}", path in "[a-z/]{0,10}") {
            let text = format!("rtsp://u:Q{password}Q@host/{path}");
            let shown = redact(&text);
            let secret = format!("Q{password}Q");
            prop_assert!(!shown.contains(&secret));
            let url = SourceUrl::parse(&text).unwrap();
            prop_assert_eq!(url.host(), "host");
            prop_assert_eq!(url.credentials().unwrap().password.expose(), secret.as_str());
        }
    }
}
