//! What plugins there are, from their manifests alone: no code of a plugin runs for this.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use patchbay_plugin_api::Manifest;
use patchbay_plugin_api::manifest::{
    Demuxes, Magic, Raw, Route, Scheme, plugin_name, program_manifest, program_name,
};
use patchbay_plugin_api::message::{HOST_SERVICE, Head};
use patchbay_plugin_api::version;

use crate::config::Isolation;

/// A folder that is searched for plugins.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Where.
    pub path: PathBuf,
    /// Shipped with Patchbay: its plugins run in this process unless configured otherwise.
    pub shipped: bool,
}

/// One plugin file.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The file.
    pub path: PathBuf,
    /// Shipped with Patchbay.
    pub shipped: bool,
    /// Switched on in the configuration.
    pub enabled: bool,
    /// Which state of the file the manifest was read from.
    pub stamp: Stamp,
}

/// Tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// Whether both are states of one file or folder.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// The state of a file now; `None` when there is none.
    pub fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        let modified = (meta.mtime(), meta.mtime_nsec());
        Some(Self { device: meta.dev(), inode: meta.ino(), size: meta.size(), modified })
    }

    /// The state of a plugin's file, a program's with its manifest.
    fn of_plugin(path: &Path) -> Option<Self> {
        let mut stamp = Self::of(path)?;
        if program_name(path).is_some() {
            let manifest = Self::of(&program_manifest(path))?;
            stamp.size = stamp.size.rotate_left(32) ^ manifest.size;
            stamp.modified = stamp.modified.max(manifest.modified);
        }
        Some(stamp)
    }
}

impl Entry {
    /// Whether it is a program, not a library.
    pub fn is_program(&self) -> bool {
        program_name(&self.path).is_some()
    }

    /// Whether it runs in a process of its own; `setting` is the user's. A program always does.
    pub fn is_isolated(&self, setting: Option<Isolation>) -> bool {
        if self.is_program() {
            return true;
        }
        let trusted = self.shipped && self.manifest.isolation != "process";
        let usual = if trusted { Isolation::InProcess } else { Isolation::Process };
        setting.unwrap_or(usual) == Isolation::Process
    }
}

/// A file that looks like a plugin and is not used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The file.
    pub path: PathBuf,
    /// One line.
    pub reason: String,
}

/// What the configuration says of plugin files.
pub struct Rules<'a> {
    /// Whether a plugin is on.
    pub enabled: &'a dyn Fn(&str) -> bool,
    /// Files and folders that everybody can write to are accepted.
    pub writable: bool,
}

/// Role of a scheme that is pushed to.
const SINK: &str = "sink";

/// Whether a scheme is dialled. Roles that this version does not know are nobody's.
fn is_dialled(scheme: &Scheme) -> bool {
    ["source", "transport"].contains(&scheme.role.as_str())
}

/// All plugins that were found.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// Where they were looked for.
    pub folders: Vec<Folder>,
    /// In the order of their names.
    pub entries: Vec<Entry>,
    /// Files that are not used.
    pub refused: Vec<Refused>,
}

impl Catalogue {
    /// Reads the manifests in `folders`; of two files with one name the first wins.
    pub fn scan(folders: &[Folder], rules: &Rules) -> Self {
        Self { folders: folders.to_vec(), ..Self::default() }.rescan(rules)
    }

    /// Looks at the folders again. Only files that have changed are read; one that cannot be used any more is refused
    /// with its reason and what it was before stays.
    #[must_use]
    pub fn rescan(&self, rules: &Rules) -> Self {
        let mut catalogue = Self { folders: self.folders.clone(), ..Self::default() };
        for folder in &self.folders {
            let Ok(files) = fs::read_dir(&folder.path) else { continue };
            let mut paths: Vec<PathBuf> =
                files.filter_map(|file| file.ok().map(|file| file.path())).collect();
            paths.sort();
            for path in paths.iter().filter(|path| plugin_name(path).is_some()) {
                let known = self.entries.iter().find(|entry| entry.path == *path);
                // Looked at before the file is read: a change under way is seen the next time.
                let Some(stamp) = Stamp::of_plugin(path) else { continue };
                let entry = match known.filter(|entry| entry.stamp == stamp) {
                    Some(entry) => Some(entry.clone()),
                    None => match open(path, folder, rules) {
                        Ok(manifest) => {
                            let shipped = folder.shipped;
                            Some(Entry { manifest, path: path.clone(), shipped, enabled: true, stamp })
                        }
                        Err(mut reason) => {
                            if known.is_some() {
                                reason += "; what it was before stays in use";
                            }
                            catalogue.refused.push(Refused { path: path.clone(), reason });
                            known.cloned()
                        }
                    },
                };
                if let Some(mut entry) = entry.filter(|e| catalogue.by_name(&e.manifest.name).is_none()) {
                    entry.enabled = (rules.enabled)(&entry.manifest.name);
                    catalogue.entries.push(entry);
                }
            }
        }
        catalogue.entries.sort_by(|a, b| a.manifest.name.cmp(&b.manifest.name));
        catalogue
    }

    /// The plugin with this name.
    pub fn by_name(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.manifest.name == name)
    }

    fn enabled(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.enabled)
    }

    /// Who dials a URL scheme.
    pub fn scheme(&self, name: &str) -> Option<(&Entry, &Scheme)> {
        self.enabled()
            .flat_map(|entry| entry.manifest.schemes.iter().map(move |scheme| (entry, scheme)))
            .filter(|(_, scheme)| scheme.name == name && is_dialled(scheme))
            .max_by_key(|(entry, _)| entry.manifest.rank)
    }

    /// Who pushes to a URL scheme.
    pub fn sink(&self, name: &str) -> Option<(&Entry, &Scheme)> {
        self.enabled()
            .flat_map(|entry| entry.manifest.schemes.iter().map(move |scheme| (entry, scheme)))
            .filter(|(_, scheme)| scheme.name == name && scheme.role == SINK)
            .max_by_key(|(entry, _)| entry.manifest.rank)
    }

    /// Every scheme that can be dialled.
    pub fn schemes(&self) -> impl Iterator<Item = &Scheme> {
        let all = self.enabled().flat_map(|entry| entry.manifest.schemes.iter());
        all.filter(|scheme| is_dialled(scheme))
    }

    /// Who gives a service to other plugins; one that is switched off when there is no other.
    pub fn service(&self, name: &str) -> Option<&Entry> {
        let has = |entry: &&Entry| {
            name != HOST_SERVICE && entry.manifest.services.iter().any(|service| service == name)
        };
        self.entries.iter().filter(has).max_by_key(|entry| (entry.enabled, entry.manifest.rank))
    }

    /// Who muxes a format.
    pub fn output(&self, format: &str) -> Option<&Entry> {
        self.enabled()
            .filter(|entry| entry.manifest.outputs.iter().any(|output| output == format))
            .max_by_key(|entry| entry.manifest.rank)
    }

    /// Who reads bytes with this head that start with `first`: by hint, by magic (of those whose MIME type it is, then of
    /// all: tags stand before several formats), by MIME type. A format without magic can be told by its MIME type only, so
    /// that comes before the magic of others.
    pub fn demuxer(&self, head: &Head, first: &[u8]) -> Option<(&Entry, &Demuxes)> {
        let mut all: Vec<(&Entry, &Demuxes)> = self
            .enabled()
            .flat_map(|entry| entry.manifest.demuxes.iter().map(move |demuxes| (entry, demuxes)))
            .collect();
        all.sort_by_key(|(entry, demuxes)| (demuxes.order, -entry.manifest.rank));
        let mime = mime_of(head);
        let by_hint = all.iter().find(|(_, d)| is_named(d, head, &mime));
        let has_mime = |d: &Demuxes| !mime.is_empty() && d.mime.contains(&mime);
        let has_magic = |d: &Demuxes| d.magic.iter().any(|magic| matches(magic, first));
        let by_both = || all.iter().find(|(_, d)| has_mime(d) && has_magic(d));
        let by_magic = || all.iter().find(|(_, d)| has_magic(d));
        let by_mime = || all.iter().find(|(_, d)| has_mime(d));
        by_hint.or_else(by_both).or_else(by_magic).or_else(by_mime).copied()
    }

    /// Whether bytes that start with `first` need not be waited for: their format is named, or a whole pattern is there.
    pub fn is_sure(&self, head: &Head, first: &[u8]) -> bool {
        let mut all = self.enabled().flat_map(|entry| &entry.manifest.demuxes);
        let mime = mime_of(head);
        let whole = |magic: &Magic| {
            first.len() >= magic.offset + magic.again + magic.hex.len() / 2 && matches(magic, first)
        };
        all.any(|demuxes| is_named(demuxes, head, &mime) || demuxes.magic.iter().any(whole))
    }

    /// Who answers a path: below the base path without a slash in front, or a whole one with it.
    pub fn route(&self, path: &str) -> Option<(&Entry, &Route)> {
        self.routes().find(|(_, route)| {
            !route.path.is_empty()
                && (route.path == path
                    || (route.path.ends_with('/') && path.starts_with(route.path.as_str())))
        })
    }

    /// What connections of other protocols are known by.
    pub fn raws(&self) -> impl Iterator<Item = (&Entry, &Raw)> {
        self.enabled().flat_map(|entry| entry.manifest.raw.iter().map(move |raw| (entry, raw)))
    }

    /// Who answers a message type on `/api/ws`.
    pub fn ws(&self, kind: &str) -> Option<(&Entry, &Route)> {
        self.routes().find(|(_, route)| !kind.is_empty() && route.ws == kind)
    }

    /// Every route of every plugin that is on.
    pub fn routes(&self) -> impl Iterator<Item = (&Entry, &Route)> {
        self.enabled().flat_map(|entry| entry.manifest.routes.iter().map(move |route| (entry, route)))
    }
}

fn mime_of(head: &Head) -> String {
    head.mime.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Whether the head alone tells that the bytes are of this format.
fn is_named(demuxes: &Demuxes, head: &Head, mime: &str) -> bool {
    let by_mime = || demuxes.magic.is_empty() && demuxes.mime.iter().any(|known| known == mime);
    (!head.hint.is_empty() && demuxes.format == head.hint) || by_mime()
}

fn open(path: &Path, folder: &Folder, rules: &Rules) -> Result<Manifest, String> {
    if !folder.shipped && !rules.writable {
        let writable = |path: &Path| {
            fs::metadata(path)
                .map(|meta| meta.permissions().mode() & 0o002 != 0)
                .map_err(|error| error.to_string())
        };
        let by_all = writable(&folder.path)? || writable(path)?;
        if by_all || (program_name(path).is_some() && writable(&program_manifest(path))?) {
            return Err(format!(
                "it or its folder can be written by everybody: chmod o-w {0} {1}, or set app: writable_plugins: true",
                folder.path.display(),
                path.display()
            ));
        }
    }
    let manifest = Manifest::read(path).map_err(|error| error.to_string())?;
    version::check(&manifest.abi, manifest.min_host.as_deref(), version::ABI)
        .map_err(|error| error.to_string())?;
    Ok(manifest)
}

fn matches(magic: &Magic, first: &[u8]) -> bool {
    let Some(wanted) = unhex(&magic.hex) else { return false };
    let at = |offset: usize| first.get(offset..).is_some_and(|rest| rest.starts_with(&wanted));
    at(magic.offset)
        && (magic.again == 0 || first.len() <= magic.offset + magic.again || at(magic.offset + magic.again))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    (rest.is_empty() && !pairs.is_empty()).then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_repeats_when_there_is_enough() {
        let ts = Magic { offset: 0, hex: "47".into(), again: 188 };
        let mut bytes = vec![0_u8; 400];
        bytes[0] = 0x47;
        assert!(!matches(&ts, &bytes));
        bytes[188] = 0x47;
        assert!(matches(&ts, &bytes));
        assert!(matches(&ts, &bytes[..10]));
        assert!(!matches(&Magic { hex: "4".into(), ..Magic::default() }, &bytes));
    }

    fn catalogue() -> Catalogue {
        let magic = |hex: &str, again| Magic { offset: 0, hex: hex.to_owned(), again };
        let format = |format: &str, mime: &str, magic: Vec<Magic>, order| Demuxes {
            format: format.to_owned(),
            mime: vec![mime.to_owned()],
            magic,
            order,
        };
        let demuxes = vec![
            format("adts", "audio/aac", vec![magic("fff1", 0), magic("494433", 0)], 30),
            format("mp3", "audio/mpeg", vec![magic("fffb", 0), magic("494433", 0)], 28),
            format("mpegts", "video/mp2t", vec![magic("47", 188)], 10),
            format("pcm", "audio/basic", Vec::new(), 40),
        ];
        let manifest = Manifest { name: "all".to_owned(), demuxes, ..Manifest::default() };
        let entry =
            Entry { manifest, path: PathBuf::new(), shipped: true, enabled: true, stamp: Stamp::default() };
        Catalogue { entries: vec![entry], ..Catalogue::default() }
    }

    #[test]
    fn formats_are_found_by_hint_then_magic_then_type() {
        let catalogue = catalogue();
        let mut packets = vec![0_u8; 400];
        (packets[0], packets[188]) = (0x47, 0x47);
        let head =
            |mime: &str, hint: &str| Head { mime: mime.to_owned(), hint: hint.to_owned(), ..Head::default() };
        for (mime, hint, first, format, sure) in [
            ("", "", &packets[..], Some("mpegts"), true),
            ("audio/aac", "", &packets, Some("mpegts"), true),
            ("", "adts", &packets, Some("adts"), true),
            ("", "", &packets[..1], Some("mpegts"), false),
            ("Audio/AAC; x=y", "", b"ID3", Some("adts"), true),
            ("audio/mpeg", "", b"ID3", Some("mp3"), true),
            ("", "", b"ID3", Some("mp3"), true),
            ("audio/aac", "", b"?", Some("adts"), false),
            ("audio/basic", "", b"\xff\xf1", Some("pcm"), true),
            ("", "", b"\xff\xf1", Some("adts"), true),
            ("text/html", "", b"<html>", None, false),
            ("", "", b"", None, false),
        ] {
            let head = head(mime, hint);
            let found = catalogue.demuxer(&head, first).map(|(_, demuxes)| demuxes.format.as_str());
            assert_eq!((found, catalogue.is_sure(&head, first)), (format, sure), "{head:?}");
        }
    }

    #[test]
    fn a_random_file_is_refused_with_a_reason_and_other_names_are_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("libpatchbay_plugin_junk.so"), b"not a library").unwrap();
        fs::write(folder.path().join("libother.so"), b"not a library").unwrap();
        let folders = [Folder { path: folder.path().to_owned(), shipped: true }];
        let rules = Rules { enabled: &|_| true, writable: false };
        let catalogue = Catalogue::scan(&folders, &rules);
        assert!(catalogue.entries.is_empty());
        assert_eq!(catalogue.refused.len(), 1);
        assert!(catalogue.refused[0].reason.contains("ELF"), "{}", catalogue.refused[0].reason);
    }
}
