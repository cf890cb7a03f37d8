//! Role `demuxer`: the session. It chooses what to play, and pushes units in real time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use patchbay_media::{Kind, Parameters, Unit};
use patchbay_mux::timeline::rescale;
use patchbay_net::SourceUrl;
use patchbay_sdk::api::message::Connection;
use patchbay_sdk::demuxer::{Data, Input, Request};
use patchbay_sdk::source::{Session, Tracks};
use patchbay_sdk::{Class, Demuxer, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::fetch::Fetcher;
use super::playlist::{MAX_PLAYLIST_BYTES, Master, Playlist, PlaylistError, parse};
use super::rendition::{MAX_WAITING_BYTES, Message, Rendition, load};
use super::timeline::Timeline;
use crate::plugin::Hls;

const NS: u32 = 1_000_000_000;
/// Messages that may wait per rendition.
const QUEUE: usize = 1024;
/// A unit that is so late starts the clock anew, instead of a burst.
const LATE: Duration = Duration::from_secs(1);
/// How long the tracks of all renditions are waited for once one has told its own.
const TELL_LIMIT: Duration = Duration::from_secs(3);
/// Most tracks of a session.
const MAX_TRACKS: usize = 16;
/// What this server knows, by the beginning of its name in `CODECS`.
const KNOWN: [&str; 10] = ["avc1", "avc3", "hvc1", "hev1", "av01", "mp4a", "opus", "Opus", "flac", "fLaC"];

impl Demuxer for Hls {
    async fn demux(self: Arc<Self>, request: Request, input: Input, session: Session) -> Result<(), Error> {
        let closed = session.clone();
        tokio::select! {
            result = play(&request, input, session) => result,
            () = closed.closed() => Ok(()),
        }
    }
}

async fn play(request: &Request, mut input: Input, session: Session) -> Result<(), Error> {
    let url = SourceUrl::parse(&request.url);
    let remote = url.as_ref().ok().filter(|url| matches!(url.scheme(), "http" | "https" | "httpx"));
    let (fetcher, (first, base)) = match remote {
        // Asked for again: only so its cookies and its redirects are known.
        Some(url) => {
            let fetcher = Arc::new(Fetcher::new(url));
            let loaded = load(&fetcher, url).await?;
            (fetcher, loaded)
        }
        None => {
            let (first, base) = local(&mut input).await?;
            (Arc::new(Fetcher::new(&base)), (first, base))
        }
    };
    let option = url.as_ref().ok().and_then(|url| url.option("variant"));
    let waiting = Arc::new(Semaphore::new(MAX_WAITING_BYTES >> 10));
    let mut tasks = JoinSet::new();
    let mut lanes = Vec::new();
    let mut start = |url: SourceUrl, media| {
        let (out, messages) = mpsc::channel(QUEUE);
        let rendition = Rendition { fetcher: Arc::clone(&fetcher), url, out, waiting: Arc::clone(&waiting) };
        tasks.spawn(rendition.run(media));
        lanes.push(Lane { messages, head: None, tracks: Vec::new(), told: false, over: false });
    };
    let mut recorded = false;
    match first {
        Playlist::Media(media) => {
            recorded = media.ended;
            // Its address again is the source's own: redirects may change.
            start(base, Some(media));
        }
        Playlist::Master(master) => {
            for uri in chosen(&master, option)? {
                let join = base.join(&uri).map_err(|error| Error::protocol(format!("hls: {error}")))?;
                start(join, None);
            }
        }
    }
    let mut player = Player {
        session,
        lanes,
        tracks: Vec::new(),
        connection: Connection::default(),
        announced: false,
        timeline: Timeline::default(),
        base: None,
    };
    player.run(&mut input, recorded).await
}

/// A playlist that comes from a file or a pipe: read once, and its addresses must be whole. Any of them is as good as its own.
async fn local(input: &mut Input) -> Result<(Playlist, SourceUrl), Error> {
    let mut text = Vec::new();
    loop {
        match input.next().await? {
            Data::Bytes(_, data) if text.len() + data.len() <= MAX_PLAYLIST_BYTES => {
                text.extend_from_slice(&data)
            }
            Data::Bytes(..) => return Err(Error::protocol(format!("hls: {}", PlaylistError::TooLarge))),
            Data::End(ended) if ended.class == Class::Eof => break,
            Data::End(ended) => return Err(ended.into()),
        }
    }
    let mut read = parse(&text).map_err(|error| Error::protocol(format!("hls: playlist: {error}")))?;
    if let Playlist::Media(media) = &mut read {
        media.ended = true;
    }
    let uris: Vec<&str> = match &read {
        Playlist::Media(media) => {
            let maps = media.segments.iter().filter_map(|segment| Some(segment.map.as_ref()?.uri.as_str()));
            media.segments.iter().map(|segment| segment.uri.as_str()).chain(maps).collect()
        }
        Playlist::Master(master) => {
            let sound = master.renditions.iter().filter_map(|rendition| rendition.uri.as_deref());
            master.variants.iter().map(|variant| variant.uri.as_str()).chain(sound).collect()
        }
    };
    let whole = |uri: &&str| ["http://", "https://"].iter().any(|scheme| uri.starts_with(scheme));
    if !uris.iter().all(whole) {
        let text = "hls: a playlist that does not come over HTTP must name whole addresses (http://...)";
        return Err(Error::unsupported(text));
    }
    let first = uris.first().ok_or_else(|| Error::protocol("hls: the playlist lists nothing to play"))?;
    let base = SourceUrl::parse(first).map_err(|error| Error::protocol(format!("hls: {error}")))?;
    Ok((read, base))
}

/// URIs of the variant and of its sound, when that is apart. The variant with the most bits whose codecs are known;
/// `#variant=N`, `min` or `max` chooses another.
fn chosen(master: &Master, option: Option<&str>) -> Result<Vec<String>, Error> {
    let known =
        |codecs: &[String]| codecs.iter().all(|codec| KNOWN.iter().any(|name| codec.starts_with(name)));
    let playable = || master.variants.iter().filter(|variant| known(&variant.codecs));
    let variant = match option {
        Some("min") => playable().min_by_key(|variant| variant.bandwidth),
        None | Some("max" | "") => playable().rev().max_by_key(|variant| variant.bandwidth),
        Some(number) => number.parse::<usize>().ok().and_then(|number| master.variants.get(number)),
    };
    let variant = variant.ok_or_else(|| match option {
        Some(_) => Error::unsupported("hls: there is no variant as #variant= asks for"),
        None => Error::unsupported("hls: no variant has codecs that are known here"),
    })?;
    let group =
        || master.renditions.iter().filter(|r| r.kind == "AUDIO" && Some(&r.group) == variant.audio.as_ref());
    let audio = group().find(|rendition| rendition.default).or_else(|| group().next());
    let audio = audio.and_then(|rendition| rendition.uri.clone()).filter(|uri| *uri != variant.uri);
    Ok([Some(variant.uri.clone()), audio].into_iter().flatten().collect())
}

/// One rendition, as it is played.
struct Lane {
    messages: mpsc::Receiver<Message>,
    /// Its next unit, placed.
    head: Option<Head>,
    /// Its tracks' numbers in the session.
    tracks: Vec<usize>,
    told: bool,
    over: bool,
}

struct Head {
    track: usize,
    unit: Unit,
    time: i64,
    _place: OwnedSemaphorePermit,
}

struct Player {
    session: Session,
    lanes: Vec<Lane>,
    tracks: Vec<Parameters>,
    connection: Connection,
    /// The host knows the tracks.
    announced: bool,
    timeline: Timeline,
    /// An instant, and the media time (ns) that is due then.
    base: Option<(Instant, i64)>,
}

impl Player {
    /// Plays to the end. What is `recorded` waits until somebody wants it.
    async fn run(&mut self, input: &mut Input, recorded: bool) -> Result<(), Error> {
        let mut wait_wanted = recorded;
        let mut tell_by = None;
        loop {
            let told = self.lanes.iter().all(|lane| lane.told);
            if !self.announced && !self.tracks.is_empty() {
                let by = *tell_by.get_or_insert_with(|| Instant::now() + TELL_LIMIT);
                if told || by <= Instant::now() {
                    self.announce()?;
                }
            }
            let next = self
                .lanes
                .iter()
                .enumerate()
                .filter_map(|(index, lane)| Some((lane.head.as_ref()?.time, index)))
                .min();
            let due = match tell_by {
                Some(by) if !self.announced => Some(by),
                _ => next.map(|(time, _)| self.due(time)),
            };
            if next.is_none() && self.lanes.iter().all(|lane| lane.over) {
                return Err(Error::eof("the end of the playlist"));
            }
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                (lane, message) = receive(&mut self.lanes) => self.take(lane, message)?,
                () = wait => {
                    if !self.announced {
                        continue;
                    }
                    input.handle_waiting()?;
                    if std::mem::take(&mut wait_wanted) {
                        input.wanted(&self.session).await?;
                    }
                    let head = next.and_then(|(_, lane)| self.lanes.get_mut(lane)?.head.take());
                    if let Some(head) = head {
                        self.session.push(id_of(head.track), &head.unit)?;
                    }
                }
            }
        }
    }

    /// When the unit at `time` is due.
    fn due(&mut self, time: i64) -> Instant {
        let now = Instant::now();
        let at = |(start, first): (Instant, i64)| {
            start.checked_add(Duration::from_nanos(u64::try_from(time - first).unwrap_or(0))).unwrap_or(now)
        };
        match self.base {
            Some(base) if at(base) + LATE >= now => at(base),
            _ => {
                self.base = Some((now, time));
                now
            }
        }
    }

    fn take(&mut self, lane: usize, message: Option<Message>) -> Result<(), Error> {
        match message {
            Some(Message::Tracks { tracks, format }) => self.take_tracks(lane, tracks, format),
            Some(Message::TrackChanged(track, parameters)) => {
                let track = self.lanes.get(lane).and_then(|lane| lane.tracks.get(track)).copied();
                track.map_or(Ok(()), |track| self.change(track, parameters))
            }
            Some(Message::Unit { track, period, unit, place }) => {
                let Some(lane) = self.lanes.get_mut(lane) else { return Ok(()) };
                let Some(&track) = lane.tracks.get(track) else { return Ok(()) };
                let Some(parameters) = self.tracks.get(track) else { return Ok(()) };
                let rate = parameters.clock_rate;
                let (pts, dts, broken) = self.timeline.place(track, rate, period, unit.pts, unit.dts);
                let unit = Unit { pts, dts, discontinuity: unit.discontinuity || broken, ..unit };
                lane.head = Some(Head { track, unit, time: rescale(dts, rate, NS), _place: place });
                Ok(())
            }
            Some(Message::End(error)) if error.class != Class::Eof => Err(error),
            Some(Message::End(_)) | None => {
                if let Some(lane) = self.lanes.get_mut(lane) {
                    (lane.over, lane.told) = (true, true);
                }
                Ok(())
            }
        }
    }

    /// A rendition says what it has, at first or behind a discontinuity: each track goes on as the one of its kind.
    fn take_tracks(&mut self, lane: usize, tracks: Vec<Parameters>, format: &str) -> Result<(), Error> {
        let Some(this) = self.lanes.get_mut(lane) else { return Ok(()) };
        let mut free = std::mem::take(&mut this.tracks);
        this.told = true;
        let mut fresh = false;
        let mut changes = Vec::new();
        for parameters in tracks {
            let kind = parameters.codec.kind();
            let same =
                |track: &usize| self.tracks.get(*track).is_some_and(|known| known.codec.kind() == kind);
            match free.iter().position(same) {
                Some(at) => {
                    let track = free.remove(at);
                    this.tracks.push(track);
                    changes.push((track, parameters));
                }
                None if self.tracks.len() < MAX_TRACKS && kind != Kind::Data => {
                    this.tracks.push(self.tracks.len());
                    self.tracks.push(parameters);
                    fresh = true;
                }
                // A number that no track has: its units are dropped.
                None => this.tracks.push(usize::MAX),
            }
        }
        for (track, parameters) in changes {
            self.change(track, parameters)?;
        }
        if self.connection.format_name.is_empty() {
            format.clone_into(&mut self.connection.format_name);
        }
        if fresh && self.announced { self.announce() } else { Ok(()) }
    }

    fn announce(&mut self) -> Result<(), Error> {
        self.announced = true;
        self.session.tracks(&Tracks {
            receive: self.tracks.iter().cloned().map(Into::into).collect(),
            more: self.lanes.iter().any(|lane| !lane.told),
            connection: self.connection.clone(),
            paced: true,
            ..Tracks::default()
        })
    }

    fn change(&mut self, track: usize, parameters: Parameters) -> Result<(), Error> {
        let Some(known) = self.tracks.get_mut(track) else { return Ok(()) };
        if *known != parameters {
            known.clone_from(&parameters);
            if self.announced {
                self.session.track_changed(id_of(track), &parameters)?;
            }
        }
        Ok(())
    }
}

/// The next message of a rendition whose unit was played.
async fn receive(lanes: &mut [Lane]) -> (usize, Option<Message>) {
    // In their order at first, so that tracks have the same numbers every time.
    let telling = lanes.iter().position(|lane| !lane.told).unwrap_or(usize::MAX);
    let idle = lanes
        .iter_mut()
        .enumerate()
        .filter(|(index, lane)| lane.head.is_none() && !lane.over && *index <= telling);
    let waits: Vec<_> = idle
        .map(|(index, lane)| {
            Box::pin(async move {
                let message = lane.messages.recv().await;
                (index, message)
            })
        })
        .collect();
    if waits.is_empty() {
        return std::future::pending().await;
    }
    select_all(waits).await.0
}

fn id_of(track: usize) -> u32 {
    u32::try_from(track).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::playlist;

    #[test]
    fn the_best_variant_with_known_codecs_and_its_sound() {
        let text = b"#EXTM3U\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"one\",URI=\"one.m3u8\"\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"two\",DEFAULT=YES,URI=\"two.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"avc1.640029\"\nlow\n\
            #EXT-X-STREAM-INF:BANDWIDTH=5,CODECS=\"avc1.640029,mp4a.40.2\",AUDIO=\"a\"\nhigh\n\
            #EXT-X-STREAM-INF:BANDWIDTH=9,CODECS=\"dvh1.05.06\"\nother\n";
        let Ok(Playlist::Master(master)) = playlist::parse(text) else { panic!("no master") };
        for (option, expected) in [
            (None, vec!["high", "two.m3u8"]),
            (Some("max"), vec!["high", "two.m3u8"]),
            (Some("min"), vec!["low"]),
            (Some("2"), vec!["other"]),
        ] {
            assert_eq!(chosen(&master, option).unwrap(), expected, "{option:?}");
        }
        assert_eq!(chosen(&master, Some("7")).unwrap_err().class, Class::Unsupported);
    }
}
