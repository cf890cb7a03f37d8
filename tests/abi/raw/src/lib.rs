//! A plugin without the sdk: `raw:` announces one track and sends one picture. The environment variable
//! `PATCHBAY_RAW_FAULT` names an entry point and what it does instead: `open:panic`, `command:block`, ...

use std::sync::OnceLock;
use std::thread;

use patchbay_plugin_api::abi::RawUnit;
use patchbay_plugin_api::entry::Entry;
use patchbay_plugin_api::message::{Class, Ended, LogEvent, TrackInfo, Tracks, command, event, role};
use patchbay_plugin_api::{Code, Host, flags};

/// The variable that steers it.
pub const FAULT: &str = "PATCHBAY_RAW_FAULT";

static HOST: OnceLock<Host> = OnceLock::new();

/// The plugin.
pub enum Raw {}

/// Does what [`FAULT`] says of the entry point `call`.
fn fault(call: &str) {
    let fault = std::env::var(FAULT).unwrap_or_default();
    match fault.strip_prefix(call).and_then(|rest| rest.strip_prefix(':')) {
        Some("panic") => panic!("raw was told to panic in {call}"),
        Some("abort") => std::process::abort(),
        Some("block") => loop {
            thread::park();
        },
        _ => {}
    }
}

/// Runs while the library is being loaded.
extern "C" fn constructor() {
    fault("load");
}

#[allow(unsafe_code)]
// a section of the linker
// SAFETY: the dynamic linker calls what stands in this section, before anything else of the library.
#[unsafe(link_section = ".init_array")]
#[used]
static CONSTRUCTOR: extern "C" fn() = constructor;

fn picture(host: &Host, session: u64) -> Code {
    let unit = RawUnit { flags: u32::from(flags::KEY), ..RawUnit::default() };
    host.push(session, unit, b"\xff\xd8\xff\xd9").err().unwrap_or(Code::Ok)
}

impl Entry for Raw {
    fn start(host: Host, _: String) -> Code {
        let _ = HOST.set(host);
        fault("start");
        Code::Ok
    }

    fn open(session: u64, wanted: u32, _: &[u8]) -> Code {
        fault("open");
        let Some(host) = HOST.get() else { return Code::Closed };
        if wanted != role::SOURCE {
            return Code::Unsupported;
        }
        let track = TrackInfo {
            kind: "video".to_owned(),
            codec: "mjpeg".to_owned(),
            clock_rate: 90_000,
            ..TrackInfo::default()
        };
        let tracks = Tracks { receive: vec![track], is_final: true, ..Tracks::default() };
        host.emit(session, event::TRACKS, &tracks).err().unwrap_or(Code::Ok)
    }

    fn command(session: u64, kind: u32, _: &[u8]) -> Code {
        if session == 0 {
            return Code::Ok;
        }
        fault("command");
        match (kind, HOST.get()) {
            (command::DEMAND, Some(host)) => picture(host, session),
            _ => Code::Unsupported,
        }
    }

    fn close(session: u64) -> Code {
        fault("close");
        let Some(host) = HOST.get() else { return Code::Closed };
        let ended = Ended { class: Class::Eof, ..Ended::default() };
        host.emit(session, event::ENDED, &ended).err().unwrap_or(Code::Ok)
    }

    fn stop() -> Code {
        fault("stop");
        Code::Ok
    }

    fn panicked(session: u64, call: &'static str, message: &str) {
        let message = format!("panic in {call} of session {session}: {message}");
        if let Some(host) = HOST.get() {
            host.log(1, "raw", &LogEvent { message, ..LogEvent::default() });
        }
    }
}

patchbay_plugin_api::export!(Raw);
patchbay_plugin_api::manifest_section!(concat!(
    "{\"abi\":\"",
    patchbay_plugin_api::abi_version!(),
    "\",\"name\":\"",
    env!("CARGO_PKG_NAME"),
    "\",\"version\":\"",
    env!("CARGO_PKG_VERSION"),
    "\",\"manifest\":",
    include_str!("../manifest.json"),
    "}"
));
