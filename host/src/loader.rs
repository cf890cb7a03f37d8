//! Loads a plugin's library. The plugin's own file is never opened for running: a private copy under a unique name is,
//! since dlopen of a replaced path returns the old code and a file rewritten in place kills the process.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use abi_stable::library::AbiHeaderRef;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use patchbay_plugin_api::abi::ROOT_SYMBOL;
use patchbay_plugin_api::plugin::TableError;
use patchbay_plugin_api::version::{self, Direction, Refusal};
use patchbay_plugin_api::{Manifest, Plugin, c};

/// glibc's RTLD_NODELETE: the library stays mapped whatever happens.
const RTLD_NODELETE: i32 = 0x1000;

/// Heaps that the threads of all libraries share. With one per thread, as is glibc's way, what 500 leaving viewers give
/// back stays in pieces: 67 to 122 MB were resident after 30 rounds where two heaps keep 43 MB.
const HEAPS: i32 = 2;

/// Prepares the process for its plugins; before any thread is started.
pub fn prepare_process() {
    // SAFETY: sets a number of the allocator; no other thread runs yet.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
}

/// Gives memory that nothing uses back to the system: what many leaving viewers leave lies in pieces between what stays,
/// and the allocator keeps it otherwise.
pub fn give_back_memory() {
    // SAFETY: may be called at any time, by any thread; it takes the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
}

/// Why a library is not loaded; one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Its copy could not be made.
    #[error("cannot copy it to {to}: {source}")]
    Copy {
        /// Where to.
        to: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The dynamic linker refused it.
    #[error("the dynamic linker refuses it: {0}")]
    Link(String),
    /// It was built for another ABI.
    #[error(transparent)]
    Version(#[from] Refusal),
    /// Its tables differ.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Loads the library of `manifest` through a copy in `folder`, checks its tables and gives its entry points. Runs the
/// library's constructors, which may block.
pub fn load(path: &Path, manifest: &Manifest, folder: &Path) -> Result<Plugin, LoadError> {
    Copy::new(path, manifest, folder)?.load()
}

/// A private copy of a library.
#[derive(Debug)]
pub struct Copy {
    file: File,
    /// Unique in this process: of a name that it knows the linker gives the library that it has, whatever is there now.
    name: Option<PathBuf>,
    direction: Direction,
}

impl Copy {
    /// Copies the library of `manifest`, through a name in `folder`. None of its code runs.
    pub fn new(path: &Path, manifest: &Manifest, folder: &Path) -> Result<Self, LoadError> {
        static COPIES: AtomicU64 = AtomicU64::new(0);
        let direction = version::check(&manifest.abi, manifest.min_host.as_deref(), version::ABI)?;
        let number = COPIES.fetch_add(1, Ordering::Relaxed);
        let copy = folder.join(format!("{}-{}-{number}.so", manifest.name, std::process::id()));
        match fs::copy(path, &copy).and_then(|_| File::open(&copy)) {
            Ok(file) => Ok(Self { file, name: Some(copy), direction }),
            Err(source) => {
                let _ = fs::remove_file(&copy);
                Err(LoadError::Copy { to: copy, source })
            }
        }
    }

    /// Gives up its name, for a process that loads nothing else and may not be able to later.
    #[must_use]
    pub fn without_name(mut self) -> Self {
        if let Some(name) = self.name.take() {
            let _ = fs::remove_file(name);
        }
        self
    }

    /// What is to be read when it is loaded.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Loads it, checks its tables and gives its entry points. Its code runs.
    pub fn load(self) -> Result<Plugin, LoadError> {
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let loaded = open(self.name.as_ref().unwrap_or(&by_descriptor), self.direction);
        // The mapping keeps the code; the name is of no more use.
        drop(self.without_name());
        loaded
    }
}

fn open(path: &Path, direction: Direction) -> Result<Plugin, LoadError> {
    // SAFETY: opening a library runs its constructors. That is what loading a plugin in this process means: it is done
    // for plugins the user trusts with it (shipped ones, or `isolation: in-process`), or in a process for nothing else.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) };
    let library = library.map_err(|error| LoadError::Link(with_causes(&error)))?;
    let plugin = tables(&library, direction);
    std::mem::forget(library);
    plugin
}

/// The library's entry points, by either door.
fn tables(library: &Library, direction: Direction) -> Result<Plugin, LoadError> {
    // SAFETY: a library with this symbol was built by abi_stable's convention: a static that starts with an AbiHeader,
    // which `upgrade` checks before anything behind it is used. NODELETE keeps it for the life of the process.
    if let Ok(header) = unsafe { library.get::<AbiHeaderRef>(ROOT_SYMBOL.as_bytes()).map(|symbol| *symbol) } {
        let header =
            header.upgrade().map_err(|error| TableError::Constructor(one_line(&error.to_string())))?;
        return Ok(Plugin::from_header(header, direction)?);
    }
    // SAFETY: a library with this symbol was built with patchbay_plugin.h of the ABI version that its manifest names, which
    // was compared: the symbol is that function.
    let entry = unsafe { library.get::<c::EntryPoint>(c::SYMBOL.as_bytes()).map(|symbol| *symbol) };
    let entry = entry.map_err(|error| LoadError::Link(with_causes(&error)))?;
    // SAFETY: as the header demands, it returns null or a table that stays; its size and its functions are checked.
    Ok(unsafe { Plugin::from_c(entry()) }?)
}

/// libloading's own text leaves out the linker's, which stands behind it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    one_line(&causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}
