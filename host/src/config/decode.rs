//! From the merged tree to typed settings; what does not fit is reported with its line and left out.

use super::layer::{HOST_SECTIONS, Reader};
use super::node::{Kind, Meaning, Node, Span};
use super::problem::{Problem, Severity, nearest};
use super::settings::{Api, App, Plugin, Stream, parse_boolean};
use super::{Config, MODULES, emit};
use crate::log;
use crate::sandbox::{ALLOW_ALL, Capability};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(crate) fn config(root: Node, reader: Reader, target: Option<PathBuf>) -> Config {
    let Reader { secrets, problems, names, .. } = reader;
    let mut out = Decoder { names: &names, problems, lost_guard: None };
    let mut app: App = out.section(&root, "app", &["modules", "writable_plugins"]);
    out.modules(&root, &mut app);
    let api = out.section(&root, "api", &Api::KEYS);
    let log = out.log(&root);
    let streams = out.streams(&root);
    let publish = out.publish(&root);
    let preload = out.texts(&root, "preload");
    let env = out.texts(&root, "env").into_iter().collect();
    out.top_level(&root);
    let plugins = out.plugins(&root);
    let Decoder { problems, lost_guard, .. } = out;
    Config {
        app,
        api,
        log,
        streams,
        publish,
        preload,
        env,
        secrets,
        problems,
        lost_guard,
        target,
        names,
        root,
        plugins,
    }
}

pub(crate) fn unknown_plugins(config: &Config, installed: &[&str]) -> Vec<Problem> {
    let mut out = Decoder { names: &config.names, problems: Vec::new(), lost_guard: None };
    let toggles = config.root.get("plugins").and_then(Node::entries).unwrap_or_default();
    let sections = config.root.entries().unwrap_or_default();
    let mut seen = Vec::new();
    for (key, _) in sections.iter().chain(toggles) {
        let Some(name) = key.text() else { continue };
        let known =
            HOST_SECTIONS.contains(&name) || installed.contains(&name) || name == "ws" || name == "debug";
        if known || seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let hint = nearest(name, HOST_SECTIONS.into_iter().chain(installed.iter().copied()));
        let hint = hint.map(|near| format!("did you mean {near:?}?"));
        out.report(
            Severity::Warning,
            key.span,
            format!("no plugin {name:?} is installed, its settings do nothing"),
            hint,
        );
    }
    out.problems
}

struct Decoder<'a> {
    names: &'a [String],
    problems: Vec<Problem>,
    lost_guard: Option<Problem>,
}

impl Decoder<'_> {
    fn report(&mut self, severity: Severity, place: Span, message: String, hint: Option<String>) {
        let source = self.source(place);
        self.problems.push(Problem {
            severity,
            source,
            line: place.line,
            column: place.column,
            message,
            hint,
        });
    }

    fn source(&self, place: Span) -> String {
        self.names.get(usize::from(place.source)).cloned().unwrap_or_default()
    }

    /// The entries of a section without null values; reports a section that is no mapping.
    fn entries(&mut self, root: &Node, name: &str) -> Vec<(Node, Node)> {
        match root.entry(name) {
            Some((key, section)) => match &section.kind {
                Kind::Map(entries) => {
                    entries.iter().filter(|(key, _)| key.text().is_some()).cloned().collect()
                }
                _ if section.is_null() => Vec::new(),
                _ => {
                    let hint = format!("indent its keys below \"{name}:\"");
                    self.report(Severity::Error, key.span, format!("{name:?} must be a mapping"), Some(hint));
                    self.loses_guard(name == "api");
                    Vec::new()
                }
            },
            None => Vec::new(),
        }
    }

    /// A section by its type. A key whose value does not fit is reported and left out.
    fn section<T: DeserializeOwned + Default>(&mut self, root: &Node, name: &str, known: &[&str]) -> T {
        let mut entries = self.entries(root, name);
        entries.retain(|(_, value)| !value.is_null());
        for (key, _) in &entries {
            let text = key.text().unwrap_or_default();
            if !known.contains(&text) {
                let hint = nearest(text, known.iter().copied()).map(|near| format!("did you mean {near:?}?"));
                self.report(Severity::Warning, key.span, format!("unknown key {text:?} in {name:?}"), hint);
            }
        }
        self.typed(name, entries)
    }

    fn typed<T: DeserializeOwned + Default>(&mut self, name: &str, mut entries: Vec<(Node, Node)>) -> T {
        loop {
            if entries.is_empty() {
                return T::default();
            }
            let read = |entries: &[(Node, Node)]| {
                let emitted = emit::document(&Node::new(Kind::Map(entries.to_vec())));
                serde_yaml::from_str::<T>(&emitted.text).map_err(|error| (emitted, error))
            };
            let whole = match read(&entries) {
                Ok(value) => return value,
                Err(refused) => refused,
            };
            // An error need not say where it is: each key is tried alone.
            let alone = |entry: &(Node, Node)| read(std::slice::from_ref(entry)).err();
            let bad = entries.iter().enumerate().find_map(|(at, entry)| alone(entry).map(|why| (at, why)));
            let (at, (emitted, error)) = bad.unwrap_or((0, whole));
            let (key, _) = entries.remove(at);
            let line = error.location().map_or(0, |at| at.line().saturating_sub(1));
            let place = emitted.places.get(line).copied().filter(|place| place.line > 0).unwrap_or(key.span);
            let key = key.text().unwrap_or_default();
            let message =
                format!("\"{name}.{key}\": {}, the key is ignored", expectation(&error.to_string()));
            self.report(Severity::Error, place, message, None);
            self.loses_guard(name == "api" && Api::GUARDS.contains(&key));
        }
    }

    /// Keeps the problem reported last, when what it left out guards the API.
    fn loses_guard(&mut self, is_guard: bool) {
        if is_guard && self.lost_guard.is_none() {
            self.lost_guard = self.problems.last().cloned();
        }
    }

    fn modules(&mut self, root: &Node, app: &mut App) {
        let Some(list) = root.get("app").and_then(|app| app.get("modules")) else { return };
        let items = match &list.kind {
            Kind::List(items) => items.as_slice(),
            _ => &[],
        };
        for item in items {
            let Some(name) = item.text().filter(|name| !MODULES.contains(name)) else { continue };
            let hint = nearest(name, MODULES).map(|near| format!("did you mean {near:?}?"));
            self.report(
                Severity::Warning,
                item.span,
                format!("unknown module {name:?} in \"app.modules\""),
                hint,
            );
        }
        for name in app.modules.iter_mut().flatten().filter(|name| *name == "mpeg") {
            *name = "mpegts".to_owned();
        }
    }

    fn log(&mut self, root: &Node) -> log::Settings {
        let mut settings = log::Settings::default();
        let mut entries = self.entries(root, "log");
        entries.retain(|(_, value)| !value.is_null());
        for (key, value) in entries {
            let (name, text) = (key.text().unwrap_or_default(), value.text().unwrap_or_default());
            let fits = match name {
                "format" => log::Format::parse(text).map(|format| settings.format = format).is_some(),
                "output" => log::Output::parse(text).map(|output| settings.output = output).is_some(),
                "time" => {
                    settings.time = log::TimeFormat::parse(text);
                    true
                }
                "level" => log::Level::parse(text).map(|level| settings.level = level).is_some(),
                module => match log::Level::parse(text) {
                    Some(level) => {
                        settings.modules.insert(module.to_owned(), level);
                        let near = nearest(module, ["level", "format", "output", "time"]);
                        if let Some(near) = near.filter(|_| !MODULES.contains(&module)) {
                            let hint = Some(format!("did you mean {near:?}?"));
                            self.report(
                                Severity::Warning,
                                key.span,
                                format!("unknown key {module:?} in \"log\""),
                                hint,
                            );
                        }
                        true
                    }
                    None => false,
                },
            };
            if !fits || value.text().is_none() {
                let hint = match name {
                    "format" => "one of \"\", color, text, json",
                    "output" => "one of stdout, stderr, file, file:PATH, \"\"",
                    _ => "one of trace, debug, info, warn, error, fatal, panic, disabled",
                };
                let message = format!("\"log.{name}\" has a value that is not known, the default is used");
                self.report(Severity::Warning, value.span, message, Some(hint.to_owned()));
            }
        }
        settings
    }

    fn streams(&mut self, root: &Node) -> Vec<Stream> {
        let entries = self.entries(root, "streams");
        let mut streams = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let name = key.text().unwrap_or_default().to_owned();
            let mut sources = Vec::new();
            if !self.sources(&name, &value, &mut sources) {
                continue;
            }
            streams.push(Stream { file: self.source(key.span), line: key.span.line, name, sources });
        }
        streams
    }

    /// The source URLs of a stream's value; false when the stream is to be left out.
    fn sources(&mut self, name: &str, value: &Node, out: &mut Vec<String>) -> bool {
        match &value.kind {
            _ if value.is_null() => {}
            Kind::Scalar(..) => match value.as_string() {
                Some(url) => out.push(url.to_owned()),
                None => {
                    let what = if value.meaning() == Meaning::Bool { "boolean" } else { "number" };
                    let message =
                        format!("stream {name:?}: a source URL is a text, this is a {what}; it is left out");
                    let hint = "write a URL such as rtsp://192.168.1.10/stream1".to_owned();
                    self.report(Severity::Error, value.span, message, Some(hint));
                    return false;
                }
            },
            Kind::List(items) => {
                for item in items {
                    match item.as_string() {
                        Some(url) => out.push(url.to_owned()),
                        None => {
                            let message =
                                format!("stream {name:?}: a source in a list must be a text; it is left out");
                            let hint = "a URL that holds \": \" must stand in quotes".to_owned();
                            self.report(Severity::Error, item.span, message, Some(hint));
                        }
                    }
                }
            }
            Kind::Map(entries) => match value.get("url") {
                Some(url) => return self.sources(name, url, out),
                None => {
                    let place = entries.first().map_or(value.span, |(key, _)| key.span);
                    let hint = "write \"name: URL\", \"name: [URL, URL]\" or \"name: {url: URL}\"".to_owned();
                    self.report(
                        Severity::Error,
                        place,
                        format!("stream {name:?} has no \"url\""),
                        Some(hint),
                    );
                }
            },
        }
        true
    }

    fn publish(&mut self, root: &Node) -> Vec<(String, Vec<String>)> {
        let mut publish = Vec::new();
        for (key, value) in self.entries(root, "publish") {
            let mut urls = Vec::new();
            let name = key.text().unwrap_or_default().to_owned();
            if self.sources(&name, &value, &mut urls) && !urls.is_empty() {
                publish.push((name, urls));
            }
        }
        publish
    }

    /// A section that is a map of texts.
    fn texts(&mut self, root: &Node, section: &str) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        for (key, value) in self.entries(root, section) {
            let name = key.text().unwrap_or_default().to_owned();
            match value.text() {
                Some(_) if value.is_null() => texts.push((name, String::new())),
                Some(text) => texts.push((name, text.to_owned())),
                None => {
                    let message = format!("\"{section}.{name}\" must be a text, the key is ignored");
                    self.report(Severity::Error, value.span, message, None);
                }
            }
        }
        texts
    }

    /// Sections that look like misspelt host sections.
    fn top_level(&mut self, root: &Node) {
        for (key, value) in root.entries().unwrap_or_default() {
            let Some(name) = key.text() else {
                self.report(Severity::Error, key.span, "a section must have a name".to_owned(), None);
                continue;
            };
            if HOST_SECTIONS.contains(&name) {
                continue;
            }
            if let Some(near) = nearest(name, HOST_SECTIONS).filter(|_| !MODULES.contains(&name)) {
                let hint = Some(format!("did you mean {near:?}?"));
                self.report(Severity::Warning, key.span, format!("unknown section {name:?}"), hint);
            } else if value.entries().is_none() && !value.is_null() {
                let hint = match value.text().and_then(parse_boolean) {
                    Some(on) => {
                        format!(
                            "to switch the plugin write \"plugins: {{{name}: {}}}\"",
                            if on { "on" } else { "off" }
                        )
                    }
                    None => format!("indent its keys below \"{name}:\""),
                };
                self.report(Severity::Error, key.span, format!("{name:?} must be a mapping"), Some(hint));
            }
        }
    }

    /// Words of a plugin's `allow:` that grant nothing.
    fn capabilities(&mut self, plugin: &str, words: &Node) {
        let Kind::List(items) = &words.kind else { return };
        for item in items {
            let word = item.text().unwrap_or_default();
            if word == ALLOW_ALL || Capability::of(word).is_some() {
                continue;
            }
            let known = Capability::ALL.map(Capability::word);
            let hint = match nearest(word, known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("one of {}, {ALLOW_ALL}", known.join(", ")),
            };
            let message = format!("{word:?} in \"allow\" of {plugin:?} allows nothing");
            self.report(Severity::Warning, item.span, message, Some(hint));
        }
    }

    fn plugins(&mut self, root: &Node) -> BTreeMap<String, Plugin> {
        let mut plugins = BTreeMap::new();
        for (key, value) in root.entries().unwrap_or_default() {
            let Some(name) = key.text().filter(|name| !HOST_SECTIONS.contains(name)) else { continue };
            let mut entries = value.entries().unwrap_or_default().to_vec();
            entries.retain(|(key, value)| {
                // A mapping below one of these names is something of the plugin's own, such as a stream of this name.
                let scalar = value.text().is_some() && !value.is_null();
                match key.text() {
                    Some("enabled" | "isolation" | "threads") => scalar,
                    Some("restart" | "limits") => value.entries().is_some(),
                    Some("allow") => matches!(value.kind, Kind::List(_)),
                    _ => false,
                }
            });
            for (_, words) in entries.iter().filter(|(key, _)| key.text() == Some("allow")) {
                self.capabilities(name, words);
            }
            plugins.insert(name.to_owned(), self.typed::<Plugin>(name, entries));
        }
        for (key, value) in self.entries(root, "plugins") {
            let name = key.text().unwrap_or_default();
            let entry: &mut Plugin = plugins.entry(name.to_owned()).or_default();
            match value.text().map(|text| (text, parse_boolean(text))) {
                Some((_, Some(on))) => {
                    entry.enabled = if on { entry.enabled.or(Some(true)) } else { Some(false) }
                }
                Some((text, None)) if text.is_empty() || value.is_null() => {}
                _ if HOST_SECTIONS.contains(&name) => {}
                _ => {
                    let hint = Some("write on, off, or its settings as a mapping".to_owned());
                    self.report(
                        Severity::Error,
                        value.span,
                        format!("\"plugins.{name}\" is not understood"),
                        hint,
                    );
                }
            }
        }
        plugins
    }
}

/// The part of a message of serde that says what was expected; the rest may quote the value.
fn expectation(message: &str) -> String {
    let expected =
        message.split_once("expected ").map(|(_, rest)| rest.split(" at line").next().unwrap_or(rest));
    match expected {
        Some(expected) => format!("expected {expected}"),
        None => "the value does not fit".to_owned(),
    }
}
