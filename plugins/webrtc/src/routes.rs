//! HTTP and WebSocket: offers in, answers out.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use patchbay_sdk::api::message::{Connection, Consume, Media, Response, SocketMessage};
use patchbay_sdk::routes::{Body, Reply, Request, header, query_pairs, query_value};
use patchbay_sdk::server::Context;
use patchbay_sdk::server::is_unknown;
use patchbay_sdk::{Class, Error};
use serde_json::{Value, json};

use crate::sdp::MAX_LEN;
use crate::server::{Answer, Ask, Engine, Trickle};

mod sockets;

pub use sockets::Sockets;

/// Content type of candidates and credentials (RFC 8840 section 9).
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// Answers a request or message.
pub async fn answer(engine: &Arc<Engine>, request: &Request, body: Body) -> Result<Reply, Error> {
    match request.route.as_str() {
        "api/webrtc" => http(engine, request, body).await,
        kind => sockets::message(engine, request, kind, &body).await,
    }
}

/// The stream that is asked for, and whether it is published to.
fn target(request: &Request) -> Option<(String, bool)> {
    match query_value(&request.query, "src") {
        Some(stream) => Some((stream, false)),
        None => query_value(&request.query, "dst").map(|stream| (stream, true)),
    }
}

/// For `/api/streams`.
fn connection(request: &Request, format_name: &str, protocol: &str) -> Connection {
    let forwarded = header(request, "x-forwarded-for");
    Connection {
        format_name: format_name.to_owned(),
        protocol: protocol.to_owned(),
        remote_addr: match forwarded {
            Some(forwarded) => format!("{} forwarded {forwarded}", request.remote),
            None => request.remote.clone(),
        },
        user_agent: header(request, "user-agent").unwrap_or_default().to_owned(),
        ..Connection::default()
    }
}

async fn http(engine: &Arc<Engine>, request: &Request, body: Body) -> Result<Reply, Error> {
    match request.method.as_str() {
        "POST" => post(engine, request, body).await,
        "DELETE" => Ok(match query_value(&request.query, "id") {
            None => Reply::text(400, "id is missing"),
            Some(id) if engine.close(&id) => status(200, Vec::new()),
            Some(_) => Reply::text(404, "session not found"),
        }),
        "PATCH" => patch(engine, request, body).await,
        "OPTIONS" => {
            let accept = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let headers = vec![
                accept("accept-post", "application/sdp"),
                accept("allow", "POST, PATCH, DELETE, OPTIONS"),
            ];
            Ok(status(204, headers))
        }
        _ => Ok(Reply::text(405, "method not allowed")),
    }
}

fn status(status: u16, headers: Vec<(String, String)>) -> Reply {
    Reply::Whole(Response { status, headers }, Bytes::new())
}

/// The whole body, or nothing when it is longer than any description.
async fn read(mut body: Body) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(part) = body.next().await {
        // A form's base64 is a third longer, and percent-encoded.
        if bytes.len() + part.len() > 4 * MAX_LEN {
            return None;
        }
        bytes.extend_from_slice(&part);
    }
    Some(bytes)
}

/// How an offer came, which is how the answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Encoded,
    Whep,
    Whip,
    Other,
}

impl Form {
    fn of(media_type: &str, is_publisher: bool) -> Self {
        match media_type {
            _ if is_publisher => Self::Whip,
            "application/json" => Self::Json,
            "application/x-www-form-urlencoded" => Self::Encoded,
            "application/sdp" => Self::Whep,
            _ => Self::Other,
        }
    }

    fn format_name(self) -> &'static str {
        match self {
            Self::Json => "webrtc/json",
            Self::Encoded | Self::Other => "webrtc/post",
            Self::Whep => "webrtc/whep",
            Self::Whip => "webrtc",
        }
    }

    /// The offer in a body.
    fn offer(self, body: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(body);
        match self {
            Self::Json => {
                let value: Value = serde_json::from_str(&text).ok()?;
                value.get("sdp")?.as_str().map(str::to_owned)
            }
            Self::Encoded => {
                // A plus sign of the base64 that was not encoded arrives as a blank.
                let data = query_pairs(&text).find(|(key, _)| key == "data")?.1.replace(' ', "+");
                String::from_utf8(STANDARD.decode(data.trim()).ok()?).ok()
            }
            _ => Some(text.into_owned()),
        }
    }
}

async fn post(engine: &Arc<Engine>, request: &Request, body: Body) -> Result<Reply, Error> {
    let Some((stream, is_publisher)) = target(request) else {
        return Ok(Reply::text(400, "src or dst is missing"));
    };
    let content_type = header(request, "content-type").unwrap_or_default().to_owned();
    let form = Form::of(&media_type(request), is_publisher);
    let context = body.context();
    let Some(bytes) = read(body).await else { return Ok(Reply::text(413, "the offer is too long")) };
    let connection = connection(request, form.format_name(), "http");
    let Some(offer) = form.offer(&bytes) else {
        known(&context, &stream, &connection).await?;
        return Ok(Reply::text(400, "the offer cannot be read"));
    };
    let ask = Ask {
        stream: stream.clone(),
        query: request.query.clone(),
        offer,
        is_publisher,
        connection: connection.clone(),
    };
    match engine.open(context.clone(), ask).await {
        Ok(answer) => Ok(reply(form, &content_type, &answer)),
        Err(error) => {
            if matches!(error.class, Class::Protocol | Class::Unsupported) {
                known(&context, &stream, &connection).await?;
            }
            // 404 is for a stream that there is not, not for one with nothing that this player takes.
            if error.class == Class::NotFound && !is_unknown(&error) {
                return Ok(Reply::text(500, &error.message));
            }
            Err(error)
        }
    }
}

/// An error when there is no such stream, which comes before whatever is wrong with an offer. What a claim shows that takes nothing and
/// wakes no camera.
async fn known(context: &Context, stream: &str, connection: &Connection) -> Result<(), Error> {
    let claim = Consume {
        stream: stream.to_owned(),
        medias: vec![Media { kind: "data".to_owned(), codecs: Vec::new() }],
        connection: connection.clone(),
        class: "background".to_owned(),
        timeout_ms: 1,
        ..Consume::default()
    };
    match context.consume(&claim)?.next().await {
        Err(error) if is_unknown(&error) => Err(error),
        _ => Ok(()),
    }
}

fn reply(form: Form, content_type: &str, answer: &Answer) -> Reply {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let (code, content_type, body) = match form {
        Form::Json => {
            let body = json!({"type": "answer", "sdp": answer.sdp});
            (200, "application/json", format!("{body}\n"))
        }
        Form::Encoded => (200, content_type, STANDARD.encode(&answer.sdp)),
        Form::Whep | Form::Whip => (201, "application/sdp", answer.sdp.clone()),
        Form::Other => (200, content_type, answer.sdp.clone()),
    };
    let mut headers = Vec::new();
    if !content_type.is_empty() {
        headers.push(field("content-type", content_type));
    }
    if code == 201 {
        headers.push(field("location", &format!("webrtc?id={}", answer.id)));
        headers.push(field("etag", &format!("\"{}\"", answer.etag)));
        headers.push(field("accept-patch", FRAGMENT));
    }
    Reply::Whole(Response { status: code, headers }, Bytes::from(body))
}

/// What comes after the offer: candidates, or new credentials (RFC 9725 section 4.3).
async fn patch(engine: &Arc<Engine>, request: &Request, body: Body) -> Result<Reply, Error> {
    let Some(id) = query_value(&request.query, "id") else { return Ok(Reply::text(400, "id is missing")) };
    if media_type(request) != FRAGMENT {
        return Ok(Reply::text(415, "the content type is another than application/trickle-ice-sdpfrag"));
    }
    let Some(etag) = header(request, "if-match") else {
        return Ok(Reply::text(428, "if-match is missing: the entity tag of the session"));
    };
    let etag = etag.to_owned();
    let Some(bytes) = read(body).await else { return Ok(Reply::text(413, "the fragment is too long")) };
    Ok(match engine.fragment(&id, &etag, &String::from_utf8_lossy(&bytes)).await {
        Ok(None) => status(204, Vec::new()),
        Ok(Some(restarted)) => {
            let field = |name: &str, value: String| (name.to_owned(), value);
            let headers = vec![
                field("content-type", FRAGMENT.to_owned()),
                field("etag", format!("\"{}\"", restarted.etag)),
            ];
            Reply::Whole(Response { status: 200, headers }, Bytes::from(restarted.fragment))
        }
        Err(Trickle::Unknown) => Reply::text(404, "session not found"),
        Err(Trickle::Other) => Reply::text(412, "the session has another entity tag"),
        Err(Trickle::Refused(error)) => Reply::text(422, &error.message),
    })
}

/// The content type of a request without parameters, in lower case.
fn media_type(request: &Request) -> String {
    let content_type = header(request, "content-type").unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn message(kind: &str, value: Value) -> SocketMessage {
    SocketMessage { kind: kind.to_owned(), value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_come_in_four_forms() {
        let sdp = "v=0\r\n";
        assert_eq!(
            Form::of("application/json", false).offer(br#"{"type":"offer","sdp":"v=0\r\n"}"#),
            Some(sdp.to_owned())
        );
        assert_eq!(
            Form::of("application/x-www-form-urlencoded", false).offer(b"data=dj0wDQo%3D"),
            Some(sdp.to_owned())
        );
        assert_eq!(Form::of("application/sdp", false).offer(b"v=0\r\n"), Some(sdp.to_owned()));
        assert_eq!(Form::of("", false).offer(b"v=0\r\n"), Some(sdp.to_owned()));
        assert_eq!(Form::Json.offer(b"{}"), None);
        assert_eq!(Form::Encoded.offer(b"data=%%%"), None);
        assert_eq!(Form::of("application/json", true), Form::Whip);
    }

    #[test]
    fn answers_go_as_the_offers_came() {
        let answer = Answer {
            id: "i".to_owned(),
            sdp: "v=0\r\n".to_owned(),
            bare: String::new(),
            candidates: Vec::new(),
            etag: "e".to_owned(),
        };
        let parts = |form| match reply(form, "text/x", &answer) {
            Reply::Whole(response, body) => (response.status, response.headers, body),
            _ => panic!("no whole answer"),
        };
        let (status, headers, body) = parts(Form::Whep);
        assert_eq!((status, &body[..]), (201, &b"v=0\r\n"[..]));
        assert!(headers.contains(&("location".to_owned(), "webrtc?id=i".to_owned())));
        assert!(headers.contains(&("etag".to_owned(), "\"e\"".to_owned())));
        assert_eq!(&parts(Form::Json).2[..], b"{\"sdp\":\"v=0\\r\\n\",\"type\":\"answer\"}\n");
        let (status, headers, body) = parts(Form::Encoded);
        assert_eq!((status, &body[..]), (200, &b"dj0wDQo="[..]));
        assert_eq!(headers, [("content-type".to_owned(), "text/x".to_owned())]);
    }
}
