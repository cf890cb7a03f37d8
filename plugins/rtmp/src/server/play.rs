//! Playing: the units of a set of tracks are made into messages once and fanned out to all viewers.
//!
//! ```text
//! ring ─▶ Room (set of tracks): one TagMuxer ─▶ Fanout: per viewer 12 bytes of header with its own time
//! ```

mod messages;
mod room;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use patchbay_fanout::Limits;
use patchbay_sdk::Error;
use patchbay_sdk::api::Host;
use patchbay_sdk::api::message::{Bound, BoundTrack, Connection, Consume, History, Media};
pub use patchbay_sdk::server::Wanted;
use patchbay_sdk::server::{Consumer, Context, START_TIMEOUT, is_unknown, settled};

pub use messages::{Meta, Timed};
pub use room::Room;

use crate::session::server::Wish;

/// Query keys that choose tracks.
const FILTERS: [&str; 2] = ["video", "audio"];
/// Totals for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Muxing runs made: one per set of tracks while somebody watches.
    pub runs: AtomicU64,
    /// Units muxed.
    pub units: AtomicU64,
    /// Units that were overwritten before they were read.
    pub lost: AtomicU64,
    /// Histories read and muxed for joining viewers.
    pub histories: AtomicU64,
    /// Viewers that joined.
    pub joins: AtomicU64,
}

/// All rooms of the server.
pub struct Hub {
    host: Host,
    limits: Limits,
    start: Instant,
    counters: Arc<Counters>,
    rooms: Mutex<HashMap<RoomKey, Weak<Room>>>,
}

/// Tracks: source and id.
type RoomKey = Vec<(u64, u32)>;

impl Hub {
    /// A hub without viewers.
    pub fn new(host: Host, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            host,
            limits,
            start: Instant::now(),
            counters: Arc::default(),
            rooms: Mutex::default(),
        })
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The room for these tracks, shared by all who want the same.
    pub fn room(&self, wanted: &[Wanted]) -> Result<Arc<Room>, Error> {
        let key: RoomKey = wanted.iter().map(|w| (w.source, w.track)).collect();
        let mut rooms = self.rooms.lock();
        if let Some(room) = rooms.get(&key).and_then(Weak::upgrade).filter(|room| !room.is_over()) {
            return Ok(room);
        }
        rooms.retain(|_, room| room.strong_count() > 0);
        let room = Room::open(self.host, wanted, self.limits, self.start, Arc::clone(&self.counters))?;
        rooms.insert(key, Arc::downgrade(&room));
        Ok(room)
    }
}

/// A player's claim on a stream.
pub struct Claim {
    /// The claim.
    pub consumer: Consumer,
    /// Where it plays; none while the source is away.
    pub room: Option<Arc<Room>>,
    /// The tracks that it gets.
    pub wanted: Vec<Wanted>,
    /// The stream.
    pub name: String,
    /// How it starts.
    pub history: History,
}

/// Claims the first of the wished streams that exists and waits for its tracks.
pub async fn claim(
    context: Context,
    hub: Arc<Hub>,
    wish: Wish,
    connection: Connection,
) -> Result<Claim, Error> {
    let mut refused = Error::not_found("no stream is named");
    let (query, medias) = tracks_of(&wish);
    for name in &wish.names {
        let consume = Consume {
            stream: name.clone(),
            query: query.clone(),
            medias: medias.clone(),
            connection: connection.clone(),
            timeout_ms: START_TIMEOUT.as_millis() as u64,
            ..Consume::default()
        };
        match bind(&context, &consume).await {
            Ok((consumer, wanted)) => {
                let room = hub.room(&wanted)?;
                let history = match value(&wish.query, "history") {
                    Some("raw") => History::Raw,
                    Some("0" | "none") => History::None,
                    _ => History::Live,
                };
                return Ok(Claim { consumer, room: Some(room), wanted, name: name.clone(), history });
            }
            Err(error) if is_unknown(&error) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

/// Filters of the query, else what the player says it understands, else what every player does.
pub(crate) fn tracks_of(wish: &Wish) -> (String, Vec<Media>) {
    let is_filter = |pair: &&str| FILTERS.contains(&pair.split('=').next().unwrap_or_default());
    let filters: Vec<&str> = wish.query.split('&').filter(is_filter).collect();
    if !filters.is_empty() {
        return (filters.join("&"), Vec::new());
    }
    let understood = |base: &[&str], more: &[(&str, &str)]| -> Vec<String> {
        let has = |fourcc: &str| wish.fourccs.iter().any(|known| known == fourcc || known == "*");
        let more = more.iter().filter(|(fourcc, _)| has(fourcc)).map(|(_, codec)| *codec);
        base.iter().copied().chain(more).map(str::to_owned).collect()
    };
    let video = understood(&["h264"], &[("hvc1", "hevc"), ("av01", "av1"), ("vp09", "vp9"), ("vp08", "vp8")]);
    let audio = understood(&["aac"], &[("Opus", "opus"), ("fLaC", "flac"), (".mp3", "mp3")]);
    let media = |kind: &str, codecs| Media { kind: kind.to_owned(), codecs };
    (String::new(), vec![media("video", video), media("audio", audio)])
}

pub(crate) async fn bind(context: &Context, consume: &Consume) -> Result<(Consumer, Vec<Wanted>), Error> {
    let mut consumer = context.consume(consume)?;
    let wanted = wanted_of(&settled(&mut consumer, is_complete).await?);
    if wanted.is_empty() {
        return Err(Error::unsupported("no track of the stream can be sent over RTMP"));
    }
    Ok((consumer, wanted))
}

/// The tracks that go out: RTMP has one of each kind.
pub(crate) fn wanted_of(bound: &Bound) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for track in bound.tracks.iter().filter(|bound| is_complete(bound)).filter_map(Wanted::new) {
        if !wanted.iter().any(|w| w.parameters.codec.kind() == track.parameters.codec.kind()) {
            wanted.push(track);
        }
    }
    wanted
}

/// The description of the track says all that a player needs.
fn is_complete(bound: &BoundTrack) -> bool {
    let needs = matches!(bound.info.codec.as_str(), "h264" | "hevc" | "aac" | "opus" | "flac");
    !bound.info.codec.is_empty() && (!needs || !bound.info.extradata.is_empty())
}

fn value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name == key).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn players_get_what_they_understand() {
        let of = |query: &str, fourccs: &[&str]| {
            tracks_of(&Wish {
                query: query.to_owned(),
                fourccs: fourccs.iter().map(|f| (*f).to_owned()).collect(),
                ..Wish::default()
            })
        };
        let codecs = |(_, medias): (String, Vec<Media>)| -> Vec<String> {
            medias.into_iter().map(|media| media.codecs.join(",")).collect()
        };
        assert_eq!(codecs(of("", &[])), ["h264", "aac"]);
        assert_eq!(codecs(of("token=1", &["hvc1", "Opus"])), ["h264,hevc", "aac,opus"]);
        assert_eq!(codecs(of("", &["*"])), ["h264,hevc,av1,vp9,vp8", "aac,opus,flac,mp3"]);
        assert_eq!(of("x=1&video=hevc&audio", &[]), ("video=hevc&audio".to_owned(), Vec::new()));
    }
}
