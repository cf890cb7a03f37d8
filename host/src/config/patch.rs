//! Writing one key into a configuration text so that every other line stays byte for byte.
//!
//! The text is parsed to find the lines of the key; the new block takes their place. Afterwards the result is parsed
//! again and compared with the data it should hold: a text that cannot be patched safely is refused, never damaged.

use super::emit;
use super::node::{Document, Kind, MAX_TEXT, Node};
use super::problem::ParseError;
use super::vars::{Lines, parse_raw};

/// Why a text was not patched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// The parent of the key is not there.
    #[error("yaml: path not exist")]
    NoPath,
    /// The text is not a mapping.
    #[error("yaml: can't patch")]
    NotMapping,
    /// The text cannot be read.
    #[error("yaml: {0}")]
    Parse(#[from] ParseError),
    /// The key is written in a way that the patcher does not touch.
    #[error("yaml: line {line}: can't patch {what}, edit the file by hand")]
    Unsupported {
        /// Line of it.
        line: u32,
        /// What stands there.
        what: &'static str,
    },
    /// A single value was to replace a mapping or a list.
    #[error("yaml: {path} is a {kind}, not a single value")]
    Shape {
        /// Keys joined by dots.
        path: String,
        /// "mapping" or "list".
        kind: &'static str,
    },
    /// The posted fragment is not a mapping.
    #[error("yaml: the fragment must be a mapping")]
    FragmentNotMapping,
    /// The new text would not hold what it should; nothing was written.
    #[error("yaml: the file can't be patched without damage, edit it by hand")]
    Damage,
    /// The new text would be longer than the largest one that can be read.
    #[error("yaml: the file would be longer than {MAX_TEXT} bytes")]
    TooLong,
}

/// Sets the value at a path of keys.
pub fn set(text: &str, path: &[&str], value: &Node) -> Result<String, PatchError> {
    edit(text, path, Some(value))
}

/// Deletes the key at a path; a missing key of an existing parent is no error.
pub fn delete(text: &str, path: &[&str]) -> Result<String, PatchError> {
    edit(text, path, None)
}

fn edit(text: &str, path: &[&str], value: Option<&Node>) -> Result<String, PatchError> {
    let document = parse_raw(text)?;
    if document.several {
        return Err(PatchError::Unsupported { line: 1, what: "a file of several documents" });
    }
    let empty = Node::new(Kind::Map(Vec::new()));
    let root = document.root.as_ref().unwrap_or(&empty);
    if root.entries().is_none() && !root.is_null() {
        return Err(PatchError::NotMapping);
    }
    let Some((key, parents)) = path.split_last() else { return Err(PatchError::NoPath) };
    let mut expected = root.clone();
    change(&mut expected, path, value);
    // Below a single value there is no place for a key.
    let place = path.iter().try_fold(&expected, |at, key| at.get(key));
    if value.is_some_and(|value| !place.is_some_and(|set| set.same_data(value))) {
        return Err(PatchError::NoPath);
    }

    let patch = Patch { text, lines: Lines::new(text), document: &document };
    let new = patch.apply(root, parents, key, value, &expected)?;
    if new.len() > MAX_TEXT {
        return Err(PatchError::TooLong);
    }
    let check = parse_raw(&new).map_err(|_| PatchError::Damage)?;
    let same = check.root.as_ref().unwrap_or(&empty).same_data(&expected);
    if !same || check.duplicates.len() > document.duplicates.len() || check.several {
        return Err(PatchError::Damage);
    }
    Ok(new)
}

/// The data after the change, whatever the text looks like.
fn change(root: &mut Node, path: &[&str], value: Option<&Node>) {
    let Some((key, rest)) = path.split_first() else { return };
    if root.is_null() {
        root.kind = Kind::Map(Vec::new());
    }
    if rest.is_empty() {
        match value {
            Some(value) => drop(root.insert(Node::string(*key), value.clone())),
            None => drop(root.remove(key)),
        }
        return;
    }
    if root.get(key).is_none() {
        root.insert(Node::string(*key), Node::plain(""));
    }
    if let Some(child) = root.get_mut(key) {
        change(child, rest, value);
    }
}

struct Patch<'a> {
    text: &'a str,
    lines: Lines<'a>,
    document: &'a Document,
}

impl Patch<'_> {
    fn apply(
        &self,
        root: &Node,
        parents: &[&str],
        key: &str,
        value: Option<&Node>,
        expected: &Node,
    ) -> Result<String, PatchError> {
        if root.flow {
            return self.rewrite_root(root, expected);
        }
        let mut parent = root;
        let mut parent_key: Option<&Node> = None;
        let mut new = expected;
        for (depth, name) in parents.iter().enumerate() {
            let Some((name_node, child)) = parent.entry(name) else {
                return match (depth, parents, value) {
                    (0, [section], Some(value)) => {
                        let section = emit::entry(section, &Node::map([(key, value.clone())]), 0);
                        self.insert_at_end(&section)
                    }
                    _ => Err(PatchError::NoPath),
                };
            };
            if child.alias || name_node.alias {
                return Err(self.unsupported(name_node, "a value shared by an alias"));
            }
            if child.entries().is_none() && !child.is_null() {
                return Err(PatchError::NoPath);
            }
            new = new.get(name).ok_or(PatchError::Damage)?;
            if child.flow {
                return self.replace(name_node, child, Some(new), true);
            }
            (parent, parent_key) = (child, Some(name_node));
        }
        match (parent.entry(key), value) {
            (Some((key_node, old)), _) => self.replace(key_node, old, value, false),
            (None, None) => Ok(self.text.to_owned()),
            (None, Some(value)) => match parent_key {
                Some(parent_key) => self.insert_below(parent_key, parent, key, value),
                None => self.insert_at_end(&emit::entry(key, value, 0)),
            },
        }
    }

    /// Replaces the lines of an entry by a new block, or deletes them.
    fn replace(
        &self,
        key: &Node,
        old: &Node,
        new: Option<&Node>,
        comments: bool,
    ) -> Result<String, PatchError> {
        let column = self.key_column(key)?;
        let mut block = String::new();
        if comments {
            for comment in self.comments_inside(old) {
                block.push_str(&format!("{}{comment}\n", " ".repeat(column)));
            }
        }
        if let Some(new) = new {
            block.push_str(&emit::entry(key.text().unwrap_or_default(), new, column));
        }
        let last = self.last_line(key, old, column);
        Ok(self.splice(self.lines.start(key.span.line), self.lines.start(last + 1), &block))
    }

    fn insert_below(
        &self,
        parent_key: &Node,
        parent: &Node,
        key: &str,
        value: &Node,
    ) -> Result<String, PatchError> {
        let parent_column = self.key_column(parent_key)?;
        let column = match parent.entries().and_then(|entries| entries.first()) {
            Some((first, _)) => self.key_column(first)?,
            None => parent_column + 2,
        };
        let at = self.lines.start(self.last_line(parent_key, parent, parent_column) + 1);
        let mut new = self.splice(at, at, &emit::entry(key, value, column));
        if parent.is_null() && parent.span.end > parent.span.start {
            // An explicit `null` or `~` gives way to the block.
            let from = self.text.get(..parent.span.start).unwrap_or_default().trim_end().len();
            new.replace_range(from..parent.span.end, "");
        }
        Ok(new)
    }

    fn insert_at_end(&self, block: &str) -> Result<String, PatchError> {
        let root = self.document.root.as_ref();
        if root.is_some_and(|root| root.is_null() && root.span.end > root.span.start) {
            return Err(self.unsupported(root.unwrap_or(&Node::plain("")), "an explicit null"));
        }
        let first = root.and_then(Node::entries).and_then(|entries| entries.first());
        if let Some((first, _)) = first
            && self.key_column(first)? != 0
        {
            return Err(self.unsupported(first, "an indented top level"));
        }
        let at = self.document.end_marker.map_or(self.text.len(), |line| self.lines.start(line));
        Ok(self.splice(at, at, block))
    }

    fn rewrite_root(&self, root: &Node, expected: &Node) -> Result<String, PatchError> {
        let mut block = String::new();
        for comment in self.comments_inside(root) {
            block.push_str(&format!("{comment}\n"));
        }
        block.push_str(&emit::document(expected).text);
        let (start, end) = (root.span.start, root.span.end);
        let line_start = self.lines.start(root.span.line);
        let lead = self.text.get(line_start..start).unwrap_or_default();
        if !lead.trim_start_matches('\u{feff}').trim().is_empty() {
            block.insert(0, '\n');
        }
        let rest = self.text.get(end..).unwrap_or_default();
        let line_end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let end =
            if rest.get(..line_end).unwrap_or_default().trim().is_empty() { end + line_end } else { end };
        Ok(self.splice(start, end, &block))
    }

    /// Puts a block (lines with `\n`) between two offsets.
    fn splice(&self, start: usize, end: usize, block: &str) -> String {
        let before = self.text.get(..start).unwrap_or_default();
        let after = self.text.get(end..).unwrap_or_default();
        let crlf =
            self.text.find('\n').is_some_and(|at| self.text.get(..at).is_some_and(|l| l.ends_with('\r')));
        let newline = if crlf { "\r\n" } else { "\n" };
        let mut new = String::with_capacity(self.text.len() + block.len() + 2);
        new.push_str(before);
        let at_line_start = before.trim_start_matches('\u{feff}').is_empty() || before.ends_with('\n');
        if !block.is_empty() && !at_line_start && !block.starts_with('\n') {
            new.push_str(newline);
        }
        if crlf {
            new.push_str(&block.replace('\n', "\r\n"));
        } else {
            new.push_str(block);
        }
        new.push_str(after);
        new
    }

    /// The last line that belongs to an entry: of its value, or one after it that is indented deeper than the key.
    fn last_line(&self, key: &Node, value: &Node, column: usize) -> u32 {
        let mut last = key.span.last_line.max(if value.alias { 0 } else { value.span.last_line });
        let mut line = last;
        while line < self.lines.count() {
            line += 1;
            let text = self.lines.line(line);
            if text.trim().is_empty() {
                continue;
            }
            if text.len() - text.trim_start_matches(' ').len() <= column {
                break;
            }
            last = line;
        }
        last
    }

    /// Column of a key that stands alone at the start of its line.
    fn key_column(&self, key: &Node) -> Result<usize, PatchError> {
        let line_start = self.lines.start(key.span.line);
        let lead = self.text.get(line_start..key.span.start).unwrap_or_default();
        let lead = if line_start == 0 { lead.trim_start_matches('\u{feff}') } else { lead };
        let plain = lead.chars().all(|c| c == ' ') && key.span.line == key.span.last_line && !key.alias;
        if plain && key.text().is_some() {
            Ok(lead.len())
        } else {
            Err(self.unsupported(key, "a key that does not stand alone at the start of its line"))
        }
    }

    fn unsupported(&self, node: &Node, what: &'static str) -> PatchError {
        PatchError::Unsupported { line: node.span.line, what }
    }

    /// Comments between the values of a flow collection, which is rewritten in block style.
    fn comments_inside(&self, node: &Node) -> Vec<&str> {
        let mut scalars = Vec::new();
        collect_scalars(node, &mut scalars);
        let range = self.text.get(node.span.start..node.span.end).unwrap_or_default();
        let mut comments = Vec::new();
        let mut skip_to = 0;
        for (at, _) in range.match_indices('#') {
            let offset = node.span.start + at;
            let blank_before = range.get(..at).is_some_and(|before| before.ends_with([' ', '\t', '\n']));
            if offset < skip_to || !blank_before || scalars.iter().any(|(s, e)| (*s..*e).contains(&offset)) {
                continue;
            }
            let comment = range.get(at..).and_then(|rest| rest.lines().next()).unwrap_or_default();
            skip_to = offset + comment.len();
            comments.push(comment.trim_end());
        }
        comments
    }
}

fn collect_scalars(node: &Node, out: &mut Vec<(usize, usize)>) {
    match &node.kind {
        Kind::Scalar(..) => out.push((node.span.start, node.span.end)),
        Kind::List(items) => items.iter().for_each(|item| collect_scalars(item, out)),
        Kind::Map(entries) => entries.iter().for_each(|(key, value)| {
            collect_scalars(key, out);
            collect_scalars(value, out);
        }),
    }
}
