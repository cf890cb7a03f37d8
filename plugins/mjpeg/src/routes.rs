//! Role `routes`: `stream.mjpeg`, `stream.ascii`, and `mjpeg` on `/api/ws`.

use std::sync::Arc;

use patchbay_sdk::api::message::Serve;
use patchbay_sdk::routes::{Body, Reply, Request, media, query_value, serve};
use patchbay_sdk::{Error, Routes};

use crate::output::Mjpeg;

/// What may be asked of `stream.ascii`; part of what makes two viewers share one run.
const TEXT_OPTIONS: [&str; 5] = ["color", "back", "text", "width", "height"];

impl Routes for Mjpeg {
    async fn request(self: Arc<Self>, request: Request, _: Body) -> Result<Reply, Error> {
        let is_message = request.route == "mjpeg";
        let (format, format_name) = match request.route.as_str() {
            "api/stream.ascii" => ("ascii", "ascii"),
            "mjpeg" => ("mjpeg", "mjpeg"),
            _ => ("mpjpeg", "mjpeg"),
        };
        let options = TEXT_OPTIONS.iter().filter(|_| format == "ascii");
        let options = options.filter_map(|key| Some(((*key).to_owned(), query_value(&request.query, key)?)));
        let headers: &[(&str, &str)] =
            &[("cache-control", "no-cache"), ("connection", "close"), ("pragma", "no-cache")];
        let mut serve = serve(&request, format, vec![media("video", &["mjpeg", "rawvideo"])]);
        format_name.clone_into(&mut serve.consume.connection.format_name);
        Ok(Reply::Serve(Box::new(Serve {
            options: options.collect(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            // The answer to the message says nothing but its type.
            content_type: is_message.then(String::new),
            ws_type: "mjpeg".to_owned(),
            ..serve
        })))
    }
}
