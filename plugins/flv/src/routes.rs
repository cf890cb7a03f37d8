//! Role `routes`: `stream.flv`.

use std::sync::Arc;

use patchbay_sdk::api::message::{Connection, Consume, History, Media, Serve};
use patchbay_sdk::routes::{Body, Reply, Request, query_pairs, query_values};
use patchbay_sdk::{Error, Routes};

use crate::output::Flv;

impl Routes for Flv {
    async fn request(self: Arc<Self>, request: Request, _: Body) -> Result<Reply, Error> {
        let value = |key: &str| query_values(&request.query, key).into_iter().next();
        let filtered = query_pairs(&request.query).any(|(key, _)| key == "video" || key == "audio");
        let media = |kind: &str, codecs: &[&str]| Media {
            kind: kind.to_owned(),
            codecs: codecs.iter().map(|codec| (*codec).to_owned()).collect(),
        };
        let medias =
            if filtered { Vec::new() } else { vec![media("video", &["h264"]), media("audio", &["aac"])] };
        let history = match value("history").as_deref() {
            Some("raw") => History::Raw,
            Some("0" | "none") => History::None,
            _ => History::Live,
        };
        Ok(Reply::Serve(Box::new(Serve {
            consume: Consume {
                stream: value("src").unwrap_or_default(),
                query: request.query.clone(),
                medias,
                connection: Connection { format_name: "flv".to_owned(), ..Connection::default() },
                ..Consume::default()
            },
            format: "flv".to_owned(),
            history,
            ..Serve::default()
        })))
    }
}
