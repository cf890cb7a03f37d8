//! The log: text or JSON lines to one output, and the newest lines in memory for `GET /api/log`.
//!
//! Events come from `tracing` (host code) and from [`LogHandle::write`] (plugins, child processes). Every line passes
//! the redactor, is shorter than [`MAX_LINE`], and is written by a thread of its own: a blocked pipe costs lines,
//! never media.
//!
//! A line reads `HH:MM:SS.mmm LVL [module] message key=value`. The module is the field `plugin` or `module` of the
//! event, else the target when it is one word (`target: "api"`) or a module of this crate (`patchbay::api::..`). The
//! targets `patchbay` and `go2rtc` print no module: `INF config path=..`.

mod format;
mod layer;
mod level;
mod memory;
mod time;
mod writer;

pub use layer::LogLayer;
pub use level::Level;
pub use time::TimeFormat;

use crate::redact::Redactor;
use format::{Line, Value};
use memory::Memory;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;
use writer::Writer;

/// No line, its line end included, is as long as this: Home Assistant reads lines of less than 64 KiB.
pub const MAX_LINE: usize = 65536;

/// `log:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Level of modules without one of their own.
    pub level: Level,
    /// Form of the lines on the output.
    pub format: Format,
    /// Where the lines go.
    pub output: Output,
    /// Time of JSON lines; `Off` removes it from text lines too.
    pub time: TimeFormat,
    /// Levels per module.
    pub modules: BTreeMap<String, Level>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            level: Level::Info,
            format: Format::Auto,
            output: Output::Stdout,
            time: TimeFormat::UnixMs,
            modules: BTreeMap::new(),
        }
    }
}

/// Form of the lines on the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text, in colour when the output is a terminal.
    Auto,
    /// Text in colour.
    Color,
    /// Text without colour.
    Text,
    /// JSON.
    Json,
}

impl Format {
    /// Reads the value of `log.format`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => Some(Self::Auto),
            "color" => Some(Self::Color),
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Where the lines go. The memory gets them in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The end of a file.
    File(PathBuf),
    /// Nowhere else.
    Memory,
}

impl Output {
    /// Reads the value of `log.output`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "stdout" => Some(Self::Stdout),
            "stderr" => Some(Self::Stderr),
            "" => Some(Self::Memory),
            "file" => Some(Self::File(PathBuf::from("go2rtc.log"))),
            _ => {
                text.strip_prefix("file:").filter(|path| !path.is_empty()).map(|path| Self::File(path.into()))
            }
        }
    }
}

/// Starts the log of the process: `tracing` events go to it from now on.
pub fn init(settings: &Settings, redactor: Redactor) -> io::Result<LogHandle> {
    let log = LogHandle::new(settings, redactor)?;
    let subscriber = tracing_subscriber::registry().with(log.layer());
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| io::Error::new(io::ErrorKind::AlreadyExists, "the log is already started"))?;
    Ok(log)
}

/// The running log. Clones are the same log.
#[derive(Clone)]
pub struct LogHandle {
    shared: Arc<Shared>,
}

struct Shared {
    levels: RwLock<Levels>,
    /// The most talkative level of all modules, so that most events end before they are looked at.
    most: AtomicU8,
    format: Format,
    time: TimeFormat,
    writer: Option<Writer>,
    memory: Memory,
    redactor: Redactor,
}

struct Levels {
    default: Level,
    modules: BTreeMap<String, Level>,
}

impl LogHandle {
    /// A log that is not yet connected to `tracing` ([`LogHandle::layer`]).
    pub fn new(settings: &Settings, redactor: Redactor) -> io::Result<Self> {
        let (sink, terminal): (Option<Box<dyn io::Write + Send>>, bool) = match &settings.output {
            Output::Stdout => (Some(Box::new(io::stdout())), io::stdout().is_terminal()),
            Output::Stderr => (Some(Box::new(io::stderr())), io::stderr().is_terminal()),
            Output::File(path) => {
                (Some(Box::new(std::fs::File::options().create(true).append(true).open(path)?)), false)
            }
            Output::Memory => (None, false),
        };
        Self::with_sink(settings, redactor, sink, terminal)
    }

    /// A log that writes to any sink.
    pub fn with_sink(
        settings: &Settings,
        redactor: Redactor,
        sink: Option<Box<dyn io::Write + Send>>,
        terminal: bool,
    ) -> io::Result<Self> {
        let format = match settings.format {
            Format::Auto if terminal => Format::Color,
            Format::Auto => Format::Text,
            format => format,
        };
        let levels = Levels { default: settings.level, modules: settings.modules.clone() };
        let shared = Shared {
            most: AtomicU8::new(levels.most() as u8),
            levels: RwLock::new(levels),
            format,
            time: settings.time.clone(),
            writer: sink.map(Writer::start).transpose()?,
            memory: Memory::default(),
            redactor,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The layer that takes `tracing` events.
    pub fn layer(&self) -> LogLayer {
        LogLayer::new(self.clone())
    }

    /// Whether a line of this module and level would be written.
    pub fn enabled(&self, module: &str, level: Level) -> bool {
        let levels = self.shared.levels.read();
        level != Level::Disabled && level >= levels.modules.get(module).copied().unwrap_or(levels.default)
    }

    /// The level in force for a module: what plugins are told so that they send nothing in vain.
    pub fn level(&self, module: &str) -> Level {
        let levels = self.shared.levels.read();
        levels.modules.get(module).copied().unwrap_or(levels.default)
    }

    /// Changes the level of a module, or of all others when the module is empty.
    pub fn set_level(&self, module: &str, level: Level) {
        let mut levels = self.shared.levels.write();
        if module.is_empty() {
            levels.default = level;
        } else {
            levels.modules.insert(module.to_owned(), level);
        }
        // Relaxed: an event that races with the change may go either way.
        self.shared.most.store(levels.most() as u8, Ordering::Relaxed);
        drop(levels);
        tracing::callsite::rebuild_interest_cache();
    }

    /// Writes one line of a module (empty: none). Field values are texts; the names are kept as they are.
    pub fn write(&self, level: Level, module: &str, message: &str, fields: &[(&str, &str)]) {
        if self.enabled(module, level) {
            let fields =
                fields.iter().map(|(key, value)| ((*key).to_owned(), Value::Text((*value).to_owned())));
            self.put(Line {
                level,
                module: module.to_owned(),
                message: message.to_owned(),
                fields: fields.collect(),
            });
        }
    }

    /// The lines in memory, oldest first: one JSON object each.
    pub fn memory_lines(&self) -> Vec<u8> {
        self.shared.memory.lines()
    }

    /// Forgets the lines in memory.
    pub fn clear(&self) {
        self.shared.memory.clear();
    }

    /// Lines that were lost because the output did not take them.
    pub fn dropped(&self) -> u64 {
        self.shared.writer.as_ref().map_or(0, Writer::dropped)
    }

    /// Waits until the lines written so far are out, at most for `limit`; false when they are not. For the end of
    /// the process.
    pub fn flush(&self, limit: Duration) -> bool {
        self.shared.writer.as_ref().is_none_or(|writer| writer.flush(limit))
    }

    /// The redactor that lines pass.
    pub fn redactor(&self) -> &Redactor {
        &self.shared.redactor
    }

    fn most(&self) -> Level {
        Level::from_u8(self.shared.most.load(Ordering::Relaxed))
    }

    fn put(&self, mut line: Line) {
        let now = time::now();
        line.redact(&self.shared.redactor);
        let json = line.json(&now, &self.shared.time);
        if let Some(writer) = &self.shared.writer {
            writer.put(match self.shared.format {
                Format::Json => json.clone(),
                format => line.text(&now, &self.shared.time, format == Format::Color),
            });
        }
        self.shared.memory.put(json.as_bytes());
    }
}

impl Levels {
    fn most(&self) -> Level {
        self.modules.values().copied().fold(self.default, Level::min)
    }
}
