//! `/api/streams`.

use axum::http::{Method, StatusCode};
use axum::response::Response;
use patchbay_plugin_api::message::{Connection, Consume};
use serde_json::Value;

use super::{Call, empty, json, json_pretty, play, text};
use crate::app::{App, ConsumerNews};
use crate::config::{ConfigFile, Node, WriteError};
use crate::redact::mask_userinfo;
use crate::router::MAX_TEMPORARY;

/// Schemes that run programs or code of their URL: only the configuration file may use them.
const INSECURE: [&str; 3] = ["exec", "echo", "expr"];
const INSECURE_SOURCE: &str = "streams: source from insecure producer";

pub(super) async fn handle(call: &Call) -> Response {
    match call.method {
        Method::PUT => put(call),
        Method::PATCH => patch(call),
        Method::DELETE => delete(call),
        Method::POST => post(call).await,
        _ => get(call).await,
    }
}

async fn get(call: &Call) -> Response {
    let Some(name) = call.query.get("src").filter(|name| !name.is_empty()) else { return all(call) };
    if call.app.info(Some(name)).is_none() {
        return text(StatusCode::NOT_FOUND, "");
    }
    let probes = ["video", "audio"].iter().any(|key| call.query.get(key).is_some());
    let mut probe = None;
    if probes || call.query.get("microphone").is_some() {
        let filter =
            |key: &'static str| call.query.all(key).into_iter().map(move |value| format!("{key}={value}"));
        let query: Vec<String> = ["video", "audio"].into_iter().flat_map(filter).collect();
        let connection = Connection {
            format_name: "probe".to_owned(),
            protocol: "http".to_owned(),
            remote_addr: call.peer.text(),
            ..Connection::default()
        };
        let consume = Consume {
            stream: name.to_owned(),
            query: if query.is_empty() { "audio".to_owned() } else { query.join("&") },
            connection,
            timeout_ms: 3000,
            class: "background".to_owned(),
            ..Consume::default()
        };
        match call.app.attach(&consume) {
            Ok((id, mut news)) => {
                let answer = news.recv().await;
                if let Some(ConsumerNews::Refused(ended)) = answer {
                    return text(StatusCode::INTERNAL_SERVER_ERROR, &ended.message);
                }
                probe = Some(id);
            }
            Err(_) => return text(StatusCode::NOT_FOUND, ""),
        }
    }
    let answer = match call.app.info(Some(name)) {
        Some(info) => json_pretty(&masked(call, info)),
        None => text(StatusCode::NOT_FOUND, ""),
    };
    if let Some(id) = probe {
        call.app.detach(id);
    }
    answer
}

fn all(call: &Call) -> Response {
    let info = call.app.info(None).unwrap_or_default();
    json(&masked(call, info))
}

/// Secrets are for those who may see them.
pub(super) fn masked(call: &Call, mut value: Value) -> Value {
    mask(call, &mut value);
    value
}

fn mask(call: &Call, value: &mut Value) {
    match value {
        Value::String(text) => {
            let hidden = call.app.log.redactor().redact_values(text).into_owned();
            *text = if call.sees_secrets() { hidden } else { mask_userinfo(&hidden).into_owned() };
        }
        Value::Array(list) => list.iter_mut().for_each(|item| mask(call, item)),
        Value::Object(map) => map.values_mut().for_each(|item| mask(call, item)),
        _ => {}
    }
}

fn put(call: &Call) -> Response {
    let sources = call.query.all("src");
    let Some(first) = sources.first() else { return all(call) };
    let name = call.query.get("name").filter(|name| !name.is_empty()).unwrap_or(first).to_owned();
    let known = call.app.streams(|core, _| core.urls(&name)).unwrap_or_default();
    let sources: Vec<String> = sources.iter().map(|source| unmask(source, &known)).collect();
    for source in &sources {
        if let Err(message) = check(&call.app, source) {
            return text(StatusCode::BAD_REQUEST, message);
        }
    }
    if sources == known {
        return empty(StatusCode::OK);
    }
    call.app.streams(|core, now| {
        core.set_stream(&name, &sources);
        core.renew_waiting(now, &name);
    });
    let written = match &call.app.file {
        Some(file) => {
            file.set(&["streams", &name], &Node::strings(sources)).map_err(|error| error.to_string())
        }
        None => Err("config file disabled".to_owned()),
    };
    match written {
        Ok(()) => {
            tokio::task::block_in_place(|| call.app.adopt_own_write());
            empty(StatusCode::OK)
        }
        Err(message) => text(StatusCode::BAD_REQUEST, &message),
    }
}

/// `***` in a PUT keeps the stored secret.
fn unmask(source: &str, known: &[String]) -> String {
    let stored = known.iter().find(|url| source.contains("***") && mask_userinfo(url) == source);
    stored.cloned().unwrap_or_else(|| source.to_owned())
}

fn patch(call: &Call) -> Response {
    let Some(name) = call.query.get("name").filter(|name| !name.is_empty()) else {
        return text(StatusCode::BAD_REQUEST, "");
    };
    let source = call.query.get("src").unwrap_or("").to_owned();
    if let Some(of) = call.app.streams(|core, _| core.resolve(&source)) {
        call.app.streams(|core, _| core.set_alias(name, &of));
        return empty(StatusCode::OK);
    }
    if let Err(message) = check(&call.app, &source) {
        return text(StatusCode::BAD_REQUEST, message);
    }
    call.app.streams(|core, _| core.redirect(name, &source));
    empty(StatusCode::OK)
}

fn delete(call: &Call) -> Response {
    let Some(name) = call.query.get("src") else { return all(call) };
    call.app.streams(|core, _| core.remove_stream(name));
    if let Some(file) = &call.app.file {
        // A stream of a second file, or of none: it is gone from memory all the same.
        if file.delete(&["streams", name]).is_ok() {
            tokio::task::block_in_place(|| call.app.adopt_own_write());
        }
    }
    empty(StatusCode::OK)
}

async fn post(call: &Call) -> Response {
    let Some(dst) = call.query.get("dst") else { return text(StatusCode::BAD_REQUEST, "") };
    let source = call.query.get("src").unwrap_or("");
    let exists = |name: &str| call.app.streams(|core, _| core.resolve(name)).is_some();
    if exists(dst) {
        return play::play(call, dst, source).await;
    }
    if exists(source) {
        if let Err(message) = check_text(dst) {
            return text(StatusCode::BAD_REQUEST, message);
        }
        return match call.app.push(source, dst) {
            Ok(()) => empty(StatusCode::OK),
            Err(message) => text(StatusCode::INTERNAL_SERVER_ERROR, &mask_userinfo(&message)),
        };
    }
    text(StatusCode::NOT_FOUND, "")
}

/// `/api/preload`.
pub(super) async fn preload(call: &Call) -> Response {
    let app = &call.app;
    let name = call.query.get("src").unwrap_or("");
    match call.method {
        Method::GET | Method::HEAD => json(&masked(call, app.preloads())),
        Method::PUT => {
            let mut filters = Vec::new();
            // The second names are those of Home Assistant's client.
            for key in ["audio", "microphone", "video"] {
                let other = format!("{key}_codec_filter");
                let values = call.query.all(key).into_iter().chain(call.query.all(&other));
                filters.extend(values.map(|value| format!("{key}={value}")));
            }
            let query = filters.join("&");
            if let Err(message) = app.preload(name, &query).await {
                return text(StatusCode::INTERNAL_SERVER_ERROR, &message);
            }
            written(call, |file| file.set(&["preload", name], &Node::string(query.clone())))
        }
        Method::DELETE => {
            if !app.stop_preload(name) {
                let message = format!("streams: preload not found: {name}");
                return text(StatusCode::INTERNAL_SERVER_ERROR, &message);
            }
            written(call, |file| file.delete(&["preload", name]))
        }
        _ => text(StatusCode::METHOD_NOT_ALLOWED, ""),
    }
}

fn written(call: &Call, write: impl FnOnce(&ConfigFile) -> Result<(), WriteError>) -> Response {
    let done = match &call.app.file {
        Some(file) => write(file).map_err(|error| error.to_string()),
        None => Err("config file disabled".to_owned()),
    };
    match done {
        Ok(()) => {
            tokio::task::block_in_place(|| call.app.adopt_own_write());
            empty(StatusCode::OK)
        }
        Err(message) => text(StatusCode::INTERNAL_SERVER_ERROR, &message),
    }
}

/// Whether the API may create a stream from this source.
pub(super) fn check(app: &App, source: &str) -> Result<(), &'static str> {
    let (catalogue, config) = (app.catalogue(), app.config());
    let known = catalogue
        .scheme(scheme_of(source))
        .filter(|(_, s)| source.contains(':') && config.allows_module(s.module.as_deref()));
    if known.is_none() && !INSECURE.contains(&scheme_of(source)) {
        return Err("streams: source not supported");
    }
    check_text(source)?;
    if known.is_some_and(|(_, scheme)| scheme.api) { Ok(()) } else { Err(INSECURE_SOURCE) }
}

/// What of a URL may not come from the API, whoever dials it.
pub(super) fn check_text(url: &str) -> Result<(), &'static str> {
    if INSECURE.contains(&scheme_of(url)) {
        return Err(INSECURE_SOURCE);
    }
    if url.contains(char::is_whitespace) {
        return Err("streams: source with spaces may be insecure");
    }
    Ok(())
}

pub(super) fn scheme_of(url: &str) -> &str {
    url.split(':').next().unwrap_or(url)
}

/// Makes a temporary stream when `src` names none and is a source URL, under `name` or under itself. Answers what `src`
/// has to be instead, when that is another name.
///
/// # Errors
/// Why no stream may be made.
pub(super) fn make_temporary(call: &Call) -> Result<Option<String>, String> {
    let Some(source) = call.query.get("src").filter(|source| !source.is_empty()) else { return Ok(None) };
    let name = call.query.get("name").filter(|name| !name.is_empty());
    let (app, known) = (&call.app, call.app.streams(|core, _| core.resolve(source)));
    if known.is_some() && name.is_none_or(|name| known.as_deref() == Some(name)) {
        return Ok(None);
    }
    if known.is_none() && !source.contains(':') {
        return Ok(None);
    }
    let refused =
        |response: Response| format!("{}: changes are not allowed for this caller", response.status());
    super::may_change(call).map_err(refused)?;
    if super::is_sent_by_another_site(&call.headers) {
        return Err("a page of another site asks for it".to_owned());
    }
    match (known, name) {
        (Some(of), Some(name)) => app.streams(|core, _| core.set_alias(name, &of)),
        _ => {
            check(app, source)?;
            let name = name.unwrap_or(source);
            if app.streams(|core, _| core.resolve(name)).is_some() {
                app.streams(|core, _| core.redirect(name, source));
            } else if !app.streams(|core, _| core.set_temporary(name, source)) {
                return Err(format!("{MAX_TEMPORARY} temporary streams are watched already"));
            }
        }
    }
    Ok(name.map(str::to_owned))
}
