//! Typed settings of the host's own sections.

use crate::redact::Secret;
use serde::{Deserialize, Deserializer, de};

/// `app:`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct App {
    /// The modules that may start; everything else is off. `None`: all.
    pub modules: Option<Vec<String>>,
    /// Plugin files and folders that everybody on this machine can write to are accepted.
    #[serde(deserialize_with = "boolean")]
    pub writable_plugins: bool,
}

/// `api:`, the HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Api {
    /// TCP address, `host:port`; empty: no TCP listener.
    pub listen: String,
    /// Path of a Unix socket; empty: none.
    pub unix_listen: String,
    /// TLS address; needs certificate and key.
    pub tls_listen: String,
    /// Certificate: PEM text when it has several lines, else a file.
    pub tls_cert: String,
    /// Private key, likewise.
    pub tls_key: Secret,
    /// User of the Basic login; empty: no login.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// Ask callers from loopback and the Unix socket for the login too.
    #[serde(deserialize_with = "boolean")]
    pub local_auth: bool,
    /// Path before every route: a leading slash, none at the end.
    pub base_path: String,
    /// Folder to serve instead of the built-in pages.
    pub static_dir: String,
    /// `*` allows every web page to call the API (CORS).
    pub origin: String,
    /// The only paths that are served. `None`: all.
    pub allow_paths: Option<Vec<String>>,
    /// Host names under which the API may be called to change something, besides IP addresses and localhost.
    pub hosts: Vec<String>,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: ":1984".to_owned(),
            unix_listen: String::new(),
            tls_listen: String::new(),
            tls_cert: String::new(),
            tls_key: Secret::default(),
            username: String::new(),
            password: Secret::default(),
            local_auth: false,
            base_path: String::new(),
            static_dir: String::new(),
            origin: String::new(),
            allow_paths: None,
            hosts: Vec::new(),
        }
    }
}

impl Api {
    /// Keys that say who may do what.
    pub(crate) const GUARDS: [&str; 4] = ["username", "password", "local_auth", "allow_paths"];

    /// Keys of the section.
    pub const KEYS: [&str; 13] = [
        "listen",
        "unix_listen",
        "tls_listen",
        "tls_cert",
        "tls_key",
        "username",
        "password",
        "local_auth",
        "base_path",
        "static_dir",
        "origin",
        "allow_paths",
        "hosts",
    ];

    /// The path before every route, however it is written: empty, or with a slash in front and none behind.
    pub fn base(&self) -> String {
        match self.base_path.trim_matches('/') {
            "" => String::new(),
            path => format!("/{path}"),
        }
    }

    /// Whether callers must log in.
    pub fn has_login(&self) -> bool {
        !self.username.is_empty()
    }
}

/// One stream of `streams:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Its source URLs, as written (variables replaced).
    pub sources: Vec<String>,
    /// File or argument that defines it.
    pub file: String,
    /// Line of it, from 1.
    pub line: u32,
}

/// Where a plugin runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// In the host's process.
    InProcess,
    /// In a child process of its own.
    Process,
}

/// What the host itself reads from a plugin's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Plugin {
    /// `on` or `off`; `None` when the configuration does not say.
    #[serde(deserialize_with = "optional_boolean")]
    pub enabled: Option<bool>,
    /// Where it runs; `None`: by its origin.
    pub isolation: Option<Isolation>,
    /// Worker threads of its runtime.
    pub threads: Option<u16>,
    /// How its process is started again.
    pub restart: Restart,
    /// What its process may take.
    pub limits: Limits,
    /// What its process may do of what its manifest asks for: [`crate::sandbox::Capability`]; `None`: by its origin.
    pub allow: Option<Vec<String>>,
}

/// `restart:` of a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Restart {
    /// First and longest wait: `200ms..60s`.
    pub backoff: Option<String>,
    /// `5/10m`: after so many deaths within so long it stays down; `off`: never.
    pub breaker: Option<String>,
}

/// `limits:` of a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory of its process: `512M`, `2G`; `0`: no limit.
    pub memory: Option<String>,
}

impl Limits {
    /// Bytes of memory; 512 MiB when nothing, or nothing that can be read, is configured.
    pub fn memory_bytes(&self) -> u64 {
        let read = |text: &str| {
            let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let shift = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
                "" | "b" => 0,
                "k" | "kb" | "kib" => 10,
                "m" | "mb" | "mib" => 20,
                "g" | "gb" | "gib" => 30,
                _ => return None,
            };
            digits.trim().parse::<u64>().ok()?.checked_shl(shift)
        };
        self.memory.as_deref().and_then(|text| read(text.trim())).unwrap_or(512 << 20)
    }
}

impl Plugin {
    /// Keys that are the host's and not handed to the plugin.
    pub const HOST_KEYS: [&str; 5] = ["enabled", "isolation", "restart", "limits", "allow"];
}

/// A boolean as YAML 1.1 and 1.2 write it.
pub fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

fn boolean<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    let text = String::deserialize(from)?;
    parse_boolean(&text).ok_or_else(|| de::Error::custom("expected true or false"))
}

fn optional_boolean<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    boolean(from).map(Some)
}
