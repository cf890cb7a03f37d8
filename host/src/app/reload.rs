//! Changes of the configuration and of plugin files while everything runs. Only what changed is touched.

use super::*;
use crate::catalogue::Rules;
use crate::config::file::content_hash;
use crate::config::{Problem, Severity, Variables};

/// How long a server may take to stop listening.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// What happened to a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
    /// Its file is another one.
    Replaced,
    On,
    Off,
    /// Its settings are others.
    Settings,
}

/// How what a plugin runs is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retire {
    /// At once, for good.
    Stop,
    /// At once; whatever it ran is begun again with its successor.
    Restart,
    /// By itself: what runs goes on, what is new goes to its successor.
    Drain,
}

impl App {
    /// The configuration files, and hashes of what they held when they were read.
    pub(crate) fn config_files(&self) -> Vec<(PathBuf, Option<u64>)> {
        self.files.lock().clone()
    }

    pub(super) fn remember_files(&self) {
        let read = |path: &std::path::Path| {
            (path.to_owned(), std::fs::read(path).ok().map(|bytes| content_hash(&bytes)))
        };
        *self.files.lock() = self.sources_of_config.files().map(read).collect();
    }

    /// Looks at the plugin folders again.
    pub fn rescan(self: &Arc<Self>) {
        self.change(None);
    }

    /// Reads the configuration again. With an error in it, which is logged, everything stays as it was.
    pub fn reload(self: &Arc<Self>) -> Result<(), Vec<Problem>> {
        let gone = self.files.lock().iter().find(|(path, was)| was.is_some() && !path.exists()).cloned();
        if let Some((path, _)) = gone {
            let message = "the file is gone; what it said stays in force".to_owned();
            let source = path.display().to_string();
            let problem =
                Problem { severity: Severity::Error, source, line: 0, column: 0, message, hint: None };
            return Err(self.refuse_config(vec![problem]));
        }
        let config = Config::load(&self.sources_of_config, Variables::of_process());
        let (errors, warnings): (Vec<Problem>, Vec<Problem>) =
            config.problems.iter().cloned().partition(|problem| problem.severity == Severity::Error);
        if !errors.is_empty() {
            return Err(self.refuse_config(errors));
        }
        for problem in warnings.iter().filter(|warning| !self.config().problems.contains(warning)) {
            self.log.write(Level::Warn, "config", &problem.to_string(), &[]);
        }
        self.remember_files();
        *self.config_error.lock() = None;
        self.change(Some(config));
        Ok(())
    }

    fn refuse_config(&self, errors: Vec<Problem>) -> Vec<Problem> {
        for error in &errors {
            self.log.write(Level::Error, "config", &error.to_string(), &[]);
        }
        self.log.write(
            Level::Error,
            "config",
            "the edit is not taken over, what was before stays in force: mend the file",
            &[],
        );
        *self.config_error.lock() = errors.first().map(ToString::to_string);
        errors
    }

    /// Why the configuration file as it is now is not in force.
    pub fn config_error(&self) -> Option<String> {
        self.config_error.lock().clone()
    }

    /// The file holds what is in force (again).
    pub(crate) fn config_is_in_force(&self) {
        *self.config_error.lock() = None;
    }

    /// What would be wrong, or do nothing, if this were the configuration file.
    pub fn try_config(&self, text: &str) -> Vec<Problem> {
        let config = Config::load_with(&self.sources_of_config, Variables::of_process(), Some(text));
        let of_plugins = crate::check::problems(&self.catalogue(), &config);
        config.problems.into_iter().chain(of_plugins).collect()
    }

    /// What would make this no configuration file.
    pub fn check_config(&self, text: &str) -> Vec<Problem> {
        let config = Config::load_with(&self.sources_of_config, Variables::of_process(), Some(text));
        config.problems.into_iter().filter(|problem| problem.severity == Severity::Error).collect()
    }

    /// The file was written by this process, which did what the text says before.
    pub(crate) fn adopt_own_write(&self) {
        let _one_at_a_time = self.changing.lock();
        let config = Config::load(&self.sources_of_config, Variables::of_process());
        if !config.has_errors() {
            self.log.redactor().add(config.secrets.clone());
            self.config.store(Arc::new(config));
            self.remember_files();
        }
    }

    /// Switches a plugin on or off, here and in the configuration file. An error: why it was not saved.
    pub fn set_enabled(self: &Arc<Self>, name: &str, enabled: bool) -> Result<(), String> {
        let written = match &self.file {
            Some(file) => file.switch(name, enabled).map_err(|error| error.to_string()),
            None => Err("config file disabled".to_owned()),
        };
        let mut config = match &written {
            Ok(()) => Config::load(&self.sources_of_config, Variables::of_process()),
            Err(_) => (*self.config()).clone(),
        };
        if config.has_errors() && written.is_ok() {
            config = (*self.config()).clone();
        }
        config.set_enabled(name, enabled);
        self.remember_files();
        self.change(Some(config));
        written
    }

    /// Starts a plugin anew: whatever it runs is begun again.
    pub fn restart_plugin(self: &Arc<Self>, name: &str) {
        let _one_at_a_time = self.changing.lock();
        self.log.write(Level::Info, name, "plugin restarted by the user", &[]);
        self.retire(name, Retire::Restart, "is started anew");
        self.reopen(name);
    }

    /// Takes another configuration (or none: the same) and the plugin folders as they are now.
    fn change(self: &Arc<Self>, config: Option<Config>) {
        let _one_at_a_time = self.changing.lock();
        let (old_config, old) = (self.config(), self.catalogue());
        let config = config.map_or_else(|| Arc::clone(&old_config), Arc::new);
        let enabled = |name: &str| config.plugin(name).enabled.unwrap_or(true);
        let rules = Rules { enabled: &enabled, writable: config.app.writable_plugins };
        let new = Arc::new(old.rescan(&rules));
        self.log.redactor().add(config.secrets.clone());
        self.config.store(Arc::clone(&config));
        self.catalogue.store(Arc::clone(&new));
        self.core.lock().set_transcoders(transcoders(&new, &config));
        for refused in new.refused.iter().filter(|refused| !old.refused.contains(refused)) {
            let path = refused.path.display().to_string();
            self.log.write(Level::Error, "plugins", &refused.reason, &[("file", &path)]);
        }
        self.change_host(&old_config, &config);
        let changes = compare((&old, &old_config), (&new, &config));
        for (name, change) in &changes {
            let file = new.by_name(name).map(|entry| entry.path.display().to_string()).unwrap_or_default();
            let fields = [("file", file.as_str())];
            let (text, how) = match change {
                Change::Added => ("plugin added", None),
                Change::On => ("plugin switched on", None),
                Change::Off => ("plugin switched off", Some(Retire::Stop)),
                Change::Removed => ("plugin removed: what it runs goes on, nothing new", Some(Retire::Drain)),
                Change::Replaced => ("plugin replaced", Some(Retire::Restart)),
                Change::Settings => ("plugin has other settings", Some(Retire::Restart)),
            };
            self.log.write(
                Level::Info,
                name,
                text,
                fields.get(..usize::from(!file.is_empty())).unwrap_or(&[]),
            );
            // A process of its own starts again; what runs in this one goes on with the old code.
            let isolated = matches!(self.instances.lock().get(name), Some(Ok(i)) if i.is_isolated());
            let how = how.map(|how| if how == Retire::Restart && !isolated { Retire::Drain } else { how });
            match how {
                Some(Retire::Stop) => self.retire(name, Retire::Stop, "is switched off"),
                Some(how) => self.retire(name, how, "is replaced"),
                None => self.forget_failure(name),
            }
        }
        for (name, change) in &changes {
            if !matches!(change, Change::Off | Change::Removed) {
                self.reopen(name);
            }
        }
        self.change_streams(&old_config, &config);
        if let Some(runtime) = self.runtime.get() {
            let _within = runtime.enter();
            self.keep(Some(&old_config), &config);
        }
        if !changes.is_empty() {
            self.streams(|core, now| core.retry_unsupported(now));
        }
    }

    /// The host's own sections.
    fn change_host(self: &Arc<Self>, old: &Config, new: &Config) {
        let before = |config: &Config| {
            let api = &config.api;
            let api = (api.listen.clone(), api.unix_listen.clone(), api.tls_listen.clone());
            (api, config.app.modules.clone())
        };
        let ((api, modules), (new_api, new_modules)) = (before(old), before(new));
        let output = |config: &Config| {
            format!("{:?} {:?} {:?}", config.log.output, config.log.format, config.log.time)
        };
        for (what, differs) in [
            ("api: listen, unix_listen, tls_listen", api != new_api),
            ("app: modules", modules != new_modules),
            ("log: output, format, time", output(old) != output(new)),
        ] {
            if differs {
                let message = format!("{what}: the change takes effect after a restart (POST /api/restart)");
                self.log.write(Level::Warn, "config", &message, &[]);
            }
        }
        if old.log.level != new.log.level || old.log.modules != new.log.modules {
            self.log.set_level("", new.log.level);
            for module in old.log.modules.keys().chain(new.log.modules.keys()) {
                self.log.set_level(module, new.log.modules.get(module).copied().unwrap_or(new.log.level));
            }
            self.tell_levels();
        }
    }

    /// Changes how much a plugin (or with an empty name: everything else) writes into the log, until the next change of
    /// the configuration.
    pub fn set_log_level(&self, module: &str, level: Level) {
        self.log.set_level(module, level);
        self.tell_levels();
    }

    fn tell_levels(&self) {
        for instance in self.running() {
            let level = number(self.log.level(&instance.manifest.name));
            instance.command(0, command::LOG_LEVEL, &level);
        }
    }

    fn change_streams(self: &Arc<Self>, old: &Config, new: &Config) {
        for stream in &new.streams {
            let known = self.streams(|core, _| core.urls(&stream.name));
            if known.as_ref() != Some(&stream.sources) {
                let what = if known.is_some() { "stream changed" } else { "stream added" };
                self.log.write(Level::Info, "streams", what, &[("name", &stream.name)]);
                self.streams(|core, now| {
                    core.set_stream(&stream.name, &stream.sources);
                    core.renew(now, &stream.name);
                });
            }
        }
        for stream in &old.streams {
            if !new.streams.iter().any(|other| other.name == stream.name) {
                self.log.write(Level::Info, "streams", "stream removed", &[("name", &stream.name)]);
                self.streams(|core, now| {
                    core.remove_stream(&stream.name);
                    core.renew(now, &stream.name);
                });
            }
        }
    }

    /// A plugin that could not be started may be tried again.
    fn forget_failure(&self, name: &str) {
        if let Some(deaths) = self.deaths.lock().get_mut(name) {
            deaths.forgive();
        }
        let mut instances = self.instances.lock();
        if instances.get(name).is_some_and(|known| known.as_ref().map_or(true, |i| i.failure().is_some())) {
            instances.remove(name);
        }
    }

    /// Lets a server listen that should, and is not.
    fn reopen(self: &Arc<Self>, name: &str) {
        if let Some(entry) = self.catalogue().by_name(name).filter(|entry| entry.enabled) {
            self.open_server(entry);
        }
    }

    fn sessions_of(&self, ctx: u64) -> Vec<(u64, Target)> {
        let sessions = self.sessions.read();
        let own = sessions.iter().filter(|((of, _), _)| *of == ctx);
        own.map(|((_, id), target)| (*id, target.clone())).collect()
    }

    fn retire(self: &Arc<Self>, name: &str, how: Retire, why: &str) {
        if let Some(deaths) = self.deaths.lock().get_mut(name) {
            deaths.forgive();
        }
        let Some(known) = self.instances.lock().remove(name) else { return };
        let Ok(instance) = known else { return };
        if how == Retire::Drain && instance.failure().is_none() {
            self.stop_listening(&instance);
            self.draining.lock().push(instance);
            return;
        }
        let class = if how == Retire::Restart { Class::Timeout } else { Class::Unsupported };
        let ended = Ended { class, message: format!("plugin {name} {why}"), retry_after_ms: 0 };
        let mut fed = Vec::new();
        for (id, target) in self.sessions_of(instance.ctx) {
            match &target {
                Target::Feed(source) => fed.push(*source),
                Target::Transport(chain) => fed.push(chain.source),
                Target::Server => {
                    self.unlisten(instance.ctx, id);
                    drop(self.sessions.write().remove(&(instance.ctx, id)));
                }
                Target::Consumer(_) | Target::Talk(_) | Target::Call(_) => {
                    instance.command(id, command::REFUSED, &ended);
                }
                _ => {}
            }
            self.end(&instance, id, &ended);
            instance.close(id);
        }
        self.drive();
        if how == Retire::Restart {
            let now = self.now();
            let mut core = self.core.lock();
            fed.iter().for_each(|source| core.again(now, *source, Duration::ZERO));
        }
        if how == Retire::Stop && !instance.is_isolated() && instance.failure().is_none() {
            // Its code cannot leave this process: it is kept for when it is switched on again.
            self.instances.lock().insert(name.to_owned(), Ok(instance));
        } else {
            instance.stop();
            if instance.is_isolated() {
                bridge::forget(instance.ctx);
            }
        }
        self.news.notify_one();
    }

    /// Asks a server to leave its listeners to another one; one that does not is closed.
    fn stop_listening(&self, instance: &Arc<Instance>) {
        let listening = || {
            let own = self.sessions_of(instance.ctx).into_iter();
            own.filter(|(_, target)| matches!(target, Target::Server)).map(|(id, _)| id).collect::<Vec<_>>()
        };
        for id in listening() {
            instance.command_bytes(id, command::DRAIN, Bytes::from_static(b"{}"));
        }
        for closes in [true, false] {
            let end = Instant::now() + DRAIN_LIMIT;
            while Instant::now() < end && !listening().is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
            if closes {
                listening().into_iter().for_each(|id| instance.close(id));
            }
        }
    }

    /// Ends replaced plugins that have nothing left to do.
    pub(super) fn end_drained(&self) {
        let over: Vec<Arc<Instance>> = {
            let mut draining = self.draining.lock();
            let busy = |instance: &Arc<Instance>| {
                instance.failure().is_none() && !self.sessions_of(instance.ctx).is_empty()
            };
            let (keep, over) = draining.drain(..).partition(busy);
            *draining = keep;
            over
        };
        for instance in over {
            self.log.write(Level::Debug, &instance.manifest.name, "replaced plugin ended", &[]);
            // A call into it may not return.
            std::thread::spawn(move || {
                instance.stop();
                if instance.is_isolated() {
                    bridge::forget(instance.ctx);
                }
            });
        }
    }
}

/// What became of each plugin.
fn compare(old: (&Catalogue, &Config), new: (&Catalogue, &Config)) -> Vec<(String, Change)> {
    let mut changes = Vec::new();
    for entry in &old.0.entries {
        let name = &entry.manifest.name;
        let change = match new.0.by_name(name) {
            None if entry.enabled => Change::Removed,
            Some(now) if entry.enabled && !now.enabled => Change::Off,
            Some(now) if !entry.enabled && now.enabled => Change::On,
            Some(now) if now.enabled && (now.path != entry.path || now.stamp != entry.stamp) => {
                Change::Replaced
            }
            Some(now) if now.enabled && settings(old.1, name) != settings(new.1, name) => Change::Settings,
            _ => continue,
        };
        changes.push((name.clone(), change));
    }
    for entry in new.0.entries.iter().filter(|entry| entry.enabled) {
        if old.0.by_name(&entry.manifest.name).is_none() {
            changes.push((entry.manifest.name.clone(), Change::Added));
        }
    }
    changes
}

/// What a plugin is started with.
fn settings(config: &Config, name: &str) -> impl PartialEq {
    let plugin = config.plugin(name);
    (config.plugin_yaml(name), plugin.isolation, plugin.threads, plugin.limits, plugin.allow)
}
