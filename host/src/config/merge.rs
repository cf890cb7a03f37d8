//! Merging a posted fragment into a configuration text (`PATCH /api/config`): mappings key by key, everything else
//! replaced; comments, order and untouched lines stay.

use super::node::{Kind, Node};
use super::patch::{self, PatchError};
use super::vars::parse_raw;

/// Merges a fragment into a text and returns the new text.
pub fn fragment(text: &str, fragment: &str) -> Result<String, PatchError> {
    let document = parse_raw(fragment)?;
    let Some(root) = document.root.filter(|root| !root.is_null()) else { return Ok(text.to_owned()) };
    if root.entries().is_none() {
        return Err(PatchError::FragmentNotMapping);
    }
    let base = parse_raw(text)?.root.unwrap_or_else(|| Node::map::<String>([]));
    if base.entries().is_none() && !base.is_null() {
        return Err(PatchError::NotMapping);
    }
    let mut changes = Vec::new();
    collect(&base, &root, &mut Vec::new(), &mut changes)?;
    let mut text = text.to_owned();
    for (path, value) in changes {
        text = patch::set(&text, &path, value)?;
    }
    Ok(text)
}

type Change<'a> = (Vec<&'a str>, &'a Node);

fn collect<'a>(
    base: &Node,
    fragment: &'a Node,
    path: &mut Vec<&'a str>,
    changes: &mut Vec<Change<'a>>,
) -> Result<(), PatchError> {
    for (key, value) in fragment.entries().unwrap_or_default() {
        let name = key.text().ok_or(PatchError::FragmentNotMapping)?;
        path.push(name);
        match base.get(name) {
            Some(old) => match (&old.kind, &value.kind) {
                (Kind::Map(_), Kind::Map(_)) => collect(old, value, path, changes)?,
                (Kind::Map(_), Kind::Scalar(..)) => return Err(shape(path, "mapping")),
                (Kind::List(_), Kind::Scalar(..)) => return Err(shape(path, "list")),
                _ if old.same_data(value) => {}
                _ => changes.push((path.clone(), value)),
            },
            None => changes.push((path.clone(), value)),
        }
        path.pop();
    }
    Ok(())
}

fn shape(path: &[&str], kind: &'static str) -> PatchError {
    PatchError::Shape { path: path.join("."), kind }
}
