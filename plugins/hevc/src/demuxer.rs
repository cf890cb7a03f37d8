//! Role `demuxer`.

use std::sync::Arc;

use patchbay_sdk::demuxer::{AnnexB, Input, Request, run};
use patchbay_sdk::media::Codec;
use patchbay_sdk::source::Session;
use patchbay_sdk::{Config, Demuxer, Error, Plugin};

/// The plugin.
pub struct Hevc;

impl Plugin for Hevc {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Demuxer for Hevc {
    async fn demux(self: Arc<Self>, request: Request, input: Input, session: Session) -> Result<(), Error> {
        let reader = AnnexB::new(Codec::Hevc, request.head.live);
        run(&request, input, session, reader).await
    }
}
