//! Compiles `include/patchbay_plugin.h` and compares it with the layout of the Rust side: sizes, offsets, types of fields and
//! functions, constants. What is compared is written in `abi-1.0.layout`, which a test beside this one holds to the code.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test
#![cfg(not(patchbay_abi_next))]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use patchbay_plugin_api::Manifest;
use patchbay_plugin_api::version::ABI;

/// Rust's structs and constants by their names in C; nothing: not part of the header.
const NAMES: [(&str, &str); 16] = [
    ("Slice", "patchbay_slice"),
    ("RawUnit", "patchbay_unit"),
    ("RawPatch", "patchbay_patch"),
    ("RawChunk", "patchbay_chunk"),
    ("ReadOut", "patchbay_read_out"),
    ("StartInfo", "patchbay_start_info"),
    ("UnitHeader", "patchbay_unit_header"),
    ("HostTable", "patchbay_host"),
    ("PluginTable", "patchbay_plugin"),
    ("Code", "PATCHBAY_"),
    ("PatchKind", "PATCHBAY_PATCH_"),
    ("flags", "PATCHBAY_FLAG_"),
    ("chunk_flags", "PATCHBAY_CHUNK_"),
    ("target", "PATCHBAY_TARGET_"),
    ("role", "PATCHBAY_ROLE_"),
    ("command", "PATCHBAY_COMMAND_"),
];

fn in_c(name: &str) -> &'static str {
    let name = if name == "event" { return "PATCHBAY_EVENT_" } else { name };
    NAMES.iter().find(|(rust, _)| *rust == name).unwrap_or_else(|| panic!("{name} has no name in C")).1
}

/// `TooSmall` to `TOO_SMALL`.
fn upper(name: &str) -> String {
    let mut out = String::new();
    for (at, c) in name.chars().enumerate() {
        let first_of_word = c.is_ascii_uppercase() && at > 0 && name.chars().any(|c| c.is_ascii_lowercase());
        let digit = c.is_ascii_digit();
        if first_of_word && !digit {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

/// A type of the snapshot in C.
fn c_type(rust: &str) -> String {
    if let Some(inner) = rust.strip_prefix("*const ") {
        return format!("const {} *", c_type(inner));
    }
    if let Some(inner) = rust.strip_prefix("*mut ") {
        return format!("{} *", c_type(inner));
    }
    match rust {
        "abi::HostTableRef" => "const patchbay_host *".to_owned(),
        "u8" | "u16" | "u32" | "u64" => format!("uint{}_t", &rust[1..]),
        "i32" | "i64" => format!("int{}_t", &rust[1..]),
        other => in_c(other.strip_prefix("abi::").unwrap()).to_owned(),
    }
}

/// A pointer `name` to a field of type `rust`.
fn pointer(rust: &str, name: &str) -> String {
    let Some(function) = rust.strip_prefix("extern \"C\" fn(") else {
        return format!("{} *{name}", c_type(rust));
    };
    let (arguments, result) = function.split_once(") -> ").unwrap();
    let arguments: Vec<String> = arguments.split(", ").filter(|a| !a.is_empty()).map(c_type).collect();
    let arguments = if arguments.is_empty() { "void".to_owned() } else { arguments.join(", ") };
    format!("{} (**{name})({arguments})", c_type(result))
}

/// A program in C whose compilation is the comparison.
fn program() -> String {
    let snapshot =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/abi-1.0.layout")).unwrap();
    let mut out = String::from(
        "#include <stddef.h>\n#include \"patchbay_plugin.h\"\n#define SAME(name, claim) typedef char name[(claim) ? 1 : -1]\n",
    );
    let mut checks = String::new();
    let (mut section, mut count) = (String::new(), 0);
    for line in snapshot.lines() {
        count += 1;
        if let Some(version) = line.strip_prefix("abi ") {
            writeln!(checks, "    SAME(n{count}, sizeof(PATCHBAY_ABI) == {});", version.len() + 1).unwrap();
            writeln!(checks, "    if (strcmp(PATCHBAY_ABI, \"{version}\") != 0) return 1;").unwrap();
        } else if let Some(id) = line.strip_prefix("PLUGIN_ID: ") {
            writeln!(checks, "    SAME(n{count}, PATCHBAY_PLUGIN_ID == UINT64_C({id}));").unwrap();
        } else if let Some((name, rest)) = line.split_once(": size ") {
            section = in_c(name).to_owned();
            let size = rest.split(',').next().unwrap();
            writeln!(checks, "    SAME(n{count}, sizeof({section}) == {size});").unwrap();
        } else if let Some(name) = line.strip_suffix(':') {
            section = in_c(name).to_owned();
        } else if let Some((offset, field)) = line.trim().split_once(' ') {
            match field.split_once(": ") {
                Some((field, ty)) => {
                    writeln!(checks, "    SAME(n{count}, offsetof({section}, {field}) == {offset});")
                        .unwrap();
                    writeln!(
                        checks,
                        "    {{ static {section} t; {} = &t.{field}; (void)p; }}",
                        pointer(ty, "p")
                    )
                    .unwrap();
                }
                None => {
                    writeln!(checks, "    SAME(n{count}, ({section}{}) == ({offset}));", upper(field))
                        .unwrap();
                }
            }
        }
    }
    write!(out, "#include <string.h>\nint main(void) {{\n{checks}    return 0;\n}}\n").unwrap();
    out
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("header").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Compiles `text` with the header; the compiler's words when it refuses.
fn compile(folder: &Path, name: &str, text: &str, options: &[&str]) -> Result<(), String> {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    let done = Command::new("cc")
        .args(options)
        .args(["-pedantic", "-Wall", "-Wextra", "-Werror", "-Wno-unused-local-typedefs", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"))
        .arg(&file)
        .arg("-o")
        .arg(folder.join("program"))
        .output()
        .unwrap();
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

#[test]
fn the_header_is_the_rust_layout() {
    let folder = folder("layout");
    let program = program();
    if let Err(words) = compile(&folder, "layout.c", &program, &["-std=c99"]) {
        panic!("include/patchbay_plugin.h is not what tests/abi-1.0.layout says: change the header\n{words}");
    }
    assert!(
        Command::new(folder.join("program")).status().unwrap().success(),
        "the header's PATCHBAY_ABI is another version"
    );
    assert!(program.matches("SAME(").count() > 120, "{program}");

    // The comparison notices a type, an offset and a number that are not the same.
    for (from, to) in [
        ("const patchbay_unit * ", "const patchbay_patch * "),
        (" == 24);", " == 25);"),
        ("== (-6))", "== (-5))"),
    ] {
        let from = if program.contains(from) { from } else { from.trim_end() };
        assert!(program.contains(from), "{from}");
        let wrong = program.replacen(from, to, 1);
        assert!(compile(&folder, "wrong.c", &wrong, &["-std=c99"]).is_err(), "{from} as {to} is not noticed");
    }
}

#[test]
fn the_header_is_cpp_too() {
    let folder = folder("cpp");
    let text = "#include \"patchbay_plugin.h\"\nPATCHBAY_MANIFEST(\"{}\");\n";
    compile(&folder, "header.cpp", text, &["-x", "c++", "-std=c++11", "-c"]).unwrap();
}

#[test]
fn the_example_program_and_the_page_about_it_are_of_this_version() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join("host/templates/python/patchbay-plugin-pybars");
    let manifest = Manifest::read(&path).unwrap();
    assert_eq!(manifest.abi, ABI, "{}", path.with_extension("json").display());

    let page = std::fs::read_to_string(root.join("docs/socket-protocol.md")).unwrap();
    let json = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let manifest = Manifest::from_json(json.as_bytes()).unwrap();
    assert_eq!((manifest.name.as_str(), manifest.abi.as_str()), ("pybars", ABI), "docs/socket-protocol.md");
}
