//! What a library says of itself, as JSON in its ELF section `.patchbay`, readable without running any of its code.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use object::{Object as _, ObjectSection as _};
use serde::{Deserialize, Serialize};

/// Name of the section.
pub const SECTION: &str = ".patchbay";

/// Largest manifest, in bytes.
pub const MAX_MANIFEST: usize = 64 << 10;

/// Largest library file that is read for its manifest, in bytes.
pub const MAX_LIBRARY: u64 = 512 << 20;

/// A plugin's manifest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Name, equal to NAME in `libpatchbay_plugin_NAME.so`.
    pub name: String,
    /// The plugin's own version (semver).
    pub version: String,
    /// ABI version it was built for.
    pub abi: String,
    /// Lowest ABI version of a host that it can work with.
    pub min_host: Option<String>,
    /// SPDX expression.
    pub licence: String,
    /// Where people find help.
    pub home: String,
    /// One line for people.
    pub description: String,
    /// `source`, `demuxer`, `transport`, `output`, `server`, `routes`, `sink`, `service`.
    pub roles: Vec<String>,
    /// URL schemes it dials (source or transport) or pushes to (sink).
    pub schemes: Vec<Scheme>,
    /// Formats it demuxes.
    pub demuxes: Vec<Demuxes>,
    /// Formats it muxes.
    pub outputs: Vec<String>,
    /// HTTP routes and WebSocket message types.
    pub routes: Vec<Route>,
    /// What its source makes of other streams, so that the host asks for it by itself.
    pub transcodes: Option<Transcodes>,
    /// Names of the services that it gives to other plugins.
    pub services: Vec<String>,
    /// Connections of other protocols that it takes over on the HTTP port (role `routes`).
    pub raw: Vec<Raw>,
    /// With role `server`: module whose `listen` decides whether it is opened at start.
    pub listen: Option<Listen>,
    /// Among rivals for a scheme or format the highest wins; 0 is usual.
    pub rank: i32,
    /// Worker threads of its runtime; 0: one.
    pub threads: u32,
    /// What it needs in a process of its own: `net.tcp`, `net.udp`, `net.multicast`, `listen` (said by
    /// [`Self::listen`] too), `files`, `files.write`, `devices`, `exec`.
    pub capabilities: Vec<String>,
    /// `process`: where it runs unless the user says otherwise, also when it is shipped: it has foreign code that reads what
    /// cameras send.
    pub isolation: String,
    /// JSON Schema of its settings and URL options.
    pub options: serde_json::Value,
}

/// A URL scheme.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Scheme {
    /// Text before the first `:`.
    pub name: String,
    /// `source`, `transport` or `sink`; a scheme that is both has two entries.
    pub role: String,
    /// go2rtc's module name that `app.modules` may leave out; none: off whenever `app.modules` is given.
    pub module: Option<String>,
    /// The HTTP API may create streams with it.
    pub api: bool,
}

/// A format that a demuxer reads.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Demuxes {
    /// FFmpeg's name of the format.
    pub format: String,
    /// MIME types, lower case.
    pub mime: Vec<String>,
    /// Byte patterns at the start; any one is enough.
    pub magic: Vec<Magic>,
    /// Looked at in this order, lowest first, so that weak patterns come last.
    pub order: i32,
}

/// Bytes at an offset.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Magic {
    /// Where.
    pub offset: usize,
    /// What, in hex.
    pub hex: String,
    /// The same bytes again so many bytes later (MPEG-TS: 188); 0: no.
    pub again: usize,
}

/// An HTTP route or WebSocket message type.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// Path: `api/stream.mp4` below the base path, `/stream/` absolute; a trailing `/` takes the subtree.
    pub path: String,
    /// Message type on `/api/ws` instead of a path.
    pub ws: String,
    /// `host` (default): the host's login applies; `own`: the plugin checks.
    pub auth: String,
    /// go2rtc's module name that `app.modules` may leave out.
    pub module: Option<String>,
    /// Answers are endless: the host serves them past its HTTP library when it can.
    pub stream: bool,
    /// `src` of a GET request may be a source URL instead of a stream's name: a temporary stream is made of it. So it may on
    /// `/api/ws`.
    pub creates: bool,
    /// The answer depends on path and query alone: equal GET requests that wait at the same time are asked once, and one with
    /// `Cache-Control: max-age` is given again for up to 2 s.
    pub shared: bool,
}

/// A connection on the HTTP port that is not HTTP's, told by its first bytes: at most 4 KiB within 5 s.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Raw {
    /// What its first line starts with: `OPTIONS rtsp:`, `POST /pair-setup `.
    pub request: String,
    /// A header field that its head must have, in lower case; empty: none, and the first line is enough.
    pub header: String,
    /// Text that the field's value must hold; empty: any.
    pub value: String,
    /// go2rtc's module name that `app.modules` may leave out.
    pub module: Option<String>,
}

/// Tracks that a source makes from those of a stream: `SCHEME:STREAM#KIND=TO`. The host asks for it when a consumer takes
/// nothing that the stream has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Transcodes {
    /// One of the plugin's schemes.
    pub scheme: String,
    /// `audio` or `video`.
    pub kind: String,
    /// FFmpeg's names of the codecs that it reads.
    pub from: Vec<String>,
    /// FFmpeg's names of the codecs that it makes, with the value of the option that asks for each.
    pub to: BTreeMap<String, String>,
}

/// When a server is opened at start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Listen {
    /// go2rtc's module name.
    pub module: Option<String>,
    /// Default of the setting `listen`; empty: off.
    pub default: String,
}

/// Why a file has no usable manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It could not be read.
    #[error("cannot read it: {0}")]
    Io(#[from] std::io::Error),
    /// It is a folder, a pipe or a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// It is larger than [`MAX_LIBRARY`].
    #[error("it is larger than {MAX_LIBRARY} bytes")]
    TooLarge,
    /// It is no ELF library, or a cut one.
    #[error("it is not a whole ELF library: {0}")]
    NotElf(String),
    /// It has no manifest.
    #[error("it has no {SECTION} section: it is no Patchbay plugin")]
    NoSection,
    /// The section is too long.
    #[error("its manifest is larger than {MAX_MANIFEST} bytes")]
    SectionTooLarge,
    /// A program that cannot be run.
    #[error("it is not executable: chmod +x")]
    NotExecutable,
    /// What is asked for needs a library.
    #[error("a program cannot have the role {0}: reading rings is not part of the socket protocol")]
    Role(String),
    /// The manifest does not parse.
    #[error("its manifest cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The name inside is not the file's.
    #[error("its manifest says {manifest:?}, its file name says {file:?}")]
    Name {
        /// Name in the manifest.
        manifest: String,
        /// Name in the file name.
        file: String,
    },
}

impl Manifest {
    /// Reads the manifest of a plugin file, a library or a program, without running it.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        if let Some(name) = program_name(path) {
            return Self::of_program(path, name);
        }
        let meta = std::fs::metadata(path)?;
        if !meta.is_file() {
            // Opening a pipe would wait for whoever writes to it.
            return Err(ManifestError::NotAFile);
        }
        let mut file = File::open(path)?;
        if meta.len() > MAX_LIBRARY {
            return Err(ManifestError::TooLarge);
        }
        let mut bytes = Vec::new();
        file.by_ref().take(MAX_LIBRARY).read_to_end(&mut bytes)?;
        let manifest = Self::parse(&bytes)?;
        if let Some(file) = library_name(path)
            && file != manifest.name
        {
            return Err(ManifestError::Name { manifest: manifest.name, file: file.to_owned() });
        }
        Ok(manifest)
    }

    fn of_program(path: &Path, name: &str) -> Result<Self, ManifestError> {
        let meta = std::fs::metadata(path)?;
        let beside = program_manifest(path);
        if !meta.is_file() || !std::fs::metadata(&beside)?.is_file() {
            return Err(ManifestError::NotAFile);
        }
        if meta.permissions().mode() & 0o111 == 0 {
            return Err(ManifestError::NotExecutable);
        }
        let mut json = Vec::new();
        File::open(beside)?.take(MAX_MANIFEST as u64 + 1).read_to_end(&mut json)?;
        if json.len() > MAX_MANIFEST {
            return Err(ManifestError::SectionTooLarge);
        }
        let manifest = Self::from_json(&json)?;
        if name != manifest.name {
            return Err(ManifestError::Name { manifest: manifest.name, file: name.to_owned() });
        }
        match manifest.roles.iter().find(|role| ["output", "sink"].contains(&role.as_str())) {
            Some(role) => Err(ManifestError::Role(role.clone())),
            None => Ok(manifest),
        }
    }

    /// Reads the manifest from a library's bytes.
    pub fn parse(library: &[u8]) -> Result<Self, ManifestError> {
        let elf = object::File::parse(library).map_err(|error| ManifestError::NotElf(error.to_string()))?;
        let section = elf.section_by_name(SECTION).ok_or(ManifestError::NoSection)?;
        let data = section.data().map_err(|error| ManifestError::NotElf(error.to_string()))?;
        if data.len() > MAX_MANIFEST {
            return Err(ManifestError::SectionTooLarge);
        }
        // A string literal of C has a zero behind it.
        let end = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        Ok(Self::from_json(data.get(..end).unwrap_or_default())?)
    }

    /// Reads the JSON that the sdk's macro wrote: what cargo knows, with the author's part under `manifest`.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        let mut outer: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json)?;
        if let Some(serde_json::Value::Object(inner)) = outer.remove("manifest") {
            outer.extend(inner);
        }
        if let Some(serde_json::Value::String(name)) = outer.get_mut("name")
            && let Some(short) = name.strip_prefix(PACKAGE_PREFIX)
        {
            *name = short.to_owned();
        }
        serde_json::from_value(serde_json::Value::Object(outer))
    }
}

/// Cargo packages of plugins are named `patchbay-plugin-NAME`.
pub const PACKAGE_PREFIX: &str = "patchbay-plugin-";

/// NAME of `patchbay-plugin-NAME`, an executable that speaks the socket protocol; its manifest is
/// [`program_manifest`].
pub fn program_name(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?.strip_prefix(PACKAGE_PREFIX)?;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (!name.is_empty() && name.bytes().all(fits)).then_some(name)
}

/// `patchbay-plugin-NAME.json` beside the program. Without it the host does not look at the program.
pub fn program_manifest(path: &Path) -> PathBuf {
    path.with_extension("json")
}

/// NAME of a plugin file, a library or a program; the host looks at no other.
pub fn plugin_name(path: &Path) -> Option<&str> {
    library_name(path).or_else(|| program_name(path).filter(|_| program_manifest(path).is_file()))
}

/// NAME of `libpatchbay_plugin_NAME.so`.
pub fn library_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix("libpatchbay_plugin_")?.strip_suffix(".so")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_and_author_parts_join() {
        let json = br#"{"name":"patchbay-plugin-acme","version":"1.2.0","abi":"1.0.0","manifest":{"roles":["source"],
            "schemes":[{"name":"acme","role":"source"}]}}"#;
        let manifest = Manifest::from_json(json).unwrap();
        assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("acme", "1.2.0"));
        assert_eq!(manifest.schemes[0].name, "acme");
    }

    #[test]
    fn files_that_are_no_library_are_refused() {
        assert!(matches!(Manifest::parse(b"hello"), Err(ManifestError::NotElf(_))));
        assert!(matches!(Manifest::parse(b"\x7fELF\x02\x01\x01"), Err(ManifestError::NotElf(_))));
        assert!(matches!(Manifest::read(Path::new("/dev/zero")), Err(ManifestError::NotAFile)));
    }

    #[test]
    fn only_plugin_names_count() {
        assert_eq!(library_name(Path::new("/x/libpatchbay_plugin_rtsp.so")), Some("rtsp"));
        assert_eq!(library_name(Path::new("libserde_derive.so")), None);
    }

    #[test]
    fn a_program_has_its_manifest_beside_it() {
        let folder = std::env::temp_dir().join(format!("patchbay-manifest-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("patchbay-plugin-acme");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        assert_eq!(plugin_name(&path), None, "no manifest");
        let json = folder.join("patchbay-plugin-acme.json");
        let with = |name: &str, role: &str| {
            let text = format!(r#"{{"name":"{name}","abi":"1.0.0","roles":["{role}"]}}"#);
            std::fs::write(&json, text).unwrap();
            Manifest::read(&path)
        };
        assert!(matches!(with("acme", "source"), Err(ManifestError::NotExecutable)));
        assert_eq!(plugin_name(&path), Some("acme"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(with("acme", "source").unwrap().name, "acme");
        assert!(matches!(with("other", "source"), Err(ManifestError::Name { .. })));
        assert!(matches!(with("acme", "output"), Err(ManifestError::Role(_))));
        assert_eq!(program_name(&folder.join("patchbay-plugin-acme.json")), None);
        assert_eq!(program_name(&folder.join("patchbay-plugin-a-b")), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Manifest::parse(&bytes);
            let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0".to_vec();
            elf.extend(bytes);
            let _ = Manifest::parse(&elf);
        }
    }
}
