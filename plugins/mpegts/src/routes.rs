//! Role `routes`: `stream.ts`.

use std::sync::Arc;

use patchbay_sdk::routes::{Body, Reply, Request, media, serve_chosen};
use patchbay_sdk::{Error, Routes};

use crate::output::MpegTs;

impl Routes for MpegTs {
    async fn request(self: Arc<Self>, request: Request, _: Body) -> Result<Reply, Error> {
        let medias = vec![media("video", &["h264", "hevc"]), media("audio", &["aac"])];
        Ok(Reply::Serve(Box::new(serve_chosen(&request, "mpegts", &["video", "audio"], medias))))
    }
}
