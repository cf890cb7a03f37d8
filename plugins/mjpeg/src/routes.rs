//! Role `routes`: `stream.mjpeg`, and `mjpeg` on `/api/ws`.

use std::sync::Arc;

use patchbay_sdk::api::message::{Connection, Consume, History, Media, Serve};
use patchbay_sdk::routes::{Body, Reply, Request, query_values};
use patchbay_sdk::{Error, Routes};

use crate::output::Mjpeg;

impl Routes for Mjpeg {
    async fn request(self: Arc<Self>, request: Request, _: Body) -> Result<Reply, Error> {
        let value = |key: &str| query_values(&request.query, key).into_iter().next();
        let is_message = request.route == "mjpeg";
        let headers: &[(&str, &str)] =
            &[("cache-control", "no-cache"), ("connection", "close"), ("pragma", "no-cache")];
        let history = match value("history").as_deref() {
            Some("0" | "none") => History::None,
            _ => History::Live,
        };
        Ok(Reply::Serve(Box::new(Serve {
            consume: Consume {
                stream: value("src").unwrap_or_default(),
                medias: vec![Media { kind: "video".to_owned(), codecs: vec!["mjpeg".to_owned()] }],
                connection: Connection { format_name: "mjpeg".to_owned(), ..Connection::default() },
                ..Consume::default()
            },
            format: if is_message { "mjpeg" } else { "mpjpeg" }.to_owned(),
            history,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            // The answer to the message says nothing but its type.
            content_type: is_message.then(String::new),
            ws_type: "mjpeg".to_owned(),
            ..Serve::default()
        })))
    }
}
