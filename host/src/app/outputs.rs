//! What plugins make for viewers: muxed outputs and answers of routes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use patchbay_plugin_api::message::{self, Class, Ended, role};
use tokio::sync::mpsc;

use super::{App, RouteEvent, Target};
use crate::hub::Run;
use crate::instance::Instance;

impl App {
    /// The mux run for these tracks; started when there is none.
    pub fn mux(
        self: &Arc<Self>,
        format: &str,
        tracks: &[message::BoundTrack],
        options: &BTreeMap<String, String>,
    ) -> Result<Arc<Run>, Ended> {
        let failed = |message: String| Ended { class: Class::Unsupported, message, retry_after_ms: 0 };
        let catalogue = self.catalogue();
        let entry = catalogue.output(format).ok_or_else(|| failed(format!("no plugin makes {format}")))?;
        // A process of its own is started again.
        let class = if self.is_isolated(entry) { Class::Timeout } else { Class::Unsupported };
        let instance = self.instance(&entry.manifest.name);
        let instance = instance.map_err(|message| Ended { class, message, retry_after_ms: 0 })?;
        let key = crate::hub::key(format, tracks, options);
        let mut runs = self.runs.lock();
        if let Some(run) = runs.get(&key).filter(|run| !run.is_ended()) {
            if run.instance.ctx == instance.ctx {
                return Ok(Arc::clone(run));
            }
            // Its plugin was replaced: it goes on for those it has.
            let run = Arc::clone(run);
            runs.insert(format!("{key} of {}", run.instance.ctx), run);
        }
        let session = self.next_session.fetch_add(1, Ordering::Relaxed);
        let run = Run::new(key.clone(), Arc::clone(&instance), session);
        self.sessions.write().insert((instance.ctx, session), Target::Output(Arc::clone(&run)));
        let open = message::OutputOpen {
            format: format.to_owned(),
            tracks: tracks.to_vec(),
            options: options.clone(),
        };
        self.show(&instance, tracks);
        instance.open(session, role::OUTPUT, &open);
        runs.insert(key, Arc::clone(&run));
        Ok(run)
    }

    /// Lets a plugin in a process of its own read the sources of these tracks.
    pub(super) fn show(&self, instance: &Instance, tracks: &[message::BoundTrack]) {
        for track in tracks {
            if let Some(source) = self.source(track.source) {
                instance.show(&source);
            }
        }
    }

    /// Asks a plugin's route.
    pub fn route(
        self: &Arc<Self>,
        plugin: &str,
        open: &message::RouteOpen,
    ) -> Result<(Arc<Instance>, u64, mpsc::UnboundedReceiver<RouteEvent>), String> {
        let instance = self.instance(plugin)?;
        let (sender, events) = mpsc::unbounded_channel();
        let session = self.session(&instance, Target::Route(sender));
        instance.open(session, role::ROUTES, open);
        Ok((instance, session, events))
    }
}
