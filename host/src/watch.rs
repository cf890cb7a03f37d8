//! Watches the plugin folders and the configuration files: what is dropped in, replaced, removed or edited takes effect
//! without a restart.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
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
            let end = Instant::now() + LATEST;
            let left = || end.saturating_duration_since(Instant::now());
            while !left().is_zero()
                && let Ok(event) = events.recv_timeout(QUIET.min(left()))
            {
                plugins |= is_change(&event) && touches_plugins(app, &event);
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
