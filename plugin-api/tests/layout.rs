//! Compares size, alignment, offsets and types of everything that crosses the ABI with `layout.snapshot`.
#![allow(clippy::unwrap_used)] // all of it is a test

use std::any::type_name;
use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::Path;

use patchbay_plugin_api::abi::{
    HostTable, PluginTable, RawChunk, RawPatch, RawUnit, ReadOut, Slice, StartInfo, chunk_flags, target,
};
use patchbay_plugin_api::message::{PLUGIN_ID, command, event, role};
use patchbay_plugin_api::version::ABI;
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

#[test]
#[cfg(all(target_pointer_width = "64", not(patchbay_abi_next)))]
fn the_layout_is_the_snapshots() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layout.snapshot");
    let now = layout();
    if std::env::var_os(RENEW).is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    if kept == now {
        return;
    }
    let difference: String = lines_that_differ(&kept, &now);
    panic!(
        "the ABI is not what tests/layout.snapshot says:\n{difference}\nWhen that is meant: raise N of the draft in \
         plugin-api/src/version.rs, write the snapshot anew with `{RENEW}=1 cargo test -p patchbay-plugin-api --test \
         layout`, and explain the difference in the section ABI of CHANGELOG.md."
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
