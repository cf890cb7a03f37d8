//! Role `routes`: `stream.aac`.

use std::sync::Arc;

use patchbay_sdk::api::message::{Connection, Consume, Media, Serve};
use patchbay_sdk::routes::{Body, Reply, Request, query_values};
use patchbay_sdk::{Error, Routes};

use crate::output::Adts;

impl Routes for Adts {
    async fn request(self: Arc<Self>, request: Request, _: Body) -> Result<Reply, Error> {
        let stream = query_values(&request.query, "src").into_iter().next().unwrap_or_default();
        Ok(Reply::Serve(Box::new(Serve {
            consume: Consume {
                stream,
                medias: vec![Media { kind: "audio".to_owned(), codecs: vec!["aac".to_owned()] }],
                connection: Connection { format_name: "adts".to_owned(), ..Connection::default() },
                ..Consume::default()
            },
            format: "adts".to_owned(),
            ..Serve::default()
        })))
    }
}
