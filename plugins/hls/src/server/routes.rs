//! Requests: go2rtc's URLs, with parts beside its segments.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use patchbay_sdk::api::Host;
use patchbay_sdk::api::message::{Connection, Consume, Media, Response};
use patchbay_sdk::blob::Blob;
use patchbay_sdk::routes::{Body, Reply, Request, query_pairs, query_value};
use patchbay_sdk::{Class, Error, Routes, routes};

use super::segmenter::Container;
use super::stream::{Key, NoAnswer, Stream};
use super::window::{Found, Position};
use crate::plugin::Hls;

/// How long a stream may take to begin.
const START_LIMIT: Duration = Duration::from_secs(10);
const PLAYLIST: &str = "application/vnd.apple.mpegurl";
/// A playlist that a client waited for stays right for a while, media for ever.
const SOON_OLD: &str = "max-age=1";
const NEVER_OLD: &str = "max-age=3600";

impl Routes for Hls {
    async fn request(self: Arc<Self>, request: Request, body: Body) -> Result<Reply, Error> {
        if request.route == "hls" {
            return self.message(&request, body.host()).await;
        }
        if request.method == "OPTIONS" {
            let mut response = head(200, "", "");
            response.headers.push(("access-control-allow-methods".to_owned(), "GET".to_owned()));
            return Ok(Reply::Whole(response, Bytes::new()));
        }
        if request.route == "api/stream.m3u8" {
            let (key, consume) = wanted(&request);
            return Ok(match self.master(body.host(), key, consume, "hls/").await {
                Ok(text) => playlist(text, "no-cache"),
                Err(refused) => refused,
            });
        }
        let id = query_value(&request.query, "id").unwrap_or_default();
        let container = match request.route.rsplit_once('.').map(|(_, suffix)| suffix) {
            Some("ts") => Some(Container::MpegTs),
            Some("m4s" | "mp4") => Some(Container::Fmp4),
            _ => None,
        };
        let Some(stream) = self.streams.find(&id, container) else { return Ok(gone()) };
        let answer = match request.route.as_str() {
            "api/hls/playlist.m3u8" => media_playlist(&stream, &request).await,
            "api/hls/init.mp4" => init(&stream, &request).await,
            "api/hls/segment.m4s" => segment(&stream, &request, "video/iso.segment").await,
            "api/hls/segment.ts" => segment(&stream, &request, "video/mp2t").await,
            "api/hls/part.m4s" => part(&stream, &request, "video/iso.segment").await,
            _ => part(&stream, &request, "video/mp2t").await,
        };
        Ok(answer.unwrap_or_else(|refused| refused))
    }
}

impl Hls {
    /// The multivariant playlist; the error is an answer too.
    async fn master(&self, host: Host, key: Key, consume: Consume, prefix: &str) -> Result<String, Reply> {
        let stream = self.streams.get(host, key, consume).map_err(|error| text(503, &error.message))?;
        // A first playlist must not be shown before it has a segment.
        stream
            .when(Some(START_LIMIT), |window| window.is_ready().then_some(()))
            .await
            .map_err(|no| refused(&no))?;
        stream.master(prefix).ok_or_else(gone)
    }

    /// Message `hls` on `/api/ws`: the playlist as text, with URIs from `/api/`.
    async fn message(&self, request: &Request, host: Host) -> Result<Reply, Error> {
        let offered = request.value.as_ref().and_then(|value| value.as_str()).unwrap_or("");
        let medias = routes::offered(offered, true);
        let tracks = medias.iter().map(|media| media.codecs.join("+")).collect::<Vec<_>>().join(",");
        let stream = query_value(&request.query, "src").unwrap_or_default();
        let consume = consume(request, &stream, String::new(), medias, Container::Fmp4);
        let key = Key { stream, tracks, container: Container::Fmp4 };
        match self.master(host, key, consume, "hls/").await {
            Ok(text) => {
                let message = serde_json::json!({"type": "hls", "value": text});
                Ok(Reply::Whole(head(200, "", ""), Bytes::from(format!("{message}\n"))))
            }
            Err(Reply::Whole(_, text)) => {
                Err(Error::unsupported(String::from_utf8_lossy(&text).trim_end().to_owned()))
            }
            Err(_) => Err(Error::not_found("stream not found")),
        }
    }
}

/// Stream, tracks and container of `stream.m3u8`: fragmented MP4 with any codec filter, else MPEG-TS.
fn wanted(request: &Request) -> (Key, Consume) {
    let filters: Vec<(String, String)> = query_pairs(&request.query)
        .filter(|(key, _)| matches!(key.as_str(), "mp4" | "video" | "audio"))
        .collect();
    let stream = query_value(&request.query, "src").unwrap_or_default();
    let (container, medias, query) = if filters.is_empty() {
        let medias = vec![routes::media("video", &["h264", "hevc"]), routes::media("audio", &["aac"])];
        (Container::MpegTs, medias, String::new())
    } else {
        (Container::Fmp4, Vec::new(), request.query.clone())
    };
    let sorted: BTreeSet<String> = filters.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let tracks = sorted.into_iter().collect::<Vec<_>>().join("&");
    let consume = consume(request, &stream, query, medias, container);
    (Key { stream, tracks, container }, consume)
}

fn consume(
    request: &Request,
    stream: &str,
    query: String,
    medias: Vec<Media>,
    container: Container,
) -> Consume {
    let format_name = match container {
        Container::Fmp4 => "hls/fmp4",
        Container::MpegTs => "hls/mpegts",
    };
    Consume {
        stream: stream.to_owned(),
        query,
        medias,
        connection: Connection {
            format_name: format_name.to_owned(),
            protocol: if request.method.is_empty() { "ws" } else { "http" }.to_owned(),
            remote_addr: request.remote.clone(),
            user_agent: routes::header(request, "user-agent").unwrap_or_default().to_owned(),
            ..Connection::default()
        },
        ..Consume::default()
    }
}

async fn media_playlist(stream: &Stream, request: &Request) -> Result<Reply, Reply> {
    let (msn, part) = (number(request, "_HLS_msn")?, number(request, "_HLS_part")?);
    let Some(msn) = msn else {
        if part.is_some() {
            return Err(text(400, "_HLS_part without _HLS_msn"));
        }
        let ready = stream.when(None, |window| window.is_ready().then(|| window.text())).await;
        return ready.map(|text| playlist(text, "no-cache")).map_err(|no| refused(&no));
    };
    let position = Position { msn, part };
    let found = stream
        .when(None, |window| match window.has(position) {
            Found::Here(()) if window.is_ready() => Some(Some(window.text())),
            Found::Never => Some(None),
            _ => None,
        })
        .await
        .map_err(|no| refused(&no))?;
    found.map(|text| playlist(text, SOON_OLD)).ok_or_else(|| text(400, "_HLS_msn is too far ahead"))
}

async fn init(stream: &Stream, request: &Request) -> Result<Reply, Reply> {
    let wanted = u32::try_from(number(request, "n")?.unwrap_or(0)).map_err(|_| gone())?;
    let found =
        stream.when(Some(START_LIMIT), |window| Some(window.map(wanted))).await.map_err(|no| refused(&no))?;
    found.map(|blob| media(vec![blob], "video/mp4")).ok_or_else(gone)
}

async fn segment(stream: &Stream, request: &Request, mime: &str) -> Result<Reply, Reply> {
    let wanted = number(request, "n")?.ok_or_else(|| text(400, "n is missing"))?;
    let found = stream
        .when(None, |window| match window.segment(wanted) {
            Found::Here(parts) => Some(Some(parts)),
            Found::Never => Some(None),
            Found::Soon => None,
        })
        .await
        .map_err(|no| refused(&no))?;
    found.map(|parts| media(parts, mime)).ok_or_else(gone)
}

async fn part(stream: &Stream, request: &Request, mime: &str) -> Result<Reply, Reply> {
    let wanted = number(request, "n")?.ok_or_else(|| text(400, "n is missing"))?;
    let found = stream
        .when(None, |window| match window.part_data(wanted) {
            Found::Here(part) => Some(Some(part)),
            Found::Never => Some(None),
            Found::Soon => None,
        })
        .await
        .map_err(|no| refused(&no))?;
    found.map(|part| media(vec![part], mime)).ok_or_else(gone)
}

/// A number in the query; 400 when it is none.
fn number(request: &Request, key: &str) -> Result<Option<u64>, Reply> {
    let Some(value) = query_value(&request.query, key) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| text(400, &format!("{key} is no number")))
}

fn head(status: u16, mime: &str, control: &str) -> Response {
    let fields = [("access-control-allow-origin", "*"), ("content-type", mime), ("cache-control", control)];
    let headers = fields.into_iter().filter(|(_, value)| !value.is_empty());
    Response { status, headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
}

fn playlist(text: String, control: &str) -> Reply {
    Reply::Whole(head(200, PLAYLIST, control), Bytes::from(text))
}

fn media(parts: Vec<Arc<Blob>>, mime: &str) -> Reply {
    Reply::Blobs(head(200, mime, NEVER_OLD), parts)
}

fn text(status: u16, message: &str) -> Reply {
    Reply::Whole(head(status, "text/plain; charset=utf-8", ""), Bytes::from(format!("{message}\n")))
}

fn gone() -> Reply {
    text(404, "404 page not found")
}

fn refused(no: &NoAnswer) -> Reply {
    match no {
        NoAnswer::Busy => {
            let Reply::Whole(mut response, body) = text(503, "nothing came in time, or too many wait") else {
                return gone();
            };
            response.headers.push(("retry-after".to_owned(), "1".to_owned()));
            Reply::Whole(response, body)
        }
        NoAnswer::Over(error)
            if error.class == Class::NotFound
                && ["stream not found", "404 page not found"].contains(&error.message.as_str()) =>
        {
            text(404, &error.message)
        }
        NoAnswer::Over(error) => text(500, &error.message),
    }
}
