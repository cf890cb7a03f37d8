//! Requests that plugins answer.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use futures_util::stream;
use patchbay_plugin_api::message::{Class, Connection, History, RouteOpen, Serve, command};

use super::held::{self, Chunk};
use super::{MAX_BODY, Peer, text};
use crate::answers::Answer;
use crate::app::{App, RouteEvent};
use crate::log::Level;
use crate::serve::{Next, Served};

/// Largest whole answer of a plugin's route, in bytes.
const MAX_ANSWER: usize = 64 << 20;

#[allow(clippy::too_many_arguments)] // one request, taken apart
pub(super) async fn serve(
    app: &Arc<App>,
    plugin: &str,
    route: &str,
    shared: bool,
    path: &str,
    peer: &Peer,
    parts: &Parts,
    query: &str,
    body: Body,
) -> Response {
    let method = if shared && parts.method == Method::HEAD { "GET" } else { parts.method.as_str() };
    let open = open(route, method, path, query, peer, parts);
    if shared && method == "GET" {
        let key = format!("{plugin} {path}?{query}");
        let asked = (Arc::clone(app), plugin.to_owned());
        let answer = app.answers.get(key, || async move {
            match ask(&asked.0, &asked.1, &open, Bytes::new()).await {
                Asked::Answer(answer) => answer,
                Asked::Serve(_) => Answer::text(502, "a shared route cannot serve a stream"),
            }
        });
        let answer = answer.await;
        return whole(&answer, parts);
    }
    let body = match axum::body::to_bytes(body, MAX_BODY).await {
        Ok(bytes) => bytes,
        Err(_) => return text(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 4 MiB"),
    };
    match ask(app, plugin, &open, body).await {
        Asked::Answer(answer) => whole(&answer, parts),
        Asked::Serve(mut served) => {
            fill(&mut served, peer, parts);
            media(app, *served).await
        }
    }
}

/// What a plugin makes of a request.
enum Asked {
    Answer(Answer),
    Serve(Box<Serve>),
}

async fn ask(app: &Arc<App>, plugin: &str, open: &RouteOpen, body: Bytes) -> Asked {
    let (instance, session, mut events) = match app.route(plugin, open) {
        Ok(route) => route,
        Err(reason) => return Asked::Answer(Answer::text(502, &reason)),
    };
    let _close = Close(Arc::clone(&instance), session);
    if !body.is_empty() {
        instance.command_bytes(session, command::BODY, body);
    }
    instance.command_bytes(session, command::BODY_END, Bytes::new());
    let mut head = None;
    let mut content = Vec::new();
    let (mut length, mut ranges) = (0, false);
    while let Some(event) = events.recv().await {
        match event {
            RouteEvent::Response(response) => head = Some(response),
            RouteEvent::Data(data) => {
                length += data.len();
                content.push(data);
            }
            RouteEvent::Blobs(blobs) => {
                ranges = true;
                length += blobs.iter().map(Bytes::len).sum::<usize>();
                content.extend(blobs);
            }
            RouteEvent::Serve(served) => return Asked::Serve(served),
            // Messages are for WebSockets.
            RouteEvent::Message(_) => {}
            RouteEvent::Ended(ended) => {
                let Some(head) = head.filter(|_| ended.class != Class::NotFound) else {
                    let status = if ended.class == Class::NotFound { 404 } else { 500 };
                    return Asked::Answer(Answer::text(status, &ended.message));
                };
                return Asked::Answer(Answer { status: head.status, headers: head.headers, content, ranges });
            }
        }
        if length > MAX_ANSWER {
            return Asked::Answer(Answer::text(502, "the plugin's answer is too long"));
        }
    }
    Asked::Answer(Answer::text(502, "the plugin gave no answer"))
}

/// The answer for one client: all of it, or the range that it asks for.
fn whole(answer: &Answer, parts: &Parts) -> Response {
    let length: usize = answer.content.iter().map(Bytes::len).sum();
    let range = parts.headers.get(RANGE).and_then(|value| value.to_str().ok());
    let partly = answer.ranges && answer.status == 200 && length > 0;
    let range = range.filter(|_| partly).and_then(|text| range_of(text, length));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    set_headers(&mut response, &answer.headers);
    let headers = response.headers_mut();
    if answer.ranges {
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    let (from, to) = match range {
        None => (0, length),
        Some(Err(())) => {
            if let Ok(value) = HeaderValue::from_str(&format!("bytes */{length}")) {
                headers.insert(CONTENT_RANGE, value);
            }
            headers.remove(CONTENT_TYPE);
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            return response;
        }
        Some(Ok((from, to))) => {
            if let Ok(value) = HeaderValue::from_str(&format!("bytes {from}-{}/{length}", to - 1)) {
                headers.insert(CONTENT_RANGE, value);
            }
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            (from, to)
        }
    };
    response.headers_mut().insert(CONTENT_LENGTH, (to - from).into());
    if parts.method == Method::HEAD {
        return response;
    }
    let mut at = 0;
    let mut pieces: Vec<Bytes> = Vec::with_capacity(answer.content.len());
    for piece in &answer.content {
        let (start, end) = (from.clamp(at, at + piece.len()) - at, to.clamp(at, at + piece.len()) - at);
        at += piece.len();
        if start < end {
            pieces.push(piece.slice(start..end));
        }
    }
    *response.body_mut() = held::body(pieces);
    response
}

/// One range of `length` bytes, as first byte and one behind the last. RFC 9110 14.1.2. What is no single range of bytes
/// is as if nothing was asked (`None`); `Err`: there are no such bytes.
fn range_of(text: &str, length: usize) -> Option<Result<(usize, usize), ()>> {
    let (first, last) = text.strip_prefix("bytes=")?.trim().split_once('-')?;
    let number = |text: &str| text.parse::<usize>().ok();
    let (from, to) = match (first, last) {
        ("", last) => match number(last)? {
            0 => return Some(Err(())),
            suffix => (length.saturating_sub(suffix), length),
        },
        (first, "") => (number(first)?, length),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            (first, last.saturating_add(1).min(length))
        }
    };
    Some(if from < to { Ok((from, to)) } else { Err(()) })
}

/// Ends a session of a route.
pub(super) struct Close(pub(super) Arc<crate::instance::Instance>, pub(super) u64);

impl Drop for Close {
    fn drop(&mut self) {
        self.0.close(self.1);
    }
}

/// What a route's session is opened with.
pub(super) fn open(
    route: &str,
    method: &str,
    path: &str,
    query: &str,
    peer: &Peer,
    parts: &Parts,
) -> RouteOpen {
    let headers = parts.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    RouteOpen {
        route: route.to_owned(),
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: headers.collect(),
        remote: peer.text(),
        ..RouteOpen::default()
    }
}

/// Completes what a plugin said of its client with what only the host knows.
pub(super) fn fill(serve: &mut Serve, peer: &Peer, parts: &Parts) {
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let Connection { protocol, remote_addr, user_agent, .. } = &mut serve.consume.connection;
    if protocol.is_empty() {
        "http".clone_into(protocol);
    }
    *remote_addr = match header("x-forwarded-for") {
        Some(forwarded) => format!("{} forwarded {forwarded}", peer.text()),
        None => peer.text(),
    };
    *user_agent = header("user-agent").unwrap_or_default();
}

async fn media(app: &Arc<App>, serve: Serve) -> Response {
    let (headers, still, content_type) =
        (serve.headers.clone(), serve.history == History::Keyframe, serve.content_type.clone());
    let mut served = match Served::start(app, serve).await {
        Ok(served) => served,
        Err(ended) if ended.class == Class::NotFound && ended.message == "stream not found" => {
            return text(StatusCode::NOT_FOUND, &ended.message);
        }
        Err(ended) => return text(StatusCode::INTERNAL_SERVER_ERROR, &ended.message),
    };
    let mime = content_type.unwrap_or_else(|| served.mime().to_owned());
    let mut response = if still {
        let Some(Next::Data(piece)) = served.next().await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the stream ended before a key frame");
        };
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert(CONTENT_LENGTH, piece.len().into());
        *response.body_mut() = held::body([piece.head, piece.rest]);
        response
    } else {
        let (app, told) = (Arc::clone(app), served.mime().to_owned());
        let start = (app, told, served, Chunk::new(Bytes::new().into()));
        let body = stream::unfold(start, |(app, told, mut served, mut chunk)| async move {
            loop {
                // Ready at once: head and rest leave in one write.
                let part = chunk.next();
                if !part.is_empty() {
                    return Some((Ok::<_, std::convert::Infallible>(part), (app, told, served, chunk)));
                }
                match served.next().await? {
                    Next::Data(piece) => chunk = Chunk::new(piece),
                    Next::Mime(mime) if mime == told => {}
                    // An answer has one type: its player asks again.
                    Next::Mime(mime) => {
                        let fields = [("was", told.as_str()), ("is", &mime)];
                        app.log.write(
                            Level::Info,
                            "api",
                            "answer ended: the stream has other codecs now",
                            &fields,
                        );
                        return None;
                    }
                }
            }
        });
        Response::new(Body::from_stream(body))
    };
    if let Ok(mime) = HeaderValue::from_str(&mime) {
        response.headers_mut().insert(CONTENT_TYPE, mime);
    }
    set_headers(&mut response, &headers);
    response
}

fn set_headers(response: &mut Response, headers: &[(String, String)]) {
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_rfc_9110s() {
        for (text, expected) in [
            ("bytes=0-3", Some(Ok((0, 4)))),
            ("bytes=5-", Some(Ok((5, 10)))),
            ("bytes=-4", Some(Ok((6, 10)))),
            ("bytes=-40", Some(Ok((0, 10)))),
            ("bytes=8-99", Some(Ok((8, 10)))),
            ("bytes=10-", Some(Err(()))),
            ("bytes=-0", Some(Err(()))),
            ("bytes=4-3", None),
            ("bytes=0-1,4-5", None),
            ("lines=0-1", None),
            ("bytes=x-", None),
        ] {
            assert_eq!(range_of(text, 10), expected, "{text}");
        }
    }
}
