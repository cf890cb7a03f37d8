//! An older and a newer side of the ABI meet: the fixture `raw` and its one-page host `patchbay-raw-load`, each built
//! as they are and with `--cfg patchbay_abi_next`, in which both tables, and every struct that says its size, have one more tail
//! field. And plugins of versions that were declared, kept as they were in the folders of their numbers.
#![allow(clippy::unwrap_used)] // all of it is a test

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// What one build has.
struct Build {
    host: PathBuf,
    library: PathBuf,
}

/// What is built here, once for all tests and one behind the other: all of it shares the folder of one cargo, so that what others wrote is
/// compiled once.
struct Built {
    now: Build,
    next: Build,
    /// The plugin of ABI 1.0 in Rust, with the tables of that version.
    old: Build,
}

static BUILT: LazyLock<Built> = LazyLock::new(|| {
    let raw = &["-p", "patchbay-plugin-raw"];
    Built {
        now: build("now", "raw", None, raw),
        // Only the workspace's own crates are compiled with it.
        next: build("next", "raw", Some(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/next"))), raw),
        old: build("old", "old", None, &["--manifest-path", "1.0/rust/Cargo.toml"]),
    }
});

/// Builds `what` and keeps it in a folder called `name`, as the next build writes files of the same names.
fn build(name: &str, library: &str, wrapper: Option<&Path>, what: &[&str]) -> Build {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (folder, kept) = (tmp.join("abi"), tmp.join("abi").join(name));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--target-dir"]).arg(&folder).args(what);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    // Two workspaces share what they build when they ask for the same.
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0");
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", "");
    match wrapper {
        Some(wrapper) => cargo.env("RUSTC_WORKSPACE_WRAPPER", wrapper),
        None => cargo.env_remove("RUSTC_WORKSPACE_WRAPPER"),
    };
    let done = cargo.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::create_dir_all(&kept).unwrap();
    let keep = |file: &str| {
        let (from, to) = (folder.join("debug").join(file), kept.join(file));
        if from.exists() {
            std::fs::copy(from, &to).unwrap();
        }
        to
    };
    Build { host: keep("patchbay-raw-load"), library: keep(&format!("libpatchbay_plugin_{library}.so")) }
}

/// The plugin of ABI 1.0 in C, with the header of that version.
fn old_in_c() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("old-in-c");
    std::fs::create_dir_all(&folder).unwrap();
    let library = folder.join("libpatchbay_plugin_old.so");
    let done = Command::new("cc")
        .args([
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            "-I",
            "1.0",
        ])
        .args(["1.0/old.c", "-o"])
        .arg(&library)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    library
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
    let (old, new) = (&BUILT.now, &BUILT.next);
    // Each entry point returns 0, and the calls back arrive with the numbers that were given.
    let works = (true, "loaded 0,0,0,0,0 tracks(5,9) push(9,0,4) ended(5,9)".to_owned());

    assert_eq!(load(old, old, "all"), works, "same tables");
    assert_eq!(load(new, new, "all"), works, "same tables, the newer ones");
    assert_eq!(load(old, old, "swapped"), works, "same tables are a prefix of each other");

    assert_eq!(load(old, new, "all"), works, "the library has a tail field more: it is ignored");
    assert_eq!(load(new, old, "swapped"), works, "the host has a tail field more: the roles are swapped");

    // The door in C asks nobody: tables and structs say their sizes, and what a side lacks is zeros or not called.
    for (host, library) in [(old, old), (new, new), (old, new), (new, old)] {
        assert_eq!(load(host, library, "c"), works, "by the door in C");
    }

    // From 1.0 on the versions choose: an older library is loaded without being rebuilt, a newer one only with its leave.
    assert_eq!(load(old, old, "versions"), works);
    assert_eq!(load(new, old, "versions"), works, "built for 1.0, host of 1.1");
    let (loaded, line) = load(old, new, "versions");
    assert!(!loaded && line.contains("built for ABI 1.1.0") && line.ends_with("update Patchbay"), "{line}");

    for (host, library, direction) in [(&new, old, "all"), (&old, new, "swapped")] {
        let (loaded, line) = load(host, library, direction);
        assert!(!loaded, "{line}");
        assert!(line.starts_with("refused its tables differ from this host's ("), "{line}");
        assert!(line.ends_with("): rebuild it with a current patchbay-sdk"), "{line}");
    }
}

#[test]
fn plugins_of_1_0_are_loaded_by_this_host_and_the_next() {
    let Built { now, next, old: rust } = &*BUILT;
    let c = Build { host: PathBuf::new(), library: old_in_c() };
    for host in [now, next] {
        let works = (true, "loaded 0,0,0,0,0 tracks(5,9) push(9,0,4) ended(5,9)".to_owned());
        assert_eq!(load(host, rust, "versions"), works, "{}", host.host.display());
        let units = " push(9,0,141)".repeat(25);
        let works = (true, format!("loaded 0,0,0,0,0 log(4,old) tracks(5,9){units} ended(5,9)"));
        assert_eq!(load(host, &c, "c"), works, "{}", host.host.display());
    }
}

#[test]
fn a_library_without_tables_is_refused() {
    let none = Build { host: PathBuf::new(), library: PathBuf::from("libc.so.6") };
    let (loaded, line) = load(&BUILT.now, &none, "all");
    assert!(!loaded && line.contains("undefined symbol"), "{line}");
}
