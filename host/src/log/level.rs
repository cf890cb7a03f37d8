//! Log levels.

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Packets.
    Trace,
    /// Decisions.
    Debug,
    /// A few lines in the life of a session.
    Info,
    /// Degraded, still running.
    Warn,
    /// A user must act.
    Error,
    /// The process ends.
    Fatal,
    /// The process ends by a fault of its own.
    Panic,
    /// As a setting: nothing is written.
    Disabled,
}

impl Level {
    const ALL: [(Self, &'static str, &'static str); 8] = [
        (Self::Trace, "trace", "TRC"),
        (Self::Debug, "debug", "DBG"),
        (Self::Info, "info", "INF"),
        (Self::Warn, "warn", "WRN"),
        (Self::Error, "error", "ERR"),
        (Self::Fatal, "fatal", "FTL"),
        (Self::Panic, "panic", "PNC"),
        (Self::Disabled, "disabled", "???"),
    ];

    /// Reads a setting.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(text)).map(|(level, ..)| *level)
    }

    /// Name in settings and JSON lines.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(level, ..)| *level == self).map_or("", |(_, name, _)| name)
    }

    /// Three letters in text lines.
    pub fn short(self) -> &'static str {
        Self::ALL.iter().find(|(level, ..)| *level == self).map_or("", |(.., short)| short)
    }

    pub(crate) fn from_u8(value: u8) -> Self {
        Self::ALL.get(usize::from(value)).map_or(Self::Disabled, |(level, ..)| *level)
    }

    /// ANSI colour of the level.
    pub(crate) fn color(self) -> &'static str {
        match self {
            Self::Trace => "\x1b[34m",
            Self::Debug => "\x1b[36m",
            Self::Info => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            _ => "\x1b[31m",
        }
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::TRACE => Self::Trace,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::INFO => Self::Info,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::ERROR => Self::Error,
        }
    }
}

impl From<Level> for tracing::level_filters::LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::TRACE,
            Level::Debug => Self::DEBUG,
            Level::Info => Self::INFO,
            Level::Warn => Self::WARN,
            Level::Error => Self::ERROR,
            Level::Fatal | Level::Panic | Level::Disabled => Self::OFF,
        }
    }
}
