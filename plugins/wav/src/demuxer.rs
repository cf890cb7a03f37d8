//! Role `demuxer`.

use std::sync::Arc;

use patchbay_sdk::demuxer::{Input, Request, run};
use patchbay_sdk::source::Session;
use patchbay_sdk::{Config, Demuxer, Error, Plugin};

use crate::reader::Reader;

/// The plugin.
pub struct Wav;

impl Plugin for Wav {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Demuxer for Wav {
    async fn demux(self: Arc<Self>, request: Request, input: Input, session: Session) -> Result<(), Error> {
        let live = request.head.live;
        let reader = if request.format == "pcm" { Reader::basic(live) } else { Reader::new(live) };
        run(&request, input, session, reader).await
    }
}
