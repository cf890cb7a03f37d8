//! Role `demuxer`.

use std::sync::Arc;

use patchbay_sdk::demuxer::{Input, Request, run};
use patchbay_sdk::source::Session;
use patchbay_sdk::{Demuxer, Error};

use crate::output::Y4m;
use crate::reader::Reader;

impl Demuxer for Y4m {
    async fn demux(self: Arc<Self>, request: Request, input: Input, session: Session) -> Result<(), Error> {
        let reader = Reader::new(request.head.live);
        run(&request, input, session, reader).await
    }
}
