//! Compares size, alignment, offsets and types of everything that crosses the ABI, and the fields of what is JSON, with what is
//! kept of this version: `abi-1.0.layout`, `abi-1.0.messages`. A version that is declared stays as it is.
#![allow(clippy::unwrap_used)] // all of it is a test

use std::any::type_name;
use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::{Path, PathBuf};

use patchbay_plugin_api::abi::{
    HostTable, PluginTable, RawChunk, RawPatch, RawUnit, ReadOut, Slice, StartInfo, chunk_flags, target,
};
use patchbay_plugin_api::message::{PLUGIN_ID, command, event, role};
use patchbay_plugin_api::version::{self, ABI};
use patchbay_plugin_api::{Code, PatchKind, UnitHeader, flags};

/// Set to write the snapshot instead of comparing with it.
const RENEW: &str = "PATCHBAY_RENEW_LAYOUT";

/// The name of a field's type, from how the field is reached.
fn type_of<S, F>(_: impl Fn(&S) -> &F) -> String {
    type_name::<F>()
        .replace("patchbay_plugin_api::", "")
        .replace("patchbay_ring::", "")
        .replace("abi_stable::prefix_type::", "")
        // Pointers behind which abi_stable does not look.
        .replace("abi::UnitPtr", "*const abi::RawUnit")
        .replace("abi::ChunkPtr", "*const abi::RawChunk")
        .replace("abi::ReadOutPtr", "*mut abi::ReadOut")
        .replace("abi::StartPtr", "*const abi::StartInfo")
}

macro_rules! layout {
    ($out:ident, $($ty:ty { $($field:ident),* $(,)? })*) => {
        $(
            let name = type_name::<$ty>().rsplit("::").next().unwrap();
            writeln!($out, "\n{name}: size {}, align {}", size_of::<$ty>(), align_of::<$ty>()).unwrap();
            $(
                let ty = type_of(|s: &$ty| &s.$field);
                writeln!($out, "  {:>3} {}: {ty}", offset_of!($ty, $field), stringify!($field)).unwrap();
            )*
        )*
    };
}

macro_rules! numbers {
    ($out:ident, $($module:ident { $($name:ident),* $(,)? })*) => {
        $(
            writeln!($out, "\n{}:", stringify!($module)).unwrap();
            $( writeln!($out, "  {:>3} {}", $module::$name as i64, stringify!($name)).unwrap(); )*
        )*
    };
}

fn layout() -> String {
    let mut out = format!("abi {ABI}\n");
    layout! { out,
        Slice { ptr, len }
        RawUnit { size, track, flags, epoch, pts, dts, arrival_ns, duration, reserved, data }
        RawPatch { offset, track, kind, reserved }
        RawChunk { size, flags, data, patches, patch_count, join, starts, start_count }
        ReadOut { size, end, next, units, written, lost, needed }
        StartInfo { size, wake_fd, ctx, threads, log_level, config, abi_major, abi_minor }
        UnitHeader {
            sequence, track, flags, epoch, pts, dts, duration, len, arrival_ns, last_key, reserved,
        }
        HostTable {
            size, emit, push, write, read, locate, track_config, pending, retain, log, state_get, state_put,
        }
        PluginTable { size, start, open, command, close, stop }
    }
    numbers! { out,
        Code { Ok, Busy, Unknown, Invalid, Unsupported, Closed, TooSmall, Panicked, OverLimit }
        PatchKind { TimeU64, TimeU32, SequenceU32, FlvMs }
        flags { KEY, DISCONTINUITY, INCOMPLETE, END, CONFIG }
        chunk_flags { INIT, KEY, HISTORY, FINAL, BLOB, ALONE }
        target { NEWEST_KEY, KEY_BEFORE, OLDEST, HEAD }
        role { SOURCE, DEMUXER, TRANSPORT, OUTPUT, SERVER, ROUTES, SINK, SERVICE }
        command {
            DEMAND, KEYFRAME, WRITABLE, SEEK, DATA, DATA_END, JOIN, BOUND, REFUSED, BODY, BODY_END, ACCEPTED,
            DATA_AT, PING, LOG_LEVEL, DRAIN, TALK, TALK_END, CALL, ANSWER, RAW,
        }
        event {
            TRACKS, TRACK, CLOCK, ENDED, HEAD, SEEK, CONSUMED, OUTPUT, RESPONSE, SERVE, CONSUME, CONSUMER,
            PUBLISH, DETACH, LISTENING, PONG, METRICS, BLOBS, DROP_BLOBS, DRAINING, MESSAGE,
            CONNECTION, TALK, CALL, ANSWER, KEYFRAME,
        }
    }
    writeln!(out, "\nPLUGIN_ID: {PLUGIN_ID:#x}").unwrap();
    out
}

/// The same of what is JSON: fields with their types, words and limits, as they stand in the code.
fn messages() -> String {
    let mut out = format!("abi {ABI}\n");
    let files = [
        ("message", include_str!("../src/message.rs")),
        ("message", include_str!("../src/message/open.rs")),
        ("message", include_str!("../src/message/track.rs")),
        ("message", include_str!("../src/message/talk.rs")),
        ("message", include_str!("../src/message/session.rs")),
        ("message", include_str!("../src/message/player.rs")),
        ("message", include_str!("../src/message/service.rs")),
        ("manifest", include_str!("../src/manifest.rs")),
    ];
    for line in files.iter().flat_map(|(_, file)| file.lines()) {
        // Numbers are in the layout; limits may grow.
        if let Some(constant) = line.strip_prefix("pub const ").filter(|c| c.contains(": &str = ")) {
            writeln!(out, "\nconst {constant}").unwrap();
        }
    }
    for (module, file) in files {
        let (mut inside, mut name, mut has_defaults) = (false, None, false);
        for line in file.lines() {
            let text = line.trim();
            if let Some(head) = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum ")) {
                let is_error = head.starts_with("ManifestError");
                assert!(
                    has_defaults || is_error || line.starts_with("pub enum"),
                    "{head}: a field may be missing"
                );
                if is_error {
                    continue;
                }
                let head = head.trim_end_matches(" {").trim_end_matches(" {}");
                inside = line.ends_with('{');
                writeln!(out, "\n{module} {head}:").unwrap();
            } else if line == "}" {
                (inside, has_defaults) = (false, false);
            } else if line == "#[serde(default)]" {
                has_defaults = true;
            } else if inside && let Some(renamed) = text.strip_prefix("#[serde(rename = \"") {
                name = renamed.strip_suffix("\")]").map(str::to_owned);
            } else if inside
                && let Some((field, ty)) = text.strip_prefix("pub ").and_then(|f| f.split_once(": "))
            {
                let field = name.take().unwrap_or_else(|| field.to_owned());
                writeln!(out, "    {field}: {}", ty.trim_end_matches(',')).unwrap();
            } else if inside && text.ends_with(',') && text.starts_with(|c: char| c.is_ascii_uppercase()) {
                writeln!(out, "    {}", text.trim_end_matches(',')).unwrap();
            }
        }
    }
    out
}

/// What is kept of this version.
fn kept(what: &str) -> PathBuf {
    let (major, minor) = version::numbers();
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/abi-{major}.{minor}.{what}"))
}

#[test]
#[cfg(all(target_pointer_width = "64", not(patchbay_abi_next)))]
fn the_abi_is_what_is_kept_of_its_version() {
    for (what, now) in [("layout", layout()), ("messages", messages())] {
        let path = kept(what);
        if std::env::var_os(RENEW).is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let difference = lines_that_differ(&kept, &now);
        assert!(
            kept == now,
            "the ABI is not what {} says:\n{difference}\nA version that is declared does not change. To add to it: raise the \
             minor version in plugin-api/src/version.rs and plugin-api/Cargo.toml, write what is kept of the new version with \
             `{RENEW}=1 cargo test -p patchbay-plugin-api --test layout`, enter it under DECLARED there, and explain the \
             difference in the section ABI of CHANGELOG.md (docs/adr/0023).",
            path.display()
        );
    }
}

/// Versions that are declared, and FNV-1a of what is kept of them: those files are never written again.
const DECLARED: [(&str, &str, u64); 2] =
    [("1.0", "layout", 0x75d2_c339_949d_32b2), ("1.0", "messages", 0x84bc_5711_2644_7b8c)];

#[test]
fn what_is_declared_has_not_changed_and_is_still_there() {
    let of_version = |version: &str, what: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/abi-{version}.{what}"));
        std::fs::read_to_string(path).unwrap()
    };
    for (version, what, wanted) in DECLARED {
        let kept = of_version(version, what);
        let hash = kept.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        assert_eq!(hash, wanted, "tests/abi-{version}.{what} was changed: {hash:#x}");
        let now = if what == "layout" { layout() } else { messages() };
        let lost = what_is_lost(&kept, &now);
        assert!(lost.is_empty(), "ABI {version} had what is not there any more:\n{lost}");
    }
    let (major, minor) = version::numbers();
    let this = format!("{major}.{minor}");
    let is_declared = DECLARED.iter().filter(|(version, ..)| *version == this).count() == 2;
    assert!(is_declared || ABI.contains('-') || cfg!(patchbay_abi_next), "enter {this} under DECLARED");
}

/// Lines of sections of an earlier version that a later one has not. Sizes may grow.
fn what_is_lost(earlier: &str, later: &str) -> String {
    let head = |section: &str| {
        section.lines().next().unwrap_or_default().split(": size ").next().unwrap().to_owned()
    };
    let mut lost = String::new();
    for section in earlier.split("\n\n").filter(|section| !section.starts_with("abi ")) {
        let name = head(section);
        let there = later.split("\n\n").find(|other| head(other) == name).unwrap_or_default();
        if there.is_empty() {
            writeln!(lost, "{name}").unwrap();
        }
        for line in section.lines().skip(1).filter(|line| !there.lines().any(|other| other == *line)) {
            writeln!(lost, "{name} {}", line.trim()).unwrap();
        }
    }
    lost
}

#[test]
fn what_is_lost_is_noticed() {
    let now = layout();
    assert_eq!(what_is_lost(&now, &now), "");
    assert_eq!(what_is_lost(&now.replace("abi 1.", "abi 0."), &now), "", "the version itself may change");
    let grown = now
        .replace("RawUnit: size 64", "RawUnit: size 72")
        .replace("   48 data:", "   64 next: u64\n   48 data:");
    assert_eq!(what_is_lost(&now, &grown), "", "a struct may grow");
    assert_eq!(what_is_lost(&grown, &now), "RawUnit 64 next: u64\n");
    for (from, to, what) in [
        ("   16 pts: i64", "   16 pts: u64", "RawUnit 16 pts: i64\n"),
        ("   22 RAW\n", "   23 RAW\n", "command: 22 RAW\n"),
        ("PLUGIN_ID: 0x8", "PLUGIN_ID: 0x4", "PLUGIN_ID: 0x8000000000000000\n"),
    ] {
        assert!(now.contains(from), "{from}");
        assert!(what_is_lost(&now, &now.replacen(from, to, 1)).contains(what), "{from}");
    }
    let now = messages();
    assert!(
        now.contains(
            "\nmessage Tracks:\n    receive: Vec<TrackInfo>\n    send: Vec<SendTrack>\n    final: bool\n"
        ),
        "{now}"
    );
    assert!(now.contains("\nmessage Class:\n    Auth\n") && now.contains("const HOST_SERVICE"), "{now}");
    assert!(
        what_is_lost(&now, &now.replace("    final: bool\n", "")).contains("message Tracks: final: bool")
    );
}

fn lines_that_differ(kept: &str, now: &str) -> String {
    let only = |these: &str, those: &str, sign: char| -> String {
        these
            .lines()
            .filter(|line| !those.lines().any(|other| other == *line))
            .map(|line| format!("{sign} {line}\n"))
            .collect()
    };
    only(kept, now, '-') + &only(now, kept, '+')
}

#[test]
fn every_field_is_listed() {
    // The fields of a struct without padding add up to its size; a field that is missing above leaves a hole.
    let text = layout();
    for section in text.split("\n\n").filter(|section| section.contains(": size ")) {
        let head = section.lines().next().unwrap();
        let size: usize = head.split("size ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        let mut expected = 0;
        for line in section.lines().skip(1) {
            let (offset, field) = line.trim().split_once(' ').unwrap();
            assert_eq!(offset.parse::<usize>().unwrap(), expected, "{head}: before {field}");
            let ty = field.split_once(": ").unwrap().1;
            expected += match ty {
                "u16" => 2,
                "u32" | "i32" => 4,
                "abi::Slice" => 16,
                _ => 8,
            };
        }
        if cfg!(not(patchbay_abi_next)) {
            assert_eq!(expected, size, "{head}");
        }
    }
}

#[test]
fn every_number_is_listed() {
    let text = layout();
    let mut module = "";
    for line in [include_str!("../src/message.rs"), include_str!("../src/abi.rs")]
        .iter()
        .flat_map(|file| file.lines())
    {
        if let Some(name) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(" {")) {
            module = name;
        } else if let Some((name, number)) =
            line.trim().strip_prefix("pub const ").and_then(|c| c.split_once(": u32 = "))
        {
            let number = number.trim_end_matches(';');
            let section = text.split("\n\n").find(|section| section.starts_with(&format!("{module}:\n")));
            let listed = section
                .is_some_and(|section| section.lines().any(|line| line.trim() == format!("{number} {name}")));
            assert!(listed, "list {name} of {module} in this file, and in include/patchbay_plugin.h");
        }
    }
}
