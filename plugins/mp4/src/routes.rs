//! Role `routes`: which client gets which tracks.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use patchbay_sdk::api::message::{Connection, Consume, History, Media, Response, Serve};
use patchbay_sdk::routes::{Body, Reply, Request, offered, query_pairs, query_values};
use patchbay_sdk::{Error, Routes};

use crate::output::Mp4;

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

fn value(request: &Request, key: &str) -> Option<String> {
    query_values(&request.query, key).into_iter().next()
}

fn has(request: &Request, key: &str) -> bool {
    query_pairs(&request.query).any(|(k, _)| k == key)
}

fn user_agent(request: &Request) -> &str {
    request.headers.iter().find(|(name, _)| name == "user-agent").map_or("", |(_, value)| value)
}

fn media(kind: &str, codecs: &[&str]) -> Media {
    Media { kind: kind.to_owned(), codecs: codecs.iter().map(|codec| (*codec).to_owned()).collect() }
}

fn filename(request: &Request) -> Vec<(String, String)> {
    let name =
        value(request, "filename").filter(|name| !name.is_empty() && !name.contains(['"', '\r', '\n', '\\']));
    name.map(|name| ("content-disposition".to_owned(), format!("attachment; filename=\"{name}\"")))
        .into_iter()
        .collect()
}

fn history(request: &Request) -> History {
    match value(request, "history").as_deref() {
        Some("raw") => History::Raw,
        Some("0" | "none") => History::None,
        _ => History::Live,
    }
}

/// `GET api/stream.mp4`: codec filters as in the query, else H.264 or H.265 with AAC.
fn stream(request: &Request) -> Reply {
    let agent = user_agent(request);
    if agent.contains(" Safari/") && !agent.contains(" Chrome/") && !has(request, "duration") {
        let more = if has(request, "mp4") { "" } else { "&mp4" };
        let location = format!("stream.m3u8?{}{more}", request.query);
        let response = Response { status: 301, headers: vec![("location".to_owned(), location)] };
        return Reply::Whole(response, Bytes::new());
    }
    let filtered = ["video", "audio", "mp4"].iter().any(|key| has(request, key));
    let medias =
        if filtered { Vec::new() } else { vec![media("video", &["h264", "hevc"]), media("audio", &["aac"])] };
    let duration = value(request, "duration").and_then(|text| text.parse().ok()).unwrap_or(0);
    Reply::Serve(Box::new(Serve {
        consume: consume(request, medias, "mp4", 10_000),
        format: "mp4".to_owned(),
        history: history(request),
        headers: filename(request),
        duration_s: duration,
        ..Serve::default()
    }))
}

/// `GET api/frame.mp4`: the newest key picture as a file.
fn frame(request: &Request) -> Reply {
    let ranged = request.headers.iter().any(|(name, _)| name == "range");
    if user_agent(request).contains(" Chrome/") && !ranged {
        // Chrome asks again with a range, and only that answer is looked at.
        let headers = vec![("content-type".to_owned(), "video/mp4".to_owned())];
        return Reply::Whole(Response { status: 200, headers }, Bytes::new());
    }
    Reply::Serve(Box::new(Serve {
        consume: consume(request, vec![media("video", &["h264", "hevc"])], "mp4", 10_000),
        format: "mp4".to_owned(),
        history: History::Keyframe,
        headers: filename(request),
        ..Serve::default()
    }))
}

/// `mse` and `mp4` on `/api/ws`.
fn message(request: &Request, kind: &str) -> Reply {
    let codecs = request.value.as_ref().and_then(|value| value.as_str()).unwrap_or("");
    let stills = kind == "mp4";
    let mut options = BTreeMap::new();
    if stills {
        options.insert("keyframes".to_owned(), "1".to_owned());
    }
    Reply::Serve(Box::new(Serve {
        consume: consume(
            request,
            offered(codecs, !stills),
            if stills { "mp4" } else { "mse/fmp4" },
            MSE_LIMIT_MS,
        ),
        format: "mp4".to_owned(),
        options,
        history: if stills { History::None } else { history(request) },
        ws_type: "mse".to_owned(),
        ..Serve::default()
    }))
}

fn consume(request: &Request, medias: Vec<Media>, format_name: &str, timeout_ms: u64) -> Consume {
    Consume {
        stream: value(request, "src").unwrap_or_default(),
        query: request.query.clone(),
        medias,
        connection: Connection { format_name: format_name.to_owned(), ..Connection::default() },
        timeout_ms,
        ..Consume::default()
    }
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
