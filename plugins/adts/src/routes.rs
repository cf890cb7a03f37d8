//! Role `routes`: `stream.aac`.

use std::sync::Arc;

use patchbay_sdk::routes::{Body, Reply, Request, media, serve};
use patchbay_sdk::{Error, Routes};

use crate::output::Adts;

impl Routes for Adts {
    async fn request(self: Arc<Self>, request: Request, _: Body) -> Result<Reply, Error> {
        Ok(Reply::Serve(Box::new(serve(&request, "adts", vec![media("audio", &["aac"])]))))
    }
}
