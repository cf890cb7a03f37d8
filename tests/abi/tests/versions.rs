//! An older and a newer side of the ABI meet: the fixture `raw` and its one-page host `patchbay-raw-load`, each built
//! as they are and with `--cfg patchbay_abi_next`, in which both tables, and every struct that says its size, have one more tail
//! field.
#![allow(clippy::unwrap_used)] // all of it is a test

use std::path::{Path, PathBuf};
use std::process::Command;

/// The cfg that adds the tail fields.
const NEXT: &str = "--cfg patchbay_abi_next";

/// What one build has.
struct Build {
    host: PathBuf,
    library: PathBuf,
}

/// Builds the fixture with `flags` in a folder of its own.
fn build(name: &str, flags: &str) -> Build {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let done = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "-p", "patchbay-plugin-raw", "--target-dir"])
        .arg(&folder)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", flags)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let folder = folder.join("debug");
    Build { host: folder.join("patchbay-raw-load"), library: folder.join("libpatchbay_plugin_raw.so") }
}

/// What `host` says of `library`: whether it was loaded, and its one line.
fn load(host: &Build, library: &Build, direction: &str) -> (bool, String) {
    let done = Command::new(&host.host)
        .arg(&library.library)
        .arg(direction)
        .env_remove("PATCHBAY_RAW_FAULT")
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(text.lines().count(), 1, "more than one line: {text}");
    (done.status.success(), text.trim_end().to_owned())
}

#[test]
fn older_and_newer_sides_meet() {
    let (old, new) = (build("abi-now", ""), build("abi-next", NEXT));
    // Each entry point returns 0, and the calls back arrive with the numbers that were given.
    let works = (true, "loaded 0,0,0,0,0 tracks(5,9) push(9,0,4) ended(5,9)".to_owned());

    assert_eq!(load(&old, &old, "all"), works, "same tables");
    assert_eq!(load(&new, &new, "all"), works, "same tables, the newer ones");
    assert_eq!(load(&old, &old, "swapped"), works, "same tables are a prefix of each other");

    assert_eq!(load(&old, &new, "all"), works, "the library has a tail field more: it is ignored");
    assert_eq!(load(&new, &old, "swapped"), works, "the host has a tail field more: the roles are swapped");

    // The door in C asks nobody: tables and structs say their sizes, and what a side lacks is zeros or not called.
    for (host, library) in [(&old, &old), (&new, &new), (&old, &new), (&new, &old)] {
        assert_eq!(load(host, library, "c"), works, "by the door in C");
    }

    // From 1.0 on the versions choose: an older library is loaded without being rebuilt, a newer one only with its leave.
    assert_eq!(load(&old, &old, "versions"), works);
    assert_eq!(load(&new, &old, "versions"), works, "built for 1.0, host of 1.1");
    let (loaded, line) = load(&old, &new, "versions");
    assert!(!loaded && line.contains("built for ABI 1.1.0") && line.ends_with("update Patchbay"), "{line}");

    for (host, library, direction) in [(&new, &old, "all"), (&old, &new, "swapped")] {
        let (loaded, line) = load(host, library, direction);
        assert!(!loaded, "{line}");
        assert!(line.starts_with("refused its tables differ from this host's ("), "{line}");
        assert!(line.ends_with("): rebuild it with a current patchbay-sdk"), "{line}");
    }
}

#[test]
fn a_library_without_tables_is_refused() {
    let old = build("abi-now", "");
    let none = Build { host: PathBuf::new(), library: PathBuf::from("libc.so.6") };
    let (loaded, line) = load(&old, &none, "all");
    assert!(!loaded && line.contains("undefined symbol"), "{line}");
}
