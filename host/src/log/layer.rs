//! From `tracing` events to lines.

use super::format::{Line, Value};
use super::{Level, LogHandle};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Takes the events of the process. Spans add nothing to a line.
pub struct LogLayer {
    log: LogHandle,
}

impl LogLayer {
    pub(crate) fn new(log: LogHandle) -> Self {
        Self { log }
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // The module of an event may stand in a field, so the full check comes with its values.
        Level::from(*metadata.level()) >= self.log.most()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.log.most().into())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut visitor = Visitor { module: None, message: String::new(), fields: Vec::new() };
        event.record(&mut visitor);
        let module = visitor.module.unwrap_or_else(|| module_of(metadata.target()).to_owned());
        let level = Level::from(*metadata.level());
        if self.log.enabled(&module, level) && (level >= Level::Warn || !is_foreign(metadata.target())) {
            self.log.put(Line { level, module, message: visitor.message, fields: visitor.fields });
        }
    }
}

/// Module of a target: `patchbay::api::server` -> `api`, `patchbay` -> none, `api` -> `api`.
fn module_of(target: &str) -> &str {
    let mut parts = target.split("::");
    match parts.next() {
        Some("patchbay" | "go2rtc") => parts.next().unwrap_or_default(),
        first => first.unwrap_or_default(),
    }
}

/// Whether the event comes from a dependency: its lines below warnings are not for users.
fn is_foreign(target: &str) -> bool {
    const CRATES: [&str; 9] =
        ["axum", "h2", "hyper", "hyper_util", "mio", "rustls", "tokio", "tower", "want"];
    CRATES.contains(&target.split("::").next().unwrap_or_default())
}

struct Visitor {
    module: Option<String>,
    message: String,
    fields: Vec<(String, Value)>,
}

impl Visitor {
    fn add(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => self.message = value.into_text(),
            "plugin" | "module" => self.module = Some(value.into_text()),
            name => self.fields.push((name.to_owned(), value)),
        }
    }
}

impl Visit for Visitor {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Text(value.to_owned()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(error) = source.filter(|_| text.len() < super::MAX_LINE) {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        self.add(field, Value::Text(text));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Number(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Number(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = value.to_string();
        self.add(field, if value.is_finite() { Value::Number(text) } else { Value::Text(text) });
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Bool(value));
    }
}
