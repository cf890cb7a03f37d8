//! What the URL of a request means (S1, S2, S13).

/// A request URL, taken apart without changing a byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// `rtsp://host:port` as the client wrote it; empty when the URL is only a path.
    pub origin: String,
    /// Path without the leading slash, not decoded.
    pub path: String,
    /// Query without `?`, not decoded.
    pub query: String,
}

impl Target {
    /// Takes `url` apart. Never fails: `*` is an empty target.
    pub fn parse(url: &str) -> Self {
        let url = url.trim();
        let (origin, rest) = match url.find("://") {
            Some(at) => {
                let host = url.get(at + 3..).unwrap_or_default();
                let len = host.find(['/', '?']).unwrap_or(host.len());
                url.split_at(at + 3 + len)
            }
            None => ("", url),
        };
        if rest == "*" {
            return Self::default();
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Self {
            origin: without_userinfo(origin),
            path: path.strip_prefix('/').unwrap_or(path).to_owned(),
            query: query.to_owned(),
        }
    }

    /// The decoded name of the stream.
    pub fn stream(&self) -> String {
        decode(&self.path)
    }

    /// `Content-Base`: the path with exactly one slash behind it and no query (S1, K9).
    pub fn content_base(&self) -> String {
        match self.path.trim_end_matches('/') {
            "" => format!("{}/", self.origin),
            path => format!("{}/{path}/", self.origin),
        }
    }

    /// The absolute control URL of a media: the only form that all players turn into the same SETUP (K9).
    pub fn control(&self, track: usize) -> String {
        let base = self.content_base();
        if self.query.is_empty() {
            format!("{base}trackID={track}")
        } else {
            format!("{base}trackID={track}?{}", self.query)
        }
    }
}

/// The media that a SETUP names: the digits behind the last `trackID=` or `streamid=` (S2).
pub fn track(url: &str) -> Option<usize> {
    let lower = url.to_ascii_lowercase();
    let end =
        ["trackid=", "streamid="].iter().filter_map(|key| lower.rfind(key).map(|at| at + key.len())).max()?;
    let digits = lower.get(end..)?;
    let len = digits.bytes().take_while(u8::is_ascii_digit).count();
    digits.get(..len)?.parse().ok()
}

/// The value of `key` in a query; empty for a bare key.
pub fn query_value(query: &str, key: &str) -> Option<String> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(k, _)| *k == key)
        .map(|(_, v)| decode(v))
}

/// Percent-decoding; what is no UTF-8 or no escape stays as it is.
pub fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let escape = (byte == b'%').then(|| Some((hex(ahead.next()?)?, hex(ahead.next()?)?))).flatten();
        match escape {
            Some((high, low)) => {
                out.push(high << 4 | low);
                bytes = ahead;
            }
            None => out.push(byte),
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Players must not get the login of the request back in control URLs.
fn without_userinfo(origin: &str) -> String {
    match (origin.find("://"), origin.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            let (scheme, host) = (origin.get(..scheme + 3), origin.get(at + 1..));
            format!("{}{}", scheme.unwrap_or_default(), host.unwrap_or_default())
        }
        _ => origin.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn s01_content_base_and_controls_are_the_last_row_of_the_joining_table() {
        let target = Target::parse("rtsp://127.0.0.1:8554/cam?x=1&y=2");
        assert_eq!(target.content_base(), "rtsp://127.0.0.1:8554/cam/");
        assert_eq!(target.control(0), "rtsp://127.0.0.1:8554/cam/trackID=0?x=1&y=2");
        assert_eq!(Target::parse("rtsp://h/cam/").content_base(), "rtsp://h/cam/");
        assert_eq!(Target::parse("rtsp://u:p@h/cam").control(1), "rtsp://h/cam/trackID=1");
        assert_eq!(Target::parse("*"), Target::default());
    }

    #[test]
    fn s02_every_form_of_a_track() {
        for (url, expected) in [
            ("rtsp://h/cam/trackID=0", Some(0)),
            ("rtsp://h/cam?x=1&y=2/trackID=1", Some(1)),
            ("rtsp://h/cam/trackID=2?x=1&y=2", Some(2)),
            ("rtsp://h/trackID=0", Some(0)),
            ("rtsp://h/cam?x=1/streamid=3", Some(3)),
            ("rtsp://h/cam/TRACKID=4", Some(4)),
            ("rtsp://h/cam/", None),
            ("rtsp://h/cam", None),
            ("rtsp://h/cam/trackID=", None),
            ("rtsp://h/cam/trackID=99999999999999999999999", None),
        ] {
            assert_eq!(track(url), expected, "{url}");
        }
    }

    #[test]
    fn s13_names_are_decoded() {
        assert_eq!(Target::parse("rtsp://h/a/b.c%20d").stream(), "a/b.c d");
        assert_eq!(Target::parse("rtsp://h/k%C3%BCche").stream(), "küche");
        assert_eq!(Target::parse("rtsp://h/100%").stream(), "100%");
        assert_eq!(query_value("video&pkt_size=9000&x=%41", "x"), Some("A".to_owned()));
        assert_eq!(query_value("video&pkt_size=9000", "video"), Some(String::new()));
        assert_eq!(query_value("video", "audio"), None);
    }

    proptest! {
        #[test]
        fn any_url_is_read(url: String) {
            let target = Target::parse(&url);
            let _ = (target.stream(), target.control(3), track(&url), query_value(&url, "a"));
            prop_assert!(!target.content_base().contains('@') || target.path.contains('@') || !url.contains("://"));
        }
    }
}
