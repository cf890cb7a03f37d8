//! The `patchbay` binary.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};
use std::time::Duration;

use patchbay::app::{App, End};
use patchbay::catalogue::{Catalogue, Entry, Folder, Rules};
use patchbay::check as settings;
use patchbay::cli::{self, Command, Serve};
use patchbay::config::{Config, Severity, Sources, Variables};
use patchbay::loader;
use patchbay::log::{self, Level};
use patchbay::program;
use patchbay::redact::Redactor;
use patchbay::sandbox::{self, Grants, InForce};
use patchbay_conformance::{Material, Verdict};
use patchbay_plugin_api::manifest::program_name;
use patchbay_plugin_api::panic::{self, Threads};
use patchbay_plugin_api::{Manifest, Plugin, version};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    loader::prepare_process();
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            say(cli::USAGE);
            return ExitCode::from(2);
        }
    };
    match command {
        Command::Help => say(cli::USAGE),
        Command::Version => say(&cli::version_text()),
        Command::PluginsList(serve) => return list(&serve),
        Command::PluginsInspect(path) => return inspect(&path),
        Command::PluginsCheck(asked) => return conformance(&asked),
        Command::PluginsNew(asked) => {
            return match cli::new::write(&asked.name, asked.language, &asked.folder) {
                Ok(root) => {
                    say(&cli::new::next_steps(&asked.name, asked.language, &root));
                    ExitCode::SUCCESS
                }
                Err(error) => fail(&error.to_string()),
            };
        }
        Command::Check(serve) => return check(&serve),
        Command::Serve(serve) if serve.daemon && !serve.detached => {
            let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("patchbay"));
            return match cli::detach(&program, &serve) {
                Ok(pid) => {
                    say(&format!("Running in daemon mode with PID: {pid}"));
                    ExitCode::SUCCESS
                }
                Err(error) => fail(&format!("cannot start a detached copy: {error}")),
            };
        }
        Command::Serve(serve) => return run(&serve),
        Command::Runner(arguments) => return patchbay::runner::main(&arguments),
    }
    ExitCode::SUCCESS
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

fn fail(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}

fn sources(serve: &Serve) -> Sources {
    Sources::from_args(&serve.config, &std::env::current_dir().unwrap_or_default())
}

fn load(serve: &Serve) -> Config {
    Config::load(&sources(serve), Variables::of_process())
}

/// Where plugins are: beside the executable and in `<prefix>/lib/patchbay` (shipped), then beside the configuration and
/// as the command line and `PATCHBAY_PLUGINS` say (third-party).
fn catalogue(serve: &Serve, config: &Config) -> Catalogue {
    let mut folders = Vec::new();
    let program = std::env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    if let Some(beside) = program.parent() {
        folders.push(Folder { path: beside.to_owned(), shipped: true });
        if let Some(prefix) = beside.parent() {
            folders.push(Folder { path: prefix.join("lib/patchbay"), shipped: true });
        }
    }
    let own = config.config_path().and_then(Path::parent).map(|folder| folder.join("plugins"));
    let named = std::env::var_os("PATCHBAY_PLUGINS");
    let named = named.iter().flat_map(|list| std::env::split_paths(list).collect::<Vec<_>>());
    let others = own.into_iter().chain(serve.plugins.iter().cloned()).chain(named);
    folders.extend(others.map(|path| Folder { path, shipped: false }));
    let enabled = |name: &str| config.plugin(name).enabled.unwrap_or(true);
    Catalogue::scan(&folders, &Rules { enabled: &enabled, writable: config.app.writable_plugins })
}

fn list(serve: &Serve) -> ExitCode {
    let config = load(serve);
    let catalogue = catalogue(serve, &config);
    for entry in &catalogue.entries {
        let state = if entry.enabled { "on" } else { "off" };
        let origin = if entry.shipped { "shipped" } else { "third-party" };
        let manifest = &entry.manifest;
        say(&format!(
            "{:<12} {:<8} {:<4} {:<12} {:<40} {}",
            manifest.name,
            manifest.version,
            state,
            origin,
            manifest.roles.join(","),
            entry.path.display()
        ));
        say(&format!("{:<12} {}", "", held(entry, &config)));
    }
    for refused in &catalogue.refused {
        say(&format!("refused      {}: {}", refused.path.display(), refused.reason));
    }
    ExitCode::SUCCESS
}

/// Where a plugin runs, and what holds it there.
fn held(entry: &Entry, config: &Config) -> String {
    let settings = config.plugin(&entry.manifest.name);
    if !entry.is_isolated(settings.isolation) {
        return "in the server's process, with its rights".to_owned();
    }
    let grants = Grants::of(&entry.manifest, entry.shipped, settings.allow.as_deref());
    let landlock = if grants.unrestricted { 0 } else { sandbox::landlock::version() };
    let why = if grants.unrestricted { "it is allowed everything" } else { "this kernel has none" };
    let in_force = InForce {
        landlock,
        why: why.to_owned(),
        open: InForce::open(landlock, &grants),
        unrestricted: grants.unrestricted,
        granted: grants.granted,
        refused: grants.refused,
        unknown: grants.unknown,
        memory: settings.limits.memory_bytes(),
        ..InForce::default()
    };
    format!("in a process of its own: {in_force}")
}

fn inspect(path: &Path) -> ExitCode {
    let manifest = match Manifest::read(path) {
        Ok(manifest) => manifest,
        Err(error) => return fail(&format!("{}: {error}", path.display())),
    };
    say(&serde_json::to_string_pretty(&manifest).unwrap_or_default());
    match version::check(&manifest.abi, manifest.min_host.as_deref(), version::ABI) {
        Ok(_) => ExitCode::SUCCESS,
        Err(refusal) => fail(&format!("{}: {refusal}", path.display())),
    }
}

/// A plugin that is a program; its output goes to this one's.
fn as_program(asked: &cli::PluginsCheck, manifest: &Manifest) -> Result<Plugin, String> {
    version::check(&manifest.abi, manifest.min_host.as_deref(), version::ABI)
        .map_err(|error| error.to_string())?;
    let settings = log::Settings { output: log::Output::Stderr, ..log::Settings::default() };
    let log = log::LogHandle::new(&settings, Redactor::new(Vec::new())).map_err(|error| error.to_string())?;
    Ok(program::plugin(&asked.file, manifest, log))
}

/// Loads a plugin into this process and tries every rule on it.
fn conformance(asked: &cli::PluginsCheck) -> ExitCode {
    let manifest = match Manifest::read(&asked.file) {
        Ok(manifest) => manifest,
        Err(error) => return fail(&format!("{}: {error}", asked.file.display())),
    };
    let input = match asked.input.as_ref().map(std::fs::read).transpose() {
        Ok(input) => input,
        Err(error) => return fail(&format!("the input cannot be read: {error}")),
    };
    let loaded = if program_name(&asked.file).is_some() {
        as_program(asked, &manifest)
    } else {
        tempfile::tempdir().map_err(|error| error.to_string()).and_then(|copies| {
            loader::load(&asked.file, &manifest, copies.path()).map_err(|error| error.to_string())
        })
    };
    let plugin = match loaded {
        Ok(plugin) => plugin,
        Err(error) => return fail(&format!("{}: {error}", asked.file.display())),
    };
    let material = Material {
        url: asked.url.clone(),
        refused: asked.refused.clone(),
        input,
        start_limit: program_name(&asked.file).map(|_| patchbay::child::START_LIMIT),
        ..Material::default()
    };
    let findings = patchbay_conformance::check(plugin, &manifest, &material);
    let mut kept = 0;
    for finding in &findings {
        match &finding.verdict {
            Verdict::Kept => {
                kept += 1;
                say(&format!("ok      {}", finding.rule));
            }
            Verdict::Broken(how) => say(&format!("BROKEN  {}: {how}", finding.rule)),
            Verdict::Skipped(lacks) => say(&format!("skipped {}: {lacks}", finding.rule)),
        }
    }
    let broken = findings.iter().filter(|f| matches!(f.verdict, Verdict::Broken(_))).count();
    say(&format!("{}: {kept} rules kept, {broken} broken", manifest.name));
    // Threads of the plugin may still be at something.
    std::process::exit(i32::from(broken > 0))
}

fn check(serve: &Serve) -> ExitCode {
    let config = load(serve);
    let catalogue = catalogue(serve, &config);
    let mut problems = config.problems.clone();
    problems.extend(settings::problems(&catalogue, &config));
    for problem in &problems {
        say(&problem.to_string());
    }
    let (errors, warnings): (Vec<_>, Vec<_>) =
        problems.iter().partition(|problem| problem.severity == Severity::Error);
    // A server does without a file that is not there.
    let sources = sources(serve);
    let mut missing = sources.files().filter(|file| !serve.config.is_empty() && !file.exists()).peekable();
    if !errors.is_empty() || missing.peek().is_some() {
        missing.for_each(|file| say(&format!("{}: error: there is no such file", file.display())));
        return ExitCode::FAILURE;
    }
    match warnings.len() {
        0 => say("the configuration can be used"),
        _ => say("the configuration can be used, but not what is warned of"),
    }
    ExitCode::SUCCESS
}

fn run(serve: &Serve) -> ExitCode {
    if serve.detached {
        let _ = cli::leave_terminal();
    }
    let config = load(serve);
    if let Some(problem) = &config.lost_guard {
        return fail(&format!("{problem}\nnot started: without this key the API would be open to others"));
    }
    let redactor = Redactor::new(config.secrets.clone());
    let log = match log::init(&config.log, redactor) {
        Ok(log) => log,
        Err(error) => return fail(&format!("the log cannot be opened: {error}")),
    };
    let told = log.clone();
    panic::report(Threads::All, move |line| told.write(Level::Error, "host", line, &[]));
    let platform = cli::platform();
    log.write(Level::Info, "", "patchbay", &[("platform", &platform), ("version", cli::VERSION)]);
    if let Some(path) = config.config_path() {
        log.write(Level::Info, "", "config", &[("path", &path.display().to_string())]);
    }
    for problem in &config.problems {
        log.write(Level::Warn, "config", &problem.to_string(), &[]);
    }
    let catalogue = catalogue(serve, &config);
    for refused in &catalogue.refused {
        let path = refused.path.display().to_string();
        log.write(Level::Error, "plugins", &refused.reason, &[("file", &path)]);
    }
    let copies = match tempfile::tempdir() {
        Ok(copies) => copies,
        Err(error) => return fail(&format!("no temporary folder: {error}")),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime cannot start: {error}")),
    };
    let app = App::new(config, sources(serve), log.clone(), catalogue, copies.path().to_owned());
    let end = runtime.block_on(async {
        let (Ok(mut terminated), Ok(mut interrupted)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return End::Exit(1);
        };
        tokio::spawn(std::sync::Arc::clone(&app).run());
        app.start_servers().await;
        patchbay::http::listen(&app).await;
        patchbay::watch::start(&app);
        tokio::spawn(std::sync::Arc::clone(&app).keep_going());
        tokio::select! {
            _ = terminated.recv() => {
                let _ = writeln!(std::io::stderr(), "exit with signal: terminated");
                End::Exit(0)
            }
            _ = interrupted.recv() => {
                let _ = writeln!(std::io::stderr(), "exit with signal: interrupt");
                End::Exit(0)
            }
            end = app.ended() => end,
        }
    });
    app.stop();
    runtime.shutdown_timeout(Duration::from_millis(200));
    log.flush(Duration::from_millis(500));
    drop(copies);
    match end {
        End::Exit(code) => std::process::exit(code.into()),
        End::Restart => {
            let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("patchbay"));
            let error = Process::new(program).args(std::env::args_os().skip(1)).exec();
            fail(&format!("cannot restart: {error}"))
        }
    }
}
