//! Role `routes`: `frame.jpeg`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use patchbay_sdk::api::Host;
use patchbay_sdk::api::message::{BoundTrack, Connection, Consume, ConsumerCounters, Media, Response};
use patchbay_sdk::media::Unit;
use patchbay_sdk::reader::{self, Item, Reader};
use patchbay_sdk::routes::{Body, Reply, Request};
use patchbay_sdk::server::{Consumer, Context};
use patchbay_sdk::{Class, Config, Error, Plugin, Routes, track};
use tokio::time::timeout;

use crate::config::{Settings, Wish};
use crate::decode::CODECS;
use crate::error::SnapshotError;
use crate::shots::{Shot, Shots};

/// A source that has not shown a key picture by then has none. Home Assistant gives up after 10 s.
const LIMIT: Duration = Duration::from_millis(9_500);

/// A source that has not told its tracks by then has none: the host says why.
const TRACKS_LIMIT_MS: u64 = 9_000;

/// The plugin.
pub struct Snapshot {
    shots: Arc<Shots>,
}

impl Plugin for Snapshot {
    fn start(config: Config) -> Result<Self, Error> {
        Ok(Self { shots: Arc::new(Shots::new(config.parse::<Settings>()?)) })
    }
}

impl Routes for Snapshot {
    async fn request(self: Arc<Self>, request: Request, body: Body) -> Result<Reply, Error> {
        let wish = Wish::parse(&request.query);
        if let Err(error) = wish.look.check() {
            return Ok(Reply::text(400, &SnapshotError::Picture(error).to_string()));
        }
        let kept = wish.cache.and_then(|limit| self.shots.stored(&wish.stream, wish.look, limit));
        if let Some(kept) = kept {
            return Ok(answer(kept.file, kept.arrival_ns));
        }
        let context = body.context();
        let mut consumer = context.consume(&Consume {
            stream: wish.stream.clone(),
            medias: vec![Media { kind: "video".to_owned(), codecs: CODECS.map(str::to_owned).to_vec() }],
            connection: Connection { format_name: "image".to_owned(), ..Connection::default() },
            timeout_ms: TRACKS_LIMIT_MS,
            class: "still".to_owned(),
            ..Consume::default()
        })?;
        let found = timeout(LIMIT, self.shot(&context, &mut consumer, &wish)).await;
        let shot = match found.unwrap_or_else(|_| Err(Error::timeout("snapshot: no key frame within 10 s"))) {
            Ok(shot) => shot,
            Err(error) if error.class == Class::NotFound && error.message == "stream not found" => {
                return Ok(Reply::text(404, &error.message));
            }
            Err(error) => return Ok(nothing(&wish.stream, &error)),
        };
        let made = timeout(LIMIT, self.shots.file(&shot, wish.look)).await;
        let file = match made {
            Ok(Ok(file)) => file,
            Ok(Err(error)) => {
                tracing::warn!(stream = wish.stream, "{error}");
                return Ok(Reply::text(500, &error.to_string()));
            }
            Err(_) => return Ok(Reply::text(500, "snapshot: the picture was not decoded within 10 s")),
        };
        if wish.cache.is_some() {
            self.shots.store(&wish.stream, wish.look, file.clone(), shot.arrival_ns);
        }
        self.shots.counted.snapshots.fetch_add(1, Ordering::Relaxed);
        context.metrics(&self.shots.counters())?;
        consumer.counters(&ConsumerCounters { bytes: file.len() as u64, packets: 1, drops: 0 });
        Ok(answer(file, shot.arrival_ns))
    }
}

impl Snapshot {
    /// The stream's newest key picture, or the newest of all when that one is too old.
    async fn shot(
        &self,
        context: &Context,
        consumer: &mut Consumer,
        wish: &Wish,
    ) -> Result<Arc<Shot>, Error> {
        let host = context.host();
        let mut bound = consumer.next().await?;
        loop {
            let Some(track) = bound.tracks.first().cloned() else {
                bound = consumer.next().await?;
                continue;
            };
            let shot = tokio::select! {
                shot = self.newest_key(host, &track) => shot,
                // The stream has another source now.
                other = consumer.next() => {
                    bound = other?;
                    continue;
                }
            };
            let shot = match shot {
                Ok(shot) => shot,
                // The source has ended: the stream tells what comes next, in time or not.
                Err(error) if error.class == Class::Eof => {
                    bound = consumer.next().await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            return match wish.max_age {
                Some(limit) if age(shot.arrival_ns) > limit => {
                    self.shots.newest(host, &track, shot, limit).await
                }
                _ => Ok(shot),
            };
        }
    }

    /// The newest key picture, which is waited for when there is none yet.
    async fn newest_key(&self, host: Host, track: &BoundTrack) -> Result<Arc<Shot>, Error> {
        let (source, id) = (track.source, track.info.id);
        // Made before looking, so that no key unit comes unseen in between.
        let mut reader = None;
        loop {
            if let Ok(newest) = host.locate_newest_key(source, id) {
                let kept = self.shots.get((source, id, false));
                if let Some(kept) = kept.filter(|kept| kept.sequence == newest) {
                    return Ok(kept);
                }
                if let Some(placed) = reader::newest_key(host, source, id)? {
                    let info = host.track_config(source, id, placed.epoch)?;
                    let parameters = track::parameters(&info)
                        .ok_or_else(|| Error::unsupported(format!("snapshot: codec {}", info.codec)))?;
                    let shot = Shot::new(parameters, placed.unit, placed.sequence, placed.arrival_ns);
                    return Ok(self.shots.keep((source, id, false), shot));
                }
            }
            match &mut reader {
                None => reader = Some(Reader::live(host, source, &[(id, track.epoch)], Some(id))?),
                Some(reader) => {
                    while !matches!(reader.next().await?, Item::Unit { unit: Unit { key: true, .. }, .. }) {}
                }
            }
        }
    }
}

/// How long ago something arrived.
pub(crate) fn age(arrival_ns: u64) -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now =
        u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0);
    Duration::from_nanos(now.saturating_sub(arrival_ns))
}

/// Header fields of every answer.
fn headers(more: &[(&str, String)]) -> Vec<(String, String)> {
    let fixed = [("cache-control", "no-cache"), ("connection", "close"), ("pragma", "no-cache")];
    let fixed = fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    fixed.chain(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone()))).collect()
}

fn answer(file: Bytes, arrival_ns: u64) -> Reply {
    let age = age(arrival_ns).as_millis().to_string();
    let headers = headers(&[("content-type", "image/jpeg".to_owned()), ("x-frame-age-ms", age)]);
    Reply::Whole(Response { status: 200, headers }, file)
}

/// No picture: an empty answer, which Home Assistant shows as such (it logs a fault for each other status).
fn nothing(stream: &str, error: &Error) -> Reply {
    tracing::warn!(stream, "{error}");
    let reason: String = error.message.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).collect();
    Reply::Whole(Response { status: 200, headers: headers(&[("x-error", reason)]) }, Bytes::new())
}
