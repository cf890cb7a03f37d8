//! Role `routes`: `stream.y4m`.

use std::sync::Arc;

use patchbay_sdk::routes::{Body, Reply, Request, media, serve};
use patchbay_sdk::{Error, Routes};

use crate::output::Y4m;

impl Routes for Y4m {
    async fn request(self: Arc<Self>, request: Request, _: Body) -> Result<Reply, Error> {
        Ok(Reply::Serve(Box::new(serve(&request, "yuv4mpegpipe", vec![media("video", &["rawvideo"])]))))
    }
}
