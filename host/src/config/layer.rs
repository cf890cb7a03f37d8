//! One source as a tree in normal form, and laying one over another.

use super::node::{self, Kind, Node, Span};
use super::problem::{ParseError, Problem, Severity};
use super::source::Source;
use super::vars::{Variables, expand, parse_raw};
use std::io;
use std::path::PathBuf;

/// Sections that belong to the host; every other one belongs to the plugin of its name.
pub const HOST_SECTIONS: [&str; 8] = ["app", "api", "log", "streams", "publish", "preload", "env", "plugins"];

/// Collects the layers.
pub(crate) struct Reader {
    pub(crate) variables: Variables,
    /// A text to read instead of a file's.
    pub(crate) instead: Option<(PathBuf, String)>,
    pub(crate) secrets: Vec<String>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) names: Vec<String>,
}

impl Reader {
    /// Reads a source; `None` when there is nothing to merge.
    pub(crate) fn read(&mut self, source: &Source) -> Option<Node> {
        let index = u16::try_from(self.names.len()).unwrap_or(u16::MAX);
        let mut root = match source {
            Source::File(path) => {
                self.names.push(path.display().to_string());
                let instead = self.instead.as_ref().filter(|(file, _)| file == path);
                let text = instead.map(|(_, text)| Ok(text.clone()));
                match text.unwrap_or_else(|| super::file::read_text(path)) {
                    Ok(text) => self.file(&text),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => {
                        self.report(index, Severity::Error, format!("cannot be read: {error}"));
                        None
                    }
                }
            }
            Source::Inline(text) => {
                self.names.push(format!("argument {}", index + 1));
                self.document(text, |_, _| {}, |error| error)
            }
            Source::Pair(keys, text) => {
                self.names.push(format!("argument {}", index + 1));
                let value = self.value(text)?;
                Some(keys.iter().rev().fold(value, |value, key| Node::map([(key.as_str(), value)])))
            }
        }?;
        root.each(&mut |node| node.span.source = index);
        if root.is_null() {
            return None;
        }
        if root.entries().is_none() {
            self.report(index, Severity::Error, "the top level must be a mapping of sections".to_owned());
            return None;
        }
        resolve_merge_keys(&mut root, 0);
        self.gather_plugins(&mut root);
        Some(root)
    }

    fn file(&mut self, text: &str) -> Option<Node> {
        self.read_env(text);
        let expanded = expand(text, &self.variables);
        self.secrets.extend(expanded.secrets.iter().cloned());
        let new = expanded.text.clone();
        self.document(
            &new,
            |node, _| expanded.restore_places(text, node),
            |error| expanded.restore_error(text, error),
        )
    }

    /// The variables that the file defines itself.
    fn read_env(&mut self, text: &str) {
        let section = match parse_raw(text) {
            Ok(document) => document.root.and_then(|mut root| root.remove("env")),
            // A variable may bring in more than a value: only the section is read.
            Err(_) => {
                parse_raw(&block_of(text, "env:")).ok().and_then(|d| d.root).and_then(|mut r| r.remove("env"))
            }
        };
        let Some((_, section)) = section else { return };
        for (name, value) in section.entries().unwrap_or_default() {
            if let (Some(name), Some(value)) = (name.text(), value.text())
                && !value.is_empty()
            {
                self.variables.section.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn document(
        &mut self,
        text: &str,
        places: impl Fn(&mut Node, ()),
        errors: impl Fn(ParseError) -> ParseError,
    ) -> Option<Node> {
        let source = self.names.last().cloned().unwrap_or_default();
        let document = match node::parse(text) {
            Ok(document) => document,
            Err(error) => return self.refuse(errors(error)),
        };
        for (key, span, first) in document.duplicates {
            let mut second = Node { span, ..Node::plain("") };
            let mut first = Node { span: Span { line: first, ..span }, ..Node::plain("") };
            places(&mut second, ());
            places(&mut first, ());
            self.problems.push(Problem {
                severity: Severity::Error,
                source: source.clone(),
                line: second.span.line,
                column: second.span.column,
                message: format!("the key {key:?} stands twice, first in line {}", first.span.line),
                hint: Some("only the last one counts: merge the two".to_owned()),
            });
        }
        if document.several {
            self.problems.push(Problem {
                severity: Severity::Warning,
                source,
                line: 0,
                column: 0,
                message: "only the first of several documents is read".to_owned(),
                hint: Some("remove the line ---".to_owned()),
            });
        }
        let mut root = document.root?;
        places(&mut root, ());
        Some(root)
    }

    /// The source that is being read is no YAML.
    fn refuse(&mut self, ParseError { line, column, message, hint }: ParseError) -> Option<Node> {
        let source = self.names.last().cloned().unwrap_or_default();
        self.problems.push(Problem { severity: Severity::Error, source, line, column, message, hint });
        None
    }

    fn value(&mut self, text: &str) -> Option<Node> {
        match node::parse(text) {
            Ok(document) => Some(document.root.unwrap_or_else(|| Node::plain(""))),
            Err(error) => self.refuse(error),
        }
    }

    /// `plugins: NAME: {..}` becomes part of the section `NAME`; on, off and null stay in `plugins`.
    fn gather_plugins(&mut self, root: &mut Node) {
        let Some((_, plugins)) = root.entry("plugins").cloned() else { return };
        for (name, settings) in plugins.entries().unwrap_or_default() {
            let (Some(text), Some(_)) = (name.text(), settings.entries()) else { continue };
            if HOST_SECTIONS.contains(&text) {
                let source = self.names.last().cloned().unwrap_or_default();
                self.problems.push(Problem {
                    severity: Severity::Error,
                    source,
                    line: name.span.line,
                    column: name.span.column,
                    message: format!("{text:?} is not a plugin"),
                    hint: Some("move its settings to the top level".to_owned()),
                });
                continue;
            }
            let layer =
                Node { span: name.span, ..Node::new(Kind::Map(vec![(name.clone(), settings.clone())])) };
            lay_over(root, layer, 0, false);
            if let Some(plugins) = root.get_mut("plugins")
                && let Some(toggle) = plugins.get_mut(text)
            {
                *toggle = Node { span: toggle.span, ..Node::plain("on") };
            }
        }
    }

    fn report(&mut self, index: u16, severity: Severity, message: String) {
        let source = self.names.get(usize::from(index)).cloned().unwrap_or_default();
        self.problems.push(Problem { severity, source, line: 0, column: 0, message, hint: None });
    }
}

/// Lays a later source over an earlier one: mappings merge key by key, scalars and lists replace, null changes
/// nothing, and the value of a stream (`streams`, `publish`) is replaced as a whole.
pub(crate) fn lay_over(base: &mut Node, layer: Node, depth: usize, whole: bool) {
    let Kind::Map(entries) = layer.kind else { return };
    for (key, value) in entries {
        let name = key.text().unwrap_or_default().to_owned();
        match base.get_mut(&name) {
            None => drop(base.insert(key, value)),
            Some(_) if value.is_null() => {}
            Some(old) if old.entries().is_some() && value.entries().is_some() && !whole => {
                let whole = depth == 0 && matches!(name.as_str(), "streams" | "publish");
                lay_over(old, value, depth + 1, whole);
            }
            Some(old) => *old = value,
        }
    }
}

/// `<<: *name` and `<<: [*a, *b]`: keys of the named mappings that the mapping does not have itself.
fn resolve_merge_keys(node: &mut Node, depth: usize) {
    if depth > node::MAX_DEPTH {
        return;
    }
    while let Some((_, merged)) = node.remove("<<") {
        let sources = match merged.kind {
            Kind::List(items) => items,
            _ => vec![merged],
        };
        for source in sources {
            let Kind::Map(entries) = source.kind else { continue };
            for (key, value) in entries {
                if key.text().is_some_and(|key| node.get(key).is_none()) {
                    node.insert(key, value);
                }
            }
        }
    }
    match &mut node.kind {
        Kind::Scalar(..) => {}
        Kind::List(items) => items.iter_mut().for_each(|item| resolve_merge_keys(item, depth + 1)),
        Kind::Map(entries) => entries.iter_mut().for_each(|(_, value)| resolve_merge_keys(value, depth + 1)),
    }
}

/// The lines of a top-level block.
fn block_of(text: &str, key: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(key));
    let first = lines.next().unwrap_or_default();
    let rest = lines.take_while(|line| line.is_empty() || line.starts_with([' ', '\t', '#']));
    std::iter::once(first).chain(rest).flat_map(|line| [line, "\n"]).collect()
}
