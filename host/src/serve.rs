//! A client on an output: one consumer of a stream, one viewer of a mux run.

use std::sync::Arc;
use std::time::Duration;

use patchbay_plugin_api::message::{Bound, Class, Ended, History, Serve};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::app::{App, ConsumerNews};
use crate::hub::{Piece, Viewer};

/// How often counters are written down.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// How often, and how many times, a successor of a dead plugin's run is asked for.
const AGAIN_EVERY: Duration = Duration::from_millis(200);
const AGAIN: u32 = 50;

/// What a client gets next.
#[derive(Debug)]
pub enum Next {
    /// A chunk.
    Data(Piece),
    /// The stream changed: another content type, whose init chunk comes next.
    Mime(String),
}

/// A served client. Dropping it ends its claim.
pub struct Served {
    app: Arc<App>,
    consumer: u64,
    news: mpsc::UnboundedReceiver<ConsumerNews>,
    viewer: Viewer,
    key: String,
    bound: Bound,
    serve: Serve,
    counted: Instant,
    until: Option<Instant>,
    /// Why the stream gives nothing more, when that is why it ended.
    pub refused: Option<Ended>,
}

impl Served {
    /// Waits for the stream and its mux run. The error's text is the API's.
    pub async fn start(app: &Arc<App>, mut serve: Serve) -> Result<Self, Ended> {
        if serve.history == History::Keyframe && serve.consume.class.is_empty() {
            "still".clone_into(&mut serve.consume.class);
        }
        let (consumer, mut news) = app.attach(&serve.consume).map_err(|error| Ended {
            class: Class::NotFound,
            message: error.to_string(),
            retry_after_ms: 0,
        })?;
        let guard = Claim { app: Arc::clone(app), consumer };
        let bound = match news.recv().await {
            Some(ConsumerNews::Bound(bound)) => bound,
            Some(ConsumerNews::Refused(ended)) => return Err(ended),
            None => return Err(Ended::default()),
        };
        let (viewer, key) = view(app, &serve, &bound).await?;
        std::mem::forget(guard);
        let until = (serve.duration_s > 0).then(|| Instant::now() + Duration::from_secs(serve.duration_s));
        Ok(Self {
            app: Arc::clone(app),
            consumer,
            news,
            viewer,
            key,
            bound,
            serve,
            counted: Instant::now(),
            until,
            refused: None,
        })
    }

    /// Content type with codecs.
    pub fn mime(&self) -> &str {
        &self.viewer.mime
    }

    /// What comes next; `None` at the end.
    pub async fn next(&mut self) -> Option<Next> {
        if self.counted.elapsed() >= COUNT_EVERY {
            self.counted = Instant::now();
            self.app.count(self.consumer, self.viewer.bytes, self.viewer.chunks, self.viewer.drops);
        }
        let until = self.until;
        let limit = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            news = self.news.recv() => match news? {
                ConsumerNews::Bound(bound) => self.rebind(&bound).await,
                ConsumerNews::Refused(ended) => self.over(ended),
            },
            piece = self.viewer.next() => match piece {
                Some(piece) => Some(Next::Data(piece)),
                // A publisher has left: its next one is shown to the same client.
                None if self.viewer.source_is_gone() => match self.news.recv().await? {
                    ConsumerNews::Bound(bound) => self.rebind(&bound).await,
                    ConsumerNews::Refused(ended) => self.over(ended),
                },
                None if self.viewer.plugin_died() => self.again().await,
                None => None,
            },
            () = limit => None,
        }
    }

    fn over(&mut self, ended: Ended) -> Option<Next> {
        self.refused = Some(ended);
        None
    }

    /// The process that muxed has died: the client goes on with its successor's run.
    async fn again(&mut self) -> Option<Next> {
        for _ in 0..AGAIN {
            tokio::time::sleep(AGAIN_EVERY).await;
            match view(&self.app, &self.serve, &self.bound).await {
                Ok((viewer, key)) => {
                    self.viewer = viewer;
                    self.key = key;
                    return Some(Next::Mime(self.viewer.mime.clone()));
                }
                // Removed or switched off meanwhile.
                Err(ended) if ended.class == Class::Unsupported => return self.over(ended),
                Err(_) => {}
            }
        }
        None
    }

    async fn rebind(&mut self, bound: &Bound) -> Option<Next> {
        self.bound = bound.clone();
        let key = crate::hub::key(&self.serve.format, &bound.tracks, &self.serve.options);
        if key == self.key {
            return Box::pin(self.next()).await;
        }
        let (viewer, key) = view(&self.app, &self.serve, bound).await.ok()?;
        self.viewer = viewer;
        self.key = key;
        Some(Next::Mime(self.viewer.mime.clone()))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.app.detach(self.consumer);
    }
}

struct Claim {
    app: Arc<App>,
    consumer: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.app.detach(self.consumer);
    }
}

async fn view(app: &Arc<App>, serve: &Serve, bound: &Bound) -> Result<(Viewer, String), Ended> {
    let run = app.mux(&serve.format, &bound.tracks, &serve.options)?;
    let viewer = run.join(serve.history).await?;
    Ok((viewer, run.key.clone()))
}
