//! Role `routes`: HTTP requests and messages on `/api/ws`.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use patchbay_plugin_api::message::{
    self, Blobs, Connection, Consume, Credit, History, Media, Response, RouteOpen, Serve, SocketMessage,
    command, event,
};
use patchbay_plugin_api::{Chunk, Code, Host};
use tokio::sync::mpsc;

use crate::Plugin;
use crate::blob::Blob;
use crate::entry::Opening;
use crate::error::Error;
use crate::server::Context;
use crate::session::{Command, Link};

/// For the macro.
#[doc(hidden)]
pub const ROLE: u32 = message::role::ROUTES;

/// A plugin that answers requests to the routes of its manifest.
pub trait Routes: Plugin {
    /// Answers one request, or one WebSocket message.
    fn request(
        self: Arc<Self>,
        request: Request,
        body: Body,
    ) -> impl Future<Output = Result<Reply, Error>> + Send;
}

/// What was asked.
pub type Request = RouteOpen;

/// An answer.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A head and a whole body.
    Whole(Response, Bytes),
    /// The client goes on an output of the host's hub.
    Serve(Box<Serve>),
    /// A head and blobs as the body, one behind the other.
    Blobs(Response, Vec<Arc<Blob>>),
    /// Messages to the client on `/api/ws`, in order; none is an answer too.
    Messages(Vec<SocketMessage>),
    /// Nothing: the connection was raw, and is over.
    Done,
}

impl Reply {
    /// A plain text answer, as the API's errors are: the text and a line feed.
    pub fn text(status: u16, text: &str) -> Self {
        let headers = vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())];
        Self::Whole(Response { status, headers }, Bytes::from(format!("{text}\n")))
    }
}

/// The values of `key` in a raw query string, percent-decoded, in order; a key without `=` has an empty value.
pub fn query_values(query: &str, key: &str) -> Vec<String> {
    query_pairs(query).filter(|(k, _)| k == key).map(|(_, v)| v).collect()
}

/// The first value of `key` in a raw query string.
pub fn query_value(query: &str, key: &str) -> Option<String> {
    query_pairs(query).find(|(k, _)| k == key).map(|(_, v)| v)
}

/// All pairs of a raw query string, percent-decoded.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(key), decode(value))
    })
}

fn decode(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

/// The first header field of a request with this name, which is in lower case.
pub fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// A client on the output `format`: the stream of `?src=`, the history of `?history=`, and of its tracks what `medias` take.
pub fn serve(request: &Request, format: &str, medias: Vec<Media>) -> Serve {
    let history = match query_value(&request.query, "history").as_deref() {
        Some("raw") => History::Raw,
        Some("0" | "none") => History::None,
        _ => History::Live,
    };
    Serve {
        consume: Consume {
            stream: query_value(&request.query, "src").unwrap_or_default(),
            medias,
            connection: Connection { format_name: format.to_owned(), ..Connection::default() },
            ..Consume::default()
        },
        format: format.to_owned(),
        history,
        ..Serve::default()
    }
}

/// The same for a client that may choose tracks itself: with any of the `filters` in the query (`?video=h264&audio`) that decides,
/// without them `medias` do.
pub fn serve_chosen(request: &Request, format: &str, filters: &[&str], medias: Vec<Media>) -> Serve {
    let is_chosen = query_pairs(&request.query).any(|(key, _)| filters.contains(&key.as_str()));
    let mut serve = serve(request, format, if is_chosen { Vec::new() } else { medias });
    serve.consume.query.clone_from(&request.query);
    serve
}

/// Tracks of a kind (`video`, `audio`) in any of these codecs, best first.
pub fn media(kind: &str, codecs: &[&str]) -> Media {
    Media { kind: kind.to_owned(), codecs: codecs.iter().map(|codec| (*codec).to_owned()).collect() }
}

/// What a browser that offers these codec strings (`avc1.640029,mp4a.40.2`) takes; H.264 or H.265 with AAC when it offers none. Each string stands for its
/// family; the list may stand in a whole type (`video/mp4; codecs="avc1.640029"`).
pub fn offered(codecs: &str, with_audio: bool) -> Vec<Media> {
    let mut video: Vec<&str> = Vec::new();
    let mut audio: Vec<&str> = Vec::new();
    let codecs = codecs.split_once("codecs=").map_or(codecs, |(_, codecs)| codecs);
    for text in codecs.split(',').map(|text| text.trim_matches([' ', '"', '\''])) {
        let (list, family): (&mut Vec<&str>, &[&str]) = match text {
            _ if text.starts_with("avc1.") => (&mut video, &["h264"]),
            _ if text.starts_with("hvc1.") || text.starts_with("hev1.") => (&mut video, &["hevc"]),
            _ if text.starts_with("mp4a.40.") => (&mut audio, &["aac"]),
            "flac" => (&mut audio, &["pcm_alaw", "pcm_mulaw", "pcm_s16be", "pcm_s16le"]),
            "opus" => (&mut audio, &["opus"]),
            _ => continue,
        };
        for codec in family {
            if !list.contains(codec) {
                list.push(codec);
            }
        }
    }
    if video.is_empty() && audio.is_empty() {
        video = vec!["h264", "hevc"];
        audio = vec!["aac"];
    }
    let mut medias = Vec::new();
    if !video.is_empty() {
        medias.push(media("video", &video));
    }
    if with_audio && !audio.is_empty() {
        medias.push(media("audio", &audio));
    }
    medias
}

/// The body of a request.
pub struct Body {
    link: Link,
    commands: mpsc::UnboundedReceiver<Command>,
}

impl Body {
    /// The way to the host: a request may consume a stream and read its units itself, as a server does.
    pub fn context(&self) -> Context {
        Context::new(self.link.clone())
    }

    /// The host, for what outlives the request: [`crate::server::Consumer`], [`crate::reader::Reader`], [`Blob`].
    pub fn host(&self) -> Host {
        self.link.host
    }

    /// The client's connection, of a request with [`Request::raw`]: a connected stream socket, TCP or Unix, with nothing read
    /// yet. `None` when the host has closed the session before.
    pub async fn connection(&mut self) -> Option<OwnedFd> {
        let closed = self.link.closed.clone();
        loop {
            let command = tokio::select! {
                command = self.commands.recv() => command?,
                () = closed.cancelled() => return None,
            };
            if let Some(descriptor) = command.descriptor {
                return Some(descriptor);
            }
        }
    }

    /// Completes when the host wants the request to end.
    pub async fn closed(&self) {
        self.link.closed.cancelled().await;
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        let closed = self.link.closed.clone();
        loop {
            let command = tokio::select! {
                command = self.commands.recv() => command?,
                () = closed.cancelled() => return None,
            };
            match command.kind {
                command::BODY => {
                    let _ = self.link.emit(event::CONSUMED, &Credit { bytes: command.payload.len() as u64 });
                    return Some(command.payload);
                }
                command::BODY_END => return None,
                _ => {}
            }
        }
    }
}

/// For the macro.
#[doc(hidden)]
pub fn open<P: Routes>(plugin: Arc<P>, request: &[u8], session: Opening) -> Result<(), Code> {
    let request: RouteOpen = serde_json::from_slice(request).map_err(|_| Code::Invalid)?;
    session.run(move |link, commands| async move {
        let body = Body { link: link.clone(), commands };
        match plugin.request(request, body).await? {
            Reply::Serve(serve) => link.emit(event::SERVE, &*serve),
            Reply::Blobs(response, blobs) => {
                link.emit(event::RESPONSE, &response)?;
                let ids = blobs.iter().map(|blob| blob.id()).collect();
                link.emit(event::BLOBS, &Blobs { ids })
            }
            Reply::Messages(messages) => {
                messages.iter().try_for_each(|message| link.emit(event::MESSAGE, message))
            }
            Reply::Done => Ok(()),
            Reply::Whole(response, data) => {
                link.emit(event::RESPONSE, &response)?;
                for part in data.chunks(crate::transport::MAX_WRITE) {
                    link.host.write(link.id, &Chunk { data: data.slice_ref(part), ..Chunk::default() })?;
                }
                Ok(())
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_strings_stand_for_families() {
        let all = "avc1.640029,avc1.64002A,avc1.640033,hvc1.1.6.L153.B0,mp4a.40.2,mp4a.40.5,flac,opus";
        let medias = offered(all, true);
        assert_eq!(medias[0].codecs, ["h264", "hevc"]);
        assert_eq!(medias[1].codecs, ["aac", "pcm_alaw", "pcm_mulaw", "pcm_s16be", "pcm_s16le", "opus"]);
        assert_eq!(offered("nonsense", true)[1].codecs, ["aac"]);
        assert_eq!(offered(all, false).len(), 1);
        let typed = offered(r#"video/mp4; codecs="avc1.64001e, opus""#, true);
        assert_eq!(
            (&*typed[0].codecs, &*typed[1].codecs),
            (&["h264".to_owned()][..], &["opus".to_owned()][..])
        );
    }

    #[test]
    fn a_query_names_the_stream_its_start_and_its_tracks() {
        let ask = |query: &str| Request { query: query.to_owned(), ..Request::default() };
        let h264 = || vec![media("video", &["h264"])];
        let plain = serve(&ask("src=a%20b&src=c&history=0"), "flv", h264());
        assert_eq!((plain.consume.stream.as_str(), plain.history), ("a b", History::None));
        assert_eq!((plain.consume.query.as_str(), plain.consume.medias.len()), ("", 1));
        let chosen = serve_chosen(&ask("src=a&audio&history=raw"), "flv", &["video", "audio"], h264());
        assert_eq!((chosen.history, chosen.consume.medias.len()), (History::Raw, 0));
        assert_eq!(chosen.consume.query, "src=a&audio&history=raw");
        let open = serve_chosen(&ask("src=audio"), "flv", &["video", "audio"], h264());
        assert_eq!((open.history, open.consume.medias), (History::Live, h264()));
        assert_eq!(
            header(&Request { headers: vec![("a".to_owned(), "b".to_owned())], ..ask("") }, "a"),
            Some("b")
        );
    }
}
