//! What the first bytes of a connection say. Reads no socket.

use patchbay_plugin_api::manifest::Raw;

/// What is known by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing yet.
    More,
    /// It is HTTP.
    Http,
    /// It is what this pattern says.
    Raw(usize),
}

/// Looks at what a connection starts with. `allowed`: the only paths that are served. A page of another site cannot ask
/// for another protocol in a browser's name, unless `any_origin`.
pub(super) fn look<'a>(
    first: &[u8],
    patterns: impl Iterator<Item = &'a Raw>,
    allowed: Option<&[String]>,
    any_origin: bool,
) -> Look {
    let mut more = false;
    let head = Head::of(first);
    for (at, raw) in patterns.enumerate() {
        let request = raw.request.as_bytes();
        let seen = first.len().min(request.len());
        if first.get(..seen) != request.get(..seen) {
            continue;
        }
        // Not before: a page of another site may send a request line of any path, and says behind it where it is from.
        if seen < request.len() || !head.is_whole {
            more = true;
        } else if head.has(&raw.header, &raw.value)
            && allowed.is_none_or(|list| list.iter().any(|path| path == head.path()))
            && (any_origin || !head.is_foreign())
        {
            return Look::Raw(at);
        }
    }
    if more { Look::More } else { Look::Http }
}

struct Head<'a> {
    line: &'a [u8],
    fields: &'a [u8],
    is_whole: bool,
}

impl<'a> Head<'a> {
    fn of(first: &'a [u8]) -> Self {
        let line_end = first.iter().position(|byte| *byte == b'\n');
        let (line, fields) = first.split_at(line_end.map_or(first.len(), |at| at + 1));
        let end = |blank: &[u8]| fields.windows(blank.len()).position(|bytes| bytes == blank);
        // No field at all: the blank line follows at once.
        let at_once = fields.starts_with(b"\r\n") || fields.starts_with(b"\n");
        // The first blank line, however lines end.
        let end =
            if at_once { Some(0) } else { [end(b"\r\n\r\n"), end(b"\n\n")].into_iter().flatten().min() };
        Self {
            line,
            fields: fields.get(..end.unwrap_or(fields.len())).unwrap_or_default(),
            is_whole: line_end.is_some() && end.is_some(),
        }
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        self.fields.split(|byte| *byte == b'\n').find_map(|line| {
            let (known, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
            known.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn has(&self, name: &str, value: &str) -> bool {
        name.is_empty() || self.field(name).is_some_and(|known| known.contains(value))
    }

    /// What is asked for, without its query.
    fn path(&self) -> &'a str {
        let line = std::str::from_utf8(self.line).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|target| target.split('?').next()).unwrap_or_default()
    }

    fn is_foreign(&self) -> bool {
        let host = self.field("host").unwrap_or_default();
        self.field("origin")
            .is_some_and(|origin| origin.split_once("://").map_or(origin, |(_, rest)| rest) != host)
    }
}

/// For the fuzz target: any bytes are judged, and more of them never undo it.
///
/// # Panics
/// When they do.
pub(crate) fn fuzz(data: &[u8]) {
    let raw = |request: &str, header: &str, value: &str| Raw {
        request: request.to_owned(),
        header: header.to_owned(),
        value: value.to_owned(),
        module: None,
    };
    let patterns = [
        raw("OPTIONS rtsp:", "", ""),
        raw("GET ", "x-sessioncookie", ""),
        raw("GET ", "sec-websocket-protocol", "rtsp.onvif.org"),
        raw("POST /pair-setup ", "", ""),
    ];
    let Some((choice, data)) = data.split_first() else { return };
    let allowed = ["/cam".to_owned()];
    let allowed = (choice & 1 != 0).then_some(&allowed[..]);
    let mut before = Look::More;
    // One after another, but for a long one.
    let step = data.len() / 512 + 1;
    for end in (0..=data.len()).step_by(step) {
        let now = look(data.get(..end).unwrap_or_default(), patterns.iter(), allowed, choice & 2 != 0);
        assert!(before == Look::More || now == before, "{before:?} then {now:?}");
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns() -> Vec<Raw> {
        let raw = |request: &str, header: &str, value: &str| Raw {
            request: request.to_owned(),
            header: header.to_owned(),
            value: value.to_owned(),
            module: None,
        };
        vec![
            raw("OPTIONS rtsp:", "", ""),
            raw("GET ", "x-sessioncookie", ""),
            raw("GET ", "sec-websocket-protocol", "rtsp.onvif.org"),
            raw("POST /pair-setup ", "", ""),
        ]
    }

    fn see(first: &[u8]) -> Look {
        look(first, patterns().iter(), None, false)
    }

    #[test]
    fn first_bytes_tell() {
        for (first, expected) in [
            (&b""[..], Look::More),
            (b"G", Look::More),
            (b"OPTIONS r", Look::More),
            (b"OPTIONS rtsp://h/cam RTSP/1.0\r\n", Look::More),
            (b"OPTIONS rtsp://h/cam RTSP/1.0\r\nCSeq: 1\r\n\r\n", Look::Raw(0)),
            (b"OPTIONS /api HTTP/1.1\r\n", Look::Http),
            (b"PUT /api", Look::Http),
            (b"GET /cam HTTP/1.0\r\n", Look::More),
            (b"GET /cam HTTP/1.0\r\nX-SessionCookie: c\r\n", Look::More),
            (b"GET /cam HTTP/1.0\r\nX-SessionCookie: c\r\n\r\n", Look::Raw(1)),
            (b"GET /cam HTTP/1.0\nx-sessioncookie: c\n\n", Look::Raw(1)),
            (b"GET /cam HTTP/1.0\r\nSec-WebSocket-Protocol: a, rtsp.onvif.org\r\n\r\n", Look::Raw(2)),
            (b"GET /api HTTP/1.1\r\nSec-WebSocket-Protocol: chat\r\n\r\n", Look::Http),
            (b"GET / HTTP/1.0\r\n\r\n", Look::Http),
            (b"GET / HTTP/1.0\r\n\r\nx-sessioncookie: in the body\r\n\r\n", Look::Http),
            (b"POST /pair-setup HTTP/1.1\r\n", Look::More),
            (b"POST /pair-setup HTTP/1.1\r\n\r\n", Look::Raw(3)),
            (b"POST /pair-setups HTTP/1.1\r\n", Look::Http),
        ] {
            assert_eq!(see(first), expected, "{}", String::from_utf8_lossy(first));
        }
    }

    #[test]
    fn a_page_of_another_site_and_a_path_that_is_not_listed_are_http() {
        let from = |origin: &str| {
            let head = format!(
                "GET /cam HTTP/1.1\r\nHost: nvr:1984\r\nOrigin: {origin}\r\nX-Sessioncookie: c\r\n\r\n"
            );
            head.into_bytes()
        };
        assert_eq!(see(&from("http://evil.example")), Look::Http);
        assert_eq!(see(&from("http://nvr:1984")), Look::Raw(1));
        assert_eq!(look(&from("http://evil.example"), patterns().iter(), None, true), Look::Raw(1));
        let only = |path: &str| {
            let first = b"POST /pair-setup HTTP/1.1\r\n\r\n";
            look(first, patterns().iter(), Some(&[path.to_owned()]), false)
        };
        assert_eq!((only("/pair-setup"), only("/api")), (Look::Raw(3), Look::Http));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_and_more_of_them_never_undo_it(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..6) {
            let starts: [&[u8]; 6] = [b"", b"GET ", b"GET /x HTTP/1.0\r\nx-sessioncookie:c\r\n", b"OPTIONS rtsp:", b"POST /pair-setup ", b"\r\n"];
            let whole = [starts[at], &bytes].concat();
            let mut before = Look::More;
            for end in 0..=whole.len() {
                let now = see(&whole[..end]);
                prop_assert!(before == Look::More || now == before, "{before:?} then {now:?}");
                before = now;
            }
        }
    }
}
