//! Where the configuration comes from: `--config` values, or the files in the working directory.

use std::path::{Path, PathBuf};

/// File that is read first when no `--config` is given.
pub const NATIVE_FILE: &str = "plugins.yaml";
/// File that is read when the first one is not there.
pub const GO2RTC_FILE: &str = "go2rtc.yaml";

/// One source of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A YAML flow mapping or JSON text on the command line.
    Inline(String),
    /// `a.b.c=TEXT` on the command line: the keys and the YAML text.
    Pair(Vec<String>, String),
    /// A file.
    File(PathBuf),
}

/// All sources, in the order in which they are merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The sources; later ones win.
    pub list: Vec<Source>,
    /// The file that is written to: the first file named, existing or not.
    pub target: Option<PathBuf>,
}

impl Sources {
    /// Sources of a command line; `values` are those of `--config`, `folder` is the working directory.
    pub fn from_args(values: &[String], folder: &Path) -> Self {
        if values.is_empty() {
            return Self::of_folder(folder);
        }
        let list: Vec<_> = values.iter().filter_map(|value| Source::parse(value, folder)).collect();
        let target = list.iter().find_map(|source| match source {
            Source::File(path) => Some(path.clone()),
            _ => None,
        });
        Self { list, target }
    }

    /// The sources when no `--config` is given: `plugins.yaml`, else `go2rtc.yaml`, else none (and `plugins.yaml` is
    /// created by the first write).
    pub fn of_folder(folder: &Path) -> Self {
        let native = absolute(folder, NATIVE_FILE);
        let go2rtc = absolute(folder, GO2RTC_FILE);
        let path = if !native.exists() && go2rtc.exists() { go2rtc } else { native };
        Self { list: vec![Source::File(path.clone())], target: Some(path) }
    }

    /// The files among the sources.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.list.iter().filter_map(|source| match source {
            Source::File(path) => Some(path.as_path()),
            _ => None,
        })
    }
}

impl Source {
    /// Reads one `--config` value; `None` for an empty one.
    pub fn parse(value: &str, folder: &Path) -> Option<Self> {
        if value.is_empty() {
            return None;
        }
        if value.starts_with('{') {
            return Some(Self::Inline(value.to_owned()));
        }
        match value.split_once('=') {
            Some((keys, text)) if keys.contains('.') => {
                Some(Self::Pair(keys.split('.').map(str::to_owned).collect(), text.to_owned()))
            }
            _ => Some(Self::File(absolute(folder, value))),
        }
    }
}

fn absolute(folder: &Path, path: &str) -> PathBuf {
    let path = folder.join(path);
    std::path::absolute(&path).unwrap_or(path)
}
