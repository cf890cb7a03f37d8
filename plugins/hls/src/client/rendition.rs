//! The task that follows one media playlist: playlists and segments in, units out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use patchbay_media::{Event, Parameters, Unit};
use patchbay_net::SourceUrl;
use patchbay_sdk::{Class, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use super::decrypt::{BLOCK, Decryptor};
use super::fetch::{Fetcher, failed};
use super::follow::{Follow, Step};
use super::playlist::{self, ByteRange, Encryption, MAX_PLAYLIST_BYTES, Map, Media, Playlist, Segment};
use super::segment::{MAX_SEGMENT_BYTES, Segments};

/// Failures in a row that are tolerated, of segments and of playlists.
const MAX_FAILURES: u32 = 3;
/// Between two tries after a failure.
const AGAIN: Duration = Duration::from_secs(1);
/// Bytes of units that may wait for their time, in all renditions; one more is always taken.
pub const MAX_WAITING_BYTES: usize = 32 << 20;

/// What a rendition says.
pub enum Message {
    /// Its tracks; again when they are others.
    Tracks {
        /// They.
        tracks: Vec<Parameters>,
        /// `hls/mpegts`, `hls/fmp4`, `hls/aac`.
        format: &'static str,
    },
    /// New parameters of a track from its next unit on.
    TrackChanged(usize, Parameters),
    /// A unit.
    Unit {
        /// Index in the tracks.
        track: usize,
        /// Discontinuity sequence number.
        period: u64,
        /// It.
        unit: Unit,
        /// Its place in what may wait.
        place: OwnedSemaphorePermit,
    },
    /// Nothing follows.
    End(Error),
}

/// Fetches a playlist. The URL is where it was found, behind redirects.
pub async fn load(fetcher: &Fetcher, url: &SourceUrl) -> Result<(Playlist, SourceUrl), Error> {
    let mut response = fetcher.get(url, None).await?;
    let text = response.bytes(MAX_PLAYLIST_BYTES).await.map_err(failed)?;
    if response.is_truncated() {
        return Err(Error::eof("hls: the server closed in the middle of a playlist"));
    }
    let read = playlist::parse(&text).map_err(|error| Error::protocol(format!("hls: playlist: {error}")))?;
    Ok((read, response.url))
}

/// One media playlist and what is done with it.
pub struct Rendition {
    /// HTTP.
    pub fetcher: Arc<Fetcher>,
    /// Of the playlist.
    pub url: SourceUrl,
    /// Where its units go.
    pub out: mpsc::Sender<Message>,
    /// Bytes that may wait.
    pub waiting: Arc<Semaphore>,
}

/// The other side is gone.
struct Gone;

enum Failure {
    Gone,
    Error(Error),
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Rendition {
    /// Runs to the end of the playlist, with what was loaded first when it was.
    pub async fn run(self, first: Option<Media>) {
        let out = self.out.clone();
        if let Err(Failure::Error(error)) = self.follow(first).await {
            let _ = out.send(Message::End(error)).await;
        }
    }

    async fn follow(self, first: Option<Media>) -> Result<(), Failure> {
        let mut follow = Follow::default();
        let mut base = self.url.clone();
        let media = match first {
            Some(media) => media,
            None => self.reload(&self.url.clone(), &mut base).await?,
        };
        follow.take(&media, Duration::ZERO);
        let mut reader =
            Reader { rendition: &self, segments: Segments::default(), map: None, key: None, period: 0 };
        let (mut loaded, mut failures, mut reloads) = (Instant::now(), 0, 0);
        loop {
            match follow.step() {
                Step::Segment { number, segment, fresh } => {
                    match reader.segment(&base, number, &segment, fresh).await {
                        Ok(()) => failures = 0,
                        Err(Failure::Error(error)) if error.class != Class::Unsupported => {
                            failures += 1;
                            tracing::debug!(number, "a segment is missed: {error}");
                            if failures > MAX_FAILURES {
                                return Err(error.into());
                            }
                            follow.missed();
                        }
                        Err(failure) => return Err(failure),
                    }
                }
                Step::Reload { after, block } => {
                    sleep(after.saturating_sub(loaded.elapsed())).await;
                    let url = match block {
                        Some(number) => waiting_url(&base, number)?,
                        None => self.url.clone(),
                    };
                    match self.reload(&url, &mut base).await {
                        Ok(media) => {
                            follow.take(&media, loaded.elapsed());
                            reloads = 0;
                        }
                        Err(_) if block.is_some() => follow.stop_blocking(),
                        Err(error) => {
                            reloads += 1;
                            if reloads > MAX_FAILURES {
                                return Err(error.into());
                            }
                            sleep(AGAIN).await;
                        }
                    }
                    loaded = Instant::now();
                }
                Step::End => {
                    reader.segments.end().map_err(broken)?;
                    reader.drain().await?;
                    return Err(Error::eof("the end of the playlist").into());
                }
                Step::Dead => return Err(Error::timeout("hls: the playlist does not go on").into()),
            }
        }
    }

    async fn reload(&self, url: &SourceUrl, base: &mut SourceUrl) -> Result<Media, Error> {
        let (read, found) = load(&self.fetcher, url).await?;
        if url == &self.url {
            *base = found;
        }
        match read {
            Playlist::Media(media) => Ok(media),
            Playlist::Master(_) => Err(Error::protocol("hls: a playlist of playlists where segments belong")),
        }
    }
}

/// The playlist's URL that is answered once it has the segment `number`.
fn waiting_url(base: &SourceUrl, number: u64) -> Result<SourceUrl, Error> {
    let path = base.path_and_query();
    let sign = if path.contains('?') { '&' } else { '?' };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    base.join(&format!("{path}{sign}_HLS_msn={number}"))
        .map_err(|error| Error::protocol(format!("hls: {error}")))
}

/// Reads segments of a rendition.
struct Reader<'a> {
    rendition: &'a Rendition,
    segments: Segments,
    /// The init segment that the container has.
    map: Option<(Arc<Map>, Bytes)>,
    /// The newest key and its URI.
    key: Option<(String, [u8; BLOCK])>,
    period: u64,
}

impl Reader<'_> {
    async fn segment(
        &mut self,
        base: &SourceUrl,
        number: u64,
        segment: &Segment,
        fresh: bool,
    ) -> Result<(), Failure> {
        let known = self.map.as_ref().map(|(map, _)| map);
        let other_map = segment.map.as_ref().is_some_and(|map| known != Some(map));
        if fresh || other_map {
            self.segments.restart().map_err(broken)?;
            self.drain().await?;
        }
        self.period = segment.discontinuity;
        if let Some(map) = segment.map.as_ref().filter(|_| fresh || other_map) {
            let data = match &self.map {
                Some((known, data)) if known == map => data.clone(),
                _ => {
                    let url = resolve(base, &map.uri)?;
                    let key = self.key(base, map.encryption.as_ref(), number).await?;
                    let mut body = Body::open(&self.rendition.fetcher, &url, map.range, key).await?;
                    let mut data = Vec::new();
                    while let Some(piece) = body.next().await? {
                        data.extend_from_slice(&piece);
                    }
                    Bytes::from(data)
                }
            };
            self.segments.push(&data).map_err(broken)?;
            self.map = Some((Arc::clone(map), data));
        }
        let url = resolve(base, &segment.uri)?;
        let key = self.key(base, segment.encryption.as_ref(), number).await?;
        let mut body = Body::open(&self.rendition.fetcher, &url, segment.range, key).await?;
        loop {
            match body.next().await {
                Ok(Some(piece)) => self.segments.push(&piece).map_err(broken)?,
                Ok(None) => break,
                Err(error) => {
                    // What came of it is played; it must not run into the next one.
                    self.drain().await?;
                    return Err(error.into());
                }
            }
            self.drain().await?;
        }
        self.segments.segment_end().map_err(broken)?;
        self.drain().await?;
        Ok(())
    }

    /// What decrypts the segment `number`.
    async fn key(
        &mut self,
        base: &SourceUrl,
        encryption: Option<&Arc<Encryption>>,
        number: u64,
    ) -> Result<Option<Decryptor>, Error> {
        let Some(encryption) = encryption else { return Ok(None) };
        if encryption.method != "AES-128" {
            let text = format!("hls: segments encrypted with {} cannot be played", encryption.method);
            return Err(Error::unsupported(text));
        }
        let key = match &self.key {
            Some((uri, key)) if *uri == encryption.uri => *key,
            _ => {
                let mut response = self.rendition.fetcher.get(&resolve(base, &encryption.uri)?, None).await?;
                let data = response.bytes(BLOCK).await.map_err(failed)?;
                let key = <[u8; BLOCK]>::try_from(data.as_ref())
                    .map_err(|_| Error::protocol("hls: the key of a segment has not 16 bytes"))?;
                self.key = Some((encryption.uri.clone(), key));
                key
            }
        };
        Ok(Some(Decryptor::new(key, encryption.iv.unwrap_or(u128::from(number)))))
    }

    /// Sends what came out.
    async fn drain(&mut self) -> Result<(), Gone> {
        while let Some(event) = self.segments.event() {
            let message = match event {
                Event::Tracks(tracks) => Message::Tracks { tracks, format: self.segments.format() },
                Event::TrackChanged { track, parameters } => Message::TrackChanged(track, parameters),
                Event::NeedData | Event::End => continue,
                Event::Unit { track, unit } => {
                    let most = MAX_WAITING_BYTES >> 10;
                    let size = u32::try_from((unit.data.len() >> 10).clamp(1, most)).unwrap_or(1);
                    let place = Arc::clone(&self.rendition.waiting).acquire_many_owned(size).await;
                    Message::Unit { track, period: self.period, unit, place: place.map_err(|_| Gone)? }
                }
            };
            self.rendition.out.send(message).await.map_err(|_| Gone)?;
        }
        Ok(())
    }
}

/// The body of a segment.
struct Body {
    response: patchbay_net::http::Response,
    /// Bytes in front that were not asked for, of a server without ranges.
    skip: u64,
    /// Bytes of the range that have not come yet.
    left: Option<u64>,
    total: usize,
    decryptor: Option<Decryptor>,
}

impl Body {
    async fn open(
        fetcher: &Fetcher,
        url: &SourceUrl,
        range: Option<ByteRange>,
        decryptor: Option<Decryptor>,
    ) -> Result<Self, Error> {
        let response = fetcher.get(url, range).await?;
        let whole = response.head.status == 200;
        let skip = range.filter(|_| whole).map_or(0, |range| range.offset);
        if skip > MAX_SEGMENT_BYTES as u64 {
            return Err(Error::unsupported(
                "hls: the server sends whole files instead of the ranges in its playlist",
            ));
        }
        Ok(Self { response, skip, left: range.map(|range| range.length), total: 0, decryptor })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let piece = self.raw().await?;
            let Some(decryptor) = &mut self.decryptor else { return Ok(piece) };
            let plain = match piece {
                Some(piece) => decryptor.push(&piece),
                None => {
                    let end = self.decryptor.take().map(Decryptor::end).transpose();
                    let rest = end.map_err(|error| Error::protocol(format!("hls: {error}")))?;
                    return Ok(rest.filter(|rest| !rest.is_empty()));
                }
            };
            if !plain.is_empty() {
                return Ok(Some(plain));
            }
        }
    }

    /// As it comes.
    async fn raw(&mut self) -> Result<Option<Bytes>, Error> {
        while self.left != Some(0) {
            let Some(mut piece) = self.response.chunk().await.map_err(failed)? else {
                return match self.response.is_truncated() {
                    true => Err(Error::eof("hls: the server closed in the middle of a segment")),
                    false => Ok(None),
                };
            };
            let skipped = self.skip.min(piece.len() as u64);
            self.skip -= skipped;
            let mut piece = piece.split_off(usize::try_from(skipped).unwrap_or(0));
            if let Some(left) = &mut self.left {
                piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= piece.len() as u64;
            }
            self.total += piece.len();
            if self.total > MAX_SEGMENT_BYTES {
                return Err(Error::protocol("hls: a segment is larger than 50 MiB"));
            }
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }
}

fn resolve(base: &SourceUrl, uri: &str) -> Result<SourceUrl, Error> {
    base.join(uri).map_err(|error| Error::protocol(format!("hls: an address in the playlist: {error}")))
}

fn broken(error: super::segment::SegmentError) -> Error {
    Error::protocol(format!("hls: {error}"))
}
