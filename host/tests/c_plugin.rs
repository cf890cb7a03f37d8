//! A plugin in C, built with `cc` and the header, keeps the rules that every plugin keeps.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use std::path::{Path, PathBuf};
use std::process::Command;

fn build(source: &Path, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c");
    std::fs::create_dir_all(&folder).unwrap();
    let library = folder.join(format!("libpatchbay_plugin_{name}.so"));
    let done = Command::new("cc")
        .args([
            "-std=c99",
            "-pedantic",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-O2",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            "-I",
        ])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-api/include"))
        .arg(source)
        .arg("-o")
        .arg(&library)
        .arg("-lpthread")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    library
}

/// Exit code and words of `patchbay plugins ARGS`.
fn plugins(args: &[&str]) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_patchbay")).arg("plugins").args(args).output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn the_examples_keep_the_rules() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (source, url, rule) in [
        ("templates/c/cbars", "cbars:", "ok      source: units are valid"),
        ("../tests/kit/c/cannexb", "", "ok      output cannexb: admits a viewer (Keyframe)"),
    ] {
        let name = source.rsplit('/').next().unwrap();
        let library = build(&folder.join(format!("{source}.c")), name);
        let library = library.to_str().unwrap();
        let (code, text) = plugins(&["inspect", library]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains(&format!("{name:?}")), "{text}");
        let (code, text) = plugins(&["check", library, "-url", url]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains(rule), "{text}");
    }
}

#[test]
fn a_table_that_is_none_is_refused_in_one_line() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let manifest =
        "PATCHBAY_MANIFEST(\"{\\\"name\\\":\\\"NAME\\\",\\\"abi\\\":\\\"\" PATCHBAY_ABI \"\\\"}\");\n";
    let cases = [
        ("cnull", "const patchbay_plugin *patchbay_plugin_v1(void) { return 0; }", "returned no table"),
        (
            "chalf",
            "const patchbay_plugin *patchbay_plugin_v1(void) { static patchbay_plugin t = {sizeof t, 0, 0, 0, 0, 0}; return &t; }",
            "lacks start",
        ),
        ("cnone", "extern int nothing;", "undefined symbol"),
    ];
    for (name, body, reason) in cases {
        let source = folder.join(format!("{name}.c"));
        let text = format!("#include \"patchbay_plugin.h\"\n{}{body}\n", manifest.replace("NAME", name));
        std::fs::write(&source, text).unwrap();
        let (code, text) = plugins(&["check", build(&source, name).to_str().unwrap()]);
        assert_eq!(code, Some(1), "{name}: {text}");
        assert!(text.contains(reason) && text.lines().count() == 1, "{name}: {text}");
    }
}
