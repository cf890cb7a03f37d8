//! What goes on without a viewer: preloaded streams, and streams that are pushed to URLs.

use super::*;
use crate::redact::mask_userinfo;

/// After the start of the server.
const AFTER_START: Duration = Duration::from_secs(1);

/// Between two tries.
const AGAIN: Duration = Duration::from_secs(5);

/// What is kept going.
#[derive(Default)]
pub(super) struct Kept {
    preloads: BTreeMap<String, Preload>,
    /// By stream and URL.
    pushes: HashMap<(String, String), Stops>,
}

struct Preload {
    query: String,
    /// Its consumer now; 0: none.
    consumer: Arc<AtomicU64>,
    _stops: Stops,
}

/// A task that ends with this.
struct Stops(tokio::task::AbortHandle);

impl Drop for Stops {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A consumer of the host that leaves with this.
struct Claim {
    app: Arc<App>,
    id: u64,
    shown: Arc<AtomicU64>,
    news: mpsc::UnboundedReceiver<ConsumerNews>,
}

impl Claim {
    /// Attaches and waits for tracks.
    async fn of(app: &Arc<App>, stream: &str, query: &str, shown: &Arc<AtomicU64>) -> Result<Self, String> {
        let connection =
            message::Connection { format_name: "preload".to_owned(), ..message::Connection::default() };
        let query = if query.is_empty() { "video&audio" } else { query };
        let consume = Consume {
            stream: stream.to_owned(),
            query: query.to_owned(),
            connection,
            class: "background".to_owned(),
            ..Consume::default()
        };
        let (id, news) = app.attach(&consume).map_err(|_| format!("streams: stream not found: {stream}"))?;
        shown.store(id, Ordering::Relaxed);
        let mut claim = Self { app: Arc::clone(app), id, shown: Arc::clone(shown), news };
        match claim.news.recv().await {
            Some(ConsumerNews::Bound(_)) => Ok(claim),
            Some(ConsumerNews::Refused(ended)) => Err(ended.message),
            None => Err("the stream has ended".to_owned()),
        }
    }

    /// Completes when it gets nothing any more.
    async fn over(&mut self) -> String {
        while let Some(news) = self.news.recv().await {
            if let ConsumerNews::Refused(ended) = news {
                return ended.message;
            }
        }
        "the stream has ended".to_owned()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shown.store(0, Ordering::Relaxed);
        self.app.detach(self.id);
    }
}

impl App {
    /// Begins what the configuration keeps going, a second after the start.
    pub async fn keep_going(self: Arc<Self>) {
        tokio::time::sleep(AFTER_START).await;
        let config = self.config();
        self.keep(None, &config);
    }

    /// Takes over changes of `preload:` and `publish:`.
    pub(super) fn keep(self: &Arc<Self>, old: Option<&Config>, new: &Config) {
        let preloads = old.map(|old| old.preload.as_slice()).unwrap_or_default();
        for (name, _) in preloads.iter().filter(|entry| !new.preload.contains(entry)) {
            self.stop_preload(name);
        }
        for (name, query) in new.preload.iter().filter(|entry| !preloads.contains(entry)) {
            self.begin_preload(name, query, None);
        }
        let pushes = |config: &Config| {
            let each = config.publish.iter();
            each.flat_map(|(stream, urls)| urls.iter().map(|url| (stream.clone(), url.clone())))
                .collect::<Vec<_>>()
        };
        let (old, new) = (old.map(pushes).unwrap_or_default(), pushes(new));
        for gone in old.iter().filter(|push| !new.contains(push)) {
            self.kept.lock().pushes.remove(gone);
        }
        for (stream, url) in new.iter().filter(|push| !old.contains(push)) {
            if let Err(error) = self.push(stream, url) {
                self.log.write(Level::Error, "streams", "publish", &[("error", &error), ("stream", stream)]);
            }
        }
    }

    /// Keeps a stream going for good, once its source has answered. An error is what the source says.
    pub async fn preload(self: &Arc<Self>, name: &str, query: &str) -> Result<(), String> {
        let shown = Arc::new(AtomicU64::new(0));
        let claim = Claim::of(self, name, query, &shown).await?;
        self.begin_preload(name, query, Some((claim, shown)));
        Ok(())
    }

    fn begin_preload(self: &Arc<Self>, name: &str, query: &str, claim: Option<(Claim, Arc<AtomicU64>)>) {
        let (claim, shown) = match claim {
            Some((claim, shown)) => (Some(claim), shown),
            None => (None, Arc::default()),
        };
        let (app, consumer) = (Arc::clone(self), Arc::clone(&shown));
        let (stream, filters) = (name.to_owned(), query.to_owned());
        let task = tokio::spawn(async move {
            let mut claim = claim.map(Ok);
            let mut level = Level::Error;
            loop {
                let claimed = match claim.take() {
                    Some(claimed) => claimed,
                    None => Claim::of(&app, &stream, &filters, &shown).await,
                };
                let error = match claimed {
                    Ok(mut claim) => {
                        level = Level::Error;
                        claim.over().await
                    }
                    Err(error) => error,
                };
                // The first failure is news, the ones behind it are not.
                app.log.write(level, "streams", "preload", &[("error", &error), ("stream", &stream)]);
                level = Level::Debug;
                tokio::time::sleep(AGAIN).await;
            }
        });
        let preload = Preload { query: query.to_owned(), consumer, _stops: Stops(task.abort_handle()) };
        self.kept.lock().preloads.insert(name.to_owned(), preload);
    }

    /// Lets a preloaded stream go; false when it is none.
    pub fn stop_preload(&self, name: &str) -> bool {
        let preload = self.kept.lock().preloads.remove(name);
        preload.is_some()
    }

    /// What `GET /api/preload` says.
    pub fn preloads(&self) -> serde_json::Value {
        let kept: Vec<(String, String, u64)> = {
            let kept = self.kept.lock();
            let each = kept.preloads.iter();
            each.map(|(name, p)| (name.clone(), p.query.clone(), p.consumer.load(Ordering::Relaxed)))
                .collect()
        };
        let core = self.core.lock();
        let entries = kept.into_iter().map(|(name, query, id)| {
            let query = if query.is_empty() { "video&audio".to_owned() } else { query };
            let consumer = core.consumer_info(id, &|_| Vec::new()).unwrap_or_default();
            (name, serde_json::json!({"consumer": consumer, "query": query}))
        });
        serde_json::Value::Object(entries.collect())
    }

    /// Pushes a stream to a URL until the process ends or the configuration says otherwise. An error: no plugin can.
    pub fn push(self: &Arc<Self>, stream: &str, url: &str) -> Result<(), String> {
        let scheme = url.split(':').next().unwrap_or(url).to_owned();
        let (catalogue, config) = (self.catalogue(), self.config());
        let known = catalogue.sink(&scheme).filter(|(_, s)| config.allows_module(s.module.as_deref()));
        if known.is_none() {
            return Err(format!("streams: unsupported scheme: {url}"));
        }
        let (app, name, to) = (Arc::clone(self), stream.to_owned(), url.to_owned());
        let task = tokio::spawn(async move {
            let shown = mask_userinfo(&to).into_owned();
            app.log.write(Level::Info, "streams", "publish", &[("stream", &name), ("url", &shown)]);
            let mut level = Level::Warn;
            loop {
                let began = Instant::now();
                let error = app.push_once(&scheme, &name, &to).await;
                if began.elapsed() > 2 * AGAIN {
                    level = Level::Warn;
                }
                let error = app.log.redactor().redact(&error).into_owned();
                let fields = [("error", error.as_str()), ("stream", &name), ("url", &shown)];
                app.log.write(level, "streams", "publish ended, it is begun again", &fields);
                level = Level::Debug;
                tokio::time::sleep(AGAIN).await;
            }
        });
        let key = (stream.to_owned(), url.to_owned());
        self.kept.lock().pushes.insert(key, Stops(task.abort_handle()));
        Ok(())
    }

    /// One session of a sink; why it ended.
    async fn push_once(self: &Arc<Self>, scheme: &str, stream: &str, url: &str) -> String {
        let catalogue = self.catalogue();
        let Some((entry, _)) = catalogue.sink(scheme) else {
            return format!("streams: unsupported scheme: {scheme}");
        };
        let name = entry.manifest.name.clone();
        let app = Arc::clone(self);
        // Starting a plugin takes its time.
        let started = tokio::task::spawn_blocking(move || app.instance(&name)).await;
        let instance = match started {
            Ok(Ok(instance)) => instance,
            Ok(Err(error)) => return error,
            Err(error) => return error.to_string(),
        };
        let (ended, over) = tokio::sync::oneshot::channel();
        let session = self.session(&instance, Target::Sink(Arc::new(Mutex::new(Some(ended)))));
        let _close = Closes { instance: Arc::clone(&instance), session };
        let open = message::SinkOpen { url: url.to_owned(), stream: stream.to_owned() };
        instance.open(session, role::SINK, &open);
        over.await.map_or_else(|_| "the plugin has ended".to_owned(), |ended| ended.message)
    }
}

/// A session that ends with this.
struct Closes {
    instance: Arc<Instance>,
    session: u64,
}

impl Drop for Closes {
    fn drop(&mut self) {
        self.instance.close(self.session);
    }
}
