//! Role `demuxer`.

use std::sync::Arc;

use patchbay_sdk::demuxer::{AnnexB, Input, Request, run};
use patchbay_sdk::media::Codec;
use patchbay_sdk::source::Session;
use patchbay_sdk::{Config, Demuxer, Error, Plugin};

/// The plugin.
pub struct H264;

impl Plugin for H264 {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Demuxer for H264 {
    async fn demux(self: Arc<Self>, request: Request, input: Input, session: Session) -> Result<(), Error> {
        let reader = AnnexB::new(Codec::H264, request.head.live);
        run(&request, input, session, reader).await
    }
}
