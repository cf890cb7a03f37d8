//! `/api/ws`: messages go to the plugins that declare their type.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::FromRequestParts as _;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use futures_util::{SinkExt as _, StreamExt as _};
use patchbay_plugin_api::message::Ended;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Peer, Query, plugin_route, text};
use crate::app::{App, RouteEvent};
use crate::catalogue::Entry;
use crate::log::Level;
use crate::serve::{Next, Served};

/// Messages that wait for a slow client; then media waits, and skips to a key unit when it is overtaken.
const QUEUE: usize = 4;

/// Messages of one client that are worked on at a time; more wait.
const MAX_TASKS: usize = 64;

/// A client that keeps all of them busy for so long with more to say loses its connection.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// A message that a client does not take for so long ends its connection.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// Numbers connections, so that a plugin knows which messages belong together.
static SOCKETS: AtomicU64 = AtomicU64::new(0);

/// Largest message of a client, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

pub(super) async fn upgrade(app: Arc<App>, peer: Peer, parts: &mut Parts, query: Query) -> Response {
    if !same_origin(&app, parts) {
        return text(StatusCode::FORBIDDEN, "Forbidden");
    }
    // Of a stream that is not known each message hears: a browser cannot read why an upgrade was refused.
    if query.get("src").or_else(|| query.get("dst")).is_none() {
        return text(StatusCode::NOT_FOUND, "stream not found");
    }
    let upgrade = match WebSocketUpgrade::from_request_parts(parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let parts = parts.clone();
    upgrade.max_message_size(MAX_MESSAGE).on_upgrade(move |socket| run(app, peer, parts, socket))
}

fn same_origin(app: &App, parts: &Parts) -> bool {
    let config = app.config();
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = header(ORIGIN).filter(|_| config.api.origin != "*") else { return true };
    let host = header(HOST).unwrap_or("");
    let origin = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    // Behind a proxy the host often comes without the port that the page was loaded from.
    origin == host
        || (config.api.origin.is_empty() && origin.rsplit_once(':').is_some_and(|(name, _)| name == host))
}

async fn run(app: Arc<App>, peer: Peer, parts: Parts, socket: WebSocket) {
    let (mut sink, mut stream) = socket.split();
    let (sender, mut queue) = mpsc::channel::<Message>(QUEUE);
    let writer = tokio::spawn(async move {
        while let Some(message) = queue.recv().await {
            match tokio::time::timeout(WRITE_LIMIT, sink.send(message)).await {
                Ok(Ok(())) => {}
                _ => return,
            }
        }
        let _ = tokio::time::timeout(WRITE_LIMIT, sink.close()).await;
    });
    let id = SOCKETS.fetch_add(1, Ordering::Relaxed) + 1;
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            () = sender.closed() => break,
        };
        let Some(Ok(message)) = message else { break };
        let Message::Text(content) = message else { continue };
        let Ok(message) = serde_json::from_str::<Value>(&content) else { break };
        let kind = message.get("type").and_then(Value::as_str).unwrap_or("").to_owned();
        let value = message.get("value").cloned();
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= MAX_TASKS && tokio::time::timeout(BUSY_LIMIT, tasks.join_next()).await.is_err() {
            let remote = peer.text();
            app.log.write(
                Level::Warn,
                "api",
                "a WebSocket client says too much at once: it is closed",
                &[("remote", &remote)],
            );
            break;
        }
        let (app, peer, parts, sender) = (Arc::clone(&app), peer.clone(), parts.clone(), sender.clone());
        tasks.spawn(async move {
            if let Err(reason) = answer(&app, &peer, &parts, &kind, value, id, &sender).await {
                let error = json!({"type": "error", "value": format!("{kind}: {reason}")});
                let _ = sender.send(Message::Text(format!("{error}\n").into())).await;
            }
        });
    }
    // Consumers of this socket leave with their tasks.
    tasks.shutdown().await;
    drop(sender);
    let _ = writer.await;
}

async fn answer(
    app: &Arc<App>,
    peer: &Peer,
    parts: &Parts,
    kind: &str,
    value: Option<Value>,
    id: u64,
    sender: &mpsc::Sender<Message>,
) -> Result<(), String> {
    let (catalogue, config) = (app.catalogue(), app.config());
    let found = catalogue.ws(kind).filter(|(_, route)| config.allows_module(route.module.as_deref()));
    let Some((entry, _)) = found else {
        // A player need not wait for what is switched off; types that nobody knows are ignored, as players expect.
        let of =
            |entry: &&Entry| entry.manifest.routes.iter().any(|route| !kind.is_empty() && route.ws == kind);
        let off = catalogue.entries.iter().find(of);
        return off.map_or(Ok(()), |entry| Err(format!("plugin {} is off", entry.manifest.name)));
    };
    let query = parts.uri.query().unwrap_or("");
    let mut open = plugin_route::open(kind, "", "api/ws", query, peer, parts);
    (open.value, open.socket) = (value, id);
    let (_, _, mut events) = app.route(&entry.manifest.name, &open)?;
    let (mut said, mut answered) = (Vec::new(), false);
    while let Some(event) = events.recv().await {
        match event {
            RouteEvent::Serve(mut serve) => {
                "ws".clone_into(&mut serve.consume.connection.protocol);
                plugin_route::fill(&mut serve, peer, parts);
                let (ws_type, value) = (serve.ws_type.clone(), serve.content_type.clone());
                let served = Served::start(app, *serve).await.map_err(|ended| ended.message)?;
                let refused = media(app, served, &ws_type, value, sender).await;
                return refused.map_or(Ok(()), |ended| Err(ended.message));
            }
            // A whole answer is one message.
            RouteEvent::Ended(_) if !said.is_empty() => {
                let message = String::from_utf8_lossy(&said).into_owned();
                let _ = sender.send(Message::Text(message.into())).await;
                return Ok(());
            }
            RouteEvent::Message(message) => {
                let text = json!({"type": message.kind, "value": message.value});
                if sender.send(Message::Text(format!("{text}\n").into())).await.is_err() {
                    return Ok(());
                }
                answered = true;
            }
            RouteEvent::Ended(ended) if ended.message.is_empty() || answered => return Ok(()),
            RouteEvent::Ended(ended) => return Err(ended.message),
            RouteEvent::Data(data) if said.len() + data.len() <= MAX_MESSAGE => said.extend_from_slice(&data),
            RouteEvent::Response(_) | RouteEvent::Data(_) | RouteEvent::Blobs(_) => {}
        }
    }
    Err("the plugin gave no answer".to_owned())
}

/// Plays until the end; the reason, when the stream has nothing for this player any more.
async fn media(
    app: &Arc<App>,
    mut served: Served,
    ws_type: &str,
    value: Option<String>,
    sender: &mpsc::Sender<Message>,
) -> Option<Ended> {
    let told = served.mime().to_owned();
    // An empty value is left out.
    let head = match value.as_deref().unwrap_or(&told) {
        "" => json!({"type": ws_type}),
        value => json!({"type": ws_type, "value": value}),
    };
    if sender.send(Message::Text(format!("{head}\n").into())).await.is_err() {
        return None;
    }
    while let Some(next) = served.next().await {
        let message = match next {
            Next::Data(piece) => Message::Binary(piece.joined()),
            Next::Mime(mime) if mime == told => continue,
            // A player has one buffer with one set of tracks: it connects anew, as all of them do after a close.
            Next::Mime(mime) => {
                let fields = [("was", told.as_str()), ("is", &mime)];
                app.log.write(Level::Info, "api", "player ended: the stream has other codecs now", &fields);
                let reason = Utf8Bytes::from_static("the stream has other codecs now");
                Message::Close(Some(CloseFrame { code: close_code::RESTART, reason }))
            }
        };
        if sender.send(message).await.is_err() {
            return None;
        }
    }
    served.refused.take()
}
