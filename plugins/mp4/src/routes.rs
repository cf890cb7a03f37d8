//! Role `routes`: which client gets which tracks.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use patchbay_sdk::api::message::{History, Response};
use patchbay_sdk::routes::{Body, Reply, Request, header, media, offered, query_value, serve_chosen};
use patchbay_sdk::{Error, Routes};

use crate::output::Mp4;

/// How long a request waits for the stream.
const START_LIMIT_MS: u64 = 10_000;
/// How long a browser waits for the answer to `mse`.
const MSE_LIMIT_MS: u64 = 3_000;

impl Routes for Mp4 {
    async fn request(self: Arc<Self>, request: Request, _: Body) -> Result<Reply, Error> {
        Ok(match request.route.as_str() {
            "api/stream.mp4" => stream(&request),
            "api/frame.mp4" => frame(&request),
            kind => message(&request, kind),
        })
    }
}

fn has(request: &Request, key: &str) -> bool {
    query_value(&request.query, key).is_some()
}

fn user_agent(request: &Request) -> &str {
    header(request, "user-agent").unwrap_or_default()
}

fn filename(request: &Request) -> Vec<(String, String)> {
    let name = query_value(&request.query, "filename")
        .filter(|name| !name.is_empty() && !name.contains(['"', '\r', '\n', '\\']));
    name.map(|name| ("content-disposition".to_owned(), format!("attachment; filename=\"{name}\"")))
        .into_iter()
        .collect()
}

/// How the picture is shown: `rotate=90|180|270` and `scale=A:B`, width and height of a pixel. Anything else is nothing, so
/// that it makes no run of its own.
fn display(request: &Request) -> BTreeMap<String, String> {
    let rotate =
        query_value(&request.query, "rotate").filter(|text| matches!(text.as_str(), "90" | "180" | "270"));
    let scale = query_value(&request.query, "scale").filter(|text| pixel_aspect(text).is_some());
    let options = [("rotate", rotate), ("scale", scale)];
    options.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// `A:B`, both positive.
pub(crate) fn pixel_aspect(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once(':')?;
    let side = |text: &str| text.parse::<u16>().ok().filter(|side| *side > 0).map(u32::from);
    Some((side(width)?, side(height)?))
}

/// `GET api/stream.mp4`: codec filters as in the query, else H.264 or H.265 with AAC.
fn stream(request: &Request) -> Reply {
    let agent = user_agent(request);
    // `HeadlessChrome/` is no Safari either.
    if agent.contains(" Safari/") && !agent.contains("Chrome/") && !has(request, "duration") {
        let more = if has(request, "mp4") { "" } else { "&mp4" };
        let location = format!("stream.m3u8?{}{more}", request.query);
        let response = Response { status: 301, headers: vec![("location".to_owned(), location)] };
        return Reply::Whole(response, Bytes::new());
    }
    let medias = vec![media("video", &["h264", "hevc"]), media("audio", &["aac"])];
    let mut serve = serve_chosen(request, "mp4", &["video", "audio", "mp4"], medias);
    serve.consume.timeout_ms = START_LIMIT_MS;
    serve.headers = filename(request);
    serve.duration_s = query_value(&request.query, "duration").and_then(|s| s.parse().ok()).unwrap_or(0);
    serve.options.extend(display(request));
    Reply::Serve(Box::new(serve))
}

/// `GET api/frame.mp4`: the newest key picture as a file.
fn frame(request: &Request) -> Reply {
    let ranged = request.headers.iter().any(|(name, _)| name == "range");
    if user_agent(request).contains(" Chrome/") && !ranged {
        // Chrome asks again with a range, and only that answer is looked at.
        let headers = vec![("content-type".to_owned(), "video/mp4".to_owned())];
        return Reply::Whole(Response { status: 200, headers }, Bytes::new());
    }
    let mut serve = serve_chosen(request, "mp4", &[], vec![media("video", &["h264", "hevc"])]);
    serve.consume.timeout_ms = START_LIMIT_MS;
    serve.headers = filename(request);
    serve.history = History::Keyframe;
    Reply::Serve(Box::new(serve))
}

/// `mse` and `mp4` on `/api/ws`.
fn message(request: &Request, kind: &str) -> Reply {
    let codecs = request.value.as_ref().and_then(|value| value.as_str()).unwrap_or("");
    let stills = kind == "mp4";
    let mut serve = serve_chosen(request, "mp4", &[], offered(codecs, !stills));
    serve.consume.timeout_ms = MSE_LIMIT_MS;
    "mse".clone_into(&mut serve.ws_type);
    if stills {
        serve.options.insert("keyframes".to_owned(), "1".to_owned());
        serve.history = History::None;
    } else {
        "mse/fmp4".clone_into(&mut serve.consume.connection.format_name);
    }
    Reply::Serve(Box::new(serve))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(route: &str, query: &str, headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Request { route: route.to_owned(), query: query.to_owned(), headers, ..Request::default() }
    }

    #[test]
    fn safari_is_sent_to_hls() {
        let agent = [("user-agent", "Mozilla/5.0 Version/17.1 Safari/605.1.15")];
        let Reply::Whole(response, _) = stream(&ask("api/stream.mp4", "src=cam1", &agent)) else {
            panic!("no redirect")
        };
        assert_eq!(response.headers[0].1, "stream.m3u8?src=cam1&mp4");
        assert!(matches!(stream(&ask("api/stream.mp4", "src=cam1&duration=5", &agent)), Reply::Serve(_)));
        let headless = [("user-agent", "Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/120 Safari/537.36")];
        assert!(matches!(stream(&ask("api/stream.mp4", "src=cam1", &headless)), Reply::Serve(_)));
    }

    #[test]
    fn only_known_ways_to_show_a_picture_are_options() {
        let options = |query: &str| match stream(&ask("api/stream.mp4", query, &[])) {
            Reply::Serve(serve) => serve.options.into_iter().collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(options("src=a&rotate=90&scale=4:3"), [pair("rotate", "90"), pair("scale", "4:3")]);
        assert_eq!(options("src=a&rotate=45&scale=4:0"), []);
        assert_eq!(options("src=a&rotate=&scale=99999:1"), []);
    }

    #[test]
    fn chrome_gets_an_empty_first_answer_for_a_frame() {
        let agent = ("user-agent", "Mozilla/5.0 Chrome/120 Safari/537.36");
        assert!(matches!(frame(&ask("api/frame.mp4", "src=a", &[agent])), Reply::Whole(..)));
        assert!(matches!(
            frame(&ask("api/frame.mp4", "src=a", &[agent, ("range", "bytes=0-")])),
            Reply::Serve(_)
        ));
    }
}
