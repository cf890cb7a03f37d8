//! What the configuration says that cannot work, as far as it shows without starting a plugin or dialling anything.

use serde_json::Value;

use crate::catalogue::Catalogue;
use crate::config::format::{self, Fault};
use crate::config::node::{Node, Span};
use crate::config::problem::nearest;
use crate::config::{Config, Problem, Severity, Written};
use crate::redact::Redactor;

/// Options behind a URL that the host reads itself.
const HOST_OPTIONS: [&str; 3] = ["track", "linger", "history"];

/// Looks at all of it. What comes is in the order of the sources and their lines.
pub fn problems(catalogue: &Catalogue, config: &Config) -> Vec<Problem> {
    let installed: Vec<&str> = catalogue.entries.iter().map(|entry| entry.manifest.name.as_str()).collect();
    let mut check = Check {
        catalogue,
        config,
        streams: config.streams.iter().map(|stream| stream.name.as_str()).collect(),
        redactor: Redactor::new(config.secrets.clone()),
        found: config.unknown_plugins(&installed),
    };
    for entry in &catalogue.entries {
        check.found.extend(config.misfits(&entry.manifest.name, &entry.manifest.options));
    }
    check.api();
    for source in config.written("streams") {
        check.source(&source);
    }
    for target in config.written("publish") {
        check.target(&target);
    }
    check.are_streams("publish");
    check.are_streams("preload");
    let mut found = check.found;
    let names: Vec<&str> = config.source_names().collect();
    found.sort_by_key(|problem| {
        (names.iter().position(|name| *name == problem.source), problem.line, problem.column)
    });
    found
}

struct Check<'a> {
    catalogue: &'a Catalogue,
    config: &'a Config,
    streams: Vec<&'a str>,
    redactor: Redactor,
    found: Vec<Problem>,
}

impl Check<'_> {
    fn say(&mut self, severity: Severity, at: Span, message: &str, hint: Option<String>) {
        let message = self.redactor.redact(message).into_owned();
        self.found.push(self.config.problem(severity, at, message, hint));
    }

    fn warn(&mut self, at: Span, message: &str, hint: Option<String>) {
        self.say(Severity::Warning, at, message, hint);
    }

    /// The addresses and files of `api:`.
    fn api(&mut self) {
        let api = &self.config.api;
        let settings: [(&str, &str, &str); 5] = [
            ("listen", "listen", &api.listen),
            ("tls_listen", "listen", &api.tls_listen),
            ("tls_cert", "pem", &api.tls_cert),
            ("tls_key", "pem", api.tls_key.expose()),
            ("static_dir", "", &api.static_dir),
        ];
        let at =
            |key: &str| self.config.section("api").and_then(|api| api.entry(key)).map(|(key, _)| key.span);
        let mut said = Vec::new();
        for (key, format, text) in settings {
            let Some(at) = at(key).filter(|_| !text.is_empty()) else { continue };
            let judged = match key {
                "static_dir" if std::path::Path::new(text).is_dir() => Ok(()),
                "static_dir" => Err("names a folder that is not there".to_owned()),
                _ => format::judge(format, text, &[]).map_err(|fault| fault.to_string()),
            };
            if let Err(fault) = judged {
                // Without an address there is no API: the rest is only not served.
                let severity = if format == "listen" { Severity::Error } else { Severity::Warning };
                let hint = (format == "listen").then(|| {
                    format!("write \"{key}: :PORT\", \"{key}: HOST:PORT\" or \"{key}: ''\" for none")
                });
                said.push((severity, at, format!("\"api.{key}\" {fault}"), hint));
            }
        }
        let has_certificate = !api.tls_cert.is_empty() && !api.tls_key.expose().is_empty();
        if let Some(at) = at("tls_listen").filter(|_| !api.tls_listen.is_empty() && !has_certificate) {
            let message = "\"api.tls_listen\" does nothing without a certificate".to_owned();
            said.push((Severity::Warning, at, message, Some("set tls_cert and tls_key".to_owned())));
        }
        for (severity, at, message, hint) in said {
            self.say(severity, at, &message, hint);
        }
    }

    /// The names of a section are those of streams.
    fn are_streams(&mut self, section: &str) {
        let config = self.config;
        for (key, _) in config.section(section).and_then(Node::entries).unwrap_or_default() {
            let Some(name) = key.text() else { continue };
            if let Err(fault) = format::judge("stream", name, &self.streams) {
                self.warn(key.span, &format!("\"{section}.{name}\" {fault}"), fault.hint());
            }
        }
    }

    /// A URL that is dialled.
    fn source(&mut self, written: &Written) {
        let (catalogue, name) = (self.catalogue, written.name);
        let scheme = written.scheme();
        let Some((entry, known)) = catalogue.scheme(scheme) else {
            return self.nobody(
                written,
                "dials",
                catalogue.schemes().map(|known| known.name.as_str()).collect(),
            );
        };
        if !self.config.allows_module(known.module.as_deref()) {
            return self.warn(
                written.at,
                &format!("{scheme}: is not in \"app.modules\" (stream {name:?})"),
                None,
            );
        }
        if written.text.contains("${") {
            return self.warn(written.at, &format!("stream {name:?} has a variable that is not set"), None);
        }
        let Some(schema) = entry.manifest.options.pointer("/$defs/source") else { return };
        self.address(written, schema);
        self.options(written, schema);
    }

    /// A URL that is pushed to.
    fn target(&mut self, written: &Written) {
        let catalogue = self.catalogue;
        let scheme = written.scheme();
        match catalogue.sink(scheme) {
            None => {
                let all = catalogue.entries.iter().flat_map(|entry| &entry.manifest.schemes);
                let sinks =
                    all.map(|known| known.name.as_str()).filter(|name| catalogue.sink(name).is_some());
                self.nobody(written, "pushes to", sinks.collect());
            }
            Some((entry, _)) => {
                if let Some(schema) = entry.manifest.options.pointer("/$defs/source") {
                    self.address(written, schema);
                }
            }
        }
    }

    /// No plugin takes the scheme.
    fn nobody(&mut self, written: &Written, does: &str, known: Vec<&str>) {
        let scheme = written.scheme();
        let off =
            self.catalogue.entries.iter().find(|entry| {
                !entry.enabled && entry.manifest.schemes.iter().any(|known| known.name == scheme)
            });
        let hint = match off {
            Some(entry) => Some(format!("the plugin {:?} is switched off", entry.manifest.name)),
            None => nearest(scheme, known).map(|near| format!("did you mean {near}:?")),
        };
        let message = match written.text.split_once(':') {
            Some(_) => format!("no plugin {does} {scheme}: (stream {:?})", written.name),
            None => format!("stream {:?} has a source without a scheme such as rtsp://", written.name),
        };
        self.warn(written.at, &message, hint);
    }

    /// What stands between the scheme and the options.
    fn address(&mut self, written: &Written, schema: &Value) {
        let Some((scheme, rest)) = written.text.split_once(':') else { return };
        let Some(property) = schema.pointer("/properties/address") else { return };
        let form = property.get("format").and_then(Value::as_str).unwrap_or_default();
        let judged = match schema.get("x-url").and_then(Value::as_str) {
            Some("{scheme}:{address}") => {
                let address = rest.split('#').next().unwrap_or(rest);
                let required = schema.get("required").and_then(Value::as_array);
                let required = required.is_some_and(|list| list.iter().any(|key| key == "address"));
                match address {
                    "" if required => Err(None),
                    text => format::judge(form, text, &self.streams).map_err(Some),
                }
            }
            Some(_) => Ok(()),
            None => format::authority(rest, form == "host:port").map_err(Some),
        };
        let name = written.name;
        match judged {
            Ok(()) => {}
            Err(None) => {
                self.warn(written.at, &format!("{scheme}: says nothing more (stream {name:?})"), None)
            }
            Err(Some(fault)) => {
                let hint = match &fault {
                    Fault::NoHost if schema.get("x-url").is_none() => {
                        Some(format!("write {scheme}://HOST/PATH"))
                    }
                    Fault::NoHost => Some(format!("write {scheme}:https://HOST/PATH")),
                    Fault::Port { .. } if rest.contains('@') => {
                        Some("a / in a password is written %2F".to_owned())
                    }
                    fault => fault.hint(),
                };
                self.warn(written.at, &format!("the {scheme}: URL of stream {name:?} {fault}"), hint);
            }
        }
    }

    /// What stands behind `#`: what a plugin does not know it mostly passes over, so only what looks like a slip is told.
    fn options(&mut self, written: &Written, schema: &Value) {
        let Some(known) = schema.get("properties").and_then(Value::as_object) else { return };
        let address = |key: &str| ["address", "username", "password"].contains(&key);
        let is_option = |key: &str, property: &Value| !address(key) || property.get("x-in").is_some();
        let behind = written.text.split_once("://").map_or(written.text, |(_, rest)| rest);
        let behind = if schema.get("x-url").is_none() { format::without_user_info(behind) } else { behind };
        for option in behind.split('#').skip(1).filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            if HOST_OPTIONS.contains(&key) {
                continue;
            }
            let of = format!("#{key} of stream {:?}", written.name);
            let Some(property) = known.get(key).filter(|property| is_option(key, property)) else {
                let names = known.iter().filter(|(key, property)| is_option(key, property));
                let names = names.map(|(key, _)| key.as_str()).chain(HOST_OPTIONS);
                if let Some(near) = nearest(key, names) {
                    self.warn(
                        written.at,
                        &format!("there is no option {of}"),
                        Some(format!("did you mean #{near}?")),
                    );
                }
                continue;
            };
            for (message, hint) in Config::option_misfits(value, property, &of) {
                self.warn(written.at, &message, hint);
            }
        }
    }
}
