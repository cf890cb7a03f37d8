//! `${NAME}` and `${NAME:default}` in configuration files.

use super::node::{self, Document, Node, Span};
use super::problem::ParseError;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Longest value of a variable, in bytes; a longer one counts as not found.
pub const MAX_VALUE: usize = 64 << 10;

/// Where variables are looked up, in this order: `section`, `credentials`, `environment`.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// The `env:` sections read so far.
    pub section: BTreeMap<String, String>,
    /// Folder of systemd credentials (`$CREDENTIALS_DIRECTORY`).
    pub credentials: Option<PathBuf>,
    /// Environment of the process.
    pub environment: BTreeMap<String, String>,
}

impl Variables {
    /// Variables of this process.
    pub fn of_process() -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self { section: BTreeMap::new(), credentials, environment }
    }

    /// Value of a variable; one that is set but empty counts as found.
    pub fn get(&self, name: &str) -> Option<String> {
        let value = self
            .section
            .get(name)
            .cloned()
            .or_else(|| self.credential(name))
            .or_else(|| self.environment.get(name).cloned())?;
        (value.len() <= MAX_VALUE).then_some(value)
    }

    fn credential(&self, name: &str) -> Option<String> {
        if name.contains('/') || name == ".." || name.contains('\0') {
            return None;
        }
        let path = self.credentials.as_ref()?.join(name);
        let size = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?.len();
        if size > MAX_VALUE as u64 {
            return None;
        }
        Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
    }
}

/// A text with its variables replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// The new text.
    pub text: String,
    /// Values that came from a variable (not from a default): never to be shown.
    pub secrets: Vec<String>,
    /// Start and end of each replacement in the new text, and its start and end in the old one.
    pieces: Vec<(usize, usize, usize, usize)>,
}

/// Replaces the variables of a text; what is not found and has no default stays.
pub fn expand(text: &str, variables: &Variables) -> Expanded {
    let mut out =
        Expanded { text: String::with_capacity(text.len()), secrets: Vec::new(), pieces: Vec::new() };
    let mut done = 0;
    for (start, end, inner) in references(text) {
        let (name, default) = match inner.split_once(':') {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if name.is_empty() {
            continue;
        }
        let found = variables.get(name);
        if let Some(secret) = found.as_ref().filter(|value| !value.is_empty()) {
            out.secrets.push(secret.clone());
        }
        let Some(value) = found.as_deref().or(default) else { continue };
        out.text.push_str(text.get(done..start).unwrap_or_default());
        let at = out.text.len();
        out.text.push_str(value);
        out.pieces.push((at, out.text.len(), start, end));
        done = end;
    }
    out.text.push_str(text.get(done..).unwrap_or_default());
    out
}

impl Expanded {
    /// The offset in the original text of an offset in the new one.
    pub fn original(&self, offset: usize) -> usize {
        let before = self.pieces.partition_point(|piece| piece.0 <= offset);
        match before.checked_sub(1).and_then(|last| self.pieces.get(last)) {
            None => offset,
            Some((_, new_end, old_start, _)) if offset < *new_end => *old_start,
            Some((_, new_end, _, old_end)) => old_end + (offset - new_end),
        }
    }

    /// Turns the lines and columns of a tree parsed from the new text into those of the original.
    pub(crate) fn restore_places(&self, original: &str, node: &mut Node) {
        if self.pieces.is_empty() {
            return;
        }
        let lines = Lines::new(original);
        node.each(&mut |node| {
            let (line, column) = lines.place(self.original(node.span.start));
            node.span = Span { line, column, ..node.span };
        });
    }

    /// The same for an error.
    pub(crate) fn restore_error(&self, original: &str, mut error: ParseError) -> ParseError {
        if !self.pieces.is_empty() {
            let offset = Lines::new(&self.text).offset(error.line, error.column);
            (error.line, error.column) = Lines::new(original).place(self.original(offset));
        }
        error
    }
}

/// Offsets of the lines of a text.
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// Line and column (from 1, in characters) of an offset.
    pub(crate) fn place(&self, offset: usize) -> (u32, u32) {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let column =
            self.text.get(start..offset.min(self.text.len())).map_or(0, |part| part.chars().count()) + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }

    /// Offset of a line and column.
    pub(crate) fn offset(&self, line: u32, column: u32) -> usize {
        let start = self.start(line);
        let rest = self.text.get(start..).unwrap_or_default();
        start + rest.char_indices().nth(column.saturating_sub(1) as usize).map_or(rest.len(), |(at, _)| at)
    }

    /// Offset of the first byte of a line (from 1); the length of the text past the last one.
    pub(crate) fn start(&self, line: u32) -> usize {
        self.starts.get((line as usize).saturating_sub(1)).copied().unwrap_or(self.text.len())
    }

    /// Text of a line without its end.
    pub(crate) fn line(&self, line: u32) -> &'a str {
        let text = self.text.get(self.start(line)..self.start(line.saturating_add(1))).unwrap_or_default();
        text.trim_end_matches(['\n', '\r'])
    }

    /// Number of lines; a text that ends with a line end has none after it.
    pub(crate) fn count(&self) -> u32 {
        let open = u32::from(!self.text.is_empty() && !self.text.ends_with('\n'));
        u32::try_from(self.text.matches('\n').count()).unwrap_or(u32::MAX - 1) + open
    }
}

/// Parses the text of a file with its variables in place: they are data of the scalars they stand in, even where
/// `{`, `}` or `: ` would mean something to YAML.
pub fn parse_raw(text: &str) -> Result<Document, ParseError> {
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for (start, end, inner) in references(text) {
        if inner.contains(['\n', '\r']) {
            continue;
        }
        masked.push_str(text.get(done..start).unwrap_or_default());
        masked.extend(text.get(start..end).unwrap_or_default().chars().map(mask));
        done = end;
    }
    if done == 0 {
        return node::parse(text);
    }
    masked.push_str(text.get(done..).unwrap_or_default());
    let unmasked = Unmasked { masked: Lines::new(&masked), raw: Lines::new(text) };
    let mut document = node::parse(&masked)?;
    if let Some(root) = &mut document.root {
        root.each(&mut |node| unmasked.restore(node));
    }
    for (key, ..) in &mut document.duplicates {
        *key = key.chars().map(unmask).collect();
    }
    Ok(document)
}

struct Unmasked<'a> {
    masked: Lines<'a>,
    raw: Lines<'a>,
}

impl Unmasked<'_> {
    fn restore(&self, node: &mut Node) {
        if let node::Kind::Scalar(text, _) = &mut node.kind
            && text.contains(is_masked)
        {
            *text = text.chars().map(unmask).collect();
        }
        for offset in [&mut node.span.start, &mut node.span.end] {
            let (line, column) = self.masked.place(*offset);
            *offset = self.raw.offset(line, column);
        }
    }
}

/// ASCII punctuation inside `${..}` stands as a private-use character while YAML is parsed.
const MASK: u32 = 0xF100;

fn mask(c: char) -> char {
    if c.is_ascii() && !c.is_ascii_alphanumeric() {
        char::from_u32(MASK + u32::from(c)).unwrap_or(c)
    } else {
        c
    }
}

fn unmask(c: char) -> char {
    if is_masked(c) { char::from_u32(u32::from(c) - MASK).unwrap_or(c) } else { c }
}

fn is_masked(c: char) -> bool {
    (MASK..MASK + 0x80).contains(&u32::from(c))
}

/// Start, end and inner text of each `${..}` without braces inside.
fn references(text: &str) -> impl Iterator<Item = (usize, usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + text.get(at..)?.find("${")?;
            at = start + 2;
            let rest = text.get(at..)?;
            let Some(len) = rest.find(['{', '}']) else { continue };
            if len > 0 && rest.get(len..)?.starts_with('}') {
                at += len + 1;
                return Some((start, at, rest.get(..len)?));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_replacements() {
        let variables = Variables {
            section: [("A".to_owned(), "one\ntwo".to_owned()), ("E".to_owned(), String::new())].into(),
            ..Variables::default()
        };
        let text = "x ${A} y\nz ${E}é ${N:dd} w";
        let expanded = expand(text, &variables);
        assert_eq!(expanded.text, "x one\ntwo y\nz é dd w");
        assert_eq!(expanded.secrets, ["one\ntwo"]);
        for word in ["x", "y", "z", "é", "w"] {
            assert_eq!(
                expanded.original(expanded.text.rfind(word).unwrap()),
                text.rfind(word).unwrap(),
                "{word}"
            );
        }
        assert_eq!(expanded.original(expanded.text.find("two").unwrap()), 2);
    }

    #[test]
    fn masked_parse_keeps_text_and_places() {
        let text = "k: {a: rtsp://u:${P: x}@h, \"${B}\": [${C}, é]}\n";
        let root = parse_raw(text).unwrap().root.unwrap();
        let map = root.get("k").unwrap();
        assert_eq!(map.get("a").unwrap().text(), Some("rtsp://u:${P: x}@h"));
        let span = map.get("a").unwrap().span;
        assert_eq!(text.get(span.start..span.end), Some("rtsp://u:${P: x}@h"));
        assert!(map.get("${B}").is_some());
    }
}
