//! Role `routes`: `stream.flv`.

use std::sync::Arc;

use patchbay_sdk::routes::{Body, Reply, Request, media, serve_chosen};
use patchbay_sdk::{Error, Routes};

use crate::output::Flv;

impl Routes for Flv {
    async fn request(self: Arc<Self>, request: Request, _: Body) -> Result<Reply, Error> {
        let medias = vec![media("video", &["h264"]), media("audio", &["aac"])];
        Ok(Reply::Serve(Box::new(serve_chosen(&request, "flv", &["video", "audio"], medias))))
    }
}
