//! A host in one page: `patchbay-raw-load LIBRARY all|swapped|versions|c` loads a library, starts it and opens a source, and
//! prints what came of it in one line. `versions`: the layouts are compared as the versions of both sides say; `c`: the door without
//! abi_stable.
#![allow(unsafe_code)]
#![allow(clippy::print_stdout)] // its only output

use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::sync::Mutex;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use patchbay_plugin_api::abi::{ROOT_SYMBOL, RawUnit, ReadOut, StartInfo};
use patchbay_plugin_api::abi_stable::library::AbiHeaderRef;
use patchbay_plugin_api::c;
use patchbay_plugin_api::entry::{ChunkRef, HostEntry, host_table};
use patchbay_plugin_api::message::{command, event, role};
use patchbay_plugin_api::version::{self, Direction};
use patchbay_plugin_api::{Code, Manifest, Plugin};

/// What the library did with this host.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(what: String) {
    if let Ok(mut seen) = SEEN.lock() {
        seen.push(what);
    }
}

struct Notes;

impl HostEntry for Notes {
    fn emit(ctx: u64, session: u64, kind: u32, _: &[u8]) -> Code {
        let name = match kind {
            event::TRACKS => "tracks",
            event::ENDED => "ended",
            _ => "event",
        };
        note(format!("{name}({ctx},{session})"));
        Code::Ok
    }

    fn push(_: u64, session: u64, unit: &RawUnit, data: &[u8]) -> Code {
        note(format!("push({session},{},{})", unit.track, data.len()));
        Code::Ok
    }

    fn write(_: u64, _: u64, _: ChunkRef<'_>) -> Code {
        Code::Unsupported
    }

    fn read(_: u64, _: u64, _: u64, _: u64, _: &mut [MaybeUninit<u8>], _: &mut ReadOut) -> Code {
        Code::Unsupported
    }

    fn locate(_: u64, _: u64, _: u32, _: u64) -> Result<u64, Code> {
        Err(Code::Unsupported)
    }

    fn track_config(_: u64, _: u64, _: u32, _: u32) -> Result<Vec<u8>, Code> {
        Err(Code::Unsupported)
    }

    fn pending(_: u64, _: &mut [u64]) -> usize {
        0
    }

    fn retain(_: u64, _: u64, _: u64) -> Code {
        Code::Unsupported
    }

    fn log(_: u64, level: u32, target: &str, _: &[u8]) {
        note(format!("log({level},{target})"));
    }

    fn state_get(_: u64, _: &str) -> Result<Vec<u8>, Code> {
        Err(Code::Unsupported)
    }

    fn state_put(_: u64, _: &str, _: &[u8]) -> Code {
        Code::Unsupported
    }

    fn panicked(_: u64, call: &'static str, message: &str) {
        note(format!("panic({call},{message})"));
    }
}

/// An error with what is behind it: libloading's own text leaves out the linker's.
fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn load(path: &OsString, direction: Option<Direction>) -> Result<String, String> {
    // SAFETY: the library is one of this package's fixtures, without constructors of its own.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(|e| whole(&e))?;
    let plugin = match direction {
        Some(direction) => by_abi_stable(&library, direction),
        None => by_c(&library),
    };
    std::mem::forget(library);
    let plugin = plugin?;
    let (abi_major, abi_minor) = version::numbers();
    let info = StartInfo {
        size: size_of::<StartInfo>() as u32,
        wake_fd: -1,
        ctx: 5,
        threads: 1,
        log_level: 3,
        abi_major,
        abi_minor,
        ..StartInfo::default()
    };
    let codes = [
        plugin.start(host_table::<Notes>(), &info),
        plugin.open(9, role::SOURCE, b"{\"url\":\"raw:\"}"),
        plugin.command(9, command::DEMAND, b"{\"tracks\":[0]}"),
        plugin.close(9),
        plugin.stop(),
    ];
    let codes: Vec<String> = codes.iter().map(|code| (*code as i32).to_string()).collect();
    let seen = SEEN.lock().map(|seen| seen.join(" ")).unwrap_or_default();
    Ok(format!("{} {seen}", codes.join(",")))
}

fn by_abi_stable(library: &Library, direction: Direction) -> Result<Plugin, String> {
    // SAFETY: under this name the fixtures export abi_stable's header; `upgrade` checks it before use.
    let header = unsafe { library.get::<AbiHeaderRef>(ROOT_SYMBOL.as_bytes()).map(|symbol| *symbol) }
        .map_err(|error| whole(&error))?;
    let header = header.upgrade().map_err(|error| error.to_string())?;
    Plugin::from_header(header, direction).map_err(|error| error.to_string())
}

fn by_c(library: &Library) -> Result<Plugin, String> {
    // SAFETY: under this name the fixtures export that function.
    let entry = unsafe { library.get::<c::EntryPoint>(c::SYMBOL.as_bytes()).map(|symbol| *symbol) }
        .map_err(|error| whole(&error))?;
    // SAFETY: it gives a table that stays.
    unsafe { Plugin::from_c(entry()) }.map_err(|error| error.to_string())
}

/// What a host does with the library's version once the drafts of both sides have been declared.
fn by_versions(path: &OsString) -> Result<Direction, String> {
    let declared = |draft: &str| draft.split('-').next().unwrap_or_default().to_owned();
    let manifest = Manifest::read(path.as_ref()).map_err(|error| error.to_string())?;
    let (plugin, host) = (declared(&manifest.abi), declared(version::ABI));
    version::check(&plugin, manifest.min_host.as_deref(), &host).map_err(|error| error.to_string())
}

fn main() {
    let mut args = std::env::args_os().skip(1);
    let path = args.next().unwrap_or_default();
    let direction = match args.next() {
        Some(word) if word == "swapped" => Ok(Some(Direction::Swapped)),
        Some(word) if word == "versions" => by_versions(&path).map(Some),
        Some(word) if word == "c" => Ok(None),
        _ => Ok(Some(Direction::PluginHasAll)),
    };
    match direction.and_then(|direction| load(&path, direction)) {
        Ok(line) => println!("loaded {line}"),
        Err(reason) => {
            println!("refused {reason}");
            std::process::exit(1);
        }
    }
}
