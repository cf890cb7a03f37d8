//! What `/api/streams` says.

use serde_json::{Map, Value, json};

use super::codecs::media_text;
use super::{Consumer, Core, Phase, Source, Time};

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
        for id in &stream.publishers {
            if let Some(source) = self.sources.get(id) {
                producers.push(self.producer(*id, source, "external", counts));
            }
        }
        let consumers: Vec<Value> = self
            .consumers
            .iter()
            .filter(|(_, c)| c.stream == name)
            .map(|(id, c)| self.consumer(*id, c))
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

    fn producer(&self, id: u64, source: &Source, url: &str, counts: TrackCounts<'_>) -> Value {
        let mut map = Map::new();
        let state = match source.phase {
            Phase::Idle => "idle",
            Phase::Connecting { .. } => "connecting",
            Phase::Live => "live",
            Phase::Waiting { .. } => "offline",
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
            let counts = counts(id);
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
        Value::Object(map)
    }

    /// One consumer.
    pub fn consumer_info(&self, id: u64) -> Option<Value> {
        self.consumers.get(&id).map(|consumer| self.consumer(id, consumer))
    }

    fn consumer(&self, id: u64, consumer: &Consumer) -> Value {
        let mut map = Map::new();
        map.insert("id".to_owned(), id.into());
        connection(&mut map, &consumer.connection, true);
        let medias = consumer.medias.iter().map(|media| {
            let codecs: Vec<_> = media.codecs.iter().map(|codec| (codec.clone(), 0, 0)).collect();
            media_text(&media.kind, "sendonly", &codecs)
        });
        map.insert("medias".to_owned(), medias.collect());
        if let Some(at) = self.unix_ms(consumer.since) {
            map.insert("since".to_owned(), at.into());
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
