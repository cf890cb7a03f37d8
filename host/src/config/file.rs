//! The configuration file on disk: the one target of every write.

use super::merge;
use super::node::{MAX_TEXT, Node};
use super::patch::{self, PatchError};
use super::vars::parse_raw;
use parking_lot::Mutex;
use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why the file was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// No configuration file was named: all sources are inline.
    #[error("config file disabled")]
    Disabled,
    /// The change does not fit the text.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// The file cannot be read or written.
    #[error("config file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl WriteError {
    /// Whether the caller sent something wrong (HTTP 400) rather than the file being unwritable.
    pub fn is_callers(&self) -> bool {
        matches!(self, Self::Patch(PatchError::Shape { .. } | PatchError::FragmentNotMapping))
    }
}

/// The file that keys are written to. Writes are serialised, atomic and remembered, so that a watcher can tell them
/// from an edit by the user.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    own: Mutex<Option<u64>>,
}

impl ConfigFile {
    /// The file at a path; it need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), own: Mutex::new(None) }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its text, byte for byte.
    pub fn read(&self) -> io::Result<String> {
        read_text(&self.path)
    }

    /// Sets one key; `["streams", "cam"]`.
    pub fn set(&self, path: &[&str], value: &Node) -> Result<(), WriteError> {
        self.edit(|text| patch::set(text, path, value))
    }

    /// Deletes one key.
    pub fn delete(&self, path: &[&str]) -> Result<(), WriteError> {
        self.edit(|text| patch::delete(text, path))
    }

    /// Merges a fragment.
    pub fn merge(&self, fragment: &str) -> Result<(), WriteError> {
        self.edit(|text| merge::fragment(text, fragment))
    }

    /// Switches a plugin on or off where the text says so, else in `plugins:`.
    pub fn switch(&self, plugin: &str, on: bool) -> Result<(), WriteError> {
        self.edit(|text| {
            let root = parse_raw(text)?.root;
            let section = |path: &[&str]| {
                let node = root.as_ref();
                path.iter().try_fold(node?, |node, key| node.get(key)).filter(|node| node.entries().is_some())
            };
            let word = Node::plain(if on { "on" } else { "off" });
            let mut text = text.to_owned();
            if section(&[plugin]).is_some_and(|own| own.get("enabled").is_some_and(|v| v.text().is_some())) {
                text = patch::set(&text, &[plugin, "enabled"], &word)?;
            }
            match section(&["plugins", plugin]) {
                Some(_) => patch::set(&text, &["plugins", plugin, "enabled"], &word),
                None => patch::set(&text, &["plugins", plugin], &word),
            }
        })
    }

    /// Replaces the whole text. The caller has checked it.
    pub fn replace(&self, text: &str) -> Result<(), WriteError> {
        let mut own = self.own.lock();
        self.write(&mut own, text)
    }

    /// Reads, changes and writes in one step; a missing file is empty, an unchanged text is not written.
    pub fn edit(&self, change: impl FnOnce(&str) -> Result<String, PatchError>) -> Result<(), WriteError> {
        let mut own = self.own.lock();
        let old = match read_text(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(WriteError::Io { path: self.path.clone(), source }),
        };
        let new = change(&old)?;
        if new == old { Ok(()) } else { self.write(&mut own, &new) }
    }

    /// Whether these bytes are what this process wrote last.
    pub fn is_own_write(&self, bytes: &[u8]) -> bool {
        *self.own.lock() == Some(content_hash(bytes))
    }

    fn write(&self, own: &mut Option<u64>, text: &str) -> Result<(), WriteError> {
        // Known before the file changes: a watcher may look at once.
        let before = own.replace(content_hash(text.as_bytes()));
        write_atomic(&self.path, text.as_bytes()).map_err(|source| {
            *own = before;
            WriteError::Io { path: self.path.clone(), source }
        })
    }
}

/// Hash of a file's content, for comparing versions within one run.
pub fn content_hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Reads a text file of at most [`MAX_TEXT`] bytes.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_TEXT as u64 {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {MAX_TEXT} bytes")));
    }
    fs::read_to_string(path)
}

/// Writes a file so that a reader or a power cut sees the old or the new content, never a part. The mode is kept
/// (0644 for a new file), a symbolic link stays one.
fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let old = fs::metadata(&target).ok();
    let mode = old.as_ref().map_or(0o644, |old| old.mode() & 0o7777);
    let temp = tempfile::Builder::new().prefix(".patchbay-").suffix(".tmp").tempfile_in(folder);
    let mut temp = match temp {
        Ok(temp) => temp,
        // The folder is not writable, the file may be.
        Err(_) if old.is_some() => return write_in_place(&target, bytes),
        Err(error) => return Err(error),
    };
    temp.write_all(bytes)?;
    temp.as_file().set_permissions(Permissions::from_mode(mode))?;
    temp.as_file().sync_all()?;
    match temp.persist(&target) {
        Ok(_) => {}
        // A single file mounted into a container cannot be renamed over (EBUSY).
        Err(error) if old.is_some() && error.error.kind() == io::ErrorKind::ResourceBusy => {
            return write_in_place(&target, bytes);
        }
        Err(error) => return Err(error.error),
    }
    File::open(folder)?.sync_all()
}

fn write_in_place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
