//! Role `demuxer`.

use std::sync::Arc;

use patchbay_mux::mpegts;
use patchbay_sdk::demuxer::{Container, Event, Input, Piece, Request, run};
use patchbay_sdk::source::Session;
use patchbay_sdk::{Demuxer, Error};

use crate::output::MpegTs;

impl Demuxer for MpegTs {
    async fn demux(self: Arc<Self>, request: Request, input: Input, session: Session) -> Result<(), Error> {
        let demuxer = mpegts::Demuxer::new(mpegts::Options::default());
        run(&request, input, session, Stream(demuxer)).await
    }
}

struct Stream(mpegts::Demuxer);

impl Container for Stream {
    fn push(&mut self, piece: Piece) {
        self.0.push(&piece.data);
    }

    fn end(&mut self) {
        self.0.end();
    }

    fn poll(&mut self) -> Event {
        self.0.poll().map_error(|error| Error::protocol(format!("mpegts: {error}")))
    }
}
