//! Lines as text and as JSON.

use super::time::{self, Now, TimeFormat};
use super::{Level, MAX_LINE};
use crate::redact::{self, Redactor};
use std::borrow::Cow;
use std::fmt::Write;

/// Most fields of a line; more are left out.
const MAX_FIELDS: usize = 32;
/// Most bytes of one text of a line before escapes; longer ones are cut.
const MAX_TEXT: usize = 32 << 10;
/// What a cut text ends with.
const CUT: &str = "...";

/// Value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    /// The digits.
    Number(String),
    Bool(bool),
}

impl Value {
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Text(text) | Self::Number(text) => text,
            Self::Bool(value) => value.to_string(),
        }
    }

    fn as_text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
            Self::Bool(true) => "true",
            Self::Bool(false) => "false",
        }
    }
}

/// One line before it is written.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) module: String,
    pub(crate) message: String,
    pub(crate) fields: Vec<(String, Value)>,
}

impl Line {
    /// Masks secrets, before quotes and escapes can hide them.
    pub(crate) fn redact(&mut self, redactor: &Redactor) {
        self.fields.truncate(MAX_FIELDS);
        mask(&mut self.message, redactor);
        for (key, value) in &mut self.fields {
            if redact::is_secret_key(key) && !key.to_ascii_lowercase().contains("user") {
                *value = Value::Text(redact::MASK.to_owned());
            }
            match value {
                Value::Text(text) => mask(text, redactor),
                Value::Number(digits) => {
                    if let Cow::Owned(text) = redactor.redact_values(digits) {
                        *value = Value::Text(text);
                    }
                }
                Value::Bool(_) => {}
            }
        }
    }

    /// `HH:MM:SS.mmm LVL [module] message key=value` with a line end.
    pub(crate) fn text(&self, now: &Now, time: &TimeFormat, color: bool) -> String {
        self.fitting(|max| self.text_of(now, time, color, max))
    }

    /// `{"level":..,fields,"time":..,"message":".."}` with a line end.
    pub(crate) fn json(&self, now: &Now, time: &TimeFormat) -> String {
        self.fitting(|max| self.json_of(now, time, max))
    }

    /// Cuts texts shorter until the line is short enough.
    fn fitting(&self, render: impl Fn(usize) -> String) -> String {
        let mut max = MAX_TEXT;
        loop {
            let line = render(max);
            if line.len() < MAX_LINE || max < 16 {
                return line;
            }
            max /= 4;
        }
    }

    fn text_of(&self, now: &Now, time: &TimeFormat, color: bool, max: usize) -> String {
        let paint = |code: &'static str| if color { code } else { "" };
        let reset = paint("\x1b[0m");
        let mut out = String::with_capacity(128);
        if *time != TimeFormat::Off {
            let _ = write!(out, "{}{}{reset} ", paint("\x1b[90m"), time::clock(now));
        }
        let _ = write!(out, "{}{}{reset} ", paint(self.level.color()), self.level.short());
        let message = self.full_message(max);
        for c in message.chars() {
            if c.is_control() { escape(&mut out, c) } else { out.push(c) }
        }
        let mut fields: Vec<_> = self.fields.iter().collect();
        fields.sort_by(|(a, _), (b, _)| (a != "error", a).cmp(&(b != "error", b)));
        for (key, value) in fields {
            let name = if key == "error" { paint("\x1b[31m") } else { paint("\x1b[36m") };
            let _ = write!(out, " {name}{}={reset}", cut(key, max.min(64)));
            quote(&mut out, &cut(value.as_text(), max));
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }

    fn json_of(&self, now: &Now, time: &TimeFormat, max: usize) -> String {
        let mut out = String::with_capacity(160);
        let _ = write!(out, "{{\"level\":\"{}\"", self.level.name());
        for (key, value) in &self.fields {
            let _ = write!(out, ",{}:", json_string(&cut(key, max.min(64))));
            match value {
                Value::Text(text) => out.push_str(&json_string(&cut(text, max))),
                value => out.push_str(value.as_text()),
            }
        }
        if let Some(time) = time.json(now) {
            let _ = write!(out, ",\"time\":{time}");
        }
        let _ = writeln!(out, ",\"message\":{}}}", json_string(&self.full_message(max)));
        out
    }

    fn full_message(&self, max: usize) -> Cow<'_, str> {
        let message = cut(&self.message, max);
        if self.module.is_empty() || message.starts_with('[') {
            message
        } else {
            Cow::Owned(format!("[{}] {message}", cut(&self.module, 64)))
        }
    }
}

/// The line that tells of lines the output did not take.
pub(crate) fn lost_line(lost: u64) -> String {
    let fields = vec![("lines".to_owned(), Value::Number(lost.to_string()))];
    let line = Line {
        level: Level::Warn,
        module: "log".to_owned(),
        message: "output blocked, lines lost".to_owned(),
        fields,
    };
    line.text(&time::now(), &TimeFormat::UnixMs, false)
}

fn mask(text: &mut String, redactor: &Redactor) {
    // Cut first, at a generous length: a text of megabytes is not worth the search.
    if text.len() > 4 * MAX_TEXT {
        *text = cut(text, 4 * MAX_TEXT).into_owned();
    }
    if let Cow::Owned(masked) = redactor.redact(text) {
        *text = masked;
    }
}

fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(max.saturating_sub(CUT.len()));
    Cow::Owned(format!("{}{CUT}", text.get(..end).unwrap_or_default()))
}

/// Writes a value, quoted as Go does when it holds blanks, quotes or anything beyond printable ASCII.
fn quote(out: &mut String, text: &str) {
    let plain = text.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b'\\' && b != b'"');
    if plain {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() || (c.is_whitespace() && c != ' ') => escape(out, c),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn escape(out: &mut String, c: char) {
    let code = u32::from(c);
    let _ = match c {
        '\n' => write!(out, "\\n"),
        '\r' => write!(out, "\\r"),
        '\t' => write!(out, "\\t"),
        _ if code < 0x80 => write!(out, "\\x{code:02x}"),
        _ if code <= 0xFFFF => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
