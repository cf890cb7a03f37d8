//! DESCRIBE: a claim on the stream, waiting for it, and the room of its tracks.

use std::sync::Arc;

use patchbay_media::{Codec, Parameters};
use patchbay_rtp::packetize::{self, PAYLOAD_LIMITS};
use patchbay_sdk::api::message::{Bound, Class, Connection, Consume};
use patchbay_sdk::server::{START_TIMEOUT, is_unknown, settled};
use patchbay_sdk::{Error, track};

use crate::server::play::{Room, Wanted};
use crate::server::session::Offer;
use crate::server::streams::Streams;
use crate::server::talk;
use crate::server::{Server, url};

/// `Retry-After` of a 503.
pub(super) const RETRY_AFTER_S: u64 = 2;

/// Query keys that choose tracks.
const FILTERS: [&str; 4] = ["video", "audio", "mp4", "microphone"];

/// A stream that a player was told of.
pub(super) struct Described<S: Streams> {
    pub(super) claim: S::Claim,
    pub(super) room: Arc<Room<S::Rings>>,
    pub(super) wanted: Vec<Wanted>,
    /// The stream's name, and what the player may say.
    pub(super) talk: Option<(String, Offer)>,
}

/// Claims `stream` and waits for its tracks. A name with a slash at its end is tried as it is, then without (S13).
pub(super) async fn describe<S: Streams>(
    server: Arc<Server<S>>,
    stream: String,
    query: String,
    speaks: bool,
    connection: Connection,
) -> Result<Described<S>, Error> {
    let consume = Consume {
        query: filters(&query, &server.config.default_query),
        connection,
        source: url::query_value(&query, "source").unwrap_or_default(),
        timeout_ms: START_TIMEOUT.as_millis() as u64,
        ..Consume::default()
    };
    let bare = stream.trim_end_matches('/').to_owned();
    let has_bare = bare != stream;
    match claim(&server, &Consume { stream, ..consume.clone() }, &query, speaks).await {
        Err(error) if has_bare && is_unknown(&error) => {
            claim(&server, &Consume { stream: bare, ..consume }, &query, speaks).await
        }
        result => result,
    }
}

async fn claim<S: Streams>(
    server: &Arc<Server<S>>,
    consume: &Consume,
    query: &str,
    speaks: bool,
) -> Result<Described<S>, Error> {
    let mut claim = server.streams.consume(consume)?;
    let bound = settled(&mut claim, |bound| is_complete(&bound.info)).await?;
    let wanted = bound.tracks.iter().filter_map(Wanted::new);
    let wanted: Vec<Wanted> = wanted.filter(|w| packetize::is_supported(w.parameters.codec)).collect();
    if wanted.is_empty() {
        return Err(Error::unsupported(mismatch(&bound)));
    }
    let room = server.hub.room(&wanted, packet_size(query, server.config.pkt_size));
    let talk = talk::offer(&bound.send).filter(|_| speaks).map(|offer| (consume.stream.clone(), offer));
    Ok(Described { claim, room, wanted, talk })
}

/// The host's words for a stream none of whose tracks goes over RTP: it is asked for any codec, and finds one.
fn mismatch(bound: &Bound) -> String {
    let codecs: Vec<String> =
        bound.tracks.iter().map(|bound| format!("{}:{}", bound.info.kind, bound.info.codec)).collect();
    format!(
        "streams: codecs not matched: {} => video:h264, video:hevc, video:av1, video:vp9, video:vp8, video:mjpeg, audio:aac, audio:opus, audio:pcm",
        codecs.join(", ")
    )
}

/// The RTSP status of a refusal, and when to come back: 404 only for a name that does not exist (S12, S62).
pub(super) fn status_of(error: &Error) -> (u16, Option<u64>) {
    match error.class {
        _ if is_unknown(error) => (404, None),
        Class::Unsupported => (406, None),
        _ => (503, Some(error.retry_after_ms.div_ceil(1000).max(RETRY_AFTER_S))),
    }
}

/// The description of the track says all that a player needs.
fn is_complete(info: &patchbay_sdk::api::message::TrackInfo) -> bool {
    let Some(Parameters { codec, extradata, .. }) = track::parameters(info) else {
        return !info.codec.is_empty();
    };
    !(matches!(codec, Codec::H264 | Codec::Hevc | Codec::Aac) && extradata.is_empty())
}

/// The query for the host: with the default filters when the player gave none (S14).
fn filters(query: &str, default: &str) -> String {
    let has_filter = query.split('&').any(|pair| {
        let key = pair.split_once('=').map_or(pair, |(key, _)| key);
        FILTERS.contains(&key)
    });
    match (has_filter, query) {
        (true, _) => query.to_owned(),
        (false, "") => default.to_owned(),
        (false, _) => format!("{default}&{query}"),
    }
}

/// `?pkt_size=` within its limits (S43).
fn packet_size(query: &str, default: usize) -> usize {
    let wanted = url::query_value(query, "pkt_size").and_then(|value| value.parse().ok()).unwrap_or(default);
    wanted.clamp(*PAYLOAD_LIMITS.start(), *PAYLOAD_LIMITS.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s14_filters_of_the_player_or_the_default() {
        assert_eq!(filters("", "video&audio"), "video&audio");
        assert_eq!(filters("video=h264", "video&audio"), "video=h264");
        assert_eq!(filters("pkt_size=9000", "video&audio"), "video&audio&pkt_size=9000");
        assert_eq!(filters("mp4", "video&audio"), "mp4");
    }

    #[test]
    fn s12_only_an_unknown_name_is_404() {
        assert_eq!(status_of(&Error::not_found("stream not found")), (404, None));
        assert_eq!(status_of(&Error::not_found("the camera answered 404")), (503, Some(2)));
        let busy = Error { retry_after_ms: 9_500, ..Error::timeout("x") };
        assert_eq!(status_of(&busy), (503, Some(10)));
        assert_eq!(status_of(&Error::unsupported("x")), (406, None));
    }

    #[test]
    fn s43_packet_size() {
        assert_eq!(packet_size("pkt_size=65000", 1440), 65_000);
        assert_eq!(packet_size("pkt_size=999999", 1440), 65_000);
        assert_eq!(packet_size("pkt_size=x&y", 1440), 1440);
        assert_eq!(packet_size("", 1440), 1440);
    }
}
