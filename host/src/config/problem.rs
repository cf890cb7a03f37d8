//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;

/// Why a text is not YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What the parser found.
    pub message: String,
    /// What to try.
    pub hint: Option<String>,
}

impl ParseError {
    pub(crate) fn at(line: u32, column: u32, message: impl Into<String>) -> Self {
        Self { line, column, message: message.into(), hint: None }
    }

    pub(crate) fn with_hint(mut self, text: &str) -> Self {
        self.hint = hint(text, &self).map(str::to_owned);
        self
    }
}

fn hint(text: &str, error: &ParseError) -> Option<&'static str> {
    let line = text.lines().nth((error.line as usize).saturating_sub(1)).unwrap_or_default();
    let indent = line.get(..line.len() - line.trim_start().len()).unwrap_or_default();
    let value = line.split_once(": ").map_or("", |(_, value)| value.trim_start());
    if indent.contains('\t') || error.message.contains("tab") {
        Some("YAML is indented with spaces: replace the tab by two spaces")
    } else if value.starts_with(['@', '`', '%', '*', '&', '!']) {
        Some("a value that starts with one of @ ` % * & ! must stand in quotes")
    } else if error.message.contains("mapping values are not allowed") {
        Some("put a value that contains \": \" in quotes, or indent the line like the one above it")
    } else if error.message.contains("flow") || error.message.contains("':' indicator") {
        Some("a bracket, brace or quote above this line is not closed")
    } else if error.message.contains("quoted scalar") || error.message.contains("end of stream") {
        Some("a quote is not closed")
    } else if error.message.contains("simple key") || error.message.contains("expected ':'") {
        Some("a key ends with a colon and a space: \"key: value\"")
    } else {
        None
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The setting is ignored or not used by anything; everything else is in force.
    Warning,
    /// The file is wrong: `patchbay check` fails, a change at run time is refused.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One problem of a configuration. Prints as `file:line:column: error: message (hint)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// File name, or `argument N` for a `--config` value.
    pub source: String,
    /// Line, from 1; 0 when the whole source is meant.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong. Holds keys, never values.
    pub message: String,
    /// What to try.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: {}", self.severity, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

/// The known word nearest to a misspelt one: at most two letters wrong, and fewer than half of them.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = match word.chars().count() {
        0..=2 => 0,
        3..=4 => 1,
        _ => 2,
    };
    known
        .into_iter()
        .filter(|known| *known != word)
        .map(|known| (distance(word, known), known))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, known)| known)
}

/// Edit distance in which swapped neighbours count once.
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 8 || a.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut last_a = None;
    for (i, a) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, &c) in b.iter().enumerate() {
            let cost = usize::from(a != c);
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&row, j) + cost).min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = j > 0 && last_a == Some(c) && b.get(j - 1) == Some(&a);
            if swapped {
                best = best.min(at(&before, j - 1).saturating_add(1));
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        last_a = Some(a);
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_words_find_their_neighbour() {
        let known = ["streams", "plugins", "publish", "preload", "api", "log"];
        for (word, answer) in [
            ("stream", Some("streams")),
            ("sterams", Some("streams")),
            ("plugin", Some("plugins")),
            ("apis", Some("api")),
            ("streams", None),
            ("webrtc", None),
            ("lo", None),
        ] {
            assert_eq!(nearest(word, known), answer, "{word}");
        }
    }
}
