//! One run per stream, tracks and container, whatever the number of viewers.
//!
//! A run reads the rings, cuts parts, hands each to the host once, and keeps the window that playlists are written from. It ends
//! when nobody has asked for anything for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use patchbay_media::Parameters;
use patchbay_sdk::api::Host;
use patchbay_sdk::api::message::Consume;
use patchbay_sdk::blob::Blob;
use patchbay_sdk::{Class, Error};
use tokio::sync::watch;
use tokio::time::Instant;

use super::master;
use super::run::Run;
use super::segmenter::{Container, Out, Plan};
use super::window::Window;

/// Runs that there may be at once.
const MAX_STREAMS: usize = 512;
/// Requests that may wait at once, of all runs.
const MAX_WAITING: usize = 1024;
/// A run ends so long after the last request, or three target durations if that is more. go2rtc's time of a session.
const IDLE: Duration = Duration::from_secs(5);

/// What makes two viewers share a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Name of the stream.
    pub stream: String,
    /// Codec filters of the request.
    pub tracks: String,
    /// Container.
    pub container: Container,
}

/// All runs of the plugin.
#[derive(Default)]
pub struct Streams {
    /// The newest run of each key last.
    list: Mutex<Vec<(Key, Arc<Stream>)>>,
    waiting: Arc<AtomicUsize>,
}

impl Streams {
    /// The run for `key`; started with `consume` when there is none.
    pub fn get(self: &Streams, host: Host, key: Key, consume: Consume) -> Result<Arc<Stream>, Error> {
        let mut list = self.list.lock();
        list.retain(|(_, stream)| !stream.is_over());
        if let Some((_, stream)) = list.iter().rev().find(|(k, stream)| *k == key && !stream.is_unfit()) {
            stream.touch();
            return Ok(Arc::clone(stream));
        }
        if list.len() >= MAX_STREAMS {
            return Err(Error::new(Class::Busy, "too many streams are watched by HLS"));
        }
        let stream = Arc::new(Stream::new(key.container, Arc::clone(&self.waiting))?);
        list.push((key, Arc::clone(&stream)));
        let mut end = End { stream: Arc::clone(&stream), error: Error::protocol("hls: the run broke off") };
        patchbay_sdk::spawn(async move {
            let result = Run::new(host, Arc::clone(&end.stream)).run(&consume).await;
            end.error = result.err().unwrap_or_else(|| Error::not_found("404 page not found"));
            drop(end);
        });
        Ok(stream)
    }

    /// The run with this name.
    pub fn find(&self, id: &str, container: Option<Container>) -> Option<Arc<Stream>> {
        let list = self.list.lock();
        let (_, found) = list.iter().find(|(_, stream)| stream.id == id && !stream.is_over())?;
        container.is_none_or(|wanted| wanted == found.container).then(|| Arc::clone(found))
    }
}

/// Tells requests when a run is over, also when it panicked.
struct End {
    stream: Arc<Stream>,
    error: Error,
}

impl Drop for End {
    fn drop(&mut self) {
        tracing::debug!(id = self.stream.id, "ended: {}", self.error);
        self.stream.end(self.error.clone());
    }
}

/// What requests see of a run.
pub struct Stream {
    /// Its name in URLs, of this run alone, so that no cache mixes two.
    pub id: String,
    /// What carries the media.
    pub container: Container,
    state: Mutex<State>,
    news: watch::Sender<()>,
    waiting: Arc<AtomicUsize>,
}

struct State {
    window: Option<Window<Arc<Blob>>>,
    tracks: Vec<Parameters>,
    over: Option<Error>,
    /// New viewers are better off with a new run.
    unfit: bool,
    touched: Instant,
    waiting: usize,
}

/// Why there is no answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum NoAnswer {
    /// Too many wait already, or it has not come in time.
    Busy,
    /// The run is over.
    Over(Error),
}

impl Stream {
    fn new(container: Container, waiting: Arc<AtomicUsize>) -> Result<Self, Error> {
        let state = State {
            window: None,
            tracks: Vec::new(),
            over: None,
            unfit: false,
            touched: Instant::now(),
            waiting: 0,
        };
        Ok(Self {
            id: random_id()?,
            container,
            state: Mutex::new(state),
            news: watch::channel(()).0,
            waiting,
        })
    }

    /// Somebody asked: it goes on.
    pub fn touch(&self) {
        self.state.lock().touched = Instant::now();
    }

    fn is_over(&self) -> bool {
        self.state.lock().over.is_some()
    }

    fn is_unfit(&self) -> bool {
        self.state.lock().unfit
    }

    /// What the multivariant playlist says of the tracks.
    pub(super) fn show_tracks(&self, tracks: &[Parameters]) {
        tracks.clone_into(&mut self.state.lock().tracks);
    }

    /// Media will come, cut as planned.
    pub(super) fn open(&self, plan: Plan) {
        self.state.lock().window = Some(Window::new(&self.id, self.container, plan));
    }

    /// Shows what came out of the segmenter, and wakes who waits for it.
    pub(super) fn publish(&self, made: Vec<(Out, Option<Arc<Blob>>)>, unfit: bool) {
        let mut state = self.state.lock();
        state.unfit |= unfit;
        let Some(window) = &mut state.window else { return };
        for (out, blob) in made {
            match (out, blob) {
                (Out::Init(_), Some(blob)) => window.init(blob),
                (Out::Part(part), Some(blob)) => window.part(&part, blob),
                (Out::SegmentEnd, _) => window.segment_end(),
                (Out::Discontinuity, _) => window.discontinuity(),
                _ => {}
            }
        }
        drop(state);
        self.news.send_replace(());
    }

    fn end(&self, error: Error) {
        let mut state = self.state.lock();
        state.over = Some(error);
        // Blobs go with it.
        state.window = None;
        drop(state);
        self.news.send_replace(());
    }

    /// Nobody has asked for a while.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        let target = state.window.as_ref().map_or(0, |window| window.plan().target_duration);
        let limit = IDLE.max(Duration::from_secs(3 * target.unsigned_abs()));
        state.waiting == 0 && state.touched.elapsed() > limit
    }

    /// The multivariant playlist, whose media playlist's URI begins with `prefix`.
    pub fn master(&self, prefix: &str) -> Option<String> {
        let state = self.state.lock();
        let window = state.window.as_ref().filter(|window| window.bandwidth().is_some())?;
        let uri = format!("{prefix}playlist.m3u8?id={}", self.id);
        Some(master::text(&state.tracks, window.bandwidth(), window.plan().frame, &uri))
    }

    /// Waits until `look` finds something in the window: at most `limit`, or three target durations.
    pub async fn when<T>(
        &self,
        limit: Option<Duration>,
        look: impl Fn(&Window<Arc<Blob>>) -> Option<T>,
    ) -> Result<T, NoAnswer> {
        let mut news = self.news.subscribe();
        let began = Instant::now();
        let mut seat = None;
        loop {
            let limit = {
                news.borrow_and_update();
                let mut state = self.state.lock();
                state.touched = Instant::now();
                if let Some(error) = &state.over {
                    return Err(NoAnswer::Over(error.clone()));
                }
                if let Some(found) = state.window.as_ref().and_then(&look) {
                    return Ok(found);
                }
                if seat.is_none() {
                    if self.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
                        return Err(NoAnswer::Busy);
                    }
                    state.waiting += 1;
                    seat = Some(Seat::new(self));
                }
                let target = state.window.as_ref().map_or(5, |window| window.plan().target_duration);
                limit.unwrap_or(Duration::from_secs(3 * target.unsigned_abs()))
            };
            if tokio::time::timeout_at(began + limit, news.changed()).await.is_err() {
                return Err(NoAnswer::Busy);
            }
        }
    }
}

/// A request that waits.
struct Seat<'a>(&'a Stream);

impl<'a> Seat<'a> {
    fn new(stream: &'a Stream) -> Self {
        stream.waiting.fetch_add(1, Ordering::Relaxed);
        Self(stream)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.0.state.lock();
        state.waiting = state.waiting.saturating_sub(1);
        state.touched = Instant::now();
    }
}

/// 8 letters and digits, as go2rtc's.
fn random_id() -> Result<String, Error> {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| Error::protocol(format!("no random bytes: {error}")))?;
    Ok(bytes
        .iter()
        .filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()))
        .map(|b| char::from(*b))
        .collect())
}
