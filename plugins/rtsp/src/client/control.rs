//! Which URLs SETUP and PLAY name (C43, C80).
//!
//! The join is plain text behind any query, as ffmpeg and live555 do it and cameras expect it; RFC 3986 would lose the
//! query's stream name.

/// The base of a description: `Content-Base`, else `Content-Location`, else the request's URL. One without scheme or with
/// a host that is none is replaced by the request's URL.
pub fn base(content_base: Option<&str>, content_location: Option<&str>, request_url: &str) -> String {
    let usable = |text: &str| {
        let text = single_scheme(text.trim());
        has_host(text).then(|| text.to_owned())
    };
    content_base
        .and_then(usable)
        .or_else(|| content_location.and_then(usable))
        .unwrap_or(request_url.to_owned())
}

/// The URL of a control attribute, as it goes on the request line.
pub fn join(base: &str, control: Option<&str>) -> String {
    let control = single_scheme(control.unwrap_or_default().trim());
    if control.is_empty() || control == "*" {
        return base.to_owned();
    }
    if is_absolute(control) {
        return control.to_owned();
    }
    format!("{}/{}", base.trim_end_matches('/'), control.trim_start_matches('/'))
}

/// `url` with another host in its authority and no port change (C26).
pub(super) fn with_host(url: &str, host: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let port = authority
        .rsplit_once(':')
        .map(|(_, port)| port)
        .filter(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    match port {
        Some(port) => format!("{scheme}://{host}:{port}{path}"),
        None => format!("{scheme}://{host}{path}"),
    }
}

fn is_absolute(text: &str) -> bool {
    ["rtsp://", "rtsps://", "rtspu://"]
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// Removes doubled schemes: `rtsp://rtsp://host/`.
fn single_scheme(mut text: &str) -> &str {
    while let Some((_, rest)) = text.split_once("://") {
        if !(is_absolute(text) && is_absolute(rest)) {
            break;
        }
        text = rest;
    }
    text
}

fn has_host(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://").filter(|_| is_absolute(url)) else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.strip_prefix('[') {
        Some(rest) => rest.contains(']'),
        None => {
            let (name, port) = host.split_once(':').unwrap_or((host, ""));
            !name.is_empty()
                && port.bytes().all(|b| b.is_ascii_digit())
                && name.bytes().all(|b| b.is_ascii_graphic())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const U: &str = "rtsp://10.0.0.2:554/cam?channel=1&subtype=0";

    #[test]
    fn c43_setup_urls() {
        // (Content-Base, Content-Location, control, SETUP URL)
        type Row<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>, &'a str);
        let rows: [Row; 17] = [
            (None, None, Some("trackID=0"), "rtsp://10.0.0.2:554/cam?channel=1&subtype=0/trackID=0"),
            (Some("rtsp://10.0.0.2/cam/"), None, Some("trackID=0"), "rtsp://10.0.0.2/cam/trackID=0"),
            (Some("rtsp://10.0.0.2/cam/"), None, Some("/trackID=0"), "rtsp://10.0.0.2/cam/trackID=0"),
            (Some("rtsp://10.0.0.2/cam"), None, Some("trackID=0"), "rtsp://10.0.0.2/cam/trackID=0"),
            (Some("rtsp://10.0.0.2/cam/?x=1"), None, Some("trackID=0"), "rtsp://10.0.0.2/cam/?x=1/trackID=0"),
            (Some("rtsp://10.0.0.2/cam?x=1/"), None, Some("trackID=0"), "rtsp://10.0.0.2/cam?x=1/trackID=0"),
            (None, Some("rtsp://10.0.0.2/loc/"), Some("a"), "rtsp://10.0.0.2/loc/a"),
            (None, Some("cam/"), Some("a"), "rtsp://10.0.0.2:554/cam?channel=1&subtype=0/a"),
            (Some("rtsp://10.0.0.2/cam/"), None, Some("rtsp://192.168.0.9/t?x"), "rtsp://192.168.0.9/t?x"),
            (Some("rtsp://10.0.0.2/cam/"), None, Some("*"), "rtsp://10.0.0.2/cam/"),
            (Some("rtsp://10.0.0.2/cam/"), None, None, "rtsp://10.0.0.2/cam/"),
            (Some("rtsp://10.0.0.2/cam/"), None, Some(" trackID=0 "), "rtsp://10.0.0.2/cam/trackID=0"),
            (Some("rtsp://rtsp://10.0.0.2/c/"), None, Some("a"), "rtsp://10.0.0.2/c/a"),
            (Some("rtsp://h/c/"), None, Some("rtsp://rtsp://h/c/a"), "rtsp://h/c/a"),
            (Some("10.0.0.2:554/stream0/"), None, Some("a"), "rtsp://10.0.0.2:554/cam?channel=1&subtype=0/a"),
            (
                Some("rtsp://::ffff:10.0.0.2/c/"),
                None,
                Some("a"),
                "rtsp://10.0.0.2:554/cam?channel=1&subtype=0/a",
            ),
            (Some("RTSP://h/c/ "), None, Some("RTSP://h/c/a"), "RTSP://h/c/a"),
        ];
        for (content_base, location, control, url) in rows {
            assert_eq!(join(&base(content_base, location, U), control), url, "{content_base:?} {control:?}");
        }
    }

    #[test]
    fn k9_urls_of_the_own_client_are_those_of_ffmpeg() {
        let host = "rtsp://h:8554";
        let request = format!("{host}/cam?x=1&y=2");
        for (content_base, control, setup, play) in [
            (None, "trackID=0", "/cam?x=1&y=2/trackID=0", "/cam?x=1&y=2"),
            (Some("/cam?x=1&y=2/"), "trackID=0", "/cam?x=1&y=2/trackID=0", "/cam?x=1&y=2/"),
            (Some("/cam/?x=1&y=2"), "trackID=0", "/cam/?x=1&y=2/trackID=0", "/cam/?x=1&y=2"),
            (Some("/cam/"), "trackID=0", "/cam/trackID=0", "/cam/"),
            (Some("/cam/"), "rtsp://h:8554/cam/trackID=0?x=1&y=2", "/cam/trackID=0?x=1&y=2", "/cam/"),
        ] {
            let content_base = content_base.map(|b| format!("{host}{b}"));
            let base = base(content_base.as_deref(), None, &request);
            assert_eq!(join(&base, Some(control)), format!("{host}{setup}"));
            assert_eq!(join(&base, Some("*")), format!("{host}{play}"));
        }
    }

    #[test]
    fn c26_host_is_replaced() {
        assert_eq!(with_host("rtsp://10.0.0.2:554/a?b", "127.0.0.1"), "rtsp://127.0.0.1:554/a?b");
        assert_eq!(with_host("rtsp://u:p@cam/a", "127.0.0.1"), "rtsp://127.0.0.1/a");
    }
}
