//! Plugins: started on first use, restarted, failed, ended.

use std::sync::{Once, Weak};

use tokio::time::MissedTickBehavior;

use super::*;
use crate::sandbox::Grants;

/// How long the start waits for servers to listen.
const SERVERS_WAIT: Duration = Duration::from_secs(2);

/// Between two looks at plugins.
const WATCH: Duration = Duration::from_millis(100);

/// Pings go out every half second.
const WATCHES_PER_PING: u64 = 5;

/// A look that comes so much later than it should says nothing of others.
const LATE: Duration = Duration::from_millis(500);

impl App {
    /// Looks after plugins that do not answer, and starts those again whose process has ended.
    pub(super) async fn watch(app: Weak<Self>) {
        let mut beat = tokio::time::interval(WATCH);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        for turn in 0_u64.. {
            beat.tick().await;
            let Some(app) = app.upgrade() else { return };
            // A host that was late itself cannot tell who was silent.
            let late = last.elapsed() > WATCH + LATE;
            last = Instant::now();
            let instances = app.running();
            for instance in &instances {
                instance.supervise(late, turn.is_multiple_of(WATCHES_PER_PING));
                if instance.check(late) {
                    app.fail(instance);
                }
            }
            for instance in instances.iter().filter(|i| i.is_isolated() && i.failure().is_some()) {
                app.revive(instance);
            }
        }
    }

    /// A server whose process died listens again as soon as it may.
    pub(super) fn revive(self: &Arc<Self>, dead: &Arc<Instance>) {
        let name = &dead.manifest.name;
        if !matches!(self.instances.lock().get(name), Some(Ok(now)) if Arc::ptr_eq(now, dead)) {
            return;
        }
        let policy = self.policy(name);
        let due = self.deaths.lock().get(name).is_none_or(|d| d.may_start(self.now(), &policy).is_ok());
        if due && let Some(entry) = self.catalogue().by_name(name).filter(|entry| entry.enabled) {
            self.open_server(entry);
        }
    }

    /// How a plugin's process is started again.
    pub(super) fn policy(&self, name: &str) -> Policy {
        let restart = self.config().plugin(name).restart;
        let policy = Policy::parse(restart.backoff.as_deref(), restart.breaker.as_deref());
        policy.unwrap_or_else(|error| {
            self.log.write(Level::Warn, name, &format!("restart: {error}"), &[]);
            Policy::default()
        })
    }

    /// A plugin has not started, or its own process has ended: whatever it ran is over. A process may be started again.
    pub(crate) fn died(&self, instance: &Arc<Instance>) {
        let name = &instance.manifest.name;
        if instance.is_isolated() {
            let policy = self.policy(name);
            // The wait before the next start counts from its last sign of life.
            let at = self.now().saturating_sub(instance.silence());
            self.deaths.lock().entry(name.clone()).or_default().died(at, &policy);
            bridge::forget(instance.ctx);
        }
        self.blobs.forget_all(instance.ctx);
        self.fail(instance);
    }

    /// A session on a plugin of no use is over before it began.
    pub(crate) fn refuse(&self, instance: &Arc<Instance>, session: u64) {
        let why = instance.failure().unwrap_or_else(|| "its process has ended".to_owned());
        self.end_failed(instance, &[session], &why);
    }

    fn end_failed(&self, instance: &Arc<Instance>, ids: &[u64], why: &str) {
        // A process of its own is started again, what failed in this one stays failed.
        let class = if instance.is_isolated() { Class::Timeout } else { Class::Unsupported };
        let message = format!("plugin {}: {why}", instance.manifest.name);
        let ended = Ended { class, message, retry_after_ms: 0 };
        let fed: Vec<u64> = {
            let sessions = self.sessions.read();
            let source = |id: &u64| match sessions.get(&(instance.ctx, *id)) {
                Some(Target::Feed(source)) => Some(*source),
                Some(Target::Transport(chain)) => Some(chain.source),
                _ => None,
            };
            ids.iter().filter_map(source).collect()
        };
        for id in ids {
            self.end(instance, *id, &ended);
        }
        if instance.is_isolated() {
            let name = &instance.manifest.name;
            let policy = self.policy(name);
            let due = self.deaths.lock().get(name).map(|deaths| deaths.may_start(self.now(), &policy));
            let wait = match due {
                Some(Err(Some(wait))) => wait,
                // The breaker is open: as often as the stream's own policy says.
                Some(Err(None)) => return,
                _ => Duration::ZERO,
            };
            let now = self.now();
            let mut core = self.core.lock();
            for source in fed {
                core.again(now, source, wait);
            }
            drop(core);
            self.news.notify_one();
        }
    }

    /// How often a plugin's process has died.
    pub fn deaths(&self, name: &str) -> u64 {
        self.deaths.lock().get(name).map_or(0, |deaths| deaths.total)
    }

    /// A plugin is of no more use: whatever it ran is over.
    pub(super) fn fail(&self, instance: &Arc<Instance>) {
        let why = instance.failure().unwrap_or_default();
        self.log.write(Level::Error, &instance.manifest.name, &why, &[]);
        let ids: Vec<u64> =
            self.sessions.read().keys().filter(|(ctx, _)| *ctx == instance.ctx).map(|(_, id)| *id).collect();
        self.end_failed(instance, &ids, &why);
    }

    /// Starts servers whose `listen` is set, and waits a little until each is bound or has said why not.
    pub async fn start_servers(self: &Arc<Self>) {
        let expected = self.open_servers();
        let end = Instant::now() + SERVERS_WAIT;
        while Instant::now() < end && self.settled.lock().len() < expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn open_servers(self: &Arc<Self>) -> usize {
        let catalogue = self.catalogue();
        let servers = catalogue.entries.iter().filter(|entry| entry.enabled);
        servers.filter(|entry| self.open_server(entry)).count()
    }

    /// Opens a plugin's server role when its `listen` is set.
    pub(super) fn open_server(self: &Arc<Self>, entry: &Entry) -> bool {
        let Some(listen) = &entry.manifest.listen else { return false };
        let name = &entry.manifest.name;
        if !self.config().allows_module(listen.module.as_deref()) {
            return false;
        }
        let config = self.config();
        let section = config.section(name).and_then(|section| section.get("listen"));
        let address =
            section.map_or_else(|| listen.default.clone(), |node| node.text().unwrap_or_default().to_owned());
        if address.is_empty() {
            return false;
        }
        match self.instance(name) {
            Ok(instance) => {
                let session = self.session(&instance, Target::Server);
                instance.open(session, role::SERVER, &message::ServerOpen {});
                true
            }
            Err(reason) => {
                self.log.write(Level::Error, name, &reason, &[]);
                false
            }
        }
    }

    /// Ends all plugins.
    pub fn stop(&self) {
        let threads: Vec<_> =
            self.running().into_iter().map(|instance| std::thread::spawn(move || instance.stop())).collect();
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// The running plugin of a name; starts it on first use, and again when its own process died.
    pub fn instance(self: &Arc<Self>, name: &str) -> Result<Arc<Instance>, String> {
        let catalogue = self.catalogue();
        let entry = catalogue.by_name(name).ok_or_else(|| format!("there is no plugin {name}"))?;
        if !entry.enabled {
            return Err(format!("plugin {name} is switched off"));
        }
        let settings = self.config().plugin(name);
        let isolated = self.is_isolated(entry);
        let mut instances = self.instances.lock();
        if let Some(known) = instances.get(name) {
            let failure = match known {
                Ok(instance) => match instance.failure() {
                    None => return Ok(Arc::clone(instance)),
                    Some(failure) => failure,
                },
                Err(reason) => reason.clone(),
            };
            let failure =
                format!("plugin {name}: {}", failure.trim_start_matches(&format!("plugin {name}: ")));
            if !isolated {
                return Err(failure);
            }
            let deaths = self.deaths.lock();
            match deaths.get(name).map_or(Ok(()), |d| d.may_start(self.now(), &self.policy(name))) {
                Ok(()) => {}
                Err(Some(wait)) => {
                    return Err(format!("{failure}; it is started again in {:.1} s", wait.as_secs_f64()));
                }
                Err(None) => {
                    return Err(format!(
                        "{failure}; it has died too often and stays down until it is started anew: POST /api/plugins/{name} {{\"restart\": true}}"
                    ));
                }
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u32;
        let wanted = settings.threads.map_or(entry.manifest.threads.max(1).min(cores), u32::from);
        let ctx = self.next_instance.fetch_add(1, Ordering::Relaxed);
        let weak = Arc::downgrade(self);
        let failure = Arc::new(move |session: u64, code: Code| {
            if let Some(app) = weak.upgrade() {
                app.open_failed(ctx, session, code);
            }
        });
        let level = number(self.log.level(name));
        let yaml = self.config().plugin_yaml(name);
        let isolation = isolated.then(|| {
            let state = self.state.lock();
            let own = state.iter().filter(|((plugin, _), _)| plugin == name);
            let state = own.map(|((_, key), value)| (key.clone(), value.clone())).collect();
            let memory = settings.limits.memory_bytes();
            self.deaths.lock().entry(name.to_owned()).or_default().started(self.now());
            let grants = Grants::of(&entry.manifest, entry.shipped, settings.allow.as_deref());
            Isolated { memory, state, grants, log: self.log.clone() }
        });
        let started = Instance::start(
            entry,
            ctx,
            bridge::table(),
            yaml,
            wanted,
            level,
            &self.copies,
            failure,
            isolation,
        )
        .map_err(|error| format!("plugin {name}: {error}"));
        if let Err(reason) = &started {
            self.log.write(Level::Error, name, reason, &[]);
        }
        instances.insert(name.to_owned(), started.clone());
        started
    }

    /// A plugin was loaded and takes calls.
    pub(crate) fn plugin_started(&self, instance: &Instance) {
        let name = &instance.manifest.name;
        self.tell_sandbox(instance);
        let process = instance.pid().map_or_else(String::new, |pid| pid.to_string());
        let fields = [("version", instance.manifest.version.as_str()), ("pid", &process)];
        let fields = if process.is_empty() { fields.get(..1) } else { Some(&fields[..]) };
        self.log.write(Level::Debug, name, "plugin started", fields.unwrap_or_default());
    }

    /// Says once for each plugin when it asks for more than it gets, and once at all when nothing can hold it.
    fn tell_sandbox(&self, instance: &Instance) {
        static UNHELD: Once = Once::new();
        let Some(in_force) = instance.in_force() else { return };
        let name = &instance.manifest.name;
        if let Some(complaint) = in_force.complaint(name).filter(|_| self.deaths(name) == 0) {
            self.log.write(Level::Warn, name, &complaint, &[]);
        }
        if in_force.landlock == 0 && !in_force.unrestricted {
            let why = format!("processes of plugins are not restricted by Landlock: {}", in_force.why);
            UNHELD.call_once(|| self.log.write(Level::Warn, "plugins", &why, &[]));
        }
    }

    /// Whether a plugin is to run in a process of its own.
    pub fn is_isolated(&self, entry: &Entry) -> bool {
        entry.is_isolated(self.config().plugin(&entry.manifest.name).isolation)
    }

    /// State of a plugin and why.
    pub fn plugin_state(&self, name: &str) -> (PluginState, Option<String>) {
        if self.catalogue().by_name(name).is_some_and(|entry| !entry.enabled) {
            return (PluginState::Off, None);
        }
        match self.instances.lock().get(name) {
            None => (PluginState::Ready, None),
            Some(Err(reason)) => (PluginState::Failed, Some(reason.clone())),
            Some(Ok(instance)) => match instance.failure() {
                Some(reason) => (PluginState::Failed, Some(reason)),
                None if instance.is_starting() => (PluginState::Starting, None),
                None => (PluginState::Running, None),
            },
        }
    }

    /// Started plugins.
    pub fn running(&self) -> Vec<Arc<Instance>> {
        let mut running: Vec<Arc<Instance>> =
            self.instances.lock().values().filter_map(|instance| instance.clone().ok()).collect();
        running.extend(self.draining.lock().iter().cloned());
        running
    }

    pub(super) fn open_failed(self: &Arc<Self>, ctx: u64, session: u64, code: Code) {
        let instance = self.running().into_iter().find(|instance| instance.ctx == ctx);
        let Some(instance) = instance else { return };
        let message = format!("plugin {}: {code}", instance.manifest.name);
        let ended = Ended { class: Class::Unsupported, message, retry_after_ms: 0 };
        self.end(&instance, session, &ended);
    }
}
