//! Role `routes`: `stream.mjpeg`, `stream.ascii`, and `mjpeg` on `/api/ws`.

use std::sync::Arc;

use patchbay_sdk::api::message::{Connection, Consume, History, Media, Serve};
use patchbay_sdk::routes::{Body, Reply, Request, query_values};
use patchbay_sdk::{Error, Routes};

use crate::output::Mjpeg;

/// What may be asked of `stream.ascii`; part of what makes two viewers share one run.
const TEXT_OPTIONS: [&str; 5] = ["color", "back", "text", "width", "height"];

impl Routes for Mjpeg {
    async fn request(self: Arc<Self>, request: Request, _: Body) -> Result<Reply, Error> {
        let value = |key: &str| query_values(&request.query, key).into_iter().next();
        let is_message = request.route == "mjpeg";
        let (format, format_name) = match request.route.as_str() {
            "api/stream.ascii" => ("ascii", "ascii"),
            "mjpeg" => ("mjpeg", "mjpeg"),
            _ => ("mpjpeg", "mjpeg"),
        };
        let options = TEXT_OPTIONS.iter().filter(|_| format == "ascii");
        let options = options.filter_map(|key| Some(((*key).to_owned(), value(key)?)));
        let headers: &[(&str, &str)] =
            &[("cache-control", "no-cache"), ("connection", "close"), ("pragma", "no-cache")];
        let history = match value("history").as_deref() {
            Some("0" | "none") => History::None,
            _ => History::Live,
        };
        Ok(Reply::Serve(Box::new(Serve {
            consume: Consume {
                stream: value("src").unwrap_or_default(),
                medias: vec![Media {
                    kind: "video".to_owned(),
                    codecs: ["mjpeg", "rawvideo"].map(str::to_owned).to_vec(),
                }],
                connection: Connection { format_name: format_name.to_owned(), ..Connection::default() },
                ..Consume::default()
            },
            format: format.to_owned(),
            options: options.collect(),
            history,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            // The answer to the message says nothing but its type.
            content_type: is_message.then(String::new),
            ws_type: "mjpeg".to_owned(),
            ..Serve::default()
        })))
    }
}
