//! Role `demuxer`.

use std::sync::Arc;

use patchbay_sdk::demuxer::{Input, Request, run};
use patchbay_sdk::source::Session;
use patchbay_sdk::{Config, Demuxer, Error, Plugin};

use crate::reader::Reader;

/// The plugin.
pub struct Mp3;

impl Plugin for Mp3 {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Demuxer for Mp3 {
    async fn demux(self: Arc<Self>, request: Request, input: Input, session: Session) -> Result<(), Error> {
        let reader = Reader::new(request.head.live);
        run(&request, input, session, reader).await
    }
}
