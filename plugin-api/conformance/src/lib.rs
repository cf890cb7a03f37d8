//! The rules that every plugin keeps, and a host that checks them through the raw ABI.
//!
//! ```text
//! Kit::start ─▶ rules of every plugin ─▶ rules of each role in its manifest ─▶ Kit::stop ─▶ findings
//! ```
//!
//! | start here | for |
//! |---|---|
//! | [`check`] | running all rules |
//! | [`Material`] | what the plugin may be given: a URL that plays, bytes of its format |
//! | [`Finding`] | one rule and what became of it |
//!
//! One plugin per process: its host table is global. Nothing here waits longer than a named limit.

mod host;
mod routes;
mod rules;
mod talk;
mod talkers;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use patchbay_plugin_api::{Code, Manifest, Plugin};

/// Longest call into a plugin.
pub const CALL_LIMIT: Duration = Duration::from_secs(1);

/// What a plugin is tried with. Rules whose material is missing are skipped.
#[derive(Debug, Clone, Default)]
pub struct Material {
    /// A URL that plays (sources) or brings bytes (transports).
    pub url: Option<String>,
    /// A URL whose login is refused.
    pub refused: Option<String>,
    /// Bytes of a format that it demuxes.
    pub input: Option<Vec<u8>>,
    /// Its settings as YAML.
    pub settings: String,
    /// How long it may take to start; nothing: [`CALL_LIMIT`]. A process has longer than a library.
    pub start_limit: Option<Duration>,
}

/// What became of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Kept.
    Kept,
    /// Broken, and how.
    Broken(String),
    /// Not tried, and what was missing.
    Skipped(&'static str),
}

/// One rule and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the rule: `source: units are valid`.
    pub rule: String,
    /// What became of it.
    pub verdict: Verdict,
}

/// Runs every rule that fits the manifest. The plugin must not have been started; it is stopped at the end.
pub fn check(plugin: Plugin, manifest: &Manifest, material: &Material) -> Vec<Finding> {
    let mut kit = Kit { caller: Caller::new(plugin), findings: Vec::new(), next: 1 };
    if kit.start(manifest, material) {
        rules::every(&mut kit);
        for role in &manifest.roles {
            match role.as_str() {
                "source" => rules::source(&mut kit, manifest, material),
                "demuxer" => rules::demuxer(&mut kit, manifest, material),
                "transport" => rules::transport(&mut kit, material),
                "output" => rules::output(&mut kit, manifest),
                "server" => rules::server(&mut kit),
                "routes" => routes::routes(&mut kit, manifest),
                "sink" => talkers::sink(&mut kit, manifest),
                "service" => talkers::service(&mut kit, manifest),
                _ => {}
            }
        }
        kit.stop();
    }
    kit.findings
}

/// Whether no rule is broken.
pub fn passed(findings: &[Finding]) -> bool {
    !findings.iter().any(|finding| matches!(finding.verdict, Verdict::Broken(_)))
}

/// The plugin under test and what was found.
struct Kit {
    caller: Caller,
    findings: Vec<Finding>,
    next: u64,
}

impl Kit {
    /// A new session id.
    fn session(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn note(&mut self, rule: &str, verdict: Verdict) {
        self.findings.push(Finding { rule: rule.to_owned(), verdict });
    }

    /// Notes a rule: kept, or broken with the text.
    fn rule(&mut self, rule: &str, outcome: Result<(), String>) {
        self.note(rule, outcome.err().map_or(Verdict::Kept, Verdict::Broken));
    }

    fn start(&mut self, manifest: &Manifest, material: &Material) -> bool {
        let threads = manifest.threads.max(1);
        // Servers that listen somewhere by default are to do so on a free port of this machine.
        let listen = manifest.listen.as_ref().map_or(String::new(), |_| "listen: 127.0.0.1:0\n".to_owned());
        let settings = if material.settings.is_empty() { listen } else { material.settings.clone() };
        let limit = material.start_limit.unwrap_or(CALL_LIMIT);
        let outcome = self.caller.call_within(limit, move |plugin| host::start(plugin, threads, &settings));
        let outcome = outcome.and_then(|code| match code {
            Code::Ok => Ok(()),
            code => Err(format!("start returned {code:?}")),
        });
        let started = outcome.is_ok();
        self.rule("plugin: starts", outcome);
        started
    }

    fn stop(&mut self) {
        let outcome = self.caller.call(Plugin::stop).map(drop);
        self.rule("plugin: stops within a second", outcome);
        let late = host::after_end();
        self.rule(
            "plugin: says nothing after ENDED",
            if late.is_empty() { Ok(()) } else { Err(late.join(", ")) },
        );
    }
}

type Job = Box<dyn FnOnce(&Plugin) + Send>;

/// The one thread that calls the plugin, as in a host.
struct Caller {
    jobs: mpsc::Sender<Job>,
}

impl Caller {
    fn new(plugin: Plugin) -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::spawn(move || {
            while let Ok(job) = queue.recv() {
                job(&plugin);
            }
        });
        Self { jobs }
    }

    /// Calls the plugin. An error when it does not return in time: every later call fails too.
    fn call<T: Send + 'static>(&self, call: impl FnOnce(&Plugin) -> T + Send + 'static) -> Result<T, String> {
        self.call_within(CALL_LIMIT, call)
    }

    fn call_within<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl FnOnce(&Plugin) -> T + Send + 'static,
    ) -> Result<T, String> {
        let (answer, outcome) = mpsc::channel();
        let job: Job = Box::new(move |plugin| drop(answer.send(call(plugin))));
        let _ = self.jobs.send(job);
        outcome.recv_timeout(limit).map_err(|_| format!("a call did not return within {} s", limit.as_secs()))
    }

    fn open(&self, session: u64, role: u32, request: &impl serde::Serialize) -> Result<Code, String> {
        self.open_bytes(session, role, serde_json::to_vec(request).unwrap_or_default())
    }

    fn open_bytes(&self, session: u64, role: u32, request: Vec<u8>) -> Result<Code, String> {
        host::opened(session);
        self.call(move |plugin| plugin.open(session, role, &request))
    }

    fn command(&self, session: u64, kind: u32, payload: &impl serde::Serialize) -> Result<Code, String> {
        self.command_bytes(session, kind, serde_json::to_vec(payload).unwrap_or_default())
    }

    fn command_bytes(&self, session: u64, kind: u32, payload: Vec<u8>) -> Result<Code, String> {
        self.call(move |plugin| plugin.command(session, kind, &payload))
    }

    fn close(&self, session: u64) -> Result<Code, String> {
        self.call(move |plugin| plugin.close(session))
    }
}
