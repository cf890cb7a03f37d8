//! What `/api/streams` says.

use patchbay_plugin_api::message::TrackInfo;
use serde_json::{Map, Value, json};

use super::codecs::media_text;
use super::talk::Talker;
use super::{Class, Consumer, Core, Phase, Source, Time};

/// Counters that the data plane keeps: `(bytes, units)` by track id of a source.
pub(crate) type TrackCounts<'a> = &'a dyn Fn(u64) -> Vec<(u64, u64)>;

impl Core {
    /// One stream.
    pub fn info(&self, name: &str, counts: TrackCounts<'_>) -> Option<Value> {
        let name = self.resolve(name)?;
        let stream = self.streams.get(&name)?;
        let mut producers = Vec::new();
        for slot in &stream.slots {
            let source = slot.source.and_then(|id| self.sources.get(&id).map(|source| (id, source)));
            producers.push(match source {
                Some((id, source)) => self.producer(id, source, &slot.url, counts),
                None => json!({"url": slot.url, "state": "idle"}),
            });
        }
        for (id, source) in self.unasked(&name) {
            producers.push(self.producer(id, source, &source.url, counts));
        }
        for (id, url) in self.players_of(&name) {
            if let Some(source) = self.sources.get(&id) {
                let mut played = self.producer(id, source, url, counts);
                // By this Home Assistant's media player sees that it plays.
                if let Some(map) = played.as_object_mut() {
                    map.insert("type".to_owned(), "play".into());
                }
                producers.push(played);
            }
        }
        for id in &stream.publishers {
            if let Some(source) = self.sources.get(id) {
                producers.push(self.producer(*id, source, "external", counts));
            }
        }
        let consumers: Vec<Value> = self
            .consumers
            .iter()
            .filter(|(_, c)| c.stream == name)
            .map(|(id, c)| self.consumer(*id, c, counts))
            .chain(self.only_talkers(&name, counts))
            .collect();
        let producers = if producers.is_empty() { Value::Null } else { Value::Array(producers) };
        let none = consumers.is_empty() && !stream.had_consumer;
        Some(
            json!({"producers": producers, "consumers": if none { Value::Null } else { Value::Array(consumers) }}),
        )
    }

    /// All streams.
    pub fn info_all(&self, counts: TrackCounts<'_>) -> Value {
        let streams =
            self.names().into_iter().filter_map(|name| Some((name.clone(), self.info(&name, counts)?)));
        Value::Object(streams.collect())
    }

    /// Streams, sources and consumers there are, for `/metrics`.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.streams.len(), self.sources.len(), self.consumers.len())
    }

    fn producer(&self, id: u64, source: &Source, url: &str, talks: TrackCounts<'_>) -> Value {
        let mut map = Map::new();
        let state = match source.phase {
            Phase::Idle => "idle",
            Phase::Connecting { .. } => "connecting",
            Phase::Live => "live",
            Phase::Waiting { .. } => match &source.error {
                Some(ended) if ended.class == Class::Asleep => "asleep",
                _ => "offline",
            },
        };
        if source.phase == Phase::Live {
            map.insert("id".to_owned(), id.into());
        }
        connection(&mut map, &source.connection, source.phase == Phase::Live);
        map.insert("url".to_owned(), url.into());
        map.insert("state".to_owned(), state.into());
        if let Some(error) = &source.error {
            map.insert("error".to_owned(), error.message.clone().into());
            map.insert("error_class".to_owned(), json!(error.class));
        }
        let since = match source.phase {
            Phase::Idle => None,
            Phase::Live => source.live_since,
            Phase::Waiting { .. } => source.down_since,
            Phase::Connecting { since } => source.down_since.or(Some(since)),
        };
        if let Some(at) = since.and_then(|since| self.unix_ms(since)) {
            map.insert("since".to_owned(), at.into());
        }
        if let Phase::Waiting { until } = source.phase
            && let Some(at) = self.unix_ms(until)
        {
            map.insert("retry_at".to_owned(), at.into());
        }
        if source.phase == Phase::Live {
            let receive = source.tracks.iter().map(|(_, t)| {
                let rate = if t.sample_rate == 0 { t.clock_rate } else { t.sample_rate };
                media_text(&t.kind, "recvonly", &[(t.codec.clone(), rate, t.channels)])
            });
            let send = source
                .send
                .iter()
                .map(|t| media_text("audio", "sendonly", &[(t.codec.clone(), t.sample_rate, t.channels)]));
            map.insert("medias".to_owned(), receive.chain(send).collect());
            let counts = talks(id);
            let receivers: Vec<Value> = source
                .tracks
                .iter()
                .map(|(_, t)| {
                    let (bytes, packets) = counts.get(t.id as usize).copied().unwrap_or_default();
                    json!({"id": id * 64 + u64::from(t.id), "codec": codec(t), "bytes": bytes, "packets": packets})
                })
                .collect();
            map.insert("receivers".to_owned(), receivers.into());
            map.insert("bytes_recv".to_owned(), counts.iter().map(|(bytes, _)| bytes).sum::<u64>().into());
        }
        self.senders(id, &mut map, talks);
        Value::Object(map)
    }

    /// One consumer.
    pub fn consumer_info(&self, id: u64, counts: TrackCounts<'_>) -> Option<Value> {
        self.consumers.get(&id).map(|consumer| self.consumer(id, consumer, counts))
    }

    fn consumer(&self, id: u64, consumer: &Consumer, counts: TrackCounts<'_>) -> Value {
        let mut map = Map::new();
        map.insert("id".to_owned(), id.into());
        connection(&mut map, &consumer.connection, true);
        let medias = consumer.medias.iter().map(|media| {
            let codecs: Vec<_> = media.codecs.iter().map(|codec| (codec.clone(), 0, 0)).collect();
            media_text(&media.kind, "sendonly", &codecs)
        });
        let talkers = || self.talkers.iter().filter(|(_, talker)| talker.consumer == Some(id));
        let medias = medias.chain(talkers().map(|(_, talker)| microphone(talker)));
        map.insert("medias".to_owned(), medias.collect());
        if let Some(at) = self.unix_ms(consumer.since) {
            map.insert("since".to_owned(), at.into());
        }
        if talkers().next().is_some() {
            let receivers: Vec<Value> = talkers().map(|(id, talker)| receiver(*id, talker, counts)).collect();
            map.insert("receivers".to_owned(), receivers.into());
        }
        let (bytes, packets, drops) = consumer.counters;
        let senders: Vec<Value> = consumer
            .bound
            .iter()
            .map(|b| {
                let parent = b.source * 64 + u64::from(b.info.id);
                json!({"id": id * 64 + u64::from(b.info.id), "codec": codec(&b.info), "parent": parent})
            })
            .collect();
        map.insert("senders".to_owned(), senders.into());
        for (key, value) in [("bytes_send", bytes), ("packets", packets), ("drops", drops)] {
            if value > 0 {
                map.insert(key.to_owned(), value.into());
            }
        }
        Value::Object(map)
    }

    /// Those who speak and do not watch.
    fn only_talkers(&self, name: &str, counts: TrackCounts<'_>) -> impl Iterator<Item = Value> {
        let alone = |talker: &Talker| talker.consumer.is_none_or(|id| !self.consumers.contains_key(&id));
        self.talkers
            .iter()
            .filter(move |(_, t)| t.stream == name && t.to.is_some() && t.played.is_none() && alone(t))
            .map(move |(id, talker)| {
                let mut map = Map::new();
                map.insert("id".to_owned(), (*id).into());
                connection(&mut map, &talker.connection, true);
                map.insert("medias".to_owned(), json!([microphone(talker)]));
                map.insert("receivers".to_owned(), json!([receiver(*id, talker, counts)]));
                Value::Object(map)
            })
    }

    /// Who speaks to a source.
    fn senders(&self, source: u64, map: &mut Map<String, Value>, counts: TrackCounts<'_>) {
        let to = |talker: &Talker| talker.to.is_some_and(|(to, _)| to == source);
        let senders: Vec<Value> = self
            .talkers
            .iter()
            .filter(|(_, talker)| to(talker))
            .map(|(id, talker)| {
                let (ring, track) = self.heard_by_camera(talker);
                let (bytes, packets) = counts(ring).get(track.id as usize).copied().unwrap_or_default();
                let (id, parent) = match talker.played {
                    Some(_) => (id * 64, talker.ring * 64 + u64::from(talker.track.id)),
                    None => (id * 64 + 1, id * 64),
                };
                json!({"id": id, "codec": codec(track), "parent": parent, "bytes": bytes, "packets": packets})
            })
            .collect();
        if !senders.is_empty() {
            let bytes: u64 = senders.iter().filter_map(|sender| sender.get("bytes")?.as_u64()).sum();
            map.insert("senders".to_owned(), senders.into());
            map.insert("bytes_send".to_owned(), bytes.into());
        }
    }

    /// What a camera is sent of a talker: a ring, and a track of it.
    fn heard_by_camera<'a>(&'a self, talker: &'a Talker) -> (u64, &'a TrackInfo) {
        let made = talker.via.and_then(|via| self.sources.get(&via)?.tracks.first());
        (talker.heard(), made.map_or(&talker.track, |(_, track)| track))
    }

    fn unix_ms(&self, at: Time) -> Option<u64> {
        let (now, unix) = self.now_unix?;
        let ahead = u64::try_from(at.saturating_sub(now).as_millis()).ok()?;
        let behind = u64::try_from(now.saturating_sub(at).as_millis()).ok()?;
        Some((unix + ahead).saturating_sub(behind))
    }
}

fn connection(
    map: &mut Map<String, Value>,
    connection: &patchbay_plugin_api::message::Connection,
    connected: bool,
) {
    if !connected {
        return;
    }
    let fields = [
        ("format_name", &connection.format_name),
        ("protocol", &connection.protocol),
        ("remote_addr", &connection.remote_addr),
        ("source", &connection.source),
        ("sdp", &connection.sdp),
        ("user_agent", &connection.user_agent),
    ];
    for (key, value) in fields {
        if !value.is_empty() {
            map.insert(key.to_owned(), value.as_str().into());
        }
    }
}

/// What a talker sends, as a media of its connection.
fn microphone(talker: &Talker) -> String {
    let track = &talker.track;
    let rate = if track.sample_rate == 0 { track.clock_rate } else { track.sample_rate };
    media_text("audio", "recvonly", &[(track.codec.clone(), rate, track.channels)])
}

fn receiver(id: u64, talker: &Talker, counts: TrackCounts<'_>) -> Value {
    let (bytes, packets) = counts(id).first().copied().unwrap_or_default();
    json!({"id": id * 64, "codec": codec(&talker.track), "childs": [id * 64 + 1], "bytes": bytes, "packets": packets})
}

fn codec(track: &patchbay_plugin_api::message::TrackInfo) -> Value {
    let mut map = Map::new();
    if track.channels > 0 {
        map.insert("channels".to_owned(), track.channels.into());
    }
    map.insert("codec_name".to_owned(), track.codec.as_str().into());
    map.insert("codec_type".to_owned(), track.kind.as_str().into());
    for (key, pixels) in [("width", track.width), ("height", track.height)] {
        if pixels > 0 {
            map.insert(key.to_owned(), pixels.into());
        }
    }
    if track.sample_rate > 0 {
        map.insert("sample_rate".to_owned(), track.sample_rate.into());
    }
    Value::Object(map)
}
