//! `POST /api/stream.ts?dst=NAME` and its kin, also by `PUT`: the body is a publisher of the stream.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderName, Method, StatusCode};
use axum::response::Response;
use futures_util::StreamExt as _;
use patchbay_plugin_api::Code;
use patchbay_plugin_api::message::{Class, Connection, Ended, Head};

use super::{Call, empty, text};
use crate::app::App;
use crate::chain::Chain;

/// Types by the end of the path, for bodies that come without a useful one. Bytes are looked at first.
const TYPES: [(&str, &str); 10] = [
    ("ts", "video/mp2t"),
    ("flv", "video/x-flv"),
    ("mjpeg", "multipart/x-mixed-replace"),
    ("ascii", "multipart/x-mixed-replace"),
    ("mp4", "video/mp4"),
    ("aac", "audio/aac"),
    ("wav", "audio/wav"),
    ("h264", "video/h264"),
    ("h265", "video/h265"),
    ("y4m", "video/x-yuv4mpeg"),
];

/// Types that say nothing: what programs send that were told none.
const MEANINGLESS: [&str; 3] =
    ["application/octet-stream", "application/x-www-form-urlencoded", "text/plain"];

/// A longer body is endless: its length is one that a sender had to make up.
const MAX_FILE: u64 = 1 << 40;

/// Whether a request is one of these; a path may have other methods that a plugin answers.
pub(super) fn matches(method: &Method, path: &str) -> bool {
    let known = |end: &str| TYPES.iter().any(|(known, _)| *known == end);
    (*method == Method::POST || *method == Method::PUT)
        && (path == "api/stream" || path.strip_prefix("api/stream.").is_some_and(known))
}

/// go2rtc's module of such a path.
pub(super) fn module(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, end)| end) {
        "ts" | "aac" => "mpegts",
        "flv" => "rtmp",
        "mjpeg" | "ascii" | "y4m" => "mjpeg",
        "mp4" => "mp4",
        _ => "http",
    }
}

/// Reads the body to its end, or until the stream has no use for it.
pub(super) async fn serve(call: &Call, path: &str, body: Body) -> Response {
    let stream = call.query.get("dst").unwrap_or_default();
    let Ok(chain) = call.app.ingest(stream, head(call, path)) else {
        return text(StatusCode::NOT_FOUND, "stream not found");
    };
    let reading = Reading { app: Arc::clone(&call.app), chain };
    let ended = tokio::select! {
        ended = reading.chain.over() => ended,
        ended = carry(&call.app, &reading.chain, body) => ended,
    };
    match ended.class {
        Class::Eof => empty(StatusCode::OK),
        Class::Busy => text(StatusCode::CONFLICT, &ended.message),
        _ => text(StatusCode::INTERNAL_SERVER_ERROR, &ended.message),
    }
}

/// A body that is being read. When the client goes away its request is dropped in the middle; a chain that is over does
/// not mind.
struct Reading {
    app: Arc<App>,
    chain: Arc<Chain>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.app.ingest_broken(&self.chain, broken());
    }
}

fn broken() -> Ended {
    let message = "the sender closed in the middle".to_owned();
    Ended { class: Class::Eof, message, retry_after_ms: 0 }
}

/// Carries the body into the chain; the answer is how the chain ended.
async fn carry(app: &Arc<App>, chain: &Arc<Chain>, body: Body) -> Ended {
    let mut pieces = body.into_data_stream();
    loop {
        let piece = match pieces.next().await {
            Some(Ok(piece)) if piece.is_empty() => continue,
            Some(Ok(piece)) => piece,
            Some(Err(_)) => {
                app.ingest_broken(chain, broken());
                return chain.over().await;
            }
            None => {
                while chain.data(app, &[]) == Code::Busy {
                    chain.room().await;
                }
                return chain.over().await;
            }
        };
        loop {
            match chain.data(app, &piece) {
                Code::Busy => chain.room().await,
                Code::Ok => break,
                _ => return chain.over().await,
            }
        }
    }
}

fn head(call: &Call, path: &str) -> Head {
    let header = |name: &HeaderName| call.headers.get(name).and_then(|value| value.to_str().ok());
    let told = header(&CONTENT_TYPE).unwrap_or_default();
    let plain = told.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let end = path.rsplit_once('.').map_or("", |(_, end)| end);
    let by_path = TYPES.iter().find(|(known, _)| *known == end).map_or("", |(_, mime)| *mime);
    let mime = if plain.is_empty() || MEANINGLESS.contains(&plain.as_str()) { by_path } else { told };
    let size = header(&CONTENT_LENGTH).and_then(|text| text.parse().ok()).filter(|size| *size < MAX_FILE);
    Head {
        mime: mime.to_owned(),
        size,
        // Whoever says how much will come sends a file.
        live: size.is_none(),
        connection: Connection {
            protocol: "http".to_owned(),
            remote_addr: call.peer.text(),
            user_agent: header(&USER_AGENT).unwrap_or_default().to_owned(),
            ..Connection::default()
        },
        ..Head::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_posts_to_known_ends() {
        for path in ["api/stream", "api/stream.ts", "api/stream.mjpeg"] {
            assert!(matches(&Method::POST, path) && matches(&Method::PUT, path), "{path}");
            assert!(!matches(&Method::GET, path), "{path}");
        }
        for path in ["api/streams", "api/stream.m3u8", "api/stream.", "api/streamts", "stream.ts"] {
            assert!(!matches(&Method::POST, path), "{path}");
        }
    }
}
