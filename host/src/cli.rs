//! The command line, by hand: go2rtc's flags take one or two dashes (`-config`, `--config=..`), which no argument
//! parser of the usual kind reads.

pub mod new;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

/// What the process is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Serve(Serve),
    /// Print [`version_text`].
    Version,
    /// Print [`USAGE`].
    Help,
    /// List the plugins that would be used.
    PluginsList(Serve),
    /// Describe one plugin file without running its code.
    PluginsInspect(PathBuf),
    /// Load one plugin file and try every rule on it.
    PluginsCheck(PluginsCheck),
    /// Write the sources of a new plugin.
    PluginsNew(PluginsNew),
    /// Read the configuration and print every problem.
    Check(Serve),
    /// Run one plugin for a parent process; the arguments are between the two.
    Runner(Vec<OsString>),
}

/// What `plugins check` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginsCheck {
    /// The plugin's file.
    pub file: PathBuf,
    /// A URL that plays.
    pub url: Option<String>,
    /// A URL whose login is refused.
    pub refused: Option<String>,
    /// A file of a format that it demuxes.
    pub input: Option<PathBuf>,
}

/// What `plugins new` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginsNew {
    /// The plugin's name, which is also its URL scheme.
    pub name: String,
    /// What it is written in.
    pub language: new::Language,
    /// Where its folder is made.
    pub folder: PathBuf,
}

/// Flags of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serve {
    /// `--config` values, in order.
    pub config: Vec<String>,
    /// Further plugin folders, in order.
    pub plugins: Vec<PathBuf>,
    /// Start a detached copy and end.
    pub daemon: bool,
    /// This is the detached copy.
    pub detached: bool,
}

/// Why the command line was refused. Print it and [`USAGE`]; the exit code is 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// A flag that does not exist.
    #[error("flag provided but not defined: -{0}")]
    UnknownFlag(String),
    /// A flag without its value.
    #[error("flag needs an argument: -{0}")]
    MissingValue(String),
    /// A switch with a value that is no boolean.
    #[error("invalid boolean value for -{0}")]
    NotBoolean(String),
    /// A word that is no command.
    #[error("unknown command: {0}")]
    UnknownCommand(String),
    /// A command without its file.
    #[error("{0} needs a file")]
    MissingFile(&'static str),
    /// A language in which no plugin can be begun.
    #[error("there is no template in {0}: rust, c or python")]
    UnknownLanguage(String),
    /// A command without its name.
    #[error("{0} needs a name")]
    MissingName(&'static str),
    /// An argument that is not UTF-8.
    #[error("an argument is not valid UTF-8")]
    NotText,
}

/// Exit code after a refused command line.
pub const EXIT_USAGE: u8 = 2;

/// The version of go2rtc's API that is served, with Patchbay's own as build part.
pub const VERSION: &str = concat!("1.9.14+patchbay.", env!("CARGO_PKG_VERSION"));

/// The source revision of this build, `unknown` when it was not given as `PATCHBAY_REVISION`.
pub const REVISION: &str = match option_env!("PATCHBAY_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The usage text.
pub const USAGE: &str = "\
Patchbay: any camera protocol in, any player protocol out.

Usage:
  patchbay [flags]                    serve
  patchbay check [FILE]               read the configuration, print every problem
  patchbay plugins list               list the plugins and what they can do
  patchbay plugins inspect FILE       describe one plugin file without running it
  patchbay plugins check FILE [-url URL] [-refused URL] [-input FILE]
                                      load one plugin file and try every rule on it
  patchbay plugins new NAME [-lang rust|c|python] [-dir DIR]
                                      write the sources of a new plugin for NAME: cameras

Flags (one or two dashes, \"-config=X\" or \"-config X\"):
  -c, -config X     a file, \"section.key=value\", or a YAML/JSON mapping; may be repeated, later
                    values win, the first file is the one that is written to.
                    Without it: plugins.yaml, else go2rtc.yaml, in the working directory
  -plugins DIR      a further folder with plugins; may be repeated
  -d, -daemon       serve in the background
  -v, -version      print the version
  -h, -help         print this text

Without a configuration Patchbay serves http://localhost:1984/ with defaults.
";

/// `os/arch` in Go's words, as go2rtc prints it.
pub fn platform() -> String {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        arch => arch,
    };
    format!("{os}/{arch}")
}

/// What `-version` prints: the first line is the one that tools look for.
pub fn version_text() -> String {
    let own = env!("CARGO_PKG_VERSION");
    format!("go2rtc version {VERSION} ({REVISION}) {}\nPatchbay {own}\n", platform())
}

/// Reads the arguments after the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut args = args.into_iter();
    let mut serve = Serve::default();
    let mut check = PluginsCheck::default();
    let mut new = PluginsNew { folder: PathBuf::from("."), ..PluginsNew::default() };
    let mut words: Vec<String> = Vec::new();
    while let Some(arg) = args.next() {
        let arg = arg.into_string().map_err(|_| UsageError::NotText)?;
        let flag = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).filter(|flag| !flag.is_empty());
        let Some(flag) = flag else {
            match (arg.as_str(), words.is_empty()) {
                ("runner", true) => return Ok(Command::Runner(args.collect())),
                (DETACHED, true) => serve.detached = true,
                _ => words.push(arg),
            }
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        match name {
            "c" | "config" => serve.config.push(text_of(name, value, &mut args)?),
            "plugins" => serve.plugins.push(text_of(name, value, &mut args)?.into()),
            "url" => check.url = Some(text_of(name, value, &mut args)?),
            "refused" => check.refused = Some(text_of(name, value, &mut args)?),
            "dir" => new.folder = text_of(name, value, &mut args)?.into(),
            "lang" => {
                let text = text_of(name, value, &mut args)?;
                new.language = new::Language::parse(&text).ok_or(UsageError::UnknownLanguage(text))?;
            }
            "input" => check.input = Some(text_of(name, value, &mut args)?.into()),
            "d" | "daemon" => serve.daemon = switch(name, value)?,
            "v" | "version" if switch(name, value.clone())? => return Ok(Command::Version),
            "h" | "help" if switch(name, value.clone())? => return Ok(Command::Help),
            "v" | "version" | "h" | "help" => {}
            _ => return Err(UsageError::UnknownFlag(name.to_owned())),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => Ok(Command::Serve(serve)),
        ["check"] => Ok(Command::Check(serve)),
        ["check", files @ ..] => {
            serve.config.extend(files.iter().map(|file| (*file).to_owned()));
            Ok(Command::Check(serve))
        }
        ["plugins"] | ["plugins", "list"] => Ok(Command::PluginsList(serve)),
        ["plugins", "inspect", file] => Ok(Command::PluginsInspect(file.into())),
        ["plugins", "check", file] => {
            check.file = file.into();
            Ok(Command::PluginsCheck(check))
        }
        ["plugins", "new", name] => {
            new.name = (*name).to_owned();
            Ok(Command::PluginsNew(new))
        }
        ["plugins", "new"] => Err(UsageError::MissingName("plugins new")),
        ["plugins", "check"] => Err(UsageError::MissingFile("plugins check")),
        ["plugins", "inspect"] => Err(UsageError::MissingFile("plugins inspect")),
        ["plugins", word, ..] => Err(UsageError::UnknownCommand(format!("plugins {word}"))),
        [word, ..] => Err(UsageError::UnknownCommand((*word).to_owned())),
    }
}

fn text_of(
    name: &str,
    value: Option<String>,
    args: &mut impl Iterator<Item = OsString>,
) -> Result<String, UsageError> {
    match value {
        Some(value) => Ok(value),
        None => {
            let next = args.next().ok_or_else(|| UsageError::MissingValue(name.to_owned()))?;
            next.into_string().map_err(|_| UsageError::NotText)
        }
    }
}

fn switch(name: &str, value: Option<String>) -> Result<bool, UsageError> {
    match value.as_deref() {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(_) => Err(UsageError::NotBoolean(name.to_owned())),
    }
}

/// First argument of a detached copy.
const DETACHED: &str = "detached";

/// Starts a detached copy with the same flags and returns its process id; the caller prints
/// `Running in daemon mode with PID: N` and ends.
pub fn detach(program: &Path, serve: &Serve) -> io::Result<u32> {
    let mut command = Process::new(program);
    command.arg(DETACHED);
    for value in &serve.config {
        command.arg("--config").arg(value);
    }
    for folder in &serve.plugins {
        command.arg("--plugins").arg(folder);
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    Ok(child.id())
}

/// To be called by a detached copy before anything else: it leaves the session of the terminal.
pub fn leave_terminal() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}
