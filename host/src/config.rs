//! The configuration: where it comes from, what it means, how it is written.
//!
//! | part | does |
//! |---|---|
//! | [`Sources`] | which files and `--config` values are read |
//! | [`Config::load`] | reads and merges them into typed settings and a list of [`Problem`]s |
//! | [`Config::plugin_yaml`] | the settings of one plugin, as YAML text |
//! | [`ConfigFile`] | writes single keys and fragments, keeping comments |
//! | [`node`], [`vars`], [`emit`], [`patch`], [`merge`] | the text work, without I/O |

mod decode;
pub mod emit;
pub mod file;
pub mod format;
mod layer;
pub mod merge;
pub mod node;
pub mod patch;
pub mod problem;
mod schema;
pub mod settings;
pub mod source;
pub mod vars;

pub use file::{ConfigFile, WriteError};
pub use layer::HOST_SECTIONS;
pub use node::Node;
pub use patch::PatchError;
pub use problem::{ParseError, Problem, Severity};
pub use settings::{Api, App, Isolation, Plugin, Stream};
pub use source::{Source, Sources};
pub use vars::Variables;

use crate::log;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Module names of a go2rtc.yaml, which the configuration may hold without a warning whether a plugin of that name is
/// installed or not.
pub const MODULES: [&str; 45] = [
    "alsa",
    "api",
    "bubble",
    "debug",
    "doorbird",
    "dvrip",
    "echo",
    "eseecloud",
    "exec",
    "expr",
    "ffmpeg",
    "flussonic",
    "gopro",
    "hass",
    "hls",
    "homekit",
    "http",
    "isapi",
    "ivideon",
    "kasa",
    "mjpeg",
    "mp4",
    "mpegts",
    "multitrans",
    "nest",
    "ngrok",
    "onvif",
    "pinggy",
    "ring",
    "roborock",
    "rtmp",
    "rtsp",
    "srtp",
    "streams",
    "tapo",
    "tuya",
    "v4l2",
    "webrtc",
    "webtorrent",
    "wyoming",
    "wyze",
    "ws",
    "xiaomi",
    "yandex",
    "mpeg",
];

/// Settings in force after all sources were merged.
#[derive(Debug, Clone)]
pub struct Config {
    /// `app:`.
    pub app: App,
    /// `api:`.
    pub api: Api,
    /// `log:`.
    pub log: log::Settings,
    /// `streams:` in the order of the files.
    pub streams: Vec<Stream>,
    /// `publish:`, stream and the URLs it is pushed to.
    pub publish: Vec<(String, Vec<String>)>,
    /// `preload:`, stream and query (`video&audio` when empty).
    pub preload: Vec<(String, String)>,
    /// `env:`.
    pub env: BTreeMap<String, String>,
    /// Values of variables: never to be shown ([`crate::redact::Redactor`]).
    pub secrets: Vec<String>,
    /// Everything that is wrong, in the order of the sources.
    pub problems: Vec<Problem>,
    /// The first problem that has left out what guards the API: to serve without it would open what was to be closed.
    pub lost_guard: Option<Problem>,
    /// The file that is written to.
    pub target: Option<PathBuf>,
    names: Vec<String>,
    root: Node,
    plugins: BTreeMap<String, Plugin>,
}

/// One text below a name of a section, such as a source of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// The name.
    pub name: &'a str,
    /// The text, variables replaced.
    pub text: &'a str,
    /// Where it stands.
    pub at: node::Span,
}

impl Written<'_> {
    /// What stands before the first colon, in a URL its scheme.
    pub fn scheme(&self) -> &str {
        self.text.split(':').next().unwrap_or(self.text)
    }
}

impl Config {
    /// Reads and merges the sources. A source or a value that is wrong is left out and reported in
    /// [`Config::problems`]; the rest is in force.
    pub fn load(sources: &Sources, variables: Variables) -> Self {
        Self::load_with(sources, variables, None)
    }

    /// The same as if `text` were in the file that is written to: to look at a change before it is made.
    pub fn load_with(sources: &Sources, variables: Variables, text: Option<&str>) -> Self {
        let instead = sources.target.clone().zip(text.map(str::to_owned));
        let mut reader = layer::Reader {
            variables,
            instead,
            secrets: Vec::new(),
            problems: Vec::new(),
            names: Vec::new(),
        };
        let mut root = Node::map::<String>([]);
        for source in &sources.list {
            if let Some(layer) = reader.read(source) {
                layer::lay_over(&mut root, layer, 0, false);
            }
        }
        decode::config(root, reader, sources.target.clone())
    }

    /// Checks a whole text as `POST /api/config` receives it: it must be YAML and a mapping.
    pub fn check_text(text: &str) -> Result<(), PatchError> {
        match vars::parse_raw(text)?.root {
            Some(root) if root.entries().is_none() && !root.is_null() => Err(PatchError::NotMapping),
            _ => Ok(()),
        }
    }

    /// Whether any problem is an error.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// The settings of a plugin as YAML text of one mapping, merged from `NAME:` and `plugins: NAME:`; scalars keep
    /// their source text. Empty when there are none.
    pub fn plugin_yaml(&self, name: &str) -> String {
        let Some(section) = self.section(name) else { return String::new() };
        let mut section = section.clone();
        for key in Plugin::HOST_KEYS {
            section.remove(key);
        }
        emit::document(&section).text
    }

    /// Switches a plugin on or off here, not in any file.
    pub fn set_enabled(&mut self, name: &str, enabled: bool) {
        self.plugins.entry(name.to_owned()).or_default().enabled = Some(enabled);
    }

    /// What the host reads from the settings of a plugin.
    pub fn plugin(&self, name: &str) -> Plugin {
        self.plugins.get(name).cloned().unwrap_or_default()
    }

    /// The merged section of a name.
    pub fn section(&self, name: &str) -> Option<&Node> {
        self.root.get(name)
    }

    /// Names of all plugins that the configuration speaks of.
    pub fn plugin_names(&self) -> impl Iterator<Item = &str> {
        self.plugins.keys().map(String::as_str)
    }

    /// Whether `app.modules` allows a go2rtc module. Entries without a module (`None`) are off whenever the list is
    /// given.
    pub fn allows_module(&self, module: Option<&str>) -> bool {
        match (&self.app.modules, module) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(list), Some(module)) => list.iter().any(|name| name == module),
        }
    }

    /// Sections that no installed plugin reads.
    pub fn unknown_plugins(&self, installed: &[&str]) -> Vec<Problem> {
        decode::unknown_plugins(self, installed)
    }

    /// Settings of a plugin that its option schema does not allow.
    pub fn misfits(&self, plugin: &str, options: &serde_json::Value) -> Vec<Problem> {
        let Some(section) = self.section(plugin) else { return Vec::new() };
        let streams: Vec<&str> = self.streams.iter().map(|stream| stream.name.as_str()).collect();
        schema::check(section, options, &format!("{plugin}:"), &streams)
            .into_iter()
            .map(|misfit| self.problem(Severity::Warning, misfit.at, misfit.message, misfit.hint))
            .collect()
    }

    /// What of the value of an option behind a URL its schema does not allow, each with what to try.
    pub fn option_misfits(
        value: &str,
        schema: &serde_json::Value,
        name: &str,
    ) -> Vec<(String, Option<String>)> {
        schema::check_option(value, schema, name)
            .into_iter()
            .map(|misfit| (misfit.message, misfit.hint))
            .collect()
    }

    /// A problem of what stands at a place of the sources.
    pub fn problem(
        &self,
        severity: Severity,
        at: node::Span,
        message: String,
        hint: Option<String>,
    ) -> Problem {
        let source = self.names.get(usize::from(at.source)).cloned().unwrap_or_default();
        Problem { severity, source, line: at.line, column: at.column, message, hint }
    }

    /// The texts below the names of a section such as `streams:`, with their places.
    pub fn written(&self, section: &str) -> Vec<Written<'_>> {
        let mut all = Vec::new();
        for (key, value) in self.section(section).and_then(Node::entries).unwrap_or_default() {
            let Some(name) = key.text() else { continue };
            let value = value.get("url").unwrap_or(value);
            let items = match &value.kind {
                node::Kind::List(items) => items.as_slice(),
                _ => std::slice::from_ref(value),
            };
            for item in items.iter().filter(|item| !item.is_null()) {
                if let Some(text) = item.as_string() {
                    all.push(Written { name, text, at: item.span });
                }
            }
        }
        all
    }

    /// The files among the sources that were read, and those that were missing.
    pub fn source_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The file that keys are written to.
    pub fn config_path(&self) -> Option<&Path> {
        self.target.as_deref()
    }
}
