//! `patchbay plugins new NAME`: writes the sources of a plugin that belong to nobody's workspace.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use patchbay_plugin_api::c::HEADER;

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Language {
    /// On `patchbay-sdk`.
    #[default]
    Rust,
    /// With `patchbay_plugin.h`.
    C,
    /// By the socket protocol.
    Python,
}

impl Language {
    /// Reads the value of `-lang`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "rust" => Some(Self::Rust),
            "c" => Some(Self::C),
            "python" => Some(Self::Python),
            _ => None,
        }
    }

    /// The name that the template's files use; a plugin of this name can be built from them as they are.
    fn placeholder(self) -> &'static str {
        match self {
            Self::Rust => "{{name}}",
            Self::C => "cbars",
            Self::Python => "pybars",
        }
    }

    /// The files, with the placeholder in names and texts.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Rust => &RUST,
            Self::C => &C,
            Self::Python => &PYTHON,
        }
    }
}

/// `{{name}}` and `{{sdk}}` are filled in.
const RUST: [(&str, &str); 9] = [
    ("Cargo.toml", include_str!("../../templates/rust/Cargo.toml.in")),
    ("manifest.json", include_str!("../../templates/rust/manifest.json")),
    (".gitignore", include_str!("../../templates/rust/gitignore")),
    ("LICENSE", include_str!("../../templates/rust/LICENSE")),
    ("README.md", include_str!("../../templates/rust/README.md")),
    ("src/lib.rs", include_str!("../../templates/rust/src/lib.rs")),
    ("src/wire.rs", include_str!("../../templates/rust/src/wire.rs")),
    ("src/source.rs", include_str!("../../templates/rust/src/source.rs")),
    ("tests/camera.rs", include_str!("../../templates/rust/tests/camera.rs")),
];

const C: [(&str, &str); 5] = [
    ("cbars.c", include_str!("../../templates/c/cbars.c")),
    ("patchbay_plugin.h", HEADER),
    ("Makefile", include_str!("../../templates/c/Makefile")),
    (".gitignore", include_str!("../../templates/c/gitignore")),
    ("README.md", include_str!("../../templates/c/README.md")),
];

const PYTHON: [(&str, &str); 3] = [
    (PROGRAM, include_str!("../../templates/python/patchbay-plugin-pybars")),
    ("patchbay-plugin-pybars.json", include_str!("../../templates/python/patchbay-plugin-pybars.json")),
    ("README.md", include_str!("../../templates/python/README.md")),
];

/// The one file that is executable.
const PROGRAM: &str = "patchbay-plugin-pybars";

/// The sdk's version that the crate asks for.
const SDK: &str = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

/// Longest name.
const MAX_NAME: usize = 32;

/// Why nothing was written.
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

/// Writes the plugin into the folder `patchbay-plugin-NAME` in `folder` and gives its path.
pub fn write(name: &str, language: Language, folder: &Path) -> Result<PathBuf, NewError> {
    if !is_name(name) {
        return Err(NewError::Name(name.to_owned()));
    }
    let root = folder.join(format!("patchbay-plugin-{name}"));
    if fs::read_dir(&root).is_ok_and(|mut files| files.next().is_some()) {
        return Err(NewError::Exists(root));
    }
    let fill = |text: &str| text.replace(language.placeholder(), name).replace("{{sdk}}", SDK);
    for (file, text) in language.files() {
        let path = root.join(fill(file));
        let mode = if *file == PROGRAM { 0o755 } else { 0o644 };
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, fill(text)))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(|source| NewError::Write { path, source })?;
    }
    Ok(root)
}

/// What to do with it now.
pub fn next_steps(name: &str, language: Language, root: &Path) -> String {
    let (what, steps) = match language {
        Language::Rust => (
            format!("a plugin for {name}:// cameras of a made-up kind"),
            format!(
                "cargo test\n  cargo build --release\n  cp target/release/libpatchbay_plugin_{name}.so .../plugins/"
            ),
        ),
        Language::C => (
            format!("a plugin whose {name}: is a camera that shows colour bars"),
            format!("make\n  make check\n  cp libpatchbay_plugin_{name}.so .../plugins/"),
        ),
        Language::Python => (
            format!("a plugin whose {name}: is a camera that shows colour bars"),
            format!(
                "patchbay plugins check ./patchbay-plugin-{name} -url {name}:\n  cp -a patchbay-plugin-{name} \
                 patchbay-plugin-{name}.json .../plugins/"
            ),
        ),
    };
    let root = root.display();
    format!(
        "{root} is {what}. Next:\n  cd {root}\n  {steps}\nwhere plugins/ is the folder of that name beside the \
         configuration; README.md says what is where"
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
        for language in [Language::Rust, Language::C, Language::Python] {
            let folder = tempfile::tempdir().unwrap();
            let root = write("acme", language, folder.path()).unwrap();
            for (file, _) in language.files() {
                let file = file.replace(language.placeholder(), "acme");
                let text = fs::read_to_string(root.join(&file)).unwrap();
                assert!(
                    !text.contains(language.placeholder()) && !text.contains("{{sdk}}"),
                    "{file}: {text}"
                );
            }
            fs::write(root.join("README.md"), "mine").unwrap();
            assert!(matches!(write("acme", language, folder.path()), Err(NewError::Exists(_))));
            assert_eq!(fs::read_to_string(root.join("README.md")).unwrap(), "mine");
            assert!(matches!(write("../acme", language, folder.path()), Err(NewError::Name(_))));
        }
    }
}
