//! Requests that plugins answer.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::stream;
use patchbay_plugin_api::message::{Class, Connection, History, RouteOpen, Serve, command};

use super::{MAX_BODY, Peer, text};
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
    path: &str,
    peer: &Peer,
    parts: &Parts,
    query: &str,
    body: Body,
) -> Response {
    let open = open(route, parts.method.as_str(), path, query, peer, parts, None);
    let (instance, session, mut events) = match app.route(plugin, &open) {
        Ok(route) => route,
        Err(reason) => return text(StatusCode::BAD_GATEWAY, &reason),
    };
    let _close = Close(Arc::clone(&instance), session);
    match axum::body::to_bytes(body, MAX_BODY).await {
        Ok(bytes) if bytes.is_empty() => {}
        Ok(bytes) => instance.command_bytes(session, command::BODY, bytes),
        Err(_) => return text(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 4 MiB"),
    }
    instance.command_bytes(session, command::BODY_END, Bytes::new());
    let mut head = None;
    let mut content = Vec::new();
    while let Some(event) = events.recv().await {
        match event {
            RouteEvent::Response(response) => head = Some(response),
            RouteEvent::Data(data) if content.len() + data.len() <= MAX_ANSWER => {
                content.extend_from_slice(&data)
            }
            RouteEvent::Data(_) => return text(StatusCode::BAD_GATEWAY, "the plugin's answer is too long"),
            RouteEvent::Serve(mut served) => {
                fill(&mut served, peer, parts);
                return media(app, *served).await;
            }
            RouteEvent::Ended(ended) => {
                let Some(head) = head else {
                    let class = if ended.class == Class::NotFound { 404 } else { 500 };
                    let status = StatusCode::from_u16(class).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    return text(status, &ended.message);
                };
                let mut response = Response::new(Body::from(content));
                *response.status_mut() = StatusCode::from_u16(head.status).unwrap_or(StatusCode::OK);
                set_headers(&mut response, &head.headers);
                return response;
            }
        }
    }
    text(StatusCode::BAD_GATEWAY, "the plugin gave no answer")
}

struct Close(Arc<crate::instance::Instance>, u64);

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
    value: Option<serde_json::Value>,
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
        value,
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
        let Some(Next::Data(data)) = served.next().await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the stream ended before a key frame");
        };
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert(CONTENT_LENGTH, data.len().into());
        *response.body_mut() = Body::from(data);
        response
    } else {
        let (app, told) = (Arc::clone(app), served.mime().to_owned());
        let body = stream::unfold((app, told, served), |(app, told, mut served)| async move {
            loop {
                match served.next().await? {
                    Next::Data(data) => {
                        return Some((Ok::<_, std::convert::Infallible>(data), (app, told, served)));
                    }
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
