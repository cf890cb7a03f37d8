//! Writing YAML: block style, two spaces a level, list items indented under their key.

use super::node::{self, Kind, Meaning, Node, Span, Style};

/// A tree as YAML text.
#[derive(Debug, Clone, Default)]
pub struct Emitted {
    /// The text; empty for an empty mapping.
    pub text: String,
    /// For each line of the text, where its value stood.
    pub places: Vec<Span>,
}

/// Writes a mapping (or any other value) as a text of its own.
pub fn document(node: &Node) -> Emitted {
    let mut out = Emitted::default();
    match &node.kind {
        Kind::Map(entries) if !entries.is_empty() => out.map(entries, 0),
        Kind::List(items) if !items.is_empty() => out.list(items, 0),
        Kind::Map(_) => {}
        _ => out.line(0, &inline(node), node.span),
    }
    out
}

/// Writes `key: value` as a block at a column (counted from 0).
pub fn entry(key: &str, value: &Node, column: usize) -> String {
    let mut out = Emitted::default();
    out.entry(&Node::string(key), value, column, "");
    out.text
}

impl Emitted {
    fn line(&mut self, column: usize, text: &str, place: Span) {
        self.text.extend(std::iter::repeat_n(' ', column));
        self.text.push_str(text);
        self.text.push('\n');
        self.places.push(place);
    }

    fn map(&mut self, entries: &[(Node, Node)], column: usize) {
        for (key, value) in entries {
            self.entry(key, value, column, "");
        }
    }

    fn entry(&mut self, key: &Node, value: &Node, column: usize, lead: &str) {
        let name = inline(key);
        let inner = column + lead.len() + 2;
        match &value.kind {
            Kind::Map(entries) if !entries.is_empty() => {
                self.line(column, &format!("{lead}{name}:"), key.span);
                self.map(entries, inner);
            }
            Kind::List(items) if !items.is_empty() => {
                self.line(column, &format!("{lead}{name}:"), key.span);
                self.list(items, inner);
            }
            _ => self.line(column, &format!("{lead}{name}: {}", inline(value)), value.span),
        }
    }

    fn list(&mut self, items: &[Node], column: usize) {
        for item in items {
            match &item.kind {
                Kind::Map(entries) if !entries.is_empty() => {
                    for (i, (key, value)) in entries.iter().enumerate() {
                        let (column, lead) = if i == 0 { (column, "- ") } else { (column + 2, "") };
                        self.entry(key, value, column, lead);
                    }
                }
                Kind::List(inner) if !inner.is_empty() => {
                    self.line(column, "-", item.span);
                    self.list(inner, column + 2);
                }
                _ => self.line(column, &format!("- {}", inline(item)), item.span),
            }
        }
    }
}

fn inline(node: &Node) -> String {
    match &node.kind {
        Kind::Scalar(text, Style::Plain) if text.is_empty() => "null".to_owned(),
        Kind::Scalar(text, Style::Plain) => text.clone(),
        // The quotes protect what the variable brings with it.
        Kind::Scalar(text, Style::Quoted) if text.contains("${") => quoted(text),
        Kind::Scalar(text, _) => string(text),
        Kind::List(_) => "[]".to_owned(),
        Kind::Map(_) => "{}".to_owned(),
    }
}

/// A string as a YAML scalar, quoted only when it must be.
pub fn string(text: &str) -> String {
    if text.chars().any(needs_escape) {
        escaped(text)
    } else if reads_as_other(text) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else if is_plain(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

fn quoted(text: &str) -> String {
    if text.chars().any(needs_escape) { escaped(text) } else { format!("'{}'", text.replace('\'', "''")) }
}

fn escaped(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if needs_escape(c) && u32::from(c) > 0xFFFF => {
                out.push_str(&format!("\\U{:08X}", u32::from(c)))
            }
            c if needs_escape(c) => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Characters that YAML 1.2 section 5.1 does not print, line ends, and marks that editors hide.
fn needs_escape(c: char) -> bool {
    matches!(u32::from(c), 0..=0x1F | 0x7F..=0xA0 | 0x2028 | 0x2029 | 0xFEFF | 0xFFFE.. )
        && !matches!(u32::from(c), 0x1_0000..=0x10_FFFF)
        || (0xE000..=0xF8FF).contains(&u32::from(c))
}

/// Strings that some YAML reader takes for something else when they stand without quotes.
fn reads_as_other(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
        && text.chars().any(|c| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | ':' | '-' | '+' | '_' | 'e' | 'E' | 'T' | 'Z'));
    node::meaning(text) != Meaning::Str
        || numeric
        || matches!(
            lower.as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "<<" | "="
        )
        || matches!(lower.trim_start_matches(['-', '+']), ".inf" | ".nan" | "nan" | "inf" | "infinity")
}

fn is_plain(text: &str) -> bool {
    let mut chars = text.chars();
    let first_ok = match chars.next() {
        None => false,
        Some('-' | '?' | ':') => chars.next().is_some_and(|c| !c.is_whitespace()),
        Some(c) => !c.is_whitespace() && !",[]{}#&*!|>'\"%@`".contains(c),
    };
    first_ok
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.starts_with("---")
        && !text.starts_with("...")
}
