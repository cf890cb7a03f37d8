//! Settings against the option schema of a plugin's manifest: the part of JSON Schema (2020-12) that settings need, over
//! YAML values, whose scalars are text until somebody asks.

use std::fmt;

use serde_json::Value;

use super::format;
use super::node::{Kind, Node, Span};
use super::problem::nearest;
use super::settings::{Plugin, parse_boolean};

/// Deepest schema that is followed.
const MAX_DEPTH: usize = 16;

/// Most of what is found.
const MAX_MISFITS: usize = 100;

/// A setting that its schema does not allow.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) at: Span,
    /// Holds keys, never values.
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// Looks for what does not fit; `name` is how the whole is called. Keywords that are not known allow everything.
/// `streams` are the names that there are.
pub(super) fn check(section: &Node, schema: &Value, name: &str, streams: &[&str]) -> Vec<Misfit> {
    let mut found = Vec::new();
    // `rtsp: off` is a switch, not settings.
    if section.entries().is_some() {
        Check { found: &mut found, streams, top: true }.value(section, section.span, schema, name, 0);
    }
    found.truncate(MAX_MISFITS);
    found
}

/// The same for the value of an option in a URL. Plugins take more words there than a form offers (0 and 1, URLs), so a word is
/// told only when it looks like a slip of one that is known.
pub(super) fn check_option(value: &str, schema: &Value, name: &str) -> Vec<Misfit> {
    let mut found = Vec::new();
    let is = |kind: &str| Types::of(schema).0.iter().any(|known| known == kind);
    if !is("boolean") {
        let node = Node::plain(value);
        Check { found: &mut found, streams: &[], top: false }.value(&node, node.span, schema, name, 0);
        found.retain(|misfit| schema.get("enum").is_none() || misfit.hint.is_some());
    }
    found
}

struct Check<'a> {
    found: &'a mut Vec<Misfit>,
    streams: &'a [&'a str],
    /// Keys of the host may stand here too.
    top: bool,
}

impl Check<'_> {
    fn say(&mut self, at: Span, message: String, hint: Option<String>) {
        self.found.push(Misfit { at, message, hint });
    }

    fn value(&mut self, node: &Node, at: Span, schema: &Value, name: &str, depth: usize) {
        if depth > MAX_DEPTH || self.found.len() >= MAX_MISFITS || node.is_null() {
            return;
        }
        let types = Types::of(schema);
        if !types.0.is_empty() && !types.0.iter().any(|kind| is_of(node, kind)) {
            self.say(at, format!("{name} must be {types}"), None);
            return;
        }
        match &node.kind {
            Kind::Scalar(text, _) => self.scalar(text, at, schema, name),
            Kind::List(items) => {
                if let Some(schema) = schema.get("items") {
                    self.top = false;
                    for (index, item) in items.iter().enumerate() {
                        self.value(
                            item,
                            item.span,
                            schema,
                            &format!("item {} of {name}", index + 1),
                            depth + 1,
                        );
                    }
                }
            }
            Kind::Map(entries) => self.map(entries, at, schema, name, depth),
        }
    }

    fn map(&mut self, entries: &[(Node, Node)], at: Span, schema: &Value, name: &str, depth: usize) {
        let top = std::mem::take(&mut self.top);
        let known = schema.get("properties").and_then(Value::as_object);
        let names = || known.into_iter().flat_map(|map| map.keys().map(String::as_str));
        let path = |key: &str| if top { format!("{name} {key}") } else { format!("{name}.{key}") };
        for (key, value) in entries {
            let Some(text) = key.text() else { continue };
            if let Some(schema) = known.and_then(|known| known.get(text)) {
                self.value(value, key.span, schema, &path(text), depth + 1);
                continue;
            }
            if top && (text == "threads" || Plugin::HOST_KEYS.contains(&text)) {
                continue;
            }
            let near = nearest(text, names()).map(|near| format!("did you mean {near:?}?"));
            let closed = schema.get("additionalProperties").and_then(Value::as_bool) == Some(false);
            // A key that is only not listed is somebody's who knows more than the schema.
            if closed || near.is_some() {
                self.say(key.span, format!("there is no setting {}", path(text)), near);
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for key in required.into_iter().flatten().filter_map(Value::as_str) {
            if !entries.iter().any(|(known, _)| known.text() == Some(key)) {
                self.say(at, format!("{} is missing", path(key)), None);
            }
        }
    }

    fn scalar(&mut self, text: &str, at: Span, schema: &Value, name: &str) {
        if let Some(list) = schema.get("enum").and_then(Value::as_array) {
            let words: Vec<String> = list.iter().map(plain).collect();
            if !words.iter().any(|word| word == text) {
                let hint = nearest(text, words.iter().map(String::as_str));
                let hint = hint.map(|near| format!("did you mean {near:?}?"));
                self.say(at, format!("{name} must be one of {}", words.join(", ")), hint);
            }
        }
        let form = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        if let Err(fault) = format::judge(form, text, self.streams) {
            self.say(at, format!("{name} {fault}"), fault.hint());
        }
        let Ok(number) = text.parse::<f64>() else { return };
        let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
        if let Some(least) = limit("minimum").filter(|least| number < *least) {
            self.say(at, format!("{name} must be at least {least}"), None);
        }
        if let Some(most) = limit("maximum").filter(|most| number > *most) {
            self.say(at, format!("{name} must be at most {most}"), None);
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The types that a schema allows; none: all.
struct Types(Vec<String>);

impl Types {
    fn of(schema: &Value) -> Self {
        Self(match schema.get("type") {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        })
    }
}

impl fmt::Display for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, kind) in self.0.iter().enumerate() {
            let words = match kind.as_str() {
                "string" => "a text",
                "integer" => "a whole number",
                "number" => "a number",
                "boolean" => "true or false",
                "array" => "a list",
                "object" => "a mapping",
                other => other,
            };
            if index > 0 {
                f.write_str(" or ")?;
            }
            f.write_str(words)?;
        }
        Ok(())
    }
}

fn is_of(node: &Node, kind: &str) -> bool {
    match (&node.kind, kind) {
        (Kind::Scalar(..), "string") => true,
        (Kind::Scalar(text, _), "integer") => text.parse::<i64>().is_ok(),
        (Kind::Scalar(text, _), "number") => text.parse::<f64>().is_ok(),
        (Kind::Scalar(text, _), "boolean") => parse_boolean(text).is_some(),
        (Kind::List(_), "array") | (Kind::Map(_), "object") => true,
        (_, "string" | "integer" | "number" | "boolean" | "array" | "object") => false,
        // A type that is not known allows everything.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::parse;
    use serde_json::json;

    fn found(text: &str, schema: &Value) -> Vec<String> {
        let root = parse(text).unwrap().root.unwrap();
        let shown = |misfit: Misfit| {
            let hint = misfit.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{}:{} {}{hint}", misfit.at.line, misfit.at.column, misfit.message)
        };
        check(&root, schema, "cam:", &["yard"]).into_iter().map(shown).collect()
    }

    #[test]
    fn options_of_urls_are_told_when_they_look_like_slips() {
        let told = |value: &str, schema: Value| {
            check_option(value, &schema, "#x").pop().map(|misfit| misfit.message)
        };
        let ways = json!({"type": "string", "enum": ["tcp", "udp"]});
        assert_eq!(told("tpc", ways.clone()), Some("#x must be one of tcp, udp".to_owned()));
        assert_eq!(told("ws://h/x", ways), None);
        assert_eq!(told("1", json!({"type": "boolean"})), None);
        let time = json!({"type": "integer", "maximum": 9});
        assert_eq!(told("a", time.clone()), Some("#x must be a whole number".to_owned()));
        assert_eq!(told("10", time.clone()), Some("#x must be at most 9".to_owned()));
        assert_eq!(told("", time), None);
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_line() {
        let schema = json!({
            "type": "object", "required": ["host"],
            "properties": {
                "host": {"type": "string"}, "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                "fast": {"type": "boolean"}, "mode": {"type": "string", "enum": ["tcp", "udp"]},
                "names": {"type": "array", "items": {"type": "string"}},
                "both": {"type": ["array", "string"]},
                "more": {"type": "object", "additionalProperties": false, "properties": {"x": {"type": "number"}}},
            }
        });
        let none: Vec<String> = Vec::new();
        let good = "host: 1\nport: 80\nfast: on\nmode: udp\nnames: [a, 1]\nboth: a\nmore: {x: 1.5}\nelse: 1\nallow: [files]\n";
        assert_eq!(found(good, &schema), none);
        assert_eq!(found("host:\nport:\n", &schema), none);
        assert_eq!(
            found(
                "port: 0\nfast: perhaps\nmode: tpc\nnames: {a: b}\nboth: {}\nmore:\n  x: y\n  z: 1\nprot: 1\n",
                &schema
            ),
            [
                "1:1 cam: port must be at least 1",
                "2:1 cam: fast must be true or false",
                "3:1 cam: mode must be one of tcp, udp (did you mean \"tcp\"?)",
                "4:1 cam: names must be a list",
                "5:1 cam: both must be a list or a text",
                "7:3 cam: more.x must be a number",
                "8:3 there is no setting cam: more.z",
                "9:1 there is no setting cam: prot (did you mean \"port\"?)",
                "1:1 cam: host is missing",
            ]
        );
        assert_eq!(found("host: a\nnames:\n- [b]\n", &schema), ["3:3 item 1 of cam: names must be a text"]);
        assert_eq!(found("off", &schema), none);
        let formats = json!({"properties": {
            "listen": {"type": "string", "format": "listen"}, "of": {"format": "stream"},
            "urls": {"type": ["array", "string"], "items": {"format": "ice-url"}, "format": "ice-url"},
        }});
        assert_eq!(found("listen: ':1'\nof: yard\nurls: stun:h\n", &formats), none);
        assert_eq!(
            found("listen: abc\nof: yrad\nurls:\n- stun:h\n- h:1\n", &formats),
            [
                "1:1 cam: listen has no port (write HOST:PORT)",
                "2:1 cam: of names a stream that is not there (did you mean \"yard\"?)",
                "5:3 item 2 of cam: urls begins with none of stun:, stuns:, turn:, turns:",
            ]
        );
        // Schemas of others may say anything.
        for odd in [json!(null), json!(7), json!({"type": 3, "properties": [], "enum": {}, "required": "x"})]
        {
            assert_eq!(found("a: 1", &odd), none);
        }
    }
}
