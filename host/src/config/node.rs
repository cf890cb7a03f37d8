//! YAML text as a tree that still knows where each value stood and how it was written.
//!
//! `serde_yaml` reads typed values but forgets lines, comments and the source text of scalars (`pin: 01234567`).
//! Messages with a line, comment-preserving writes and settings handed on verbatim need all three.

use super::problem::ParseError;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};
use std::collections::HashMap;

/// Largest configuration text that is parsed, in bytes.
pub const MAX_TEXT: usize = 4 << 20;
/// Deepest nesting of lists and mappings.
pub const MAX_DEPTH: usize = 64;
/// Most values in one text, counted after aliases are resolved.
pub const MAX_NODES: usize = 200_000;

/// Where a value stands. Lines and columns count from 1, columns in characters; offsets are bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Number of the configuration source, in the order they were given.
    pub source: u16,
    /// First line.
    pub line: u32,
    /// First column.
    pub column: u32,
    /// Last line that holds a part of the value.
    pub last_line: u32,
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte (collections in block style: of their last value).
    pub end: usize,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: the text decides whether it is null, a boolean, a number or a string.
    Plain,
    /// Quoted or in a block: always a string.
    Quoted,
    /// A string set by the program; quoted on output only when YAML needs it.
    Str,
}

/// What a plain scalar means (YAML 1.2 core schema, with YAML 1.1 numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Empty, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// An integer or a float.
    Number,
    /// Anything else.
    Str,
}

/// The three shapes of a value.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A single value with its text (quotes and escapes resolved).
    Scalar(String, Style),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the text.
    Map(Vec<(Node, Node)>),
}

/// One value of a configuration text.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub kind: Kind,
    /// Where it stands.
    pub span: Span,
    /// Written in flow style (`{..}`, `[..]`).
    pub flow: bool,
    /// Reached through an alias (`*name`): the span is that of the anchor.
    pub alias: bool,
}

/// A parsed text.
#[derive(Debug, Clone)]
pub struct Document {
    /// The first document; `None` when the text holds no value at all.
    pub root: Option<Node>,
    /// Keys that stand twice in one mapping: (text, second place, line of the first). The last one counts.
    pub duplicates: Vec<(String, Span, u32)>,
    /// The text holds more than one document; the others are not read.
    pub several: bool,
    /// Line of a `...` end marker.
    pub end_marker: Option<u32>,
}

impl Node {
    /// A string value.
    pub fn string(text: impl Into<String>) -> Self {
        Self::new(Kind::Scalar(text.into(), Style::Str))
    }

    /// A list of strings.
    pub fn strings<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::new(Kind::List(items.into_iter().map(Self::string).collect()))
    }

    /// A scalar by its YAML text: a number, a boolean, null.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::new(Kind::Scalar(text.into(), Style::Plain))
    }

    /// A mapping.
    pub fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::new(Kind::Map(entries.into_iter().map(|(key, value)| (Self::string(key), value)).collect()))
    }

    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, span: Span::default(), flow: false, alias: false }
    }

    /// Text of a scalar, as written without its quotes.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    /// Text of a scalar that is a string.
    pub fn as_string(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text, style) if *style != Style::Plain || meaning(text) == Meaning::Str => {
                Some(text)
            }
            _ => None,
        }
    }

    /// Whether the value is null.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(text, Style::Plain) if meaning(text) == Meaning::Null)
    }

    /// The entries of a mapping.
    pub fn entries(&self) -> Option<&[(Self, Self)]> {
        match &self.kind {
            Kind::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under a key, the last one if the key stands twice.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, value)| value)
    }

    /// Key and value under a key.
    pub fn entry(&self, key: &str) -> Option<&(Self, Self)> {
        self.entries()?.iter().rev().find(|(k, _)| k.text() == Some(key))
    }

    /// Puts a value under a key; returns the old one.
    pub fn insert(&mut self, key: Self, value: Self) -> Option<Self> {
        let Kind::Map(entries) = &mut self.kind else { return None };
        match entries.iter_mut().rev().find(|(k, _)| k.text().is_some() && k.text() == key.text()) {
            Some((_, old)) => Some(std::mem::replace(old, value)),
            None => {
                entries.push((key, value));
                None
            }
        }
    }

    /// Takes the value under a key out.
    pub fn remove(&mut self, key: &str) -> Option<(Self, Self)> {
        let Kind::Map(entries) = &mut self.kind else { return None };
        let at = entries.iter().rposition(|(k, _)| k.text() == Some(key))?;
        Some(entries.remove(at))
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        let Kind::Map(entries) = &mut self.kind else { return None };
        entries.iter_mut().rev().find(|(k, _)| k.text() == Some(key)).map(|(_, value)| value)
    }

    /// Whether both hold the same data; order of keys, places and quotes do not count, an empty mapping is null.
    pub fn same_data(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Scalar(a, _), Kind::Scalar(b, _)) => {
                (self.is_null() && other.is_null()) || (a == b && self.meaning() == other.meaning())
            }
            (Kind::List(a), Kind::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_data(b))
            }
            (Kind::Map(a), Kind::Map(b)) => {
                let keys: HashMap<_, _> = b.iter().map(|(key, value)| (key.text(), value)).collect();
                a.len() == b.len()
                    && a.iter().all(|(key, value)| keys.get(&key.text()).is_some_and(|b| value.same_data(b)))
            }
            (Kind::Map(empty), Kind::Scalar(..)) => empty.is_empty() && other.is_null(),
            (Kind::Scalar(..), Kind::Map(empty)) => empty.is_empty() && self.is_null(),
            _ => false,
        }
    }

    /// What the value means; lists and mappings are not scalars and count as strings.
    pub fn meaning(&self) -> Meaning {
        match &self.kind {
            Kind::Scalar(text, Style::Plain) => meaning(text),
            _ => Meaning::Str,
        }
    }

    /// Calls `change` on this value, every key and every value below it.
    pub(crate) fn each(&mut self, change: &mut impl FnMut(&mut Self)) {
        change(self);
        match &mut self.kind {
            Kind::Scalar(..) => {}
            Kind::List(items) => items.iter_mut().for_each(|item| item.each(change)),
            Kind::Map(entries) => entries.iter_mut().for_each(|(key, value)| {
                key.each(change);
                value.each(change);
            }),
        }
    }

    fn count(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar(..) => 0,
            Kind::List(items) => items.iter().map(Self::count).sum(),
            Kind::Map(entries) => entries.iter().map(|(key, value)| key.count() + value.count()).sum(),
        }
    }
}

/// What a plain scalar of this text means.
pub fn meaning(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Meaning::Bool,
        _ if is_number(text) => Meaning::Number,
        _ => Meaning::Str,
    }
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)];
    if let Some((digits, radix)) = radix.iter().find_map(|(p, r)| Some((unsigned.strip_prefix(p)?, *r))) {
        return !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix) || c == '_');
    }
    unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-' | '_'))
        && unsigned.replace('_', "").parse::<f64>().is_ok()
}

/// Parses a text as it is: variables are not looked at.
pub fn parse(text: &str) -> Result<Document, ParseError> {
    if text.len() > MAX_TEXT {
        return Err(ParseError::at(1, 1, format!("the text is longer than {MAX_TEXT} bytes")));
    }
    Builder::new(text).build(text)
}

struct Open {
    node: Node,
    key: Option<Node>,
    anchor: usize,
}

struct Builder {
    /// Byte offset of each character; empty when all are one byte long.
    offsets: Vec<usize>,
    len: usize,
    stack: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    document: Document,
}

impl Builder {
    fn new(text: &str) -> Self {
        let offsets =
            if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(at, _)| at).collect() };
        let document = Document { root: None, duplicates: Vec::new(), several: false, end_marker: None };
        Self { offsets, len: text.len(), stack: Vec::new(), anchors: HashMap::new(), nodes: 0, document }
    }

    fn byte(&self, index: usize) -> usize {
        if self.offsets.is_empty() {
            index.min(self.len)
        } else {
            self.offsets.get(index).copied().unwrap_or(self.len)
        }
    }

    fn build(mut self, text: &str) -> Result<Document, ParseError> {
        for event in Parser::new_from_str(text) {
            let (event, at) = event.map_err(|error| scan_error(text, &error))?;
            let span = Span {
                source: 0,
                line: u32::try_from(at.start.line()).unwrap_or(u32::MAX),
                column: u32::try_from(at.start.col() + 1).unwrap_or(u32::MAX),
                last_line: u32::try_from(at.end.line()).unwrap_or(u32::MAX),
                start: self.byte(at.start.index()),
                end: self.byte(at.end.index()),
            };
            match event {
                Event::Scalar(value, style, anchor, tag) => {
                    let string = tag.is_some_and(|tag| tag.suffix == "str");
                    let plain = style == ScalarStyle::Plain && !string && !value.contains('\n');
                    let style = if plain { Style::Plain } else { Style::Quoted };
                    let mut node = Node { span, ..Node::new(Kind::Scalar(value.into_owned(), style)) };
                    trim_span(text, &mut node.span);
                    self.add(node, anchor)?;
                }
                Event::SequenceStart(anchor, _) => self.open(Kind::List(Vec::new()), span, text, anchor)?,
                Event::MappingStart(anchor, _) => self.open(Kind::Map(Vec::new()), span, text, anchor)?,
                Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
                Event::Alias(anchor) => {
                    let Some(node) = self.anchors.get(&anchor) else {
                        return Err(ParseError::at(span.line, span.column, "the alias refers to itself"));
                    };
                    let mut node = node.clone();
                    self.nodes += node.count();
                    node.each(&mut |node| node.alias = true);
                    self.add(node, 0)?;
                }
                Event::DocumentStart(_) if self.document.root.is_some() => {
                    self.document.several = true;
                    break;
                }
                Event::DocumentEnd if text.get(span.start..).is_some_and(|rest| rest.starts_with("...")) => {
                    self.document.end_marker = Some(span.line);
                }
                _ => {}
            }
        }
        Ok(self.document)
    }

    fn open(&mut self, kind: Kind, span: Span, text: &str, anchor: usize) -> Result<(), ParseError> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(ParseError::at(
                span.line,
                span.column,
                format!("nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        let flow = span.end > span.start && text.get(span.start..).is_some_and(|t| t.starts_with(['{', '[']));
        let span = Span { last_line: span.line, ..span };
        self.stack.push(Open { node: Node { kind, span, flow, alias: false }, key: None, anchor });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), ParseError> {
        let Some(mut open) = self.stack.pop() else { return Ok(()) };
        if open.node.flow {
            open.node.span.end = end.end;
            open.node.span.last_line = end.last_line;
        }
        self.add(open.node, open.anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), ParseError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(ParseError::at(
                node.span.line,
                node.span.column,
                format!("more than {MAX_NODES} values"),
            ));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.stack.last_mut() else {
            self.document.root.get_or_insert(node);
            return Ok(());
        };
        if !node.alias && !open.node.flow {
            open.node.span.last_line = open.node.span.last_line.max(node.span.last_line);
            open.node.span.end = open.node.span.end.max(node.span.end);
        }
        match (&mut open.node.kind, open.key.take()) {
            (Kind::List(items), _) => items.push(node),
            (Kind::Map(_), None) => open.key = Some(node),
            (Kind::Map(entries), Some(key)) => entries.push((key, node)),
            (Kind::Scalar(..), _) => {}
        }
        self.note_duplicate();
        Ok(())
    }

    fn note_duplicate(&mut self) {
        let Some(Open { node: Node { kind: Kind::Map(entries), .. }, key: Some(key), .. }) =
            self.stack.last()
        else {
            return;
        };
        let Some(text) = key.text().filter(|text| *text != "<<") else { return };
        if let Some((first, _)) = entries.iter().find(|(k, _)| k.text() == Some(text)) {
            self.document.duplicates.push((text.to_owned(), key.span, first.span.line));
        }
    }
}

/// Block scalars report the line after their last one.
fn trim_span(text: &str, span: &mut Span) {
    let Some(value) = text.get(span.start..span.end) else { return };
    let trimmed = value.trim_end_matches([' ', '\t', '\r', '\n']);
    let cut = value.get(trimmed.len()..).unwrap_or_default();
    let lines = cut.matches('\n').count();
    span.end = span.start + trimmed.len();
    span.last_line = span.last_line.saturating_sub(u32::try_from(lines).unwrap_or(0)).max(span.line);
}

fn scan_error(text: &str, error: &ScanError) -> ParseError {
    let line = u32::try_from(error.marker().line()).unwrap_or(u32::MAX);
    let column = u32::try_from(error.marker().col() + 1).unwrap_or(u32::MAX);
    ParseError::at(line, column, error.info().to_owned()).with_hint(text)
}
