//! Role `routes`: `stream.y4m`.

use std::sync::Arc;

use patchbay_sdk::api::message::{Connection, Consume, Media, Serve};
use patchbay_sdk::routes::{Body, Reply, Request, query_values};
use patchbay_sdk::{Error, Routes};

use crate::output::Y4m;

impl Routes for Y4m {
    async fn request(self: Arc<Self>, request: Request, _: Body) -> Result<Reply, Error> {
        let stream = query_values(&request.query, "src").into_iter().next().unwrap_or_default();
        Ok(Reply::Serve(Box::new(Serve {
            consume: Consume {
                stream,
                medias: vec![Media { kind: "video".to_owned(), codecs: vec!["rawvideo".to_owned()] }],
                connection: Connection { format_name: "yuv4mpegpipe".to_owned(), ..Connection::default() },
                ..Consume::default()
            },
            format: "yuv4mpegpipe".to_owned(),
            ..Serve::default()
        })))
    }
}
