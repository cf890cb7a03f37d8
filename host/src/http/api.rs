//! `/api` and its small routes.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::{Call, Peer, empty, text};
use crate::app::{App, PluginState};
use crate::cli;
use crate::config::{Api, Problem, WriteError, merge};
use crate::log::Level;

/// `GET /api`.
pub(super) fn info(call: &Call) -> Response {
    let mut map = Map::new();
    map.insert("version".to_owned(), cli::VERSION.into());
    map.insert("revision".to_owned(), "".into());
    let host = call.headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
    map.insert("host".to_owned(), host.into());
    for (protocol, info) in call.app.listening() {
        map.insert(protocol, Value::Object(info));
    }
    if let Some(path) = call.app.config().config_path() {
        map.insert("config_path".to_owned(), path.display().to_string().into());
    }
    if let Some(error) = call.app.config_error() {
        map.insert("config_error".to_owned(), error.into());
    }
    super::json(&Value::Object(map))
}

/// `GET /api/schemes`.
pub(super) fn schemes(call: &Call) -> Response {
    let app = &call.app;
    let (catalogue, config) = (app.catalogue(), app.config());
    let mut names: Vec<&str> = catalogue
        .schemes()
        .filter(|scheme| config.allows_module(scheme.module.as_deref()))
        .map(|scheme| scheme.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    super::json(&json!(names))
}

/// `/api/config`.
pub(super) fn config(call: &Call) -> Response {
    let Some(file) = &call.app.file else { return text(StatusCode::GONE, "") };
    if call.method == Method::GET || call.method == Method::HEAD {
        let open = call.sees_secrets() || (call.peer.is_local() && !call.app.config().api.has_login());
        if !open {
            let message = "the configuration holds secrets: log in (api: username:, api: password:), or ask from this machine";
            return text(StatusCode::FORBIDDEN, message);
        }
        return match file.read() {
            Ok(content) => {
                let mut response = Response::new(Body::from(content));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
                response
            }
            Err(_) => text(StatusCode::NOT_FOUND, ""),
        };
    }
    let Ok(content) = std::str::from_utf8(&call.body) else {
        return text(StatusCode::BAD_REQUEST, "the configuration must be UTF-8");
    };
    if call.method == Method::POST && call.query.get("check").is_some() {
        let list: Vec<Value> = call.app.try_config(content).iter().map(problem).collect();
        return super::json(&Value::Array(list));
    }
    let merged = match call.method {
        Method::PATCH => merge::fragment(&file.read().unwrap_or_default(), content).map_err(Into::into),
        _ => Ok(content.to_owned()),
    };
    let done: Result<(), WriteError> = match (&call.method, merged) {
        (&Method::POST | &Method::PATCH, Ok(text)) => {
            let errors: Vec<String> = call.app.check_config(&text).iter().map(ToString::to_string).collect();
            if !errors.is_empty() {
                return text_of(&errors);
            }
            if call.method == Method::POST { file.replace(content) } else { file.merge(content) }
        }
        (_, merged) => merged.map(drop),
    };
    match done {
        Ok(()) => {
            if matches!(call.method, Method::POST | Method::PATCH) {
                let _ = call.app.reload();
            }
            empty(StatusCode::OK)
        }
        Err(error) if error.is_callers() && call.method == Method::PATCH => {
            text(StatusCode::BAD_REQUEST, &error.to_string())
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn problem(problem: &Problem) -> Value {
    json!({
        "severity": problem.severity.to_string(), "source": problem.source, "line": problem.line,
        "column": problem.column, "message": problem.message, "hint": problem.hint,
    })
}

fn text_of(errors: &[String]) -> Response {
    text(StatusCode::BAD_REQUEST, &errors.join("\n"))
}

/// `/api/log`.
pub(super) fn log(call: &Call) -> Response {
    match call.method {
        Method::GET | Method::HEAD => {
            let mut response = Response::new(Body::from(call.app.log.memory_lines()));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jsonlines"));
            response
        }
        Method::DELETE => {
            call.app.log.clear();
            let mut response = Response::new(Body::from("OK"));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            response
        }
        _ => text(StatusCode::BAD_REQUEST, "Method not allowed"),
    }
}

/// `POST /api/exit?code=N`.
pub(super) fn exit(call: &Call) -> Response {
    if call.method != Method::POST {
        return text(StatusCode::BAD_REQUEST, "");
    }
    match call.query.get("code").and_then(|code| code.parse::<u8>().ok()).filter(|code| *code <= 125) {
        Some(code) => {
            call.app.end_with(crate::app::End::Exit(code));
            empty(StatusCode::OK)
        }
        None => text(StatusCode::BAD_REQUEST, "Code must be in the range [0, 125]"),
    }
}

/// `POST /api/restart`.
pub(super) fn restart(call: &Call) -> Response {
    if call.method != Method::POST {
        return text(StatusCode::BAD_REQUEST, "");
    }
    call.app.end_with(crate::app::End::Restart);
    empty(StatusCode::OK)
}

/// `GET /api/stack`: what is going on, for bug reports.
pub(super) fn stack(call: &Call) -> Response {
    let app = &call.app;
    let mut lines: Vec<String> = app
        .running()
        .iter()
        .map(|instance| {
            let state = instance.failure().unwrap_or_else(|| "running".to_owned());
            format!("plugin {} {}: {state}", instance.manifest.name, instance.manifest.version)
        })
        .collect();
    lines.extend(app.sources().iter().map(|source| format!("source {}", source.id)));
    lines.extend(app.runs().iter().map(|run| format!("run {}: {} viewers", run.session, run.viewers())));
    let total = lines.len() + app.session_count();
    text(StatusCode::OK, &format!("{}\nTotal: {total}, Skipped: {}", lines.join("\n"), app.session_count()))
}

/// What `POST /api/plugins/NAME` may ask for.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginChange {
    /// On or off, here and in the configuration file.
    enabled: Option<bool>,
    /// Start it anew.
    #[serde(default)]
    restart: bool,
    /// How much it logs, until the next change of the configuration.
    level: Option<String>,
}

/// `POST /api/plugins/NAME`.
pub(super) fn plugin(call: &Call, name: &str) -> Response {
    let app = &call.app;
    if app.catalogue().by_name(name).is_none() {
        return text(StatusCode::NOT_FOUND, &format!("there is no plugin {name}"));
    }
    if call.method != Method::POST {
        return one_plugin(call, name);
    }
    let change: PluginChange = match serde_json::from_slice(&call.body) {
        Ok(change) => change,
        Err(error) => {
            let message = format!(
                "write {{\"enabled\": true}}, {{\"restart\": true}} or {{\"level\": \"debug\"}}: {error}"
            );
            return text(StatusCode::BAD_REQUEST, &message);
        }
    };
    if let Some(level) = &change.level {
        let Some(level) = Level::parse(level) else {
            return text(StatusCode::BAD_REQUEST, "level: one of trace, debug, info, warn, error, disabled");
        };
        app.set_log_level(name, level);
    }
    if let Some(enabled) = change.enabled
        && let Err(error) = app.set_enabled(name, enabled)
    {
        let message = format!("plugin {name} is switched, but not in the configuration file: {error}");
        return text(StatusCode::INTERNAL_SERVER_ERROR, &message);
    }
    if change.restart {
        app.restart_plugin(name);
    }
    one_plugin(call, name)
}

fn one_plugin(call: &Call, name: &str) -> Response {
    let list = plugin_list(call);
    let found = list.into_iter().find(|plugin| plugin.get("name").and_then(Value::as_str) == Some(name));
    super::json_pretty(&found.unwrap_or_default())
}

/// `GET /schema.json`: the configuration as a JSON Schema, for editors.
pub(super) fn schema(app: &App) -> Response {
    let catalogue = app.catalogue();
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": text});
    let keys = |names: &[&str]| {
        let properties: Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
        json!({"type": "object", "properties": properties})
    };
    let mut sections = Map::new();
    let mut add = |name: &str, value: Value| sections.insert(name.to_owned(), value);
    add("app", keys(&["modules", "writable_plugins"]));
    add("api", keys(&Api::KEYS));
    add("log", json!({"type": "object"}));
    let sources =
        json!({"type": "object", "additionalProperties": {"type": ["string", "array", "object", "null"]}});
    add("streams", sources);
    add("publish", json!({"type": "object", "additionalProperties": {"anyOf": [text, texts]}}));
    add("preload", json!({"type": "object"}));
    add("env", json!({"type": "object"}));
    let mut switches = Map::new();
    for entry in &catalogue.entries {
        let manifest = &entry.manifest;
        let mut options = manifest.options.as_object().cloned().unwrap_or_default();
        options.remove("$defs");
        options.insert("description".to_owned(), manifest.description.as_str().into());
        // Keys of the host stand among them.
        options.remove("additionalProperties");
        add(&manifest.name, Value::Object(options.clone()));
        let switch = json!({"anyOf": [{"type": "boolean"}, {"enum": ["on", "off"]}, Value::Object(options)]});
        switches.insert(manifest.name.clone(), switch);
    }
    add("plugins", json!({"type": "object", "properties": switches}));
    super::json_pretty(&json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Patchbay's configuration",
        "type": "object", "properties": sections,
    }))
}

/// `GET /api/plugins`.
pub(super) fn plugins(call: &Call) -> Response {
    super::json_pretty(&Value::Array(plugin_list(call)))
}

fn plugin_list(call: &Call) -> Vec<Value> {
    let app = &call.app;
    let show_path = call.sees_secrets() || matches!(call.peer, Peer::Unix) || call.peer.is_local();
    let (catalogue, config) = (app.catalogue(), app.config());
    let mut list: Vec<Value> = catalogue
        .entries
        .iter()
        .map(|entry| {
            let (state, reason) = app.plugin_state(&entry.manifest.name);
            let state = match state {
                PluginState::Off => "off",
                PluginState::Ready => "ready",
                PluginState::Starting => "starting",
                PluginState::Running => "running",
                PluginState::Failed => "failed",
            };
            let schemes: Vec<&str> =
                entry.manifest.schemes.iter().map(|scheme| scheme.name.as_str()).collect();
            let creatable = entry.manifest.schemes.iter().filter(|scheme| {
                scheme.api && scheme.role != "sink" && config.allows_module(scheme.module.as_deref())
            });
            let sources: Vec<&str> = creatable.map(|scheme| scheme.name.as_str()).collect();
            let mut plugin = json!({
                "name": entry.manifest.name, "version": entry.manifest.version, "abi": entry.manifest.abi,
                "roles": entry.manifest.roles, "schemes": schemes, "sources": sources, "licence": entry.manifest.licence,
                "description": entry.manifest.description, "home": entry.manifest.home,
                "shipped": entry.shipped, "state": state, "options": entry.manifest.options,
            });
            if let Some(map) = plugin.as_object_mut() {
                let running = app.running();
                let instance = running.iter().find(|i| i.manifest.name == entry.manifest.name);
                if let Some(pid) = instance.filter(|i| i.failure().is_none()).and_then(|i| i.pid()) {
                    map.insert("pid".to_owned(), pid.into());
                }
                let isolation = if app.is_isolated(entry) { "process" } else { "in-process" };
                map.insert("isolation".to_owned(), isolation.into());
                map.insert("level".to_owned(), app.log.level(&entry.manifest.name).name().into());
                map.insert("restarts".to_owned(), app.deaths(&entry.manifest.name).into());
                let in_force = instance.filter(|i| i.failure().is_none()).and_then(|i| i.in_force());
                if let Some(in_force) = in_force {
                    map.insert("sandbox".to_owned(), json!(in_force));
                }
                if show_path {
                    map.insert("path".to_owned(), entry.path.display().to_string().into());
                }
                if let Some(reason) = reason {
                    map.insert("why".to_owned(), reason.into());
                }
            }
            plugin
        })
        .collect();
    list.extend(catalogue.refused.iter().map(|refused| {
        let file = refused.path.file_name().map(|name| name.to_string_lossy().into_owned());
        json!({"name": file, "state": "refused", "why": refused.reason})
    }));
    list
}
