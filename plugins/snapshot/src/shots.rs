//! Decoded pictures: one decode per key picture and one file per size of it, however many ask.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use patchbay_picture::Picture;
use patchbay_sdk::api::message::Counters;
use patchbay_sdk::media::{Codec, Parameters, Unit, jpeg};
use tokio::sync::{OnceCell, Semaphore};

use crate::config::{Look, Settings};
use crate::decode::decode;
use crate::error::SnapshotError;
use crate::follow::Follower;

/// Most bytes of decoded pictures; the ones that nobody asked for longest are dropped above.
const MAX_BYTES: usize = 128 << 20;

/// Most files of one picture: more sizes at once are encoded for each request.
const MAX_FILES: usize = 8;

/// Pictures that nobody has asked for so long are dropped.
const IDLE: Duration = Duration::from_secs(30);

/// Most answers that `cache=` keeps, and their bytes.
const MAX_STORED: usize = 64;
const MAX_STORED_BYTES: usize = 64 << 20;

/// A track of a source, and whether it is its newest key picture or one that was decoded on to.
pub type Key = (u64, u32, bool);

/// What was counted.
#[derive(Debug, Default)]
pub struct Counted {
    /// Requests answered with a picture.
    pub snapshots: AtomicU64,
    /// Pictures decoded.
    pub decoded: AtomicU64,
    /// Files made of them.
    pub encoded: AtomicU64,
}

/// A picture of a stream.
pub struct Shot {
    /// Sequence number of its last unit.
    pub sequence: u64,
    /// When that arrived, ns of CLOCK_MONOTONIC.
    pub arrival_ns: u64,
    /// What its decoder needs.
    pub parameters: Parameters,
    /// Until it is decoded.
    unit: Mutex<Option<Unit>>,
    /// The picture as it came, when that is a JPEG file.
    file: Option<Bytes>,
    picture: OnceCell<Result<Arc<Picture>, SnapshotError>>,
    files: Mutex<Vec<(Look, Made)>>,
    bytes: AtomicUsize,
    used: Mutex<Instant>,
}

type Made = Arc<OnceCell<Result<Bytes, SnapshotError>>>;

impl Shot {
    /// The picture of a key unit.
    pub fn new(parameters: Parameters, unit: Unit, sequence: u64, arrival_ns: u64) -> Self {
        let file = (parameters.codec == Codec::Mjpeg).then(|| jpeg::huffman::complete(&unit.data));
        Self {
            sequence,
            arrival_ns,
            parameters,
            bytes: AtomicUsize::new(unit.data.len()),
            unit: Mutex::new(Some(unit)),
            file,
            picture: OnceCell::new(),
            files: Mutex::default(),
            used: Mutex::new(Instant::now()),
        }
    }

    /// A picture that is decoded already.
    pub fn decoded(parameters: Parameters, picture: Picture, sequence: u64, arrival_ns: u64) -> Self {
        Self {
            sequence,
            arrival_ns,
            parameters,
            bytes: AtomicUsize::new(picture.rgb.len()),
            unit: Mutex::default(),
            file: None,
            picture: OnceCell::new_with(Some(Ok(Arc::new(picture)))),
            files: Mutex::default(),
            used: Mutex::new(Instant::now()),
        }
    }
}

/// What `cache=` keeps.
#[derive(Clone)]
pub struct Stored {
    /// The file.
    pub file: Bytes,
    /// When its picture arrived, ns of CLOCK_MONOTONIC.
    pub arrival_ns: u64,
    at: Instant,
}

/// All pictures.
pub struct Shots {
    settings: Settings,
    /// What was counted.
    pub counted: Counted,
    workers: Semaphore,
    map: Mutex<HashMap<Key, Arc<Shot>>>,
    stored: Mutex<HashMap<(String, Look), Stored>>,
    pub(crate) followers: Mutex<HashMap<(u64, u32), Arc<Follower>>>,
    is_swept: AtomicBool,
}

impl Shots {
    /// None yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            workers: Semaphore::new(settings.workers.clamp(1, 16)),
            settings,
            counted: Counted::default(),
            map: Mutex::default(),
            stored: Mutex::default(),
            followers: Mutex::default(),
            is_swept: AtomicBool::new(false),
        }
    }

    /// The newest picture that is kept of a track.
    pub fn get(&self, key: Key) -> Option<Arc<Shot>> {
        self.map.lock().get(&key).cloned()
    }

    /// Keeps a picture, unless the one that is kept is as new: then that one is it.
    pub fn keep(self: &Arc<Self>, key: Key, shot: Shot) -> Arc<Shot> {
        let shot = {
            let mut map = self.map.lock();
            match map.get(&key) {
                Some(kept) if kept.sequence >= shot.sequence => Arc::clone(kept),
                _ => {
                    let shot = Arc::new(shot);
                    map.insert(key, Arc::clone(&shot));
                    shot
                }
            }
        };
        self.sweep();
        shot
    }

    /// A JPEG file of a picture.
    pub async fn file(&self, shot: &Arc<Shot>, look: Look) -> Result<Bytes, SnapshotError> {
        *shot.used.lock() = Instant::now();
        if let Some(file) = shot.file.as_ref().filter(|_| look.is_plain()) {
            return Ok(file.clone());
        }
        let made: Made = {
            let mut files = shot.files.lock();
            match files.iter().find(|(known, _)| *known == look) {
                Some((_, made)) => Arc::clone(made),
                None => {
                    let made = Made::default();
                    if files.len() < MAX_FILES {
                        files.push((look, Arc::clone(&made)));
                    }
                    made
                }
            }
        };
        made.get_or_init(|| self.make(shot, look)).await.clone()
    }

    async fn make(&self, shot: &Arc<Shot>, look: Look) -> Result<Bytes, SnapshotError> {
        let picture = shot.picture.get_or_init(|| self.picture(shot)).await.clone()?;
        let quality = self.settings.quality;
        let file = self.work(move || file_of(&picture, look, quality)).await?;
        self.counted.encoded.fetch_add(1, Ordering::Relaxed);
        shot.bytes.fetch_add(file.len(), Ordering::Relaxed);
        self.limit();
        Ok(file)
    }

    async fn picture(&self, shot: &Arc<Shot>) -> Result<Arc<Picture>, SnapshotError> {
        let (parameters, ffmpeg) = (shot.parameters.clone(), self.settings.ffmpeg.clone());
        // Kept until it is decoded: the one who asked first may leave in the middle.
        let unit = shot.unit.lock().clone().ok_or(SnapshotError::Ending)?;
        self.counted.decoded.fetch_add(1, Ordering::Relaxed);
        let picture = self.work(move || decode(&parameters, &unit, &ffmpeg)).await?;
        *shot.unit.lock() = None;
        shot.bytes.store(picture.rgb.len() + shot.file.as_ref().map_or(0, Bytes::len), Ordering::Relaxed);
        Ok(Arc::new(picture))
    }

    /// Runs a heavy step; only so many at once.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
    ) -> Result<T, SnapshotError> {
        let _permit = self.workers.acquire().await.map_err(|_| SnapshotError::Ending)?;
        patchbay_sdk::blocking(step)
            .await
            .map_err(|error| SnapshotError::Stopped { reason: error.message })?
    }

    /// What `cache=` kept, if that was not longer ago.
    pub fn stored(&self, stream: &str, look: Look, limit: Duration) -> Option<Stored> {
        let stored = self.stored.lock();
        stored.get(&(stream.to_owned(), look)).filter(|stored| stored.at.elapsed() < limit).cloned()
    }

    /// Keeps an answer for `cache=`.
    pub fn store(&self, stream: &str, look: Look, file: Bytes, arrival_ns: u64) {
        let mut stored = self.stored.lock();
        let answer = Stored { file, arrival_ns, at: Instant::now() };
        stored.insert((stream.to_owned(), look), answer);
        while stored.len() > MAX_STORED
            || (stored.len() > 1
                && stored.values().map(|stored| stored.file.len()).sum::<usize>() > MAX_STORED_BYTES)
        {
            let Some(oldest) = stored.iter().min_by_key(|(_, stored)| stored.at).map(|(key, _)| key.clone())
            else {
                return;
            };
            stored.remove(&oldest);
        }
    }

    /// Counters for `/metrics`.
    pub fn counters(&self) -> Counters {
        let Counted { snapshots, decoded, encoded } = &self.counted;
        let counters =
            [("snapshots", snapshots), ("pictures_decoded", decoded), ("pictures_encoded", encoded)];
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            counters: BTreeMap::from(counters.map(|(name, counter)| (name.to_owned(), value(counter)))),
        }
    }

    /// Drops what is too much.
    fn limit(&self) {
        let mut map = self.map.lock();
        while map.len() > 1
            && map.values().map(|shot| shot.bytes.load(Ordering::Relaxed)).sum::<usize>() > MAX_BYTES
        {
            let Some(oldest) = map.iter().min_by_key(|(_, shot)| *shot.used.lock()).map(|(key, _)| *key)
            else {
                return;
            };
            map.remove(&oldest);
        }
    }

    /// Starts the task that drops what nobody asks for, unless it runs. It ends when nothing is kept.
    fn sweep(self: &Arc<Self>) {
        self.limit();
        if self.is_swept.swap(true, Ordering::AcqRel) {
            return;
        }
        let shots = Arc::clone(self);
        patchbay_sdk::spawn(async move {
            loop {
                tokio::time::sleep(IDLE / 3).await;
                shots.followers.lock().retain(|_, follower| follower.idle() < IDLE);
                let mut map = shots.map.lock();
                map.retain(|_, shot| shot.used.lock().elapsed() < IDLE);
                if map.is_empty() && shots.followers.lock().is_empty() {
                    // With the lock held: whoever keeps a picture next starts the task anew.
                    shots.is_swept.store(false, Ordering::Release);
                    return;
                }
            }
        });
    }
}

fn file_of(picture: &Picture, look: Look, default_quality: u8) -> Result<Bytes, SnapshotError> {
    let (width, height) = picture.proportional(look.width, look.height);
    let quality = if look.quality == 0 { default_quality } else { look.quality };
    Ok(picture.scaled(width, height)?.turned(look.turns).to_jpeg(quality)?)
}
