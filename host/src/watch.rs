//! Watches the plugin folders and the configuration files: what is dropped in, replaced, removed or edited takes effect
//! without a restart.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher};
use patchbay_plugin_api::manifest::{library_name, program_name};

use crate::app::App;
use crate::catalogue::Stamp;
use crate::config::file::content_hash;
use crate::log::Level;

/// A change is acted on when nothing more came for so long.
const QUIET: Duration = Duration::from_millis(150);

/// And at the latest after so long: files that change all the time hold nothing up.
const LATEST: Duration = Duration::from_millis(600);

/// And when a file of interest is still open for writing, after so long: a part of it would be taken for the whole.
const CLOSED_LATEST: Duration = Duration::from_secs(5);

/// How often files are looked at where the system cannot tell of changes.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// Starts the thread that watches; it ends with the process.
pub fn start(app: &Arc<App>) {
    let own = Arc::clone(app);
    let started = thread::Builder::new().name("watch".to_owned()).spawn(move || run(&own));
    if let Err(error) = started {
        let error = error.to_string();
        app.log.write(Level::Error, "watch", "changes of files need a restart", &[("error", &error)]);
    }
}

fn run(app: &Arc<App>) {
    let (sender, events) = mpsc::channel();
    let Some(mut watcher) = watcher(app, sender) else { return };
    let mut files = Files(app.config_files().into_iter().map(|(path, _)| (path, None)).collect());
    let mut watched = Vec::new();
    watch(app, &mut *watcher, &files, &mut watched);
    // What changed while everything started.
    let mut news = true;
    loop {
        if !news {
            let Ok(first) = events.recv() else { return };
            if !is_change(&first) {
                continue;
            }
            news = true;
            let mut plugins = touches_plugins(app, &first);
            let mut writes = Writes::default();
            writes.note(&first);
            let begin = Instant::now();
            loop {
                let open = writes.any(|path| library_name(path).is_some() || files.0.contains_key(path));
                let latest = if open { CLOSED_LATEST } else { LATEST };
                let left = latest.saturating_sub(begin.elapsed());
                if left.is_zero() {
                    break;
                }
                let Ok(event) = events.recv_timeout(if open { left } else { QUIET.min(left) }) else { break };
                plugins |= is_change(&event) && touches_plugins(app, &event);
                writes.note(&event);
            }
            if plugins {
                app.rescan();
            }
        }
        if std::mem::take(&mut news) {
            files.look(app);
            watch(app, &mut *watcher, &files, &mut watched);
        }
    }
}

fn watcher(app: &App, sender: mpsc::Sender<notify::Result<Event>>) -> Option<Box<dyn Watcher>> {
    let told = |error: notify::Error| {
        let error = error.to_string();
        app.log.write(Level::Warn, "watch", "the system tells of no changes", &[("error", &error)]);
    };
    match RecommendedWatcher::new(sender.clone(), notify::Config::default()) {
        Ok(watcher) => return Some(Box::new(watcher)),
        Err(error) => told(error),
    }
    let config = notify::Config::default().with_poll_interval(POLL_EVERY);
    PollWatcher::new(sender, config).map_err(told).ok().map(|watcher| Box::new(watcher) as Box<dyn Watcher>)
}

/// Watches every folder that is there and is not watched yet. A folder that was removed is watched again when it is back.
fn watch(app: &App, watcher: &mut dyn Watcher, files: &Files, watched: &mut Vec<(PathBuf, Stamp)>) {
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in &app.catalogue().folders {
        folders.push(folder.path.clone());
        folders.extend(folder.path.parent().map(Path::to_owned));
    }
    folders.extend(files.paths().filter_map(|path| path.parent().map(Path::to_owned)));
    folders.sort();
    folders.dedup();
    for folder in folders {
        let Some(stamp) = Stamp::of(&folder) else { continue };
        let known = watched.iter().any(|(path, then)| *path == folder && then.is_same_file(&stamp));
        if known || !folder.is_dir() {
            continue;
        }
        watched.retain(|(path, _)| *path != folder);
        match watcher.watch(&folder, RecursiveMode::NonRecursive) {
            Ok(()) => watched.push((folder, stamp)),
            Err(error) => {
                let (error, path) = (error.to_string(), folder.display().to_string());
                let fields = [("error", error.as_str()), ("folder", &path)];
                app.log.write(Level::Warn, "watch", "changes in this folder need a restart", &fields);
                watched.push((folder, stamp));
            }
        }
    }
}

/// Whether something may have another content now; reading a file is an event too.
fn is_change(event: &notify::Result<Event>) -> bool {
    let Ok(event) = event else { return true };
    !matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

/// Files that were written to and not closed since. Who rewrites a file in its place empties it first, and may take a while.
#[derive(Default)]
struct Writes(HashSet<PathBuf>);

impl Writes {
    fn note(&mut self, event: &notify::Result<Event>) {
        let Ok(event) = event else { return };
        match event.kind {
            EventKind::Modify(ModifyKind::Data(_)) => self.0.extend(event.paths.iter().cloned()),
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_) => self.0.retain(|path| !event.paths.contains(path)),
            _ => {}
        }
    }

    fn any(&self, of_interest: impl Fn(&Path) -> bool) -> bool {
        self.0.iter().any(|path| of_interest(path))
    }
}

fn touches_plugins(app: &App, event: &notify::Result<Event>) -> bool {
    let Ok(event) = event else { return true };
    let catalogue = app.catalogue();
    event.need_rescan()
        || event.paths.iter().any(|path| {
            let program = || {
                path.extension().is_none_or(|e| e == "json")
                    && program_name(&path.with_extension("")).is_some()
            };
            library_name(path).is_some()
                || program()
                || catalogue.folders.iter().any(|folder| folder.path == *path)
        })
}

/// The configuration files as they were last seen.
struct Files(HashMap<PathBuf, Option<Stamp>>);

impl Files {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Takes over what was edited. What this process wrote itself is in force already.
    fn look(&mut self, app: &Arc<App>) {
        let (mut edited, mut own) = (false, false);
        for (path, in_force) in app.config_files() {
            let now = Stamp::of(&path);
            if self.0.insert(path.clone(), now) == Some(now) {
                continue;
            }
            let bytes = fs::read(&path).ok();
            if bytes.as_deref().map(content_hash) == in_force {
                // Perhaps mended as it was before.
                app.config_is_in_force();
                continue;
            }
            let mine = app.file.as_ref().filter(|file| file.path() == path);
            match (mine, bytes) {
                (Some(file), Some(bytes)) if file.is_own_write(&bytes) => own = true,
                _ => edited = true,
            }
        }
        if edited {
            let _ = app.reload();
        } else if own {
            app.adopt_own_write();
        }
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, MetadataKind, RemoveKind, RenameMode};

    use super::*;

    #[test]
    fn a_file_is_open_from_its_first_write_to_its_close() {
        let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let write = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let event = |kind, path: &str| Ok(Event::new(kind).add_path(path.into()));
        let open = |writes: &Writes| writes.any(|path| path == Path::new("/plugins.yaml"));
        for end in
            [close, EventKind::Modify(ModifyKind::Name(RenameMode::To)), EventKind::Remove(RemoveKind::File)]
        {
            let mut writes = Writes::default();
            writes.note(&event(EventKind::Create(CreateKind::File), "/plugins.yaml"));
            writes.note(&event(EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), "/plugins.yaml"));
            writes.note(&event(write, "/another"));
            assert!(!open(&writes));
            writes.note(&event(write, "/plugins.yaml"));
            writes.note(&event(close, "/another"));
            assert!(open(&writes));
            writes.note(&event(end, "/plugins.yaml"));
            assert!(!open(&writes));
        }
    }
}
