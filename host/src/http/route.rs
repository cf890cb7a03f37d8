//! Which request goes to whom: the host's own routes, publishing of bytes, plugins' routes, the page.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use patchbay_plugin_api::manifest::Route;

use super::{Call, MAX_BODY, Peer, Query, empty, is_foreign, may_change, not_found, text};
use super::{api, dot, ingest, metrics, play, plugin_route, site, streams, websocket};
use crate::app::App;
use crate::catalogue::Entry;
use crate::log::Level;

/// The host's own routes, beside `api/plugins/NAME`.
const OWN: [&str; 14] = [
    "api",
    "api/streams",
    "api/streams.dot",
    "api/stack",
    "api/schemes",
    "api/preload",
    "api/ffmpeg",
    "api/config",
    "api/log",
    "api/ws",
    "api/exit",
    "api/restart",
    "api/plugins",
    "metrics",
];

/// Answers a request.
pub(super) async fn answer(app: Arc<App>, peer: Peer, logged_in: bool, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let full = parts.uri.path().to_owned();
    let config = app.config();
    let base = config.api.base();
    let is_listed =
        |path: &str| config.api.allow_paths.as_ref().is_none_or(|list| list.iter().any(|p| p == path));
    if !base.is_empty() && full == base {
        return moved(&format!("{base}/"));
    }
    let named = |(entry, route): (&Entry, &Route)| (entry.manifest.name.clone(), route.clone());
    let absolute = app.catalogue().route(&full).map(named);
    let below = full.strip_prefix(&base).and_then(|rest| rest.strip_prefix('/'));
    let Some(path) = (if absolute.is_some() { Some(full.as_str()) } else { below }) else {
        return not_found();
    };
    let (found, path) = (absolute.or_else(|| app.catalogue().route(path).map(named)), path.to_owned());
    let asked = Asked { app: Arc::clone(&app), peer, logged_in, parts, body, path };
    let path = asked.path.as_str();
    if OWN.contains(&path) || path.starts_with("api/plugins/") {
        // A plugin's own path is part of `/api/plugins`.
        let plugin = path.strip_prefix("api/plugins/").unwrap_or("");
        let shown = full.strip_suffix(plugin).unwrap_or(&full).trim_end_matches('/');
        let is_there = config.allows_module(Some(module_of(path))) && is_listed(shown);
        return if is_there { asked.own().await } else { not_found() };
    }
    if asked.is_ingest() && config.allows_module(Some(ingest::module(path))) {
        return if is_listed(&full) { asked.ingest().await } else { not_found() };
    }
    if let Some((plugin, route)) = found
        && config.allows_module(route.module.as_deref())
    {
        return if is_listed(&full) { asked.plugin(&plugin, &route).await } else { not_found() };
    }
    if !is_listed("/") && !is_listed(&format!("{base}/")) {
        return not_found();
    }
    if path == "schema.json" && config.api.static_dir.is_empty() {
        return api::schema(&app);
    }
    site::serve(&config.api.static_dir, path, &asked.parts).await
}

/// A request whose path is known.
struct Asked {
    app: Arc<App>,
    peer: Peer,
    logged_in: bool,
    parts: Parts,
    body: Body,
    /// Below the base path, or a plugin's absolute one.
    path: String,
}

impl Asked {
    fn query(&self) -> Query {
        Query::parse(self.parts.uri.query().unwrap_or_default())
    }

    /// Whether bytes come that are to be a stream.
    fn is_ingest(&self) -> bool {
        ingest::matches(&self.parts.method, &self.path) && self.query().get("dst").is_some()
    }

    /// The request without its body.
    fn call(&self) -> Call {
        Call {
            app: Arc::clone(&self.app),
            method: self.parts.method.clone(),
            query: self.query(),
            headers: self.parts.headers.clone(),
            peer: self.peer.clone(),
            logged_in: self.logged_in,
            body: Bytes::new(),
        }
    }

    async fn own(mut self) -> Response {
        let call = self.call();
        if self.path == "api/ws" {
            if let Err(refused) = with_temporary(&call, &mut self.parts) {
                return refused;
            }
            let query = self.query();
            return websocket::upgrade(self.app, self.peer, &mut self.parts, query).await;
        }
        let Ok(body) = axum::body::to_bytes(self.body, MAX_BODY).await else {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 4 MiB");
        };
        own(&self.path, Call { body, ..call }).await
    }

    async fn ingest(self) -> Response {
        let call = self.call();
        match may_change(&call) {
            Ok(()) => ingest::serve(&call, &self.path, self.body).await,
            Err(refused) => refused,
        }
    }

    async fn plugin(mut self, plugin: &str, route: &Route) -> Response {
        // Publishing: a page of another site must not, whatever the plugin would say.
        let publishes = self.parts.method != Method::GET && self.query().get("dst").is_some();
        if publishes && self.app.config().api.origin != "*" && is_foreign(&self.parts.headers) {
            return text(StatusCode::FORBIDDEN, "publishing by a page of another site is refused");
        }
        if route.creates && (self.parts.method == Method::GET || self.parts.method == Method::HEAD) {
            let call = self.call();
            if let Err(refused) = with_temporary(&call, &mut self.parts) {
                return refused;
            }
        }
        let Self { app, peer, parts, body, path, .. } = self;
        let (name, shared, query) = (&route.path, route.shared, parts.uri.query().unwrap_or_default());
        plugin_route::serve(&app, plugin, name, shared, &path, &peer, &parts, query, body).await
    }
}

/// Answers on one of the host's own routes.
async fn own(path: &str, call: Call) -> Response {
    let changes = match path {
        "api/config" | "api/streams" | "api/preload" => {
            call.method != Method::GET && call.method != Method::HEAD && call.method != Method::OPTIONS
        }
        "api/exit" | "api/restart" | "api/ffmpeg" => true,
        "api/log" => call.method == Method::DELETE,
        _ => path.starts_with("api/plugins/") && call.method != Method::GET,
    };
    if changes && let Err(response) = may_change(&call) {
        return response;
    }
    match path {
        "api" => api::info(&call),
        "api/schemes" => api::schemes(&call),
        "api/log" => api::log(&call),
        "api/exit" => api::exit(&call),
        "api/restart" => api::restart(&call),
        "api/plugins" => api::plugins(&call),
        _ if path.starts_with("api/plugins/") => {
            let name = path.trim_start_matches("api/plugins/").to_owned();
            // Starting and stopping plugins waits for them.
            let done = tokio::task::spawn_blocking(move || api::plugin(&call, &name)).await;
            done.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "the change failed"))
        }
        "api/config" => {
            let done = tokio::task::spawn_blocking(move || api::config(&call)).await;
            done.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "the change failed"))
        }
        "api/streams.dot" => dot::page(&call),
        "api/stack" => api::stack(&call),
        "api/streams" => streams::handle(&call).await,
        "api/preload" => streams::preload(&call).await,
        "api/ffmpeg" => play::by_ffmpeg(&call).await,
        "metrics" => metrics::page(&call.app),
        _ => not_found(),
    }
}

/// Makes a temporary stream when the request asks for one; its query then names it.
#[allow(clippy::result_large_err)] // once per request, and it is the answer
fn with_temporary(call: &Call, parts: &mut Parts) -> Result<(), Response> {
    let named = streams::make_temporary(call).map_err(|why| {
        let fields = [("why", why.as_str()), ("remote", &call.peer.text())];
        call.app.log.write(Level::Warn, "api", "no temporary stream is made", &fields);
        text(StatusCode::NOT_FOUND, "stream not found")
    })?;
    if let Some(name) = named {
        let query = call.query.with("src", &name);
        if let Ok(uri) = format!("{}?{query}", parts.uri.path()).parse() {
            parts.uri = uri;
        }
    }
    Ok(())
}

/// go2rtc's module of one of the host's own routes.
fn module_of(path: &str) -> &'static str {
    match path {
        "api/ws" => "ws",
        "api/stack" => "debug",
        "api/ffmpeg" => "ffmpeg",
        _ => "api",
    }
}

/// An answer that sends the client to another place.
fn moved(location: &str) -> Response {
    let mut response = empty(StatusCode::MOVED_PERMANENTLY);
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
