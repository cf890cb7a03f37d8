//! `patchbay plugins new NAME`: writes a plugin crate that belongs to nobody's workspace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The crate's files; `{{name}}` and `{{sdk}}` are filled in.
const FILES: [(&str, &str); 8] = [
    ("Cargo.toml", include_str!("../../templates/source/Cargo.toml.in")),
    ("manifest.json", include_str!("../../templates/source/manifest.json")),
    (".gitignore", include_str!("../../templates/source/gitignore")),
    ("LICENSE", include_str!("../../templates/source/LICENSE")),
    ("README.md", include_str!("../../templates/source/README.md")),
    ("src/lib.rs", include_str!("../../templates/source/src/lib.rs")),
    ("src/wire.rs", include_str!("../../templates/source/src/wire.rs")),
    ("src/source.rs", include_str!("../../templates/source/src/source.rs")),
];

/// Its test.
const TEST: (&str, &str) = ("tests/camera.rs", include_str!("../../templates/source/tests/camera.rs"));

/// The sdk's version that the crate asks for.
const SDK: &str = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

/// Longest name.
const MAX_NAME: usize = 32;

/// Why no crate was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NewError {
    /// The name cannot be a URL scheme, a crate and a file name at once.
    #[error("{0:?} cannot be a plugin's name: a letter, then at most 31 letters and digits, all lower case")]
    Name(String),
    /// Something is there already.
    #[error("{} is there already and is not empty", .0.display())]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Whether `name` can be a plugin's name: it becomes a URL scheme, a crate and a file name.
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && name.len() <= MAX_NAME
}

/// Writes the crate `patchbay-plugin-NAME` into `folder` and gives its path.
pub fn write(name: &str, folder: &Path) -> Result<PathBuf, NewError> {
    if !is_name(name) {
        return Err(NewError::Name(name.to_owned()));
    }
    let root = folder.join(format!("patchbay-plugin-{name}"));
    if fs::read_dir(&root).is_ok_and(|mut files| files.next().is_some()) {
        return Err(NewError::Exists(root));
    }
    for (path, text) in FILES.iter().chain([&TEST]) {
        let path = root.join(path);
        let text = text.replace("{{name}}", name).replace("{{sdk}}", SDK);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, text)).map_err(|source| NewError::Write { path, source })?;
    }
    Ok(root)
}

/// What to do with it now.
pub fn next_steps(name: &str, root: &Path) -> String {
    format!(
        "{root} is a plugin for {name}:// cameras of a made-up kind. Next:\n\
         \x20 cd {root}\n\
         \x20 cargo test\n\
         \x20 cargo build --release\n\
         \x20 cp target/release/libpatchbay_plugin_{name}.so .../plugins/     (the folder beside the configuration)\n\
         then make src/wire.rs speak your camera's protocol; README.md says what is where",
        root = root.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_scheme_a_crate_and_a_file() {
        for name in ["acme", "a1", &"x".repeat(32)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "Acme", "my-cam", "my_cam", "1cam", "../x", "ä", &"x".repeat(33)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn nothing_is_left_to_fill_in_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let root = write("acme", folder.path()).unwrap();
        for (path, _) in FILES.iter().chain([&TEST]) {
            let text = fs::read_to_string(root.join(path)).unwrap();
            assert!(!text.contains("{{"), "{path}: {text}");
        }
        fs::write(root.join("src/wire.rs"), "mine").unwrap();
        assert!(matches!(write("acme", folder.path()), Err(NewError::Exists(_))));
        assert_eq!(fs::read_to_string(root.join("src/wire.rs")).unwrap(), "mine");
        assert!(matches!(write("../acme", folder.path()), Err(NewError::Name(_))));
    }
}
